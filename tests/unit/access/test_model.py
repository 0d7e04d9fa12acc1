"""access.yaml is read strictly, means the same in any order, and denies whatever it doesn't allow."""

import json
import random
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rdsiam.access import document, fields
from rdsiam.access.callers import Caller, CallerRule
from rdsiam.access.decide import Decision, decide, users_of
from rdsiam.access.model import AccessFile, json_schema, parse
from rdsiam.access.selection import SelectedDatabase
from rdsiam.access.users import DeclaredUser, Grant
from rdsiam.aws.rds import FAMILIES
from rdsiam.errors import AccessFileInvalid, InvalidRequest
from tests.examples import at_most

DOCS = Path(__file__).parents[3] / "docs"
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/app"
NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
ORDERS = SelectedDatabase(
    arn=f"arn:aws:rds:eu-central-1:{ACCOUNT}:db:orders-1",
    identifier="orders-1",
    engine="postgres",
    engine_version="18.1",
    resource_id="db-ABC",
    status="available",
    host="orders-1.example",
    port=5432,
    iam_enabled=True,
    master_user="Administrator",
    tags={"env": "prod", "team": "orders"},
)
MYSQL = replace(ORDERS, engine="mysql")
MARIADB = replace(ORDERS, engine="mariadb")

GOOD = """\
version: 1
auditors:
  - role: arn:aws:iam::123456789012:role/security
databases:
  - match:
      engine: postgres
      identifier: "orders-*"
      tags: {env: prod}
    users:
      - name: app
        privileges: readwrite
        on: [myapp]
        roles: [arn:aws:iam::123456789012:role/path/of/app]
        callers:
          - role: arn:aws:iam::123456789012:role/ci
          - claim: {groups: oncall}
            until: 2026-12-31T00:00:00Z
            reason: required
    suppress:
      - {finding: user-without-iam, user: etl, reason: "vendor tool", until: 2027-03-01T00:00:00Z}
"""


def user(name: str = "app", privileges: Any = "readonly", on: Any = "*", **more: Any) -> dict[str, Any]:
    return {"name": name, "privileges": privileges, "on": on, **more}


def entry(*users: Mapping[str, Any], **match: Any) -> dict[str, Any]:
    return {"match": match or {"identifier": "*"}, "users": list(users)}


def access(*entries: Mapping[str, Any]) -> AccessFile:
    return parse(json.dumps({"version": 1, "databases": list(entries)}))


def problems(text: str) -> list[str]:
    with pytest.raises(AccessFileInvalid) as caught:
        parse(text)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return caught.value.problems


def problems_on(database: SelectedDatabase, *users: Mapping[str, Any]) -> list[str]:
    file = access(entry(*users))
    with pytest.raises(AccessFileInvalid) as caught:
        file.declared(database)
    return caught.value.problems


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_good_file_is_read() -> None:
    file = parse(GOOD)
    app = file.databases[0].users[0]

    assert (app.name, app.privileges, app.on, app.adopt) == ("app", "readwrite", ["myapp"], False)
    assert app.callers[1].until == datetime(2026, 12, 31, tzinfo=UTC)
    assert app.callers[1].claim == {"groups": "oncall"}
    assert file.databases[0].match.engine == ["postgres"]
    assert file.auditors[0].role == "arn:aws:iam::123456789012:role/security"
    assert file.databases[0].suppress[0].finding == "user-without-iam"


CHANGES = [
    ("privileges:", "privilege:", "line 11: databases[0].users[0].privilege: unknown key; did you mean privileges?"),
    ("privileges:", "privilege:", "line 10: databases[0].users[0].privileges: is missing"),
    ("version: 1", "version: 2", "line 1: version: must be 1"),
    ("version: 1", "version: true", "line 1: version: must be 1"),
    ("version: 1", "version: 1.0", "line 1: version: must be 1"),
    ("version: 1", 'version: "1"', "line 1: version: must be 1"),
    ("version: 1", "", "line 2: version: is missing"),
    ("version: 1", "version: 1\nversion: 1", "line 2: version: duplicate key"),
    ("        on: [", "        name: b\n        on: [", "line 12: databases[0].users[0].name: duplicate key"),
    ("{groups: oncall}", "{groups: a, groups: b}", "callers[1].claim.groups: duplicate key"),
    ("{groups: oncall}", "{}", "line 16: databases[0].users[0].callers[1].claim: must not be empty"),
    ("{groups: oncall}", "{groups: 7}", "claim.groups: must be text; put it in quotes if it is"),
    ("{groups: oncall}", "{groups: yes}", "claim.groups: must be text; put it in quotes if it is"),
    ("{groups: oncall}", "{groups: [a]}", "claim.groups: must be text"),
    ("{groups: oncall}", '{groups: ""}', "claim.groups: must not be empty"),
    ("until: 2026-12-31T00:00:00Z", "until:", "line 17: databases[0].users[0].callers[1].until: has no value"),
    ("until: 2026-12-31T00:00:00Z", "until: 2026-12-31", "callers[1].until: must be a time with a zone"),
    ("until: 2026-12-31T00:00:00Z", "until: 2026-12-31T00:00:00", "callers[1].until: must be a time with a zone"),
    ("until: 2026-12-31T00:00:00Z", "until: 2026-02-30T00:00:00Z", "callers[1].until: is not in the calendar"),
    ("until: 2026-12-31T00:00:00Z", "until: 0001-01-01T00:00:00+10:00", "callers[1].until: is not in the calendar"),
    ("reason: required", "reason: yes", "line 18: databases[0].users[0].callers[1].reason: "),
    ("reason: required", "reason: maybe", "line 18: databases[0].users[0].callers[1].reason: "),
    ("- role: arn:aws:iam::123456789012:role/ci", "- {}", "callers[0]: needs exactly one of role and claim"),
    ("role/ci", "role/ci\n            claim: {a: b}", "callers[0]: needs exactly one of role and claim"),
    ("role/ci", "role/", "line 15: databases[0].users[0].callers[0].role: must be the full ARN of a role"),
    ("123456789012:role/ci", "12345:role/ci", "callers[0].role: must be the full ARN of a role"),
    ("123456789012:role/ci", "*:role/ci", "callers[0].role: must be the full ARN of a role"),
    ("arn:aws:iam::123456789012:role/ci", "arn:aws:iam::123456789012:user/ci", "must be the full ARN of a role"),
    ("arn:aws:iam::123456789012:role/ci", "arn:awx:iam::123456789012:role/ci", "must be the full ARN of a role"),
    ("name: app", "name: 12", "line 10: databases[0].users[0].name: must be text"),
    ("[myapp]", "[]", "line 12: databases[0].users[0].on: must not be empty"),
    ("[myapp]", "{a: b}", "line 12: databases[0].users[0].on: must be a list"),
    ("[myapp]", "yes", "line 12: databases[0].users[0].on: must be a list"),
    ("[myapp]", "[a, 1]", "line 12: databases[0].users[0].on[1]: must be text"),
    ("privileges: readwrite", "privileges: admin", "line 11: databases[0].users[0].privileges: must be readonly,"),
    ("privileges: readwrite", "privileges: []", "line 11: databases[0].users[0].privileges: must be readonly,"),
    ("privileges: readwrite", "privileges: [SELECT, 1]", "users[0].privileges: must be readonly,"),
    ("engine: postgres", "engine: oracle", "line 6: databases[0].match.engine"),
    ("engine: postgres", "engine: []", "line 6: databases[0].match.engine: must not be empty"),
    ("engine: postgres", "engine: neptune", "line 6: databases[0].match.engine"),
    ('"orders-*"', '"orders-[ab]"', "line 7: databases[0].match.identifier: must be a database's identifier"),
    ('"orders-*"', '""', "line 7: databases[0].match.identifier: must be a database's identifier"),
    ("{env: prod}", "{}", "line 8: databases[0].match.tags: must not be empty"),
    ("{env: prod}", "{env: 1}", "line 8: databases[0].match.tags.env: must be text"),
    ("        on: [", "        adopt: 1\n        on: [", "line 12: databases[0].users[0].adopt: must be true or false"),
    ("finding: user-without-iam", "finding: User!", "line 20: databases[0].suppress[0].finding"),
    ("user: etl, reason", "user: etl, because", "line 20: databases[0].suppress[0].reason: is missing"),
    ("vendor tool", " ", "line 20: databases[0].suppress[0].reason: must say why"),
    (", until: 2027-03-01T00:00:00Z", "", "line 20: databases[0].suppress[0].until: is missing"),
    ("[myapp]", "&anchor [myapp]", "line 12: databases[0].users[0].on: anchors are not allowed"),
    ("[myapp]", "*anchor", "line 12: databases[0].users[0].on: aliases are not allowed"),
    ("[myapp]", "!!python/name:os.system [myapp]", "line 12: databases[0].users[0].on: tags are not allowed"),
    ("name: app", "name: !!str app", "line 10: databases[0].users[0].name: tags are not allowed"),
    ("name: app", "? [a]\n        : b", "line 10: databases[0].users[0]: keys must be plain text"),
    ("name: app", "<<: {name: app}", "line 10: databases[0].users[0].<<: unknown key".replace("<<", '"<<"')),
    ("[myapp]", "[[[[[[[[[[[[[[[[[[", "nested too deeply"),
    ("[myapp]", "[myapp", "not valid YAML"),
    ("version: 1", "\tversion: 1", "line 1: not valid YAML"),
]


@pytest.mark.parametrize(("old", "new", "problem"), CHANGES, ids=[f"{new!r}"[:40] for _, new, _ in CHANGES])
def test_a_broken_rule_is_named_with_line_and_key(old: str, new: str, problem: str) -> None:
    assert old in GOOD

    found = problems(GOOD.replace(old, new, 1))

    assert any(problem in line for line in found), found
    assert all(re.match(r"line \d+: ", line) for line in found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: the file: is empty"),
        ("# nothing\n", "line 1: the file: is empty"),
        ("~", "line 1: the file: has no value"),
        ("[]", "line 1: the file: must be a mapping"),
        ("version: 1\ndatabases: []\n", "line 2: databases: must not be empty"),
        ("version: 1\n", "line 1: databases: is missing"),
        (GOOD + "---\nversion: 1\n", "a second document is not allowed"),
        (GOOD + "\0", "line 1: not valid YAML"),
        (GOOD + "# \ud800", "line 1: the file is not valid Unicode"),
        (GOOD + "#" * 1_000_000, "line 1: the file is larger than 1,000,000 bytes"),
        ("[" * 500_000, "nest"),
        ("{a: " * 100_000, "nested too deeply"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_texts_that_are_no_file_are_refused(text: str, problem: str) -> None:
    assert problem in problems(text)[-1]


def test_all_problems_are_named_at_once_in_the_order_of_lines() -> None:
    text = (
        GOOD.replace("version: 1", "version: 3").replace("name: app", "name: rdsadmin").replace("etl, ", "etl, x: y, ")
    )

    assert [problem.split(":")[0] for problem in problems(text)] == ["line 1", "line 10", "line 20"]


def test_problems_never_repeat_a_value() -> None:
    secret = "canary-5ecret!"
    text = GOOD
    for value in (
        "arn:aws:iam::123456789012:role/ci",
        "readwrite",
        "required",
        "2026-12-31T00:00:00Z",
        "user-without-iam",
    ):
        text = text.replace(value, f'"{secret}"')

    assert len(problems(text)) == 5
    assert secret not in str(problems(text))
    assert secret not in str(problems(f"a: '{secret}\nb: c: {secret}"))


def test_odd_keys_are_quoted_and_shortened() -> None:
    assert problems(GOOD.replace("adopt", "x") + '"a\\nb' + "c" * 100 + '": 1')[0].endswith('c": unknown key')


def test_many_problems_are_cut() -> None:
    found = problems("version: 1\ndatabases:\n" + "- {}\n" * 500)

    assert len(found) == 101
    assert found[-1] == "and 400 more"


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\ndatabases:\n" + "- {mutch: {}}\n" * 2000,
        "version: 1\ndatabases: [{match: {identifier: x}, " + ", ".join(f"usres{n}: 1" for n in range(2000)) + "}]",
        "version: 1\ndatabases:\n- match: {identifier: x}\n  users:\n" + "  - {nmae: x}\n" * 2000,
    ],
    ids=["entries", "keys", "users"],
)
def test_only_the_problems_that_are_shown_are_explained(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guessed: list[Any] = []

    def guess(*given: Any) -> list[str]:
        guessed.append(given)
        return []

    monkeypatch.setattr(document, "get_close_matches", guess)

    found = problems(text)

    assert len(found) <= 101
    assert found[-1].endswith(" more")
    assert 0 < len(guessed) <= 100


@pytest.mark.parametrize("part", ["- *a\n", "- {a: 1, a: 2}\n"], ids=["aliases", "duplicate keys"])
def test_reading_ends_at_the_last_problem_that_is_shown(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    name = document._name

    def write(path: Any) -> Any:
        written.append(path)
        return name(path)

    monkeypatch.setattr(document, "_name", write)

    found = problems("version: 1\ndatabases:\n- &a {match: {identifier: x}}\n" + part * 2000)

    assert found[-1] == "and perhaps more"
    assert len(written) <= 101


def test_a_long_unknown_key_is_compared_by_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def compare(key: str, *_: Any) -> list[str]:
        compared.append(key)
        return []

    monkeypatch.setattr(document, "get_close_matches", compare)

    problems(GOOD + f"? {'x' * 100_000}\n: 1")

    assert [len(key) for key in compared] == [64]


@settings(max_examples=at_most(300))
@given(
    st.one_of(
        st.text(max_size=200),
        st.text("[]{}:,-&*!?|>'\"%@`#~\n \tab1", max_size=60),
        st.tuples(st.integers(0, len(GOOD)), st.text(max_size=5)).map(
            lambda cut: GOOD[: cut[0]] + cut[1] + GOOD[cut[0] :]
        ),
        st.integers(0, len(GOOD)).map(lambda cut: GOOD[:cut]),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.dates()),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(
                    st.sampled_from(["version", "databases", "match", "users", "on", "a"]), inner, max_size=3
                ),
            ),
        ).map(lambda data: yaml.safe_dump(data, allow_unicode=True)),
    )
)
def test_any_text_is_either_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except AccessFileInvalid as error:
        assert error.problems  # noqa: PT017


def test_the_slow_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, fast_problems = parse(GOOD), problems(GOOD.replace("name:", "nam:"))
    monkeypatch.setattr("rdsiam.access.document._LOADER", yaml.SafeLoader)

    assert parse(GOOD).model_dump() == fast.model_dump()
    assert problems(GOOD.replace("name:", "nam:")) == fast_problems


# --- names, privileges, roles ----------------------------------------------------------------------------------------


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


# --- matching and merging --------------------------------------------------------------------------------------------


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


# --- decisions -------------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("reason", [None, "", "  ", "x" * 501, "a\nb", "\x1b[31m"], ids=lambda reason: repr(reason)[:9])
def test_a_required_reason_must_be_one(reason: str | None) -> None:
    decision = decide(parse(GOOD), ORDERS, "app", ANNA, reason, NOON)

    assert decision == Decision(False, "databases[0].users[0].callers[1]: a reason is required", None)


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


# --- documentation ---------------------------------------------------------------------------------------------------


def test_the_example_of_the_reference_is_good() -> None:
    example = re.search(r"```yaml\n(.*?)```", (DOCS / "access.md").read_text(encoding="utf-8"), re.DOTALL)
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
