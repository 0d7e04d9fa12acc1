"""Who is caught by membership in rds_iam: a rule over a graph, so it is tested on graphs."""

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
    logins = {name: True for one in after for name in one[:2]}
    refuse_lockout(before, after, logins, frozenset(intended), frozenset(administrators))


def test_the_declared_user_itself_is_no_lockout():
    refuse([], [edge(IAM_ROLE, "app")], intended=["app"])


def test_a_member_of_a_member_is_caught_and_named_with_the_role_between():
    with pytest.raises(Refused, match=r"admin \(a member of app\)"):
        refuse([edge("app", "admin")], [edge("app", "admin"), edge(IAM_ROLE, "app")], intended=["app"])


def test_a_membership_without_inherit_and_set_catches_too():
    made = edge("app", "admin", admin=True, inherit=False, set=False)
    with pytest.raises(Refused, match="admin"):
        refuse([made], [made, edge(IAM_ROLE, "app")], intended=["app"])


def test_what_the_master_has_by_making_a_role_does_not_count_but_any_more_does():
    made = edge("app", "boss", admin=True, inherit=False, set=False)
    refuse([made], [made, edge(IAM_ROLE, "app")], ["app"], ["boss"])
    granted = edge("app", "boss")
    with pytest.raises(Refused, match="boss"):
        refuse([made, granted], [made, granted, edge(IAM_ROLE, "app")], ["app"], ["boss"])


def test_who_was_caught_before_is_not_our_doing():
    before = [edge(IAM_ROLE, "group"), edge("group", "old")]
    refuse(before, [*before, edge(IAM_ROLE, "app")], intended=["app"])


def test_a_group_that_nobody_logs_in_as_is_no_lockout():
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
def test_a_step_passes_only_if_nobody_unintended_is_newly_caught(before, more, intended):
    after = before + more
    newly = set(members(after, IAM_ROLE)) - set(members(before, IAM_ROLE)) - intended
    try:
        refuse(before, after, intended)
    except Refused:
        assert newly
    else:
        assert not newly
