"""What the functions are asked: every field is checked, and errors name the field and never its value."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.errors import InvalidRequest
from rdsiam.requests import (
    FOLLOWED,
    AuditRequest,
    BatchRequest,
    SweepRequest,
    audit_request,
    batch_request,
    onboard_request,
    policy_request,
)

ARN = "arn:aws:rds:eu-west-1:123456789012:db:orders-1"
EVENTS = Path(__file__).parents[2] / "events"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda more: st.lists(more) | st.dictionaries(st.text(), more),
)


def event(**changes):
    return json.loads((EVENTS / "database-created.json").read_text()) | changes


def detail(**changes):
    return event(detail=event()["detail"] | changes)


def test_a_request_names_a_database():
    assert onboard_request({"database": ARN}).database == ARN
    assert onboard_request({"database": ARN, "plan": True}).plan
    assert policy_request({"database": ARN, "plan": True}).plan


def test_confirm_is_handed_on():
    assert onboard_request({"database": ARN, "confirm": True}).confirm
    assert onboard_request({"sweep": True, "confirm": True}) == SweepRequest(confirm=True)


@pytest.mark.parametrize("name", ["sweep", "access-changed"])
def test_a_schedule_and_a_new_access_yaml_ask_for_a_sweep(name):
    assert onboard_request(json.loads((EVENTS / f"{name}.json").read_text())) == SweepRequest()


@pytest.mark.parametrize("path", [p for p in EVENTS.glob("*.json") if "EventID" in p.read_text()], ids=lambda p: p.stem)
def test_every_example_of_an_event_is_followed(path):
    told = json.loads(path.read_text())
    request = onboard_request(told)
    assert (request.database, request.ignored) == (told["detail"]["SourceArn"], "")
    assert told["detail"]["EventID"] in FOLLOWED


def test_a_revocation_has_users_and_a_reason():
    request = onboard_request({"database": ARN, "revoke": ["b", "a", "b"], "because": " key leaked ", "plan": True})
    assert (request.revoke, request.because, request.plan, request.lift) == (("a", "b"), "key leaked", True, ())
    assert onboard_request({"database": ARN, "lift": ["a"]}).lift == ("a",)


def test_a_plan_of_policies_may_suppose_who_is_revoked():
    assert policy_request({"database": ARN}).supposed is None
    assert policy_request({"database": ARN, "plan": True, "revoked": []}).supposed == ()
    with pytest.raises(InvalidRequest, match="in a plan only"):
        policy_request({"database": ARN, "revoked": ["a"]})


def test_an_event_of_a_new_or_deleted_database_names_it():
    for name in ("database-created", "database-deleted"):
        request = onboard_request(json.loads((EVENTS / f"{name}.json").read_text()))
        assert (request.database, request.ignored) == (ARN, "")


@pytest.mark.parametrize(
    "other", [event(source="aws.ec2"), detail(EventID="RDS-EVENT-0006"), detail(EventID=None)], ids=str
)
def test_other_events_are_ignored_with_a_reason(other):
    assert onboard_request(other).ignored


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
        ({"database": ARN, "sweeep": True}, "sweeep"),
        ({"database": ARN, "can ary": True}, "event"),
        ({"sweep": False}, "sweep"),
        ({"sweep": "canary"}, "sweep"),
        ({"sweep": True, "confirm": "canary"}, "confirm"),
        ({"sweep": True, "database": ARN}, "database"),
        ({"database": ARN, "revoke": ["a"]}, "because"),
        ({"database": ARN, "revoke": ["a"], "because": " "}, "because"),
        ({"database": ARN, "revoke": ["a"], "because": "canary\u202e"}, "because"),
        ({"database": ARN, "revoke": [], "because": "x"}, "revoke"),
        ({"database": ARN, "revoke": "canary", "because": "x"}, "revoke"),
        ({"database": ARN, "revoke": ["can ary"], "because": "x"}, "revoke"),
        ({"database": ARN, "revoke": ["a"], "because": "x", "confirm": True}, "confirm"),
        ({"database": ARN, "revoke": ["a"], "because": "x", "lift": ["a"]}, "because"),
        ({"database": ARN, "lift": [7]}, "lift"),
        ({"database": ARN, "lift": ["a"] * 101}, "lift"),
        ({"sweep": True, "revoke": ["a"]}, "revoke"),
        ([], "event"),
        (None, "event"),
        (event(detail=[]), "detail"),
        (detail(SourceArn=None), "detail.SourceArn"),
        (detail(SourceArn="canary"), "detail.SourceArn"),
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
            assert isinstance(request, SweepRequest) or request.database
        except InvalidRequest:
            continue


# --- The audit -------------------------------------------------------------------------------------------------------

ONE, TWO = (f"arn:aws:rds:eu-west-1:123456789012:db:{name}" for name in ("one", "two"))
SCHEDULED = {"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}, "resources": ["arn"]}


@pytest.mark.parametrize("event", [{}, SCHEDULED], ids=["by hand", "by schedule"])
def test_an_audit_is_of_the_whole_fleet(event):
    assert audit_request(event) == AuditRequest(None)


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
        (SCHEDULED | {"source": "aws.rds"}, "detail-type"),
        (SCHEDULED | {"detail-type": "RDS DB Instance Event"}, "detail-type"),
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


@pytest.mark.parametrize("audit", ["", "../x", "20261124T040000Z-0a1b2c3d/", "٢٠261124T040000Z-0a1b2c3d", None, 7])
def test_what_is_no_id_of_a_run_is_refused(audit):
    with pytest.raises(InvalidRequest, match="audit"):
        batch_request({"audit": audit, "batch": 0})


@pytest.mark.parametrize("number", [-1, True, "0", 1.0, None, 100_000])
def test_what_is_no_number_of_a_batch_is_refused(number):
    with pytest.raises(InvalidRequest, match="batch"):
        batch_request({"audit": "20261124T040000Z-0a1b2c3d", "batch": number})
