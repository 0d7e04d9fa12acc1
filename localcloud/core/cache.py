"""The folder of what is fetched or made once for a machine, such as the programs of database servers.

`python -m localcloud.core.cache` prints it, and `--clean` removes what localcloud has put there. `LOCALCLOUD_CACHE`
names another one. It may be deleted at any time while no cloud runs.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "LOCALCLOUD_CACHE"
#: Names of everything that localcloud keeps there.
_CONTENT = ("postgres", "mysql", "mysql-*")


def folder() -> Path:
    """Return the cache folder, whether it exists or not.

    For root it lies outside of root's home, which the user `nobody`, who runs the servers, can't enter.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/localcloud")
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "localcloud"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Make a directory of the cache, and hold off other processes and threads that fetch something to it."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def clean() -> list[Path]:
    """Remove what localcloud has put into the folder, and nothing else; return it."""
    removed = [path for name in _CONTENT for path in sorted(folder().glob(name))]
    for path in removed:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return removed


def main(arguments: list[str] | None = None) -> int:
    """Print the folder, or clean it."""
    parser = argparse.ArgumentParser(prog="python -m localcloud.core.cache", description="The cache of localcloud.")
    parser.add_argument("--clean", action="store_true", help="remove what localcloud has put there")
    if parser.parse_args(arguments).clean:
        for path in clean():
            sys.stderr.write(f"removed {path}\n")
    sys.stdout.write(f"{folder()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
