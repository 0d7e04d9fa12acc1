"""`adopt_groups` and `group_prefix` in access.yaml, and their problems."""

import json
from dataclasses import replace
from typing import Any

import pytest

from rdsiam.access.groups import Groups
from rdsiam.access.model import parse
from rdsiam.access.selection import Attributes, select
from rdsiam.state import fingerprint
from tests.unit.access.parsed import declared, problem
from tests.unit.databases import ORDERS

MYSQL = replace(ORDERS, engine="mysql")


def entry(identifier: str = "*", **more: Any) -> dict[str, Any]:
    users = [{"name": "app", "privileges": "readonly", "on": ["shop"]}]
    return {"match": {"identifier": identifier}, "users": users, **more}


def file_with(*entries: dict[str, Any]) -> str:
    return json.dumps({"version": 1, "databases": list(entries)}, indent=0)


@pytest.mark.parametrize(
    ("entries", "groups"),
    [
        ([entry()], Groups()),
        ([entry(adopt_groups=True)], Groups(adopt=True)),
        ([entry(adopt_groups=False), entry(ORDERS.identifier, adopt_groups=True)], Groups(adopt=True)),
        ([entry(group_prefix="iam_"), entry()], Groups("iam_")),
        ([entry(group_prefix="iam_"), entry(group_prefix="iam_", adopt_groups=True)], Groups("iam_", adopt=True)),
        ([entry(), entry("another", group_prefix="x_", adopt_groups=True)], Groups()),
    ],
)
def test_all_matching_entries_say_together_what_holds_for_the_groups(entries, groups):
    assert declared(file_with(*entries)).groups == groups


def test_two_prefixes_for_one_database_are_refused_there():
    text = file_with(entry(group_prefix="a_"), entry(ORDERS.identifier, group_prefix="b_"))
    assert problem(text, ORDERS).startswith("databases[1].group_prefix: another entry that matches the database")
    parse(text).declared(replace(ORDERS, identifier="another"))


@pytest.mark.parametrize("prefix", ["", "1_", "a b", 'a"', "rds_", "RDSIAM_", "pg_x", "aws_", "x" * 21, "ä_"])
def test_a_prefix_that_is_reserved_or_odd_is_refused(prefix):
    assert problem(file_with(entry(group_prefix=prefix))).startswith("databases[0].group_prefix: ")


@pytest.mark.parametrize("more", [{"adopt_groups": True}, {"group_prefix": "iam_"}])
def test_mysql_has_no_groups(more):
    [key] = more
    assert problem(file_with(entry(**more)), MYSQL).startswith(f"databases[0].{key}: is for PostgreSQL only")
    assert problem(file_with(entry(**more) | {"match": {"engine": "mariadb"}})).startswith(
        f"databases[0].{key}: is for"
    )


@pytest.mark.parametrize(("prefix", "name", "taken"), [("", "shop_readonly", True), ("iam_", "shop_readonly", False),
                                                       ("iam_", "iam_shop_readonly", True)])  # fmt: skip
def test_a_user_can_not_have_the_name_of_a_group(prefix, name, taken):
    changed = {"group_prefix": prefix} if prefix else {}
    text = file_with(entry(**changed) | {"users": [{"name": name, "privileges": "readonly", "on": ["shop"]}]})
    if taken:
        assert "is the name of a group role" in problem(text, ORDERS)
    else:
        assert declared(text).name == name


def test_what_only_changed_attributes_say_waits_for_a_confirmation():
    database = select(replace(ORDERS, tags={"team": "x"}), Attributes.of(ORDERS))
    tagged = entry(adopt_groups=True, group_prefix="b_") | {"match": {"tags": {"team": "x"}}}
    assert declared(file_with(entry(), tagged), database).groups == Groups()
    assert declared(file_with(entry(), tagged), database.confirmed).groups == Groups("b_", adopt=True)


def test_another_name_for_groups_is_another_fingerprint():
    texts = [file_with(entry(**more)) for more in ({}, {"adopt_groups": True}, {"group_prefix": "a_"})]
    assert len({fingerprint.of_declared([declared(text)]) for text in texts}) == len(texts)
