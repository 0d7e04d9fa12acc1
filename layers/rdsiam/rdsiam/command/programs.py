"""How a login is given to psql, to mysql and to any other program: by its environment, over verified TLS."""

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
from rdsiam.command.login import Login
from rdsiam.tokens.trust import ca_for

#: Would lead a PostgreSQL program elsewhere, past what is set here.
_MISLEADING = ("PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGPASSFILE", "PGTARGETSESSIONATTRS")
_MYSQL_PROGRAMS = {"admin", "binlog", "check", "dump", "import", "show", "slap", ""}

NAMES = {
    "postgres": (
        *("PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE", "PGSSLROOTCERT"),
        *("PGGSSENCMODE", "PGREQUIREAUTH"),
    ),
    "mysql": ("MYSQL_HOST", "MYSQL_TCP_PORT", "MYSQL_USER", "MYSQL_PWD", "MYSQL_SSL_CA"),
}


def variables(login: Login, name: str | None, via: str | None) -> dict[str, str]:
    """Return the variables that tell a program where and how to log in; one of them is the token.

    :param name: PostgreSQL: the database to open.
    :param via: `host:port` to connect to instead, such as a tunnel's end; the certificate is checked for the endpoint.
    """
    host, port = login.host, str(login.port)
    ca = ca_for(login.host)
    if login.family == "mysql":
        if via is not None:
            port = str(_mysql_via(login, via))
        return {
            "MYSQL_HOST": host,
            "MYSQL_TCP_PORT": port,
            "MYSQL_USER": login.user,
            "MYSQL_PWD": login.token,
            "MYSQL_SSL_CA": ca,
        }
    where = {"PGHOST": host, "PGPORT": port}
    if via is not None:
        address, tunnel_port = _via(via)
        where |= {"PGHOSTADDR": _address(address), "PGPORT": str(tunnel_port)}
    return where | {
        "PGUSER": login.user,
        "PGPASSWORD": login.token,
        "PGDATABASE": name or os.environ.get("PGDATABASE") or "postgres",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": ca,
        # A Kerberos ticket at hand would be preferred to TLS, and then nothing is verified.
        "PGGSSENCMODE": "disable",
        # The token is offered to a server that asks for it in clear, inside TLS; never to another exchange.
        "PGREQUIREAUTH": "password",
    }


def mysql_flags(program: str, login: Login, via: str | None) -> list[str]:
    """Return the options that make a program of MySQL's or MariaDB's connect over verified TLS.

    They can't be told these by the environment. The token's plugin is enabled together with TLS only.
    """
    port = login.port if via is None else _mysql_via(login, via)
    where = [
        "--protocol=tcp",
        f"--host={login.host}",
        f"--port={port}",
        f"--user={login.user}",
        f"--ssl-ca={ca_for(login.host)}",
    ]
    if _is_mariadb(program):
        return [*where, "--ssl", "--ssl-verify-server-cert"]
    return [*where, "--ssl-mode=VERIFY_IDENTITY", "--enable-cleartext-plugin"]


def is_mysql_program(program: str) -> bool:
    """Tell whether it takes the options of mysql: mysql, mysqldump, mariadb-admin …"""
    name = Path(program).name
    for prefix in ("mariadb-", "mariadb", "mysql"):
        if name.startswith(prefix):
            return name.removeprefix(prefix) in _MYSQL_PROGRAMS
    return False


def first_of(*programs: str) -> str:
    """Return the first of the programs that is installed.

    :raises NotFound: none is.
    """
    for program in programs:
        if shutil.which(program):
            return program
    raise NotFound(f"{' and '.join(programs)} are not installed" if programs[1:] else f"{programs[0]} is not installed")


def exec_program(command: Sequence[str], added: Mapping[str, str]) -> NoReturn:
    """Become the program: signals, terminal and exit code are its own from here on.

    Exits with 127 where there is no such program, 126 where it can't be run, as shells do.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _MISLEADING} | dict(added)
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores this signal, and a program would inherit that: `… | head` would not end it.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), environment)  # noqa: S606 - no shell is wanted
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
        raise Usage("--via is HOST:PORT, such as 127.0.0.1:15432")
    return host, int(port)


def _address(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise NotFound(f"--via: {host} does not resolve: {error}") from None


def _mysql_via(login: Login, via: str) -> int:
    """Return the tunnel's port, where its host is the endpoint's own name.

    MySQL's programs check the certificate for the name that they connect to, and can't be told another.
    """
    host, port = _via(via)
    if host.lower() != login.host.lower():
        raise Usage(
            f"MySQL's programs check the certificate for the name they connect to: let {login.host} lead to the "
            f"tunnel (in /etc/hosts: 127.0.0.1 {login.host}) and say --via {login.host}:{port}"
        )
    return port


def _is_mariadb(program: str) -> bool:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    except OSError:
        return False  # `exec_program` says that there is no such program
    return "mariadb" in said.lower()
