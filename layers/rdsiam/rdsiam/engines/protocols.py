"""What onboarding asks of a database, whatever its engine: all SQL lives behind this protocol."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from rdsiam.access.users import DeclaredUser
from rdsiam.aws.rds import Database
from rdsiam.core.changes import Authority, Change
from rdsiam.engines.connection import WORK, Limits
from rdsiam.engines.facts import ServerFacts
from rdsiam.engines.logins import Login
from rdsiam.errors import RdsiamError
from rdsiam.state.escalations import Examined
from rdsiam.state.inventory import Ownership

__all__ = [
    "MARK",
    "NO_FAILURES",
    "Account",
    "Authority",
    "DesiredState",
    "Engine",
    "QueryFailed",
    "Sessions",
    "Statement",
    "StatementFailed",
    "end_sessions_first",
    "marked",
]

#: Before the resource id, in the comment of the auditor's role or procedure.
MARK = "rdsiam: "


def marked(comment: object) -> str | None:
    """Return the resource id that a comment of the auditor's role or procedure holds; None if it holds none."""
    return comment.removeprefix(MARK) if isinstance(comment, str) and comment.startswith(MARK) else None


#: No statement has failed before.
NO_FAILURES: Mapping[str, Exception] = MappingProxyType({})


@dataclass(frozen=True)
class Statement(Change):
    """A change made by SQL.

    :ivar database: where it has to be run; None where any session of the server does.
    """

    authority: Authority = "manager"
    database: str | None = None


@dataclass(frozen=True)
class Account:
    """A login as the catalogs show it.

    :ivar host: the host pattern on MySQL and MariaDB; empty on PostgreSQL.
    :ivar iam: logs in by token.
    :ivar password: may log in by password; None where the catalogs don't tell.
    :ivar tls: can't log in without TLS.
    """

    name: str
    host: str
    iam: bool
    password: bool | None
    tls: bool
    administrator: bool


@dataclass(frozen=True)
class DesiredState:
    """What a database shall become.

    :ivar accounts: the accounts that are ours already, from the inventory: nothing else is ever touched.
    :ivar revoked: users that are not among `users` because somebody has said so.
    :ivar resource_id: of the database, which it is marked with; empty to leave the mark as it is.
    """

    users: tuple[DeclaredUser, ...]
    accounts: Mapping[str, Ownership]
    revoked: frozenset[str] = frozenset()
    resource_id: str = ""

    @property
    def mark(self) -> str:
        """What the auditor's objects carry as a comment, so that a copy of the server tells what it was copied from."""
        return f"{MARK}{self.resource_id}" if self.resource_id else ""


class Sessions:
    """Connections to one server, opened when first asked for and closed together."""

    def __init__(self, connect: Callable[[Authority, str | None], Any], reader: Authority) -> None:
        self._connect = connect
        self._open: dict[tuple[Authority, str | None], Any] = {}
        #: Who reads the catalogs: the manager, or the master where there is no manager yet.
        self.reader = reader

    def get(self, authority: Authority, name: str | None) -> Any:
        """Return the session of `authority` in the database `name`."""
        key = (authority, name)
        if key not in self._open:
            self._open[key] = self._connect(*key)
        return self._open[key]

    def read(self, name: str | None) -> Any:
        """Return a session for reading catalogs."""
        return self.get(self.reader, name)

    def another(self, authority: Authority, name: str | None) -> Any:
        """Open one more session beside the others; the caller closes it."""
        return self._connect(authority, name)

    @property
    def used_master(self) -> bool:
        """Whether a session as master was opened."""
        return any(authority == "master" for authority, _ in self._open)

    def close(self) -> None:
        """Close all of them."""
        for session in self._open.values():
            session.close()
        self._open.clear()


class Engine(Protocol):
    """The SQL of one family of engines. Instances hold no state."""

    def connect(self, database: Database, login: Login, name: str | None, limits: Limits = WORK) -> Any:
        """Open a session. Raises ConnectionFailed."""

    def entry_database(self) -> str | None:
        """Return the database to connect to first: one that no tenant of the server owns."""

    def proof_database(self, database: Database, user: DeclaredUser) -> str | None:
        """Return the database in which the login of `user` is proved: one that it may connect to."""

    def accounts(self, session: Any, database: Database) -> tuple[Account, ...]:
        """Return every login but the system's, sorted."""

    def audit(self, session: Any, database: Database) -> ServerFacts:
        """Read how every account can log in, as the auditor, in at most three queries.

        :raises QueryFailed: the server did not let it.
        """

    def existing_names(self, session: Any) -> frozenset[str]:
        """Return the names of all accounts and roles that exist."""

    def inspect(self, sessions: Sessions, database: Database, desired: DesiredState) -> Any:
        """Read all that the difference needs. Changes nothing."""

    def difference(self, snapshot: Any, desired: DesiredState) -> list[Statement]:
        """Return the statements that make the database what is wanted, in order; none where it is.

        Users of ours that are wanted no longer are disabled and their sessions ended; nobody is dropped.

        :raises Refused: an account of somebody else stands in the way, or somebody would be locked out.
        """

    def lock_statements(
        self, session: Any, users: Collection[str], failures: Mapping[str, Exception] = NO_FAILURES
    ) -> list[Statement]:
        """Return the statements that lock these users and end their sessions; none if that is done.

        Waits for no other run and changes nothing, and reads nothing that a user can make slow to read.

        :param failures: user → what its statements failed with the last time.

        :raises QueryFailed: the catalogs could not be read.
        """

    def stop_statements(self, session: Any, users: Collection[str]) -> list[Statement]:
        """Return the statements that stop what runs in the name of these users without a login; none if that is done.

        :raises QueryFailed: the catalogs could not be read.
        """

    def end_session_statements(self, session: Any, users: Collection[str]) -> list[Statement]:
        """Return the statements that end the sessions of those of these users who have any, on a replica too.

        :raises QueryFailed: the catalogs could not be read.
        """

    def execute(self, session: Any, statement: Statement) -> None:
        """Run one statement of `lock_statements`, `stop_statements` or `end_session_statements`.

        It waits at most two seconds for a lock that another session holds.

        :raises StatementFailed: the database's answer.
        """

    def ownership(self, snapshot: Any, statements: Sequence[Statement], desired: DesiredState) -> dict[str, Ownership]:
        """Return all accounts that are ours once the statements have run; those that are gone are ours no more."""

    def inherited_ownership(self, snapshot: Any, desired: DesiredState) -> dict[str, Ownership]:
        """Return what can be taken over of a copy in which the manager logs in by token.

        The manager, the auditor, groups, and declared users, each only if it is as rdsiam makes it.
        """

    def marked_source(self, session: Any) -> str | None:
        """Return the resource id that the server is marked with; None if it has no mark.

        On a copy it is that of its source until onboarding marks it with its own.
        """

    def examined(self, snapshot: Any) -> Examined | None:
        """Return which users can act as administrators once the difference is applied; None if that can't be seen."""

    def enabled_users(self, snapshot: Any, desired: DesiredState) -> frozenset[str]:
        """Return the users of ours that can log in, without the service's own."""

    def apply(self, sessions: Sessions, snapshot: Any, statements: Sequence[Statement], desired: DesiredState) -> None:
        """Run the statements.

        :raises Refused: somebody would be locked out; nothing of the transaction remains.
        """

    def refuses_passwords(self, database: Database, user: str, name: str | None) -> bool:
        """Offer a random password as `user` and return whether it was refused as RDS refuses IAM users' passwords."""


def end_sessions_first(statements: Iterable[Statement]) -> Iterator[Statement]:
    """Yield the statements, and before a user is locked what ends its sessions, which may hold what locking waits for.

    They end again afterwards: some may have been opened in between.
    """
    listed = list(statements)
    end_session_statements = {each.target: each for each in listed if each.kind == "end-sessions"}
    ended: set[str] = set()
    for each in listed:
        if each.kind == "disable-user" and each.target in end_session_statements and each.target not in ended:
            ended.add(each.target)
            yield end_session_statements[each.target]
        yield each


class StatementFailed(RdsiamError):
    """A statement failed in the database. The message has the statement and the server's answer, neither is secret."""

    code = "statement-failed"

    def __init__(self, database: str, statement: Statement, server_code: str, answer: str) -> None:
        super().__init__(f"{database}: {statement.statement!r} as {statement.authority} failed: {server_code} {answer}")
        self.statement = statement
        self.server_code = server_code


class QueryFailed(RdsiamError):
    """The catalogs could not be read. The message is the server's answer, in one line."""

    code = "query-failed"

    def __init__(self, server_code: str | None, answer: str) -> None:
        super().__init__(" ".join(f"{server_code or ''} {answer}".split()))
        self.server_code = server_code
