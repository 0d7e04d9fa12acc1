"""Sessions of MySQL and MariaDB: always TLS with certificate and host name verified, by token or by password."""

import ssl
import time
from typing import TypeAlias

import pymysql
from pymysql.connections import Connection as MysqlConnection
from pymysql.constants import CLIENT
from pymysql.cursors import Cursor

from rdsiam.engines.connection import ASKS_FOR_TOKEN, WORK, Limits, open_socket
from rdsiam.engines.logins import Login
from rdsiam.engines.messages import one_line
from rdsiam.engines.time_limits import cut_off
from rdsiam.errors import ConnectionFailed, Stage
from rdsiam.tokens.drivers import context
from rdsiam.tokens.trust import ca_for

#: A MySQL or MariaDB session; rows are tuples.
MysqlSession: TypeAlias = "MysqlConnection[Cursor]"  # the class is generic in its stubs only
#: Settings of rdsiam's sessions, where only the server's parameters could differ.
_MYSQL_SETTINGS = (
    # NO_BACKSLASH_ESCAPES changes the meaning of escaped values, ANSI_QUOTES that of quoted names.
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES', sql_select_limit = 18446744073709551615, sql_quote_show_create = 1, "
    "wait_timeout = 900, "
    # An answer, before rdsiam ends the connection and doesn't learn what the server does once it has the lock.
    "lock_wait_timeout = 10, innodb_lock_wait_timeout = 10"
)


def connect_mysql(host: str, port: int, login: Login, limits: Limits = WORK, expired: bool = False) -> MysqlSession:
    """Open a MySQL or MariaDB session in autocommit mode, without a default schema.

    :param expired: open a session even if the password has expired. It may do nothing but set a new one, and needs
        `use_own_settings` afterwards.
    :raises ConnectionFailed: with the stage at which it failed.
    """
    end = time.monotonic() + limits.connect
    session = (_SettingsLater if expired else pymysql.connect)(
        host=host,
        port=port,
        user=login.user,
        password=login.secret,
        ssl=context(ca_for(host)),
        charset="utf8mb4",
        init_command=None if expired else _MYSQL_SETTINGS,
        client_flag=CLIENT.HANDLE_EXPIRED_PASSWORDS if expired else 0,
        autocommit=None if expired else True,
        read_timeout=limits.statement,
        write_timeout=limits.statement,
        program_name="rdsiam",
        auth_plugin_map={"mysql_clear_password": _AsksForToken} if getattr(login, "never_clear", False) else None,
        defer_connect=True,
    )
    plain = open_socket(host, port, end)
    with cut_off(plain, end - time.monotonic()) as late:
        try:
            session.connect(plain)
        except _AskedForToken:
            raise ConnectionFailed(host, port, "login", "the server asked for a token", ASKS_FOR_TOKEN) from None
        except (pymysql.MySQLError, ssl.SSLError) as error:
            failed = _mysql_failure(host, port, error)
            if late.is_set():
                # TLS was established, and then the server was silent.
                stage: Stage = "login" if getattr(session, "_secure", False) else failed.stage
                failed = ConnectionFailed(host, port, stage, f"no session was open after {limits.connect:g} s")
            raise failed from None
    return session


def use_own_settings(session: MysqlSession) -> None:
    """Set what every session of rdsiam begins with, in one that was opened although its password might have expired."""
    with session.cursor() as cursor:
        cursor.execute("SET NAMES utf8mb4")
        cursor.execute(f"{_MYSQL_SETTINGS}, autocommit = 1")


class _SettingsLater(MysqlConnection):
    """A session that sends no statement when it is opened: after an expired password MySQL refuses every one."""

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """Leave it as the handshake set it."""


class _AskedForToken(Exception):
    """The server asked for the password in clear text."""


class _AsksForToken:
    """Authentication plugin that replaces PyMySQL's, which would answer with the password in clear text."""

    def __init__(self, _: object) -> None:
        pass

    def authenticate(self, _: object) -> None:
        """Raise instead of answering."""
        raise _AskedForToken


def _mysql_failure(host: str, port: int, error: Exception) -> ConnectionFailed:
    code = error.args[0] if error.args else None
    cause = getattr(error, "original_exception", error)
    stage: Stage = "login"
    if isinstance(cause, ssl.SSLError) or code == 2026:
        stage = "tls"
    elif isinstance(cause, OSError) or code in {2003, 2013}:
        stage = "port"
    text = one_line(str(error.args[-1])) if error.args else type(error).__name__
    return ConnectionFailed(host, port, stage, text, str(code) if isinstance(error, pymysql.MySQLError) else None)
