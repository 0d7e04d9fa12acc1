"""The part of a migration that is inside a database: a user's logins are looked at, taken away and given back."""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from rdsiam.access.rotation import CLONE
from rdsiam.aws.rds import Database
from rdsiam.core.changes import Change
from rdsiam.engines.migration import LoginState, Migrator, Observation
from rdsiam.engines.protocols import Authority, DesiredState, Engine, Sessions, Statement
from rdsiam.engines.registry import ENGINES, MIGRATORS
from rdsiam.errors import Refused
from rdsiam.onboarding.dependencies import UserServices
from rdsiam.state.inventory import accounts_of
from rdsiam.state.leases import Lease

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Opened:
    """A database, what was found in it, and the lease under which that was read, if anything is to be changed.

    :ivar rotated: users whose passwords rdsiam rotates or has rotated.
    """

    database: Database
    engine: Engine
    migrator: Migrator
    sessions: Sessions
    wanted: DesiredState
    found: Any
    lease: Lease | None
    rotated: Collection[str]

    def apply(self, statements: Sequence[Statement]) -> list[Change]:
        assert self.lease is not None
        self.lease.check()
        self.engine.apply(self.sessions, self.found, statements, self.wanted)
        for each in statements:
            logger.info("%s on %s as %s: %s", each.kind, self.database.arn, each.authority, each.statement)
        return list(statements)


class MigratingUser:
    """One user of one onboarded database, and who takes its place.

    :param successor: the user itself where it is changed in place.
    :param holder: the run, which holds the server's lease while it makes changes.
    """

    def __init__(self, services: UserServices, arn: str, user: str, successor: str, holder: str) -> None:
        self._services = services
        self._arn = arn
        self._user = user
        self._successor = successor
        self._holder = holder

    def login_state(self) -> LoginState:
        """Return how the user stands."""
        with self._open(apply=False) as opened:
            return self._login_state(opened)

    def look(self) -> Observation:
        """Look at the user's sessions. Changes nothing, and waits for no other run."""
        database = self._services.databases.describe(self._arn)
        engine = ENGINES[database.family]
        session = engine.connect(database, self._services.logins.manager(database), engine.entry_database())
        try:
            return MIGRATORS[database.family].observe(session, self._user, self._successor)
        finally:
            session.close()

    def retire(self, ready: Callable[[LoginState], None] | None) -> list[Change]:
        """Keep the user from logging in, and end its sessions.

        :param ready: called before anything is changed, with how the user stands now; raises where nothing shall be.
            None: change nothing, say what would be changed.
        :raises Refused: it has to keep its password.
        """
        with self._open(apply=ready is not None) as opened:
            login_state = self._login_state(opened)
            if login_state.keep_reason:
                raise Refused(f"{login_state.keep_reason}: it keeps its password")
            if not login_state.exists:
                raise Refused(f"there is no user {self._user} on {opened.database.identifier}")
            statements = opened.migrator.retire(opened.found, self._user)
            if ready is None:
                return list(statements)
            ready(login_state)
            return opened.apply(statements)

    def restore(self, locked: Sequence[str], apply: bool) -> list[Change]:
        """Let the user log in by its password again; in place, take its tokens.

        :param locked: its accounts that could not log in before either.
        :raises Refused: the server has not kept the password.
        """
        with self._open(apply) as opened:
            if not opened.migrator.login_state(opened.found, self._user).exists:
                raise Refused(f"there is no user {self._user} on {opened.database.identifier} any more")
            if self._successor == self._user:
                statements = opened.migrator.revert_in_place(opened.found, self._user, opened.wanted.accounts)
            else:
                statements = opened.migrator.restore(opened.found, self._user, locked)
            if not apply:
                return list(statements)
            changes = opened.apply(statements)
            if self._successor == self._user:
                self._disclaim(opened, self._user)
            return changes

    def remove(self, apply: bool, confirmed: bool) -> list[Change]:
        """Drop the successor; what it owns is the user's then.

        :param confirmed: also when it is logged in.
        :raises Refused: rdsiam did not make it, or something would be lost with it.
        """
        with self._open(apply) as opened:
            if not opened.migrator.login_state(opened.found, self._successor).exists:
                return []
            if opened.wanted.accounts.get(self._successor) != "created":
                raise Refused(f"{self._successor} was not made by rdsiam, so it is not dropped")
            session = opened.sessions.read(opened.engine.entry_database())
            open_now = sum(
                one.sessions for one in opened.migrator.observe(session, self._successor, self._successor).clients
            )
            if open_now and not confirmed:
                raise Refused(
                    f"{self._successor} has {open_now} sessions: lead its applications back to {self._user} first, or "
                    'undo with "confirm": true, which ends them'
                )
            batches = opened.migrator.drop_successor(session, opened.found, self._successor, self._user)
            if not apply:
                return [each for batch in batches for each in batch]
            changes = [each for batch in batches for each in opened.apply(batch)]
            self._disclaim(opened, self._successor)
            return changes

    def blind(self) -> str:
        """Return what looks at sessions can't see there."""
        return MIGRATORS[self._services.databases.describe(self._arn).family].blind_spots

    def for_good(self) -> str:
        """Return why a user that is changed in place can't have its password back there; empty where it can."""
        return MIGRATORS[self._services.databases.describe(self._arn).family].irreversible

    def _login_state(self, opened: _Opened) -> LoginState:
        """Return how the user stands; of two users that take turns neither leaves its password alone."""
        login_state = opened.migrator.login_state(opened.found, self._user)
        clone = self._user + CLONE
        other = opened.migrator.login_state(opened.found, clone)
        if login_state.keep_reason or self._user not in opened.rotated or not other.login or other.iam:
            return login_state
        kept = f"its clone {clone} logs in by password and has its rights: lock or drop {clone} first"
        return replace(login_state, keep_reason=kept)

    def _disclaim(self, opened: _Opened, user: str) -> None:
        kept = {name: ownership for name, ownership in opened.wanted.accounts.items() if name != user}
        self._services.inventory.release_ownership(opened.database, kept)

    @contextmanager
    def _open(self, apply: bool) -> Iterator[_Opened]:
        """Look into the database; under its lease if anything is to be changed."""
        database = self._services.databases.describe(self._arn)
        leased = self._services.leases.hold(database, self._holder) if apply else nullcontext()
        with leased as lease, self._looked_into(database, lease) as opened:
            yield opened

    @contextmanager
    def _looked_into(self, database: Database, lease: Lease | None) -> Iterator[_Opened]:
        engine, logins = ENGINES[database.family], self._services.logins

        def connect(authority: Authority, name: str | None) -> Any:
            return engine.connect(
                database, logins.manager(database) if authority == "manager" else logins.master(database), name
            )

        sessions = Sessions(connect, reader="manager")
        try:
            found = engine.inspect(sessions, database, DesiredState((), {}))
            record = self._services.inventory.get(self._arn)
            ours = accounts_of(database, record)
            rotated = record.secrets if record else ()
            migrator = MIGRATORS[database.family]
            yield _Opened(database, engine, migrator, sessions, DesiredState((), ours), found, lease, rotated)
        finally:
            sessions.close()
