"""All IAM policies of one database, from access.yaml, Describe and the inventory alone: the work of PolicyFunction."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from botocore.exceptions import ClientError

from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.access.effective import effective_users
from rdsiam.access.selection import NOTHING, select
from rdsiam.access.users import DeclaredUser
from rdsiam.aws.rds import Database, Databases
from rdsiam.core.arn import Arn
from rdsiam.core.changes import Change, MissingPart, Refusal
from rdsiam.errors import (
    AccessFileInvalid,
    AccessFileUnavailable,
    DatabaseNotFound,
    LeaseTaken,
    Refused,
    Unsupported,
)
from rdsiam.policies.iam_policies import ConnectPolicies
from rdsiam.policies.run import Logins, Run, Scope, Wanted, logins_of
from rdsiam.policies.shards import ConnectRoles
from rdsiam.state import role_leases
from rdsiam.state.inventory import Inventory
from rdsiam.state.record import selected
from rdsiam.state.role_leases import ChangesNotVisible, RoleLeases, policies_of

logger = logging.getLogger(__name__)


Status = Literal["written", "planned", "unchanged", "refused", "busy"]


@dataclass(frozen=True)
class Written:
    """The answer of PolicyFunction.

    :ivar status: `busy`: another run changes policies of the same role, so nothing, or not all, was done: try again.
    :ivar reason: why it was refused, or a remark; empty otherwise.
    :ivar code: stable identifier of a refusal; empty otherwise.
    :ivar remedy: what to do about a refusal; empty otherwise.
    :ivar changes: made, or planned.
    :ivar incomplete: logins for which a role has no room.
    """

    database: str
    status: Status
    reason: str = ""
    code: str = ""
    remedy: str = ""
    changes: tuple[Change, ...] = ()
    incomplete: tuple[MissingPart, ...] = ()

    @classmethod
    def refused(cls, database: str, refusal: Refusal) -> "Written":
        """Return the answer if nothing was changed."""
        return cls(database, "refused", refusal.problem, refusal.code, refusal.remedy)

    @classmethod
    def busy(cls, database: str, error: LeaseTaken | ChangesNotVisible, changes: Sequence[Change] = ()) -> "Written":
        """Return the answer if another run has the lease of a role, or had it a moment ago."""
        return cls(database, "busy", str(error), error.code, changes=tuple(changes))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that PolicyFunction answers with."""
        return {
            "database": self.database,
            "status": self.status,
            "code": self.code,
            "reason": self.reason,
            "remedy": self.remedy,
            "changes": [change.to_json() for change in self.changes],
            "incomplete": [part.to_json() for part in self.incomplete],
        }


@dataclass(frozen=True)
class Assumptions:
    """Assumptions of a plan.

    :ivar revoked: users to treat as revoked; None for those that the inventory records.
    :ivar confirmed: treat the current attributes of the database as confirmed.
    """

    revoked: Collection[str] | None = None
    confirmed: bool = False


class PolicyWriter:
    """Makes IAM match access.yaml for one database at a time."""

    def __init__(
        self,
        databases: Databases,
        access: ConfirmedAccess,
        inventory: Inventory,
        policies: ConnectPolicies,
        connect_roles: ConnectRoles,
        leases: RoleLeases,
    ) -> None:
        self._databases = databases
        self._access = access
        self._inventory = inventory
        self._policies = policies
        self._connect_roles = connect_roles
        self._leases = leases

    def plan(self, arn: str, assumed: Assumptions) -> Written:
        """Return the changes that `write` would make.

        :raises AccessFileUnavailable: access.yaml can't be read.
        """
        scope = self._scope(arn)
        try:
            logins = self._checked_logins(scope, assumed)
        except (Refused, AccessFileInvalid) as error:
            return Written.refused(arn, Refusal.of(error))
        run = Run(self._policies, self._connect_roles, scope, logins)
        plans = run.plans(run.assign())
        changes = tuple(change for plan in plans.values() for change in plan.changes)
        for role, plan in plans.items():
            run.note(role, plan)
        return Written(arn, "planned" if changes else "unchanged", changes=changes, incomplete=run.missing)

    def write(self, arn: str) -> Written:
        """Write the policies of the roles with logins for the database, and take its logins out of all others.

        Logins for which a role has no room are left out, and named.

        :raises AccessFileUnavailable: access.yaml can't be read; nothing is changed.
        """
        try:
            scope = self._scope(arn)
            leased = self._leased(scope, self._logins(scope, None))
            while True:
                with self._leases.hold(leased, f"policies of {arn}") as written:
                    # Under the leases, since another run may have applied a newer access.yaml before.
                    scope = self._scope(arn)
                    logins = self._checked_logins(scope, None)
                    if self._leased(scope, logins) <= leased:
                        return self._write(arn, scope, logins, written)
                leased |= self._leased(scope, logins)
        except (Refused, AccessFileInvalid) as error:
            return Written.refused(arn, Refusal.of(error))
        except (LeaseTaken, ChangesNotVisible) as error:
            return Written.busy(arn, error)

    def _write(self, arn: str, scope: Scope, logins: Sequence[Logins], written: role_leases.Written) -> Written:
        """Write policies, under the leases of their roles."""
        run = Run(self._policies, self._connect_roles, scope, logins, written)
        wanted = run.assign()
        plans = run.plans(wanted)
        if any(plan.actions for plan in plans.values()):
            self._record_roles(logins, frozenset(plans), wanted)
        changes: list[Change] = []
        for role, plan in plans.items():
            changes += run.apply(role, plan).changes
        for each in logins:
            self._record(each, wanted.roles_of(each, self._connect_roles), wanted)
        return Written(arn, "written" if changes else "unchanged", changes=tuple(changes), incomplete=run.missing)

    def withdraw(self, arn: str) -> Written:
        """Take revoked logins, and logins that are no longer declared, out of policies; add none.

        Nothing refuses this: neither a role without a tag nor a role that is full. If access.yaml is invalid, or can't
        be read, only revoked users lose their logins: which other logins are no longer declared is unknown. It goes
        before all runs that write the same role.
        """
        scope = self._scope(arn)
        if not scope.roles:
            return Written(arn, "unchanged")
        remark = ""
        changes: list[Change] = []
        failures: list[ClientError] = []
        busy: LeaseTaken | ChangesNotVisible | None = None
        for role in sorted(scope.roles):
            try:
                holder = f"withdrawal from policies of {arn}"
                with self._leases.hold({self._lease(role)}, holder, withdraws=True) as written:
                    # Under the lease, since a run before may have given logins that a newer access.yaml declares.
                    remark, gone = self._withdrawn(scope)
                    policies = self._policies.read(role)
                    written.check(role, policies.prefix, policies.shown)
                    changes += policies.apply(policies.withdraw(partial(gone, role)), written.add).changes
            except (LeaseTaken, ChangesNotVisible) as error:
                busy = error
            except ClientError as error:
                logger.warning("logins of %s could not be withdrawn: %s", role, error)
                failures.append(error)
        if failures:
            raise failures[0]  # after the logins of all other roles are withdrawn
        if busy:
            return Written.busy(arn, busy, changes)
        return Written(arn, "written" if changes else "unchanged", remark, changes=tuple(changes))

    def _withdrawn(self, scope: Scope) -> tuple[str, Callable[[str, str], bool]]:
        """Return a remark, and a function that says whether a role loses a `dbuser` ARN."""
        try:
            logins = self._logins(scope, None)
        except (AccessFileInvalid, AccessFileUnavailable) as error:
            revoked = {database.connect_arn(user) for database in scope.databases for user in self._revoked(database)}
            return f"only revoked users lost their logins: {error}", lambda _, connect_arn: connect_arn in revoked
        vended = frozenset[str]().union(*(each.arns(each.vended) for each in logins))

        def gone(role: str, connect_arn: str) -> bool:
            if not scope.stale(connect_arn):
                return False
            if role in self._connect_roles.arns:
                return connect_arn not in vended
            return not any(connect_arn in each.by_role.get(role, ()) for each in logins)

        return "", gone

    def _checked_logins(self, scope: Scope, assumed: Assumptions | None) -> tuple[Logins, ...]:
        """Return the declared logins.

        :raises Refused: the owner of a role doesn't allow rdsiam to attach policies to it.
        """
        logins = self._logins(scope, assumed)
        for each in logins:
            self._policies.check_roles(each.database, each.by_role, each.by_role)
        return logins

    def _logins(self, scope: Scope, assumed: Assumptions | None) -> tuple[Logins, ...]:
        return tuple(logins_of(database, self._users(database, assumed)) for database in scope.databases)

    def _leased(self, scope: Scope, logins: Sequence[Logins]) -> set[str]:
        """Return the subjects of the leases of all roles that have logins, or had some, or may get some.

        The databases have such leases too: two runs over one database may have no role in common.
        """
        roles = scope.roles.union(*(each.by_role for each in logins))
        leased = {self._lease(role) for role in roles} | {policies_of(each) for each in scope.resource_ids}
        return leased | ({self._lease(self._connect_roles.arns[0])} if any(each.vended for each in logins) else set())

    def _lease(self, role: str) -> str:
        """Return the subject of a role's lease. All shards have one, so that a user's shard is chosen under it."""
        return self._connect_roles.arns[0] if role in self._connect_roles.arns else role

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

    def _scope(self, arn: str) -> Scope:
        database = self._describe(arn)
        record = self._inventory.get(arn) if database is None else self._inventory.of(database)
        roles = frozenset(record.roles) if record else frozenset[str]()
        former = record.policy_resource_id if record else None
        databases = [] if database is None else [database]
        if former and (database is None or database.resource_id != former):
            databases += self._moved(former)
        resource_ids = frozenset(database.resource_id for database in databases) | ({former} if former else set())
        place = Arn.parse(arn)

        def stale(connect_arn: str) -> bool:
            return any(f":rds-db:{place.region}:{place.account}:dbuser:{id}/" in connect_arn for id in resource_ids)

        shards = {
            each.arn: own.shards
            for each in databases
            if (own := self._inventory.of(each)) is not None and own.is_of(each)
        }
        return Scope(roles, tuple(databases), resource_ids, shards, stale)

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
            database = self._databases.of_resource(resource_id)
        except Unsupported:
            return []
        return [] if database is None or (database.kind == "proxy" and not database.iam_enabled) else [database]

    def _record_roles(self, logins: Sequence[Logins], roles: frozenset[str], wanted: Wanted) -> None:
        """Record roles and shards before the first policy is written, so that a killed run leaves no unknown policy.

        The former resource id stays recorded until its ARNs are out of every policy.
        """
        for each in logins:
            record = self._inventory.get(each.database.arn)
            recorded = frozenset(record.roles) if record else frozenset[str]()
            former = record.policy_resource_id if record else None
            self._record(each, roles | recorded, wanted, former)

    def _record(self, logins: Logins, roles: frozenset[str], wanted: Wanted, former: str | None = None) -> None:
        database = logins.database
        shards = wanted.shards[database.arn].shards
        resource_id = former or database.resource_id
        record = self._inventory.get(database.arn)
        recorded = (frozenset(record.roles), record.shards, record.policy_resource_id) if record else None
        if recorded != (roles, shards, resource_id) and (recorded or roles):
            self._inventory.set_roles(database.arn, resource_id, roles, shards)
