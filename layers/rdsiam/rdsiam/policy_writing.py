"""What PolicyFunction does: all of one database's IAM policies, from access.yaml, Describe and the inventory alone."""

from dataclasses import dataclass
from typing import Any, Literal

from rdsiam.access_store import AccessStore
from rdsiam.changes import Change
from rdsiam.databases import Databases
from rdsiam.errors import AccessFileInvalid, DatabaseNotFound, Refused
from rdsiam.inventory import Inventory
from rdsiam.policies import ConnectPolicies, wanted_by_role

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

    def write(self, arn: str, plan: bool) -> Written:
        """Write the policies of the roles that may log in to the database, and take it out of all others.

        :param plan: change nothing, say what would be.
        :raises AccessFileUnavailable: nothing is changed on doubt.
        """
        record = self._inventory.get(arn)
        stale_ids = {record.policy_resource_id} if record and record.policy_resource_id else set()
        had = set(record.roles) if record else set()
        try:
            database = self._databases.describe(arn)
        except DatabaseNotFound:
            wanted: dict[str, frozenset[str]] = {}
            resource_id = None
        else:
            stale_ids.add(database.resource_id)
            resource_id = database.resource_id
            try:
                users = self._access.current().file.declared(database)
                wanted = wanted_by_role(database, users, self._connect_role)
                self._policies.refuse_foreign_roles(database, wanted)
            except (Refused, AccessFileInvalid) as error:
                return Written(arn, "refused", str(error), ())
        region, account = arn.split(":")[3:5]

        def stale(connect_arn: str) -> bool:
            return any(f":rds-db:{region}:{account}:dbuser:{one}/" in connect_arn for one in stale_ids)

        roles = {role for role, arns in wanted.items() if arns} | had
        if not plan and resource_id and roles != had:
            # Before the first policy is written: a run that is killed leaves none that nobody knows of.
            # The former resource id stays until its ARNs are out of every policy.
            former = record.policy_resource_id if record and record.policy_resource_id else resource_id
            self._inventory.set_roles(arn, former, roles)
        changes: list[Change] = []
        try:
            # First what must fit, then what is changed: a role that is full leaves the others as they are.
            for role in sorted(roles):
                changes += self._policies.converge(role, stale, wanted.get(role, frozenset()), dry_run=True)
        except Refused as error:
            return Written(arn, "refused", str(error), ())
        if plan or not changes:
            return Written(arn, "planned" if changes else "unchanged", "", tuple(changes))
        for role in sorted(roles):
            self._policies.converge(role, stale, wanted.get(role, frozenset()), dry_run=False)
        if resource_id:
            self._inventory.set_roles(arn, resource_id, {role for role, arns in wanted.items() if arns})
        return Written(arn, "written", "", tuple(changes))
