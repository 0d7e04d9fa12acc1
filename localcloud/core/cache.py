"""The folder of what is fetched or made once for a machine, such as the programs of database servers.

`python -m localcloud.core.cache` prints it. `LOCALCLOUD_CACHE` names another one. It may be deleted at any time while
no cloud runs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "LOCALCLOUD_CACHE"


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


if __name__ == "__main__":
    sys.stdout.write(f"{folder()}\n")
