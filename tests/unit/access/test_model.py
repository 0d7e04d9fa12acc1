"""Entries of access.yaml apply together in any order; the reference and the schema are current."""

import json
import random
import re
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdsiam.access import fields
from rdsiam.access.callers import CallerRule
from rdsiam.access.model import json_schema, parse
from rdsiam.access.users import DeclaredUser, Grant
from rdsiam.aws.rds import FAMILIES
from tests.examples import at_most
from tests.unit.access.files import DOCS, ORDERS, ROLE, access, entry, problems, user


@pytest.mark.parametrize(
    ("match", "covers"),
    [
        ({"identifier": "*"}, True),
        ({"identifier": "orders-?"}, True),
        ({"identifier": "orders-1"}, True),
        ({"identifier": "orders"}, False),
        ({"identifier": "Orders-*"}, True),
        ({"identifier": "ORDERS-1"}, True),
        ({"identifier": "Orders"}, False),
        ({"engine": "postgres"}, True),
        ({"engine": ["mysql", "postgres"]}, True),
        ({"engine": "aurora-postgresql"}, False),
        ({"tags": {"env": "prod"}}, True),
        ({"tags": {"env": "prod", "team": "orders"}}, True),
        ({"tags": {"env": "prod", "team": "billing"}}, False),
        ({"tags": {"Env": "prod"}}, False),
        ({"engine": "postgres", "identifier": "orders-*", "tags": {"env": "prod"}}, True),
        ({"engine": "mysql", "identifier": "orders-*", "tags": {"env": "prod"}}, False),
    ],
    ids=lambda value: str(value),
)
def test_an_entry_matches_if_all_its_keys_do(match: dict[str, Any], covers: bool) -> None:
    assert bool(access(entry(user(), **match)).declared(ORDERS)) is covers


def test_an_empty_match_is_refused() -> None:
    file = {"version": 1, "databases": [{"match": {}}]}

    assert 'for every database say identifier: "*"' in problems(json.dumps(file))[0]


def test_engines_without_iam_authentication_match_nothing() -> None:
    assert access(entry(user())).declared(replace(ORDERS, engine="oracle-ee")) == ()


def test_the_engines_of_the_schema_are_those_that_are_supported() -> None:
    assert set(json_schema()["$defs"]["Match"]["properties"]["engine"]["anyOf"][0]["enum"]) == set(FAMILIES)


def test_entries_that_match_apply_together() -> None:
    rule = {"claim": {"groups": "oncall"}}
    file = access(
        entry(user("b", "readonly", ["x", "y"], roles=[ROLE], callers=[rule])),
        entry(user("a", ["insert", "select"], "x")),
        entry(user("b", "owner", "y", callers=[rule, {"role": ROLE}], adopt=True), engine="postgres"),
        entry(user("b", ["TRIGGER"], "x")),
        entry(user("c"), engine="mysql"),
    )

    assert file.declared(ORDERS) == (
        DeclaredUser("a", (Grant("x", ("INSERT", "SELECT")),), (), (), False),
        DeclaredUser(
            "b",
            (Grant("x", "readonly"), Grant("x", ("TRIGGER",)), Grant("y", "owner")),
            (ROLE,),
            (CallerRule(role=ROLE), CallerRule(claim={"groups": "oncall"})),
            True,
        ),
    )


@pytest.mark.parametrize(
    ("level", "privileges", "covered"),
    [
        ("readonly", ["SELECT"], True),
        ("readonly", ["INSERT", "SELECT"], False),
        ("readwrite", ["INSERT", "SELECT"], True),
        ("readwrite", ["TRUNCATE"], False),
        ("owner", ["TRUNCATE", "TRIGGER"], True),
    ],
)
def test_a_list_that_a_level_covers_is_left_out(level: str, privileges: list[str], covered: bool) -> None:
    (declared,) = access(entry(user(privileges=privileges), user(privileges=level))).declared(ORDERS)

    assert declared.grants == (Grant("*", level), *([] if covered else [Grant("*", tuple(privileges))]))


def test_a_star_is_spelled_out_over_what_exists() -> None:
    file = access(entry(user(), user(privileges="owner", on="b"), user(privileges=["TRIGGER"], on=["a", "new"])))

    assert file.declared(ORDERS)[0].grants_on(["b", "a", "c", "rdsadmin", "template1"]) == (
        Grant("a", "readonly"),
        Grant("a", ("TRIGGER",)),
        Grant("b", "owner"),
        Grant("c", "readonly"),
        Grant("new", ("TRIGGER",)),
    )


DECLARATIONS = st.lists(
    st.builds(
        user,
        name=st.sampled_from(["a", "b"]),
        privileges=st.one_of(
            st.sampled_from(["readonly", "readwrite", "owner"]),
            st.lists(st.sampled_from(["SELECT", "insert", "TRIGGER"]), min_size=1, max_size=3),
        ),
        on=st.lists(st.sampled_from(["*", "x", "y"]), min_size=1, max_size=3),
        roles=st.lists(st.sampled_from([ROLE, ROLE + "2"]), max_size=2),
        callers=st.lists(st.sampled_from([{"role": ROLE}, {"claim": {"a": "b"}}, {"claim": {"a": "c"}}]), max_size=2),
        adopt=st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=at_most(100))
@given(DECLARATIONS, st.randoms(use_true_random=False))
def test_the_order_of_entries_does_not_matter(users: list[dict[str, Any]], shuffle: random.Random) -> None:
    shuffled = shuffle.sample(users, len(users))

    one, other = access(*map(entry, users)).declared(ORDERS), access(entry(*shuffled)).declared(ORDERS)

    assert one == other
    assert [user.grants_on(["x", "z"]) for user in one] == [user.grants_on(["z", "x"]) for user in other]


def test_the_example_of_the_reference_is_good() -> None:
    example = re.search(r"```yaml example\n(.*?)```", (DOCS / "access.md").read_text(encoding="utf-8"), re.DOTALL)
    assert example

    names = [user.name for user in parse(example[1]).declared(replace(ORDERS, tags={"env": "prod"}))]

    assert names == ["app_service", "reporting"]


def test_the_reference_names_every_privilege_and_system_database() -> None:
    text = (DOCS / "access.md").read_text(encoding="utf-8")

    for word in {*fields.SQL_PRIVILEGES["postgres"], *fields.SQL_PRIVILEGES["mysql"]}:
        assert word in text
    for word in fields.SYSTEM_DATABASES:
        assert f"`{word}`" in text


def test_the_schema_in_the_documentation_is_current() -> None:
    assert json.loads((DOCS / "access.schema.json").read_text(encoding="utf-8")) == json_schema()


def test_the_schema_accepts_good_files_and_finds_misspelt_keys() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    jsonschema.Draft202012Validator.check_schema(json_schema())

    assert validator.is_valid({"version": 1, "databases": [entry(user(roles=[ROLE], callers=[{"role": ROLE}]))]})
    assert not validator.is_valid({"version": 1, "databases": [entry(user(role=[ROLE]))]})
    assert not validator.is_valid({"version": 1, "databases": [entry(user(callers=[{"role": ROLE, "until": None}]))]})
