"""The doctor goes on if a call fails, and its advice fits what failed."""

from dataclasses import replace
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError

from rdsiam.core.arn import Arn
from rdsiam.doctor import failures
from rdsiam.errors import RdsiamError
from rdsiam.signer import Credentials
from tests.unit.doctor.cases import (
    DATABASE,
    ENDPOINTS,
    FAILURES,
    PROXY,
    ROLE,
    UNDESCRIBED,
    Aws,
    case_of,
    failed_login,
    healthy,
    operation_of,
    refused,
    rows,
)

pytestmark = pytest.mark.usefixtures("server")


# --- calls that fail ---


def called() -> list[tuple[str, str]]:
    """Return every call of AWS that the doctor makes, for a database and for a proxy."""
    aws = Aws(healthy())
    for target in (DATABASE, replace(DATABASE, kind="proxy")):
        rows(case_of(target, aws))
    return sorted(aws.called)


@pytest.mark.parametrize(("service", "method"), called())
def test_every_call_has_an_action_that_exists(service, method):
    name = operation_of(method)
    assert failures.action(name) == f"{service}:{name}"
    assert name in botocore.session.get_session().get_service_model(service).operation_names


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize(("service", "method"), called())
def test_a_call_that_fails_leaves_its_checks_unknown_and_changes_no_other(service, method, failure):
    before = rows(case_of())
    after = rows(case_of(aws=Aws(healthy() | {method: None}, FAILURES[failure])))
    # The difference of the clocks may be rounded to another second.
    different = {name: row for name, row in after.items() if row != before[name] and row.state != "OK"}
    assert {name for name, row in after.items() if row.state != before[name].state} == set(different)
    assert list(after) == list(before)
    assert different
    assert {row.state for row in different.values()} == {"UNKNOWN"}
    for row in different.values():
        if failure.startswith("denied"):
            assert f"grant {service}:{operation_of(method)}" in row.fix
        elif failure.startswith("throttled"):
            assert "throttles" in row.detail


@pytest.mark.parametrize("failure", FAILURES)
def test_a_caller_without_any_right_learns_what_needs_none(failure):
    answers: dict[str, Any] = dict.fromkeys(healthy())
    found = rows(case_of(UNDESCRIBED, Aws(answers, FAILURES[failure])))
    assert {row.state for row in found.values()} == {"UNKNOWN"}
    assert found["database"].detail == "you may not call rds:DescribeDBInstances"
    assert found["name"].skipped
    assert not found["identity"].skipped
    assert not found["database"].skipped


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId", "UnrecognizedClientException"])
def test_credentials_that_aws_does_not_accept_are_wrong_and_not_denied(code):
    found = rows(case_of(aws=Aws(dict.fromkeys(healthy()), refused(code))))
    assert found["identity"].state == "FAIL"
    assert "renew your credentials" in found["identity"].fix


def test_a_slow_sts_is_asked_once():
    calls: list[str] = []

    def slow(operation: str) -> Exception:
        calls.append(operation)
        return FAILURES["slow"](operation)

    found = rows(case_of(aws=Aws(healthy() | {"get_caller_identity": None}, slow)))
    assert found["clock"].state == found["identity"].state == "UNKNOWN"
    assert calls == ["GetCallerIdentity"]


# --- credentials ---


@pytest.mark.parametrize(
    ("session_token", "state"), [(None, "OK"), ("the-session-token", "UNKNOWN")], ids=["lasting", "temporary"]
)
def test_temporary_credentials_whose_end_is_not_known_are_unknown(session_token, state):
    row = rows(case_of(credentials=Credentials("AKID", "secret", session_token)))["credentials"]
    assert row.state == state


# --- proxies ---


@pytest.mark.parametrize(
    ("targets", "state"),
    [
        ([], "FAIL"),
        ([{"RdsResourceId": "orders", "TargetHealth": {"State": "AVAILABLE"}}], "OK"),
        ([{"RdsResourceId": "orders", "TargetHealth": {"State": "UNAVAILABLE", "Reason": "UNREACHABLE"}}], "FAIL"),
        ([{"RdsResourceId": "orders", "TargetHealth": {"State": "UNAVAILABLE", "Reason": "AUTH_FAILURE"}}], "FAIL"),
        ([{"RdsResourceId": "shop"}], "OK"),
        ([{"RdsResourceId": "shop"}, {"RdsResourceId": "shop-1", "TargetHealth": {"State": "UNAVAILABLE"}}], "FAIL"),
        (
            [
                {"RdsResourceId": "shop-1", "TargetHealth": {"State": "UNAVAILABLE"}},
                {"RdsResourceId": "shop-2", "TargetHealth": {"State": "AVAILABLE"}},
            ],
            "OK",
        ),
    ],
)
def test_a_proxy_is_checked_for_the_database_behind_it(targets, state):
    row = rows(case_of(PROXY, Aws(healthy() | {"describe_db_proxy_targets": {"Targets": targets}})))["proxy"]
    assert row.state == state
    if targets and state == "FAIL":
        assert row.fix.startswith("rdsiam doctor ")


def test_all_pages_of_proxies_are_read():
    class Rds:
        def describe_db_proxies(self, Marker: str = "") -> Any:  # noqa: N803  the name of the parameter
            if not Marker:
                return {"DBProxies": [], "Marker": "1"}
            return {"DBProxies": [{"DBProxyName": "front"}]}

        def describe_db_proxy_targets(self, **_: Any) -> Any:
            return {"Targets": [{"RdsResourceId": "orders"}]}

    assert "behind front" in rows(case_of(aws=lambda _: Rds() if _ == "rds" else Aws(healthy())(_)))["proxy"].detail


@pytest.mark.parametrize("kind", ENDPOINTS)
def test_no_advice_for_one_kind_of_endpoint_names_the_call_of_another(server, kind):
    server["error"] = failed_login('password authentication failed for user "app"')
    target = replace(ENDPOINTS[kind], iam_enabled=False, host="no-such-host.invalid")
    text = " ".join(row.fix for row in rows(case_of(target, Aws(healthy() | {"get_paginator": None}))).values())
    words = {"cluster": "--db-cluster-identifier", "instance": "--db-instance-identifier", "proxy": "--db-proxy-name"}
    fitting = {"member": ("cluster", "instance"), "replica": ("instance",)}.get(kind, (kind,))
    for noun, option in words.items():
        assert noun in fitting or option not in text, text
    if kind == "replica":
        assert "rdsiam onboard orders --plan" in text


def test_a_user_with_a_password_is_onboarded_if_it_is_declared_and_else_migrated(server):
    """Onboarding leaves users alone that access.yaml doesn't declare."""
    server["error"] = failed_login('password authentication failed for user "app"')
    row = rows(case_of())["login"]
    assert row.fix == "rdsiam onboard orders --plan; rdsiam migrate start, if access.yaml doesn't declare app"


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ("User: x is not authorized to perform: kms:Decrypt on resource: y", "grant kms:Decrypt to the caller"),
        ("User: x is not authorized to perform: dynamodb:GetItem on resource: y", "grant dynamodb:GetItem to the"),
        ("no", "grant dynamodb:GetItem to the caller"),
        ("is not authorized to perform: rm -rf / on resource", "grant dynamodb:GetItem to the caller"),
        (
            "User: x is not authorized to perform: dynamodb:GetItem on resource: y with an explicit deny in a service "
            "control policy",
            "ask for a change of what denies dynamodb:GetItem: an explicit deny in a service control policy",
        ),
        (
            "not authorized to perform: kms:Decrypt on resource: y with an explicit deny in an identity-based policy",
            "ask for a change of what denies kms:Decrypt: an explicit deny in an identity-based policy",
        ),
    ],
)
def test_a_denial_names_the_action_that_aws_names_and_an_explicit_deny(message, fix):
    error = ClientError({"Error": {"Code": "AccessDeniedException", "Message": message}}, "GetItem")
    assert failures.of_aws(error).fix.startswith(fix)


def test_errors_of_rdsiam_keep_their_remedy():
    assert failures.of_rdsiam(RdsiamError("a", "b")).fix == "b"
    denied = RdsiamError("stack rdsiam: DescribeStacks: AccessDenied no")
    denied.code = "denied"
    assert failures.of_rdsiam(denied).fix == "grant cloudformation:DescribeStacks to the caller"
    assert Arn.parse(ROLE).kind == "assumed-role"


@pytest.mark.parametrize(
    "operation", ["DescribeDBClusters", "DescribeDBClusterEndpoints", "DescribeDBProxyEndpoints", "DescribeDBProxies"]
)
def test_a_denied_description_names_the_action_to_grant(operation):
    denied = RdsiamError(f"orders: {operation}: AccessDenied User: x is not authorized to perform: rds:{operation}")
    denied.code = "denied"
    verdict = failures.of_rdsiam(denied)
    assert (verdict.detail, verdict.fix) == (
        f"you may not call rds:{operation}",
        f"grant rds:{operation} to the caller",
    )
