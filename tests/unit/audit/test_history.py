"""Comparing runs: new and resolved findings; findings that could not be checked stay open."""

import json

import pytest

from rdsiam.audit.history import LONGEST_TREND, Coverage, History, OpenFinding, compare, extend
from rdsiam.findings.finding import Finding, Suppressed
from rdsiam.report.document import Severities, TrendLine

BEFORE, NOW = "2026-11-23T04:00:00Z", "2026-11-24T04:00:00Z"
A, B, C = (f"arn:aws:rds:eu-west-1:123456789012:db:{name}" for name in "abc")


def finding(id: str, database: str | None = A, kind: str = "user-without-iam", suppressed: bool = False) -> Finding:
    accepted = Suppressed("vendor tool", "2027-01-01T00:00:00Z") if suppressed else None
    return Finding(id, kind, "high", database, "legacy", "title", suppressed=accepted)


def known(id: str, database: str | None = A, kind: str = "user-without-iam", **more: bool) -> History:
    return History({id: OpenFinding(id, kind, "high", database, "legacy", "title", BEFORE, **more)})


def coverage(read=(A, B), unreadable=(), policies=True, whole=True) -> Coverage:
    return Coverage(frozenset(read), frozenset(unreadable), frozenset({"database-unreachable"}), policies, whole)


def trend_line(id: str) -> TrendLine:
    findings: Severities = {"critical": 0, "high": 0, "medium": 0, "low": 0}
    return {"id": id, "finished": NOW, "share": None, "accounts": 0, "findings": findings, "unreachable": 0}


def test_a_finding_that_the_run_before_did_not_have_is_new_and_dated_now():
    compared = compare(History(), [finding("1")], [finding("2", None)], coverage(), NOW)
    assert compared.new == {"1", "2"}
    assert {one.first_seen for one in compared.findings} == {NOW}


def test_a_finding_that_stays_keeps_its_date_and_is_not_new():
    compared = compare(known("1"), [finding("1")], [], coverage(), NOW)
    assert (compared.new, compared.resolved) == (frozenset(), ())
    assert compared.findings[0].first_seen == BEFORE


def test_a_missing_finding_of_a_database_that_was_read_is_resolved():
    compared = compare(known("1"), [], [], coverage(), NOW)
    assert [one.id for one in compared.resolved] == ["1"]
    assert not compared.open


def test_a_resolved_finding_that_returns_is_new_again():
    resolved = History(compare(known("1"), [], [], coverage(), BEFORE).open)
    assert compare(resolved, [finding("1")], [], coverage(), NOW).new == {"1"}


def test_findings_of_a_database_that_could_not_be_read_stay_open_with_their_date():
    compared = compare(known("1"), [], [], coverage(read=(), unreadable=(A,)), NOW)
    assert compared.resolved == ()
    assert compared.open["1"].first_seen == BEFORE
    assert compare(History(compared.open), [finding("1")], [], coverage(), NOW).findings[0].first_seen == BEFORE


def test_findings_that_need_no_session_are_resolved_on_unreadable_databases_too():
    compared = compare(known("1", kind="database-unreachable"), [], [], coverage(read=(), unreadable=(A,)), NOW)
    assert [one.id for one in compared.resolved] == ["1"]


@pytest.mark.parametrize(("whole", "resolved"), [(True, ["1"]), (False, [])], ids=["all", "some"])
def test_findings_of_a_database_that_is_gone_are_resolved_by_an_audit_of_all(whole, resolved):
    compared = compare(known("1", C), [], [], coverage(whole=whole), NOW)
    assert [one.id for one in compared.resolved] == resolved


def test_findings_in_policies_stay_open_if_policies_could_not_be_read():
    before = known("1", None, policy=True)
    assert compare(before, [], [], coverage(policies=False), NOW).resolved == ()
    assert [one.id for one in compare(before, [], [], coverage(), NOW).resolved] == ["1"]


def test_a_finding_in_policies_is_resolved_though_its_database_could_not_be_read():
    before = known("1", A, policy=True)
    assert [one.id for one in compare(before, [], [], coverage(read=(), unreadable=(A,)), NOW).resolved] == ["1"]


def test_a_suppressed_finding_is_not_new_until_the_suppression_expires():
    accepted = compare(History(), [finding("1", suppressed=True)], [], coverage(), BEFORE)
    assert accepted.new == frozenset()
    later = compare(History(accepted.open), [finding("1")], [], coverage(), NOW)
    assert later.new == {"1"}
    assert later.findings[0].first_seen == BEFORE


def test_the_same_problem_found_twice_is_one_finding():
    assert len(compare(History(), [finding("1"), finding("1")], [], coverage(), NOW).findings) == 1


def test_history_survives_json():
    history = History(known("1", policy=True).open, (trend_line("x"),))
    assert History.from_json(json.loads(json.dumps(history.to_json()))) == history


def test_the_trend_ends_with_the_last_run_and_has_a_limited_length():
    trend: tuple[TrendLine, ...] = ()
    for number in range(LONGEST_TREND + 5):
        trend = extend(trend, trend_line(str(number)))
    assert len(trend) == LONGEST_TREND
    assert trend[-1]["id"] == str(LONGEST_TREND + 4)
