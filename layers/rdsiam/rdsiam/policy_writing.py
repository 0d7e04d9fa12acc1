"""What PolicyFunction does: all of one database's IAM policies, from access.yaml, Describe and the inventory alone."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from rdsiam.access_store import AccessStore
from rdsiam.changes import Change
from rdsiam.databases import Database, Databases
from rdsiam.errors import AccessFileInvalid, DatabaseNotFound, Refused, Unsupported
from rdsiam.inventory import Inventory, selected
from rdsiam.policies import ConnectPolicies, wanted_by_role
from rdsiam.selection import NOTHING, select
from rdsiam.standing import standing

Status = Literal["written", "planned", "unchanged", "refused"]


@dataclass(frozen=True)
class Written:
    """What was changed, or would be.

    :ivar reason: why it was refused; empty otherwise.
    """

    database: str
    status: Status
    reason: str
    changes: tuple[Change, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as PolicyFunction answers."""
        return {
            "database": self.database,
            "status": self.status,
            "reason": self.reason,
            "changes": [change.to_json() for change in self.changes],
        }


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

    def write(self, arn: str, plan: bool, supposed: Collection[str] | None = None, confirmed: bool = False) -> Written:
        """Write the policies of the roles that may log in to the database, and take it out of all others.

        The resource id that policies named until now may live on under another name: renamed, or switched over from
        blue to green. Then that database's policies are written along, so that taking the old name's away spares them.

        :param plan: change nothing, say what would be.
        :param supposed: users to be taken for revoked, of a plan; None for those that are.
        :param confirmed: of a plan: the current attributes of the database are taken for confirmed.
        :raises AccessFileUnavailable: nothing is changed on doubt.
        """
        database = self._describe(arn)
        record = self._inventory.get(arn) if database is None else self._inventory.of(database)
        former = record.policy_resource_id if record else None
        alive = [] if database is None else [database]
        if former and (database is None or database.resource_id != former):
            alive += self._moved(former)
        try:
            wanted = [self._wanted(one, plan, supposed if plan else None, confirmed) for one in alive]
        except (Refused, AccessFileInvalid) as error:
            return Written(arn, "refused", str(error), ())
        stale_ids = {one.resource_id for one in alive} | ({former} if former else set())
        region, account = arn.split(":")[3:5]

        def stale(connect_arn: str) -> bool:
            return any(f":rds-db:{region}:{account}:dbuser:{one}/" in connect_arn for one in stale_ids)

        had = set(record.roles) if record else set()
        roles = {role for one in wanted for role, arns in one.items() if arns} | had
        if not plan:
            for one in alive:
                self._remember(one, roles)
        changes: list[Change] = []
        together = {role: frozenset[str]().union(*(one.get(role, frozenset()) for one in wanted)) for role in roles}
        try:
            # First what must fit, then what is changed: a role that is full leaves the others as they are.
            for role in sorted(roles):
                changes += self._policies.converge(role, stale, together[role], dry_run=True)
        except Refused as error:
            return Written(arn, "refused", str(error), ())
        if plan or not changes:
            return Written(arn, "planned" if changes else "unchanged", "", tuple(changes))
        for role in sorted(roles):
            self._policies.converge(role, stale, together[role], dry_run=False)
        for one, by_role in zip(alive, wanted, strict=True):
            self._inventory.set_roles(one.arn, one.resource_id, {role for role, arns in by_role.items() if arns})
        return Written(arn, "written", "", tuple(changes))

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

    def _wanted(
        self, database: Database, plan: bool, supposed: Collection[str] | None, confirmed: bool
    ) -> dict[str, frozenset[str]]:
        record = self._inventory.of(database)
        selection = selected(database, record)
        if plan and confirmed:
            selection = selection.confirmed
        elif not plan and selection.recorded is None:
            selection = select(database, NOTHING)  # onboarding records the attributes before policies are written
        revoked = supposed if supposed is not None else record.revoked if record else ()
        users = standing(self._access.current().file.declared(selection), revoked)
        wanted = wanted_by_role(database, users, self._connect_role)
        self._policies.refuse_foreign_roles(database, wanted)
        return wanted

    def _remember(self, database: Database, roles: set[str]) -> None:
        """Write down the roles before the first policy is written: a run that is killed leaves none that nobody knows.

        The former resource id stays until its ARNs are out of every policy.
        """
        record = self._inventory.get(database.arn)
        known = set(record.roles) if record else set()
        if roles - known:
            former = record.policy_resource_id if record else None
            self._inventory.set_roles(database.arn, former or database.resource_id, roles | known)
