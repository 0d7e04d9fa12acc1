"""Statements of SQL, and how they fail: in the server's words, or because the server denies them."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from rdsiam.core.changes import Authority, Change, Refusal, Unreached
from rdsiam.errors import RdsiamError

T = TypeVar("T")
#: In the order in which their statements run.
AUTHORITIES: tuple[Authority, ...] = ("master", "manager")
#: Maximum length of a statement in a reason: one statement may name a hundred objects.
_LONGEST_STATEMENT = 300
#: Seconds before each further attempt of a transaction that failed because another session was faster.
_CONFLICT_PAUSES = (0.1, 0.5, 2.0)


@dataclass(frozen=True)
class Statement(Change):
    """A change made by SQL.

    :ivar database: the database in which the statement runs; None if any session of the server will do.
    :ivar denied: the result if the server denies the statement: a part that is named as not done, while the rest is
        done; or the refusal of the run. None if the run fails.
    :ivar doubtful: the server is likely to deny the statement, as far as its catalogs tell.
    :ivar passed_on: the part that is named as not done if others have their rights from the one that loses its own.
    """

    authority: Authority = "manager"
    database: str | None = None
    denied: Unreached | Refusal | None = None
    doubtful: bool = False
    passed_on: Unreached | None = None


@dataclass(frozen=True)
class EndLogin(Statement):
    """A statement that ends a connection that is logging in.

    :ivar connection: its number.
    :ivar final: once the statement has run, the connection can't become a session, even if the server still lists it.
    """

    connection: int = 0
    final: bool = False


@dataclass(frozen=True)
class Denial:
    """A statement that the server denied.

    :ivar part: the part that was not done, with the server's answer.
    """

    statement: Statement
    part: Unreached


def not_tried(statement: Statement, part: str) -> Denial:
    """Return a statement as one that was not tried, since those before it took all the time that there is.

    :param part: the part that it would have changed.
    """
    reason = "not tried, since the server was slow with the statements before"
    return Denial(statement, Unreached(part, reason, "end what slows the server down; rdsiam tries again"))


def end_sessions_first(statements: Iterable[Statement]) -> Iterator[Statement]:
    """Yield the statements; before a user is locked, end its sessions, which may hold what locking waits for.

    They end again afterwards, since new sessions may have been opened in between.
    """
    listed = list(statements)
    ending = {statement.target: statement for statement in listed if statement.kind == "end-sessions"}
    ended: set[str] = set()
    for statement in listed:
        user = statement.target
        if statement.kind == "disable-user" and user in ending and user not in ended:
            ended.add(user)
            yield ending[user]
        yield statement


#: How a statement failed: the connection is lost; another session was faster; another session holds a lock; something
#: else that may pass by itself; or something that stays until somebody resolves it.
FailureKind = Literal["lost", "conflict", "locked", "passing", "lasting"]


class StatementFailed(RdsiamError):
    """A statement failed in the database. The message has the statement and the server's answer; neither is secret.

    :ivar context: the functions in which it failed, in the server's words; empty if it failed itself.
    """

    code = "statement-failed"

    def __init__(
        self,
        database: str,
        statement: Statement,
        server_code: str,
        answer: str,
        kind: FailureKind = "lasting",
        context: str = "",
    ) -> None:
        super().__init__(f"{database}: {statement.statement!r} as {statement.authority} failed: {server_code} {answer}")
        self.database = database
        self.statement = statement
        self.server_code = server_code
        self.kind = kind
        self.context = context
        self._answer = answer

    @property
    def reason(self) -> str:
        """The statement, shortened, and the server's answer."""
        text = self.statement.statement
        shown = text if len(text) <= _LONGEST_STATEMENT else f"{text[:_LONGEST_STATEMENT]} …"
        return " ".join(f"{shown} failed: {self.server_code} {self._answer}".split())


def repeat_on_conflict(work: Callable[[], T]) -> T:
    """Run a transaction; again if it failed because another session was faster.

    :raises StatementFailed: it failed otherwise, or too often.
    """
    for pause in _CONFLICT_PAUSES:
        try:
            return work()
        except StatementFailed as failed:
            if failed.kind != "conflict":
                raise
            time.sleep(pause)
    return work()


class QueryFailed(RdsiamError):
    """The catalogs could not be read. The message is the server's answer, in one line."""

    code = "query-failed"

    def __init__(self, server_code: str | None, answer: str) -> None:
        super().__init__(" ".join(f"{server_code or ''} {answer}".split()))
        self.server_code = server_code
