"""Databases of one PostgreSQL server: one that can't be done is named and delays no other; few sessions at once."""

import json
from typing import Any

import pytest

from tests.integration.account import Account, until
from tests.integration.rdsadmin import as_rdsadmin

READER = {"name": "reader", "privileges": "readonly", "on": "*"}
#: Database → what is done to it after it was created, and what the answer says of it; empty if it is done.
TENANTS = {
    "interrupted": ("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'interrupted'", "DROP DATABASE"),
    "limited": ("ALTER DATABASE limited CONNECTION LIMIT 0", "CONNECTION LIMIT -1"),
    "offline": ("ALTER DATABASE offline ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"),
    "pattern": ("ALTER DATABASE pattern IS_TEMPLATE true", "IS_TEMPLATE false"),
    "closed": ("REVOKE CONNECT ON DATABASE closed FROM PUBLIC", "GRANT CONNECT ON DATABASE"),
    "archive": ("ALTER DATABASE archive SET default_transaction_read_only = on", ""),
    "x" * 60: ("SELECT 1", ""),
    "y" * 63: ("SELECT 1", ""),
    "ü" * 31: ("SELECT 1", ""),
}


@pytest.fixture(scope="module")
def arn(account) -> str:
    """Return an instance with databases of tenants as they are found; only the tests onboard it."""
    made: str = account.create("tenants")
    account.wait(made)
    with as_rdsadmin(account, made) as another:
        another.run("CREATE ROLE tenant")
        for name, (closing, _) in TENANTS.items():
            another.run(f'CREATE DATABASE "{name}" OWNER tenant STRATEGY file_copy')
            another.run(closing)
    for name in ["shop", *(name for name, (_, remedy) in TENANTS.items() if not remedy)]:
        with as_rdsadmin(account, made, name) as another:
            another.run("SET default_transaction_read_only = off")
            another.run("CREATE TABLE orders (id int)")
            another.run("ALTER TABLE orders OWNER TO boss" if name == "shop" else "ALTER TABLE orders OWNER TO tenant")
    return made


def declare(account: Account, arn: str, **changed: Any) -> None:
    account.declare(arn.rpartition(":")[2], READER | changed)


def test_of_all_databases_those_that_can_not_be_done_are_named_and_the_others_are_done(account, arn):
    declare(account, arn)
    plan = account.onboard(arn, plan=True)
    answer = account.onboard(arn)
    for given in (plan, answer):
        parts = {part["what"]: part for part in given["incomplete"]}
        for name, (_, remedy) in TENANTS.items():
            part = parts.pop(f"database {name}", {"remedy": "", "retry": False})
            assert remedy in part["remedy"], (name, given["incomplete"])
            assert bool(remedy) == bool(part["remedy"])
            assert not part["retry"]
        assert not parts, given
    assert answer["status"] == "incomplete"
    for name in ["shop", *(name for name, (_, remedy) in TENANTS.items() if not remedy)]:
        with as_rdsadmin(account, arn, name) as another:
            assert another.run("SELECT has_table_privilege('reader', 'orders', 'SELECT')") == [(True,)], answer
            assert another.run(f"SELECT has_database_privilege('reader', '{name}', 'CONNECT')") == [(True,)]


def test_a_database_that_only_its_owner_can_open_is_not_tried_again_by_a_reconcile(account, arn):
    declare(account, arn)
    account.onboard(arn)
    assert arn not in account.reconcile(plan=True)["started"]
    again = account.onboard(arn)
    assert (again["status"], again["changes"]) == ("incomplete", [])
    assert {part["what"] for part in again["incomplete"]} == {
        f"database {name}" for name, (_, remedy) in TENANTS.items() if remedy
    }


def test_a_named_database_says_what_opens_it_and_its_users_exist(account, arn):
    declare(account, arn, name="named", on=["limited", "shop", "no such"])
    answer = account.onboard(arn)
    assert answer["status"] == "incomplete"
    parts = {part["what"]: part["remedy"] for part in answer["incomplete"]}
    assert 'ALTER DATABASE "limited" CONNECTION LIMIT -1' in parts["database limited"]
    assert "create it" in parts["database no such"]
    with account.as_master(arn) as master:
        assert master.run("SELECT has_table_privilege('named', 'orders', 'SELECT')") == [(True,)]
        master.run("ALTER ROLE boss CREATEDB")
    with as_rdsadmin(account, arn) as another:
        another.run("ALTER DATABASE limited CONNECTION LIMIT -1")
    try:
        assert {part["what"] for part in account.onboard(arn)["incomplete"]} == {"database no such"}
    finally:
        with as_rdsadmin(account, arn) as another:
            another.run("ALTER DATABASE limited CONNECTION LIMIT 0")


@pytest.mark.exhaustive
def test_130_databases_take_four_sessions_at_most(account, arn):
    """The server takes 120 connections."""
    most = 0

    def over() -> bool:
        nonlocal most
        sessions = another.run("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rdsiam'")
        most = max(most, sessions[0][0])
        return most > 4 or account.record(arn)["finished"]["BOOL"]

    with as_rdsadmin(account, arn) as another:
        for number in range(130):
            another.run(f"CREATE DATABASE tenant_{number} OWNER boss STRATEGY file_copy")
        declare(account, arn, privileges="readwrite")
        plan = account.onboard(arn, plan=True)
        assert {f"tenant_{number}_readwrite" for number in range(130)} <= {each["target"] for each in plan["changes"]}
        account.cloud.client("lambda").invoke(
            FunctionName=account.cloud.functions["OnboardFunction"],
            InvocationType="Event",
            Payload=json.dumps({"database": arn}),
        )
        until(lambda: not account.record(arn)["finished"]["BOOL"], 60)
        until(over, 240, every=0.1)
    assert 1 <= most <= 4
    assert account.onboard(arn)["changes"] == []
