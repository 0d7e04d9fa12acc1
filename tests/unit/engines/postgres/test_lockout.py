"""Users locked out by membership in rds_iam: a rule over a graph, tested on graphs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.engines.postgres.lockout import IAM_ROLE, Membership, members, refuse_lockout
from rdsiam.errors import Refused

NAMES = st.sampled_from([IAM_ROLE, "a", "b", "c", "d", "e"])
GRAPHS = st.lists(st.builds(Membership, NAMES, NAMES, st.booleans(), st.booleans(), st.booleans()), max_size=12)
FULL = {"admin": False, "inherit": True, "set": True}


def edge(group: str, member: str, admin: bool = False, inherit: bool = True, set: bool = True) -> Membership:
    return Membership(group, member, admin, inherit, set)


def refuse(before, after, intended=(), administrators=()):
    logins = {name: True for edge in after for name in edge[:2]}
    refuse_lockout(before, after, logins, frozenset(intended), frozenset(administrators))


def test_the_declared_user_itself_is_not_locked_out():
    refuse([], [edge(IAM_ROLE, "app")], intended=["app"])


def test_an_indirect_member_is_refused_and_named_with_the_role_between():
    with pytest.raises(Refused, match=r"admin \(a member of app\)"):
        refuse([edge("app", "admin")], [edge("app", "admin"), edge(IAM_ROLE, "app")], intended=["app"])


def test_a_membership_without_inherit_and_set_locks_out_too():
    created = edge("app", "admin", admin=True, inherit=False, set=False)
    with pytest.raises(Refused, match="admin"):
        refuse([created], [created, edge(IAM_ROLE, "app")], intended=["app"])


def test_the_masters_admin_only_membership_does_not_count_but_a_full_one_does():
    created = edge("app", "boss", admin=True, inherit=False, set=False)
    refuse([created], [created, edge(IAM_ROLE, "app")], ["app"], ["boss"])
    granted = edge("app", "boss")
    with pytest.raises(Refused, match="boss"):
        refuse([created, granted], [created, granted, edge(IAM_ROLE, "app")], ["app"], ["boss"])


def test_users_that_were_members_before_are_not_refused():
    before = [edge(IAM_ROLE, "group"), edge("group", "old")]
    refuse(before, [*before, edge(IAM_ROLE, "app")], intended=["app"])


def test_a_group_that_cannot_log_in_is_not_locked_out():
    after = [edge("app", "team"), edge(IAM_ROLE, "app")]
    refuse_lockout([], after, {"app": True, "team": False}, frozenset({"app"}), frozenset())


@given(GRAPHS)
def test_members_are_exactly_those_reachable(graph):
    reachable: set[str] = set()
    while True:
        more = {e.member for e in graph if e.group == IAM_ROLE or e.group in reachable} - {IAM_ROLE} - reachable
        if not more:
            break
        reachable |= more
    assert set(members(graph, IAM_ROLE)) == reachable


@given(GRAPHS, GRAPHS, st.frozensets(NAMES))
def test_a_step_passes_only_if_all_new_members_are_intended(before, more, intended):
    after = before + more
    newly = set(members(after, IAM_ROLE)) - set(members(before, IAM_ROLE)) - intended
    try:
        refuse(before, after, intended)
    except Refused:
        assert newly
    else:
        assert not newly
