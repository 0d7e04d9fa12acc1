"""A user inside a database: its sessions are observed, its login is locked and restored, its successor is dropped."""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from rdsiam.access.rotation import CLONE
from rdsiam.aws.rds import Database
from rdsiam.core.changes import Authority, Change, MissingPart, Reason, Refusal, Unreached
from rdsiam.core.counts import agreed, counted
from rdsiam.engines.authorities import connect_as
from rdsiam.engines.migration import BackgroundWork, LoginState, Migrator, Observation
from rdsiam.engines.protocols import DesiredState, Engine, Sessions
from rdsiam.engines.registry import ENGINES, MIGRATORS
from rdsiam.engines.statements import Statement
from rdsiam.errors import Refused
from rdsiam.onboarding.dependencies import UserServices
from rdsiam.state.leases import Lease
from rdsiam.state.record import accounts_of

logger = logging.getLogger(__name__)

#: Maximum number of jobs that a refusal lists; a plan lists all.
_NAMED = 5


@dataclass(frozen=True)
class _Opened:
    """An inspected database, and the lease under which it was inspected, if the run makes changes.

    :ivar accounts: desired state without users, with the accounts that rdsiam manages.
    :ivar rotated: users whose passwords rdsiam rotates or has rotated.
    """

    database: Database
    engine: Engine
    migrator: Migrator
    sessions: Sessions
    accounts: DesiredState
    snapshot: Any
    lease: Lease | None
    rotated: Collection[str]

    def apply(self, statements: Sequence[Statement]) -> list[Change]:
        """Run the statements, and return them as changes.

        :raises Refused: the server denied one of them, without which a migration is not done.
        """
        assert self.lease is not None
        self.lease.check()
        needed = [replace(each, denied=_refusal(each.denied)) for each in statements]
        self.engine.apply(self.sessions, self.snapshot, needed, self.accounts)
        for statement in statements:
            logger.info(
                "%s on %s as %s: %s", statement.kind, self.database.arn, statement.authority, statement.statement
            )
        return list(statements)


class MigratingUser:
    """One user of one onboarded database, and its successor.

    :param successor: the user itself if it is changed in place.
    :param holder: the execution that holds the server's lease while it makes changes.
    """

    def __init__(self, services: UserServices, arn: str, user: str, successor: str, holder: str) -> None:
        self._services = services
        self._arn = arn
        self._user = user
        self._successor = successor
        self._holder = holder

    def login_state(self) -> LoginState:
        """Return how the user logs in."""
        with self._open(apply=False) as opened:
            return self._login_state(opened)

    def observe(self) -> Observation:
        """Observe the user's sessions. Changes nothing, and waits for no other execution."""
        database = self._services.databases.describe(self._arn)
        engine = ENGINES[database.family]
        session = engine.connect(database, self._services.logins.manager(database), engine.entry_database())
        try:
            return MIGRATORS[database.family].observe(session, self._user, self._successor)
        finally:
            session.close()

    def retire(self, before_change: Callable[[LoginState], None] | None) -> list[Change]:
        """Lock the user, and end its sessions.

        :param before_change: called with the user's login state; raises to prevent the change. None: change nothing,
            and return the changes that would be made.
        :raises Refused: the user has to keep its password.
        """
        with self._open(apply=before_change is not None) as opened:
            login_state = self._login_state(opened)
            if login_state.keep_reason:
                raise must_keep_password(login_state)
            if not login_state.exists:
                raise user_missing(self._user, opened.database.identifier)
            statements = opened.migrator.retire(opened.snapshot, self._user)
            if before_change is None:
                return list(statements)
            if stopping := [work.part for work in self._background_work(opened) if work.certain]:
                parts = "; ".join(f"{part.what}: {part.remedy}" for part in stopping[:_NAMED])
                raise Refused(
                    f"{counted(len(stopping), 'job or subscription', 'jobs or subscriptions')} "
                    f"{agreed(len(stopping), 'runs', 'run')} as {self._user} and would stop",
                    f"move them to {self._successor}, then run the migration again: {parts}",
                    "user-in-use",
                )
            before_change(login_state)
            return opened.apply(statements)

    def background_work(self) -> tuple[MissingPart, ...]:
        """Return the work that the retirement would stop, and how it moves to the successor."""
        with self._open(apply=False) as opened:
            return tuple(work.part for work in self._background_work(opened))

    def _background_work(self, opened: _Opened) -> tuple[BackgroundWork, ...]:
        database = opened.database

        def connect(name: str | None) -> Any:
            return opened.engine.connect(database, self._services.logins.manager(database), name)

        return opened.migrator.background_work(connect, opened.snapshot, self._user, self._successor)

    def restore(self, locked: Sequence[str], apply: bool) -> list[Change]:
        """Let the user log in by its password again; in place, take its tokens away.

        :param locked: host patterns of accounts that could not log in before the migration either.
        :raises Refused: the server has not kept the password.
        """
        with self._open(apply) as opened:
            if not opened.migrator.login_state(opened.snapshot, self._user).exists:
                raise user_missing(self._user, opened.database.identifier)
            if self._in_place:
                accounts = opened.accounts.accounts
                statements = opened.migrator.revert_in_place(opened.snapshot, self._user, accounts)
            else:
                statements = opened.migrator.restore(opened.snapshot, self._user, locked)
            if not apply:
                return list(statements)
            changes = opened.apply(statements)
            if self._in_place:
                self._release_ownership(opened, self._user)
            return changes

    def remove(self, apply: bool, confirmed: bool) -> list[Change]:
        """Drop the successor, and give the objects that it owns to the user.

        :param confirmed: drop it also if it is logged in.
        :raises Refused: rdsiam did not create it, or something would be lost with it.
        """
        with self._open(apply) as opened:
            if not opened.migrator.login_state(opened.snapshot, self._successor).exists:
                return []
            if opened.accounts.accounts.get(self._successor) != "created":
                raise Refused(
                    f"{self._successor} was not created by rdsiam, so it is not dropped",
                    "drop it yourself if nobody needs it",
                    "user-not-managed",
                )
            session = opened.sessions.read(opened.engine.entry_database())
            self._refuse_sessions(opened, session, confirmed)
            batches = opened.migrator.drop_successor(session, opened.snapshot, self._successor, self._user)
            if not apply:
                return [statement for batch in batches for statement in batch]
            changes = [change for batch in batches for change in opened.apply(batch)]
            self._release_ownership(opened, self._successor)
            return changes

    def blind_spots(self) -> str:
        """Return what observations of this engine's sessions don't show."""
        return MIGRATORS[self._services.databases.describe(self._arn).family].blind_spots

    def irreversible(self) -> str:
        """Return why a user that is changed in place can't get its password back; empty if it can."""
        return MIGRATORS[self._services.databases.describe(self._arn).family].irreversible

    @property
    def _in_place(self) -> bool:
        return self._successor == self._user

    def _refuse_sessions(self, opened: _Opened, session: Any, confirmed: bool) -> None:
        observation = opened.migrator.observe(session, self._successor, self._successor)
        number = sum(client.sessions for client in observation.clients)
        if number and not confirmed:
            raise Refused(
                f"{self._successor} has {counted(number, 'session')}",
                f"switch its applications back to {self._user} first, or undo with --confirm (`confirm`), which ends "
                "the sessions",
                "needs-confirmation",
            )

    def _login_state(self, opened: _Opened) -> LoginState:
        """Return how the user logs in; of alternating users neither can leave its password alone."""
        login_state = opened.migrator.login_state(opened.snapshot, self._user, self._successor)
        clone = self._user + CLONE
        of_clone = opened.migrator.login_state(opened.snapshot, clone)
        if login_state.keep_reason or self._user not in opened.rotated or not of_clone.login or of_clone.iam:
            return login_state
        reason = f"its clone {clone} logs in by password and has its rights: lock or drop {clone} first"
        return replace(login_state, keep_reason=reason)

    def _release_ownership(self, opened: _Opened, user: str) -> None:
        others = {name: ownership for name, ownership in opened.accounts.accounts.items() if name != user}
        self._services.inventory.release_ownership(opened.database, others)

    @contextmanager
    def _open(self, apply: bool) -> Iterator[_Opened]:
        """Inspect the database, under its lease if the run makes changes."""
        database = self._services.databases.describe(self._arn)
        leased = self._services.leases.hold(database, self._holder) if apply else nullcontext()
        with leased as lease, self._inspected(database, lease) as opened:
            yield opened

    @contextmanager
    def _inspected(self, database: Database, lease: Lease | None) -> Iterator[_Opened]:
        engine, logins = ENGINES[database.family], self._services.logins

        def connect(authority: Authority, name: str | None) -> Any:
            return connect_as(authority, engine, logins, database, name)

        sessions = Sessions(connect, reader="manager")
        try:
            snapshot = engine.inspect(sessions, database, DesiredState((), {}))
            record = self._services.inventory.get(self._arn)
            rotated = record.secrets if record else ()
            accounts = DesiredState((), accounts_of(database, record))
            yield _Opened(database, engine, MIGRATORS[database.family], sessions, accounts, snapshot, lease, rotated)
        finally:
            sessions.close()


def _refusal(denied: Unreached | Refusal | None) -> Refusal | None:
    if isinstance(denied, Unreached):
        return Refusal(f"{denied.what}: {denied.reason}", denied.remedy, "rights-missing")
    return denied


def must_keep_password(login_state: LoginState) -> Refused:
    """Return the refusal to migrate a user that has to keep its password."""
    return Refused(f"{login_state.keep_reason}: it keeps its password", code="keeps-password")


def no_migration(user: str, database: str) -> Reason:
    """Return why an undo changes nothing: no migration of the user is recorded, or it was undone already."""
    problem = f"there is no migration of {user} on {database}"
    return Reason(problem, "if the name is wrong, correct it: rdsiam migrate status lists all migrations")


def user_missing(user: str, database: str) -> Refused:
    """Return the refusal to migrate a user that does not exist."""
    return Refused(f"there is no user {user} on {database}", "correct the name", "user-missing")
