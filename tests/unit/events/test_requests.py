"""Requests to functions: every field is checked, and errors name the field and never its value."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.errors import InvalidRequest
from rdsiam.events.audit import AuditRequest, audit_request
from rdsiam.events.audit_batch import BatchRequest, batch_request
from rdsiam.events.onboard import LiftRequest, OnboardRequest, ReconcileRequest, RevokeRequest, onboard_request
from rdsiam.events.policy import policy_request

ARN = "arn:aws:rds:eu-west-1:123456789012:db:orders-1"
EVENTS = Path(__file__).parents[3] / "events"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda more: st.lists(more) | st.dictionaries(st.text(), more),
)


def test_a_request_names_a_database():
    assert onboard_request({"database": ARN}) == OnboardRequest(ARN)
    assert onboard_request({"database": ARN, "plan": True}) == OnboardRequest(ARN, plan=True)
    assert policy_request({"database": ARN, "plan": True}).plan


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws-eusc:rds:eusc-de-east-1:123456789012:db:orders",
        "arn:aws-us-gov:rds:us-gov-west-1:123456789012:cluster:orders",
        "arn:aws-iso-b:rds:us-isob-east-1:123456789012:db-proxy:prx-0123",
    ],
)
def test_a_database_may_be_of_any_partition(arn):
    assert onboard_request({"database": arn}) == OnboardRequest(arn)


@pytest.mark.parametrize("kind", ["db", "cluster"])
def test_identifiers_are_read_as_rds_writes_them(kind):
    typed = f"arn:aws:rds:eu-west-1:123456789012:{kind}:Orders-1"
    assert onboard_request({"database": typed}) == OnboardRequest(typed.lower())
    revoked = onboard_request({"database": typed, "revoke": ["App"], "reason": "x"})
    assert revoked == RevokeRequest(typed.lower(), ("App",), "x")
    assert audit_request({"databases": [typed]}).databases == (typed.lower(),)


def test_confirm_is_handed_on():
    assert onboard_request({"database": ARN, "confirm": True}) == OnboardRequest(ARN, confirm=True)
    assert onboard_request({"database": ARN, "beyond_limit": True}) == OnboardRequest(ARN, beyond_limit=True)
    assert onboard_request({"reconcile": True, "confirm": True}) == ReconcileRequest(confirm=True)


@pytest.mark.parametrize("path", sorted(EVENTS.glob("*-schedule.json")), ids=lambda path: path.stem)
def test_an_event_is_no_request(path):
    for read in (onboard_request, audit_request):
        with pytest.raises(InvalidRequest):
            read(json.loads(path.read_text()))


def test_the_audit_names_the_drift_for_which_it_starts_an_onboarding():
    assert onboard_request({"database": ARN, "drift": "0f" * 32}) == OnboardRequest(ARN, drift="0f" * 32)


def test_a_revocation_has_users_and_a_reason():
    request = onboard_request({"database": ARN, "revoke": ["b", "a", "b"], "reason": " key leaked ", "plan": True})
    assert request == RevokeRequest(ARN, ("a", "b"), "key leaked", plan=True)
    assert onboard_request({"database": ARN, "lift": ["a"]}) == LiftRequest(ARN, ("a",))


def test_a_plan_of_policies_may_suppose_who_is_revoked():
    assert policy_request({"database": ARN}).assume_revoked is None
    assert policy_request({"database": ARN, "plan": True, "assume_revoked": []}).assume_revoked == ()
    with pytest.raises(InvalidRequest, match="in a plan only"):
        policy_request({"database": ARN, "assume_revoked": ["a"]})


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "database"),
        ({"database": ""}, "database"),
        ({"database": "orders-1"}, "database"),
        ({"database": ARN + "\n"}, "database"),
        ({"database": ["canary"]}, "database"),
        ({"database": ARN, "plan": "canary"}, "plan"),
        ({"database": ARN, "confirm": 1}, "confirm"),
        ({"database": ARN, "beyond_limit": "yes"}, "beyond_limit"),
        ({"reconcile": True, "beyond_limit": True}, "beyond_limit"),
        ({"database": ARN, "reconcil": True}, "reconcil"),
        ({"database": ARN, "can ary": True}, "event"),
        ({"database": ARN, "drift": "canary"}, "drift"),
        ({"database": ARN, "drift": "A" * 64}, "drift"),
        ({"database": ARN, "drift": None}, "drift"),
        ({"database": ARN, "notice": "RDS-EVENT-0005"}, "notice"),
        ({"database": ARN, "notice": ["canary"]}, "notice"),
        ({"database": ARN, "notice": "RDS-EVENT-0016", "confirm": True}, "confirm"),
        ({"notice": "RDS-EVENT-0016"}, "database"),
        ({"reconcile": False}, "reconcile"),
        ({"reconcile": "canary"}, "reconcile"),
        ({"reconcile": True, "confirm": "canary"}, "confirm"),
        ({"reconcile": True, "database": ARN}, "database"),
        ({"database": ARN, "revoke": ["a"]}, "reason"),
        ({"database": ARN, "revoke": ["a"], "reason": " "}, "reason"),
        ({"database": ARN, "revoke": ["a"], "reason": "canary\u202e"}, "reason"),
        ({"database": ARN, "revoke": [], "reason": "x"}, "revoke"),
        ({"database": ARN, "revoke": "canary", "reason": "x"}, "revoke"),
        ({"database": ARN, "revoke": ["can ary"], "reason": "x"}, "revoke"),
        ({"database": ARN, "revoke": ["a"], "reason": "x", "confirm": True}, "confirm"),
        ({"database": ARN, "revoke": ["a"], "reason": "x", "lift": ["a"]}, "reason"),
        ({"database": ARN, "lift": [7]}, "lift"),
        ({"database": ARN, "lift": ["a"] * 101}, "lift"),
        ({"reconcile": True, "revoke": ["a"]}, "revoke"),
        ([], "event"),
        (None, "event"),
    ],
    ids=str,
)
def test_malformed_input_is_refused_with_the_field_and_without_the_value(asked, field):
    with pytest.raises(InvalidRequest) as refused:
        onboard_request(asked)
    assert refused.value.field == field
    assert "canary" not in str(refused.value)


@given(JSON)
def test_whatever_comes_is_understood_or_refused(anything):
    for read in (onboard_request, policy_request):
        try:
            request = read(anything)
            assert isinstance(request, ReconcileRequest) or request.database
        except InvalidRequest:
            continue


# --- The audit -------------------------------------------------------------------------------------------------------

ONE, TWO = (f"arn:aws:rds:eu-west-1:123456789012:db:{name}" for name in ("one", "two"))


def test_an_audit_is_of_the_whole_fleet():
    assert audit_request({}) == AuditRequest(None)


def test_an_audit_of_some_databases_names_each_once_and_in_order():
    assert audit_request({"databases": [TWO, ONE, TWO]}) == AuditRequest((ONE, TWO))


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"databases": []}, "databases"),
        ({"databases": None}, "databases"),
        ({"databases": ONE}, "databases"),
        ({"databases": [ONE, "orders-1"]}, "databases"),
        ({"databases": [ONE, None]}, "databases"),
        ({"databases": [ONE] * 1001}, "databases"),
        ({"database": ONE}, "database"),
        ({"databases": [ONE], "deep": True}, "deep"),
        ([], "event"),
        (None, "event"),
    ],
    ids=str,
)
def test_another_request_for_an_audit_is_refused(event, field):
    with pytest.raises(InvalidRequest) as error:
        audit_request(event)
    assert error.value.field == field


def test_a_batch_is_named_by_run_and_number():
    event = {"audit": "20261124T040000Z-0a1b2c3d", "batch": 7}
    assert batch_request(event) == BatchRequest("20261124T040000Z-0a1b2c3d", 7)
    assert batch_request(event | {"slow": True}) == BatchRequest("20261124T040000Z-0a1b2c3d", 7, slow=True)
    assert batch_request(batch_request(event | {"slow": True}).to_json()).slow


@pytest.mark.parametrize("audit", ["", "../x", "20261124T040000Z-0a1b2c3d/", "٢٠261124T040000Z-0a1b2c3d", None, 7])
def test_texts_that_are_no_id_of_a_run_are_refused(audit):
    with pytest.raises(InvalidRequest, match="audit"):
        batch_request({"audit": audit, "batch": 0})


@pytest.mark.parametrize("number", [-1, True, "0", 1.0, None, 100_000])
def test_values_that_are_no_number_of_a_batch_are_refused(number):
    with pytest.raises(InvalidRequest, match="batch"):
        batch_request({"audit": "20261124T040000Z-0a1b2c3d", "batch": number})
