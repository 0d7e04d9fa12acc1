"""Passes a login to psql, mysql and other programs: in the environment, over verified TLS."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from rdsiam.command.errors import NotFound, Usage
from rdsiam.command.login import LoginToken
from rdsiam.tokens.trust import ca_for

#: Variables that would send a PostgreSQL program to another server.
_MISLEADING = ("PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGPASSFILE", "PGTARGETSESSIONATTRS")
_MYSQL_PROGRAMS = {"admin", "binlog", "check", "dump", "import", "show", "slap", ""}

NAMES = {
    "postgres": (
        *("PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE", "PGSSLROOTCERT"),
        *("PGGSSENCMODE", "PGREQUIREAUTH"),
    ),
    "mysql": ("MYSQL_HOST", "MYSQL_TCP_PORT", "MYSQL_USER", "MYSQL_PWD", "MYSQL_SSL_CA"),
}


def variables(token: LoginToken, name: str | None, via: str | None) -> dict[str, str]:
    """Return the variables with which a program logs in; one of them is the token.

    :param name: PostgreSQL: the database to open.
    :param via: `host:port` of a tunnel; the certificate is still checked for the endpoint.
    """
    host, port = token.host, str(token.port)
    ca = ca_for(token.host)
    if token.family == "mysql":
        if via is not None:
            port = str(_mysql_via(token, via))
        return {
            "MYSQL_HOST": host,
            "MYSQL_TCP_PORT": port,
            "MYSQL_USER": token.user,
            "MYSQL_PWD": token.token,
            "MYSQL_SSL_CA": ca,
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

    No variables exist for them. The clear-text plugin is enabled only together with verified TLS.
    """
    port = token.port if via is None else _mysql_via(token, via)
    flags = [
        "--protocol=tcp",
        f"--host={token.host}",
        f"--port={port}",
        f"--user={token.user}",
        f"--ssl-ca={ca_for(token.host)}",
    ]
    if _is_mariadb(program):
        return [*flags, "--ssl", "--ssl-verify-server-cert"]
    return [*flags, "--ssl-mode=VERIFY_IDENTITY", "--enable-cleartext-plugin"]


def is_mysql_program(program: str) -> bool:
    """Tell whether a program takes the options of mysql, as mysqldump and mariadb-admin do."""
    name = Path(program).name
    for prefix in ("mariadb-", "mariadb", "mysql"):
        if name.startswith(prefix):
            return name.removeprefix(prefix) in _MYSQL_PROGRAMS
    return False


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
    environment = {name: value for name, value in os.environ.items() if name not in _MISLEADING} | dict(added)
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores this signal, and the program would inherit that: `… | head` would not end it.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), environment)  # noqa: S606 - no shell is intended
    except FileNotFoundError:
        sys.stderr.write(f"rdsiam: {command[0]}: no such program\n")
        sys.exit(127)
    except OSError as error:
        sys.stderr.write(f"rdsiam: {command[0]} can't be run: {error.strerror}\n")
        sys.exit(126)


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


def _is_mariadb(program: str) -> bool:
    try:
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    except OSError:
        return False  # `exec_program` reports that there is no such program
    return "mariadb" in version.lower()
