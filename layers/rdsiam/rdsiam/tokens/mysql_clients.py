"""Options with which the programs of MySQL and of MariaDB log in by a token over verified TLS.

No variables exist for them. The two differ in the options of TLS and of the clear-text plugin, and refuse each other's.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from rdsiam.errors import InvalidRequest
from rdsiam.tokens.trust import ca_for

__all__ = [
    "NO_LOGIN_PATHS",
    "conflicts",
    "flags",
    "is_mariadb",
    "option_file",
    "options",
    "other_password",
    "own_options",
]

#: A login path of MySQL's, which mysql_config_editor writes, would replace user, password and host: none is read.
NO_LOGIN_PATHS: Mapping[str, str] = {"MYSQL_TEST_LOGIN_FILE": os.devnull}
#: More than an option file of a person has.
_MAX_BYTES = 1 << 20
_CLEARTEXT = "enable-cleartext-plugin"
#: How deep included files include others.
_DEEPEST = 4
_INCLUDE = re.compile(r"\s*!include(?P<folder>dir)?\s+(?P<path>\S.*?)\s*$")
#: Groups that clients read: `client`, `client-mariadb`, `mysql`, `mysqldump`, `mariadb-client`, with any suffix.
_GROUP = re.compile(r"\s*\[\s*(?P<name>[^\]]*?)\s*\]")
_CLIENTS = re.compile(r"client|(mysql|mariadb)(?!d($|[-_.0-9])|d_safe)", re.IGNORECASE)
#: Options that would replace a part of the login.
_OPTION = re.compile(
    r"\s*(?:loose[-_])?(?P<name>user|password|password1|host|port|socket|protocol|"
    r"(?:(?:skip|disable|enable)[-_])?ssl(?:[-_]\w+)*|default[-_]auth|login[-_]path)\s*(?:=|#|$)",
    re.IGNORECASE,
)


def options(program: str, host: str, port: int, user: str) -> dict[str, str | None]:
    """Return the options by name, without the token; None if an option takes no value.

    The clear-text plugin is enabled only together with verified TLS.

    :param program: name or path of the client, which tells whether it is MySQL's or MariaDB's.
    """
    login = {"protocol": "tcp", "host": host, "port": str(port), "user": user, "ssl-ca": ca_for(host)}
    if is_mariadb(program):
        return {**login, "ssl": None, "ssl-verify-server-cert": None}
    return {**login, "ssl-mode": "VERIFY_IDENTITY", _CLEARTEXT: None}


def flags(program: str, host: str, port: int, user: str) -> list[str]:
    """Return the options as arguments."""
    return [
        f"--{name}" if value is None else f"--{name}={value}"
        for name, value in options(program, host, port, user).items()
    ]


def option_file(login: Mapping[str, str | None], database: str | None = None) -> str:
    """Return the text of an option file with the options, which every client reads.

    :param database: opened by `mysql` alone: mysqldump and others refuse the option.
    """
    # mysqlbinlog has no option for the clear-text plugin, and would not start.
    lines = [_line(f"loose-{name}" if name == _CLEARTEXT else name, value) for name, value in login.items()]
    text = "[client]\n" + "".join(lines)
    return text if database is None else f"{text}[mysql]\n{_line('database', database)}"


def conflicts(text: str) -> list[str]:
    """Return the options of an option file that would replace a part of a login, sorted."""
    found, of_clients = set(), False
    for line in text.splitlines():
        if group := _GROUP.match(line):
            of_clients = bool(_CLIENTS.match(group["name"]))
        elif of_clients and (option := _OPTION.match(line)):
            found.add(option["name"].lower().replace("_", "-"))
    return sorted(found)


def own_options() -> str:
    """Return the user's own option file, which clients read last, and the files that it includes.

    Empty if there is none that can be read.
    """
    try:
        own = Path.home() / ".my.cnf"
    except RuntimeError:  # the user has no home
        return ""
    return "\n[]\n".join(_texts(own, _DEEPEST))  # an included file begins in no group


def _texts(path: Path, depth: int) -> Iterator[str]:
    """Yield the text of an option file, and of the files that it includes, down to a depth."""
    try:
        with path.open(errors="replace") as file:
            text = file.read(_MAX_BYTES)
    except OSError:
        return
    yield text
    for included in map(_INCLUDE.match, text.splitlines() if depth else ()):
        if included:
            place = Path(included["path"])
            for each in sorted(place.glob("*.cnf")) if included["folder"] else [place]:
                yield from _texts(each, depth - 1)


def other_password() -> bool:
    """Tell whether the user's own option file would replace the token."""
    return not {"password", "password1", "default-auth"}.isdisjoint(conflicts(own_options()))


def is_mariadb(program: str) -> bool:
    """Tell whether a client is MariaDB's; False if it can't be run, which the program that runs it reports."""
    try:
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "mariadb" in version.lower()


def _line(name: str, value: str | None) -> str:
    if value is None:
        return f"{name}\n"
    return f'{name}="{_escape(name, value)}"\n'


def _escape(name: str, value: str) -> str:
    """Return a value for double quotes, in which `#` begins no comment."""
    if "\0" in value:
        raise InvalidRequest(name, "must have no NUL")
    for character, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        value = value.replace(character, escaped)
    return value
