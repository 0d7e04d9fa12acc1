"""Connections to databases: TLS with certificate and host name verified, by token or by password, never otherwise."""

import os
import socket
import ssl
import tempfile
from functools import cache
from pathlib import Path

import psycopg
import pymysql
from pymysql.connections import Connection as MysqlConnection

from rdsiam.errors import ConnectionFailed, Stage
from rdsiam.logins import Login

#: Code of a login that was given up since the server asks this user for a token, not for a password.
ASKS_FOR_TOKEN = "token"  # noqa: S105  a code, no password
CONNECT_SECONDS = 5
STATEMENT_SECONDS = 30


@cache
def ca_file() -> str:
    """Return the path of the certificate authority that databases are verified against.

    `RDSIAM_CA` holds a path or the PEM itself; empty or missing means the RDS bundle that comes with rdsiam.
    """
    setting = os.environ.get("RDSIAM_CA", "").strip()
    if not setting:
        return str(Path(__file__).parent / "certs" / "global-bundle.pem")
    if not setting.startswith("-----BEGIN"):
        return setting
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write(setting + "\n")
    return file.name


def connect_postgres(host: str, port: int, database: str, login: Login) -> psycopg.Connection:
    """Open a PostgreSQL session in which no user's schema is on the search path.

    :raises ConnectionFailed: with the stage that it came to.
    """
    _resolve(host, port)
    try:
        return psycopg.connect(
            host=host,
            port=port,
            dbname=database,
            user=login.user,
            password=login.secret,
            sslmode="verify-full",
            sslrootcert=ca_file(),
            # Never offer a secret where the server asks for one by another method than the login's own.
            require_auth=login.method,
            connect_timeout=CONNECT_SECONDS,
            application_name="rdsiam",
            # A user may have planted functions and operators in a schema: CVE-2025-12967.
            options=f"-c search_path=pg_catalog -c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout=10s",
        )
    except psycopg.OperationalError as error:
        problem = " ".join(str(error).split())
        asked = "server requested a cleartext password" in problem
        code = ASKS_FOR_TOKEN if asked else None
        raise ConnectionFailed(host, port, _postgres_stage(problem), problem, code) from None


def connect_mysql(host: str, port: int, login: Login) -> "MysqlConnection[pymysql.cursors.Cursor]":
    """Open a MySQL or MariaDB session that commits by itself, with no schema chosen.

    :raises ConnectionFailed: with the stage that it came to.
    """
    _resolve(host, port)
    context = ssl.create_default_context(cafile=ca_file())
    # Chain and host name stay verified. The strict flag, new in Python 3.13, refuses certificates for formalities
    # that neither libpq nor MySQL's own clients mind.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        return pymysql.connect(
            host=host,
            port=port,
            user=login.user,
            password=login.secret,
            ssl=context,
            charset="utf8mb4",
            # Known, whatever the server's is: under NO_BACKSLASH_ESCAPES escaped values would mean something else.
            sql_mode="STRICT_ALL_TABLES",
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            read_timeout=STATEMENT_SECONDS,
            write_timeout=STATEMENT_SECONDS,
            program_name="rdsiam",
            auth_plugin_map={"mysql_clear_password": _AsksForToken} if getattr(login, "never_clear", False) else None,
        )
    except _AskedForToken:
        raise ConnectionFailed(host, port, "login", "the server asked for a token", ASKS_FOR_TOKEN) from None
    except pymysql.MySQLError as error:
        code = error.args[0] if error.args else None
        cause = getattr(error, "original_exception", None)
        stage: Stage = "login"
        if isinstance(cause, ssl.SSLError) or code == 2026:
            stage = "tls"
        elif isinstance(cause, OSError) or code in {2003, 2013}:
            stage = "port"
        text = " ".join(str(error.args[-1]).split()) if error.args else type(error).__name__
        raise ConnectionFailed(host, port, stage, text, str(code) if code else None) from None


class _AskedForToken(Exception):
    """The server asked for clear text."""


class _AsksForToken:
    """Stands where PyMySQL would answer with the password in clear text."""

    def __init__(self, _: object) -> None:
        pass

    def authenticate(self, _: object) -> None:
        raise _AskedForToken


def _resolve(host: str, port: int) -> None:
    """Tell a name that doesn't resolve from a port that doesn't answer, which drivers report alike."""
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConnectionFailed(host, port, "name", str(error)) from None


def _postgres_stage(problem: str) -> Stage:
    # libpq gives no code for a failed connect, only this text.
    if "FATAL:" in problem or "authentication method requirement" in problem:
        return "login"
    if "SSL" in problem or "certificate" in problem:
        return "tls"
    return "port"
