"""The databases of an account, and the logins to them that access.yaml gives to IAM roles; no I/O."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from rdsiam.access.model import AccessFile
from rdsiam.access.selection import select
from rdsiam.access.users import DeclaredUser
from rdsiam.audit.deployment import Deployment
from rdsiam.audit.drift import Login
from rdsiam.aws.iam import Holder
from rdsiam.aws.rds import Database, ResourceIds
from rdsiam.errors import AccessFileInvalid


@dataclass(frozen=True)
class Fleet:
    """The databases of the account and region.

    :ivar resource_ids: the ids of all databases that RDS lists, and of members of clusters.
    :ivar databases: resource id → database; audited databases only.
    :ivar users: resource id → names of the users in the database's catalogs; readable databases only.
    :ivar logins: resource id → logins that onboarding gave to roles.
    """

    resource_ids: ResourceIds
    databases: Mapping[str, Database]
    users: Mapping[str, Collection[str]] = field(default_factory=dict)
    logins: Mapping[str, Collection[Login]] = field(default_factory=dict)

    @cached_property
    def by_identifier(self) -> Mapping[str, str]:
        """Identifier → resource id."""
        return {arn.rpartition(":")[2]: resource_id for resource_id, arn in self.resource_ids.known.items()}


class DeclaredLogins:
    """The logins that access.yaml gives to IAM roles, looked up once per database."""

    def __init__(self, access: AccessFile, fleet: Fleet, deployment: Deployment) -> None:
        self._access = access
        self._fleet = fleet
        self._deployment = deployment
        self._users: dict[str, Mapping[str, DeclaredUser]] = {}

    def users(self, resource_id: str) -> Mapping[str, DeclaredUser]:
        """Return the declared users of a database by name; empty if access.yaml is invalid for this database."""
        if resource_id not in self._users:
            database = self._fleet.databases.get(resource_id)
            try:
                users = self._access.declared(select(database, None)) if database else ()
            except AccessFileInvalid:
                users = ()  # an invalid file gives no logins; the database has another finding for it
            self._users[resource_id] = {user.name: user for user in users}
        return self._users[resource_id]

    def gives(self, holder: Holder, resource_id: str, user: str) -> bool:
        """Tell whether access.yaml lets the holder log in as a user with the holder's own credentials.

        That is a role under `roles`, or a shard of ConnectRole for a user that has callers, whose tokens it signs.
        """
        declared = self.users(resource_id).get(user)
        if declared is None or holder.type != "role":
            return False
        return holder.arn in declared.roles or (holder.arn in self._deployment.connect_roles and bool(declared.callers))

    def arns_of(self, holder: Holder) -> list[str]:
        """Return the ARNs of all database users that access.yaml gives to a holder, sorted."""
        return sorted(
            self._deployment.user_arn(resource_id, user)
            for resource_id in self._fleet.databases
            for user in self.users(resource_id)
            if self.gives(holder, resource_id, user)
        )
