"""PostgreSQL's part of a rotation: passwords go as SCRAM verifiers, so that no server log ever holds one."""

import hashlib
import hmac
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from rdsiam.access.rotation import CLONE
from rdsiam.aws.rds import Database
from rdsiam.engines.connection import connect_postgres
from rdsiam.engines.logins import Login
from rdsiam.engines.postgres.settings import acting_as, changes, settings
from rdsiam.engines.rotation import ChangeFailed, OpenSession, PasswordRejected
from rdsiam.errors import ConnectionFailed, Refused

_ITERATIONS = 4096
_NAME_BYTES = 63
_ROLE = """
SELECT r.rolsuper, r.rolcreaterole, r.rolreplication, r.rolconnlimit,
       COALESCE((SELECT pg_catalog.pg_has_role(r.oid, i.oid, 'MEMBER') FROM pg_catalog.pg_roles i
                 WHERE i.rolname = 'rds_iam'), false)
FROM pg_catalog.pg_roles r WHERE r.rolname = %s
"""
_IS_MEMBER = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_auth_members a
  JOIN pg_catalog.pg_roles g ON g.oid = a.roleid JOIN pg_catalog.pg_roles m ON m.oid = a.member
  WHERE g.rolname = %s AND m.rolname = %s)
"""
#: From PostgreSQL 16 on who may make roles may change those only that it was made administrator of.
_MAY_ALTER = """
SELECT current_user, pg_catalog.pg_has_role(oid, 'MEMBER WITH ADMIN OPTION') FROM pg_catalog.pg_roles WHERE rolname = %s
"""
#: Of roles that the session's user is no member of, address and time are null.
_SESSIONS = """
SELECT usename, application_name, pg_catalog.host(client_addr),
       pg_catalog.to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
FROM pg_catalog.pg_stat_activity
WHERE usename = ANY (%s) AND pid <> pg_catalog.pg_backend_pid() ORDER BY backend_start, pid
"""


class PostgresRotator:
    """The engine `postgres`, and Aurora PostgreSQL; see `Rotator`."""

    def connect(self, database: Database, login: Login, name: str | None) -> "psycopg.Connection":
        """Open a session, which acts as the user itself even if the user is set to act as a group."""
        host, port = database.endpoint
        target = name or database.default_database or "postgres"
        return connect_postgres(host, port, target, login, version=database.engine_version)

    def wrong_password(self, error: ConnectionFailed) -> bool:
        """Tell it by the server's text, as libpq gives no code; the server says the same where the user is missing."""
        return error.stage == "login" and "password authentication failed" in str(error)

    def prove(self, session: Any) -> None:
        """Run a query that everybody may run."""
        with _failing(session):
            session.execute("SELECT 1")
            session.rollback()

    def set_own_password(self, session: Any, password: str, pending_works: Callable[[], bool]) -> None:  # noqa: ARG002
        """Set it; PostgreSQL keeps one password only, so that the old one ends here."""
        with _failing(session):
            user = session.execute("SELECT session_user").fetchone()[0]
            _run(session, [_password("ALTER ROLE {} PASSWORD {}", user, password)])

    def clone_name(self, user: str) -> str:
        """Return the name of the other of two users that take turns."""
        other = user.removesuffix(CLONE) if user.endswith(CLONE) else user + CLONE
        if len(other.encode()) > _NAME_BYTES:
            raise Refused(f"the clone's name would have more than {_NAME_BYTES} bytes, and be cut: rename the user")
        return other

    blind_spots = "of the other of two users that take turns neither address nor time; behind a pooler, who uses it"

    def inspect_other(self, session: Any, user: str) -> str | None:
        """Return the statement; it has no password, and would be sent with a verifier."""
        with _failing(session):
            if session.execute(_ROLE, [user]).fetchone() is None:
                return None
            _refuse_role(session, user)
            actor, may = session.execute(_MAY_ALTER, [user]).fetchone()
            if session.info.server_version >= 160000 and not may:
                names = {"u": sql.Identifier(user), "a": sql.Identifier(actor)}
                grant = sql.SQL("GRANT {u} TO {a} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE").format(**names)
                raise Refused(f"{actor} may not change {user}; run as whoever made it: {grant.as_string(None)}")
            return sql.SQL("ALTER ROLE {} PASSWORD '…'").format(sql.Identifier(user)).as_string(None)

    def sessions(self, session: Any, users: Sequence[str]) -> list[OpenSession]:
        """Return the sessions of these users."""
        with _failing(session):
            return [OpenSession(*row) for row in session.execute(_SESSIONS, [list(users)])]

    def set_other_password(self, session: Any, base: str, user: str, password: str) -> None:
        """Set it in one transaction with all that makes the clone act as its base."""
        with _failing(session):
            _wait_for_others(session, base)
            _refuse_role(session, base)
            if user == base:
                _run(session, [_password("ALTER ROLE {} PASSWORD {}", user, password)])
            else:
                _run(session, self._clone(session, base, user, password))

    def _clone(self, session: Any, base: str, clone: str, password: str) -> list[sql.Composable]:
        """Return what makes the clone: a member of its base, acting as it, so that what it makes is its base's."""
        names = {"b": sql.Identifier(base), "c": sql.Identifier(clone)}
        limit = session.execute(_ROLE, [base]).fetchone()[3]
        exists = session.execute(_ROLE, [clone]).fetchone() is not None
        belongs = session.execute(_IS_MEMBER, [base, clone]).fetchone()[0]
        if exists and not belongs:
            raise Refused(f"a role {clone} exists that is not {base}'s clone: rename or drop it")
        if exists:
            _refuse_role(session, clone)
        verb = "ALTER" if exists else "CREATE"
        statements: list[sql.Composable] = [
            _password(f"{verb} ROLE {{}} LOGIN PASSWORD {{}} CONNECTION LIMIT {int(limit)}", clone, password)
        ]
        modern = session.info.server_version >= 160000
        options = " WITH INHERIT TRUE, SET TRUE" if modern else ""
        if (exists and modern) or not belongs:
            statements.append(sql.SQL("GRANT {b} TO {c}" + options).format(**names))
        now = settings(session, clone) if exists else {}
        statements += changes(clone, now, acting_as(base, settings(session, base)))
        return statements


def verifier(password: str, salt: bytes | None = None, iterations: int = _ITERATIONS) -> str:
    """Return the SCRAM-SHA-256 verifier that PostgreSQL keeps of a password, and takes in its place.

    Source: RFC 5802, "SCRAM Algorithm Overview"; RFC 7677; PostgreSQL's documentation of pg_authid.rolpassword.
    Passwords are made of ASCII here, which SASLprep leaves as it is.
    """
    if not password.isascii():
        raise Refused("AWSPENDING's password holds other characters than ASCII, so rdsiam did not make it")
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = [b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{parts[0]}${parts[1]}:{parts[2]}"


def _password(template: str, user: str, password: str) -> sql.Composed:
    return sql.SQL(template).format(sql.Identifier(user), sql.Literal(verifier(password)))


def _wait_for_others(session: Any, base: str) -> None:
    """Wait until another rotation of this user has ended, if one is at work.

    A rotation has the lock for a moment, but any user of the server can take it. So it is waited for, and never needed.
    """
    session.execute("SET LOCAL lock_timeout = '2s'")
    try:
        session.execute("SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext(%s))", [f"rdsiam {base}"])
    except psycopg.errors.LockNotAvailable:
        session.rollback()
    else:
        session.execute("SET LOCAL lock_timeout TO DEFAULT")


def _refuse_role(session: Any, name: str) -> None:
    found = session.execute(_ROLE, [name]).fetchone()
    if found is None:
        raise Refused(f"there is no role {name}: create it, or correct `username`")
    superuser, creates_roles, replicates, _, iam = found
    if iam:
        raise Refused(f"{name} is a member of rds_iam and logs in by token; its secret has no use any more: delete it")
    if superuser or creates_roles or replicates:
        raise Refused(f"{name} is an administrator or a replication user, of whom no clone is made: use a single user")


def _run(session: Any, statements: list[sql.Composable]) -> None:
    """Run the statements in the session's transaction, and commit it."""
    for statement in statements:
        session.execute(statement)
    session.commit()


@contextmanager
def _failing(session: Any) -> Iterator[None]:
    """Name the server's code and cause where something fails, never a statement: it may hold a verifier."""
    try:
        yield
    except psycopg.Error as error:
        code, cause = error.sqlstate or "", error.diag.message_primary or type(error).__name__
        if not session.closed:
            session.rollback()
        elif not code:
            code, cause = "08006", "connection lost"  # what libpq found out by itself has no code
        if code == "22023" and "password" in cause.lower():
            raise PasswordRejected(f"the database does not take the new password: {code} {cause}") from None
        if code == "42501":
            raise Refused(
                f"{cause} ({code}): give the user the right to do this; with rds.restrict_password_commands a user "
                "that changes passwords must be a member of rds_password, and an administrator that alternates users "
                "needs ADMIN OPTION on them"
            ) from None
        raise ChangeFailed(code, cause) from None
