"""Names, privileges and roles of access.yaml that are accepted and refused."""

import json
from dataclasses import replace

import pytest

from rdsiam.access.selection import SelectedDatabase
from rdsiam.errors import AccessFileInvalid
from tests.unit.access.files import ACCOUNT, MARIADB, MYSQL, ORDERS, ROLE, access, entry, problems, problems_on, user


@pytest.mark.parametrize(
    "name",
    ["", "1app", "-app", "app ", " app", "a b", "app*", "a?p", "a/b", "a:b", "@b", "a,b", "a'b", 'a"b', "a`b", "a\\b",
     "a%", "a$", "a+b", "a=b", "äpp", "а", "app\n", "app\x00", "\u202eapp", "x" * 81],
    ids=repr,
)  # fmt: skip
def test_odd_user_names_are_refused(name: str) -> None:
    assert ".users[0].name: " in problems(json.dumps({"version": 1, "databases": [entry(user(name))]}))[0]


@pytest.mark.parametrize("name", ["svc@corp", "a@b@c", "a@"])
def test_a_user_that_takes_tokens_may_have_an_at_sign(name: str) -> None:
    assert [declared.name for declared in access(entry(user(name))).declared(ORDERS)] == [name]


@pytest.mark.parametrize(
    "name",
    ["rdsadmin", "rdsiam_manager", "RDS_superuser", "rdsrepladmin", "pg_monitor", "PG_x", "mysql.sys", "mariadb.sys",
     "AWS_COMPREHEND_ACCESS", "aws_x", "public", "PUBLIC", "none"],
)  # fmt: skip
def test_reserved_names_are_refused(name: str) -> None:
    assert "is reserved" in problems(json.dumps({"version": 1, "databases": [entry(user(name))]}))[0]


def test_names_that_differ_in_case_only_are_refused() -> None:
    file = {"version": 1, "databases": [entry(user("app")), entry(user("App"), engine="mysql")]}

    assert problems(json.dumps(file, indent=0))[0].endswith("databases[1].users[0].name: differs from app only in case")


@pytest.mark.parametrize(
    ("database", "length", "good"),
    [(ORDERS, 63, True), (ORDERS, 64, False), (MYSQL, 32, True), (MYSQL, 33, False), (MARIADB, 80, True)],
)
def test_names_are_as_long_as_the_engine_allows(database: SelectedDatabase, length: int, good: bool) -> None:
    file = access(entry(user("x" * length)))
    if good:
        assert file.declared(database)[0].name == "x" * length
    else:
        with pytest.raises(AccessFileInvalid, match=r"users\[0\].name: is longer than"):
            file.declared(database)


@pytest.mark.parametrize("name", ["Administrator", "administrator", "ADMINISTRATOR"])
def test_the_master_user_is_refused(name: str) -> None:
    assert "is the master user of orders-1" in problems_on(ORDERS, user(name))[0]


@pytest.mark.parametrize(
    "name",
    [
        "",
        " a",
        "a ",
        "a\nb",
        "a\x00",
        "ab*",
        "a?b",
        "x" * 65,
        "template0",
        "rdsadmin",
        "mysql",
        "INFORMATION_SCHEMA",
        "sys",
    ],
    ids=repr,
)
def test_odd_databases_and_those_of_the_server_are_refused(name: str) -> None:
    assert ".users[0].on[0]: " in problems(json.dumps({"version": 1, "databases": [entry(user(on=[name]))]}))[0]


def test_databases_that_postgres_would_cut_and_users_with_the_name_of_a_group_are_refused() -> None:
    assert "on[0]: is longer than the 63 bytes" in problems_on(ORDERS, user(on=["ü" * 32]))[0]
    assert access(entry(user(on=["x" * 63]))).declared(ORDERS)
    assert "name: is the name of a group role" in problems_on(ORDERS, user("shop_owner", on=["shop"]))[0]
    assert access(entry(user("shop_owner", on=["x" * 64]))).declared(MYSQL)


@pytest.mark.parametrize(
    "privilege",
    ["ALL", "ALL PRIVILEGES", "GRANT OPTION", "SUPER", "CREATEROLE", "CREATE USER", "FILE", "SELECT ", "SELECT, INSERT",
     "", "readonly"],
)  # fmt: skip
def test_other_privileges_are_refused_and_the_allowed_ones_named(privilege: str) -> None:
    file = {"version": 1, "databases": [entry(user(privileges=["SELECT", privilege]))]}

    assert ".users[0].privileges: a list may hold only CREATE TEMPORARY TABLES" in problems(json.dumps(file))[0]


@pytest.mark.parametrize(
    ("database", "privilege"),
    [(ORDERS, "SHOW VIEW"), (ORDERS, "LOCK TABLES"), (MYSQL, "TRUNCATE"), (MARIADB, "TRUNCATE"), (MYSQL, "MAINTAIN")],
)
def test_privileges_of_another_engine_are_refused(database: SelectedDatabase, privilege: str) -> None:
    assert f"privileges: {privilege}: not on" in problems_on(database, user(privileges=["SELECT", privilege]))[0]


@pytest.mark.parametrize("role", ["arn:aws:iam::999999999999:role/app", f"arn:aws-cn:iam::{ACCOUNT}:role/app"])
def test_roles_of_other_accounts_are_refused(role: str) -> None:
    assert "users[0].roles[1]: is not a role of 123456789012" in problems_on(ORDERS, user(roles=[ROLE, role]))[0]
    assert "users[0].callers[0].role: is not a role of" in problems_on(ORDERS, user(callers=[{"role": role}]))[0]


@pytest.mark.parametrize("role", ["a", "x/y/a", "aws-reserved/sso.amazonaws.com/eu-central-1/AWSReservedSSO_dev_0a1b"])
def test_roles_with_and_without_path_are_good(role: str) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"

    assert access(entry(user(roles=[arn]))).declared(ORDERS)[0].roles == (arn,)


@pytest.mark.parametrize("partition", ["aws-eusc", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e"])
def test_roles_of_every_partition_are_good_in_their_own(partition: str) -> None:
    database = replace(ORDERS, arn=ORDERS.arn.replace("arn:aws:", f"arn:{partition}:"))
    role = f"arn:{partition}:iam::{ACCOUNT}:role/app"

    assert access(entry(user(roles=[role], callers=[{"role": role}]))).declared(database)[0].roles == (role,)
    assert "is not a role of 123456789012" in problems_on(ORDERS, user(roles=[role]))[0]
