"""IAM policies: exact, packed, written only where they differ, and only on roles whose owner agreed."""

import itertools
import json

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from rdsiam.access import CallerRule, DeclaredUser, Grant
from rdsiam.errors import Refused
from rdsiam.policies import PATH, ConnectPolicies, pack, wanted_by_role
from tests.unit.fix_database import ORDERS

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/apps/orders"
CONNECT_ROLE = f"arn:aws:iam::{ACCOUNT}:role/connect"
DATABASE = ORDERS


def arn(user: str, resource_id: str = "db-ONE") -> str:
    return f"arn:aws:rds-db:eu-west-1:{ACCOUNT}:dbuser:{resource_id}/{user}"


@pytest.fixture
def iam():
    with mock_aws():
        iam = boto3.client("iam", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
        tags = [{"Key": "rdsiam:managed", "Value": "true"}]
        trust = json.dumps({"Version": "2012-10-17", "Statement": []})
        iam.create_role(RoleName="orders", Path="/apps/", AssumeRolePolicyDocument=trust, Tags=tags)
        iam.create_role(RoleName="untagged", AssumeRolePolicyDocument=trust)
        yield iam


@pytest.fixture
def policies(iam):
    return ConnectPolicies(iam, CONNECT_ROLE)


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


def test_roles_get_the_users_that_name_them_and_connect_role_those_that_have_callers():
    grant = (Grant("shop", "readonly"),)
    users = (
        DeclaredUser("a", grant, (ROLE,), (), False),
        DeclaredUser("b", grant, (), (CallerRule(role=ROLE),), False),
    )
    wanted = wanted_by_role(DATABASE, users, CONNECT_ROLE)
    assert wanted == {ROLE: frozenset({arn("a")}), CONNECT_ROLE: frozenset({arn("b")})}


def test_a_policy_is_written_once_and_then_left_alone(iam, policies):
    first = policies.converge(ROLE, of_one, frozenset({arn("a")}), dry_run=False)
    assert [change.kind for change in first] == ["create-policy", "attach-policy"]
    assert allowed(iam) == [arn("a")]
    assert policies.converge(ROLE, of_one, frozenset({arn("a")}), dry_run=False) == []


def test_a_dry_run_says_the_same_and_changes_nothing(iam, policies):
    planned = policies.converge(ROLE, of_one, frozenset({arn("a")}), dry_run=True)
    assert allowed(iam) == []
    assert planned == policies.converge(ROLE, of_one, frozenset({arn("a")}), dry_run=False)


def test_other_databases_stay_and_what_is_stale_goes(iam, policies):
    policies.converge(ROLE, never, frozenset({arn("x", "db-TWO"), arn("old")}), dry_run=False)
    changes = policies.converge(ROLE, of_one, frozenset({arn("new")}), dry_run=False)
    assert [change.kind for change in changes] == ["update-policy"]
    assert allowed(iam) == [arn("new"), arn("x", "db-TWO")]


def test_the_last_login_gone_the_policy_goes(iam, policies):
    policies.converge(ROLE, of_one, frozenset({arn("a")}), dry_run=False)
    changes = policies.converge(ROLE, of_one, frozenset(), dry_run=False)
    assert [change.kind for change in changes] == ["detach-policy", "delete-policy"]
    assert iam.list_policies(Scope="Local", PathPrefix=PATH)["Policies"] == []


def test_more_changes_than_a_policy_has_versions(iam, policies):
    for number in range(12):
        policies.converge(ROLE, of_one, frozenset({arn(f"user{number}")}), dry_run=False)
    assert allowed(iam) == [arn("user11")]


def test_what_does_not_fit_into_one_policy_gets_a_second_and_shrinks_again(iam, policies):
    many = frozenset(arn(f"user{number:04}") for number in range(150))
    policies.converge(ROLE, of_one, many, dry_run=False)
    assert sorted(allowed(iam)) == sorted(many)
    assert len(iam.list_attached_role_policies(RoleName="orders")["AttachedPolicies"]) > 1
    policies.converge(ROLE, of_one, frozenset({arn("one")}), dry_run=False)
    assert allowed(iam) == [arn("one")]
    assert len(iam.list_policies(Scope="Local", PathPrefix=PATH)["Policies"]) == 1


@pytest.mark.parametrize("calls", range(6))
def test_killed_after_any_call_it_ends_in_the_same_state(iam, calls):
    class Killed(Exception):
        pass

    class Dying:
        """Passes calls that write on to IAM, and dies when its time has come."""

        def __init__(self, left):
            self.left = left

        def __getattr__(self, name):
            method = getattr(iam, name)
            if not name.startswith(("create", "attach", "detach", "delete")):
                return method

            def call(**arguments):
                if self.left == 0:
                    raise Killed
                self.left -= 1
                return method(**arguments)

            return call

    for wanted in (frozenset(arn(f"user{n:04}") for n in range(90)), frozenset({arn("one")}), frozenset()):
        try:
            ConnectPolicies(Dying(calls), CONNECT_ROLE).converge(ROLE, of_one, wanted, dry_run=False)
        except Killed:
            ConnectPolicies(iam, CONNECT_ROLE).converge(ROLE, of_one, wanted, dry_run=False)
        assert sorted(allowed(iam)) == sorted(wanted)
        assert len(iam.list_policies(Scope="Local", PathPrefix=PATH)["Policies"]) == len(pack(wanted))


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
def test_only_roles_whose_owner_agreed_are_touched(policies, role, words):
    with pytest.raises(Refused, match=words):
        policies.refuse_foreign_roles(DATABASE, [ROLE, role])


def test_connect_role_and_tagged_roles_pass(policies):
    policies.refuse_foreign_roles(DATABASE, [ROLE, CONNECT_ROLE])


@given(st.sets(st.text("abcdefghij", min_size=1, max_size=60), max_size=400))
def test_policies_are_as_few_as_fit_each_within_the_quota_and_nothing_is_lost(users):
    arns = {arn(user) for user in users}
    documents = pack(arns)
    assert all(len(document) <= 6144 for document in documents)
    packed = [one for document in documents for one in json.loads(document)["Statement"][0]["Resource"]]
    assert packed == sorted(arns)
    for document, following in itertools.pairwise(documents):
        first = json.loads(following)["Statement"][0]["Resource"][0]
        assert len(document) + len(json.dumps(first)) + 1 > 6144
