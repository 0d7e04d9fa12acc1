"""Rotation of passwords on PostgreSQL and Aurora PostgreSQL.

Passwords are sent as SCRAM verifiers, so that no server log ever holds a password. With `scheme: alternating` two users
take turns: the base, such as `app`, and its clone `app_clone`, which acts as the base.
"""

import hashlib
import hmac
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql

from rdsiam.access.rotation import CLONE
from rdsiam.aws.rds import Database
from rdsiam.engines.logins import Login
from rdsiam.engines.postgres import effect
from rdsiam.engines.postgres.catalog import MEMBERSHIP_OPTIONS, SWITCHED_ON, first_row
from rdsiam.engines.postgres.connection import PostgresSession, connect_postgres
from rdsiam.engines.postgres.memberships import administer
from rdsiam.engines.postgres.settings import acting_as, changes, settings
from rdsiam.engines.postgres.sql_text import compose
from rdsiam.engines.rotation import ChangeFailed, OpenSession, PasswordRejected
from rdsiam.errors import ConnectionFailed, Refused

#: PostgreSQL's own number of iterations for a SCRAM verifier.
_ITERATIONS = 4096
#: The longest name of a role.
_NAME_BYTES = 63
_ROLE = """
SELECT r.rolsuper, r.rolcreaterole, r.rolreplication, r.rolconnlimit,
       COALESCE((SELECT pg_catalog.pg_has_role(r.oid, i.oid, 'MEMBER') FROM pg_catalog.pg_roles i
                 WHERE i.rolname = 'rds_iam'), false),
       pg_catalog.current_setting('rds.iam_auth_for_replication', true)
FROM pg_catalog.pg_roles r WHERE r.rolname = %s
"""
_ENDED = "SELECT FROM pg_catalog.pg_roles WHERE rolname = %s AND rolvaliduntil <= pg_catalog.now()"
_IS_MEMBER = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_auth_members a
  JOIN pg_catalog.pg_roles g ON g.oid = a.roleid JOIN pg_catalog.pg_roles m ON m.oid = a.member
  WHERE g.rolname = %s AND m.rolname = %s)
"""
#: Address and time are null for roles that the session's user is not a member of.
_SESSIONS = """
SELECT usename, application_name, pg_catalog.host(client_addr),
       pg_catalog.to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
FROM pg_catalog.pg_stat_activity
WHERE usename = ANY (%s) AND pid <> pg_catalog.pg_backend_pid() ORDER BY backend_start, pid
"""


class PostgresRotator:
    """The SQL of rotation on PostgreSQL and Aurora PostgreSQL; see `Rotator`."""

    def connect(self, database: Database, login: Login, name: str | None) -> PostgresSession:
        """Open a session that acts as the user that logs in, even if the user's setting `role` names another role."""
        host, port = database.endpoint
        target = name or database.default_database or "postgres"
        return connect_postgres(host, port, target, login, version=database.engine_version)

    def wrong_password(self, error: ConnectionFailed) -> bool:
        """Return whether a login failed because of the user's name or password.

        libpq gives no error code, so the server's text decides. It is the same for a wrong password and a missing user.
        """
        return error.stage == "login" and "password authentication failed" in str(error)

    def prove(self, session: PostgresSession) -> None:
        """Run a query that every user may run."""
        with _translate_errors(session):
            session.execute("SELECT 1")
            session.rollback()

    def set_own_password(
        self,
        session: PostgresSession,
        current: str,  # noqa: ARG002
        password: str,
        pending_works: Callable[[], bool],  # noqa: ARG002
    ) -> None:
        """Set the password of the session's user.

        PostgreSQL keeps one password for each role, so the old password is no longer valid. Setting the password twice
        is idempotent, so `pending_works` is not called.
        """
        with _translate_errors(session):
            user = first_row(session, "SELECT session_user")[0]
            _run(session, [_password("ALTER ROLE {} PASSWORD {}", user, password)])

    def clone_name(self, user: str) -> str:
        """Return the name of the other of two alternating users."""
        other = user.removesuffix(CLONE) if user.endswith(CLONE) else user + CLONE
        if len(other.encode()) > _NAME_BYTES:
            raise Refused(
                f"the clone's name would have more than {_NAME_BYTES} bytes, and PostgreSQL would cut it",
                "rename the user",
                "name-too-long",
            )
        return other

    #: See `Rotator.blind_spots`.
    blind_spots = "address and login time of the other of two alternating users; behind a pooler, the actual client"

    def inspect_other(self, session: PostgresSession, user: str) -> str | None:
        """Return the statement that sets a user's password, with `…` in place of the verifier that a rotation sends.

        Whether the administrator may change the user is tried, and rolled back: RDS lets its own do so without a right
        that a catalog shows.

        :return: None if there is no such user.
        """
        with _translate_errors(session):
            if session.execute(_ROLE, [user]).fetchone() is None:
                return None
            _refuse_role(session, user)
            _refuse_without_rights(session, user)
            return sql.SQL("ALTER ROLE {} PASSWORD '…'").format(sql.Identifier(user)).as_string(None)

    def sessions(self, session: PostgresSession, users: Sequence[str]) -> list[OpenSession]:
        """Return the sessions of these users."""
        with _translate_errors(session):
            return [OpenSession(*row) for row in session.execute(_SESSIONS, [list(users)])]

    def set_other_password(self, session: PostgresSession, base: str, user: str, password: str) -> None:
        """Set the password of `base` or of its clone.

        The clone is created if it is missing. Its membership and settings, which make it act as the base, are changed
        in the same transaction.
        """
        with _translate_errors(session):
            _wait_for_others(session, base)
            _refuse_role(session, base)
            if user == base:
                statements = [_password("ALTER ROLE {} PASSWORD {}", user, password)]
            else:
                statements = self._clone(session, base, user, password)
            # A new password under a VALID UNTIL that has passed would log in nowhere.
            if session.execute(_ENDED, [user]).fetchone() is not None:
                statements.append(sql.SQL("ALTER ROLE {} VALID UNTIL 'infinity'").format(sql.Identifier(user)))
            _run(session, statements)

    def _clone(self, session: PostgresSession, base: str, clone: str, password: str) -> list[sql.Composed]:
        """Return the statements that create or update the clone.

        The clone is a member of the base, and its setting `role` names the base. So the base owns the objects that the
        clone creates.
        """
        names = {"b": sql.Identifier(base), "c": sql.Identifier(clone)}
        limit = first_row(session, _ROLE, [base])[3]
        exists = session.execute(_ROLE, [clone]).fetchone() is not None
        is_member = first_row(session, _IS_MEMBER, [base, clone])[0]
        if exists and not is_member:
            raise Refused(
                f"a role {clone}, no member of {base}, exists that is not {base}'s clone",
                "rename or drop it, or rotate the user as a single user (scheme: single)",
                "name-taken",
            )
        if exists:
            _refuse_role(session, clone)
        verb = "ALTER" if exists else "CREATE"
        statements = [_password(f"{verb} ROLE {{}} LOGIN PASSWORD {{}} CONNECTION LIMIT {int(limit)}", clone, password)]
        has_options = session.info.server_version >= MEMBERSHIP_OPTIONS
        options = " WITH INHERIT TRUE, SET TRUE" if has_options else ""
        # If memberships have options, the grant is repeated for an existing clone: it sets the options again.
        if (exists and has_options) or not is_member:
            statements.append(sql.SQL("GRANT {b} TO {c}" + options).format(**names))
        current = settings(session, clone) if exists else {}
        statements += changes(clone, current, acting_as(base, settings(session, base)))
        return statements


def verifier(password: str, salt: bytes | None = None, iterations: int = _ITERATIONS) -> str:
    """Return the SCRAM-SHA-256 verifier of a password: the form in which PostgreSQL stores it.

    `ALTER ROLE … PASSWORD` accepts a verifier in place of the password.

    SCRAM prepares a password by SASLprep before it is hashed. SASLprep leaves ASCII unchanged, and all passwords that
    rdsiam makes are ASCII, so it is left out.

    Source: RFC 5802, "SCRAM Algorithm Overview"; RFC 7677; PostgreSQL's documentation of pg_authid.rolpassword.
    """
    if not password.isascii():
        raise Refused(
            "AWSPENDING's password has characters other than ASCII, so rdsiam did not make it",
            "start the rotation again, which makes a new password",
            "secret-mismatch",
        )
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = [b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{parts[0]}${parts[1]}:{parts[2]}"


def _password(template: str, user: str, password: str) -> sql.Composed:
    return sql.SQL(template).format(sql.Identifier(user), sql.Literal(verifier(password)))


def _wait_for_others(session: PostgresSession, base: str) -> None:
    """Wait up to two seconds while another rotation of this user holds the advisory lock.

    A rotation holds the lock for a moment only. But any user of the server can take the same lock, and must not be able
    to block rotations. So a rotation that doesn't get the lock in time goes on without it.
    """
    session.execute("SET LOCAL lock_timeout = '2s'")
    try:
        session.execute("SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext(%s))", [f"rdsiam {base}"])
    except psycopg.errors.LockNotAvailable:
        session.rollback()
    else:
        session.execute("SET LOCAL lock_timeout TO DEFAULT")


def _refuse_role(session: PostgresSession, name: str) -> None:
    """Refuse a role that can't alternate: it is missing, an IAM user, an administrator or a replication user."""
    row = session.execute(_ROLE, [name]).fetchone()
    if row is None:
        raise Refused(f"there is no role {name}", "create it, or correct `username`", "user-missing")
    superuser, creates_roles, replicates, _, iam, replication = row
    if iam:
        raise Refused(
            f"{name} is a member of rds_iam and logs in by token, so its secret is no longer used",
            "delete the secret",
            "iam-user",
        )
    if superuser or creates_roles or replicates:
        raise Refused(
            f"{name} is an administrator or a replication user, which rdsiam doesn't clone",
            "rotate it as a single user (scheme: single)"
            + (", or let it replicate by tokens" if replicates and replication in SWITCHED_ON else ""),
            "alternating-unsupported",
        )


def _refuse_without_rights(session: PostgresSession, user: str) -> None:
    """Refuse a role that the session's user may not change.

    Since PostgreSQL 16, a role with CREATEROLE may change only roles on which it has ADMIN OPTION.
    """
    administrator, limit = first_row(session, "SELECT current_user")[0], first_row(session, _ROLE, [user])[3]
    try:
        session.execute(sql.SQL(f"ALTER ROLE {{}} CONNECTION LIMIT {int(limit)}").format(sql.Identifier(user)))
    except psycopg.errors.InsufficientPrivilege as error:
        cause = error.diag.message_primary
        session.rollback()
        has_options = session.info.server_version >= MEMBERSHIP_OPTIONS
        remedy = f"as a role that administers {user} run: {administer(user, administrator)}"
        raise Refused(
            f"{administrator} may not change {user}: {cause}",
            remedy if has_options else f"as a superuser run: {compose('ALTER ROLE {a} CREATEROLE', a=administrator)}",
            "rights-missing",
        ) from None
    session.rollback()


def _run(session: PostgresSession, statements: list[sql.Composed]) -> None:
    """Run the statements in the session's transaction, and commit it."""
    for statement in statements:
        effect.execute(session, statement)
    session.commit()


@contextmanager
def _translate_errors(session: PostgresSession) -> Iterator[None]:
    """Translate the driver's errors to rdsiam's, with the server's code and cause only.

    The statement is left out, since it may hold a verifier.
    """
    try:
        yield
    except psycopg.Error as error:
        unnamed = str(error) if isinstance(error, effect.NoEffect) else type(error).__name__
        code, cause = error.sqlstate or "", error.diag.message_primary or unnamed
        if not session.closed:
            session.rollback()
        elif not code:
            code, cause = "08006", "connection lost"  # libpq's own errors have no code
        if code == "22023" and "password" in cause.lower():
            raise PasswordRejected(f"the database rejects the new password: {code} {cause}") from None
        if code == "42501":
            raise Refused(
                f"{cause} ({code})",
                "grant the user this right; with rds.restrict_password_commands a user that changes passwords must be "
                "a member of rds_password, and an administrator that alternates users needs ADMIN OPTION on them",
                "rights-missing",
            ) from None
        raise ChangeFailed(code, cause) from None
