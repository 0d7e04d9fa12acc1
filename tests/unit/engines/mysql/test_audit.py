"""Facts from the results of the audit's procedure, without a server: login methods, privileges, MySQL 8."""

import re
from typing import Any

import pytest

from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.mysql import audit, audit_procedure
from rdsiam.engines.mysql.audit_procedure import GLOBAL, ON_SCHEMA
from tests.unit.engines.test_facts import check_facts

NOW = "2026-01-02T03:04:05Z"


def method(user: str, plugin: str, **changes: Any) -> tuple[Any, ...]:
    values = {"empty": 0, "possible": 1, "second": 0, "locked": 0, "expired": 0, "tls": 1, "access": 0, "mighty": 0}
    values |= changes
    return (user, changes.get("host", "%"), plugin, *(values[key] for key in list(values)[:8]), changes.get("role", 0))


def mysql(*methods: tuple[Any, ...], **others: Any) -> dict[str, AccountFacts]:
    rows: dict[str, Any] = {"granted": [], "roles": [], "sessions": {}, "owned": {}, "now": NOW} | others
    return {account.label: account for account in audit.accounts(methods, **rows)}


IAM = "AWSAuthenticationPlugin"


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ([method("u", IAM)], (True, False, False, False)),
        ([method("u", "caching_sha2_password")], (False, True, False, False)),
        ([method("u", IAM, second=1)], (True, True, True, False)),
        ([method("u", IAM), method("u", "ed25519")], (True, True, True, False)),
        ([method("u", "mysql_native_password", possible=0)], (False, False, False, True)),
        ([method("u", "mysql_no_login", possible=0)], (False, False, False, True)),
        ([method("u", "authentication_kerberos")], (False, False, False, False)),
        ([method("u", "auth_socket")], (False, False, False, False)),
        ([method("u", IAM, locked="1")], (True, False, False, True)),
        ([method("u", IAM, locked="0")], (True, False, False, False)),
    ],
    ids=["iam", "password", "dual password", "two methods", "no hash fits", "no login", "kerberos", "socket", "locked",
         "unlocked"],
)  # fmt: skip
def test_login_methods_decide_how_an_account_logs_in(methods, expected):
    facts = mysql(*methods)["u@%"]
    assert (facts.iam, facts.password, facts.second_password, facts.unusable) == expected


def test_every_privilege_has_its_bit_and_its_name():
    facts = mysql(method("u", IAM, access=(1 << len(GLOBAL)) - 1), granted=[("u", "%", "s", (1 << len(ON_SCHEMA)) - 1)])
    privileges = facts["u@%"].privileges
    assert len(privileges["*"]) == len(GLOBAL)
    assert len(privileges["s"]) == len(ON_SCHEMA)
    assert {"GRANT OPTION", "SHOW DATABASES", "CREATE TEMPORARY TABLES", "LOCK TABLES", "TRIGGER"} <= {*privileges["*"]}
    assert list(privileges["*"]) == sorted(privileges["*"])


def test_the_escaped_and_the_plain_name_of_a_schema_are_the_same_schema():
    facts = mysql(method("u", IAM), granted=[("u", "%", r"my\_app", 1), ("u", "%", "my_app", 2)])["u@%"]
    assert facts.privileges == {"my_app": ("INSERT", "SELECT")}


def test_a_role_the_public_role_and_a_dynamic_privilege_make_administrators():
    chief = method("chief", "", host="", access=1 << GLOBAL.index("Create_user"), role="1")
    member_of = [("u", "%", "chief", "")]
    assert mysql(method("u", IAM), chief, roles=member_of)["u@%"].administrator
    assert not mysql(method("v", IAM), chief, roles=member_of)["v@%"].administrator
    assert mysql(method("u", IAM), chief, roles=[("PUBLIC", "", "chief", "")])["u@%"].administrator
    assert mysql(method("u", IAM, mighty=1))["u@%"].administrator


def test_roles_of_mysql_8_are_no_accounts_and_rds_superuser_role_makes_administrators():
    superuser = method(
        "rds_superuser_role", "caching_sha2_password", access=1 << GLOBAL.index("Super"), locked=1, role=1
    )
    facts = mysql(method("admin", IAM), superuser, roles=[("admin", "%", "rds_superuser_role", "%")])
    assert set(facts) == {"admin@%"}
    assert facts["admin@%"].administrator
    assert facts["admin@%"].member_of == ("rds_superuser_role",)


@pytest.mark.parametrize("version", ["5.7.44-log", "8.0.36", "8.4.3", "5.7.mysql_aurora.2.12"])
def test_the_procedure_for_mysql_uses_only_tables_of_that_version(version):
    text = audit_procedure.body(False, version)
    modern = not version.startswith("5.")
    assert ("role_edges" in text) is modern
    assert ("User_attributes" in text) is modern
    assert ("mysql.proc " in text) is not modern
    assert "global_priv" not in text
    assert text.count(";") == audit._RESULTS + 1  # and a setting
    assert "{" not in text.replace("{40}", "").replace("{16}", "")


def test_the_procedure_returns_no_hash_but_whether_it_exists_and_is_possible():
    for text in (
        audit_procedure.body(True, "10.11"),
        audit_procedure.body(False, "8.0"),
        audit_procedure.body(False, "5.7"),
    ):
        columns = text.split("SELECT User, Host, plugin,")[1].split("FROM (")[0]
        assert "hash" in columns
        assert not re.search(r"(^|,)\s*(hash|authentication_string)\s*(,|$)", columns)


def test_facts_without_defaults_are_complete():
    check_facts(mysql(method("u", IAM))["u@%"])
