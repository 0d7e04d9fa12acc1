"""Events become requests only if they are exactly those of RDS, S3 or a schedule."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.aws.expand import read
from rdsiam.errors import InvalidRequest
from rdsiam.events.onboard import NoticeRequest, onboard_request
from rdsiam.events.service_events import (
    NOTICES,
    ONBOARDED_AFTER,
    RECONCILED_AFTER,
    RESOURCE_TYPES,
    EventSources,
    event_request,
)

ROOT = Path(__file__).parents[3]
ARN = "arn:aws:rds:eu-west-1:123456789012:db:orders-1"
RULE = "arn:aws:events:eu-west-1:123456789012:rule/rdsiam"
SOURCES = EventSources("rdsiam-accessbucket-1a2b3c", f"{RULE}-reconcile", f"{RULE}-audit")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda more: st.lists(more) | st.dictionaries(st.text(), more),
)


def example(name, **changes):
    return json.loads((ROOT / "events" / f"{name}.json").read_text()) | changes


def detail(name, **changes):
    return example(name, detail=example(name)["detail"] | changes)


RDS_EVENTS = [path.stem for path in (ROOT / "events").glob("*.json") if "EventID" in path.read_text()]
SWITCHOVERS = [name for name in RDS_EVENTS if name.endswith("-switched-over")]


@pytest.mark.parametrize("name", sorted(set(RDS_EVENTS) - set(SWITCHOVERS) - {"password-reset", "memory-low"}))
def test_an_event_of_rds_asks_for_the_onboarding_of_its_database(name):
    event = example(name)
    request = event_request(event, SOURCES)
    assert (request.function, request.payload) == ("onboard", {"database": event["detail"]["SourceArn"]})


@pytest.mark.parametrize("number", ONBOARDED_AFTER)
@pytest.mark.parametrize("kind", ["database-created", "cluster-created", "proxy-created"])
def test_a_database_is_onboarded_after_every_event_that_may_make_it_another_one(number, kind):
    event = detail(kind, EventID=number)
    assert event_request(event, SOURCES).payload == {"database": event["detail"]["SourceArn"]}


@pytest.mark.parametrize("number", NOTICES)
@pytest.mark.parametrize("kind", ["database-created", "cluster-created"])
def test_an_event_that_no_onboarding_resolves_is_a_notice(number, kind):
    event = detail(kind, EventID=number)
    payload = event_request(event, SOURCES).payload
    assert payload == {"database": event["detail"]["SourceArn"], "notice": number}
    assert onboard_request(payload) == NoticeRequest(payload["database"], number)


@pytest.mark.parametrize("name", SWITCHOVERS)
def test_a_switchover_asks_for_a_reconcile_since_databases_have_exchanged_their_names(name):
    request = event_request(example(name), SOURCES)
    assert (request.function, request.payload) == ("onboard", {"reconcile": True})


def test_both_switchovers_have_an_example():
    assert {example(name)["detail"]["EventID"] for name in SWITCHOVERS} == set(RECONCILED_AFTER)


@pytest.mark.parametrize(
    ("name", "function", "payload"),
    [
        ("access-changed", "onboard", {"reconcile": True}),
        ("reconcile-schedule", "onboard", {"reconcile": True}),
        ("audit-schedule", "audit", {}),
    ],
)
def test_other_events_ask_for_a_reconcile_or_an_audit_of_the_fleet(name, function, payload):
    request = event_request(example(name), SOURCES)
    assert (request.function, request.payload) == (function, payload)


def test_an_event_that_is_delivered_twice_has_one_execution_name():
    names = {event_request(example("database-created"), SOURCES).execution_name for _ in range(2)}
    assert names == {"event-6a7e8feb-b491-4cf7-a9f1-bf3703467718"}
    assert event_request(example("audit-schedule"), SOURCES).execution_name not in names


def test_fields_that_aws_adds_to_the_detail_reach_no_request():
    event = detail("database-created", lift=["app"], confirm=True)
    assert event_request(event, SOURCES).payload == {"database": ARN}


REFUSED = {
    "a request": ({"database": ARN}, "account"),
    "a lift": ({"database": ARN, "lift": ["app"]}, "account"),
    "a reconcile that is confirmed": ({"reconcile": True, "confirm": True}, "account"),
    "a remediation": ({"remediate": ["0" * 20], "confirm": True}, "account"),
    "an empty object": ({}, "account"),
    "a list": ([], "event"),
    "nothing": (None, "event"),
    "a field too many": (example("database-created", confirm=True), "event"),
    "a field too many of a schedule": (example("reconcile-schedule", reconcile=True), "event"),
    "a field too few": ({k: v for k, v in example("database-created").items() if k != "time"}, "time"),
    "another source": (example("database-created", source="mallory"), "source"),
    "a source that is a list": (example("database-created", source=["aws.rds"]), "source"),
    "another account": (example("database-created", account="999999999999"), "account"),
    "another region": (example("database-created", region="us-east-1"), "region"),
    "an id of its own": (example("database-created", id="canary"), "id"),
    "an id with a line's end": (example("database-created", id=example("database-created")["id"] + "\n"), "id"),
    "another kind of event": (example("database-created", **{"detail-type": "RDS DB Snapshot Event"}), "detail-type"),
    "a kind that is a list": (example("database-created", **{"detail-type": []}), "detail-type"),
    "no detail": (example("database-created", detail=[]), "detail"),
    "an event that nothing follows": (detail("database-created", EventID="RDS-EVENT-0006"), "detail.EventID"),
    "no number": (detail("database-created", EventID=None), "detail.EventID"),
    "no database": (detail("database-created", SourceArn=None), "detail.SourceArn"),
    "a database of another account": (
        detail("database-created", SourceArn=ARN.replace("123456789012", "999999999999")),
        "detail.SourceArn",
    ),
    "a database of another region": (
        detail("database-created", SourceArn=ARN.replace("eu-west-1", "us-east-1")),
        "detail.SourceArn",
    ),
    "a cluster of an instance's event": (
        detail("database-created", SourceArn=ARN.replace(":db:", ":cluster:")),
        "detail.SourceArn",
    ),
    "an ARN with a line's end": (detail("database-created", SourceArn=ARN + "\n"), "detail.SourceArn"),
    "a switchover of an instance": (detail("database-created", EventID="RDS-EVENT-0251"), "detail.EventID"),
    "a deployment that is created": (detail("instance-switched-over", EventID="RDS-EVENT-0244"), "detail.EventID"),
    "a deployment that is a database": (detail("instance-switched-over", SourceArn=ARN), "detail.SourceArn"),
    "a deployment of another account": (
        detail("instance-switched-over", SourceArn="arn:aws:rds:eu-west-1:999999999999:deployment:bgd-1"),
        "detail.SourceArn",
    ),
    "a deleted object": (example("access-changed", **{"detail-type": "Object Deleted"}), "detail-type"),
    "another bucket": (detail("access-changed", bucket={"name": "canary"}), "detail.bucket"),
    "another object": (detail("access-changed", object={"key": "canary"}), "detail.object"),
    "another rule": (example("reconcile-schedule", resources=[f"{RULE}-canary"]), "resources"),
    "two rules": (example("audit-schedule", resources=[f"{RULE}-audit", f"{RULE}-reconcile"]), "resources"),
    "no rule": (example("audit-schedule", resources=[]), "resources"),
    "a schedule with a request": (example("audit-schedule", detail={"remediate": ["0" * 20]}), "detail"),
    "a schedule of another kind": (example("audit-schedule", **{"detail-type": "canary"}), "detail-type"),
}


@pytest.mark.parametrize(("event", "field"), REFUSED.values(), ids=REFUSED)
def test_whatever_is_not_exactly_such_an_event_is_refused_without_its_values(event, field):
    with pytest.raises(InvalidRequest) as refused:
        event_request(event, SOURCES)
    assert refused.value.field == field
    assert "canary" not in str(refused.value)


@given(JSON | st.fixed_dictionaries(dict.fromkeys(example("audit-schedule"), JSON)))
def test_any_other_json_is_refused(anything):
    with pytest.raises(InvalidRequest):
        event_request(anything, SOURCES)


def test_the_rule_of_the_template_sends_the_events_that_are_applied():
    rule = read(ROOT / "template.yaml")["Resources"]["EventsFunction"]["Properties"]["Events"]["DatabaseChanged"]
    pattern = rule["Properties"]["Pattern"]
    assert pattern["detail-type"] == list(RESOURCE_TYPES)
    assert pattern["detail"]["EventID"] == sorted({**ONBOARDED_AFTER, **RECONCILED_AFTER, **NOTICES})
