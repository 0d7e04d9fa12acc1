"""What PolicyFunction does: all of one database's IAM policies, from access.yaml, Describe and the inventory alone."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from botocore.exceptions import ClientError

from rdsiam.access.effective import effective_users
from rdsiam.access.selection import NOTHING, select
from rdsiam.access.store import AccessStore
from rdsiam.aws.rds import Database, Databases
from rdsiam.core.arn import Arn
from rdsiam.core.changes import Change
from rdsiam.errors import AccessFileInvalid, AccessFileUnavailable, DatabaseNotFound, Refused, Unsupported
from rdsiam.policies.iam_policies import ConnectPolicies, wanted_by_role
from rdsiam.state.inventory import Inventory, Record, selected

logger = logging.getLogger(__name__)

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

    def write(
        self, arn: str, plan: bool, assume_revoked: Collection[str] | None = None, confirmed: bool = False
    ) -> Written:
        """Write the policies of the roles that may log in to the database, and take it out of all others.

        The resource id that policies named until now may live on under another name: renamed, or switched over from
        blue to green. Then that database's policies are written along, so that taking the old name's away spares them.

        :param plan: change nothing, say what would be.
        :param assume_revoked: users to be taken for revoked, of a plan; None for those that are.
        :param confirmed: of a plan: the current attributes of the database are taken for confirmed.
        :raises AccessFileUnavailable: nothing is changed on doubt.
        """
        record, alive, stale = self._concerned(arn)
        try:
            wanted = [self._wanted(one, plan, assume_revoked if plan else None, confirmed) for one in alive]
            for one, by_role in zip(alive, wanted, strict=True):
                self._policies.refuse_foreign_roles(one, by_role)
        except (Refused, AccessFileInvalid) as error:
            return Written(arn, "refused", str(error), ())
        had = set(record.roles) if record else set()
        roles = {role for one in wanted for role, arns in one.items() if arns} | had
        if not plan:
            for one in alive:
                self._remember(one, roles)
        changes: list[Change] = []
        together = _together(wanted, roles)
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

    def withdraw(self, arn: str) -> Written:
        """Take the logins that are declared no longer, and those of revoked users, out of policies; give none.

        Nothing refuses this: neither a role without a tag, nor one that is full. If access.yaml is broken, or can't be
        read, only revoked users lose their logins: who else is declared no longer isn't known.
        """
        record, alive, stale = self._concerned(arn)
        if record is None or not record.roles:
            return Written(arn, "unchanged", "", ())
        reason, declared, revoked = "", None, set[str]()
        try:
            declared = _together([self._wanted(one, False, None, False) for one in alive], record.roles)
        except (AccessFileInvalid, AccessFileUnavailable) as error:
            reason = f"only revoked users lost their logins: {error}"
            revoked = {one.connect_arn(user) for one in alive for user in self._revoked(one)}

        def gone(role: str, connect_arn: str) -> bool:
            if declared is None:
                return connect_arn in revoked
            return stale(connect_arn) and connect_arn not in declared[role]

        changes: list[Change] = []
        failed: list[ClientError] = []
        for role in record.roles:
            try:
                changes += self._policies.withdraw(role, partial(gone, role), dry_run=False)
            except ClientError as error:
                logger.warning("logins of %s could not be withdrawn: %s", role, error)
                failed.append(error)
        if failed:
            raise failed[0]  # now that all others are withdrawn
        return Written(arn, "written" if changes else "unchanged", reason, tuple(changes))

    def _concerned(self, arn: str) -> tuple[Record | None, list[Database], Callable[[str], bool]]:
        """Return the record, the databases whose policies are written together, and which ARNs are theirs."""
        database = self._describe(arn)
        record = self._inventory.get(arn) if database is None else self._inventory.of(database)
        former = record.policy_resource_id if record else None
        alive = [] if database is None else [database]
        if former and (database is None or database.resource_id != former):
            alive += self._moved(former)
        stale_ids = {one.resource_id for one in alive} | ({former} if former else set())
        place = Arn.parse(arn)

        def stale(connect_arn: str) -> bool:
            return any(f":rds-db:{place.region}:{place.account}:dbuser:{one}/" in connect_arn for one in stale_ids)

        return record, alive, stale

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

    def _wanted(
        self, database: Database, plan: bool, assume_revoked: Collection[str] | None, confirmed: bool
    ) -> dict[str, frozenset[str]]:
        record = self._inventory.of(database)
        selection = selected(database, record)
        if plan and confirmed:
            selection = selection.confirmed
        elif not plan and selection.recorded is None:
            selection = select(database, NOTHING)  # onboarding records the attributes before policies are written
        revoked = assume_revoked if assume_revoked is not None else record.revoked if record else ()
        users = effective_users(self._access.current().file.declared(selection), revoked)
        return wanted_by_role(database, users, self._connect_role)

    def _remember(self, database: Database, roles: set[str]) -> None:
        """Write down the roles before the first policy is written: a run that is killed leaves none that nobody knows.

        The former resource id stays until its ARNs are out of every policy.
        """
        record = self._inventory.get(database.arn)
        known = set(record.roles) if record else set()
        if roles - known:
            former = record.policy_resource_id if record else None
            self._inventory.set_roles(database.arn, former or database.resource_id, roles | known)


def _together(wanted: Iterable[Mapping[str, frozenset[str]]], roles: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return what each role may connect to, in all databases together."""
    databases = list(wanted)
    return {role: frozenset[str]().union(*(one.get(role, frozenset()) for one in databases)) for role in roles}
