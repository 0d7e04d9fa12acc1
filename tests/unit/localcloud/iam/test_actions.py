"""The table of calls and actions: errors in it are found when it is read."""

from collections.abc import Callable

import pytest

from localcloud.iam.actions import ActionsWrong, rules

MAKERS: dict[str, Callable[..., str]] = {"named": lambda parameter: f"by {parameter}", "any": lambda: "any"}


def test_each_call_has_the_rule_of_its_entry():
    table = {"x": [{"rule": "named", "parameter": "Name", "calls": ["A", "B"]}, {"rule": "any", "calls": ["C"]}]}
    assert rules("x", MAKERS, table) == {"A": "by Name", "B": "by Name", "C": "any"}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"rule": "else", "calls": ["A"]}], r"x has an unknown rule else; known: \['any', 'named'\]"),
        ([{"rule": "named", "calls": ["A"]}], "arguments of x's rule named: .*parameter"),
        ([{"rule": "any", "parameter": "Name", "calls": ["A"]}], "arguments of x's rule any: .*parameter"),
        ([{"rule": "any", "calls": ["A"]}, {"rule": "any", "calls": ["A"]}], "x lists A twice"),
    ],
)
def test_a_wrong_entry_is_an_error(entries, message):
    with pytest.raises(ActionsWrong, match=rf"actions\.toml: {message}"):
        rules("x", MAKERS, {"x": entries})
