"""Removal of logins from one server: sessions end, the login is locked, sessions end again, and once more if needed.

A login that had begun when the user was locked may still succeed, as servers read early in a login whether the user is
locked. So a user is out only after the logins of that moment have ended, by themselves or because rdsiam ends them.

Nothing here waits for another run of rdsiam or, for more than two seconds, for a lock that a user holds. On a read
replica sessions end too; its users are locked when it replays that from its source.
"""

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.aws.rds import Database
from rdsiam.core import log_keys
from rdsiam.core.changes import FOLLOW_REASON, Authority, Change, Unreached, changes_from_json
from rdsiam.engines.authorities import connect_as
from rdsiam.engines.connection import NO_LOCKS, NO_SLOT
from rdsiam.engines.logins import MANAGER, Logins
from rdsiam.engines.protocols import Engine, Sessions
from rdsiam.engines.statements import EndLogin, QueryFailed, Statement, StatementFailed, end_sessions_first
from rdsiam.engines.time_limits import cut_off
from rdsiam.errors import ConnectionFailed, DatabaseNotReady, Refused

logger = logging.getLogger(__name__)

#: Seconds between two checks: servers end sessions in their own time, and a user may log in again.
_PAUSES = (0.05, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 1.6)
#: On a replica, until it has replayed that a user is locked.
_PAUSES_OF_REPLICAS = (*_PAUSES, 1.6, 1.6, 1.6)
#: Seconds for a login that had begun when its user was locked; then it is ended, perhaps that of another user.
_LONGEST_LOGIN = 1.0
#: Seconds after which a session ends: a server that hangs must not take the time of the others.
_LONGEST = 45
#: PostgreSQL's code if a lock is held, though the sessions that may hold it have ended.
_LOCK_NOT_AVAILABLE = "55P03"
#: MySQL's and MariaDB's code if the server takes no changes.
_READ_ONLY = "1290"
#: PostgreSQL's code if a right is missing.
_DENIED = "42501"
#: Code of MySQL's driver if the server does not answer in time.
_LOST = "2013"
_FAILURES = (ClientError, ConnectionFailed, DatabaseNotReady, QueryFailed, Refused, StatementFailed)


@dataclass(frozen=True)
class Removal:
    """The result of removing logins.

    :ivar changes: made, in order, or planned.
    :ivar unreached: the parts that were not done; empty if the users can't log in and have no session.
    """

    changes: tuple[Change, ...] = ()
    unreached: tuple[Unreached, ...] = ()

    def __add__(self, other: "Removal") -> "Removal":
        return Removal(self.changes + other.changes, self.unreached + other.unreached)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for a checkpoint."""
        return {
            "changes": [change.to_json() for change in self.changes],
            "unreached": [unreached.to_json() for unreached in self.unreached],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Removal":
        """Return the removal from which `to_json` made this JSON."""
        return cls(
            changes_from_json(data["changes"]),
            tuple(Unreached.from_json(unreached) for unreached in data["unreached"]),
        )


@dataclass
class _EarlierLogins:
    """The logins that had begun when their users were locked.

    :ivar connections: user → the connections that were logging in, by their numbers.
    :ivar noticed: user → the time at which they were noticed, by `time.monotonic`.
    :ivar harmless: connections that rdsiam has ended, or of which the server says that it has not read their user yet.
    :ivar users: the users with such a login at the last check.
    """

    connections: dict[str, frozenset[int]] = field(default_factory=dict)
    noticed: dict[str, float] = field(default_factory=dict)
    harmless: set[int] = field(default_factory=set)
    users: set[str] = field(default_factory=set)

    def notice(self, users: Collection[str], connections: frozenset[int]) -> None:
        """Take note of the logins in progress, when the users are locked."""
        for user in users:
            self.connections[user] = connections
            self.noticed[user] = time.monotonic()

    def left(self, user: str, connections: frozenset[int]) -> frozenset[int]:
        """Return which of these connections may still become sessions of a user."""
        return (self.connections[user] & connections) - self.harmless

    def forget(self, users: Collection[str]) -> None:
        """Forget the logins of users that somebody has unlocked again."""
        for user in users & self.connections.keys():
            del self.connections[user]

    def is_late(self, user: str) -> bool:
        """Tell whether these logins have had the time that they get."""
        return time.monotonic() - self.noticed[user] > _LONGEST_LOGIN


class Server:
    """One server from which logins are removed: the database that has the users, or a read replica of it.

    :param source: the database whose master secret opens this one: itself, unless it is a replica.
    :param replica: only sessions end; users can't be locked there.
    """

    def __init__(
        self, engine: Engine, logins: Logins, database: Database, source: Database, replica: bool = False
    ) -> None:
        self._engine = engine
        self._logins = logins
        self._database = database
        self._source = source
        self._replica = replica
        self._limits = ExitStack()
        self._late: list[Event] = []

    def remove(self, users: Collection[str], apply: bool, locked: bool = False) -> Removal:
        """Lock these users and end their sessions; on a replica only end their sessions.

        :param apply: make the changes; otherwise return them.
        :param locked: users were locked on the source of this replica; they may log in until it has replayed that.
        """
        with log_keys.about(database=self._database.arn):  # a run removes logins from several servers
            return self._remove_and_close(users, apply, locked)

    def _remove_and_close(self, users: Collection[str], apply: bool, locked: bool) -> Removal:
        changes: dict[str, Change] = {}
        sessions: Sessions | None = None
        try:
            sessions = self._open()
            unreached = self._remove(sessions, users, apply, locked, changes)
        except _FAILURES as error:
            unreached = [self._unreached(None, error)]
        finally:
            self._limits.close()
            if sessions is not None:
                sessions.close()
        if any(late.is_set() for late in self._late):
            unreached = [self._silent()]
        return Removal(tuple(changes.values()), tuple(unreached))

    def _open(self) -> Sessions:
        """Open the first session, as the manager; as the master if the server doesn't let the manager in."""
        sessions = Sessions(self._connect, "manager")
        try:
            sessions.read(None)
        except ConnectionFailed as error:
            if error.stage != "login":
                raise
            logger.warning("%s can't log in to %s, so the master does: %s", MANAGER, self._database.arn, error)
            sessions = Sessions(self._connect, "master")
            sessions.read(None)
        return sessions

    def _connect(self, authority: Authority, name: str | None) -> Any:
        session = connect_as(authority, self._engine, self._logins, self._database, name, self._source)
        self._late.append(self._limits.enter_context(cut_off(session, _LONGEST)))
        return session

    def _remove(
        self, sessions: Sessions, users: Collection[str], apply: bool, locked: bool, changes: dict[str, Change]
    ) -> list[Unreached]:
        pauses = iter(_PAUSES_OF_REPLICAS if locked else _PAUSES)
        failures: dict[str, Exception] = {}
        earlier = _EarlierLogins()
        if apply and not self._replica:
            first = self._as_reader(sessions, self._engine.first_statements(sessions.read(None), users))
            failures = self._execute(sessions, first, earlier, changes)
            for error in failures.values():
                if isinstance(error, StatementFailed) and error.kind == "lost":
                    raise error
        while True:
            # Read before the sessions, so that no login becomes a session in between.
            logins = self._engine.unfinished_logins(sessions.read(None), users) if earlier.connections else frozenset()
            statements, unlocked, remaining = self._check(sessions, users, apply, locked, failures)
            if not apply:
                changes |= {each.statement: self._change(each) for each in statements}
                return []
            earlier.forget(unlocked)
            statements += self._end_earlier_logins(sessions, set(users) - unlocked, logins, earlier, remaining)
            if not remaining:
                return []
            failures = self._execute(sessions, end_sessions_first(statements), earlier, changes)
            pause = next(pauses, None)
            if pause is None:
                return [self._unreached(user, failures.get(user), user in earlier.users) for user in sorted(remaining)]
            time.sleep(pause)

    def _execute(
        self,
        sessions: Sessions,
        statements: Iterable[Statement],
        earlier: _EarlierLogins,
        changes: dict[str, Change],
    ) -> dict[str, Exception]:
        """Run statements, and return the first error of each user."""
        failures: dict[str, Exception] = {}
        for statement in statements:
            try:
                self._engine.execute(sessions.get(statement.authority, None), statement)
            except _FAILURES as error:
                if isinstance(statement, EndLogin) and getattr(error, "server_code", None) == _DENIED:
                    earlier.harmless.add(statement.connection)
                else:
                    failures.setdefault(statement.target, error)
            else:
                if isinstance(statement, EndLogin) and statement.final:
                    earlier.harmless.add(statement.connection)
                if statement.statement not in changes:
                    changes[statement.statement] = self._change(statement)
                    named = (statement.kind, self._database.arn, statement.authority)
                    logger.info("%s on %s as %s", *named, extra={"user": statement.target})
        return failures

    def _end_earlier_logins(
        self,
        sessions: Sessions,
        users: Collection[str],
        logins: frozenset[int],
        earlier: _EarlierLogins,
        remaining: set[str],
    ) -> list[Statement]:
        """Return the statements that end logins which had begun when these users were locked, if they take too long.

        :param users: users that can no longer begin to log in.
        :param logins: the logins in progress, read after the last check found these users locked.
        :param remaining: the users that are not removed yet, which this method adds to: those with such a login, and
            those that were not known to be locked when `logins` was read.
        """
        session = sessions.read(None)
        statements: list[Statement] = []
        left = {user: found for user in sorted(earlier.connections) if (found := earlier.left(user, logins))}
        earlier.users = set(left)
        remaining |= earlier.users
        for user, connections in left.items():
            if earlier.is_late(user):
                statements += self._engine.end_login_statements(session, user, connections)
        unnoticed = set(users) - earlier.connections.keys()
        if unnoticed:
            earlier.notice(unnoticed, self._engine.unfinished_logins(session, unnoticed))
            remaining |= unnoticed
        return self._as_reader(sessions, statements)

    def _check(
        self,
        sessions: Sessions,
        users: Collection[str],
        apply: bool,
        locked: bool,
        failures: Mapping[str, Exception],
    ) -> tuple[list[Statement], set[str], set[str]]:
        """Return the statements that are still needed, the users that can log in, and those not removed yet."""
        session = sessions.read(None)
        if self._replica:
            statements = self._engine.end_session_statements(session, users)
        else:
            statements = self._engine.lock_statements(session, users, failures)
            # The login is locked first, since reading the rest may fail.
            locked_users = set(users) - ({each.target for each in statements} if apply else set())
            if locked_users:
                statements += self._engine.stop_statements(session, locked_users)
        statements = self._as_reader(sessions, statements)
        remaining = {each.target for each in statements}
        unlocked = {each.target for each in statements if each.kind == "disable-user"}
        if locked:
            waiting = self._engine.lock_statements(session, users)
            unlocked = {each.target for each in waiting if each.kind == "disable-user"}
        return statements, unlocked, remaining | unlocked

    def _as_reader(self, sessions: Sessions, statements: list[Statement]) -> list[Statement]:
        """Return the statements as the master's if the manager can't log in."""
        if sessions.reader != "master":
            return statements
        return [replace(each, authority="master") for each in statements]

    def _change(self, statement: Statement) -> Change:
        target = f"{statement.target} on {self._database.identifier}" if self._replica else statement.target
        return replace(statement, target=target)

    def _silent(self) -> Unreached:
        reason = f"it did not answer until {_LONGEST} s had passed"
        return Unreached(
            self._database.arn,
            reason,
            "check its health; if nothing else helps, reboot it, which ends all connections; rdsiam tries again",
        )

    def _unreached(self, user: str | None, error: Exception | None, logs_in: bool = False) -> Unreached:
        what = self._database.arn if user is None else f"{user} on {self._database.arn}"
        if isinstance(error, Refused):
            return Unreached(what, error.problem, error.remedy or FOLLOW_REASON, retry=False)
        if isinstance(error, StatementFailed) and error.server_code == _DENIED and error.statement.denied:
            remedy = f"{error.statement.denied.remedy}; rdsiam tries again"
            return Unreached(what, str(error), remedy)
        if isinstance(error, StatementFailed) and error.server_code == _LOCK_NOT_AVAILABLE:
            remedy = (
                "check pg_prepared_xacts: the owner of a transaction there can roll it back; if there is none, reboot "
                "the database"
            )
            return Unreached(what, str(error), f"{remedy}; rdsiam tries again")
        if isinstance(error, ConnectionFailed) and error.server_code in NO_SLOT:
            remedy = (
                "end idle sessions; on MySQL and MariaDB increase max_connections in the parameter group (RDS's "
                "default one can't be changed); if nothing else helps, reboot it, which ends all sessions; rdsiam "
                "tries again"
            )
            return Unreached(what, f"all connections are taken: {error}", remedy)
        if isinstance(error, ConnectionFailed) and error.server_code == NO_LOCKS:
            remedy = "reboot it, which ends the sessions that hold them; rdsiam tries again"
            return Unreached(what, f"all locks of the server are taken: {error}", remedy)
        if isinstance(error, ConnectionFailed) and "init_connect" in str(error):
            remedy = f"grant {MANAGER} what the statement in init_connect needs, or empty that parameter"
            return Unreached(what, str(error), f"{remedy}; rdsiam tries again")
        lost = isinstance(error, QueryFailed | StatementFailed) and error.server_code == _LOST
        if lost and "information_schema.PROCESSLIST" in str(error):
            remedy = (
                "end the connections that performance_schema.processlist has as 'Change user'; if performance_schema "
                "is off, reboot the database, and switch it on"
            )
            return Unreached(what, str(error), f"{remedy}; rdsiam tries again")
        if isinstance(error, QueryFailed | StatementFailed) and error.server_code == _READ_ONLY:
            remedy = "if it is no replica, set read_only to 0, or to its default, in the parameter group"
            return Unreached(what, str(error), f"{remedy}; rdsiam tries again")
        if isinstance(error, QueryFailed | StatementFailed):  # so the server can be reached
            return Unreached(what, str(error), "resolve what the server says; rdsiam tries again")
        if error is not None:
            return Unreached(what, str(error), "check that it is available and can be reached; rdsiam tries again")
        if logs_in:
            return Unreached(
                what,
                "a login that began before the user was locked has not ended",
                "end the connections that are logging in, or reboot it; rdsiam tries again",
            )
        if self._replica:
            return Unreached(
                what,
                "this replica has not replayed yet that the user is locked",
                "check its replication lag; rdsiam tries again",
            )
        return Unreached(
            what, "the user opens sessions as fast as they end", "find the client that logs in; rdsiam tries again"
        )
