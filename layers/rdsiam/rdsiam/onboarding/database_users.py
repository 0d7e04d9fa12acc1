"""The users of one database: users, groups and privileges become what access.yaml declares."""

import logging
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from rdsiam.access.effective import effective_users
from rdsiam.access.pending import pending, unconfirmed
from rdsiam.access.selection import Attributes, SelectedDatabase, select
from rdsiam.access.users import Grant
from rdsiam.aws.rds import Database
from rdsiam.core.changes import Change, Refusal, Unconfirmed, Unreached, changes_from_json
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.protocols import (
    NO_GRANTS,
    Authority,
    Denial,
    DesiredState,
    Engine,
    Sessions,
    Statement,
    StatementFailed,
)
from rdsiam.engines.registry import ENGINES
from rdsiam.errors import AccessFileInvalid, ConnectionFailed, DatabaseNotReady, RdsiamError, Refused
from rdsiam.onboarding.answer import Proof
from rdsiam.onboarding.dependencies import UserServices
from rdsiam.onboarding.limits import NeedsConfirmation, limit_users
from rdsiam.onboarding.options import DEFAULT_OPTIONS, Options
from rdsiam.state import fingerprint, recorded
from rdsiam.state.escalations import Examined
from rdsiam.state.leases import Lease
from rdsiam.state.record import Applied, Ownership, accounts_of, granted_of
from rdsiam.state.schemas import OpenedSchemas

logger = logging.getLogger(__name__)

#: Kinds of statements that create an account or a group.
CREATIONS = frozenset({"create-manager", "create-auditor", "create-user", "create-group"})
#: Kinds of statements that may revoke grants to users themselves.
_REVOKING = frozenset({"revoke", "default-privileges"})


class NotProven(RdsiamError):
    """A password of a new IAM user was not refused."""

    code = "not-proven"


@dataclass(frozen=True)
class Convergence:
    """The result of making users, groups and privileges as declared, or of planning that.

    :ivar changes: made, or planned.
    :ivar applied: the declaration that the changes apply; None if they were refused.
    :ivar pending: the access that waits for confirmation; None if none does.
    :ivar denied: parts that the server denied, or is likely to deny; the rest was done, or is planned.
    :ivar refusal: why the rest, or all of it, was not done; None if nothing was refused.
    :ivar schemas: the schemas that levels open in each PostgreSQL database.
    """

    changes: tuple[Change, ...] = ()
    applied: Applied | None = None
    pending: Unconfirmed | None = None
    denied: tuple[Unreached, ...] = ()
    refusal: Refusal | None = None
    schemas: tuple[OpenedSchemas, ...] = ()

    @property
    def beyond_limit(self) -> bool:
        """Whether the change limit refused it."""
        return self.refusal is not None and self.refusal.code == NeedsConfirmation.code

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for a checkpoint."""
        return {
            "changes": [change.to_json() for change in self.changes],
            "applied": {**vars(self.applied), "users": list(self.applied.users)} if self.applied else None,
            "pending": self.pending.to_json() if self.pending else None,
            "denied": [part.to_json() for part in self.denied],
            "refusal": self.refusal.to_json() if self.refusal else None,
            "schemas": [opened.to_json() for opened in self.schemas],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Convergence":
        """Return the convergence from which `to_json` made this JSON."""
        applied = data["applied"]
        return cls(
            changes_from_json(data["changes"]),
            Applied(**{**applied, "users": tuple(applied["users"])}) if applied else None,
            Unconfirmed.from_json(data["pending"]) if data["pending"] else None,
            tuple(Unreached.from_json(part) for part in data["denied"]),
            Refusal.from_json(data["refusal"]) if data["refusal"] else None,
            tuple(map(OpenedSchemas.from_json, data["schemas"])),
        )


@dataclass(frozen=True)
class _Opened:
    """Open sessions.

    :ivar inherited_ownership: the manager exists and the inventory doesn't record it, so the database is a copy.
    """

    sessions: Sessions
    inherited_ownership: bool = False


@dataclass(frozen=True)
class _Comparison:
    """A database compared with its declaration.

    :ivar snapshot: the engine's own snapshot of the catalogs.
    """

    engine: Engine
    opened: _Opened
    database: SelectedDatabase
    applied: Applied
    desired: DesiredState
    snapshot: Any
    statements: list[Statement]
    pending: Unconfirmed | None


class Users:
    """The users of one database.

    :param holder: the execution that holds the server's lease while it makes changes.
    """

    def __init__(self, services: UserServices, arn: str, options: Options = DEFAULT_OPTIONS, holder: str = "") -> None:
        self._services = services
        self._arn = arn
        self._options = options
        self._holder = holder or f"a run {secrets.token_hex(8)}"

    def declared(self) -> Convergence:
        """Return what is declared for a database in which no users are made."""
        try:
            database = self._select(self._services.databases.describe(self._arn))
            applied, _ = self._desired(database)
            return Convergence(applied=applied, pending=self._pending(database))
        except AccessFileInvalid as error:
            return Convergence(refusal=Refusal.of(error))

    def converge(self, apply: bool, just_switched: bool = False) -> Convergence:
        """Make users, groups and privileges as declared.

        :param apply: make the changes; otherwise return what they would be.
        :param just_switched: IAM authentication was switched on a moment ago and may not be in force yet.
        """
        database = self._services.databases.describe(self._arn)
        with self._lease(database) if apply else nullcontext() as lease:
            try:
                return self._converge(database, lease, just_switched)
            except (Refused, AccessFileInvalid) as error:
                return Convergence(refusal=Refusal.of(error))

    def enabled(self) -> frozenset[str] | None:
        """Return the managed users that can log in; None if the database can't be read. Waits for no other run."""
        database = self._services.databases.describe(self._arn)
        engine, desired = ENGINES[database.family], DesiredState((), self._accounts(database))
        try:
            sessions = self._open(engine, database, desired, just_switched=False).sessions
            try:
                return engine.enabled_users(engine.inspect(sessions, database, desired), desired)
            finally:
                sessions.close()
        except Exception as error:  # in whatever state the database is, it delays nothing that needs no session
            logger.warning("the users that can log in to %s could not be read: %s", self._arn, error)
            return None

    def prove(self, only: str | None = None) -> tuple[Proof, ...]:
        """Log in by token as each declared user, or as one of them, and check that a password is refused."""
        database = self._select(self._services.databases.describe(self._arn))
        _, desired = self._desired(database)
        engine = ENGINES[database.family]
        proofs = []
        for user in (user for user in desired.users if only in (None, user.name)):
            name = engine.proof_database(database, user)
            engine.connect(database, self._services.logins.proof(database, user.name), name).close()
            if not engine.refuses_passwords(database, user.name, name):
                raise NotProven(f"{self._arn}: {user.name} is an IAM user, yet a password was not refused")
            proofs.append(Proof(user.name))
            logger.info("proved the login of %s on %s", user.name, self._arn)
        return tuple(proofs)

    def _converge(self, described: Database, lease: Lease | None, just_switched: bool) -> Convergence:
        """Compare, and make the changes if there is a lease, under which everything compared was read."""
        database = self._select(described)
        applied, desired = self._desired(database)
        if not desired.users and not desired.accounts:
            return Convergence(applied=applied, pending=self._pending(database))
        engine = ENGINES[database.family]
        opened = self._open(engine, database, desired, just_switched)
        try:
            comparison = self._compare(engine, opened, database, applied, desired)
            limit = None if self._options.unlimited else _limit(comparison)
            if limit:
                return Convergence(() if lease else tuple(comparison.statements), refusal=limit)
            if lease:
                lease.check()
                return self._apply(comparison)
        finally:
            opened.sessions.close()
        doubtful = [
            each.denied for each in comparison.statements if each.doubtful and isinstance(each.denied, Unreached)
        ]
        return _convergence(comparison, comparison.statements, doubtful)

    def _compare(
        self, engine: Engine, opened: _Opened, database: SelectedDatabase, applied: Applied, desired: DesiredState
    ) -> _Comparison:
        """Read the catalogs and compare them with the declaration; a copy has its source's attributes at first."""
        if opened.inherited_ownership and not self._options.confirmed and not self._is_recorded(database):
            database = self._as_copy(database, engine.marked_source(opened.sessions.read(engine.entry_database())))
            applied, desired = self._desired(database)
        waiting = self._pending(database)
        if opened.inherited_ownership:
            desired = replace(desired, granted=self._granted_in_source(engine, opened))
        snapshot = engine.inspect(opened.sessions, database, desired)
        if opened.inherited_ownership or self._is_copy(database):
            desired = replace(desired, accounts=engine.inherited_ownership(snapshot, desired) | dict(desired.accounts))
            logger.info("%s is a copy; taken over: %s", self._arn, ", ".join(sorted(desired.accounts)))
        statements = engine.difference(snapshot, desired)
        return _Comparison(engine, opened, database, applied, desired, snapshot, statements, waiting)

    def _apply(self, comparison: _Comparison) -> Convergence:
        """Record ownership and make the changes; if they are refused, return those that were made before."""
        engine, opened, database = comparison.engine, comparison.opened, comparison.database
        snapshot, desired, statements = comparison.snapshot, comparison.desired, comparison.statements
        self._record_attributes(database, opened.inherited_ownership)
        ownership = engine.ownership(snapshot, statements, desired)
        granted = engine.granted(snapshot, desired, finished=False)
        self._record_granted(comparison, desired.granted, granted)
        denials: tuple[Denial, ...] = ()
        if statements or opened.inherited_ownership:
            self._services.inventory.record_ownership(database, ownership)
            try:
                denials = engine.apply(opened.sessions, snapshot, statements, desired)
            except RdsiamError as error:
                owned = self._keep_ownership(comparison, ownership, error)
                if not isinstance(error, Refused):
                    raise
                return Convergence(_made(comparison, owned), refusal=Refusal.of(error))
        elif ownership != dict(desired.accounts):
            self._services.inventory.release_ownership(database, ownership)
        denied = {denial.statement for denial in denials}
        changes = [statement for statement in statements if statement not in denied]
        for change in changes:
            logger.info("%s on %s as %s: %s", change.kind, self._arn, change.authority, change.statement)
        if not any(statement.kind in _REVOKING for statement in denied):
            self._record_granted(comparison, granted, engine.granted(snapshot, desired, finished=True))
        self._record_examined(database, engine.examined(snapshot, denials))
        return _convergence(comparison, changes, [denial.part for denial in denials])

    def _keep_ownership(
        self, comparison: _Comparison, ownership: Mapping[str, Ownership], error: RdsiamError
    ) -> Mapping[str, Ownership]:
        """Record the accounts that rdsiam owns after a failure.

        An account that was not created is not managed: somebody else may create it before the next run. An account that
        was created is managed, whatever failed later: otherwise no run would ever disable it.
        """
        existing = comparison.engine.existing_names(comparison.opened.sessions.read(comparison.engine.entry_database()))
        foreign, uncertain = _not_created(error, comparison.statements), _may_be_created(error)
        owned = {
            name: kind
            for name, kind in ownership.items()
            if (name in existing and name != foreign) or name == uncertain
        } | dict(comparison.desired.accounts)
        self._services.inventory.record_ownership(comparison.database, owned)
        return owned

    def _lease(self, database: Database) -> AbstractContextManager[Lease]:
        return self._services.leases.hold(database, self._holder)

    def _select(self, database: Database) -> SelectedDatabase:
        return recorded.selection(self._services.databases, self._services.inventory, database, self._options.confirmed)

    def _desired(self, database: SelectedDatabase) -> tuple[Applied, DesiredState]:
        access = self._services.access.current()
        revoked = self._options.revoked(self._services.inventory.of(database))
        users = effective_users(access.file.declared(database), revoked)
        applied = Applied(
            access.version,
            fingerprint.of_declared(users, access.file.rotating(database)),
            len(access.file.databases),
            tuple(user.name for user in users),
        )
        granted = granted_of(database, self._services.inventory.of(database))
        return applied, DesiredState(users, self._accounts(database), frozenset(revoked), database.resource_id, granted)

    def _accounts(self, database: Database) -> Mapping[str, Ownership]:
        return accounts_of(database, self._services.inventory.of(database))

    def _pending(self, database: SelectedDatabase) -> Unconfirmed | None:
        """Return the access that waits for confirmation; None if none does."""
        waiting = pending(self._services.access.current().file, database)
        return None if waiting is None else unconfirmed(database, waiting)

    def _as_copy(self, database: SelectedDatabase, source: str | None) -> SelectedDatabase:
        """Return a copy with the attributes recorded for its source."""
        logger.info("%s is a copy of %s", self._arn, source or "an unknown database")
        return select(database, recorded.of_copy(self._services.inventory, source))

    def _is_recorded(self, database: Database) -> bool:
        record = self._services.inventory.of(database)
        return record is not None and record.is_of(database) and record.recorded is not None

    def _is_copy(self, database: Database) -> bool:
        """Return whether it is a copy whose attributes were not confirmed when it was last onboarded."""
        record = self._services.inventory.of(database)
        return record is not None and record.is_of(database) and record.copied

    def _record_attributes(self, database: SelectedDatabase, copied: bool) -> None:
        """Record the attributes that select the entries of this run, before it changes anything."""
        if not self._is_recorded(database):
            self._services.inventory.select(database, database.recorded or Attributes.of(database), copied)

    def _granted_in_source(self, engine: Engine, opened: _Opened) -> Mapping[str, tuple[Grant, ...]]:
        """Return the grants that rdsiam made to users themselves in the database that this one is a copy of."""
        source = engine.marked_source(opened.sessions.read(engine.entry_database()))
        return self._services.inventory.granted_in(source) if source else NO_GRANTS

    def _record_granted(
        self,
        comparison: _Comparison,
        before: Mapping[str, tuple[Grant, ...]],
        granted: Mapping[str, tuple[Grant, ...]],
    ) -> None:
        """Record the grants to users themselves: before they are made, and once those of before are revoked."""
        copied = comparison.opened.inherited_ownership and bool(granted)
        if copied or dict(granted) != dict(before):
            self._services.inventory.set_granted(comparison.database, granted)

    def _record_examined(self, database: Database, examined: Examined | None) -> None:
        """Record which users can act as administrators, for the audit, which sees the catalogs of one database only."""
        record = self._services.inventory.get(self._arn)
        if examined is not None and (record is None or record.examined != examined):
            self._services.inventory.set_examined(database, examined)

    def _open(self, engine: Engine, database: Database, desired: DesiredState, just_switched: bool) -> _Opened:
        """Open the first session: as the manager, or as the master if there is no manager yet.

        The manager is tried first even if the inventory records none: a copy has the manager of its source, and often
        no readable master secret. See docs/decisions/0012-copies.md.
        """
        logins = self._services.logins

        def connect(authority: Authority, name: str | None) -> Any:
            login = logins.manager(database) if authority == "manager" else logins.master(database)
            return engine.connect(database, login, name)

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
            return _Opened(Sessions(connect, reader="master"))
        return _Opened(sessions, inherited_ownership=not known)


def _convergence(comparison: _Comparison, changes: Sequence[Statement], denied: Sequence[Unreached]) -> Convergence:
    """Return the result of changes that nothing refused; a part of several statements with one remedy is named once."""
    missing = (*comparison.engine.incomplete(comparison.snapshot), *reversed(denied))
    parts = {(part.what, part.remedy): part for part in missing}
    named = tuple(part for _, part in sorted(parts.items()))
    for part in named:
        logger.warning("%s: %s; %s", part.what, part.reason, part.remedy)
    examined = comparison.engine.examined(comparison.snapshot)
    opened = examined.schemas.opened if examined else ()
    return Convergence(tuple(changes), comparison.applied, comparison.pending, named, schemas=opened)


def _not_created(error: RdsiamError, statements: Sequence[Statement]) -> str | None:
    """Return the account whose creation failed, since somebody else created it; None if something else failed."""
    if not isinstance(error, StatementFailed) or error.statement.kind not in CREATIONS or _may_be_created(error):
        return None
    failed = error.statement
    before = statements[: statements.index(failed)]
    # On MySQL a user may have several accounts, some of which were created.
    created = any(statement.kind in CREATIONS and statement.target == failed.target for statement in before)
    return None if created else failed.target


def _may_be_created(error: RdsiamError) -> str | None:
    """Return the account that MySQL may have created, or may still create: the connection was lost before its answer.

    PostgreSQL rolls back in that case.
    """
    if not isinstance(error, StatementFailed) or error.statement.kind not in CREATIONS:
        return None
    # Codes of the client; codes of the server begin with 1, 3 or 4.
    lost = error.server_code == "0" or (len(error.server_code) == 4 and error.server_code.startswith("2"))
    return error.statement.target if lost else None


def _limit(comparison: _Comparison) -> Refusal | None:
    """Return the refusal if the statements exceed the change limit; None if they don't."""
    engine, snapshot, desired = comparison.engine, comparison.snapshot, comparison.desired
    disabled = {statement.target for statement in comparison.statements if statement.kind == "disable-user"}
    try:
        limit_users(disabled - desired.revoked, len(engine.enabled_users(snapshot, desired)), len(desired.users))
    except NeedsConfirmation as error:
        return Refusal.of(error)
    return None


def _made(comparison: _Comparison, owned: Mapping[str, Ownership]) -> tuple[Change, ...]:
    """Return the statements that had taken effect before a refusal: those that a new comparison no longer has.

    :param owned: accounts that rdsiam owns after the refusal.
    """
    engine, desired = comparison.engine, replace(comparison.desired, accounts=owned)
    snapshot = engine.inspect(comparison.opened.sessions, comparison.database, desired)
    missing = engine.difference(snapshot, desired)
    return tuple(statement for statement in comparison.statements if statement not in missing)
