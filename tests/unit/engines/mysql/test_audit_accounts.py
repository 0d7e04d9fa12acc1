"""Facts of accounts from the results of the audit's procedure, without a server: login methods, privileges, roles."""

from typing import Any

import pytest

from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.mysql import audit_accounts
from rdsiam.engines.mysql.audit import mandatory_roles
from rdsiam.engines.mysql.audit_procedure import GLOBAL, GLOBAL_OF_MARIADB, ON_SCHEMA
from rdsiam.engines.schema_names import SchemaNames
from tests.unit.engines.test_facts import check_facts

NOW = "2026-01-02T03:04:05Z"


def method(user: str, plugin: str, **changes: Any) -> tuple[Any, ...]:
    values = {"empty": 0, "possible": 1, "second": 0, "locked": 0, "expired": 0, "tls": 1, "access": 0}
    values |= changes
    return (user, changes.get("host", "%"), plugin, *(values[key] for key in list(values)[:7]), changes.get("role", 0))


def mysql(*methods: tuple[Any, ...], **others: Any) -> dict[str, AccountFacts]:
    granted, roles = others.pop("granted", []), others.pop("roles", [])
    state = audit_accounts.ServerState(NOW, **others)
    return {account.label: account for account in audit_accounts.accounts(methods, granted, roles, state)}


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
    names = (*GLOBAL, *GLOBAL_OF_MARIADB)
    facts = mysql(method("u", IAM, access=(1 << len(names)) - 1), granted=[("u", "%", "s", (1 << len(ON_SCHEMA)) - 1)])
    privileges = facts["u@%"].privileges
    assert len(privileges["*"]) == len(names)
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
    role_admin = [("u", "%", "privilege", "ROLE_ADMIN"), ("v", "%", "privilege", "SYSTEM_VARIABLES_ADMIN")]
    accounts = mysql(method("u", IAM), method("v", IAM), properties=role_admin)
    assert (accounts["u@%"].administrator, accounts["v@%"].administrator) == (True, False)


def test_roles_of_mysql_8_are_no_accounts_and_rds_superuser_role_makes_administrators():
    superuser = method(
        "rds_superuser_role", "caching_sha2_password", access=1 << GLOBAL.index("Super"), locked=1, role=1
    )
    facts = mysql(method("admin", IAM), superuser, roles=[("admin", "%", "rds_superuser_role", "%")])
    assert set(facts) == {"admin@%"}
    assert facts["admin@%"].administrator
    assert facts["admin@%"].member_of == ("rds_superuser_role",)


def test_privileges_without_a_column_are_listed():
    properties = [("u", "%", "privilege", name) for name in ("SYSTEM_USER", "CREATE ROLE", "CONNECTION_ADMIN")]
    facts = mysql(method("u", IAM, access=1), method("v", IAM), properties=properties)
    assert facts["u@%"].privileges == {"*": ("CONNECTION_ADMIN", "CREATE ROLE", "SELECT", "SYSTEM_USER")}
    assert facts["v@%"].privileges == {}


WRITES = 1 << GLOBAL.index("Insert") | 1 << GLOBAL.index("Update")


@pytest.mark.parametrize(
    ("changes", "administrator"),
    [
        ({}, True),
        ({"restrictions": '[{"Database": "mysql", "Privileges": ["UPDATE", "INSERT", "DELETE"]}]'}, False),
        ({"restrictions": '[{"Database": "mysql", "Privileges": ["UPDATE"]}]'}, True),
        ({"restrictions": '[{"Database": "other", "Privileges": ["UPDATE", "INSERT"]}]'}, True),
        ({"access": 1}, False),
        ({"access": 1, "writes": "user"}, True),
    ],
    ids=["everything", "but mysql", "only one but mysql", "but another", "reads", "writes to mysql.user"],
)
def test_an_account_that_writes_to_the_grant_tables_is_an_administrator(changes, administrator):
    properties = [("u", "%", name, value) for name, value in changes.items() if name != "access"]
    facts = mysql(method("u", IAM, access=changes.get("access", WRITES)), properties=properties)
    assert facts["u@%"].administrator is administrator


@pytest.mark.parametrize(
    ("pattern", "literal", "administrator"),
    [("mysql", False, True), ("mysql", True, True), ("%", False, True), ("%", True, False), ("mysq_", False, True),
     ("mysq_", True, False), (r"mysq\_", False, False), ("my%", False, True), ("shop", False, False)],
)  # fmt: skip
def test_an_account_that_writes_to_a_schema_whose_name_covers_mysql_is_an_administrator(
    pattern, literal, administrator
):
    granted = [("u", "%", pattern, 1 << ON_SCHEMA.index("Update"))]
    facts = mysql(method("u", IAM), granted=granted, names=SchemaNames(literal=literal))
    assert facts["u@%"].administrator is administrator


def test_with_partial_revokes_the_escaped_name_is_another_schema():
    granted = [("u", "%", r"my\_app", 1), ("u", "%", "my_app", 2)]
    facts = mysql(method("u", IAM), granted=granted, names=SchemaNames(literal=True))["u@%"]
    assert facts.privileges == {r"my\_app": ("SELECT",), "my_app": ("INSERT",)}
    assert AccountFacts.from_json(facts.to_json()) == facts


def test_names_in_lower_case_are_compared_so():
    facts = mysql(method("u", IAM), granted=[("u", "%", "MyApp", 1)], names=SchemaNames(lower_case=True))["u@%"]
    assert facts.privileges == {"myapp": ("SELECT",)}


def test_every_account_has_the_mandatory_roles():
    chief = method("chief", "", access=1 << GLOBAL.index("Create_user"), role="1")
    facts = mysql(method("u", IAM), chief, mandatory=mandatory_roles("chief"))["u@%"]
    assert (facts.administrator, facts.member_of) == (True, ("chief",))
    facts = mysql(method("u", IAM), chief, mandatory=mandatory_roles("reader"))["u@%"]
    assert (facts.administrator, facts.member_of) == (False, ("reader",))


def test_further_factors_and_locking_are_facts():
    facts = mysql(method("u", IAM), properties=[("u", "%", "factors", "2"), ("u", "%", "locking", "")])["u@%"]
    assert (facts.further_factors, facts.locking) == (2, True)
    check_facts(facts)


def test_facts_without_defaults_are_complete():
    check_facts(mysql(method("u", IAM))["u@%"])
