"""The users of one database: users, groups and memberships become what access.yaml declares."""

import logging
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from rdsiam.access.selection import Attributes, SelectedDatabase
from rdsiam.access.users import Grant
from rdsiam.aws.rds import Database
from rdsiam.core.changes import Change, Refusal, Unreached
from rdsiam.engines.protocols import DesiredState
from rdsiam.engines.registry import ENGINES
from rdsiam.engines.statements import Denial, Statement, StatementFailed
from rdsiam.errors import AccessFileInvalid, RdsiamError, Refused
from rdsiam.onboarding.answer import Proof
from rdsiam.onboarding.comparison import Comparer, Comparison
from rdsiam.onboarding.convergence import Convergence, named_once
from rdsiam.onboarding.dependencies import UserServices
from rdsiam.onboarding.options import DEFAULT_OPTIONS, Options
from rdsiam.state.layout import Layout
from rdsiam.state.leases import Lease
from rdsiam.state.record import Ownership

logger = logging.getLogger(__name__)

#: Kinds of statements that create an account or a group.
CREATIONS = frozenset({"create-manager", "create-auditor", "create-user", "create-group"})


class NotProven(RdsiamError):
    """A password of a new IAM user was not refused."""

    code = "not-proven"


class Users:
    """The users of one database.

    :param holder: the execution that holds the server's lease while it makes changes.
    """

    def __init__(self, services: UserServices, arn: str, options: Options = DEFAULT_OPTIONS, holder: str = "") -> None:
        self._services = services
        self._arn = arn
        self._options = options
        self._holder = holder or f"a run {secrets.token_hex(8)}"
        self._comparer = Comparer(services, arn, options)

    def declared(self) -> Convergence:
        """Return what is declared for a database in which no users are made."""
        try:
            database = self._comparer.select(self._services.databases.describe(self._arn))
            applied, _ = self._comparer.desired(database)
            return Convergence(applied=applied, pending=self._comparer.pending(database))
        except AccessFileInvalid as error:
            return Convergence(refusal=Refusal.of(error))

    def converge(self, apply: bool, just_switched: bool = False) -> Convergence:
        """Make users, groups and memberships as declared; on MySQL and MariaDB also privileges.

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
        engine, desired = ENGINES[database.family], DesiredState((), self._comparer.accounts(database))
        try:
            sessions = self._comparer.open(engine, database, desired, just_switched=False).sessions
            try:
                return engine.enabled_users(engine.inspect(sessions, database, desired), desired)
            finally:
                sessions.close()
        except Exception as error:  # in whatever state the database is, it delays nothing that needs no session
            logger.warning("the users that can log in to %s could not be read: %s", self._arn, error)
            return None

    def prove(self, only: str | None = None) -> tuple[Proof, ...]:
        """Log in by token as each declared user that was made, or as one of them; check that a password is refused."""
        database = self._comparer.select(self._services.databases.describe(self._arn))
        _, desired = self._comparer.desired(database)
        engine = ENGINES[database.family]
        names = desired.accounts if only is None else [only]
        proofs = []
        for user in (user for user in desired.users if user.name in names):
            name = engine.proof_database(database, user)
            engine.prove_login(database, self._services.logins.proof(database, user.name), name)
            if not engine.refuses_passwords(database, user.name, name):
                raise NotProven(f"{self._arn}: {user.name} is an IAM user, yet a password was not refused")
            proofs.append(Proof(user.name))
            logger.info("proved the login of %s on %s", user.name, self._arn, extra={"user": user.name})
        return tuple(proofs)

    def _converge(self, described: Database, lease: Lease | None, just_switched: bool) -> Convergence:
        """Compare, and make the changes if there is a lease, under which everything compared was read."""
        database = self._comparer.select(described)
        applied, desired = self._comparer.desired(database)
        if not desired.users and not desired.accounts:
            waiting = self._comparer.pending(database)
            if waiting is None or not self._comparer.may_be_copy(database):
                return Convergence(applied=applied, pending=waiting)
        with self._comparer.compared(database, applied, desired, just_switched) as comparison:
            limit = None if self._options.unlimited else comparison.limit()
            if lease and limit:
                return Convergence(refusal=limit)
            if lease:
                lease.check()
                return self._apply(replace(comparison, applied=replace(comparison.applied, turn=lease.turn)))
        doubtful = [
            each.denied for each in comparison.statements if each.doubtful and isinstance(each.denied, Unreached)
        ]
        return replace(_convergence(comparison, comparison.statements, doubtful), refusal=limit)

    def _apply(self, comparison: Comparison) -> Convergence:
        """Record ownership and make the changes; if they are refused, return those that were made before."""
        engine, opened, database = comparison.engine, comparison.opened, comparison.database
        snapshot, desired = comparison.snapshot, comparison.desired
        statements = engine.portion(comparison.statements)
        self._record_attributes(database, opened.inherited_ownership)
        ownership = engine.ownership(snapshot, statements, desired)
        self._record_granted(comparison)
        denials: tuple[Denial, ...] = ()
        if statements or opened.inherited_ownership:
            self._services.inventory.record_ownership(database, ownership, comparison.applied.turn)
            try:
                denials = engine.apply(opened.sessions, snapshot, statements, desired)
            except Exception as error:
                owned = self._keep_ownership(comparison, ownership, error)
                if not isinstance(error, Refused):
                    raise
                return Convergence(_made(comparison, owned), refusal=Refusal.of(error))
        elif ownership != dict(desired.accounts):
            self._services.inventory.release_ownership(database, ownership)
        denied = {denial.statement for denial in denials}
        changes = [statement for statement in statements if statement not in denied]
        for change in changes:
            named = (change.kind, self._arn, change.authority, change.statement)
            logger.info("%s on %s as %s: %s", *named, extra={"user": change.target})
        self._record_layout(database, comparison.layout)
        # Statements that fail are in the next portion too: if most of them do, further portions bring nothing.
        unfinished = len(statements) < len(comparison.statements) and len(denied) < len(statements) // 2
        return replace(_convergence(comparison, changes, [denial.part for denial in denials]), unfinished=unfinished)

    def _keep_ownership(
        self, comparison: Comparison, ownership: Mapping[str, Ownership], error: Exception
    ) -> Mapping[str, Ownership]:
        """Record the accounts that rdsiam owns after a failure.

        An account that was not created is not managed: somebody else may create it before the next run. An account that
        was created is managed, whatever failed later: otherwise no run would ever disable it. So all remain recorded if
        the server can't be asked.
        """
        try:
            existing = _existing_names(comparison)
        except Exception as unreadable:
            logger.warning("the accounts of %s can't be read after a failure: %s", self._arn, unreadable)
            return ownership
        # A refused adoption has changed nothing; one that was made is repeated by the next run.
        refused = {each.target for each in comparison.statements if each.kind == "adopt-group"}
        if isinstance(error, Refused):
            existing -= refused
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

    def _record_attributes(self, database: SelectedDatabase, copied: bool) -> None:
        """Record the attributes that select the entries of this run, before it changes anything."""
        if not self._comparer.is_recorded(database):
            self._services.inventory.select(database, database.recorded or Attributes.of(database), copied)

    def _record_granted(self, comparison: Comparison) -> None:
        """Record the grants to users themselves before they are made."""
        before: Mapping[str, tuple[Grant, ...]] = comparison.desired.granted
        granted = comparison.engine.granted(comparison.snapshot, comparison.desired)
        copied = comparison.opened.inherited_ownership and bool(granted)
        if copied or granted != dict(before):
            self._services.inventory.set_granted(comparison.database, granted)

    def _record_layout(self, database: Database, layout: Layout) -> None:
        """Record the databases, schemas and owners that were compared: the audit starts a run if it sees others."""
        record = self._services.inventory.get(self._arn)
        if record is None or record.layout != layout:
            self._services.inventory.set_layout(database, layout)


def _convergence(comparison: Comparison, changes: Sequence[Statement], denied: Sequence[Unreached]) -> Convergence:
    """Return the result of changes that nothing refused."""
    named = named_once((*reversed(denied), *comparison.engine.incomplete(comparison.snapshot), *comparison.left_out))
    for part in named:
        logger.warning("%s: %s; %s", part.what, part.reason, part.remedy)
    databases = comparison.engine.databases(comparison.snapshot, comparison.desired)
    return Convergence(tuple(changes), comparison.applied, comparison.pending, named, databases=len(databases))


def _existing_names(comparison: Comparison) -> frozenset[str]:
    """Read the names of all accounts and roles in a new session, since a failure may have cost the open ones."""
    engine, sessions = comparison.engine, comparison.opened.sessions
    session = sessions.another(sessions.reader, engine.entry_database())
    try:
        return engine.existing_names(session)
    finally:
        session.close()


def _not_created(error: Exception, statements: Sequence[Statement]) -> str | None:
    """Return the account whose creation failed, since somebody else created it; None if something else failed."""
    if not isinstance(error, StatementFailed) or error.statement.kind not in CREATIONS or _may_be_created(error):
        return None
    failed = error.statement
    before = statements[: statements.index(failed)]
    # On MySQL a user may have several accounts, some of which were created.
    created = any(statement.kind in CREATIONS and statement.target == failed.target for statement in before)
    return None if created else failed.target


def _may_be_created(error: Exception) -> str | None:
    """Return the account that MySQL may have created, or may still create: the connection was lost before its answer.

    PostgreSQL rolls back in that case.
    """
    if not isinstance(error, StatementFailed) or error.statement.kind not in CREATIONS:
        return None
    # Codes of the client; codes of the server begin with 1, 3 or 4.
    lost = error.server_code == "0" or (len(error.server_code) == 4 and error.server_code.startswith("2"))
    return error.statement.target if lost else None


def _made(comparison: Comparison, owned: Mapping[str, Ownership]) -> tuple[Change, ...]:
    """Return the statements that had taken effect before a refusal: those that a new comparison no longer has.

    :param owned: accounts that rdsiam owns after the refusal.
    """
    engine, desired = comparison.engine, replace(comparison.desired, accounts=owned)
    snapshot = engine.inspect(comparison.opened.sessions, comparison.database, desired)
    missing = engine.difference(snapshot, desired)
    return tuple(statement for statement in comparison.statements if statement not in missing)
