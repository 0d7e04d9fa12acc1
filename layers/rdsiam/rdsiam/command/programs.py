"""Passes a login to psql, mysql and other programs: in the environment, over verified TLS."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NoReturn

from rdsiam.aws.rds import Family
from rdsiam.command import option_files
from rdsiam.command.errors import NotFound, Usage
from rdsiam.command.login import LoginToken
from rdsiam.command.output import progress
from rdsiam.tokens import mysql_clients
from rdsiam.tokens.trust import ca_for

#: Variables that would send a PostgreSQL program to another server, or ask for what no login by token has. libpq
#: prefers a service's host and TLS to those of the other variables.
_MISLEADING = (
    *("PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGPASSFILE", "PGTARGETSESSIONATTRS"),
    *("PGCHANNELBINDING", "PGSSLCERTMODE"),
)
_MYSQL_PROGRAMS = {"admin", "binlog", "check", "dump", "import", "show", "slap", ""}

_NO_FILES = "--no-defaults"
_OPTION_FILE = re.compile(
    r"--(defaults-(extra-)?file|defaults-group-suffix|login-path)=.*|--(no|print)-defaults", re.DOTALL
)

NAMES = {
    "postgres": (
        *("PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE", "PGSSLROOTCERT"),
        *("PGGSSENCMODE", "PGREQUIREAUTH"),
    ),
    "mysql": (
        *("MYSQL_HOST", "MYSQL_TCP_PORT", "MYSQL_USER", "MYSQL_PWD", "MYSQL_SSL_CA"),
        *(*mysql_clients.NO_LOGIN_PATHS, *option_files.NAMES),
    ),
}


def variables(token: LoginToken, name: str | None, via: str | None) -> dict[str, str]:
    """Return the variables with which a program logs in; one of them is the token.

    :param name: PostgreSQL: the database to open.
    :param via: `host:port` of a tunnel; the certificate is still checked for the endpoint.
    """
    host, port = token.host, str(token.port)
    ca = ca_for(token.host)
    if token.family == "mysql":
        return {
            "MYSQL_HOST": host,
            "MYSQL_TCP_PORT": str(mysql_port(token, via)),
            "MYSQL_USER": token.user,
            "MYSQL_PWD": token.token,
            "MYSQL_SSL_CA": ca,
            **mysql_clients.NO_LOGIN_PATHS,
        }
    address = {"PGHOST": host, "PGPORT": port}
    if via is not None:
        tunnel_host, tunnel_port = _via(via)
        address |= {"PGHOSTADDR": _resolve(tunnel_host), "PGPORT": str(tunnel_port)}
    return address | {
        "PGUSER": token.user,
        "PGPASSWORD": token.token,
        "PGDATABASE": name or os.environ.get("PGDATABASE") or "postgres",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": ca,
        # libpq prefers a Kerberos ticket to TLS, and then verifies nothing.
        "PGGSSENCMODE": "disable",
        # The token goes only to a server that asks for a clear-text password inside TLS, never into another exchange.
        "PGREQUIREAUTH": "password",
    }


def mysql_flags(program: str, token: LoginToken, via: str | None) -> list[str]:
    """Return the options with which a program of MySQL or MariaDB connects over verified TLS.

    The user's own option files are left out if they hold a password, which the program would prefer to the token.
    """
    login = mysql_clients.flags(program, token.host, mysql_port(token, via), token.user)
    if not mysql_clients.other_password():
        return login
    progress("~/.my.cnf sets another password: no option file is read")
    return [_NO_FILES, *login]


def mysql_arguments(login: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Return the options of a login and a program's own arguments, whose first may name an option file.

    MySQL's programs take such options at the beginning only.
    """
    first = list(takewhile(_OPTION_FILE.fullmatch, arguments))
    rest = arguments[len(first) :]
    return [*first, *(option for option in login if not (first and option == _NO_FILES)), *rest]


def mysql_port(token: LoginToken, via: str | None) -> int:
    """Return the port to connect to: the endpoint's, or that of the tunnel to it."""
    return token.port if via is None else _mysql_via(token, via)


def is_mysql_program(program: str) -> bool:
    """Tell whether a program takes the options of mysql, as mysqldump and mariadb-admin do."""
    name = Path(program).name
    for prefix in ("mariadb-", "mariadb", "mysql"):
        if name.startswith(prefix):
            return name.removeprefix(prefix) in _MYSQL_PROGRAMS
    return False


def inherited(token: LoginToken, name: str | None, via: str | None) -> dict[str, str]:
    """Return the variables with which a program and its children log in; for MySQL's, an option file is written."""
    values = variables(token, name, via)
    if token.family == "mysql":
        values |= option_files.variables(token, mysql_port(token, via), name)
    return values


def stale(family: Family, values: Mapping[str, str]) -> list[str]:
    """Return the variables of a shell that would redirect this login: those of an earlier one, and the user's own.

    :param values: the variables of this login.
    """
    names = [*NAMES[family], *(_MISLEADING if family == "postgres" else ())]
    return [name for name in dict.fromkeys(names) if name not in values]


def first_of(*programs: str) -> str:
    """Return the first of the programs that is installed.

    :raises NotFound: none of them is installed.
    """
    for program in programs:
        if shutil.which(program):
            return program
    raise NotFound(f"not installed: {', '.join(programs)}", f"install {programs[0]}")


def exec_program(command: Sequence[str], added: Mapping[str, str]) -> NoReturn:
    """Replace this process with the program, which gets its terminal and signals.

    Exits with 127 if there is no such program and 126 if it can't be run, as shells do.
    """
    environment = _environment(added)
    # Python ignores this signal, and the program would inherit that: `… | head` would not end it.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), environment)  # noqa: S606 - no shell is intended
    except FileNotFoundError:
        progress(f"rdsiam: {command[0]}: no such program")
        sys.exit(127)
    except OSError as error:
        progress(f"rdsiam: {command[0]} can't be run: {error.strerror}")
        sys.exit(126)


def run_program(command: Sequence[str], added: Mapping[str, str]) -> int:
    """Run a program in this terminal, wait for its end, and return its exit code; 128 and the signal that ended it.

    Signals are the program's: those of the terminal reach it anyway, others are passed on.
    """
    environment = _environment(added)
    try:
        process = subprocess.Popen(command, env=environment)  # it restores SIGPIPE
    except OSError:
        exec_program(command, added)  # which says why it can't be run
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: process.send_signal(number))
    code = process.wait()
    return code if code >= 0 else 128 - code


def _environment(added: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program, after what was written here has appeared."""
    sys.stdout.flush()
    sys.stderr.flush()
    return {name: value for name, value in os.environ.items() if name not in _MISLEADING} | dict(added)


def _via(via: str) -> tuple[str, int]:
    host, _, port = via.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise Usage(f"--via: {via} is not HOST:PORT", "give e.g. 127.0.0.1:15432")
    return host, int(port)


def _resolve(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise NotFound(f"--via: {host} does not resolve: {error}") from None


def _mysql_via(token: LoginToken, via: str) -> int:
    """Return the tunnel's port.

    MySQL's programs check the certificate for the name that they connect to, and take no other name.

    :raises Usage: the tunnel's host is not the endpoint's own name.
    """
    host, port = _via(via)
    if host.lower() != token.host.lower():
        raise Usage(
            "--via: MySQL's programs check the certificate for the name they connect to",
            f"let {token.host} lead to the tunnel (in /etc/hosts: 127.0.0.1 {token.host}) and give "
            f"--via {token.host}:{port}",
        )
    return port
