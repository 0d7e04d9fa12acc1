"""Option files with which `mysql` and its relatives log in: no variable sets their user or TLS.

A file holds no secret: the token stays in MYSQL_PWD. Each login has a directory of its own, so that two shells may be
logged in to two databases; the same login gets the same file again.
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from rdsiam.command.login import LoginToken
from rdsiam.command.output import progress
from rdsiam.core import shell
from rdsiam.tokens import mysql_clients

#: Variables that name the directory of an option file; MariaDB's programs prefer the second.
NAMES = ("MYSQL_HOME", "MARIADB_HOME")


def variables(token: LoginToken, port: int, database: str | None) -> dict[str, str]:
    """Write the option file for the client that is installed; return the variables that lead to it.

    :param port: of the endpoint or of the tunnel to it.
    :return: empty, and stderr says why, if there is no client or the file can't be written.
    """
    program = shutil.which("mysql") or shutil.which("mariadb")
    if program is None:
        return {}
    text = mysql_clients.option_file(mysql_clients.options(program, token.host, port, token.user), database)
    try:
        folder = _write(text)
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
        reason = error.strerror if isinstance(error, OSError) else error
        progress(f"no option file for mysql: the cache directory can't be written to ({reason}); use rdsiam mysql")
        return {}
    found = mysql_clients.conflicts(mysql_clients.own_options())
    if found:
        progress(
            f"~/.my.cnf sets {', '.join(found)}, and mysql prefers it to this login: "
            f"use rdsiam mysql, or mysql --defaults-file={shell.quote(str(folder / 'my.cnf'))}"
        )
    return dict.fromkeys(NAMES, str(folder))


def _folder() -> Path:
    """Return the directory of all option files. A relative XDG_CACHE_HOME is ignored, as its standard says."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "rdsiam" / "mysql"


def _write(text: str) -> Path:
    """Write an option file that only its owner can read, whole or not at all; return its directory."""
    folder = _folder() / hashlib.sha256(text.encode()).hexdigest()[:16]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=folder)  # mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(name).replace(folder / "my.cnf")
    return folder
