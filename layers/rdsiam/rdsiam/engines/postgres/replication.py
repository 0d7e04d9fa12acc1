"""Users that replicate: RDS accepts their tokens for that only if `rds.iam_auth_for_replication` is 1."""

from rdsiam.engines.postgres.lockout import IAM_ROLE, members
from rdsiam.engines.postgres.snapshot import SUPERUSERS, Snapshot
from rdsiam.engines.protocols import DesiredState
from rdsiam.errors import Refused

#: Role of RDS whose members may replicate.
REPLICATION_ROLE = "rds_replication"
PARAMETER = "rds.iam_auth_for_replication"


def keep_reason(snapshot: Snapshot, user: str, successor: str) -> str:
    """Return why a user must keep its password because it replicates; empty if it need not.

    :param successor: the user that takes tokens in its place: the user itself if it is migrated in place.
    """
    if not _replicates(snapshot, user):
        return ""
    if not snapshot.replication_by_token:
        return f"{user} replicates, and this database takes tokens for that only with {PARAMETER} = 1"
    if snapshot.roles[user].replication and successor != user:
        return f"{user} replicates by its attribute REPLICATION, which {successor or 'no successor'} does not inherit"
    return ""


def refuse(snapshot: Snapshot, desired: DesiredState) -> None:
    """Check that no user is adopted whose replication would stop.

    :raises Refused: the database takes no tokens for replication.
    """
    if snapshot.replication_by_token:
        return
    for user in desired.users:
        takes_tokens = user.name in desired.accounts or snapshot.direct(IAM_ROLE, user.name)
        if not takes_tokens and _replicates(snapshot, user.name):
            raise Refused(
                f"{user.name} replicates by its password, and this database takes tokens for that only with "
                f"{PARAMETER} = 1",
                f"set {PARAMETER} to 1 in the parameter group, which needs no reboot, if its clients can sign tokens "
                "(RDS's default group can't be changed: attach another one first); or remove the user from access.yaml",
                "keeps-password",
            )


def _replicates(snapshot: Snapshot, user: str) -> bool:
    """Return whether a role replicates. Administrators are in rds_replication too, which says nothing about them."""
    role = snapshot.roles.get(user)
    edges = [edge for edge in snapshot.memberships if edge.member != SUPERUSERS and (edge.inherit or edge.set)]
    return role is not None and (role.replication or user in members(edges, REPLICATION_ROLE))
