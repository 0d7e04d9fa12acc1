"""A caller gets the logins that a rule allows; everything else is denied."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdsiam.access.callers import Caller, has_role
from rdsiam.access.decide import UNDECLARED, Decision, decide, denied_anywhere, users_of
from rdsiam.access.model import parse
from rdsiam.access.selection import Attributes, SelectedDatabase
from rdsiam.errors import InvalidRequest
from tests.examples import at_most
from tests.unit.access.files import ACCOUNT, GOOD, NOON, ORDERS, access, entry, user

CI = Caller(role=f"arn:aws:iam::{ACCOUNT}:role/ci", account=ACCOUNT, session="i-1")
ANNA = Caller(role=None, account="", claims={"sub": "anna", "groups": ["oncall", "x admins"], "aud": ["a"]})


def test_a_caller_gets_what_a_rule_allows() -> None:
    file = parse(GOOD)

    assert decide(file, ORDERS, "app", CI, None, NOON) == Decision(True, "databases[0].users[0].callers[0]", None)
    assert decide(file, ORDERS, "app", ANNA, " TICKET-1 ", NOON) == Decision(
        True, "databases[0].users[0].callers[1]", datetime(2026, 12, 31, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("database", "name", "caller", "why"),
    [
        (replace(ORDERS, identifier="billing"), "app", CI, "no entry"),
        (replace(ORDERS, tags={}), "app", CI, "no entry"),
        (ORDERS, "App", CI, "no entry"),
        (ORDERS, "other", CI, "no entry"),
        (ORDERS, "", CI, "no entry"),
        (ORDERS, "app", replace(CI, role=f"arn:aws:iam::{ACCOUNT}:role/CI"), "no entry"),
        (ORDERS, "app", replace(CI, role=f"arn:aws-cn:iam::{ACCOUNT}:role/ci"), "no entry"),
        (ORDERS, "app", Caller("arn:aws:iam::999999999999:role/ci", "999999999999"), "no entry"),
        (ORDERS, "app", replace(CI, account="999999999999"), "no entry"),
        (ORDERS, "app", replace(CI, role=f"arn:aws:iam::{ACCOUNT}:user/ci"), "no entry"),
        (ORDERS, "app", replace(CI, role=None), "no entry"),
        (ORDERS, "app", Caller(f"arn:aws:iam::{ACCOUNT}:role/path/of/app", ACCOUNT), "no entry"),  # signs itself
        (ORDERS, "app", Caller(None, ""), "no entry"),
        (replace(ORDERS, master_user="app"), "app", CI, "access.yaml is invalid for this database"),
        (replace(ORDERS, arn="arn:aws:rds:eu-central-1:999999999999:db:orders-1"), "app", CI, "access.yaml is invalid"),
    ],
)
def test_everything_else_is_denied(database: SelectedDatabase, name: str, caller: Caller, why: str) -> None:
    decision = decide(parse(GOOD), database, name, caller, "a reason", NOON)

    assert not decision.allowed
    assert decision.rule.startswith(why)
    assert decision.until is None
    assert name not in users_of(parse(GOOD), database, caller, NOON)


@pytest.mark.parametrize(
    ("identifier", "name", "caller", "at", "denied"),
    [
        ("orders-1", "app", CI, NOON, ""),
        (None, "app", CI, NOON, ""),
        ("billing", "app", CI, NOON, UNDECLARED),
        ("orders-1", "other", CI, NOON, UNDECLARED),
        ("orders-1", "app", Caller(None, ""), NOON, UNDECLARED),
        ("orders-1", "app", ANNA, NOON, ""),  # a reason is all that it lacks
        ("orders-1", "app", Caller(f"arn:aws:iam::{ACCOUNT}:role/path/of/app", ACCOUNT), NOON, ""),  # signs itself
        ("orders-1", "app", ANNA, datetime(2026, 12, 31, tzinfo=UTC), "databases[0].users[0].callers[1]: has ended"),
    ],
)
def test_only_what_depends_on_the_database_needs_a_lookup(
    identifier: str | None, name: str, caller: Caller, at: datetime, denied: str
) -> None:
    assert denied_anywhere(parse(GOOD), identifier, name, caller, at) == denied


@pytest.mark.parametrize("reason", [None, "", "  ", "x" * 501, "a\nb", "\x1b[31m"], ids=lambda reason: repr(reason)[:9])
def test_a_required_reason_must_be_one(reason: str | None) -> None:
    decision = decide(parse(GOOD), ORDERS, "app", ANNA, reason, NOON)

    assert decision == Decision(False, "databases[0].users[0].callers[1]: a reason is required", None, "give-reason")


def test_a_rule_ends_at_its_time() -> None:
    end = datetime(2026, 12, 31, tzinfo=UTC)

    assert decide(parse(GOOD), ORDERS, "app", ANNA, "why", end - timedelta(seconds=1)).allowed
    assert decide(parse(GOOD), ORDERS, "app", ANNA, "why", end).rule == "databases[0].users[0].callers[1]: has ended"


def test_of_several_rules_the_one_that_allows_longest_counts() -> None:
    untils = ["2026-08-01T00:00:00Z", "2026-10-01T02:00:00+02:00", "2026-07-01T00:00:00Z", "2026-09-01T00:00:00Z"]
    rules: list[dict[str, Any]] = [{"role": CI.role, "until": until} for until in untils]

    limited = decide(access(entry(user(callers=rules))), ORDERS, "app", CI, None, NOON)
    unlimited = decide(access(entry(user(callers=[*rules, {"role": CI.role}]))), ORDERS, "app", CI, None, NOON)

    assert limited == Decision(True, "databases[0].users[0].callers[1]", datetime(2026, 10, 1, tzinfo=UTC))
    assert unlimited == Decision(True, "databases[0].users[0].callers[4]", None)


@pytest.mark.parametrize(
    ("claim", "claims", "matches"),
    [
        ({"groups": "oncall"}, {"groups": "oncall"}, True),
        ({"groups": "oncall"}, {"groups": ["dev", "oncall"]}, True),
        ({"groups": "oncall"}, {"groups": "oncall dev"}, False),
        ({"groups": "oncall"}, {"groups": "[oncall dev]"}, False),
        ({"groups": "oncall"}, {"groups": ["on", "call"]}, False),
        ({"groups": "oncall"}, {"groups": {"oncall": 1}}, False),
        ({"groups": "oncall"}, {"groups": None}, False),
        ({"groups": "oncall"}, {"Groups": "oncall"}, False),
        ({"groups": "1"}, {"groups": 1}, True),
        ({"groups": "1"}, {"groups": [1]}, True),
        ({"groups": "1"}, {"groups": True}, False),
        ({"groups": "01"}, {"groups": 1}, False),
        ({"groups": "1"}, {"groups": 1.0}, False),
        ({"admin": "true"}, {"admin": True}, True),
        ({"admin": "false"}, {"admin": [False]}, True),
        ({"level": "-3"}, {"level": [1, -3]}, True),
        ({"admin": "true"}, {"admin": False}, False),
        ({"admin": "True"}, {"admin": True}, False),
        ({"admin": "1"}, {"admin": {"1": True}}, False),
        ({"realm_access.roles": "oncall"}, {"realm_access": {"roles": ["dev", "oncall"]}}, True),
        ({"realm_access.roles": "oncall"}, {"realm_access": {"roles": "oncall"}}, True),
        ({"resource_access.my.client.roles": "a"}, {"resource_access": {"my.client": {"roles": ["a"]}}}, True),
        ({"https://example.com/roles": "a"}, {"https://example.com/roles": ["a"]}, True),
        ({"a.b": "x"}, {"a.b": "x", "a": {"b": "y"}}, True),
        ({"a.b": "x"}, {"a.b": "y", "a": {"b": "x"}}, False),
        ({"a.b": "x"}, {"a.b": None, "a": {"b": "x"}}, False),
        ({"a.b.c": "x"}, {"a": {"b.c": "x"}, "a.b": {"c": "x"}}, False),
        ({"a.b.c": "x"}, {"a": {"b.c": "y", "b": {"c": "x"}}}, False),
        ({"a.b": "x"}, {"a": [{"b": "x"}]}, False),
        ({"a.b": "x"}, {"a": '{"b": "x"}'}, False),
        ({"a.b": "x"}, {"a": {"b": {"x": True}}}, False),
        ({"a": "x"}, {"a": {"a": "x"}}, False),
        ({"a.": "x"}, {"a": {"": "x"}}, True),
        ({"groups": "oncall", "sub": "anna"}, {"groups": ["oncall"], "sub": "anna"}, True),
        ({"groups": "oncall", "sub": "anna"}, {"groups": ["oncall"], "sub": "bert"}, False),
        ({"groups": "oncall", "sub": "anna"}, {"groups": ["oncall"]}, False),
    ],
    ids=str,
)
def test_claims_must_all_match(claim: dict[str, str], claims: dict[str, Any], matches: bool) -> None:
    file = access(entry(user(callers=[{"claim": claim}])))

    assert decide(file, ORDERS, "app", Caller(None, "", claims=claims), None, NOON).allowed is matches


def test_a_role_matches_with_or_without_its_path() -> None:
    file = access(entry(user(callers=[{"role": f"arn:aws:iam::{ACCOUNT}:role/a/b/ci"}])))

    assert decide(file, ORDERS, "app", CI, None, NOON).allowed


def test_a_caller_sees_the_users_it_may_log_in_as() -> None:
    rules = [{"role": CI.role, "reason": "required"}]
    ended = [{"role": CI.role, "until": "2026-01-01T00:00:00Z"}]
    file = access(entry(user("b", callers=rules), user("d", callers=ended), user("e")), entry(user("a", callers=rules)))

    assert users_of(file, ORDERS, CI, NOON) == ("a", "b")
    assert users_of(file, ORDERS, ANNA, NOON) == ()


REASON = {"role": CI.role, "reason": "required"}
ENDED = {"role": CI.role, "until": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("users", "way"),
    [
        ([user("app", callers=[REASON])], "give-reason"),
        ([user("app", callers=[ENDED, REASON])], "give-reason"),
        ([user("app", callers=[REASON, ENDED])], "give-reason"),
        ([user("app", roles=[CI.role])], "sign"),
        ([user("app", roles=[f"arn:aws:iam::{ACCOUNT}:role/path/ci"])], "sign"),
        ([user("app", roles=[CI.role], callers=[REASON])], "give-reason"),
        ([user("app", roles=[CI.role], callers=[ENDED])], "sign"),
        ([user("app", callers=[ENDED])], None),
        ([user("app", callers=[REASON | {"until": "2026-01-01T00:00:00Z"}])], None),
        ([user("app", callers=[{"role": f"arn:aws:iam::{ACCOUNT}:role/other", "reason": "required"}])], None),
        ([user("app", roles=["arn:aws:iam::999999999999:role/ci"])], None),
        ([user("other", callers=[REASON], roles=[CI.role])], None),
    ],
    ids=str,
)
def test_only_a_caller_whom_an_effective_rule_names_has_a_way(users: list[Any], way: str | None) -> None:
    decision = decide(access(entry(*users)), ORDERS, "app", CI, None, NOON)

    assert (decision.allowed, decision.way) == (False, way)


def test_no_caller_has_a_way_to_a_database_that_was_tagged_into_an_entry() -> None:
    tagged = entry(user("app", callers=[REASON], roles=[CI.role]), tags={"env": "prod"})
    database = replace(ORDERS, tags={"env": "prod"}, recorded=Attributes(ORDERS.engine, "orders", {}))
    back = replace(ORDERS, tags={}, recorded=Attributes(ORDERS.engine, "orders", {"env": "prod"}))

    assert decide(access(tagged), database, "app", CI, None, NOON).way is None
    assert decide(access(tagged), back, "app", CI, None, NOON).way is None
    assert decide(access(tagged), database.confirmed, "app", CI, None, NOON).way == "give-reason"


def test_a_role_without_a_name_is_none_that_signs() -> None:
    nameless = Caller(role="arn:aws:iam::123456789012:user/ci", account=ACCOUNT, session="s", claims={})

    assert not has_role(nameless, [str(nameless.role), CI.role or ""])
    assert not has_role(Caller(role=None, account="", session="s", claims={}), [CI.role or ""])


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"^at: "):
        decide(parse(GOOD), ORDERS, "app", CI, None, datetime(2026, 7, 1))


@settings(max_examples=at_most(100))
@given(
    st.text(max_size=20),
    st.builds(
        Caller,
        role=st.one_of(st.none(), st.text(max_size=60)),
        account=st.sampled_from(["", ACCOUNT]),
        claims=st.dictionaries(
            st.sampled_from(["groups", "sub"]), st.one_of(st.text(), st.lists(st.text())), max_size=2
        ),
    ),
    st.one_of(st.none(), st.text(max_size=20)),
)
def test_strangers_are_denied(name: str, caller: Caller, reason: str | None) -> None:
    file = parse(GOOD)

    assert not decide(file, ORDERS, name, caller, reason, NOON).allowed
    assert not decide(file, ORDERS, "app", caller, reason, NOON).allowed


def test_a_caller_s_claims_are_not_shown() -> None:
    assert "anna" not in repr(ANNA)
