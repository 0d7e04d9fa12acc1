"""All IAM policies of one database, from access.yaml, Describe and the inventory alone: the work of PolicyFunction."""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from botocore.exceptions import ClientError

from rdsiam.access.effective import effective_users
from rdsiam.access.selection import NOTHING, select
from rdsiam.access.store import AccessStore
from rdsiam.access.users import DeclaredUser
from rdsiam.aws.rds import Database, Databases
from rdsiam.core.arn import Arn
from rdsiam.core.changes import Change, Refusal
from rdsiam.errors import AccessFileInvalid, AccessFileUnavailable, DatabaseNotFound, Refused, Unsupported
from rdsiam.policies.iam_policies import ConnectPolicies, wanted_by_role
from rdsiam.state.inventory import Inventory
from rdsiam.state.record import Record, selected

logger = logging.getLogger(__name__)

Status = Literal["written", "planned", "unchanged", "refused"]


@dataclass(frozen=True)
class Written:
    """The answer of PolicyFunction.

    :ivar reason: why it was refused, or a remark; empty otherwise.
    :ivar code: stable identifier of a refusal; empty otherwise.
    :ivar remedy: what to do about a refusal; empty otherwise.
    :ivar changes: made, or planned.
    """

    database: str
    status: Status
    reason: str = ""
    code: str = ""
    remedy: str = ""
    changes: tuple[Change, ...] = ()

    @classmethod
    def refused(cls, database: str, refusal: Refusal) -> "Written":
        """Return the answer if nothing was changed."""
        return cls(database, "refused", refusal.problem, refusal.code, refusal.remedy)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that PolicyFunction answers with."""
        return {
            "database": self.database,
            "status": self.status,
            "code": self.code,
            "reason": self.reason,
            "remedy": self.remedy,
            "changes": [change.to_json() for change in self.changes],
        }


@dataclass(frozen=True)
class Assumptions:
    """Assumptions of a plan.

    :ivar revoked: users to treat as revoked; None for those that the inventory records.
    :ivar confirmed: treat the current attributes of the database as confirmed.
    """

    revoked: Collection[str] | None = None
    confirmed: bool = False


@dataclass(frozen=True)
class _Scope:
    """The databases whose policies are written together.

    The resource id that policies named until now may be that of a database with another name: it was renamed, or
    switched over from blue to green. Then its policies are written too, so that withdrawing the old name spares them.

    :ivar record: of the database that was asked for.
    :ivar stale: whether a `dbuser` ARN names one of these databases, or the former one.
    """

    record: Record | None
    databases: tuple[Database, ...]
    stale: Callable[[str], bool]


@dataclass(frozen=True)
class _Logins:
    """The logins that access.yaml declares: role → `dbuser` ARNs, for each database of a scope."""

    by_database: tuple[tuple[Database, Mapping[str, frozenset[str]]], ...]

    @property
    def roles(self) -> frozenset[str]:
        """The roles with a login."""
        return frozenset[str]().union(*(roles_with_login(by_role) for _, by_role in self.by_database))

    def of(self, role: str) -> frozenset[str]:
        """Return the `dbuser` ARNs of a role in all these databases."""
        return frozenset[str]().union(*(by_role.get(role, frozenset()) for _, by_role in self.by_database))


def roles_with_login(by_role: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return the roles that have at least one login."""
    return frozenset(role for role, arns in by_role.items() if arns)


class PolicyWriter:
    """Makes IAM match access.yaml for one database at a time."""

    def __init__(
        self,
        databases: Databases,
        access: AccessStore,
        inventory: Inventory,
        policies: ConnectPolicies,
        connect_role: str,
    ) -> None:
        self._databases = databases
        self._access = access
        self._inventory = inventory
        self._policies = policies
        self._connect_role = connect_role

    def plan(self, arn: str, assumed: Assumptions) -> Written:
        """Return the changes that `write` would make.

        :raises AccessFileUnavailable: access.yaml can't be read.
        """
        scope = self._scope(arn)
        try:
            logins = self._checked_logins(scope, assumed)
            changes = self._converge(scope, logins, dry_run=True)
        except (Refused, AccessFileInvalid) as error:
            return Written.refused(arn, Refusal.of(error))
        return Written(arn, "planned" if changes else "unchanged", changes=changes)

    def write(self, arn: str) -> Written:
        """Write the policies of the roles with logins for the database, and take its logins out of all others.

        A role whose logins don't fit leaves the policies of the others as they are.

        :raises AccessFileUnavailable: access.yaml can't be read; nothing is changed.
        """
        scope = self._scope(arn)
        try:
            logins = self._checked_logins(scope, None)
            self._record_roles(scope, logins)
            changes = self._converge(scope, logins, dry_run=True)
        except (Refused, AccessFileInvalid) as error:
            return Written.refused(arn, Refusal.of(error))
        if not changes:
            return Written(arn, "unchanged")
        self._converge(scope, logins, dry_run=False)
        for database, by_role in logins.by_database:
            self._inventory.set_roles(database.arn, database.resource_id, roles_with_login(by_role))
        return Written(arn, "written", changes=changes)

    def withdraw(self, arn: str) -> Written:
        """Take revoked logins, and logins that are no longer declared, out of policies; add none.

        Nothing refuses this: neither a role without a tag nor a role that is full. If access.yaml is invalid, or can't
        be read, only revoked users lose their logins: which other logins are no longer declared is unknown.
        """
        scope = self._scope(arn)
        if scope.record is None or not scope.record.roles:
            return Written(arn, "unchanged")
        remark, gone = self._withdrawn(scope)
        changes: list[Change] = []
        failures: list[ClientError] = []
        for role in scope.record.roles:
            try:
                changes += self._policies.withdraw(role, partial(gone, role), dry_run=False)
            except ClientError as error:
                logger.warning("logins of %s could not be withdrawn: %s", role, error)
                failures.append(error)
        if failures:
            raise failures[0]  # after the logins of all other roles are withdrawn
        return Written(arn, "written" if changes else "unchanged", remark, changes=tuple(changes))

    def _withdrawn(self, scope: _Scope) -> tuple[str, Callable[[str, str], bool]]:
        """Return a remark, and a function that says whether a role loses a `dbuser` ARN."""
        try:
            logins = self._logins(scope, None)
        except (AccessFileInvalid, AccessFileUnavailable) as error:
            revoked = {database.connect_arn(user) for database in scope.databases for user in self._revoked(database)}
            return f"only revoked users lost their logins: {error}", lambda _, connect_arn: connect_arn in revoked
        return "", lambda role, connect_arn: scope.stale(connect_arn) and connect_arn not in logins.of(role)

    def _checked_logins(self, scope: _Scope, assumed: Assumptions | None) -> _Logins:
        """Return the declared logins.

        :raises Refused: the owner of a role doesn't allow rdsiam to attach policies to it.
        """
        logins = self._logins(scope, assumed)
        for database, by_role in logins.by_database:
            self._policies.check_roles(database, by_role, by_role)
        return logins

    def _converge(self, scope: _Scope, logins: _Logins, dry_run: bool) -> tuple[Change, ...]:
        """Make, or plan, the policies of all roles that have logins, or had some.

        :raises Refused: the logins of a role don't fit.
        """
        changes: list[Change] = []
        for role in sorted(_roles(scope, logins)):
            changes += self._policies.converge(role, scope.stale, logins.of(role), dry_run)
        return tuple(changes)

    def _logins(self, scope: _Scope, assumed: Assumptions | None) -> _Logins:
        return _Logins(tuple((database, self._by_role(database, assumed)) for database in scope.databases))

    def _by_role(self, database: Database, assumed: Assumptions | None) -> Mapping[str, frozenset[str]]:
        return wanted_by_role(database, self._users(database, assumed), self._connect_role)

    def _users(self, database: Database, assumed: Assumptions | None) -> tuple[DeclaredUser, ...]:
        """Return the effective users of a database.

        :param assumed: None unless this is a plan.
        """
        record = self._inventory.of(database)
        selection, revoked = selected(database, record), self._revoked(database)
        if assumed is None and selection.recorded is None:
            selection = select(database, NOTHING)  # onboarding records the attributes before policies are written
        elif assumed is not None and assumed.confirmed:
            selection = selection.confirmed
        if assumed is not None and assumed.revoked is not None:
            revoked = assumed.revoked
        return effective_users(self._access.current().file.declared(selection), revoked)

    def _scope(self, arn: str) -> _Scope:
        database = self._describe(arn)
        record = self._inventory.get(arn) if database is None else self._inventory.of(database)
        former = record.policy_resource_id if record else None
        databases = [] if database is None else [database]
        if former and (database is None or database.resource_id != former):
            databases += self._moved(former)
        resource_ids = {database.resource_id for database in databases} | ({former} if former else set())
        place = Arn.parse(arn)

        def stale(connect_arn: str) -> bool:
            return any(f":rds-db:{place.region}:{place.account}:dbuser:{id}/" in connect_arn for id in resource_ids)

        return _Scope(record, tuple(databases), stale)

    def _revoked(self, database: Database) -> Collection[str]:
        record = self._inventory.of(database)
        return record.revoked if record else ()

    def _describe(self, arn: str) -> Database | None:
        """Return the database; None if it is gone, or a proxy that has become a classic one."""
        try:
            database = self._databases.describe(arn)
        except DatabaseNotFound:
            return None
        return None if database.kind == "proxy" and not database.iam_enabled else database

    def _moved(self, resource_id: str) -> list[Database]:
        """Return what has this resource id now, under another name."""
        try:
            found = self._databases.of_resource(resource_id)
        except Unsupported:
            return []
        return [] if found is None or (found.kind == "proxy" and not found.iam_enabled) else [found]

    def _record_roles(self, scope: _Scope, logins: _Logins) -> None:
        """Record the roles before the first policy is written, so that a killed run leaves no unknown policy.

        The former resource id stays recorded until its ARNs are out of every policy.
        """
        roles = _roles(scope, logins)
        for database in scope.databases:
            record = self._inventory.get(database.arn)
            recorded = frozenset(record.roles) if record else frozenset[str]()
            if roles - recorded:
                former = record.policy_resource_id if record else None
                self._inventory.set_roles(database.arn, former or database.resource_id, roles | recorded)


def _roles(scope: _Scope, logins: _Logins) -> frozenset[str]:
    """Return the roles that have logins, or had some."""
    return logins.roles | (frozenset(scope.record.roles) if scope.record else frozenset[str]())
