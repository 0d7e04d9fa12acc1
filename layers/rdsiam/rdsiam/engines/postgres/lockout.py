"""Who would lose the password login when a PostgreSQL role becomes a member of rds_iam.

RDS's rule follows membership, direct or indirect. Being caught by it by accident is the most repeated damage in public
issues (db-operator#118, postgres-operator#315, terraform-provider-postgresql#289, ol-infrastructure#5383).
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rdsiam.errors import Refused

IAM_ROLE = "rds_iam"


class Membership(NamedTuple):
    """`member` is a member of `group`; before PostgreSQL 16 every membership inherits and may SET ROLE."""

    group: str
    member: str
    admin: bool
    inherit: bool
    set: bool


def members(memberships: Iterable[Membership], group: str, ignored: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return all members of `group`, direct or not, each with the role through which it is one, by the shortest way.

    :param ignored: names whose admin-only memberships do not count. The administrator that creates a role, or may
        grant it, is such a member; RDS lets its master in all the same.
    """
    below: dict[str, list[str]] = {}
    for above, member, admin, inherit, may_set in memberships:
        if not (member in ignored and admin and not inherit and not may_set):
            below.setdefault(above, []).append(member)
    found: dict[str, str] = {}
    waiting = deque([group])
    while waiting:
        via = waiting.popleft()
        for member in below.get(via, []):
            if member not in found and member != group:
                found[member] = via
                waiting.append(member)
    return found


def refuse_lockout(
    before: Iterable[Membership],
    after: Iterable[Membership],
    logins: Mapping[str, bool],
    intended: frozenset[str],
    administrators: frozenset[str],
) -> None:
    """Check that the step from `before` to `after` takes the password from nobody but `intended`.

    :param logins: every role, and whether it may log in.
    :param administrators: the master and the manager: their admin-only memberships are ignored.
    :raises Refused: naming who would be locked out, and through whom.
    """
    was = members(before, IAM_ROLE, administrators)
    becomes = members(after, IAM_ROLE, administrators)
    caught = {
        name: via
        for name, via in becomes.items()
        if name not in was and name not in intended and logins.get(name, True)
    }
    if caught:
        who = ", ".join(f"{name} (a member of {via})" for name, via in sorted(caught.items()))
        raise Refused(
            f"these could no longer log in by password, since membership in {IAM_ROLE} is inherited: {who}. "
            "Take the membership away (REVOKE … FROM …), or declare them in access.yaml"
        )
