"""Servers that no driver gives a token to: without TLS, with another authority's certificate, with another name."""

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

import aiomysql
import asyncmy
import asyncpg
import mysql.connector
import psycopg
import psycopg2
import pymysql
import pytest

from localcloud.core.certificates import Authority
from rdsiam import pool
from rdsiam.tokens import trust
from tests.integration.relay import Relay
from tests.integration.vending.token_servers import HERE, USER, has_mysqlclient


def _mysqlclient(login: pool.Login) -> Any:
    import MySQLdb

    return MySQLdb.connect(connect_timeout=5, **login.mysqlclient())


CONNECT: dict[str, Callable[[pool.Login], Any]] = {
    "psycopg": lambda login: psycopg.connect(dbname="shop", connect_timeout=5, **login.psycopg()),
    "psycopg2": lambda login: psycopg2.connect(dbname="shop", connect_timeout=5, **login.psycopg2()),
    "asyncpg": lambda login: asyncpg.connect(database="shop", timeout=5, **login.asyncpg()),
    "pymysql": lambda login: pymysql.connect(connect_timeout=5, **login.pymysql()),
    "mysqlclient": _mysqlclient,
    "mysql-connector": lambda login: mysql.connector.connect(connection_timeout=5, **login.mysql_connector()),
    "mysql-connector-pure": lambda login: mysql.connector.connect(
        connection_timeout=5, use_pure=True, **login.mysql_connector()
    ),
    "aiomysql": lambda login: aiomysql.connect(connect_timeout=5, **login.aiomysql()),
    "asyncmy": lambda login: asyncmy.connect(connect_timeout=5, **login.asyncmy()),
}
DRIVERS = [
    pytest.param(driver, marks=has_mysqlclient) if driver == "mysqlclient" else driver for driver in sorted(CONNECT)
]
OF_POSTGRES = {"psycopg", "psycopg2", "asyncpg"}


class Listener:
    """A server that answers with fixed bytes, one part for each that it receives, and keeps what it received."""

    def __init__(self, greeting: bytes, *answers: bytes) -> None:
        self.received = b""
        self._parts = (greeting, *answers)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._socket.getsockname()[1]

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            connection.sendall(self._parts[0])
            for answer in (*self._parts[1:], b""):
                self.received += (got := connection.recv(65536))
                connection.sendall(answer if got else b"")

    def end(self) -> bytes:
        """Return what was received until the client closed the connection."""
        self._thread.join(timeout=15)
        self._socket.close()
        return self.received


def without_tls(driver: str, plugin: bytes) -> Listener:
    """Return a server that offers no TLS and asks for the password in clear text."""
    if driver in OF_POSTGRES:
        return Listener(b"", b"N", b"R\x00\x00\x00\x08\x00\x00\x00\x03")
    capabilities = 0x0008_F7DF  # all of protocol 4.1 with plugins, without SSL (0x800)
    greeting = b"\x0a8.4.0\x00" + struct.pack("<I", 7) + b"12345678\x00" + struct.pack("<H", capabilities & 0xFFFF)
    greeting += b"\x2d\x02\x00" + struct.pack("<H", capabilities >> 16) + b"\x15" + bytes(10) + b"123456789012\x00"
    greeting += plugin + b"\x00"
    switch = b"\xfemysql_clear_password\x00"
    framed = [
        struct.pack("<I", len(text))[:3] + bytes([number]) + text for number, text in ((0, greeting), (2, switch))
    ]
    return Listener(*framed)


def reasons(error: BaseException) -> str:
    """Return an error's text and its cause's, which is where aiomysql has the reason."""
    return f"{error} {error.__cause__}"


@pytest.mark.parametrize("plugin", [b"mysql_clear_password", b"mysql_native_password", b"sha256_password"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_without_tls_gets_no_token(servers, clock, wait, driver, plugin):
    if driver in OF_POSTGRES and plugin != b"mysql_clear_password":
        return
    server = without_tls(driver, plugin)
    with pytest.raises(Exception, match=r"(?i)ssl|tls|secure|rejected"):
        wait(CONNECT[driver](pool.Login(HERE, server.port, USER)))
    assert b"X-Amz" not in server.end()


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_certificate_of_another_authority_gets_no_token(servers, clock, wait, monkeypatch, tmp_path, driver):
    monkeypatch.setenv("RDSIAM_CA", str(Authority(tmp_path).path))
    trust.ca_file.cache_clear()
    kind = "postgres" if driver in OF_POSTGRES else "mariadb"
    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011  each driver has its own
            wait(CONNECT[driver](pool.Login(HERE, servers.port(kind), USER)))
    finally:
        monkeypatch.undo()
        trust.ca_file.cache_clear()
    assert "certificate" in reasons(caught.value).lower()


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_certificate_of_another_name_gets_no_token(servers, clock, wait, driver):
    relay = Relay("localhost", servers.port("postgres" if driver in OF_POSTGRES else "mariadb"), at="127.0.0.9")
    with pytest.raises(Exception) as caught:  # noqa: PT011  each driver has its own
        wait(CONNECT[driver](pool.Login("127.0.0.9", relay.port, USER)))
    assert re.search("certificate|validation|mismatch", reasons(caught.value), re.IGNORECASE)
