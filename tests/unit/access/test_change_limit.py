"""The change limit of vending counts rules: entry, caller and user, whatever their places in the file."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.access.change_limit import Loss, loss, rules
from rdsiam.access.model import AccessFile, parse

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
ROLE = "arn:aws:iam::123456789012:role/{}"


def caller(name: str, **more: Any) -> dict[str, Any]:
    return {"role": ROLE.format(name)} | more


def user(name: str, *callers: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "privileges": "readonly", "on": ["shop"], "callers": list(callers)}


def file(*entries: tuple[dict[str, Any], list[dict[str, Any]]]) -> AccessFile:
    return parse(
        json.dumps({"version": 1, "databases": [{"match": match, "users": users} for match, users in entries]})
    )


def of_users(number: int) -> AccessFile:
    return file(({"identifier": "orders"}, [user(f"u{index}", caller("ci")) for index in range(number)]))


@pytest.mark.parametrize(
    ("before", "now", "waits"),
    [(1, 0, True), (2, 1, False), (3, 1, True), (3, 2, False), (10, 5, False), (10, 4, True), (4, 8, False)],
)
def test_losing_more_than_half_of_the_rules_needs_confirmation(before, now, waits):
    assert loss(of_users(before), of_users(now), NOW).needs_confirmation is waits


def test_a_file_without_rules_loses_none():
    assert loss(of_users(0), of_users(0), NOW) == Loss(0, 0)
    assert not Loss(0, 0).needs_confirmation


A, B = {"identifier": "a"}, {"identifier": "b"}
CI, OPS = caller("ci"), caller("ops")
GROUP: dict[str, Any] = {"claim": {"groups": "oncall", "team": "db"}}


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (file((A, [user("x", CI)]), (B, [user("y", OPS)])), file((B, [user("y", OPS)]), (A, [user("x", CI)]))),
        (file((A, [user("x", CI, OPS)])), file((A, [user("x", OPS)]), (A, [user("x", CI)]))),
        (file((A, [user("x", CI)])), file((A, [user("x", caller("ci", reason="required"))]))),
        (file((A, [user("x", CI)])), file((A, [user("x", caller("ci", until="2026-11-27T12:00:01Z"))]))),
        (file((A, [user("x", caller("ci", until="2026-11-27T12:00:00Z"))])), file((A, [user("x")]))),
        (
            file((A, [user("x", GROUP)])),
            file((A, [user("x", {"claim": {"team": "db", "groups": "oncall"}})])),
        ),
        (
            file(({"tags": {"a": "1", "b": "2"}}, [user("x", CI)])),
            file(({"tags": {"b": "2", "a": "1"}}, [user("x", CI)])),
        ),
    ],
    ids=["order of entries", "split entry", "reason", "until", "ended before", "order of claims", "order of tags"],
)
def test_the_same_rules_written_otherwise_are_no_loss(before, now):
    assert loss(before, now, NOW).lost == 0


@pytest.mark.parametrize(
    "now",
    [
        file((A, [user("x")])),
        file((A, [user("y", CI)])),
        file((A, [user("x", OPS)])),
        file((B, [user("x", CI)])),
        file(({"tags": {"env": "prd"}}, [user("x", CI)])),
        file(({"identifier": "a", "tags": {"env": "prod"}}, [user("x", CI)])),
        file((A, [user("x", caller("ci", until="2026-11-27T12:00:00Z"))])),
        file((A, [user("x", {"claim": {"groups": "ci"}})])),
    ],
    ids=["no caller", "other user", "other caller", "other entry", "wrong tag", "narrower", "ended", "claim"],
)
def test_a_rule_that_admits_somebody_else_or_nobody_is_a_loss(now):
    assert loss(file((A, [user("x", CI)])), now, NOW) == Loss(1, 1)


def test_roles_that_sign_tokens_themselves_are_no_rules_of_vending():
    signing = file((A, [user("x") | {"roles": [ROLE.format("app")]}]))
    assert rules(signing, NOW) == frozenset()


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_never_more_than_half_is_lost_without_confirmation(before, now):
    def made(numbers: set[int]) -> AccessFile:
        return file((A, [user(f"u{number}", CI) for number in sorted(numbers)]))

    change = loss(made(before), made(now), NOW)
    assert change.lost == len(before - now)
    assert change.needs_confirmation == (len(before - now) > len(before) / 2)
