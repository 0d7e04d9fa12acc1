"""Connections to databases: always TLS with certificate and host name verified, by token or by password."""

import os
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg
import pymysql
from psycopg.adapt import Buffer, Loader
from pymysql.connections import Connection as MysqlConnection
from pymysql.constants import CLIENT
from pymysql.cursors import Cursor

from rdsiam.engines.logins import Login
from rdsiam.engines.messages import one_line
from rdsiam.errors import ConnectionFailed, Stage
from rdsiam.tokens.trust import ca_file, ca_for

__all__ = [
    "ASKS_FOR_PASSWORD",
    "ASKS_FOR_TOKEN",
    "NO_LOCKS",
    "NO_SLOT",
    "WORK",
    "Limits",
    "MysqlSession",
    "PostgresSession",
    "ca_file",
    "connect_mysql",
    "connect_postgres",
    "postgres_options",
]

#: A PostgreSQL session; rows are tuples.
type PostgresSession = psycopg.Connection[tuple[Any, ...]]
#: A MySQL or MariaDB session; rows are tuples.
type MysqlSession = MysqlConnection[Cursor]

#: Code of a login that was abandoned because the server asks this user for a token instead of a password.
ASKS_FOR_TOKEN = "token"  # noqa: S105  a code, no password

#: Code of a login by token that was abandoned because PostgreSQL asks this user for a password instead.
ASKS_FOR_PASSWORD = "password"  # noqa: S105  a code, no password

#: Codes of a login that failed because all connections are taken: PostgreSQL's and MySQL's.
NO_SLOT = frozenset({"53300", "1040"})
#: Code of a login that failed because PostgreSQL's table of locks is full: each login needs some, also the master's.
NO_LOCKS = "53200"
#: libpq passes on no code of a failed connect. Neither text is about a login by password, which takes both methods.
_OTHER_METHODS = ("server requested SASL authentication", "server requested a hashed password")
#: The last text is of RDS up to 15: "… and rds_superuser connections".
_SLOTS_TAKEN = ("too many clients already", "too many connections for", "remaining connection slots are reserved")


@dataclass(frozen=True)
class Limits:
    """Time limits for one database, in seconds.

    :ivar connect: from the lookup of its name until the session is open, whatever arrives meanwhile.
    :ivar statement: for one statement on PostgreSQL, for one wait for an answer on MySQL and MariaDB.
    """

    connect: float = 5
    statement: float = 30


#: Limits of everything except the audit.
WORK = Limits()

#: Settings of rdsiam's sessions on PostgreSQL, by the major version that introduced them. Without them the owner of a
#: database (ALTER DATABASE … SET) or an administrator of the role decides; a client's own values take precedence.
_POSTGRES_SETTINGS: Mapping[int, Mapping[str, str]] = {
    0: {
        # A user may have created functions and operators in a schema: CVE-2025-12967.
        "search_path": "pg_catalog",
        "role": "none",
        "default_transaction_read_only": "off",
        # At another level, a read after waiting for a lock would return the state before it.
        "default_transaction_isolation": "read committed",
        "lock_timeout": "10s",
        # The longest run of a function.
        "idle_in_transaction_session_timeout": "15min",
        "standard_conforming_strings": "on",
        "client_min_messages": "notice",
        "exit_on_error": "off",
        "local_preload_libraries": "",
    },
    14: {"idle_session_timeout": "0"},
    # Would make the master, which creates the manager, an inheriting member of an IAM user: a lock-out.
    16: {"createrole_self_grant": ""},
    17: {"transaction_timeout": "0"},
}
#: The same on MySQL and MariaDB, where only the server's parameters could differ.
_MYSQL_SETTINGS = (
    # NO_BACKSLASH_ESCAPES changes the meaning of escaped values, ANSI_QUOTES that of quoted names.
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES', sql_select_limit = 18446744073709551615, sql_quote_show_create = 1, "
    "wait_timeout = 900, "
    # An answer, before rdsiam ends the connection and doesn't learn what the server does once it has the lock.
    "lock_wait_timeout = 10, innodb_lock_wait_timeout = 10"
)


def postgres_options(limits: Limits, version: str) -> str:
    """Return the options of a new session.

    :param version: the engine's, as RDS describes it: a setting that the server doesn't know would fail the login. If
        empty, only settings that every version knows.
    """
    major = int(version.partition(".")[0]) if version else 0
    settings = {"statement_timeout": str(round(limits.statement * 1000))}
    for since, known in _POSTGRES_SETTINGS.items():
        if major >= since:
            settings |= known
    return " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())


def connect_postgres(
    host: str, port: int, database: str, login: Login, limits: Limits = WORK, version: str = ""
) -> PostgresSession:
    """Open a PostgreSQL session with rdsiam's settings, which override those of the database and of the role.

    :param version: see `postgres_options`.
    :raises ConnectionFailed: with the stage at which it failed.
    """
    end = time.monotonic() + limits.connect
    failed = None
    for address in _addresses(host, port, limits.connect):
        try:
            session = psycopg.connect(
                host=host,
                hostaddr=address,
                port=port,
                dbname=database,
                user=login.user,
                password=login.secret,
                sslmode="verify-full",
                sslrootcert=ca_for(host),
                # Never send the secret to a server that asks for it by another method than the login's own.
                require_auth=login.method,
                connect_timeout=max(1, round(end - time.monotonic())),
                gssencmode="disable",  # otherwise a Kerberos ticket would replace TLS
                # Otherwise the database decides: by its encoding, which may be none (SQL_ASCII), or by a setting.
                client_encoding="utf-8",
                application_name="rdsiam",
                options=postgres_options(limits, version),
            )
        except psycopg.OperationalError as error:
            problem = one_line(str(error))
            code = ASKS_FOR_TOKEN if "server requested a cleartext password" in problem else None
            code = ASKS_FOR_PASSWORD if any(text in problem for text in _OTHER_METHODS) else code
            code = "53300" if any(text in problem for text in _SLOTS_TAKEN) else code
            code = NO_LOCKS if "out of shared memory" in problem else code
            failed = ConnectionFailed(host, port, _postgres_stage(problem), problem, code)
            error.with_traceback(None)  # its frames would keep the socket open
        else:
            for kind in ("name", "text"):
                session.adapters.register_loader(kind, _Text)
            return session
        if failed.stage != "port" or time.monotonic() >= end:
            break
    raise failed or ConnectionFailed(host, port, "name", "the name has no address")


class _Text(Loader):
    """Loader of texts: databases of several encodings share roles and their settings, which may not be UTF-8."""

    def load(self, data: Buffer) -> str:
        """Decode a text; bytes that are not UTF-8 are escaped."""
        return bytes(data).decode("utf-8", "backslashreplace")


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
        ssl=_tls(ca_for(host)),
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
    plain = _open(host, port, end)
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


@cache
def _tls(ca: str) -> ssl.SSLContext:
    """Return the context that verifies chain and host name; threads share it, as reading the authorities is slow."""
    context = ssl.create_default_context(cafile=ca)
    # The strict flag, new in Python 3.13, also refuses certificates for formal defects that libpq and MySQL's own
    # clients accept.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


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


@contextmanager
def cut_off(connection: "socket.socket | PostgresSession | MysqlSession", seconds: float) -> Iterator[threading.Event]:
    """Shut down a socket, or the socket of a session, after `seconds`, from another thread.

    Time limits of drivers restart with every byte that arrives; this one does not. Code that waits for the server then
    gets a lost connection. No thread is left behind.

    :return: an event that is set when the time is up.
    """
    # A descriptor of its own, since the driver may wrap or close its socket meanwhile.
    twin = socket.socket(fileno=os.dup(_descriptor(connection)))
    late = threading.Event()

    def shut() -> None:
        late.set()
        with suppress(OSError):  # the server was first
            twin.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0, seconds), shut)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()
        twin.close()


def _descriptor(connection: "socket.socket | PostgresSession | MysqlSession") -> int:
    # PyMySQL offers no public access to its socket.
    owner: Any = getattr(connection, "_sock", connection)
    return int(owner.fileno())


def _addresses(host: str, port: int, seconds: float) -> list[str]:
    """Return the addresses of a host. Drivers report an unknown name and a port that doesn't answer alike.

    The system's resolver takes as long as it is configured to; it goes on in a thread that ends by itself.
    """
    resolved: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            resolved.put(error)
        else:
            resolved.put(list(dict.fromkeys(str(answer[4][0]) for answer in answers)))

    threading.Thread(target=resolve, daemon=True).start()
    try:
        result = resolved.get(timeout=seconds)
    except queue.Empty:
        raise ConnectionFailed(host, port, "name", f"the name was not resolved within {seconds:g} s") from None
    if isinstance(result, OSError):
        raise ConnectionFailed(host, port, "name", str(result))
    return result


def _open(host: str, port: int, end: float) -> socket.socket:
    """Open a TCP connection to the first address of `host` that accepts it."""
    problem = "the name has no address"
    for address in _addresses(host, port, end - time.monotonic()):
        try:
            opened = socket.create_connection((address, port), timeout=max(0.1, end - time.monotonic()))
        except OSError as error:
            problem = str(error)
        else:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return opened
    raise ConnectionFailed(host, port, "port", problem)


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


def _postgres_stage(problem: str) -> Stage:
    # libpq has no code for a failed connect, only this text.
    if "FATAL:" in problem or "authentication method requirement" in problem:
        return "login"
    if "SSL" in problem or "certificate" in problem:
        return "tls"
    return "port"
