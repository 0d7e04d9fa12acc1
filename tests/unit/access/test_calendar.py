"""The calendar of rotations: what Secrets Manager takes, spread over a fleet, never two of one database at once."""

import re
from collections import Counter
from datetime import date, timedelta
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.access.calendar import CYCLES, Rules, hours_of, rules

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,20}", fullmatch=True)
WINDOWS = st.sampled_from(["00:00/24h", "02:00/2h", "23:00/1h", "08:00/9h"])
FIVE_YEARS = [date(2026, 1, 1) + timedelta(days=number) for number in range(1826)]
RESOURCE_IDS = st.from_regex(r"db-[A-Z0-9]{26}", fullmatch=True)


def users(cycles: list[str], most: int) -> st.SearchStrategy[list[tuple[str, str, str]]]:
    user = st.tuples(NAMES, st.sampled_from(cycles), WINDOWS)
    return st.lists(user, min_size=1, max_size=most, unique_by=lambda one: one[0])


def fields(of: Rules) -> tuple[list[int], list[int], list[int]]:
    """Read an expression as Secrets Manager does; hours, days of the month, months."""
    found = re.fullmatch(r"cron\(0 (\d+) (\*|[\d,]+) (\*|[\d,]+) \? \*\)", of["ScheduleExpression"])
    assert found is not None, of
    hour, day, month = found.groups()
    days = list(range(1, 32)) if day == "*" else [int(one) for one in day.split(",")]
    months = list(range(1, 13)) if month == "*" else [int(one) for one in month.split(",")]
    return [int(hour)], days, months


def dates(of: Rules) -> list[date]:
    """Return the days of five years on which it rotates."""
    _, days, months = fields(of)
    return [day for day in FIVE_YEARS if day.day in days and day.month in months]


@given(RESOURCE_IDS, users(list(CYCLES), 12))
def test_expressions_are_what_secrets_manager_takes(resource_id, asked):
    for name, of in rules(resource_id, asked).items():
        (hour,), days, months = fields(of)
        window = hours_of(next(window for user, _, window in asked if user == name))
        assert window is not None
        assert hour in window
        assert of["Duration"] == "1h"
        assert set(days) <= set(range(1, 32))
        assert set(months) <= set(range(1, 13))
        assert len(of["ScheduleExpression"]) <= 256


@given(RESOURCE_IDS, users([every for every in CYCLES if every != "1d"], 7))
def test_up_to_seven_users_of_a_database_never_rotate_on_one_day(resource_id, asked):
    found = [{(day, month) for day in days for month in months}
             for _, days, months in map(fields, rules(resource_id, asked).values())]  # fmt: skip
    for one, other in combinations(found, 2):
        assert not one & other


@given(RESOURCE_IDS, users(["30d"], 28))
def test_as_many_as_a_month_has_days_each_have_their_own(resource_id, asked):
    days = [tuple(fields(of)[1]) for of in rules(resource_id, asked).values()]
    assert len(days) == len(set(days))


@given(RESOURCE_IDS, users(list(CYCLES), 12), st.randoms())
def test_the_order_of_the_file_does_not_matter(resource_id, asked, random):
    shuffled = list(asked)
    random.shuffle(shuffled)
    assert rules(resource_id, shuffled) == rules(resource_id, asked)


@pytest.mark.parametrize(
    ("every", "shortest", "longest", "yearly"),
    [("1d", 1, 1, 365), ("7d", 7, 10, 48), ("14d", 14, 17, 24), ("30d", 28, 31, 12), ("60d", 59, 62, 6),
     ("90d", 89, 92, 4), ("180d", 181, 184, 2), ("365d", 365, 366, 1)],
)  # fmt: skip
def test_how_far_rotations_are_apart(every, shortest, longest, yearly):
    for number in range(40):
        found = dates(rules(f"db-{number}", [("etl", every, "00:00/24h")])["etl"])
        gaps = [(later - earlier).days for earlier, later in pairwise(found)]
        assert shortest <= min(gaps)
        assert max(gaps) <= longest
        assert yearly - 1 <= len(found) / 5 <= yearly + 1


@pytest.mark.parametrize(("every", "days"), [("7d", 7), ("30d", 28), ("90d", 84)])
def test_a_fleet_is_spread_over_the_days_and_the_window(every, days):
    fleet = [rules(f"db-{number:026}", [("etl", every, "02:00/4h")])["etl"] for number in range(2000)]
    places = Counter((tuple(fields(of)[1]), tuple(fields(of)[2])) for of in fleet)
    hours = Counter(fields(of)[0][0] for of in fleet)
    assert len(places) == days
    assert max(places.values()) <= 2.5 * 2000 / days
    assert set(hours) == {2, 3, 4, 5}
    assert max(hours.values()) <= 1.3 * 2000 / 4


def test_another_user_moves_nobody_who_was_in_nobody_s_way():
    before = rules("db-1", [("a", "30d", "00:00/24h")])
    after = rules("db-1", [("a", "30d", "00:00/24h"), ("b", "365d", "00:00/24h")])
    assert after["a"] == before["a"]
