"""`rotate` in access.yaml: what is read, and what is wrong with it, line by line."""

import json
from dataclasses import replace

import pytest

from rdsiam.access.model import parse
from rdsiam.access.rotation import RotatingUser, line_to_add
from rdsiam.access.selection import SelectedDatabase
from rdsiam.errors import AccessFileInvalid

ORDERS = SelectedDatabase(
    arn="arn:aws:rds:eu-west-1:123456789012:db:orders-1",
    identifier="orders-1",
    engine="postgres",
    engine_version="18.1",
    resource_id="db-ORDERS1",
    status="available",
    host="orders-1.abc.eu-west-1.rds.amazonaws.com",
    port=5432,
    iam_enabled=True,
    master_user="boss",
)
HEAD = """\
version: 1
databases:
  - match: {identifier: "orders-*"}
"""
SECOND = """\
  - match: {engine: postgres}
"""


def problems(text: str, database: SelectedDatabase = ORDERS) -> list[str]:
    with pytest.raises(AccessFileInvalid) as caught:
        parse(text).declared(database)
    return caught.value.problems


def test_all_entries_that_match_say_together_who_is_rotated():
    text = (
        HEAD
        + "    rotate: {users: [legacy_etl, classic], every: 30d, window: 02:00/2h}\n"
        + SECOND
        + "    rotate: {users: [vendor, classic], every: 30d, window: 02:00/2h}\n"
        + "  - {match: {engine: mariadb}, rotate: {users: [other], every: 7d, scheme: alternating}}\n"
    )
    rotating = parse(text).rotating(ORDERS)
    assert [user.name for user in rotating] == ["classic", "legacy_etl", "vendor"]
    assert set(rotating) == {RotatingUser(user.name, "30d", "02:00/2h", "single") for user in rotating}
    maria = replace(ORDERS, engine="mariadb", identifier="carts")
    assert parse(text).rotating(maria) == (RotatingUser("other", "7d", "00:00/24h", "alternating"),)


#: Names that people have given to users with passwords.
NAMES = [
    "svc@corp",
    "batch user",
    "o'brien",
    '50% "off"',
    "Jürgen",
    "报表",
    "a/b",
    "a`b",
    "a\\b",
    "42",
    "-",
    "$x*?",
    "e\u0301",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["single", "alternating"])
def test_a_user_with_a_password_has_any_name(name, scheme):
    text = HEAD + f"    rotate: {json.dumps({'users': [name], 'every': '30d', 'scheme': scheme})}\n"
    for database in (ORDERS, replace(ORDERS, engine="mysql"), replace(ORDERS, engine="mariadb")):
        assert [user.name for user in parse(text).rotating(database)] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_the_line_to_add_is_read_as_it_was_meant(name):
    secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:orders-AbCdEf"
    text = "version: 1\ndatabases:\n" + line_to_add("orders-1", name, secret, None)
    [user] = parse(text).rotating(ORDERS)
    assert (user.name, user.secret) == (name, secret)


@pytest.mark.parametrize(
    "name",
    ["", "a\tb", "a\u200bb", "a\u202eb", "rds_x", "RDSADMIN", "rdsRepladmin", "rdsproxyadmin", "rdsiam_manager", "pg_x",
     "public", "AWS_LAMBDA_ACCESS", "mysql.sys", "mariadb.sys"],
)  # fmt: skip
def test_a_name_that_is_invisible_or_reserved_is_refused(name):
    text = HEAD + f"    rotate: {json.dumps({'users': [name], 'every': '30d'})}\n"
    with pytest.raises(AccessFileInvalid) as caught:
        parse(text)
    assert ".rotate.users[0]: " in caught.value.problems[0]


@pytest.mark.parametrize("name", ["rdsapp", "RDS", "rds-reader", "aws_etl", "awsbackup", "mysqldump", "pgbouncer"])
def test_a_name_that_only_looks_like_one_of_rds_is_rotated_and_replaced(name):
    """Users with a password were named by others; whoever creates a user for tokens can choose another name."""
    text = HEAD + f"    rotate: {json.dumps({'users': [name], 'every': '30d'})}\n"
    assert [user.name for user in parse(text).rotating(ORDERS)] == [name]
    replaced = HEAD + f"    users: {json.dumps([{'name': 'successor', 'replaces': name}])}\n"
    assert [user.replaces for user in parse(replaced).declared(ORDERS)] == [name]


@pytest.mark.parametrize("other", [{"replica_of": "orders-0"}, {"kind": "proxy"}], ids=["replica", "proxy"])
def test_nobody_is_rotated_if_no_users_are_made(other):
    assert parse(HEAD + "    rotate: {users: [etl], every: 30d}\n").rotating(replace(ORDERS, **other)) == ()


@pytest.mark.parametrize(
    ("rotate", "problem"),
    [
        ("{users: [etl]}", "line 4: databases[0].rotate.every: is missing"),
        ("{users: [etl], every: 45d}", "line 4: databases[0].rotate.every: must be one of 1d, 7d, 14d, 30d, 60d, 90d,"),
        ("{users: [etl], every: 30}", "line 4: databases[0].rotate.every: must be text"),
        ("{users: [], every: 30d}", "line 4: databases[0].rotate.users: must not be empty"),
        ("{users: etl, every: 30d}", "line 4: databases[0].rotate.users: must be a list"),
        ("{users: [rds_etl], every: 30d}", "line 4: databases[0].rotate.users[0]: is reserved for RDS"),
        ("{users: [rdsiam_manager], every: 30d}", "line 4: databases[0].rotate.users[0]: is reserved for RDS"),
        ('{users: ["a\\tb"], every: 30d}', "line 4: databases[0].rotate.users[0]: must be the name of a user"),
        ("{users: [etl], every: 30d, windows: x}", "line 4: databases[0].rotate.windows: unknown key; did you mean"),
        ("{users: [etl], every: 30d, scheme: dual}", "line 4: databases[0].rotate.scheme: "),
        *(
            (f"{{users: [etl], every: 30d, window: '{window}'}}", "line 4: databases[0].rotate.window: must be start")
            for window in ("2h", "02:30/2h", "23:00/2h", "02:00/0h", "2:00/2h", "02:00/25h", "24:00/1h", "02:00/2h ")
        ),
    ],
)
def test_an_error_anywhere_is_named_with_line_and_key(rotate, problem):
    with pytest.raises(AccessFileInvalid) as caught:
        parse(HEAD + f"    rotate: {rotate}\n")
    assert any(one.startswith(problem) for one in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("rotate", "more", "problem"),
    [
        ("{users: [app], every: 30d}", "", "users[0]: is declared under users"),
        ("{users: [boss], every: 30d}", "", "users[0]: is the master user of orders-1, which rdsiam never touches"),
        ("{users: [BOSS], every: 30d}", "", "users[0]: is the master user of orders-1"),
        (f"{{users: [{'n' * 64}], every: 30d}}", "", "users[0]: is longer than the 63 bytes"),
        (f"{{users: [{'n' * 58}], every: 30d, scheme: alternating}}", "", "users[0]: is longer than the 63"),
        (f"{{users: [{'ü' * 32}], every: 30d}}", "", "users[0]: is longer than the 63 bytes"),
        ("{users: [etl], every: 30d}", "{users: [etl], every: 7d}", "users[0]: is rotated in two ways"),
        ("{users: [etl, etl_clone], every: 7d, scheme: alternating}", "", "users[1]: is the name of the clone of etl"),
        ("{users: [app2], every: 7d, scheme: alternating}", "", "users[0]: needs the name of its clone, app2_clone"),
    ],
    ids=lambda v: v[:40],
)
def test_an_error_on_one_database_only_is_found_there(rotate, more, problem):
    both = ", ".join(f"{{name: {name}, privileges: readonly, on: [shop]}}" for name in ("app", "app2_clone"))
    text = HEAD + f"    users: [{both}]\n    rotate: {rotate}\n"
    text += SECOND + f"    rotate: {more}\n" if more else ""
    assert any(problem in one and ".rotate." in one for one in problems(text)), problems(text)
    parse(text).declared(replace(ORDERS, engine="mariadb", identifier="carts"))


def test_a_user_may_log_in_by_token_here_and_by_password_there():
    text = HEAD + "    rotate: {users: [app], every: 30d}\n"
    text += "  - match: {engine: mariadb}\n    users: [{name: app, privileges: readonly, on: [shop]}]\n"
    access = parse(text)
    assert [user.name for user in access.rotating(ORDERS)] == ["app"]
    assert [user.name for user in access.declared(replace(ORDERS, engine="mariadb", identifier="c"))] == ["app"]


@pytest.mark.parametrize("name", ["\U0001f600", "a\U0001f600b"])
def test_a_name_that_mysql_can_not_keep_is_refused_there_alone(name):
    """MariaDB would create a user of the name `?` in its place."""
    text = HEAD + f"    rotate: {json.dumps({'users': [name], 'every': '30d'}, ensure_ascii=False)}\n"
    assert [user.name for user in parse(text).rotating(ORDERS)] == [name]
    for engine in ("mariadb", "mysql", "aurora-mysql"):
        with pytest.raises(AccessFileInvalid, match="such as an emoji"):
            parse(text.replace("postgres", engine)).rotating(replace(ORDERS, engine=engine))
