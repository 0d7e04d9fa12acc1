"""RDS's own superuser on an instance of localcloud, for what only RDS, or another administrator there, could do."""

from pathlib import Path

import psycopg
import pymysql

from tests.integration.account import Account, Connection


def as_rdsadmin(account: Account, arn: str, name: str = "postgres") -> Connection:
    """Log in through the server's own socket.

    :param name: the PostgreSQL database; MariaDB's administrator is in none.
    """
    found = account.describe(arn)
    directory, sockets = _places(account, found["Endpoint"]["Port"])
    password = (directory / "password").read_text()
    if "postgres" in found["Engine"]:
        return Connection(
            psycopg.connect(
                host=str(sockets), port=5432, user="rdsadmin", password=password, dbname=name, autocommit=True
            )
        )
    socket = str(sockets / "server")
    return Connection(
        pymysql.connect(unix_socket=socket, user="rdsadmin", password=password, autocommit=True, ssl_disabled=True)
    )


def _places(account: Account, port: int) -> tuple[Path, Path]:
    """Return where the server of a port keeps its files, and its sockets."""
    for configuration in account.cloud.directory.rglob("my.cnf"):
        text = configuration.read_text()
        if f"\nport={port}\n" in text:
            return configuration.parent, Path(text.partition("socket=")[2].splitlines()[0]).parent
    for configuration in account.cloud.directory.rglob("postgresql.auto.conf"):
        sockets = Path(configuration.read_text().partition("unix_socket_directories = '")[2].partition("'")[0])
        if str(port) in sockets.name:
            return configuration.parents[1], sockets
    raise LookupError(f"no server listens on {port}")
