"""Observations of a user's sessions: it is retired only after a period without a login that was really observed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.core.times import moment, text
from rdsiam.engines.migration import Observation, ObservedClient
from rdsiam.migration.observation import begin, has_logged_in, is_over, observed, pause
from rdsiam.state.migrations import QuietPeriod

START = datetime(2026, 11, 1, tzinfo=UTC)
WEEK = 7 * 86400
NOBODY, SOMEBODY = Observation((), None), Observation((ObservedClient("orders", "10.0.0.1", None, 3),), None)


def after(period: QuietPeriod, *observations: tuple[int, Observation]) -> QuietPeriod:
    """Return the period after observations at these seconds since the start."""
    for seconds, observation in observations:
        period = observed(period, observation, START + timedelta(seconds=seconds))
    return period


def test_a_period_without_a_login_is_over_at_its_end():
    period = begin(None, WEEK, START)
    for seconds in range(0, WEEK, pause(WEEK)):
        period = after(period, (seconds, NOBODY))
        assert not is_over(period, START + timedelta(seconds=seconds))
    assert is_over(period, START + timedelta(seconds=WEEK))


def test_a_login_lets_the_period_begin_anew_and_is_remembered():
    period = after(begin(None, 3600, START), (600, SOMEBODY), (900, NOBODY))
    assert period.quiet_since == period.last_seen == text(START + timedelta(seconds=600))
    assert period.clients == ({"application": "orders", "address": "10.0.0.1", "since": None, "sessions": 3},)


@pytest.mark.parametrize(
    ("before", "now", "seen"),
    [(5, 5, False), (5, 6, True), (5, 0, False), (5, 2, True), (None, 7, False), (5, None, False)],
    ids=["none", "one", "server restarted", "restarted and one", "first observation", "no longer counted"],
)
def test_statements_that_the_server_counts_are_noticed_though_their_sessions_have_ended(before, now, seen):
    period = QuietPeriod(WEEK, text(START), statements=before)
    assert has_logged_in(period, Observation((), now)) is seen


def test_unobserved_time_does_not_count():
    period = after(begin(None, WEEK, START), (0, NOBODY), (5 * 86400, NOBODY))
    assert period.quiet_since == text(START + timedelta(days=5))


def test_another_execution_continues_a_period_that_was_observed_until_now_and_begins_a_later_one_anew():
    period = after(begin(None, WEEK, START), (0, NOBODY))
    assert begin(period, WEEK, START + timedelta(minutes=30)).quiet_since == text(START)
    assert begin(period, WEEK, START + timedelta(days=2)).quiet_since == text(START + timedelta(days=2))


def test_names_of_clients_are_cut_and_hold_no_control_characters():
    hostile = Observation((ObservedClient("\x1b[31m" + "x" * 500, "::1", None, 1),), None)
    shown = after(begin(None, WEEK, START), (0, hostile)).clients[0]["application"]
    assert shown.startswith("[31mx")
    assert len(shown) == 64


@given(st.lists(st.tuples(st.integers(1, 2 * 3600), st.booleans()), max_size=60), st.integers(1, 6 * 3600))
def test_in_any_order_of_logins_and_gaps_the_period_ends_only_after_observed_quiet(steps, seconds):
    """The period is over if the last login and the end of the last unobserved hour are long enough ago."""
    period, at, quiet_since = begin(None, seconds, START), START, START
    for wait, somebody in steps:
        at += timedelta(seconds=wait)
        period = observed(period, SOMEBODY if somebody else NOBODY, at)
        if somebody or wait > 3600:
            quiet_since = at
        assert is_over(period, at) is (at - quiet_since >= timedelta(seconds=seconds))
    assert moment(period.quiet_since) == quiet_since
