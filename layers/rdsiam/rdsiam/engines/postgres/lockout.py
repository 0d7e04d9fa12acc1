"""Roles that lose their password login when a PostgreSQL role becomes a member of rds_iam.

RDS's rule applies to all members, direct or indirect. Losing a password login by accident is the most frequent damage
in public issues (db-operator#118, postgres-operator#315, terraform-provider-postgresql#289, ol-infrastructure#5383).
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

from rdsiam.errors import Refused

IAM_ROLE = "rds_iam"


class Membership(NamedTuple):
    """A membership of `member` in `group`; before PostgreSQL 16 every membership inherits and may SET ROLE.

    From 16 on a member has one for each role that granted it.

    :ivar grantor: the role that granted it; empty if that no longer exists, or if nobody asks for it.
    """

    group: str
    member: str
    admin: bool
    inherit: bool
    set: bool
    grantor: str = ""


#: A membership as a row of the catalog: the first fields of `Membership`, which takes longer to make.
MembershipRow = tuple[str, str, bool, bool, bool]
_Rows: TypeAlias = Iterable[MembershipRow | Membership]


def members(memberships: _Rows, group: str, ignored: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return all members of `group`, direct or indirect, each with the role of its membership on the shortest path.

    :param ignored: names whose admin-only memberships do not count. The administrator that creates a role, or may
        grant it, is such a member; RDS lets its master log in nevertheless.
    """
    return reachable(direct_members(memberships, ignored), group)


def direct_members(memberships: _Rows, ignored: frozenset[str] = frozenset()) -> dict[str, list[str]]:
    """Return the direct members of each group; for `ignored` see `members`."""
    result: dict[str, list[str]] = {}
    for edge in memberships:  # by position, so that rows of either length can be read at the same speed
        member = edge[1]
        if not (member in ignored and edge[2] and not edge[3] and not edge[4]):
            result.setdefault(edge[0], []).append(member)
    return result


def reachable(direct: Mapping[str, list[str]], group: str) -> dict[str, str]:
    """Return all members of `group`, as `members` does.

    :param direct: the direct members of each group.
    """
    result: dict[str, str] = {}
    waiting = deque([group])
    while waiting:
        via = waiting.popleft()
        for member in direct.get(via, ()):
            if member not in result and member != group:
                result[member] = via
                waiting.append(member)
    return result


def refuse_lockout(
    before: Iterable[Membership],
    after: Iterable[Membership],
    logins: Mapping[str, bool],
    intended: frozenset[str],
    administrators: frozenset[str],
) -> None:
    """Check that the step from `before` to `after` takes the password login only from `intended`.

    :param logins: every role → whether it can log in.
    :param administrators: the master and the manager, whose admin-only memberships are ignored.
    :raises Refused: names the users that would be locked out, and through which role.
    """
    members_before = members(before, IAM_ROLE, administrators)
    members_after = members(after, IAM_ROLE, administrators)
    locked_out = {
        name: via
        for name, via in members_after.items()
        if name not in members_before and name not in intended and logins.get(name, True)
    }
    if locked_out:
        names = ", ".join(f"{name} (a member of {via})" for name, via in sorted(locked_out.items()))
        raise Refused(
            f"these users could no longer log in by password, since membership in {IAM_ROLE} is inherited: {names}",
            "revoke their membership (REVOKE … FROM …), or declare the users in access.yaml",
            "lock-out",
        )
