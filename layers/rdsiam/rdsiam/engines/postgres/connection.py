"""Sessions of PostgreSQL: always TLS with certificate and host name verified, by token or by password."""

import logging
import time
from collections.abc import Mapping
from typing import Any, TypeAlias

import psycopg
from psycopg.adapt import Buffer, Loader

from rdsiam.aws.rds import Database
from rdsiam.engines.connection import ASKS_FOR_PASSWORD, ASKS_FOR_TOKEN, NO_LOCKS, WORK, Limits
from rdsiam.engines.logins import Login
from rdsiam.engines.messages import one_line
from rdsiam.engines.time_limits import addresses
from rdsiam.errors import ConnectionFailed, Refused, Stage
from rdsiam.tokens.trust import ca_for

logger = logging.getLogger(__name__)

#: The database in which a run begins, and which the audit connects to. RDS creates it and the master owns it, so that
#: no tenant of the server can close it or set what its sessions begin with; catalogs of roles are the whole server's.
ENTRY_DATABASE = "postgres"
#: Answers if nobody can connect to it; the last one also if its sessions are all taken.
_ENTRY_CLOSED = (
    f'database "{ENTRY_DATABASE}" does not exist',
    f'database "{ENTRY_DATABASE}" is not currently accepting connections',
    f'cannot connect to invalid database "{ENTRY_DATABASE}"',
    f'too many connections for database "{ENTRY_DATABASE}"',
)
_TAKES_SESSIONS = (
    "SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s AND datallowconn AND datconnlimit NOT IN (0, -2)"
)
#: A PostgreSQL session; rows are tuples.
PostgresSession: TypeAlias = psycopg.Connection[tuple[Any, ...]]
#: libpq passes on no code of a failed connect. Neither text is about a login by password, which takes both methods.
_OTHER_METHODS = ("server requested SASL authentication", "server requested a hashed password")
#: The last text is of RDS up to 15: "… and rds_superuser connections".
_SLOTS_TAKEN = ("too many clients already", "too many connections for", "remaining connection slots are reserved")
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


def open_session(database: Database, login: Login, name: str | None, limits: Limits = WORK) -> PostgresSession:
    """Open a session in a database of a server.

    :param name: of the database; None for the one in which rdsiam begins. If nobody can connect to that, or it was
        dropped, the session is in the database that the server was created with: roles are the whole server's.
    :raises ConnectionFailed: with the stage at which it failed.
    :raises Refused: the database does not exist on the server, or nobody can connect to that in which rdsiam begins.
    """
    host, port = database.endpoint
    target = name or ENTRY_DATABASE
    try:
        return connect_postgres(host, port, target, login, limits, database.engine_version)
    except ConnectionFailed as error:
        in_entry = target == ENTRY_DATABASE
        if in_entry and any(answer in str(error) for answer in _ENTRY_CLOSED):
            instead = _elsewhere(database, login, limits)
            if instead is not None:
                return instead
        if f'database "{target}" does not exist' in str(error):
            remedy = "create it, since rdsiam begins there" if in_entry else "create it, or correct `on`"
            problem = f"database {target} does not exist on {database.identifier}"
            raise Refused(problem, remedy, "database-missing") from None
        raise


def _elsewhere(database: Database, login: Login, limits: Limits) -> PostgresSession | None:
    """Open a session in the database that the server was created with, instead of that in which rdsiam begins.

    :return: None if that has no such database, or doesn't let rdsiam in, or if rdsiam's own lets others in: then its
        sessions are all taken for now.
    """
    other = database.default_database
    if other in (None, ENTRY_DATABASE):
        return None
    host, port = database.endpoint
    try:
        session = connect_postgres(host, port, other, login, limits, database.engine_version)
    except ConnectionFailed as error:
        logger.warning("neither %s nor %s lets %s in: %s", ENTRY_DATABASE, other, login.user, error)
        return None
    taken = session.execute(_TAKES_SESSIONS, [ENTRY_DATABASE]).fetchone()
    session.commit()
    if taken is None:
        logger.warning("nobody can connect to %s on %s, so %s does its work", ENTRY_DATABASE, database.arn, other)
        return session
    session.close()
    return None


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
    for address in addresses(host, port, limits.connect):
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


def _postgres_stage(problem: str) -> Stage:
    # libpq has no code for a failed connect, only this text.
    if "FATAL:" in problem or "authentication method requirement" in problem:
        return "login"
    if "SSL" in problem or "certificate" in problem:
        return "tls"
    return "port"
