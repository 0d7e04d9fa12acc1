"""IAM policies: exact, packed, written only if they differ, and only for roles whose owner agreed."""

import json
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from rdsiam.access.callers import CallerRule
from rdsiam.access.users import DeclaredUser, Grant
from rdsiam.core.changes import Change
from rdsiam.errors import Refused
from rdsiam.policies.iam_policies import ConnectPolicies
from rdsiam.policies.placement import place
from rdsiam.policies.role_policies import PATH, Stack
from rdsiam.policies.run import logins_of
from tests.examples import between_kills
from tests.unit.databases import ORDERS

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/apps/orders"
CONNECT_ROLE = f"arn:aws:iam::{ACCOUNT}:role/connect"
DATABASE = ORDERS
STACK = Stack("eu-west-1", "rdsiam")


class Writer(ConnectPolicies):
    """The policies of one stack, planned and written in one call."""

    def __init__(self, iam: Any, stack: Stack = STACK, per_role: int = 10) -> None:
        super().__init__(iam, stack, {CONNECT_ROLE}, per_role)

    def converge(self, role: str, stale: Any, wanted: frozenset[str], dry_run: bool) -> list[Change]:
        policies = self.read(role)
        plan = policies.converge(stale, wanted)
        assert not plan.unplaced
        return list((plan if dry_run else policies.apply(plan)).changes)

    def withdraw(self, role: str, gone: Any, dry_run: bool) -> list[Change]:
        policies = self.read(role)
        plan = policies.withdraw(gone)
        return list((plan if dry_run else policies.apply(plan)).changes)


def arn(user: str, resource_id: str = "db-ONE") -> str:
    return f"arn:aws:rds-db:eu-west-1:{ACCOUNT}:dbuser:{resource_id}/{user}"


@pytest.fixture
def iam():
    with mock_aws():
        iam = boto3.client("iam", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
        tags: Any = [{"Key": "rdsiam:managed", "Value": "true"}]
        trust = json.dumps({"Version": "2012-10-17", "Statement": []})
        iam.create_role(RoleName="orders", Path="/apps/", AssumeRolePolicyDocument=trust, Tags=tags)
        iam.create_role(RoleName="untagged", AssumeRolePolicyDocument=trust)
        yield iam


@pytest.fixture
def policies(iam):
    return Writer(iam)


def allowed(iam, role="orders"):
    found = []
    for policy in iam.list_attached_role_policies(RoleName=role, PathPrefix=PATH)["AttachedPolicies"]:
        version = iam.get_policy(PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId=version)["PolicyVersion"]["Document"]
        found += document["Statement"][0]["Resource"]
    return found


def never(_: str) -> bool:
    return False


def of_one(connect_arn: str) -> bool:
    return "db-ONE/" in connect_arn


def test_roles_get_the_users_that_name_them_and_users_with_callers_are_vended():
    grant = (Grant("shop", "readonly"),)
    users = (
        DeclaredUser("a", grant, (ROLE,), (), False),
        DeclaredUser("b", grant, (), (CallerRule(role=ROLE),), False),
    )
    logins = logins_of(DATABASE, users)
    assert (logins.by_role, logins.vended) == ({ROLE: frozenset({arn("a")})}, frozenset({"b"}))


def test_a_current_policy_is_not_written_again(iam, policies):
    first = policies.converge(ROLE, of_one, frozenset({arn("a")}), dry_run=False)
    assert [change.kind for change in first] == ["create-policy", "attach-policy"]
    assert allowed(iam) == [arn("a")]
    assert policies.converge(ROLE, of_one, frozenset({arn("a")}), dry_run=False) == []


def test_a_dry_run_returns_the_same_changes_and_makes_none(iam, policies):
    planned = policies.converge(ROLE, of_one, frozenset({arn("a")}), dry_run=True)
    assert allowed(iam) == []
    assert planned == policies.converge(ROLE, of_one, frozenset({arn("a")}), dry_run=False)


def test_stale_logins_are_removed_and_logins_of_other_databases_stay(iam, policies):
    policies.converge(ROLE, never, frozenset({arn("x", "db-TWO"), arn("old")}), dry_run=False)
    changes = policies.converge(ROLE, of_one, frozenset({arn("new")}), dry_run=False)
    assert [change.kind for change in changes] == ["update-policy"]
    assert allowed(iam) == [arn("new"), arn("x", "db-TWO")]


def test_a_policy_without_logins_is_deleted(iam, policies):
    policies.converge(ROLE, of_one, frozenset({arn("a")}), dry_run=False)
    changes = policies.converge(ROLE, of_one, frozenset(), dry_run=False)
    assert [change.kind for change in changes] == ["detach-policy", "delete-policy"]
    assert iam.list_policies(Scope="Local", PathPrefix=PATH)["Policies"] == []


def test_a_policy_can_change_more_often_than_it_has_versions(iam, policies):
    for number in range(12):
        policies.converge(ROLE, of_one, frozenset({arn(f"user{number}")}), dry_run=False)
    assert allowed(iam) == [arn("user11")]


def test_many_logins_get_a_second_policy_which_is_deleted_when_they_fit_into_one_again(iam, policies):
    many = frozenset(arn(f"user{number:04}") for number in range(150))
    policies.converge(ROLE, of_one, many, dry_run=False)
    assert sorted(allowed(iam)) == sorted(many)
    assert len(iam.list_attached_role_policies(RoleName="orders")["AttachedPolicies"]) > 1
    policies.converge(ROLE, of_one, frozenset({arn("one")}), dry_run=False)
    assert allowed(iam) == [arn("one")]
    assert len(iam.list_policies(Scope="Local", PathPrefix=PATH)["Policies"]) == 1


class Killed(Exception):
    """The process was killed."""


class Dying:
    """Passes calls on to IAM, and dies before or after the call of that number."""

    def __init__(self, iam, left, after=False):
        self.iam = iam
        self.left = left
        self.after = after

    def __getattr__(self, name):
        method = getattr(self.iam, name)
        if not name.startswith(("create", "attach", "detach", "delete")):
            return method

        def call(**arguments):
            self.left -= 1
            if self.left < 0 and not self.after:
                raise Killed
            answer = method(**arguments)
            if self.left < 0:
                raise Killed
            return answer

        return call


def killed_at_every_call(iam, begin, change, check):
    """Run `change` from the state that `begin` makes, killed before and after each call, and check its repetition."""
    for after in (False, True):
        for calls in range(0, 40, between_kills()):
            begin()
            dying = Dying(iam, calls, after)
            try:
                change(Writer(dying))
            except Killed:
                check(calls, after)
            else:
                assert calls > 0
                break
        else:
            pytest.fail("more calls than were tried")


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        pytest.param(0, 90),
        pytest.param(90, 1),
        pytest.param(200, 0, marks=pytest.mark.exhaustive),
        pytest.param(0, 200, marks=pytest.mark.exhaustive),
        pytest.param(200, 1, marks=pytest.mark.exhaustive),
        pytest.param(200, 60, marks=pytest.mark.exhaustive),
    ],
)
def test_a_run_after_a_kill_at_any_call_knows_every_attached_policy(iam, policies, before, wanted):
    had = frozenset(arn(f"user{number:04}") for number in range(before))
    want = frozenset(arn(f"user{number:04}") for number in range(wanted))

    def check(calls, after):
        where = f"killed {'after' if after else 'before'} call {calls}"
        assert set(allowed(iam)) <= had | want, where
        policies.converge(ROLE, of_one, want, dry_run=False)
        assert sorted(allowed(iam)) == sorted(want), where
        assert len(iam.list_policies(Scope="Local", PathPrefix=PATH)["Policies"]) == len(
            place([], want, 10).documents
        ), where

    killed_at_every_call(
        iam,
        lambda: policies.converge(ROLE, of_one, had, dry_run=False),
        lambda dying: dying.converge(ROLE, of_one, want, dry_run=False),
        check,
    )


def test_a_run_of_another_database_restores_no_login_of_a_killed_withdrawal(iam, policies):
    """A half removed policy is detached, and the run of another database leaves it detached."""
    mine = frozenset(arn(f"user{number:04}") for number in range(100))
    other = arn("app", "db-TWO")

    def begin():
        policies.converge(ROLE, never, mine | {other}, dry_run=False)

    def check(calls, after):
        still = set(allowed(iam)) - {other}
        policies.converge(ROLE, lambda one: "db-TWO/" in one, frozenset({other}), dry_run=False)
        assert set(allowed(iam)) <= still | {other}
        policies.withdraw(ROLE, of_one, dry_run=False)
        assert allowed(iam) == [other], (calls, after)

    killed_at_every_call(iam, begin, lambda dying: dying.withdraw(ROLE, of_one, dry_run=False), check)


def test_withdrawing_needs_no_tag_and_adds_no_login(iam, policies):
    policies.converge(ROLE, never, frozenset({arn("a"), arn("b"), arn("x", "db-TWO")}), dry_run=False)
    iam.untag_role(RoleName="orders", TagKeys=["rdsiam:managed"])
    planned = policies.withdraw(ROLE, lambda one: one == arn("a"), dry_run=True)
    assert [change.kind for change in planned] == ["update-policy"]
    assert policies.withdraw(ROLE, lambda one: one == arn("a"), dry_run=False) == planned
    assert allowed(iam) == [arn("b"), arn("x", "db-TWO")]
    policies.withdraw(ROLE, lambda _: True, dry_run=False)
    assert iam.list_policies(Scope="Local", PathPrefix=PATH)["Policies"] == []
    assert policies.withdraw(ROLE, lambda _: True, dry_run=False) == []


@pytest.mark.parametrize(
    ("statement", "kept"),
    [
        pytest.param({"Action": "rds-db:connect", "Resource": arn("x", "db-TWO")}, True, id="one resource, no list"),
        pytest.param({"Action": "rds-db:*", "Resource": "*"}, False, id="everything"),
        pytest.param({"Action": "rds-db:connect", "Resource": arn("*", "db-TWO")}, False, id="any user"),
        pytest.param({"Effect": "Deny", "Action": "rds-db:*", "Resource": [arn("x", "db-TWO")]}, False, id="a denial"),
        pytest.param({"NotAction": "iam:*", "Resource": "*"}, False, id="all but IAM"),
        pytest.param({"Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}, False, id="another service"),
    ],
)
def test_a_policy_that_somebody_edited_gives_the_declared_logins_again_and_no_others(iam, policies, statement, kept):
    policies.converge(ROLE, of_one, frozenset({arn("app")}), dry_run=False)
    (attached,) = iam.list_attached_role_policies(RoleName="orders", PathPrefix=PATH)["AttachedPolicies"]
    document = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", **statement}})
    iam.create_policy_version(PolicyArn=attached["PolicyArn"], PolicyDocument=document, SetAsDefault=True)
    assert policies.converge(ROLE, of_one, frozenset({arn("app")}), dry_run=False)
    assert sorted(allowed(iam)) == sorted([arn("app"), *([arn("x", "db-TWO")] if kept else [])])


def test_a_role_that_was_recreated_gets_its_declared_logins(iam, policies):
    many = frozenset(arn(f"user{number:04}") for number in range(200))
    policies.converge(ROLE, never, many, dry_run=False)
    for policy in iam.list_attached_role_policies(RoleName="orders")["AttachedPolicies"]:
        iam.detach_role_policy(RoleName="orders", PolicyArn=policy["PolicyArn"])
    iam.delete_policy(PolicyArn=f"arn:aws:iam::{ACCOUNT}:policy{STACK.path}rdsiam.eu-west-1.orders.1")
    policies.converge(ROLE, of_one, many, dry_run=False)
    assert sorted(allowed(iam)) == sorted(many)


def test_every_moment_of_a_change_has_a_kept_login_in_some_policy(iam, policies):
    before = frozenset(arn(f"user{number:04}") for number in range(1, 150))
    policies.converge(ROLE, never, before, dry_run=False)
    wanted = before - {arn("user0003")} | {arn("user0000"), *(arn(f"user{number}") for number in range(5000, 5060))}
    for shrunk in (wanted, frozenset(sorted(wanted)[:90])):
        had = set(allowed(iam))
        for calls in range(20):
            try:
                Writer(Dying(iam, calls)).converge(ROLE, of_one, shrunk, dry_run=False)
            except Killed:
                assert set(allowed(iam)) >= had & shrunk
            else:
                break
        assert set(allowed(iam)) == shrunk


@pytest.mark.parametrize(
    ("role", "words"),
    [
        (f"arn:aws:iam::{ACCOUNT}:role/untagged", "aws iam tag-role --role-name untagged"),
        (f"arn:aws:iam::{ACCOUNT}:role/missing", "does not exist"),
        (f"arn:aws:iam::{ACCOUNT}:role/orders", "role/apps/orders does"),
        ("arn:aws:iam::999999999999:role/foreign", "is not a role of account"),
    ],
    ids=["untagged", "missing", "another path", "another account"],
)
def test_a_role_that_is_foreign_missing_or_untagged_is_refused(policies, role, words):
    with pytest.raises(Refused, match=words):
        policies.check_roles(DATABASE, [ROLE, role])


def test_connect_role_and_tagged_roles_are_accepted(policies):
    policies.check_roles(DATABASE, [ROLE, CONNECT_ROLE])


@given(
    st.lists(st.sets(st.text("abcdefghij", min_size=1, max_size=60), max_size=60), max_size=4),
    st.sets(st.text("abcdefghij", min_size=1, max_size=60), max_size=300),
)
def test_policies_keep_their_logins_are_as_few_as_possible_and_within_the_quota(have, users):
    held = [{arn(user) for user in each} for each in have]
    wanted = {arn(user) for user in users} | {one for each in held for one in sorted(each)[::2]}
    placement = place(held, wanted, 1000)
    documents = placement.documents
    assert not placement.unplaced
    assert all(len(document) <= 6144 for document in documents)
    packed = [json.loads(document)["Statement"][0]["Resource"] for document in documents]
    assert sorted(one for each in packed for one in each) == sorted(wanted)
    assert all(each == sorted(each) and each for each in packed)
    for number, each in enumerate(held[: len(packed)]):
        assert set(each) & wanted - {one for before in held[:number] for one in before} <= set(packed[number])
    if len(packed) > 1:
        room = [6144 - len(document) for document in documents[:-1]]
        assert sum(len(one) + 3 for one in packed[-1]) > sum(room) - len(room) * (len(max(wanted, key=len)) + 3)
