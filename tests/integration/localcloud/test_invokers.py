"""The resource policies of functions, judged as they are and after somebody has added a permission."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from localcloud.aws.expand import expand, read
from localcloud.iam.judge import Judge, Policy, Request

ACCOUNT, REGION = "123456789012", "eu-central-1"
TEMPLATE = Path(__file__).parents[3] / "template.yaml"
RESOURCES = expand(read(TEMPLATE), boto3.Session(region_name=REGION), {})["Resources"]
OPERATOR = f"arn:aws:iam::{ACCOUNT}:role/operator"
PSEUDO = {"AWS::Partition": "aws", "AWS::Region": REGION, "AWS::AccountId": ACCOUNT, "Operators": [OPERATOR]}
#: A source of each service, by what a rule, an API, a secret, a topic or a bucket of somebody else is.
FOREIGN = {
    "events.amazonaws.com": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/mallory",
    "scheduler.amazonaws.com": f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/mallory",
    "apigateway.amazonaws.com": f"arn:aws:execute-api:{REGION}:{ACCOUNT}:mallorysapi/*/POST/tokens",
    "secretsmanager.amazonaws.com": f"arn:aws:secretsmanager:{REGION}:999999999999:secret:mallory",
    "sns.amazonaws.com": f"arn:aws:sns:{REGION}:{ACCOUNT}:mallory",
    "s3.amazonaws.com": "arn:aws:s3:::mallory",
}
EVENTS, EXECUTE_API = (f"arn:aws:{service}:{REGION}:{ACCOUNT}" for service in ("events", "execute-api"))
#: The service that may invoke a function, and one of its sources.
OWN = {
    "EventsFunctionInvokers": ("events.amazonaws.com", f"{EVENTS}:rule/EventsFunctionAuditSchedule"),
    "VendFunctionInvokers": ("apigateway.amazonaws.com", f"{EXECUTE_API}:Api/prod/POST/tokens"),
    "ReportsFunctionInvokers": ("apigateway.amazonaws.com", f"{EXECUTE_API}:Api/prod/GET/audits"),
    "RotateFunctionInvokers": ("secretsmanager.amazonaws.com", f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:x"),
}


def arn_of(key: str) -> str:
    kind = RESOURCES[key]["Type"]
    if kind == "AWS::Lambda::Alias":
        properties = RESOURCES[key]["Properties"]
        return f"{arn_of(properties['FunctionName']['Ref'])}:{properties['Name']}"
    if kind == "AWS::IAM::Role":
        return f"arn:aws:iam::{ACCOUNT}:role/{key}"
    if kind == "AWS::Events::Rule":
        return f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{key}"
    assert kind == "AWS::Lambda::Function", key
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{key}"


def resolved(value: Any) -> Any:
    """Resolve the few intrinsic functions that resource policies use."""
    if isinstance(value, list):
        return [resolved(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    if "Ref" in value:
        return PSEUDO[value["Ref"]] if value["Ref"] in PSEUDO else arn_of(value["Ref"])
    if "Fn::GetAtt" in value:
        assert value["Fn::GetAtt"][1] == "Arn"
        return arn_of(value["Fn::GetAtt"][0])
    if "Fn::Sub" in value:
        return re.sub(r"\$\{([\w:]+?)(\.Arn)?\}", _name, value["Fn::Sub"])
    return {key: resolved(each) for key, each in value.items()}


def _name(found: re.Match[str]) -> str:
    if found[1] in PSEUDO:
        return str(PSEUDO[found[1]])
    return arn_of(found[1]) if found[2] else found[1]


POLICIES = {
    key: (resolved(each["Properties"]["ResourceArn"]), resolved(each["Properties"]["PolicyDocument"])["Statement"])
    for key, each in RESOURCES.items()
    if each["Type"] == "AWS::Lambda::ResourcePolicy"
}


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> Iterator[Judge]:
    judge = Judge(tmp_path_factory.mktemp("judge") / "judge.log")
    yield judge
    judge.close()


def by_service(judge: Judge, key: str, service: str, source: str, added: bool) -> str:
    """Return the decision on an invocation by a service, if added after somebody has added a permission for it."""
    function, statements = POLICIES[key]
    permission = {
        "Sid": "mallory", "Effect": "Allow", "Principal": {"Service": service}, "Action": "lambda:InvokeFunction",
        "Resource": function, "Condition": {"ArnLike": {"aws:SourceArn": source}},
    }  # fmt: skip
    account = "999999999999" if ":999999999999:" in source else ACCOUNT
    context = {
        "aws:PrincipalIsAWSService": "true", "aws:PrincipalServiceName": service,
        "aws:SourceArn": source, "aws:SourceAccount": account,
    }  # fmt: skip
    policy = Policy(key, {"Version": "2012-10-17", "Statement": [*statements, *([permission] if added else [])]})
    request = Request(service, "lambda:InvokeFunction", function, ACCOUNT, context, resource_policy=policy)
    return judge.decide(request).result


def test_every_function_and_every_alias_has_a_policy():
    bound = {arn for arn, _ in POLICIES.values()}
    kinds = {"AWS::Lambda::Function", "AWS::Lambda::Alias"}
    assert bound == {arn_of(key) for key, each in RESOURCES.items() if each["Type"] in kinds}


@pytest.mark.parametrize("service", FOREIGN)
@pytest.mark.parametrize("key", POLICIES)
def test_a_permission_that_somebody_adds_lets_no_service_in(judge, key, service):
    assert by_service(judge, key, service, FOREIGN[service], added=True) == "ExplicitlyDenied"


@pytest.mark.parametrize("key", POLICIES)
def test_the_service_that_a_function_is_for_may_invoke_it_and_no_other(judge, key):
    may = {own[0] for own in OWN.values() if by_service(judge, key, *own, added=False) == "Allowed"}
    assert may == ({OWN[key][0]} if key in OWN else set())


@pytest.mark.parametrize("key", POLICIES)
def test_a_permission_for_a_role_is_of_no_use_either(judge, key):
    function, statements = POLICIES[key]
    role = f"arn:aws:iam::{ACCOUNT}:role/mallory"
    permission = {
        "Sid": "mallory", "Effect": "Allow", "Principal": {"AWS": role}, "Action": "lambda:InvokeFunction",
        "Resource": function,
    }  # fmt: skip
    policy = Policy(key, {"Version": "2012-10-17", "Statement": [*statements, permission]})
    context = {"aws:PrincipalArn": role, "aws:PrincipalAccount": ACCOUNT, "aws:ViaAWSService": "false"}
    request = Request(role, "lambda:InvokeFunction", function, ACCOUNT, context, resource_policy=policy)
    assert judge.decide(request).result == "ExplicitlyDenied"
