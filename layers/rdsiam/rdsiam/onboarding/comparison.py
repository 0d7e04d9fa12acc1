"""A database server compared with its declaration: users, groups and memberships, in one session."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from rdsiam.access.effective import effective_users
from rdsiam.access.pending import pending, unconfirmed
from rdsiam.access.selection import SelectedDatabase, select
from rdsiam.access.users import Grant
from rdsiam.aws.rds import Database
from rdsiam.core.changes import Authority, Refusal, Unconfirmed, Unreached
from rdsiam.engines.authorities import connect_as
from rdsiam.engines.connection import NO_SLOT
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.protocols import NO_GRANTS, DesiredState, Engine, Sessions
from rdsiam.engines.registry import ENGINES
from rdsiam.engines.statements import Statement
from rdsiam.errors import ConnectionFailed, DatabaseNotReady, NeedsConfirmation
from rdsiam.onboarding.dependencies import UserServices
from rdsiam.onboarding.limits import limit_users
from rdsiam.onboarding.options import Options
from rdsiam.state import fingerprint, recorded
from rdsiam.state.layout import Layout
from rdsiam.state.record import Applied, Ownership, accounts_of, granted_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """Open sessions.

    :ivar inherited_ownership: the manager exists and the inventory doesn't record it, so the database is a copy.
    """

    sessions: Sessions
    inherited_ownership: bool = False


@dataclass(frozen=True)
class Comparison:
    """A database compared with its declaration.

    :ivar snapshot: the engine's own snapshot of the catalogs.
    :ivar layout: databases, schemas and owners, as they were just before.
    :ivar left_out: declared users that don't exist and can't be made; `desired` and `applied` don't have them.
    """

    engine: Engine
    opened: Opened
    database: SelectedDatabase
    applied: Applied
    desired: DesiredState
    snapshot: Any
    layout: Layout
    statements: list[Statement]
    pending: Unconfirmed | None
    left_out: tuple[Unreached, ...] = ()

    def limit(self) -> Refusal | None:
        """Return the refusal if the statements exceed the change limit; None if they don't."""
        disabled = {statement.target for statement in self.statements if statement.kind == "disable-user"}
        enabled = self.engine.enabled_users(self.snapshot, self.desired)
        try:
            declared = len(self.desired.users) + len(self.left_out)
            limit_users(disabled - self.desired.revoked, len(enabled), declared)
        except NeedsConfirmation as error:
            return Refusal.of(error)
        return None


class Comparer:
    """Compares one database with its declaration. Changes nothing."""

    def __init__(self, services: UserServices, arn: str, options: Options) -> None:
        self._services = services
        self._arn = arn
        self._options = options

    def select(self, database: Database) -> SelectedDatabase:
        """Return the database as access.yaml is asked about it."""
        return recorded.selection(self._services.databases, self._services.inventory, database, self._options.confirmed)

    def desired(self, database: SelectedDatabase) -> tuple[Applied, DesiredState]:
        """Return the declaration, and the state that it asks for."""
        access = self._services.access.current()
        record = self._services.inventory.of(database)
        revoked = self._options.revoked(record)
        users = effective_users(access.file.declared(database), revoked)
        applied = Applied(
            access.version,
            fingerprint.of_declared(users, access.file.rotating(database)),
            len(access.file.databases),
            tuple(user.name for user in users),
        )
        accounts, granted = accounts_of(database, record), granted_of(database, record)
        return applied, DesiredState(users, accounts, frozenset(revoked), database.resource_id, granted)

    def accounts(self, database: Database) -> Mapping[str, Ownership]:
        """Return the managed accounts."""
        return accounts_of(database, self._services.inventory.of(database))

    def pending(self, database: SelectedDatabase) -> Unconfirmed | None:
        """Return the access that waits for confirmation; None if none does."""
        waiting = pending(self._services.access.current().file, database)
        return None if waiting is None else unconfirmed(database, waiting)

    def is_recorded(self, database: Database) -> bool:
        """Return whether the attributes of the database are recorded."""
        record = self._services.inventory.of(database)
        return record is not None and record.is_of(database) and record.recorded is not None

    def may_be_copy(self, database: Database) -> bool:
        """Return whether a database in which rdsiam has made nothing has its manager.

        It was seen under another name, as the green database of a switchover is: then no entry was about it, but the
        attributes of its source count.
        """
        if self.is_recorded(database):
            return False
        engine = ENGINES[database.family]
        try:
            session = connect_as("manager", engine, self._services.logins, database, engine.entry_database())
        except ConnectionFailed as error:
            if error.stage != "login" or error.server_code in NO_SLOT:
                raise
            return False
        session.close()
        return True

    @contextmanager
    def compared(
        self, database: SelectedDatabase, applied: Applied, desired: DesiredState, just_switched: bool = False
    ) -> Iterator[Comparison]:
        """Open sessions, read the catalogs, and compare them with the declaration.

        :param just_switched: IAM authentication was switched on a moment ago and may not be in force yet.
        """
        engine = ENGINES[database.family]
        opened = self.open(engine, database, desired, just_switched)
        try:
            yield self._compare(engine, opened, database, applied, desired)
        finally:
            opened.sessions.close()

    def open(self, engine: Engine, database: Database, desired: DesiredState, just_switched: bool) -> Opened:
        """Open the first session: as the manager, or as the master if there is no manager yet.

        The manager is tried first even if the inventory records none: a copy has the manager of its source, and often
        no readable master secret. See docs/decisions/0012-copies.md.
        """
        logins = self._services.logins

        def connect(authority: Authority, name: str | None) -> Any:
            return connect_as(authority, engine, logins, database, name)

        known = MANAGER in desired.accounts
        sessions = Sessions(connect, reader="manager")
        try:
            sessions.read(engine.entry_database())
        except ConnectionFailed as error:
            if error.stage != "login":
                raise
            if known:
                # A run was killed before it created the manager, or an administrator dropped it: it is created again.
                logger.warning("%s can't log in to %s, so the master does: %s", MANAGER, self._arn, error)
            elif just_switched and database.master_secret_arn is None:
                raise DatabaseNotReady(
                    f"{database.identifier} accepts neither {MANAGER} nor the master (RDS does not manage its secret); "
                    "a copy accepts the manager once IAM authentication is in force"
                ) from None
            return Opened(Sessions(connect, reader="master"))
        return Opened(sessions, inherited_ownership=not known)

    def _compare(
        self, engine: Engine, opened: Opened, database: SelectedDatabase, applied: Applied, desired: DesiredState
    ) -> Comparison:
        """Read the catalogs and compare them with the declaration; a copy has its source's attributes at first."""
        if opened.inherited_ownership and not self._options.confirmed and not self.is_recorded(database):
            database = self._as_copy(database, engine.marked_source(opened.sessions.read(engine.entry_database())))
            applied, desired = self.desired(database)
        waiting = self.pending(database)
        if opened.inherited_ownership:
            desired = replace(desired, granted=self._granted_in_source(engine, opened))
        layout = engine.layout(opened.sessions.read(engine.entry_database()))
        snapshot = engine.inspect(opened.sessions, database, desired)
        if opened.inherited_ownership or self._is_copy(database):
            desired = replace(desired, accounts=engine.inherited_ownership(snapshot, desired) | dict(desired.accounts))
            logger.info("%s is a copy; taken over: %s", self._arn, ", ".join(sorted(desired.accounts)))
        irreplaceable = engine.irreplaceable(snapshot, desired)
        users = tuple(user for user in desired.users if user.name not in irreplaceable)
        desired = replace(desired, users=users)
        applied = replace(applied, users=tuple(name for name in applied.users if name not in irreplaceable))
        left_out = tuple(
            Unreached(f"user {name}", refusal.problem, refusal.remedy, retry=False)
            for name, refusal in sorted(irreplaceable.items())
        )
        statements = engine.difference(snapshot, desired)
        return Comparison(engine, opened, database, applied, desired, snapshot, layout, statements, waiting, left_out)

    def _as_copy(self, database: SelectedDatabase, source: str | None) -> SelectedDatabase:
        """Return a copy with the attributes recorded for its source."""
        logger.info("%s is a copy of %s", self._arn, source or "an unknown database")
        return select(database, recorded.of_copy(self._services.inventory, source))

    def _is_copy(self, database: Database) -> bool:
        """Return whether it is a copy whose attributes were not confirmed when it was last onboarded."""
        record = self._services.inventory.of(database)
        return record is not None and record.is_of(database) and record.copied

    def _granted_in_source(self, engine: Engine, opened: Opened) -> Mapping[str, tuple[Grant, ...]]:
        """Return the grants that rdsiam made to users themselves in the database that this one is a copy of."""
        source = engine.marked_source(opened.sessions.read(engine.entry_database()))
        return self._services.inventory.granted_in(source) if source else NO_GRANTS
