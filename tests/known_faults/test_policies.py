"""IAM policies of roles that are in many databases, and in more than one region."""

import json
from typing import Any

import boto3
import pytest
from moto import mock_aws

from rdsiam.errors import Refused
from rdsiam.policies.iam_policies import ConnectPolicies

ACCOUNT = "123456789012"


@pytest.fixture
def iam():
    with mock_aws():
        yield boto3.client("iam", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")


def make_role(iam: Any, name: str) -> str:
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    tags = [{"Key": "rdsiam:managed", "Value": "true"}]
    role: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, Tags=tags)["Role"]["Arn"]
    return role


def connect_arn(region: str, resource_id: str) -> str:
    return f"arn:aws:rds-db:{region}:{ACCOUNT}:dbuser:{resource_id}/reporting"


def allowed(iam: Any, name: str) -> set[str]:
    found: set[str] = set()
    for policy in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        version = iam.get_policy(PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId=version)["PolicyVersion"]["Document"]
        found |= {arn for statement in document["Statement"] for arn in statement["Resource"]}
    return found


def never(_: str) -> bool:
    return False


class Between:
    """IAM as one region sees it, when the other one writes after all has been read and before anything is written."""

    def __init__(self, iam: Any, other: Any) -> None:
        self._iam, self._other = iam, other

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("create_", "attach_")) and self._other:
            other, self._other = self._other, None
            other()
        return getattr(self._iam, name)


@pytest.mark.known_fault("policies-race", "two regions of an account lose each other's policy updates (issue 14 D2)")
def test_stacks_in_two_regions_of_an_account_lose_nothing_of_each_other(iam):
    role = make_role(iam, "reporting")
    first, second, third = connect_arn("eu-west-1", "A"), connect_arn("eu-west-1", "B"), connect_arn("us-east-1", "C")
    here = ConnectPolicies(iam, "none")
    here.converge(role, never, frozenset({first}), False)
    between = Between(iam, lambda: here.converge(role, never, frozenset({second}), False))
    ConnectPolicies(between, "none").converge(role, never, frozenset({third}), False)
    assert allowed(iam, "reporting") == {first, second, third}


@pytest.mark.known_fault("case 38", "one ConnectRole holds the vended users of some 700 databases (issue 14 D)")
def test_a_vended_user_of_each_of_a_thousand_databases_fits(iam):
    role = make_role(iam, "connect")
    wanted = frozenset(connect_arn("eu-central-1", f"db-{number:026d}") for number in range(1000))
    try:
        ConnectPolicies(iam, role).converge(role, never, wanted, dry_run=True)
    except Refused as refused:
        pytest.fail(str(refused))
