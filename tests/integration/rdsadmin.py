"""RDS's own superuser on an instance of localcloud, for what only RDS, or another administrator there, could do."""

import socket
from pathlib import Path
from typing import Any

import psycopg
import pymysql

from tests.integration.account import Account, Connection


def as_rdsadmin(account: Account, arn: str, name: str = "postgres") -> Connection:
    """Log in through the server's own socket.

    :param name: the PostgreSQL database; MariaDB's administrator is in none.
    """
    found = account.describe(arn)
    directory, sockets = places(account, found["Endpoint"])
    password = (directory / "password").read_text()
    if "postgres" in found["Engine"]:
        return Connection(
            psycopg.connect(
                host=str(sockets), port=5432, user="rdsadmin", password=password, dbname=name, autocommit=True
            )
        )
    server = str(sockets / "server")
    return Connection(
        pymysql.connect(unix_socket=server, user="rdsadmin", password=password, autocommit=True, ssl_disabled=True)
    )


def places(account: Account, endpoint: dict[str, Any]) -> tuple[Path, Path]:
    """Return the folders of an endpoint's server: of its files, and of its sockets."""
    name = f"{socket.gethostbyname(endpoint['Address'])}-{endpoint['Port']}"
    for configuration in account.cloud.directory.rglob("my.cnf"):
        sockets = Path(configuration.read_text().partition("socket=")[2].splitlines()[0]).parent
        if sockets.name == name:
            return configuration.parent, sockets
    for configuration in account.cloud.directory.rglob("postgresql.auto.conf"):
        sockets = Path(configuration.read_text().partition("unix_socket_directories = '")[2].partition("'")[0])
        if sockets.name == name:
            return configuration.parents[1], sockets
    raise LookupError(f"no server listens at {name}")
