"""Schemas in access.yaml: `schemas` of an item of `on`, `exclude_schemas` of an entry, and their problems."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.access.model import AccessFile, parse
from rdsiam.access.selection import SelectedDatabase
from rdsiam.access.users import Grant, gives, merge
from tests.unit.access.parsed import declared, problem
from tests.unit.databases import ORDERS

MYSQL = replace(ORDERS, engine="mysql")
MARIADB = replace(ORDERS, engine="mariadb")


def of_app(*schemas: str, database: str = "shop") -> dict[str, Any]:
    return {"database": database, "schemas": list(schemas)}


def file_with(on: Any, privileges: Any = "readonly", match: Any = None, **more: Any) -> str:
    users = [{"name": "app", "privileges": privileges, "on": on}]
    entry = {"match": match or {"identifier": "*"}, "users": users, **more}
    return json.dumps({"version": 1, "databases": [entry]})


def test_items_of_on_are_databases_or_schemas_of_one() -> None:
    user = declared(file_with(["crm", of_app("b", "a", "b"), of_app('We "quote"')], ["select", "execute"]))

    assert user.grants == (
        Grant("crm", ("EXECUTE", "SELECT")),
        Grant("shop", ("EXECUTE", "SELECT"), ('We "quote"', "a", "b")),
    )
    assert [str(grant) for grant in user.grants] == [
        "EXECUTE, SELECT on crm", 'EXECUTE, SELECT on shop (schemas We "quote", a, b)',
    ]  # fmt: skip


def test_one_schema_needs_no_list() -> None:
    user = declared(file_with([{"database": "shop", "schemas": "app"}], exclude_schemas="private"))

    assert (user.grants, user.excluded_schemas) == ((Grant("shop", "readonly", ("app",)),), ())


def test_all_entries_together_exclude_schemas_from_what_names_none() -> None:
    entries: list[Mapping[str, Any]] = [
        {"match": {"identifier": "*"}, "users": [{"name": "app", "privileges": "readonly", "on": "shop"}]},
        {"match": {"identifier": "*"}, "exclude_schemas": ["private", "hr"]},
        {"match": {"identifier": "orders*"}, "exclude_schemas": ["hr", "audit"]},
        {"match": {"identifier": "other"}, "exclude_schemas": ["public"]},
    ]
    (user,) = AccessFile.model_validate({"version": 1, "databases": entries}).declared(ORDERS)

    assert user.excluded_schemas == ("audit", "hr", "private")


@pytest.mark.parametrize(
    ("on", "text"),
    [
        ([of_app()], "databases[0].users[0].on[0].schemas: must not be empty"),
        ([{"database": "shop"}], "databases[0].users[0].on[0].schemas: is missing"),
        ([{"schemas": ["app"]}], "databases[0].users[0].on[0].database: is missing"),
        ([of_app("app") | {"schema": "x"}], "databases[0].users[0].on[0].schema: unknown key; did you mean schemas?"),
        ([of_app("app", database="*")], "databases[0].users[0].on[0].database: must be the name of one database"),
        ([of_app("app", database="rdsadmin")], "databases[0].users[0].on[0].database: belongs to the server itself"),
        (["crm", of_app("app", "pg_temp")], "databases[0].users[0].on[1].schemas[1]: belongs to the server itself"),
        ([of_app("information_schema")], "databases[0].users[0].on[0].schemas[0]: belongs to the server itself"),
        ([of_app("a*")], "databases[0].users[0].on[0].schemas[0]: must be the full name of a schema"),
        ([of_app("ü" * 32)], "databases[0].users[0].on[0].schemas[0]: must be the full name of a schema, at most 63"),
        ([of_app("")], "databases[0].users[0].on[0].schemas[0]: must be non-empty"),
        ([of_app("a\nb")], "databases[0].users[0].on[0].schemas[0]: must be non-empty, printable"),
        ([of_app(" a")], "databases[0].users[0].on[0].schemas[0]: must be non-empty, printable"),
        ([{"database": "shop", "schemas": [1]}], "databases[0].users[0].on[0].schemas[0]: must be text"),
        ([1], "databases[0].users[0].on[0]: must be text"),
        ([["app"]], "databases[0].users[0].on[0]: must be text"),
        ({"database": "shop", "schemas": ["app"]}, "databases[0].users[0].on: must be a list"),
    ],
)
def test_a_problem_names_line_and_key(on: Any, text: str) -> None:
    assert problem(file_with(on)).startswith(text)


def test_names_of_63_bytes_are_good_ones() -> None:
    longest = "ü" * 31 + "x"

    assert declared(file_with([of_app(longest)])).grants[0].schemas == (longest,)
    assert declared(file_with(["shop"], exclude_schemas=[longest])).excluded_schemas == (longest,)


def test_owner_can_not_be_limited() -> None:
    text = problem(file_with(["crm", of_app("app")], "owner"))

    assert text.startswith("databases[0].users[0]: owner can't be limited to schemas")


@pytest.mark.parametrize("database", [MYSQL, MARIADB])
def test_mysql_names_schemas_in_on(database: SelectedDatabase) -> None:
    said = "is for PostgreSQL only: on MySQL and MariaDB a schema is a database, and is named in `on`"

    assert problem(file_with([of_app("app")]), database) == f"databases[0].users[0].on[0].schemas: {said}"
    excluding = file_with(["shop"], exclude_schemas=["private"])
    assert problem(excluding, database).startswith(f"databases[0].exclude_schemas: {said}")
    assert declared(excluding).excluded_schemas == ("private",)


def test_an_entry_for_mysql_alone_is_refused_without_a_database() -> None:
    for engines in ("mysql", ["mariadb", "aurora-mysql"]):
        text = problem(file_with(["shop"], match={"engine": engines}, exclude_schemas=["private"]))
        assert text.startswith("databases[0].exclude_schemas: is for PostgreSQL only")
    parse(file_with(["shop"], match={"engine": ["mysql", "postgres"]}, exclude_schemas=["private"]))


def test_execute_is_in_no_level() -> None:
    users = [{"name": "app", "privileges": each, "on": "shop"} for each in ("owner", ["EXECUTE"], ["MAINTAIN"])]
    file = AccessFile.model_validate({"version": 1, "databases": [{"match": {"identifier": "*"}, "users": users}]})

    (user,) = file.declared(ORDERS)

    assert user.grants == (Grant("shop", "owner"), Grant("shop", ("EXECUTE", "MAINTAIN")))


privileges = st.sampled_from(["readonly", "readwrite", ("SELECT",), ("EXECUTE", "INSERT"), ("TRIGGER",)])
schemas = st.none() | st.sets(st.sampled_from(["app", "crm", "private"]), min_size=1).map(lambda s: tuple(sorted(s)))
grants = st.lists(st.builds(Grant, st.sampled_from(["shop", "crm"]), privileges, schemas), max_size=5)
excluded = st.sets(st.sampled_from(["app", "private"])).map(sorted)


@given(grants)
def test_a_grant_survives_json(given_grants: list[Grant]) -> None:
    text = json.dumps([grant.to_json() for grant in given_grants])

    assert [Grant.from_json(each) for each in json.loads(text)] == given_grants


@given(grants, excluded)
def test_merged_grants_give_the_same_and_merging_again_changes_nothing(
    given_grants: list[Grant], left_out: list[str]
) -> None:
    merged = merge(given_grants, left_out)

    assert merge(reversed(merged), left_out) == merged
    assert all(gives(merged, grant, left_out) for grant in given_grants)
    assert all(gives(given_grants, grant, left_out) for grant in merged)
    scopes = [(grant.on, schema) for grant in merged if isinstance(grant.privileges, str) for schema in
              ([None] if grant.schemas is None else grant.schemas)]  # fmt: skip
    assert len(scopes) == len(set(scopes)), "each schema has one level"


@given(grants, excluded)
def test_an_excluded_schema_is_given_only_by_its_name(given_grants: list[Grant], left_out: list[str]) -> None:
    unnamed = [grant for grant in given_grants if grant.schemas is None]

    assert not any(gives(unnamed, Grant("shop", ("SELECT",), (schema,)), left_out) for schema in left_out)
