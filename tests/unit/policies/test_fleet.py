"""Policies of fleets: shards of ConnectRole, and roles that are full."""

from typing import Any

import pytest

from rdsiam.policies.shards import ConnectRoles, assign, for_new_database
from rdsiam.policies.writer import Assumptions
from tests.unit.policies.fake_iam import FakeIam
from tests.unit.policies.fleet import LONG, ROLE, WEST, Region, connect_roles, declared, left_over, two_regions, vended

# --- Shards of ConnectRole -------------------------------------------------------------------------------------------


def fleet(shards: int, file: Any, per_role: int = 10, at_most: int = 10) -> Region:
    iam = FakeIam(*connect_roles(WEST, at_most), per_role=per_role)
    return Region(iam, file, shards=shards, per_role=per_role)


@pytest.mark.parametrize(
    ("databases", "shards", "per_role"),
    [(50, 4, 2), pytest.param(1000, 4, 10, marks=pytest.mark.stress)],
)
def test_two_vended_users_of_each_database_of_a_fleet_fit(databases, shards, per_role):
    region = fleet(shards, declared("app_service", "reporting"), per_role)
    arns = [region.add(f"db-{number}") for number in range(databases)]
    for arn in arns:
        assert region.write(arn).incomplete == ()
    assert {number for arn in arns[: databases // 5] for number in region.shards_of(arn).values()} == {1}
    assert all(vended(region, arn) == {"app_service", "reporting"} for arn in arns)
    assert left_over(region) == set()
    calls = region.iam.calls
    region.write(region.add("one-more"))
    assert region.iam.calls - calls <= 2 * per_role + shards + 10, "one shard is read"
    assert all(len(set(region.shards_of(arn).values())) == 1 for arn in arns)


def test_more_shards_move_nobody():
    region = fleet(1, declared("app"), per_role=1)
    arns = [region.add(f"db-{number}") for number in range(100)]
    named = [arn for arn in arns if region.write(arn).incomplete]
    assert 20 < len(named) < 60
    before = {arn: region.shards_of(arn) for arn in arns}
    region.connect_roles = ConnectRoles(tuple(f"{ROLE}{role}" for role in connect_roles(WEST, 3)))
    assert all(region.write(arn).incomplete == () for arn in arns)
    assert all(region.shards_of(arn) == before[arn] == {"app": 1} for arn in arns if arn not in named)
    assert all(vended(region, arn) == {"app"} for arn in arns)


def test_a_user_of_a_database_whose_shard_is_full_gets_another_shard_and_the_others_stay():
    region = fleet(2, declared("app"), per_role=1)
    arns = [region.add(f"db-{number}") for number in range(90)]
    for arn in arns:
        region.write(arn)
    region.file = declared("app", LONG[0])
    full = next(arn for arn in arns if region.shards_of(arn) == {"app": 1})
    assert region.write(full).incomplete == ()
    assert region.shards_of(full) == {"app": 1, LONG[0]: 2}
    assert vended(region, full) == {"app", LONG[0]}


def test_a_shard_that_is_gone_loses_its_users_to_the_others():
    region = fleet(3, declared("app"), per_role=1)
    arns = [region.add(f"db-{number}") for number in range(100)]
    for arn in arns:
        region.write(arn)
    assert {number for arn in arns for number in region.shards_of(arn).values()} == {1, 2, 3}
    region.connect_roles = ConnectRoles(region.connect_roles.arns[:2])
    region.per_role = region.iam.per_role = 2
    for arn in arns:
        assert region.write(arn).incomplete == ()
    assert all(vended(region, arn) == {"app"} for arn in arns)
    assert left_over(region) == set()
    assert region.iam.roles[connect_roles(WEST, 3)[2]] == []


def test_logins_without_room_are_named_and_all_others_are_written():
    region = fleet(1, declared(*LONG), per_role=1)
    region.iam.roles["app"] = []
    first, second = region.add("one"), region.add("two")
    region.write(first)
    written = region.write(second)
    (part,) = written.incomplete
    assert (written.status, part.retry) == ("written", True)
    assert "ConnectRole has no room for db-" in part.reason
    assert "ConnectRoleShards" in part.remedy
    placed = vended(region, second)
    assert 0 < len(placed) < len(LONG)
    assert all(f"/{user}" not in part.reason for user in placed)
    assert region.write(second).status == "unchanged"
    assert region.write(second).incomplete == (part,)
    assert vended(region, first) == set(LONG)


def test_a_plan_names_the_logins_without_room_too():
    region = fleet(1, declared(*LONG), per_role=1)
    region.write(region.add("one"))
    arn = region.add("two")
    planned = region.writer().plan(arn, Assumptions())
    assert (planned.status, len(planned.incomplete)) == ("planned", 1)
    assert region.shards_of(arn) == {}
    assert planned.incomplete == region.write(arn).incomplete


@pytest.mark.parametrize(
    ("attached", "order"),
    [
        ({1: 0, 2: 0}, [1, 2]),
        ({1: 7, 2: 0}, [1, 2]),
        ({1: 8, 2: 0}, [2, 1]),
        ({1: 10, 2: 9, 3: 8}, [3, 2, 1]),
    ],
)
def test_a_new_database_leaves_room_for_the_databases_of_a_shard(attached, order):
    assert for_new_database(attached, 10) == order


def test_a_user_without_room_in_its_recorded_shard_is_assigned_anew():
    """A killed run has recorded the shard, and others have taken its room before the user was in a policy."""
    roles = ConnectRoles(("one", "two"))
    full = {1: frozenset({"a", "b"}), 2: frozenset({"c"})}
    found = assign(
        frozenset({"a", "c", "d"}), {"a": 1, "c": 1}, roles, lambda number, users: users & full[number], lambda: [1, 2]
    )
    assert (found.shards, found.unplaced) == ({"a": 2, "c": 1, "d": 1}, frozenset())


# --- Roles of other teams --------------------------------------------------------------------------------------------


def test_a_full_role_stops_no_other_role_and_says_who_has_its_policies():
    west, east = two_regions(declared(*LONG, roles="app"), per_role=2)
    west.iam.roles["app"].append("arn:aws:iam::aws:policy/ReadOnlyAccess")
    west.iam.roles["other"] = []
    assert west.write(west.add("one")).incomplete == ()
    east.file = declared("app", roles="app")
    written = east.write(east.add("one"))
    (part,) = written.incomplete
    assert (written.status, part.what) == ("unchanged", f"{ROLE}app")
    assert "a role may have 2 policies, and this one has 1 in eu-west-1, 1 that its owner attached" in part.reason
    assert "second role" in part.remedy


@pytest.mark.parametrize("quota", ["per_role", "per_account"])
def test_a_quota_of_the_account_that_is_smaller_than_the_parameter_is_named_and_leaves_nothing(quota):
    west, _ = two_regions(declared(*LONG, roles="app"))
    setattr(west.iam, quota, 1)
    first, second, third = (west.add(name) for name in ("one", "two", "three"))
    assert west.write(first).incomplete == ()
    (part,) = west.write(second).incomplete
    assert "Cannot exceed quota for Policies" in part.reason
    assert "PoliciesPerRole" in part.remedy
    assert len(west.iam.policies) == 1
    had = {west.connect_arn(first, user) for user in LONG}
    assert had <= west.iam.allowed("app")
    setattr(west.iam, quota, 10)
    assert west.write(second).incomplete == west.write(third).incomplete == ()
    everything = {west.connect_arn(arn, user) for arn in (first, second, third) for user in LONG}
    assert west.iam.allowed("app") == everything
