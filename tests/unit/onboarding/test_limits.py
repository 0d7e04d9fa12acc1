"""The change limit: losses that need confirmation, and losses that don't."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.errors import NeedsConfirmation, Refused
from rdsiam.onboarding.limits import MOST_USERS, limit_file, limit_users


def names(number: int) -> set[str]:
    return {f"user{one}" for one in range(number)}


@pytest.mark.parametrize(
    ("leaving", "managed", "declared"),
    [(0, 0, 0), (0, 5, 0), (1, 2, 1), (1, 100, 99), (2, 10, 8), (3, 15, 12)],
)
def test_disabling_few_users_needs_no_confirmation(leaving, managed, declared):
    limit_users(names(leaving), managed, declared)


@pytest.mark.parametrize(
    ("leaving", "managed", "declared", "why"),
    [
        (4, 1000, 996, "more than three"),
        (2, 9, 7, "more than a fifth"),
        (3, 14, 11, "more than a fifth"),
        (1, 1, 0, "nobody is left"),
        (2, 100, 0, "nobody is declared"),
    ],
)
def test_disabling_many_users_needs_confirmation(leaving, managed, declared, why):
    with pytest.raises(NeedsConfirmation) as needs_confirmation:
        limit_users(names(leaving), managed, declared)
    assert '"confirm": true' in str(needs_confirmation.value), why
    assert isinstance(needs_confirmation.value, Refused)


@given(st.integers(0, 50), st.integers(0, 50))
def test_more_than_three_users_or_all_are_never_disabled_without_confirmation(leaving, others):
    try:
        limit_users(names(leaving), leaving + others, others)
    except NeedsConfirmation:
        assert leaving
    else:
        assert leaving <= MOST_USERS
        assert leaving == 0 or others > 0


def test_a_reason_names_at_most_ten_users():
    with pytest.raises(NeedsConfirmation) as needs_confirmation:
        limit_users(names(5000), 5000, 0)
    assert len(str(needs_confirmation.value)) < 500


@pytest.mark.parametrize(("before", "now"), [(None, 0), (2, 1), (10, 5), (10, 20), (0, 0)])
def test_losing_half_of_the_entries_needs_no_confirmation(before, now):
    limit_file(before, now)


@pytest.mark.parametrize(("before", "now"), [(3, 1), (10, 4), (1, 0)])
def test_losing_more_than_half_of_the_entries_needs_confirmation(before, now):
    with pytest.raises(NeedsConfirmation, match=r"entr(y|ies)"):
        limit_file(before, now)
