"""Numbers with the words that agree with them."""

import pytest

from rdsiam.access.change_limit import Loss
from rdsiam.core.counts import agreed, counted
from rdsiam.errors import NeedsConfirmation
from rdsiam.onboarding.limits import limit_file, limit_users


@pytest.mark.parametrize(
    ("value", "words", "text"),
    [
        (0, ("database",), "0 databases"),
        (1, ("database",), "1 database"),
        (12345, ("database",), "12,345 databases"),
        (1, ("entry", "entries"), "1 entry"),
        (2, ("entry", "entries"), "2 entries"),
    ],
)
def test_a_count_has_the_noun_that_agrees_with_it(value, words, text):
    assert counted(value, *words) == text


def test_a_verb_agrees_with_a_count():
    assert [agreed(value, "was", "were") for value in (0, 1, 2)] == ["were", "was", "were"]


def test_change_limits_of_one_read_as_one():
    assert str(Loss(1, 1)) == "1 of 1 rule by which callers get tokens disappears"
    assert str(Loss(2, 3)) == "2 of 3 rules by which callers get tokens disappear"
    with pytest.raises(NeedsConfirmation, match=r"^1 of 1 user is no longer declared and would be disabled: app;"):
        limit_users(["app"], managed=1, declared=0)
    with pytest.raises(NeedsConfirmation, match=r"^access\.yaml has 1 entry, and had 5 when it was last applied;"):
        limit_file(5, 1)
