"""Roles that only AWS changes: their path isn't in the ARN of a session, and nobody else may tag them."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

from rdsiam.access.reserved_roles import is_reserved
from rdsiam.command.app import app
from rdsiam.doctor.caller import policy_decision, resource_id
from rdsiam.doctor.case import LoginCase
from rdsiam.errors import Refused
from rdsiam.policies.iam_policies import ConnectPolicies
from rdsiam.policies.role_policies import Stack
from rdsiam.signer import Credentials
from tests.unit.databases import ORDERS

NAME = "AWSReservedSSO_DataOncall_0123456789abcdef"
ROLE = f"arn:aws:iam::123456789012:role/aws-reserved/sso.amazonaws.com/eu-central-1/{NAME}"


LINKED = "arn:aws:iam::123456789012:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS"
OTHER = "arn:aws:iam::123456789012:role/aws-reserved/other.amazonaws.com/SomeRole"


class Iam:
    """IAM with one role, which localcloud can't make if nobody may."""

    def __init__(self, role: str) -> None:
        self._role = role

    def get_role(self, **_: Any) -> dict[str, Any]:
        return {"Role": {"Arn": self._role, "Tags": []}}

    def simulate_principal_policy(self, **request: Any) -> dict[str, Any]:
        if request["PolicySourceArn"] != self._role:
            raise ClientError({"Error": {"Code": "NoSuchEntity", "Message": ""}}, "SimulatePrincipalPolicy")
        return {"EvaluationResults": [{"EvalDecision": "allowed"}]}

    def list_role_policies(self, **_: Any) -> dict[str, Any]:
        return {"PolicyNames": []}

    def list_attached_role_policies(self, **_: Any) -> dict[str, Any]:
        return {"AttachedPolicies": []}


def refusal(existing: str, declared: str) -> Refused:
    """Return the refusal of a declared role, if IAM has one of that name with another ARN."""
    policies = ConnectPolicies(Iam(existing), Stack("eu-west-1", "rdsiam"))
    logins = {declared: {ORDERS.connect_arn("app")}}
    with pytest.raises(Refused) as refused:
        policies.check_roles(ORDERS, logins, logins)
    assert refused.value.code == "role-not-managed"
    assert "tag-role" not in str(refused.value)
    return refused.value


@pytest.mark.parametrize("declared", [ROLE, f"arn:aws:iam::123456789012:role/{NAME}"], ids=["with path", "without"])
def test_a_declared_role_of_identity_center_gets_the_policy_for_its_permission_set(declared):
    refused = refusal(ROLE, declared)
    assert "permission set" in refused.remedy
    assert "`callers`" in refused.remedy
    policy = json.loads(refused.remedy[refused.remedy.index("{") :])
    assert policy["Statement"] == [
        {"Effect": "Allow", "Action": "rds-db:connect", "Resource": [ORDERS.connect_arn("app")]}
    ]


@pytest.mark.parametrize("role", [LINKED, OTHER], ids=["service-linked", "of another service"])
def test_another_role_of_aws_gets_no_advice_about_permission_sets(role):
    refused = refusal(role, role)
    assert "permission set" not in str(refused)
    assert "a role of your own" in refused.remedy


@pytest.mark.parametrize("path", ["", "service-role/", "apps/aws-reserved/", "aws-reserved-ish/"])
def test_a_role_with_a_path_of_ones_own_is_not_of_aws(path):
    assert not is_reserved(f"arn:aws:iam::123456789012:role/{path}app")


def diagnosis(check, existing: str, name: str):
    session = {"Arn": f"arn:aws:sts::123456789012:assumed-role/{name}/jane", "ResponseMetadata": {"HTTPHeaders": {}}}
    services = {"iam": Iam(existing), "sts": SimpleNamespace(get_caller_identity=lambda: session)}
    return check(LoginCase(ORDERS, "app", services.__getitem__, Credentials("a", "b"), None, "eu-west-1"))


@pytest.mark.parametrize(
    ("role", "name"),
    [
        (ROLE, NAME),
        ("arn:aws:iam::123456789012:role/teams/orders/app", "app"),
        ("arn:aws-cn:iam::123456789012:role/service-role/app", "app"),
        ("arn:aws:iam::123456789012:role/app", "app"),
    ],
    ids=["Identity Center", "a path of two parts", "China", "without path"],
)
def test_the_doctor_finds_the_role_of_a_session_by_its_whole_arn(role, name):
    assert diagnosis(policy_decision, role, name).state == "OK"


def test_the_doctor_prints_the_policy_for_the_permission_set():
    row = diagnosis(resource_id, ROLE, NAME)
    assert row.state == "FAIL"
    assert "permission set" in row.fix
    assert ORDERS.connect_arn("app") in row.fix
    assert "rdsiam onboard" in diagnosis(resource_id, "arn:aws:iam::123456789012:role/app", "app").fix


def test_validate_prints_what_works_for_roles_of_aws(tmp_path):
    file = tmp_path / "access.yaml"
    user = "{{name: u, privileges: readonly, on: [d], roles: ['{}', 'arn:aws:iam::123456789012:role/app']}}"
    text = "version: 1\ndatabases:\n  - match: {identifier: x}\n    users:\n      - "
    file.write_text(text + user.format(ROLE))
    done = CliRunner().invoke(app, ["access", "validate", str(file)])
    assert done.exit_code == 0
    assert ROLE in done.stderr
    assert "permission set" in done.stderr
    assert "role/app" not in done.stderr
    answer = CliRunner().invoke(app, ["access", "validate", "--output", "json", str(file)])
    assert len(json.loads(answer.stdout)["advice"]) == 1
    file.write_text(text + user.format(LINKED))
    assert "permission set" not in CliRunner().invoke(app, ["access", "validate", str(file)]).stderr
