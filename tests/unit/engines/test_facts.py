"""From rows of the catalogs to facts, without a server: memberships, ways in, privileges, MySQL 8."""

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.audit.collect import _plain
from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.logins import Token
from rdsiam.engines.mysql import audit as mysql_audit
from rdsiam.engines.mysql import audit_procedure
from rdsiam.engines.mysql.audit_procedure import GLOBAL, ON_SCHEMA
from rdsiam.engines.mysql.catalog import is_system as is_mysql_system
from rdsiam.engines.postgres import audit as postgres_audit
from rdsiam.engines.postgres.catalog import is_system as is_postgres_system
from rdsiam.engines.postgres.lockout import Membership

NOW = "2026-01-02T03:04:05Z"
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


def role(name: str, login: bool = True, createrole: bool = False) -> tuple[Any, ...]:
    return (name, login, False, createrole, False, False, False, 0, 0)


def member(group: str, of: str, admin: bool = False, inherit: bool = True, acts: bool = True) -> Membership:
    return Membership(group, of, admin, inherit, acts)


def postgres(roles: list[tuple[Any, ...]], *edges: Membership) -> dict[str, AccountFacts]:
    return {one.name: one for one in postgres_audit.accounts(roles, edges, "boss", NOW)}


def test_the_shortest_way_to_rds_iam_is_told():
    edges = [member("long", "u"), member("longer", "long"), member("short", "u"), member("short", "longer")]
    found = postgres([role("u")], *edges, member("rds_iam", "short"))["u"]
    assert found.iam_through == ("short",)


def test_a_way_to_rds_iam_of_thousands_of_roles_is_told_in_part():
    chain = [member(f"r{n}", f"r{n + 1}") for n in range(5000)]
    found = postgres([role(f"r{n}") for n in range(5001)], member("rds_iam", "r0"), *chain)
    assert all(account.iam for account in found.values())
    assert found["r5000"].iam_through[:2] == ("r4999", "r4998")
    assert max(len(account.iam_through) for account in found.values()) == 20


def test_thousands_of_roles_that_may_make_roles_are_administrators():
    roles = [role(f"r{n}", createrole=True) for n in range(5000)]
    assert all(account.administrator for account in postgres(roles, *(member("g", row[0]) for row in roles)).values())


def test_the_master_is_no_iam_user_by_being_the_administrator_of_rds_iam_or_of_a_user():
    only_admin = {"admin": True, "inherit": False, "acts": False}
    edges = [member("rds_iam", "boss", **only_admin), member("rds_iam", "app"), member("app", "boss", **only_admin)]
    found = postgres([role("boss"), role("app")], *edges)
    assert (found["boss"].iam, found["boss"].member_of) == (False, ())
    assert postgres([role("boss"), role("app")], *edges, member("app", "boss"))["boss"].iam_through == ("app",)


def test_another_administrator_is_an_iam_user_by_the_same_membership():
    edges = [member("rds_iam", "app"), member("app", "second", admin=True, inherit=False, acts=False)]
    assert postgres([role("second"), role("app")], *edges)["second"].iam_through == ("app",)


def test_members_of_rds_superuser_are_not_for_replication():
    edges = [
        member("rds_replication", "rds_superuser"),
        member("rds_superuser", "boss"),
        member("rds_replication", "dms"),
    ]
    found = postgres([role("boss"), role("dms")], *edges)
    assert (found["boss"].replication, found["dms"].replication) == (False, True)


@given(st.lists(st.tuples(NAMES, NAMES), max_size=12), st.lists(NAMES, unique=True, max_size=8))
def test_memberships_of_any_shape_make_facts_of_every_login(edges, names):
    memberships = [member(group, of) for group, of in edges]
    found = postgres([role(name) for name in names], *memberships)
    assert set(found) == {name for name in names if not is_postgres_system(name, True)}
    assert all(account == AccountFacts.from_json(account.to_json()) for account in found.values())


def way(user: str, plugin: str, **changes: Any) -> tuple[Any, ...]:
    values = {"empty": 0, "possible": 1, "second": 0, "locked": 0, "expired": 0, "tls": 1, "access": 0, "mighty": 0}
    values |= changes
    return (user, changes.get("host", "%"), plugin, *(values[key] for key in list(values)[:8]), changes.get("role", 0))


def mysql(*ways: tuple[Any, ...], **others: Any) -> dict[str, AccountFacts]:
    rows: dict[str, Any] = {"granted": [], "roles": [], "sessions": {}, "owned": {}, "now": NOW} | others
    return {one.label: one for one in mysql_audit.accounts(ways, **rows)}


IAM = "AWSAuthenticationPlugin"


@pytest.mark.parametrize(
    ("ways", "expected"),
    [
        ([way("u", IAM)], (True, False, False, False)),
        ([way("u", "caching_sha2_password")], (False, True, False, False)),
        ([way("u", IAM, second=1)], (True, True, True, False)),
        ([way("u", IAM), way("u", "ed25519")], (True, True, True, False)),
        ([way("u", "mysql_native_password", possible=0)], (False, False, False, True)),
        ([way("u", "mysql_no_login", possible=0)], (False, False, False, True)),
        ([way("u", "authentication_kerberos")], (False, False, False, False)),
        ([way("u", "auth_socket")], (False, False, False, False)),
        ([way("u", IAM, locked="1")], (True, False, False, True)),
        ([way("u", IAM, locked="0")], (True, False, False, False)),
    ],
    ids=["iam", "password", "dual password", "two ways", "no hash fits", "no login", "kerberos", "socket", "locked",
         "unlocked"],
)  # fmt: skip
def test_ways_in(ways, expected):
    found = mysql(*ways)["u@%"]
    assert (found.iam, found.password, found.second_password, found.unusable) == expected


def test_every_privilege_has_its_bit_and_its_name():
    found = mysql(way("u", IAM, access=(1 << len(GLOBAL)) - 1), granted=[("u", "%", "s", (1 << len(ON_SCHEMA)) - 1)])
    held = found["u@%"].privileges
    assert len(held["*"]) == len(GLOBAL)
    assert len(held["s"]) == len(ON_SCHEMA)
    assert {"GRANT OPTION", "SHOW DATABASES", "CREATE TEMPORARY TABLES", "LOCK TABLES", "TRIGGER"} <= {*held["*"]}
    assert list(held["*"]) == sorted(held["*"])


def test_an_escaped_name_of_a_schema_and_a_bare_one_are_the_same_schema():
    found = mysql(way("u", IAM), granted=[("u", "%", r"my\_app", 1), ("u", "%", "my_app", 2)])["u@%"]
    assert found.privileges == {"my_app": ("INSERT", "SELECT")}


def test_administrators_by_a_role_by_everybodys_role_and_by_a_dynamic_privilege():
    chief = way("chief", "", host="", access=1 << GLOBAL.index("Create_user"), role="1")
    member_of = [("u", "%", "chief", "")]
    assert mysql(way("u", IAM), chief, roles=member_of)["u@%"].administrator
    assert not mysql(way("v", IAM), chief, roles=member_of)["v@%"].administrator
    assert mysql(way("u", IAM), chief, roles=[("PUBLIC", "", "chief", "")])["u@%"].administrator
    assert mysql(way("u", IAM, mighty=1))["u@%"].administrator


def test_a_role_of_mysql_8_is_no_account_and_rds_superuser_role_makes_administrators():
    superuser = way("rds_superuser_role", "caching_sha2_password", access=1 << GLOBAL.index("Super"), locked=1, role=1)
    found = mysql(way("admin", IAM), superuser, roles=[("admin", "%", "rds_superuser_role", "%")])
    assert set(found) == {"admin@%"}
    assert found["admin@%"].administrator
    assert found["admin@%"].member_of == ("rds_superuser_role",)


@pytest.mark.parametrize("version", ["5.7.44-log", "8.0.36", "8.4.3", "5.7.mysql_aurora.2.12"])
def test_the_procedure_for_mysql_names_only_what_that_version_has(version):
    text = audit_procedure.body(False, version)
    modern = not version.startswith("5.")
    assert ("role_edges" in text) is modern
    assert ("User_attributes" in text) is modern
    assert ("mysql.proc " in text) is not modern
    assert "global_priv" not in text
    assert text.count(";") == mysql_audit._RESULTS + 1  # and a setting
    assert "{" not in text.replace("{40}", "").replace("{16}", "")


def test_the_procedure_tells_nothing_of_a_hash_but_whether_it_is_there_and_fits():
    for text in (
        audit_procedure.body(True, "10.11"),
        audit_procedure.body(False, "8.0"),
        audit_procedure.body(False, "5.7"),
    ):
        told = text.split("SELECT User, Host, plugin,")[1].split("FROM (")[0]
        assert "hash" in told
        assert not re.search(r"(^|,)\s*(hash|authentication_string)\s*(,|$)", told)


@pytest.mark.parametrize(
    ("system", "is_it"),
    [
        (is_mysql_system("rdsadmin", "localhost"), True),
        (is_mysql_system("rdsadmin", "%"), False),
        (is_mysql_system("mysql.sys", "10.%"), False),
        (is_mysql_system("rdsproxyadmin", "%"), True),
        (is_mysql_system("AWS_backdoor", "%"), False),
        (is_postgres_system("rdsadmin", True), True),
        (is_postgres_system("pg_monitor", False), True),
        (is_postgres_system("rds_superuser", False), True),
        (is_postgres_system("rds_backdoor", True), False),
    ],
    ids=str,
)
def test_names_that_only_look_like_the_systems_hide_nobody(system, is_it):
    assert system is is_it


def test_facts_made_the_quick_way_have_every_field_and_are_as_others():
    made = [*postgres([role("u")]).values(), *mysql(way("u", IAM)).values()]
    for account in made:
        values = {field.name: getattr(account, field.name) for field in dataclasses.fields(AccountFacts)}
        assert account == AccountFacts(**values)
        assert repr(account) == repr(AccountFacts(**values))
        assert account.to_json() == AccountFacts(**values).to_json()
        assert AccountFacts("u").privileges == {}
        with pytest.raises(dataclasses.FrozenInstanceError):
            account.name = "other"  # type: ignore[misc]


@given(st.text(max_size=1000))
def test_a_cause_is_one_short_printable_line_without_the_token(text):
    token = Token("rdsiam_auditor", "canary-token")
    cause = _plain(f"{text}{token.secret}\n{text}", token)
    assert cause.isprintable()
    assert len(cause) <= 300
    assert "canary" not in cause
