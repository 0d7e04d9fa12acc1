"""Schedules of localcloud's Secrets Manager: accepted and due as AWS documents it."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.moto_patches.rotation_rules import WrongRules, check, latest
from rdsiam.access.calendar import CYCLES, rules

NOW = datetime(2026, 11, 25, 17, 30, tzinfo=UTC)  # a Wednesday


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "duration", "closes"),
    [
        ("rate(10 days)", None, "2026-12-05T23:59:59"),
        ("rate(10 days)", "2h", "2026-12-05T01:59:59"),
        ("rate(6 hours)", None, "2026-11-25T23:30:00"),
        ("cron(0 8 * * ? *)", None, "2026-11-26T23:59:59"),
        ("cron(0 18 * * ? *)", "3h", "2026-11-25T20:59:59"),
        ("cron(0 0/8 * * ? *)", "1h", "2026-11-26T00:59:59"),
        ("cron(0 2 1,15 * ? *)", "1h", "2026-12-01T02:59:59"),
        ("cron(0 2 28 2,5,8,11 ? *)", "1h", "2026-11-28T02:59:59"),
        ("cron(0 2 ? JAN MON *)", "1h", "2027-01-04T02:59:59"),
        ("cron(0 2 ? * 7 *)", "1h", "2026-11-28T02:59:59"),
        ("cron(0 2 ? * SUN *)", "1h", "2026-11-29T02:59:59"),
        ("cron(0 23 29 2 ? *)", "1h", "2028-02-29T23:59:59"),
    ],
)
def test_the_next_rotation_is_due_at_the_end_of_its_window(expression, duration, closes):
    asked = {"ScheduleExpression": expression} | ({"Duration": duration} if duration else {})
    check(asked)
    assert latest(asked, NOW) == at(closes)


def test_days_count_from_midnight_and_without_rules_none_is_due():
    assert latest({"AutomaticallyAfterDays": 30}, NOW) == at("2026-12-25T23:59:59")
    assert latest({}, NOW) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"AutomaticallyAfterDays": 30, "ScheduleExpression": "rate(1 day)"},
        {"AutomaticallyAfterDays": 0},
        {"AutomaticallyAfterDays": 1001},
        {"ScheduleExpression": "rate(3 hours)"},
        {"ScheduleExpression": "rate(0 days)"},
        {"ScheduleExpression": "every day"},
        {"ScheduleExpression": "cron(30 2 * * ? *)"},
        {"ScheduleExpression": "cron(0 2 * * ? 2027)"},
        {"ScheduleExpression": "cron(0 24 * * ? *)"},
        {"ScheduleExpression": "cron(0 2 32 * ? *)"},
        {"ScheduleExpression": "cron(0 2 * * * *)"},
        {"ScheduleExpression": "cron(0 2 ? * ? *)"},
        {"ScheduleExpression": "cron(0 2 x * ? *)"},
        {"ScheduleExpression": "cron(0 23 * * ? *)", "Duration": "2h"},
        {"ScheduleExpression": "cron(0 2 * * ? *)", "Duration": "90m"},
        {"ScheduleExpression": "cron(0 2 * * ? *)", "Duration": "0h"},
    ],
    ids=str,
)
def test_what_secrets_manager_refuses(wrong):
    with pytest.raises(WrongRules):
        check(wrong)


@given(st.sampled_from(list(CYCLES)), st.integers(0, 10_000), st.sampled_from(["00:00/24h", "23:00/1h", "02:00/3h"]))
def test_every_place_in_the_calendar_is_taken_and_comes(every, number, window):
    asked = rules(f"db-{number}", [("etl", every, window)])["etl"]
    check(asked)
    due = latest(asked, NOW)
    assert due is not None
    assert due > NOW
    assert (due - NOW).days <= 366
