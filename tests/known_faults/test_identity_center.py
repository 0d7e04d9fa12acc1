"""Roles of Identity Center: their path has a region, sessions don't show it, and nobody but AWS may tag them."""

from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rdsiam.doctor.caller import policy_decision
from rdsiam.doctor.case import LoginCase
from rdsiam.errors import Refused
from rdsiam.policies.iam_policies import ConnectPolicies
from rdsiam.signer import Credentials
from tests.unit.databases import ORDERS

NAME = "AWSReservedSSO_DataOncall_0123456789abcdef"
ROLE = f"arn:aws:iam::123456789012:role/aws-reserved/sso.amazonaws.com/eu-central-1/{NAME}"


class Iam:
    """IAM with this one role, which localcloud can't make as nobody may."""

    def get_role(self, **_: Any) -> dict[str, Any]:
        return {"Role": {"Arn": ROLE, "Tags": []}}

    def simulate_principal_policy(self, **request: Any) -> dict[str, Any]:
        if request["PolicySourceArn"] != ROLE:
            raise ClientError({"Error": {"Code": "NoSuchEntity", "Message": ""}}, "SimulatePrincipalPolicy")
        return {"EvaluationResults": [{"EvalDecision": "allowed"}]}

    def list_role_policies(self, **_: Any) -> dict[str, Any]:
        return {"PolicyNames": []}

    def list_attached_role_policies(self, **_: Any) -> dict[str, Any]:
        return {"AttachedPolicies": []}


@pytest.mark.known_fault("case 21", "the advice for a role of Identity Center can't be followed (issue 14 C)")
def test_who_declares_a_role_of_identity_center_is_not_told_to_tag_it():
    policies = ConnectPolicies(Iam(), "arn:aws:iam::123456789012:role/connect")
    with pytest.raises(Refused) as refused:
        policies.check_roles(ORDERS, [ROLE])
    assert "tag-role" not in str(refused.value)
    assert "permission set" in str(refused.value)


@pytest.mark.known_fault("case 22", "the doctor misses the path of a role (issue 14 C)")
def test_the_doctor_finds_the_role_of_a_session_by_its_whole_arn():
    session = {"Arn": f"arn:aws:sts::123456789012:assumed-role/{NAME}/jane", "ResponseMetadata": {"HTTPHeaders": {}}}
    services = {"iam": Iam(), "sts": SimpleNamespace(get_caller_identity=lambda: session)}
    case = LoginCase(ORDERS, "app", services.__getitem__, Credentials("a", "b"), None, "eu-west-1")
    try:
        row = policy_decision(case)
    except ClientError as error:
        pytest.fail(f"asked for another role: {error}")
    assert row.state == "OK", row.detail
