"""PostgreSQL: users, group roles and privileges, within the rights of RDS's own administrator."""

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from rdsiam.access.users import DeclaredUser, Grant
from rdsiam.aws.rds import Database
from rdsiam.core.changes import Refusal, Unreached
from rdsiam.engines.connection import WORK, Limits
from rdsiam.engines.facts import ServerFacts
from rdsiam.engines.logins import AUDITOR, MANAGER, Login, Token
from rdsiam.engines.postgres import (
    audit,
    database_privileges,
    disabling,
    execution,
    inspection,
    replacement,
    schemas,
)
from rdsiam.engines.postgres.catalog import is_system, layout, memberships
from rdsiam.engines.postgres.connection import ENTRY_DATABASE, PostgresSession, open_session
from rdsiam.engines.postgres.difference import difference, managed_users
from rdsiam.engines.postgres.groups import level_groups
from rdsiam.engines.postgres.inspection import ROLES
from rdsiam.engines.postgres.lockout import IAM_ROLE, members
from rdsiam.engines.postgres.snapshot import Snapshot
from rdsiam.engines.protocols import NO_FAILURES, DatabaseResult, DesiredState, LoginAccount, Sessions
from rdsiam.engines.statements import Denial, EndLogin, Statement
from rdsiam.errors import ConnectionFailed, Refused
from rdsiam.state.layout import Layout
from rdsiam.state.record import Ownership

#: The server's answers about a database to which a user that has logged in can't connect.
_AFTER_LOGIN = (
    "permission denied for database",
    "too many connections for database",
    "cannot connect to invalid database",
    "is not currently accepting connections",
    "too many connections for role",
    "remaining connection slots are reserved",
)
_CREATIONS = frozenset({"create-manager", "create-auditor", "create-user", "create-group"})


class Postgres:
    """The engine `postgres`, and Aurora PostgreSQL; see `Engine`."""

    def connect(self, database: Database, login: Login, name: str | None, limits: Limits = WORK) -> PostgresSession:
        """Open a session. Raises Refused if the database does not exist on the server."""
        return open_session(database, login, name, limits)

    def entry_database(self) -> str:
        """Return `postgres`, never a database whose owner may be a tenant of the server."""
        return ENTRY_DATABASE

    def proof_database(self, database: Database, user: DeclaredUser) -> str:
        """Return a database that `user` may connect to."""
        declared = sorted({grant.on for grant in user.grants} - {"*"})
        return declared[0] if declared else database.default_database or ENTRY_DATABASE

    def accounts(self, session: PostgresSession, database: Database) -> tuple[LoginAccount, ...]:
        """Return every role that can log in except the system's. RDS hides whether a role has a password."""
        iam = members(memberships(session), IAM_ROLE, frozenset({database.master_user, MANAGER}))
        rows = session.execute(f"{ROLES} WHERE rolcanlogin ORDER BY 1").fetchall()
        return tuple(
            LoginAccount(name, "", name in iam, False if name in iam else None, name in iam, createrole or superuser)
            for name, login, superuser, createrole, *_ in rows
            if not is_system(name, login)
        )

    def audit(self, session: PostgresSession, database: Database) -> ServerFacts:
        """Read how every role can log in."""
        return audit.audit(session, database)

    def layout(self, session: PostgresSession) -> Layout:
        """Read databases, schemas and owners of objects of the whole server, as fingerprints."""
        return layout(session)

    def existing_names(self, session: PostgresSession) -> frozenset[str]:
        """Return the names of all roles."""
        return frozenset(row[0] for row in session.execute(ROLES))

    def inspect(self, sessions: Sessions[PostgresSession], database: Database, desired: DesiredState) -> Snapshot:
        """Read roles, memberships and databases."""
        return inspection.inspect(sessions, database, desired)

    def irreplaceable(self, snapshot: Snapshot, desired: DesiredState) -> dict[str, Refusal]:
        """Return users whose predecessor doesn't exist, logs in by token, is managed, or is an administrator."""
        return replacement.irreplaceable(snapshot, desired)

    def difference(self, snapshot: Snapshot, desired: DesiredState) -> list[Statement]:
        """Return the statements that are missing: the manager, groups, users, memberships."""
        return difference(snapshot, desired)

    def first_statements(self, session: PostgresSession, users: Collection[str]) -> list[Statement]:  # noqa: ARG002
        """Return nothing: no session makes reading sessions wait, and locking waits for those of the user."""
        return []

    def lock_statements(
        self, session: PostgresSession, users: Collection[str], failures: Mapping[str, Exception] = NO_FAILURES
    ) -> list[Statement]:
        """Return the statements that are missing until these users are locked."""
        return disabling.lock_statements(session, users, failures)

    def stop_statements(self, session: PostgresSession, users: Collection[str]) -> list[Statement]:  # noqa: ARG002
        """Return nothing: a job that a user scheduled with pg_cron needs its login."""
        return []

    def end_session_statements(self, session: PostgresSession, users: Collection[str]) -> list[Statement]:
        """Return the statements that end the sessions of these users."""
        return disabling.end_session_statements(session, users)

    def unfinished_logins(self, session: PostgresSession, users: Collection[str]) -> frozenset[int]:  # noqa: ARG002
        """Return the connections that are logging in and may become sessions of these users."""
        return disabling.unfinished_logins(session)

    def end_login_statements(
        self,
        session: PostgresSession,  # noqa: ARG002
        user: str,
        connections: Collection[int],
    ) -> list[EndLogin]:
        """Return the statements that end these connections, if they are still logging in."""
        return disabling.end_login_statements(user, connections)

    def execute(self, session: PostgresSession, statement: Statement) -> None:
        """Run one statement that locks a user or ends its sessions."""
        disabling.execute(session, statement)

    def ownership(
        self, snapshot: Snapshot, statements: Sequence[Statement], desired: DesiredState
    ) -> dict[str, Ownership]:
        """Return all managed users and groups after the statements have run."""
        ownership = {name: ownership for name, ownership in desired.accounts.items() if name in snapshot.roles}
        for statement in statements:
            if statement.kind in _CREATIONS:
                ownership.setdefault(statement.target, "created")
            elif statement.kind in {"adopt-user", "adopt-group"}:
                ownership.setdefault(statement.target, "adopted")
        for user in desired.users:
            ownership.setdefault(user.name, "adopted")
        return ownership

    def databases(self, snapshot: Snapshot, desired: DesiredState) -> tuple[str, ...]:
        """Return the databases whose privileges are compared."""
        return database_privileges.databases(snapshot, desired)

    def converge_databases(
        self,
        sessions: Sessions[PostgresSession],
        snapshot: Snapshot,
        desired: DesiredState,
        names: Iterable[str],
        before_change: Callable[[], None] | None,
    ) -> Iterator[DatabaseResult]:
        """Compare the privileges in each database, and make the changes or plan them."""
        return database_privileges.converge(sessions, snapshot, desired, names, before_change)

    def granted(
        self, snapshot: Snapshot, desired: DesiredState, finished: Collection[str] = ()
    ) -> dict[str, tuple[Grant, ...]]:
        """Return the lists of privileges, and the levels on some schemas, that users have themselves."""
        return schemas.granted_after(desired, snapshot.databases, finished)

    def incomplete(self, snapshot: Snapshot) -> tuple[Unreached, ...]:
        """Return declared privileges that the server, or a role's attributes, keep from their users."""
        return snapshot.incomplete

    def inherited_ownership(self, snapshot: Snapshot, desired: DesiredState) -> dict[str, Ownership]:
        """Return users that have rds_iam and groups that can't log in, unless they have more rights."""
        groups = level_groups(snapshot.databases, desired.groups.prefix)
        users = {AUDITOR, *(user.name for user in desired.users), *desired.revoked}
        ownership: dict[str, Ownership] = {MANAGER: "created"}
        for name, role in snapshot.roles.items():
            iam = bool(snapshot.direct(IAM_ROLE, name))
            as_created = (name in users and iam) or (name in groups and not iam and not role.login)
            if as_created and not role.superuser and not role.createrole:
                ownership[name] = "adopted" if name in groups and desired.groups.adopt else "created"
        return ownership

    def marked_source(self, session: PostgresSession) -> str | None:
        """Return the resource id in the comment of the auditor."""
        return inspection.marked_source(session)

    def enabled_users(self, snapshot: Snapshot, desired: DesiredState) -> frozenset[str]:
        """Return the managed users that can log in."""
        return frozenset(name for name in managed_users(snapshot, desired) if snapshot.roles[name].login)

    def portion(self, statements: Sequence[Statement]) -> list[Statement]:
        """Return all: they are one transaction."""
        return list(statements)

    def apply(
        self,
        sessions: Sessions[PostgresSession],
        snapshot: Snapshot,
        statements: Sequence[Statement],
        desired: DesiredState,
    ) -> tuple[Denial, ...]:
        """Run the statements: roles first, then each database; each part is one transaction."""
        return execution.apply(sessions, snapshot, statements, desired)

    def prove_login(self, database: Database, login: Login, name: str | None) -> None:
        """Log in, and out again. The server checks the token first: its answers about the database prove the login."""
        try:
            self.connect(database, login, name).close()
        except Refused:  # there is no such database
            return
        except ConnectionFailed as error:
            if any(answer in str(error) for answer in _AFTER_LOGIN):
                return
            if name in (None, ENTRY_DATABASE):
                raise
            # An event trigger of the database may refuse logins, or hold them up.
            self.prove_login(database, login, ENTRY_DATABASE)

    def refuses_passwords(self, database: Database, user: str, name: str | None) -> bool:  # noqa: ARG002
        """Offer a random password in the token's place: RDS checks an IAM user's with PAM, which refuses it."""
        try:
            # In this database no event trigger of an owner runs.
            self.connect(database, Token(user, secrets.token_urlsafe(24)), ENTRY_DATABASE).close()
        except ConnectionFailed as error:
            return error.stage == "login" and "PAM authentication failed" in str(error)
        return False
