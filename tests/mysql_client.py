"""Oracle's own client programs, as the server that was fetched has them."""

import shlex
from pathlib import Path

from localcloud.databases.servers.mysql_programs import find_mysql


def write_mysql_client(folder: Path) -> Path:
    """Write `mysql` and `mysqldump` into a folder `bin`, to be put before the others on the path, and return it."""
    programs = find_mysql()
    assert programs is not None
    *loader, server = programs.command
    bin_ = folder / "bin"
    bin_.mkdir()
    for name in ("mysql", "mysqldump"):
        command = shlex.join([*loader, str(Path(server).parents[1] / "bin" / name)])
        (bin_ / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (bin_ / name).chmod(0o755)
    return bin_
