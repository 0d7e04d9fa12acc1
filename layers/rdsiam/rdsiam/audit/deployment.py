"""The stack that audits: its account, its region, its roles."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Deployment:
    """Account and region whose databases are audited, and the roles that may log in to them without an entry.

    :ivar connect_roles: ARNs of the shards of ConnectRole, in their order, which log in as the users that tokens are
        vended for; the inventory records the shard of each of these users.
    :ivar stack_roles: ARNs of the stack's other roles.
    :ivar operators: the stack's parameter Operators: ARNs of roles and users that may log in as any user; `*` allowed.
    """

    partition: str
    region: str
    account: str
    connect_roles: tuple[str, ...] = ()
    stack_roles: frozenset[str] = frozenset()
    operators: tuple[str, ...] = ()

    def user_arn(self, resource_id: str, user: str) -> str:
        """Return the ARN that a login as a database user needs."""
        return f"arn:{self.partition}:rds-db:{self.region}:{self.account}:dbuser:{resource_id}/{user}"
