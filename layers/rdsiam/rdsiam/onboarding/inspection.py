"""Inspection of a database before a run: RDS's description, its record and access.yaml, compared without a session."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rdsiam.access.confirmed import CONFIRM, waits
from rdsiam.access.effective import effective_users
from rdsiam.access.pending import pending
from rdsiam.access.rotation import RotatingUser
from rdsiam.access.selection import SelectedDatabase
from rdsiam.access.users import DeclaredUser
from rdsiam.aws.rds import Database
from rdsiam.core import log_keys
from rdsiam.core.changes import Refusal, Unconfirmed
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.errors import (
    AccessFileInvalid,
    AccessFileUnavailable,
    DatabaseNotFound,
    DatabaseNotReady,
    NeedsConfirmation,
    Unsupported,
)
from rdsiam.onboarding.database_users import Users
from rdsiam.onboarding.dependencies import OnboardingServices
from rdsiam.onboarding.iam_authentication import switch
from rdsiam.onboarding.inspection_results import Absent, Departures, Ignored, Inspection
from rdsiam.onboarding.limits import limit_file, limit_users
from rdsiam.onboarding.options import Options
from rdsiam.state import fingerprint, recorded
from rdsiam.state.record import Record

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Declaration:
    """The declaration of access.yaml for a database.

    :ivar users: None if the file is invalid: the run refuses it later, with its problems.
    :ivar pending: something waits for confirmation.
    :ivar limit: the change limit refuses the run; None if it doesn't.
    :ivar waiting: a newer version declares something else, and waits for confirmation; None if none does.
    """

    users: tuple[DeclaredUser, ...] | None = None
    rotating: tuple[RotatingUser, ...] = ()
    pending: bool = False
    limit: Refusal | None = None
    waiting: Unconfirmed | None = None

    def effective(self, revoked: Collection[str]) -> frozenset[str] | None:
        """Return the names of effective users; None if the file is invalid."""
        if self.users is None:
            return None
        return frozenset(user.name for user in effective_users(self.users, revoked))

    def fingerprint(self, record: Record | None) -> str:
        """Return the fingerprint of effective users and rotations."""
        users = effective_users(self.users or (), record.revoked if record else ())
        return fingerprint.of_declared(users, self.rotating)


class Inspector:
    """Inspects one database. Each method can be repeated by another process."""

    def __init__(self, services: OnboardingServices, arn: str, options: Options) -> None:
        self._services = services
        self._arn = arn
        self._options = options

    def inspect(self) -> Ignored | Absent | Inspection:
        """Compare the database with its record and access.yaml."""
        database = self._find()
        if not isinstance(database, Database):
            return database
        log_keys.add(database=database.arn)
        record = self._services.inventory.of(database)
        if database.kind == "proxy" and not database.iam_enabled:
            return _classic_proxy(database, record)
        if (reason := unready(database)) and record is None:
            return Ignored(reason, DatabaseNotReady.code)
        declaration = self._declaration(database, record)
        declared = declaration.users != () or declaration.rotating or declaration.pending
        if not declared and (record is None or record.only_seen):
            reason = f"no entry of access.yaml declares a user for {database.arn}"
            if waiting := declaration.waiting:
                return Ignored(f"{reason}; {waiting.reason}", "not-declared", record is None, waiting.remedy)
            return Ignored(reason, "not-declared", unrecorded=record is None)
        if unavailable := self._without_iam(database, record, declaration):
            return unavailable
        logger.info("described %s: %s, IAM authentication %s", database.arn, database.status, database.iam_enabled)
        return self._inspection(database, record, declaration)

    def departures(self, users: Users) -> Departures:
        """Return the users that leave after an unfinished run; the database says which users can log in.

        If it can't be read, the record decides.
        """
        database = self._services.databases.describe(self._arn)
        record = self._services.inventory.of(database)
        revoked = self._options.revoked(record)
        declared = self._services.access.current().file.declared(self._selection(database))
        effective = {user.name for user in effective_users(declared, revoked)}
        leaving = _leaving(record, effective, revoked)
        enabled = users.enabled()
        if enabled is None or record is None:
            return Departures(tuple(sorted(leaving)))
        undeclared = enabled - effective
        try:
            if not self._options.unlimited:
                limit_users(undeclared - set(revoked) - record.departing, len(enabled), len(declared))
        except NeedsConfirmation as error:
            return Departures(limit=Refusal.of(error))
        return Departures(tuple(sorted(leaving | undeclared)))

    def effective(self) -> frozenset[str]:
        """Return the users that are declared now and not revoked; none if that can't be read.

        A run asks before it takes a login away: another one, of a newer access.yaml, may have given it back.
        """
        try:
            database = self._services.databases.describe(self._arn)
            declaration = self._declaration(database, None)
        except (AccessFileUnavailable, DatabaseNotFound, Unsupported) as error:
            logger.warning("the users declared for %s can't be read: %s", self._arn, error)
            return frozenset()
        return declaration.effective(self._options.revoked(self._services.inventory.of(database))) or frozenset()

    def _find(self) -> Database | Absent | Ignored:
        """Return the database, under its present name if it was renamed."""
        try:
            return self._services.databases.describe(self._arn)
        except Unsupported as error:
            return Ignored(str(error), error.code)
        except DatabaseNotFound as error:
            record = self._services.inventory.get(self._arn)
            if record is None:
                return Ignored(str(error), error.code)
            gone = Absent(f"{error}; its policies were removed", error.code, record.rotates)
            return self._renamed(record) or gone

    def _renamed(self, record: Record) -> Database | None:
        """Return the database of a record whose ARN no longer exists; None if it is gone, or has another record."""
        database = recorded.present(self._services.databases, record)
        if database is None:
            return None
        own_record = self._services.inventory.of(database)
        return database if own_record is not None and own_record.arn == record.arn else None

    def _without_iam(self, database: Database, record: Record | None, declaration: _Declaration) -> Ignored | None:
        """Return the result for a database that can't have IAM authentication, and has nothing to remove.

        A replica follows its source; a run that has recorded something is refused when it switches.
        """
        nothing_recorded = record is None or record.only_seen
        if database.iam_enabled or not declaration.users or not database.has_users or not nothing_recorded:
            return None
        support = self._services.databases.iam_support(database)
        if support.available:
            return None
        current = fingerprint.of_database(database, declaration.fingerprint(record))
        return Ignored(support.problem(database), "iam-unavailable", True, support.remedy, current)

    def _selection(self, database: Database) -> SelectedDatabase:
        return recorded.selection(self._services.databases, self._services.inventory, database, self._options.confirmed)

    def _declaration(self, database: Database, record: Record | None) -> _Declaration:
        """Read what access.yaml declares, and check the change limit as far as that needs no session."""
        declaration = _Declaration()
        try:
            file = self._services.access.current().file
            selection = self._selection(database)
            declaration = _Declaration(file.declared(selection), file.rotating(selection))
            gains = pending(file, selection) is not None
            waiting = self._waiting(database, selection, declaration)
        except AccessFileInvalid:
            return declaration
        limit = None
        if not self._options.unlimited and record is not None and record.is_of(database):
            limit = _limit(record, declaration, len(file.databases))
        return _Declaration(declaration.users, declaration.rotating, gains, limit, waiting)

    def _waiting(
        self, database: Database, selection: SelectedDatabase, declaration: _Declaration
    ) -> Unconfirmed | None:
        """Return the version of access.yaml that waits for confirmation, if it declares something else here."""
        newest = self._services.access.waiting()
        if newest is None:
            return None
        try:
            declared = newest.file.declared(selection), newest.file.rotating(selection)
        except AccessFileInvalid:
            declared = None
        if declared == (declaration.users, declaration.rotating):
            return None
        return Unconfirmed(database.arn, waits(newest.version), CONFIRM, retry=False)

    def _inspection(self, database: Database, record: Record | None, declaration: _Declaration) -> Inspection:
        own = record if record is not None and record.is_of(database) else None
        renamed = own is not None and own.arn != database.arn
        # If nothing is declared IAM authentication stays off: without it no managed user can log in.
        switches = not database.iam_enabled and declaration.users != ()
        revoked = self._options.revoked(record)
        effective = declaration.effective(revoked)
        return Inspection(
            database=database.arn,
            switch=switch(database) if switches else None,
            connects=database.has_users and (database.iam_enabled or switches),
            rotates=bool(declaration.rotating or (record and record.rotates)),
            outdated=_rotations_outdated(database, record, declaration),
            limit=declaration.limit,
            unready=unready(database),
            has_roles=record is not None and bool(record.roles),
            leaving=tuple(sorted(_leaving(own, effective, revoked))),
            returned=tuple(sorted(set(record.leaving) & effective)) if record and effective else (),
            version=own.access_version if own is not None else None,
            uncertain=database.has_users and own is not None and _uncertain(own, effective),
            finished=own is not None and own.finished,
            current=own is not None and own.fingerprint == _fingerprint(database, own, declaration),
            unrecorded=self._options.confirmed
            or not database.has_users
            or renamed
            or (record is not None and own is None),
            renamed=renamed,
            pending=own is not None and own.pending != "",
            waiting=declaration.waiting,
        )


def unready(database: Database) -> str:
    """Return why nothing can connect to the database yet; empty if it is ready."""
    if database.reachable:
        return ""
    if database.kind == "cluster" and database.host is None and database.status == "available":
        return f"{database.arn} has no instance yet that is its writer; the event of that instance onboards it"
    return f"{database.arn} is {database.status}; run this again when it is available"


def _classic_proxy(database: Database, record: Record | None) -> Ignored | Absent:
    reason = f"{database.arn} is a classic proxy, which logs in to its database with passwords from secrets"
    if record is None:
        return Ignored(reason, Unsupported.code)
    return Absent(f"{reason}; its policies are gone", Unsupported.code, rotates=False)


def _applied_or_leaving(record: Record) -> set[str]:
    """Return the users declared when the last onboarding finished, and the users leaving since."""
    return {*(record.applied.users if record.applied else ()), *record.leaving}


def _leaving(record: Record | None, effective: Collection[str] | None, revoked: Collection[str]) -> set[str]:
    """Return the users whose logins are removed, according to the record.

    :param effective: None if access.yaml is invalid: then only revoked users leave.
    """
    if record is None:
        return set()
    users = _applied_or_leaving(record) - {MANAGER, AUDITOR}
    return users & set(revoked) if effective is None else users - set(effective)


def _uncertain(record: Record, effective: frozenset[str] | None) -> bool:
    """Return whether the record of an unfinished run has accounts of which only the database knows more.

    They may be logins, groups, or users that were disabled long ago.
    """
    if effective is None or record.finished:
        return False
    return bool(set(record.accounts) - effective - _applied_or_leaving(record) - {MANAGER, AUDITOR})


def _limit(record: Record, declaration: _Declaration, entries: int) -> Refusal | None:
    """Return the refusal if access.yaml lost most of its entries, or too many users leave; None if neither is so.

    :param entries: number of entries of the file.
    """
    applied, declared = record.applied, declaration.users or ()
    if applied is None:
        return None
    # Users that are leaving already were within the limit, or confirmed.
    leaving = set(applied.users) - {user.name for user in declared} - set(record.revoked) - record.departing
    try:
        if declaration.fingerprint(record) != applied.declared:
            limit_file(applied.entries, entries)
        limit_users(leaving, len(applied.users), len(declared))
    except NeedsConfirmation as error:
        return Refusal.of(error)
    return None


def _fingerprint(database: Database, record: Record, declaration: _Declaration) -> str | None:
    """Return the fingerprint of the database and its declaration; None if access.yaml is invalid."""
    if declaration.users is None:
        return None
    return fingerprint.of_database(database, declaration.fingerprint(record))


def _rotations_outdated(database: Database, record: Record | None, declaration: _Declaration) -> bool:
    """Return whether a recorded secret may be rotated in a way that access.yaml no longer declares."""
    if declaration.users is None or record is None:
        return False
    users: Mapping[str, RotatingUser] = {user.name: user for user in declaration.rotating}
    return any(
        secret.state == "ready" and not (name in users and secret.permits(database, users[name]))
        for name, secret in record.secrets.items()
    )
