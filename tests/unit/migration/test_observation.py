"""What looks at the old user's sessions mean: it is retired only after so long without a login that anybody saw."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.core.times import moment, text
from rdsiam.engines.migration import Observation, ObservedClient
from rdsiam.migration.observation import begin, is_over, looked, pause, saw
from rdsiam.state.migrations import Watch

START = datetime(2026, 11, 1, tzinfo=UTC)
WEEK = 7 * 86400
NOBODY, SOMEBODY = Observation((), None), Observation((ObservedClient("orders", "10.0.0.1", None, 3),), None)


def after(watch: Watch, *looks: tuple[int, Observation]) -> Watch:
    """Return what is known after looks at these seconds since the start."""
    for seconds, look in looks:
        watch = looked(watch, look, START + timedelta(seconds=seconds))
    return watch


def test_days_without_a_login_are_enough():
    watch = begin(None, WEEK, START)
    for seconds in range(0, WEEK, pause(WEEK)):
        watch = after(watch, (seconds, NOBODY))
        assert not is_over(watch, START + timedelta(seconds=seconds))
    assert is_over(watch, START + timedelta(seconds=WEEK))


def test_a_login_begins_the_days_anew_and_is_remembered():
    watch = after(begin(None, 3600, START), (600, SOMEBODY), (900, NOBODY))
    assert watch.quiet_since == watch.last_seen == text(START + timedelta(seconds=600))
    assert watch.seen == ({"application": "orders", "address": "10.0.0.1", "since": None, "sessions": 3},)


@pytest.mark.parametrize(
    ("before", "now", "seen"),
    [(5, 5, False), (5, 6, True), (5, 0, False), (5, 2, True), (None, 7, False), (5, None, False)],
    ids=["none", "one", "server restarted", "restarted and one", "first look", "not counted any more"],
)
def test_logins_that_the_server_counts_are_seen_though_they_have_ended(before, now, seen):
    watch = Watch(WEEK, text(START), logins=before)
    assert saw(watch, Observation((), now)) is seen


def test_a_time_that_nobody_watched_counts_for_nothing():
    watch = after(begin(None, WEEK, START), (0, NOBODY), (5 * 86400, NOBODY))
    assert watch.quiet_since == text(START + timedelta(days=5))


def test_another_execution_goes_on_where_one_stopped_a_moment_ago_and_begins_anew_later():
    watch = after(begin(None, WEEK, START), (0, NOBODY))
    assert begin(watch, WEEK, START + timedelta(minutes=30)).quiet_since == text(START)
    assert begin(watch, WEEK, START + timedelta(days=2)).quiet_since == text(START + timedelta(days=2))


def test_names_that_a_client_gave_itself_are_cut_and_hide_nothing():
    hostile = Observation((ObservedClient("\x1b[31m" + "x" * 500, "::1", None, 1),), None)
    shown = after(begin(None, WEEK, START), (0, hostile)).seen[0]["application"]
    assert shown.startswith("[31mx")
    assert len(shown) == 64


@given(st.lists(st.tuples(st.integers(1, 2 * 3600), st.booleans()), max_size=60), st.integers(1, 6 * 3600))
def test_whatever_was_seen_in_whatever_order_the_end_needs_quiet_that_was_watched(steps, seconds):
    """It is over when the last login, and the end of the last hour that nobody watched, are long enough ago."""
    watch, at, quiet_since = begin(None, seconds, START), START, START
    for wait, somebody in steps:
        at += timedelta(seconds=wait)
        watch = looked(watch, SOMEBODY if somebody else NOBODY, at)
        if somebody or wait > 3600:
            quiet_since = at
        assert is_over(watch, at) is (at - quiet_since >= timedelta(seconds=seconds))
    assert moment(watch.quiet_since) == quiet_since
