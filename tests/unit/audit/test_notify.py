"""Notifications about an audit: receivers, contents, batches."""

import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.audit import notify
from rdsiam.audit.notify import NotificationFailed, Notifier, plain
from rdsiam.report.document import Report

TOPIC = "arn:aws:sns:eu-west-1:123456789012:audit"
SUMMARY = {
    "databases": 3,
    "audited": 2,
    "unreachable": 1,
    "accounts": 8,
    "passwordless": 6,
    "share": 0.75,
    "findings": {"critical": 1, "high": 2, "medium": 0, "low": 0},
    "suppressed": 0,
    "new": 1,
}


class Service:
    """EventBridge, SNS and Security Hub as receivers of notifications."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.calls: list[tuple[str, Any]] = []

    def put_events(self, **request: Any) -> dict[str, Any]:
        entries = request["Entries"]
        self.calls.append(("events", entries))
        failed = len(entries) if self.failing == "events" else 0
        return {"FailedEntryCount": failed, "Entries": [{"ErrorCode": "Throttled"}] * failed}

    def publish(self, **message: Any) -> None:
        self.calls.append(("digest", message))

    def batch_import_findings(self, **request: Any) -> dict[str, Any]:
        self.calls.append(("import", request["Findings"]))
        failed = 1 if self.failing == "import" else 0
        return {"FailedCount": failed, "FailedFindings": [{"ErrorCode": "InvalidInput"}] * failed}

    def batch_update_findings(self, **request: Any) -> dict[str, Any]:
        self.calls.append(("suppress", request))
        return {"UnprocessedFindings": [{"ErrorCode": "FindingNotFound"}] if self.failing == "suppress" else []}

    def of(self, kind: str) -> list[Any]:
        return [content for name, content in self.calls if name == kind]


class Measured:
    """The metrics that Powertools gets."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.flushed: list[dict[str, float]] = []

    def add_metric(self, name: str, _: Any, value: float) -> None:
        self.values[name] = value

    def flush_metrics(self) -> None:
        self.flushed.append(self.values)
        self.values = {}


@pytest.fixture
def measured(monkeypatch) -> Measured:
    made = Measured()
    monkeypatch.setattr(notify, "metrics", made)
    return made


def finding(number: int, severity: str = "critical", **more: Any) -> dict[str, Any]:
    return {
        "id": f"id-{number}",
        "kind": "user-without-iam",
        "severity": severity,
        "database": "arn:aws:rds:eu-west-1:123456789012:db:a",
        "user": "legacy",
        "title": "legacy can log in with a password",
        "first_seen": "2026-11-24T04:00:00Z",
        "suppressed": None,
    } | more


def report(*findings: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "20261124T040000Z-00000000",
        "scope": "all",
        "started": "2026-11-24T04:00:00Z",
        "finished": "2026-11-24T04:01:00Z",
        "account": "123456789012",
        "region": "eu-west-1",
        "summary": SUMMARY,
        "findings": list(findings),
    }


def asff(number: int, status: str = "NEW") -> dict[str, Any]:
    return {
        "Id": f"id-{number}",
        "ProductArn": "arn:aws:securityhub:eu-west-1:123456789012:product/123456789012/default",
        "Workflow": {"Status": status},
        "Note": {"Text": "vendor tool", "UpdatedBy": "rdsiam", "UpdatedAt": "2026-11-24T04:00:00Z"},
    }


def notify_all(service: Service, found: dict[str, Any], new: set[str], news: bool = True, hub: Any = ()) -> None:
    made = Notifier(service, service, TOPIC, service if hub else None)
    made.notify(cast("Report", found), list(hub), frozenset(new), news)


def test_only_new_critical_findings_have_events_of_their_own(measured):
    service = Service()
    found = report(finding(1), finding(2), finding(3, "high"))
    notify_all(service, found, {"id-1", "id-3"})
    (events,) = service.of("events")
    assert [one["DetailType"] for one in events] == ["rdsiam.audit.completed", "rdsiam.audit.finding"]
    detail = json.loads(events[1]["Detail"])
    assert (detail["id"], detail["audit"], detail["severity"]) == ("id-1", found["id"], "critical")
    assert events[1]["Resources"] == [detail["database"]]
    assert {one["Source"] for one in events} == {"rdsiam"}


def test_events_are_published_in_tens(measured):
    service = Service()
    found = report(*(finding(number) for number in range(25)))
    notify_all(service, found, {one["id"] for one in found["findings"]})
    assert [len(each) for each in service.of("events")] == [10, 10, 6]


def test_without_anything_new_there_is_no_digest(measured):
    service = Service()
    notify_all(service, report(finding(1)), set())
    assert service.of("digest") == []
    assert [one["DetailType"] for one in service.of("events")[0]] == ["rdsiam.audit.completed"]


def test_the_digest_has_new_findings_and_figures(measured):
    service = Service()
    notify_all(service, report(finding(1, "high"), finding(2)), {"id-1"})
    (message,) = service.of("digest")
    assert message["TopicArn"] == TOPIC
    assert message["Subject"] == "rdsiam: 1 new finding in 123456789012 eu-west-1"
    assert "75.0 % of 8" in message["Message"]
    assert "2 of 3 databases were read, 1 could not be" in message["Message"]
    assert "id-1" in message["Message"]
    assert "id-2" not in message["Message"]


def test_a_digest_of_many_findings_fits_into_a_mail(measured):
    service = Service()
    found = report(*(finding(number, "high", user="ü" * 5000, title="t" * 5000) for number in range(5000)))
    notify_all(service, found, {one["id"] for one in found["findings"]})
    (message,) = service.of("digest")
    assert len(message["Message"].encode()) < 100_000
    assert "… and 4900 more" in message["Message"]


def test_hostile_names_are_one_line_in_a_mail(measured):
    service = Service()
    hostile = "eve\r\nBcc: all@example.com\x1b[31m\u202egnp"
    notify_all(service, report(finding(1, user=hostile, title=hostile)), {"id-1"})
    text = service.of("digest")[0]["Message"]
    assert not any(one.startswith("Bcc") for one in text.splitlines())
    assert not set("\r\x1b\u202e") & set(text)
    assert service.of("digest")[0]["Subject"].isascii()


@given(st.text())
def test_plain_text_is_one_short_printable_line(text):
    made = plain(text)
    assert len(made) <= 120
    assert len(made.splitlines()) <= 1
    assert plain(made) == made


def test_metrics_describe_the_fleet(measured):
    notify_all(Service(), report(finding(1), finding(2)), {"id-1"})
    assert measured.flushed == [
        {
            "PasswordlessShare": 75.0,
            "CriticalFindings": 1,
            "HighFindings": 2,
            "MediumFindings": 0,
            "LowFindings": 0,
            "NewCriticalFindings": 1,
            "AuditedDatabases": 2,
            "UnknownDatabases": 1,
            "UnhealthyRotations": 0,
            "AuditsCompleted": 1,
        }
    ]


def test_rotations_in_trouble_are_counted_without_suppressed_findings(measured):
    kinds = ("rotation-stuck", "rotation-not-set", "rotation-overdue", "user-without-iam")
    found = [finding(number) | {"kind": kind} for number, kind in enumerate(kinds)]
    found[2] |= {"suppressed": {"reason": "known"}}
    notify_all(Service(), report(*found), set())
    assert measured.flushed[0]["UnhealthyRotations"] == 2


def test_an_audit_of_some_databases_notifies_of_its_end_only(measured):
    service = Service()
    notify_all(service, report(finding(1)), {"id-1"}, news=False, hub=[asff(1)])
    assert [kind for kind, _ in service.calls] == ["events"]
    assert len(service.of("events")[0]) == 1
    assert measured.flushed == []


def test_security_hub_gets_batches_of_a_hundred_and_the_suppressions(measured):
    service = Service()
    hub = [asff(number, "SUPPRESSED" if number == 7 else "NEW") for number in range(250)]
    notify_all(service, report(), set(), hub=hub)
    assert [len(each) for each in service.of("import")] == [100, 100, 50]
    (request,) = service.of("suppress")
    assert [one["Id"] for one in request["FindingIdentifiers"]] == ["id-7"]
    assert request["Workflow"] == {"Status": "SUPPRESSED"}


@pytest.mark.parametrize("failing", ["events", "import", "suppress"])
def test_a_refused_notification_is_an_error_and_the_digest_waits(measured, failing):
    service = Service(failing)
    with pytest.raises(NotificationFailed, match=r"Throttled|InvalidInput|FindingNotFound"):
        notify_all(service, report(finding(1)), {"id-1"}, hub=[asff(1, "SUPPRESSED")])
    assert service.of("digest") == []
    assert measured.flushed == []
