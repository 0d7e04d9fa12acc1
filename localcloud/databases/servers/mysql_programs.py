"""Oracle's MySQL server on this machine: one on the path, or the one that `make setup` has fetched."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from localcloud.core import processes
from localcloud.core.cache import folder
from localcloud.databases.servers.server import ServerFailed, copy_template

#: The oldest version whose settings localcloud knows.
OLDEST = (8, 0, 30)
MISSING = "this machine has no mysqld of Oracle's, 8.0.30 or later, and `make setup` could fetch none"
_SYSTEM = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/local/mysql/bin"


@dataclass(frozen=True)
class MysqlPrograms:
    """A MySQL server.

    :ivar command: the beginning of the command.
    :ivar plugins: the folder of its own plugins.
    :ivar settings: where its files are, if they are not where it was built for.
    """

    version: tuple[int, int, int]
    command: tuple[str, ...]
    plugins: Path
    settings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The version as text."""
        return ".".join(map(str, self.version))


def find_mysql() -> MysqlPrograms | None:
    """Return the MySQL server of this machine, None if it has none."""
    return _on_the_path() or _fetched(folder() / "mysql")


def require_mysql(root: Path) -> MysqlPrograms:
    """Return the MySQL server, copied below `root` if the user `nobody`, who runs it, can't reach it.

    :raises ServerFailed: this machine has none.
    """
    programs = find_mysql()
    if programs is None:
        raise ServerFailed(MISSING)
    original = folder() / "mysql"
    if not programs.command[0].startswith(f"{original}/") or processes.nobody_can_enter(original):
        return programs
    copied = root / "mysql.programs"
    if not copied.exists():
        unfinished = root / "mysql.programs.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        copy_template(original, unfinished)
        unfinished.chmod(0o755)
        unfinished.rename(copied)
    result = _fetched(copied)
    assert result is not None
    return result


@cache
def _on_the_path() -> MysqlPrograms | None:
    found = shutil.which("mysqld") or shutil.which("mysqld", path=_SYSTEM)
    if found is None:
        return None
    version = _version((found,))
    prefix = Path(found).resolve().parent.parent
    folders = [each for each in (prefix / "lib/mysql/plugin", prefix / "lib/plugin") if each.is_dir()]
    return MysqlPrograms(version, (found,), folders[0]) if version and folders else None


@cache
def _fetched(home: Path) -> MysqlPrograms | None:
    """Return the server whose packages were unpacked in `home`, with all libraries that they need, libc too."""
    server = home / "usr/sbin/mysqld"
    loaders = sorted(home.glob("usr/lib*/ld-linux*.so.*"))
    libraries = sorted(home.glob("usr/lib/*-linux-gnu*"))
    if not (server.exists() and loaders and libraries):
        return None
    command = (str(loaders[0]), "--library-path", str(libraries[0]), str(server))
    version = _version(command)
    if version is None:
        return None
    share = home / "usr/share/mysql"
    settings = (f"lc_messages_dir={share}", f"character_sets_dir={share / 'charsets'}")
    return MysqlPrograms(version, command, home / "usr/lib/mysql/plugin", settings)


def _version(command: tuple[str, ...]) -> tuple[int, int, int] | None:
    """Return the version of a server, None if it is another's than Oracle's, or too old."""
    try:
        text = subprocess.run(
            [*command, "--no-defaults", "--version"], capture_output=True, text=True, timeout=20
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"Ver (\d+)\.(\d+)\.(\d+)", text)
    if match is None or re.search("MariaDB|Percona", text):
        return None
    version = (int(match[1]), int(match[2]), int(match[3]))
    return version if version >= OLDEST else None


if __name__ == "__main__":
    _programs = find_mysql()
    sys.stdout.write(f"MySQL {_programs.label}: {_programs.command[-1]}\n" if _programs else "")
    sys.exit(0 if _programs else 1)
