"""Policies that two stacks or two runs write, and runs that are killed: no login is lost, and none is left over."""

import copy
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from rdsiam.policies.role_policies import Stack
from rdsiam.policies.writer import Written
from rdsiam.state.leases import Leases
from rdsiam.state.role_leases import ChangesNotVisible, RoleLeases
from tests.examples import between_kills
from tests.unit.inventories import create_inventory
from tests.unit.policies.fake_iam import FakeIam
from tests.unit.policies.fleet import (
    EAST,
    LONG,
    ROLE,
    WEST,
    Region,
    connect_roles,
    declared,
    left_over,
    two_regions,
    vended,
)


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("dynamodb", WEST, aws_access_key_id="a", aws_secret_access_key="b")
        create_inventory(client)
        yield client


def leases_of(dynamodb: Any) -> Leases:
    """Return leases that nobody has held."""
    for item in dynamodb.scan(TableName="inventory")["Items"]:
        dynamodb.delete_item(TableName="inventory", Key={"database": item["database"]})
    return Leases(dynamodb, "inventory")


class Interruption:
    """Does something else once, before the call of that number, or ends the run there."""

    def __init__(self, number: int, action: Any) -> None:
        self.left, self.action = number, action
        self.happened = False

    def __call__(self, _: str) -> None:
        self.left -= 1
        if self.left < 0 and not self.happened:
            self.happened = True
            self.action()


def interrupted(region: Region, number: int, action: Any, run: Any) -> bool:
    """Run with an interruption at the call of that number; return whether there was one."""
    interruption = Interruption(number, action)
    region.iam.before = region.inventory.before = interruption
    try:
        run()
    except Killed:
        pass
    finally:
        region.iam.before = region.inventory.before = lambda _: None
    return interruption.happened


def both(west: Region, east: Region) -> set[str]:
    return {region.connect_arn(arn, user) for region in (west, east) for arn in region.databases for user in ("app",)}


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["role", "vended"])
def test_motos_iam_shows_the_same_for_two_regions_and_for_killed_runs(kind):
    roles = "app" if kind == "role" else ""
    users = [f"u{number:03}{'x' * 50}" for number in range(45)]
    number, met = 0, True
    while met:
        with mock_aws():
            client = boto3.client("iam", region_name=EAST, aws_access_key_id="a", aws_secret_access_key="b")
            west, east = two_regions(declared("app", *users[:40], roles=roles), client=client, shards=2)
            first, second = west.add("first"), east.add("second")
            west.write(first)
            west.file = declared("app", *users[5:], roles=roles)

            def meet(east: Region = east, arn: str = second) -> None:
                east.write(arn)
                raise Killed

            met = interrupted(west, number, meet, lambda: west.write(first))  # noqa: B023
            kept = {west.connect_arn(first, user) for user in ("app", *users[5:40])}
            everything = {arn for role in west.iam.roles for arn in west.iam.allowed(role)}
            assert everything >= kept, number
            west.write(first)
            east.write(second)
            wanted = {west.connect_arn(first, user) for user in ("app", *users[5:])}
            wanted |= {east.connect_arn(second, user) for user in ("app", *users[:40])}
            assert {arn for role in west.iam.roles for arn in west.iam.allowed(role)} == wanted, number
        number += between_kills()
    assert number > 8


OTHERS = [
    pytest.param(EAST, "rdsiam", 1, id="another region"),
    pytest.param(WEST, "payments", 1, id="another stack"),
    pytest.param(WEST, "rdsiam-2", 1, id="a stack of a similar name", marks=pytest.mark.exhaustive),
    pytest.param(EAST, "rdsiam", 70, id="another policy", marks=pytest.mark.exhaustive),
]


@pytest.mark.parametrize(("region", "stack", "databases"), OTHERS)
def test_stacks_of_one_account_lose_nothing_of_each_other_wherever_they_meet(region, stack, databases):
    number, met = 0, True
    while met:
        west, _ = two_regions(declared("app", roles="app"))
        east = Region(west.iam, west.file, region)
        east.stack = stack
        for count in range(databases):
            west.write(west.add(f"old-{count}"))
        first, second = west.add("a-first"), east.add("first")
        met = interrupted(west, number, lambda: east.write(second), lambda: west.write(first))  # noqa: B023
        if not met:
            east.write(second)
        assert west.iam.allowed("app") == both(west, east), number
        number += between_kills()
    assert number > 5


@pytest.mark.parametrize(
    "users", [("app",), pytest.param(LONG[:20], marks=pytest.mark.exhaustive)], ids=["few", "another policy"]
)
def test_two_runs_of_one_region_lose_nothing_wherever_they_meet(dynamodb, users):
    number, met = 0, True
    while met:
        west, _ = two_regions(declared(*users, roles="app"))
        west.leases = RoleLeases(leases_of(dynamodb), patience=0)
        for name in ("old", "older"):
            west.write(west.add(name))
        first, second = west.add("a-first"), west.add("z-second")
        seen = []
        met = interrupted(west, number, lambda: seen.append(west.write(second)), lambda: west.write(first))  # noqa: B023
        if not met or seen[0].status == "busy":
            seen.append(west.write(second))
        assert seen[-1].status in ("written", "unchanged")
        assert west.iam.allowed("app") == {west.connect_arn(arn, user) for arn in west.databases for user in users}
        number += between_kills()
    assert number > 5


#: What the older run does → its access.yaml, and that of the newer run.
OVERTAKEN = [
    pytest.param("write", declared("app", roles="app"), declared("app", roles="other"), id="another role"),
    pytest.param("withdraw", declared("app", roles="app"), declared("app", "more", roles="app"), id="a withdrawal"),
    *(
        pytest.param(*each, marks=pytest.mark.exhaustive)
        for each in (
            ("write", declared("app", roles="app"), declared("app", "more")),
            ("write", declared("app"), declared("app", "more")),
            ("withdraw", declared("app"), declared("app", "more")),
        )
    ),
]


@pytest.mark.parametrize("recorded", [True, pytest.param(False, marks=pytest.mark.exhaustive)], ids=["recorded", "new"])
@pytest.mark.parametrize(("action", "older", "newer"), OVERTAKEN)
def test_a_run_of_an_older_access_yaml_leaves_what_a_newer_one_wrote(dynamodb, action, older, newer, recorded):
    """Two runs over one database whose policies may have no role in common; the newer one comes before any call."""
    number, met = 0, True
    while met:
        west, _ = two_regions(older, shards=2)
        west.iam.roles["other"] = []
        arn = west.add("orders")
        west.leases = RoleLeases(leases_of(dynamodb), patience=0)
        if recorded:
            west.write(arn)
        answers: list[Written] = []

        def publish(west: Region = west, arn: str = arn, answers: list[Written] = answers) -> None:
            west.file = newer
            answers.append(west.write(arn))

        run = getattr(west.writer(), action)
        met = interrupted(west, number, publish, lambda: answers.append(run(arn)))  # noqa: B023
        if not met or answers[0].status == "busy":
            west.file = newer
            west.write(arn)
        wanted = Region(FakeIam("app", "other", *connect_roles(WEST, 2)), newer, shards=2)
        wanted.write(wanted.add("orders"))
        for role in wanted.iam.roles:
            assert west.iam.allowed(role) == wanted.iam.allowed(role), (number, role)
        assert west.inventory.records[arn].roles == wanted.inventory.records[arn].roles, number
        assert west.shards_of(arn) == wanted.shards_of(arn), number
        number += between_kills()
    assert number > 5 or not recorded


CHANGES = [
    pytest.param("vended", 0, 40),
    pytest.param("role", 30, 45),
    pytest.param("vended", 45, 1),
    pytest.param("role", 45, 0),
    *(pytest.param(*each, marks=pytest.mark.exhaustive) for each in (("role", 0, 40), ("role", 45, 1))),
    *(pytest.param(*each, marks=pytest.mark.exhaustive) for each in (("vended", 30, 45), ("vended", 45, 0))),
]


@pytest.mark.parametrize(("kind", "before", "after"), CHANGES)
def test_a_kill_at_any_call_loses_no_login_and_leaves_none_over(kind, before, after):
    users = [f"u{number:03}{'x' * 50}" for number in range(46)]
    roles = "app" if kind == "role" else ""
    other, number, killed = declared("app", roles=roles), 0, True
    while killed:
        west, _ = two_regions(other, per_role=2, shards=2)
        neighbours = [west.add(f"n-{count}") for count in range(12)]
        arn = west.add("orders")
        for each in neighbours:
            west.write(each)
        west.file = declared("base", *users[:before], roles=roles)
        west.write(arn)
        kept = {"base", *users[: min(before, after)]}
        west.file = declared("base", *users[:after], roles=roles)
        killed = interrupted(west, number, kill, lambda: west.write(arn))  # noqa: B023

        def logins(region: Region = west) -> set[str]:
            return {each for role in region.iam.roles for each in region.iam.allowed(role)}

        neighbours_of = {west.connect_arn(each, "app") for each in neighbours}
        assert logins() >= neighbours_of | {west.connect_arn(arn, user) for user in kept}, number
        assert west.write(arn).incomplete == ()
        wanted = {west.connect_arn(arn, user) for user in ("base", *users[:after])}
        assert logins() == neighbours_of | wanted, number
        if kind == "vended":
            assert vended(west, arn) == {"base", *users[:after]}
            assert left_over(west) == set()
        number += between_kills()


@pytest.mark.parametrize("kind", ["role", "vended"])
def test_a_kill_at_any_call_hides_no_login_from_a_withdrawal(kind):
    roles = "app" if kind == "role" else ""
    number, killed = 0, True
    while killed:
        west, _ = two_regions(declared("app", *LONG, roles=roles), per_role=2, shards=2)
        other, arn = west.add("other"), west.add("orders")
        west.write(other)
        killed = interrupted(west, number, kill, lambda: west.write(arn))  # noqa: B023
        west.file = declared("app", match="other", roles=roles)
        west.writer().withdraw(arn)
        left = {each for role in west.iam.roles for each in west.iam.allowed(role)}
        assert left == {west.connect_arn(other, user) for user in ("app", *LONG)}, number
        number += between_kills()
    assert number > 5


def kill() -> None:
    raise Killed


class Lagging:
    """IAM whose reads show the state of a former moment until it settles, as those of AWS may for some seconds."""

    def __init__(self, iam: FakeIam) -> None:
        self._iam = iam
        self._shown = iam

    def stay(self) -> None:
        """Show this moment's state from now on."""
        self._shown = FakeIam(*self._iam.roles)
        self._shown.roles, self._shown.policies = copy.deepcopy((self._iam.roles, self._iam.policies))

    def settle(self) -> None:
        self._shown = self._iam

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shown if name.startswith(("get_", "list_")) else self._iam, name)


@pytest.mark.parametrize(("before", "policies"), [(1, 1), (75, 2)], ids=["an update", "a new policy"])
@pytest.mark.parametrize("withdraws", [False, True], ids=["a write", "a withdrawal"])
def test_a_run_changes_nothing_while_iam_does_not_show_what_the_run_before_has_written(
    dynamodb, before, policies, withdraws
):
    west, _ = two_regions(declared("app", roles="app"))
    leases = leases_of(dynamodb)
    arns = [west.add(f"db-{number}") for number in range(before + 2)]
    for arn in arns[:-2]:
        west.write(arn)
    west.leases = RoleLeases(leases, patience=0)
    lagging = Lagging(west.iam)
    lagging.stay()
    assert west.write(arns[-2], lagging).status == "written"
    assert len(west.iam.policies) == policies

    def second() -> str:
        return (west.writer(lagging).withdraw(arns[0]) if withdraws else west.write(arns[-1], lagging)).status

    assert second() == "busy"
    assert west.connect_arn(arns[-2], "app") in west.iam.allowed("app")
    lagging.settle()
    assert second() == ("unchanged" if withdraws else "written")
    wanted = arns[:-1] if withdraws else arns
    assert west.iam.allowed("app") == {west.connect_arn(arn, "app") for arn in wanted}


def test_changes_of_others_count_after_some_seconds(dynamodb, monkeypatch):
    west, _ = two_regions(declared("app", roles="app"))
    leases = leases_of(dynamodb)
    west.leases = RoleLeases(leases, patience=0)
    arn = west.add("orders")
    west.write(arn)
    west.iam.roles["app"].clear()
    assert west.write(arn).status == "busy"
    monkeypatch.setattr("rdsiam.state.role_leases._VISIBLE", 0)
    assert west.write(arn).status == "written"
    assert west.iam.allowed("app") == {west.connect_arn(arn, "app")}


def test_the_latest_note_about_a_policy_counts_whichever_role_of_a_run_has_it(dynamodb):
    leases = RoleLeases(Leases(dynamodb, "inventory"), patience=0)
    with leases.hold({"a", "b"}, "one") as written:
        written.add("a.1", 3)
    with leases.hold({"a"}, "two", withdraws=True) as written:
        written.add("a.1", 0)
    with leases.hold({"a", "b"}, "three") as written:
        written.check("a", "a.", {})
        with pytest.raises(ChangesNotVisible):
            written.check("a", "a.", {"a.1": 3})


def test_a_withdrawal_goes_before_the_runs_that_write_the_same_role(dynamodb):
    leases = RoleLeases(Leases(dynamodb, "inventory"), patience=0)
    with leases.hold({"role"}, "one"), pytest.raises(Exception, match="one"), leases.hold({"role"}, "w", True):
        pass
    with pytest.raises(Exception, match="another run"), leases.hold({"role"}, "two"):
        pass
    with leases.hold({"role"}, "w", withdraws=True):
        pass
    with leases.hold({"role", "other"}, "two"):
        pass


def test_a_run_that_finds_one_of_its_roles_taken_holds_none(dynamodb):
    leases = RoleLeases(Leases(dynamodb, "inventory"), patience=0)
    with leases.hold({"b"}, "one"):
        with pytest.raises(Exception, match="another run"), leases.hold({"a", "b"}, "two"):
            pass
        with leases.hold({"a"}, "three"):
            pass


def test_a_run_waits_for_a_moment_until_the_role_is_free(dynamodb):
    paused: list[float] = []
    held = Leases(dynamodb, "inventory")
    lease = held.take_named("c", "one", 75)

    def pause(seconds: float) -> None:
        paused.append(seconds)
        if len(paused) == 2:
            held.release(lease)

    with RoleLeases(held, pause=pause).hold({"c"}, "two"):
        assert len(paused) == 2


@pytest.mark.parametrize("name", ["app", "x" * 64, "app.1", "a+b=c,d.e@f-g_h", "payments.eu-west-1.app"])
def test_no_two_stacks_or_roles_share_a_policys_name(name):
    stacks = [Stack(WEST, "rdsiam"), Stack(EAST, "rdsiam"), Stack(WEST, "payments"), Stack(WEST, "x" * 26)]
    prefixes = {stack.prefix(f"{ROLE}path/{role}") for stack in stacks for role in (name, f"{name[:-1]}2", "other")}
    assert len(prefixes) == len(stacks) * 3
    names = [prefix.rpartition("/")[2] for prefix in prefixes]
    assert max(map(len, names)) + len("20") <= 128
    assert len({each.lower() for each in names}) == len(names)
