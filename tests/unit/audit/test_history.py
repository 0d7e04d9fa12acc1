"""Runs compared: what is new, what is resolved, and that unknown is never resolved."""

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


def test_what_the_run_before_did_not_have_is_new_and_dated_now():
    compared = compare(History(), [finding("1")], [finding("2", None)], coverage(), NOW)
    assert compared.new == {"1", "2"}
    assert {one.first_seen for one in compared.findings} == {NOW}


def test_what_stays_keeps_its_date_and_is_not_new():
    compared = compare(known("1"), [finding("1")], [], coverage(), NOW)
    assert (compared.new, compared.resolved) == (frozenset(), ())
    assert compared.findings[0].first_seen == BEFORE


def test_what_is_gone_from_a_database_that_was_read_is_resolved():
    compared = compare(known("1"), [], [], coverage(), NOW)
    assert [one.id for one in compared.resolved] == ["1"]
    assert not compared.open


def test_what_comes_back_after_it_was_resolved_is_new_again():
    resolved = History(compare(known("1"), [], [], coverage(), BEFORE).open)
    assert compare(resolved, [finding("1")], [], coverage(), NOW).new == {"1"}


def test_findings_of_a_database_that_could_not_be_read_stay_open_with_their_date():
    compared = compare(known("1"), [], [], coverage(read=(), unreadable=(A,)), NOW)
    assert compared.resolved == ()
    assert compared.open["1"].first_seen == BEFORE
    assert compare(History(compared.open), [finding("1")], [], coverage(), NOW).findings[0].first_seen == BEFORE


def test_what_is_known_without_reading_is_resolved_also_where_nothing_was_read():
    compared = compare(known("1", kind="database-unreachable"), [], [], coverage(read=(), unreadable=(A,)), NOW)
    assert [one.id for one in compared.resolved] == ["1"]


@pytest.mark.parametrize(("whole", "resolved"), [(True, ["1"]), (False, [])], ids=["all", "some"])
def test_findings_of_a_database_that_is_gone_are_resolved_by_an_audit_of_all(whole, resolved):
    compared = compare(known("1", C), [], [], coverage(whole=whole), NOW)
    assert [one.id for one in compared.resolved] == resolved


def test_findings_in_policies_stay_open_where_policies_could_not_be_read():
    before = known("1", None, policy=True)
    assert compare(before, [], [], coverage(policies=False), NOW).resolved == ()
    assert [one.id for one in compare(before, [], [], coverage(), NOW).resolved] == ["1"]


def test_a_finding_in_policies_is_resolved_though_its_database_could_not_be_read():
    before = known("1", A, policy=True)
    assert [one.id for one in compare(before, [], [], coverage(read=(), unreadable=(A,)), NOW).resolved] == ["1"]


def test_what_is_accepted_is_not_new_and_is_so_when_the_time_is_over():
    accepted = compare(History(), [finding("1", suppressed=True)], [], coverage(), BEFORE)
    assert accepted.new == frozenset()
    later = compare(History(accepted.open), [finding("1")], [], coverage(), NOW)
    assert later.new == {"1"}
    assert later.findings[0].first_seen == BEFORE


def test_the_same_problem_met_twice_is_one_finding():
    assert len(compare(History(), [finding("1"), finding("1")], [], coverage(), NOW).findings) == 1


def test_history_comes_back_as_it_was():
    history = History(known("1", policy=True).open, (trend_line("x"),))
    assert History.from_json(json.loads(json.dumps(history.to_json()))) == history


def test_the_trend_ends_with_the_last_run_and_does_not_grow_for_ever():
    trend: tuple[TrendLine, ...] = ()
    for number in range(LONGEST_TREND + 5):
        trend = extend(trend, trend_line(str(number)))
    assert len(trend) == LONGEST_TREND
    assert trend[-1]["id"] == str(LONGEST_TREND + 4)
