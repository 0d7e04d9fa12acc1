"""The protocol between onboarding, the audit and a database: all SQL of an engine lives behind it.

Protocols of engines are generic in the driver's session and in the engine's snapshot. Callers that serve every engine
leave both out.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, Protocol

from typing_extensions import TypeVar

from rdsiam.access.groups import NO_GROUPS, Groups
from rdsiam.access.users import DeclaredUser, Grant
from rdsiam.aws.rds import Database
from rdsiam.core.changes import Authority, Refusal, Unreached
from rdsiam.engines.connection import WORK, Limits
from rdsiam.engines.facts import ServerFacts
from rdsiam.engines.logins import Login
from rdsiam.engines.statements import Denial, EndLogin, Statement
from rdsiam.state.escalations import Examined
from rdsiam.state.layout import Layout
from rdsiam.state.record import Ownership

#: Prefix of the resource id in the comment of the auditor's role or procedure.
MARK = "rdsiam: "


def marked(comment: object) -> str | None:
    """Return the resource id in a comment of the auditor's role or procedure; None if it has none."""
    return comment.removeprefix(MARK) if isinstance(comment, str) and comment.startswith(MARK) else None


#: Maximum number of sessions that a run has at once on one server.
MOST_SESSIONS = max(3, int(os.environ.get("RDSIAM_DATABASE_SESSIONS", "4")))
#: No grant was made to a user itself.
NO_GRANTS: Mapping[str, tuple[Grant, ...]] = MappingProxyType({})
#: No statement has failed before.
NO_FAILURES: Mapping[str, Exception] = MappingProxyType({})


@dataclass(frozen=True)
class LoginAccount:
    """An account that can log in, as the catalogs show it.

    :ivar host: the host pattern on MySQL and MariaDB; empty on PostgreSQL.
    :ivar iam: the account logs in by token.
    :ivar password: the account may log in by password; None if the catalogs don't tell.
    :ivar tls: the account can't log in without TLS.
    """

    name: str
    host: str
    iam: bool
    password: bool | None
    tls: bool
    administrator: bool


@dataclass(frozen=True)
class DesiredState:
    """The state that onboarding brings a database to.

    :ivar users: the effective users.
    :ivar accounts: the managed accounts, from the inventory: onboarding changes no others.
    :ivar revoked: users that are missing in `users` because an operator revoked them.
    :ivar resource_id: the database's, with which onboarding marks the server; empty to leave the mark as it is.
    :ivar granted: user → grants that rdsiam has made to the user itself, from the inventory: it revokes no others.
    """

    users: tuple[DeclaredUser, ...]
    accounts: Mapping[str, Ownership]
    revoked: frozenset[str] = frozenset()
    resource_id: str = ""
    granted: Mapping[str, tuple[Grant, ...]] = field(default_factory=lambda: NO_GRANTS)

    @property
    def groups(self) -> Groups:
        """The declaration about the groups of a PostgreSQL server, in which all users agree."""
        return self.users[0].groups if self.users else NO_GROUPS

    @property
    def mark(self) -> str:
        """The comment of the auditor's objects, which tells on a copy of the server what it was copied from."""
        return f"{MARK}{self.resource_id}" if self.resource_id else ""


class Session(Protocol):
    """A session of a database driver."""

    def close(self) -> None:
        """Close the session."""


#: A driver's session and an engine's snapshot; Any for callers that serve every engine.
SessionT = TypeVar("SessionT", bound=Session, default=Any)
SnapshotT = TypeVar("SnapshotT", default=Any)


class Sessions(Generic[SessionT]):
    """Connections to one server, opened when needed and closed together.

    Beyond the maximum the session that was used least recently is closed, and opened again when it is needed.

    :param most: maximum number of sessions that are open at once.
    """

    def __init__(
        self, connect: Callable[[Authority, str | None], SessionT], reader: Authority, most: int = MOST_SESSIONS
    ) -> None:
        self._connect = connect
        self._most = most
        self._open: dict[tuple[Authority, str | None], SessionT] = {}
        #: The authority that reads the catalogs: the manager, or the master if there is no manager yet.
        self.reader = reader
        #: Whether a session as master was opened.
        self.used_master = False

    def get(self, authority: Authority, name: str | None) -> SessionT:
        """Return the session of `authority` in the database `name`."""
        key = (authority, name)
        session = self._open.pop(key, None)
        if session is None:
            session = self._connected(authority, name)
        self._open[key] = session  # as the one used most recently
        return session

    def read(self, name: str | None) -> SessionT:
        """Return a session for reading catalogs."""
        return self.get(self.reader, name)

    def another(self, authority: Authority, name: str | None) -> SessionT:
        """Open another session; the caller closes it."""
        return self._connected(authority, name)

    def leave(self, name: str | None) -> None:
        """Close the sessions in a database, which nobody can drop or rename while there are any."""
        for key in [key for key in self._open if key[1] == name]:
            self._open.pop(key).close()

    def close(self) -> None:
        """Close all sessions."""
        for session in self._open.values():
            session.close()
        self._open.clear()

    def _connected(self, authority: Authority, name: str | None) -> SessionT:
        while len(self._open) >= self._most:
            self._open.pop(next(iter(self._open))).close()
        self.used_master |= authority == "master"
        return self._connect(authority, name)


@dataclass(frozen=True)
class DatabaseResult:
    """The privileges in one PostgreSQL database, compared with the declaration, and changed if that was asked for.

    :ivar statements: made, or planned.
    :ivar missing: the parts that were not done.
    :ivar examined: what was found in the database; None if it was not read.
    :ivar finished: no privilege is left that is no longer declared.
    """

    name: str
    statements: tuple[Statement, ...] = ()
    missing: tuple[Unreached, ...] = ()
    examined: Examined | None = None
    finished: bool = False


class Engine(Protocol[SessionT, SnapshotT]):
    """The SQL of one family of engines. Instances hold no state."""

    def connect(self, database: Database, login: Login, name: str | None, limits: Limits = WORK) -> SessionT:
        """Open a session. Raises ConnectionFailed."""

    def entry_database(self) -> str | None:
        """Return the database to connect to first, which no tenant of the server owns."""

    def proof_database(self, database: Database, user: DeclaredUser) -> str | None:
        """Return a database that `user` may connect to, in which its login is proved."""

    def accounts(self, session: SessionT, database: Database) -> tuple[LoginAccount, ...]:
        """Return every account that can log in except the system's, sorted."""

    def audit(self, session: SessionT, database: Database) -> ServerFacts:
        """Read how every account can log in, as the auditor, in at most three queries.

        :raises QueryFailed: the server's answer.
        """

    def layout(self, session: SessionT) -> Layout:
        """Read which databases and schemas the server has, and which roles own objects there, as fingerprints."""

    def existing_names(self, session: SessionT) -> frozenset[str]:
        """Return the names of all accounts and roles that exist."""

    def inspect(self, sessions: Sessions[SessionT], database: Database, desired: DesiredState) -> SnapshotT:
        """Read all that `difference` needs. Changes nothing."""

    def irreplaceable(self, snapshot: SnapshotT, desired: DesiredState) -> dict[str, Refusal]:
        """Return the declared users that don't exist yet and replace a user that can't be replaced, with the reason."""

    def difference(self, snapshot: SnapshotT, desired: DesiredState) -> list[Statement]:
        """Return the statements that bring the database to the desired state, in order; none if it is there.

        Managed users that are no longer desired are disabled and their sessions ended; no user is dropped.

        :raises Refused: an account that rdsiam doesn't manage is in the way, or a user would be locked out.
        """

    def first_statements(self, session: SessionT, users: Collection[str]) -> list[Statement]:
        """Return the statements that lock these users before sessions are read, where a session can make that wait.

        :raises QueryFailed: the catalogs could not be read.
        """

    def lock_statements(
        self, session: SessionT, users: Collection[str], failures: Mapping[str, Exception] = NO_FAILURES
    ) -> list[Statement]:
        """Return the statements that lock these users and end their sessions; none if that is done.

        Waits for no other run, changes nothing, and reads nothing that a user can make slow to read.

        :param failures: user → the error of its statements at the last attempt.

        :raises QueryFailed: the catalogs could not be read.
        """

    def stop_statements(self, session: SessionT, users: Collection[str]) -> list[Statement]:
        """Return the statements that stop what runs in the name of these users without a login; none if that is done.

        :raises QueryFailed: the catalogs could not be read.
        """

    def end_session_statements(self, session: SessionT, users: Collection[str]) -> list[Statement]:
        """Return the statements that end all sessions of these users, on a replica too.

        :raises QueryFailed: the catalogs could not be read.
        """

    def unfinished_logins(self, session: SessionT, users: Collection[str]) -> frozenset[int]:
        """Return the connections, by their numbers, that are logging in and may become sessions of these users.

        A server reads early in a login whether the user is locked. So a login that began before can still succeed, and
        on some servers it shows no user until then.

        :raises QueryFailed: the catalogs could not be read.
        """

    def end_login_statements(self, session: SessionT, user: str, connections: Collection[int]) -> Sequence[EndLogin]:
        """Return the statements that end these connections, if they are still logging in.

        :param user: the user that they may be of.
        :raises QueryFailed: the catalogs could not be read.
        """

    def execute(self, session: SessionT, statement: Statement) -> None:
        """Run one statement of `first_statements`, `lock_statements`, `stop_statements`, `end_session_statements` or
        `end_login_statements`.

        Waits at most two seconds for a lock that another session holds.

        :raises StatementFailed: the database's answer.
        """

    def ownership(
        self, snapshot: SnapshotT, statements: Sequence[Statement], desired: DesiredState
    ) -> dict[str, Ownership]:
        """Return all managed accounts after the statements have run; accounts that no longer exist are left out."""

    def databases(self, snapshot: SnapshotT, desired: DesiredState) -> tuple[str, ...]:
        """Return the databases whose privileges are compared one by one, sorted; none if `difference` has them all."""

    def converge_databases(
        self,
        sessions: Sessions[SessionT],
        snapshot: SnapshotT,
        desired: DesiredState,
        names: Iterable[str],
        before_change: Callable[[], None] | None,
    ) -> Iterator[DatabaseResult]:
        """Compare the privileges in each of these databases, and make the changes or plan them.

        A database that can't be done is named, and delays no other. `difference` must have been applied before.

        :param before_change: called before the changes in each database, to prevent them by raising; None for a plan.
        :raises ConnectionFailed: the server can't be reached.
        """

    def granted(
        self, snapshot: SnapshotT, desired: DesiredState, finished: Collection[str] = ()
    ) -> dict[str, tuple[Grant, ...]]:
        """Return user → grants that rdsiam has made to the user itself, as far as it needs a record to revoke them.

        :param finished: databases in which all that is no longer declared has been revoked.
        """

    def incomplete(self, snapshot: SnapshotT) -> tuple[Unreached, ...]:
        """Return the parts of the declaration that no statement can bring about."""

    def inherited_ownership(self, snapshot: SnapshotT, desired: DesiredState) -> dict[str, Ownership]:
        """Return the accounts that rdsiam may take over on a copy in which the manager logs in by token.

        The manager, the auditor, groups, and declared users, each only if it is as rdsiam creates it.
        """

    def marked_source(self, session: SessionT) -> str | None:
        """Return the resource id that the server is marked with; None if it has no mark.

        A copy has its source's until onboarding marks it with its own.
        """

    def enabled_users(self, snapshot: SnapshotT, desired: DesiredState) -> frozenset[str]:
        """Return the managed users that can log in, without the service's own."""

    def portion(self, statements: Sequence[Statement]) -> list[Statement]:
        """Return the statements that one step of a run makes, in their order; the next step makes the rest."""

    def apply(
        self,
        sessions: Sessions[SessionT],
        snapshot: SnapshotT,
        statements: Sequence[Statement],
        desired: DesiredState,
    ) -> tuple[Denial, ...]:
        """Run the statements.

        :return: the statements that the server denied, and that the rest can do without.
        :raises Refused: a user would be locked out, or nothing can be done without a statement that the server denied;
            the transaction is rolled back.
        """

    def prove_login(self, database: Database, login: Login, name: str | None) -> None:
        """Log in by token. Raises ConnectionFailed if the server doesn't accept the token."""

    def refuses_passwords(self, database: Database, user: str, name: str | None) -> bool:
        """Offer a random password as `user` and return whether it was refused as RDS refuses IAM users' passwords."""
