"""Databases that had something before: a migration at work, an event trigger, groups of the names that rdsiam gives."""

import threading
import time
from typing import Any

import pytest

from tests.integration.account import Account, until
from tests.integration.rdsadmin import as_rdsadmin

READER = {"name": "reader", "privileges": "readonly", "on": ["shop"]}


@pytest.fixture(scope="module")
def arn(account) -> str:
    made: str = account.create("what-exists")
    account.wait(made)
    account.declare("what-exists", READER)
    assert account.onboard(made)["status"] == "onboarded"
    with account.as_master(made, "postgres") as master:
        master.run("CREATE DATABASE crm")
    return made


def onboard(account: Account, arn: str, *users: dict[str, Any], **more: Any) -> dict[str, Any]:
    account.entries["what-exists"] = {"match": {"identifier": "what-exists"}, "users": list(users), **more}
    account.publish_entries()
    return account.onboard(arn)


@pytest.mark.exhaustive
def test_a_run_that_meets_a_migration_ends_with_all_privileges(account, arn):
    answers: list[dict[str, Any]] = []
    with account.as_master(arn) as migration:
        migration.run("CREATE TABLE orders (id int)")
        migration.run("BEGIN; ALTER TABLE orders ADD COLUMN note text")
        thread = threading.Thread(target=lambda: answers.append(onboard(account, arn, READER | {"name": "reader2"})))
        thread.start()
        with account.as_master(arn) as master:
            until(lambda: master.run("SELECT 1 FROM pg_roles WHERE rolname = 'reader2'"), 60)
        time.sleep(4)  # longer than one attempt takes
        migration.run("COMMIT")
        thread.join()
    assert answers[0]["status"] == "onboarded", answers
    assert answers[0]["incomplete"] == []
    with account.as_master(arn) as master:
        assert master.run("SELECT has_table_privilege('reader2', 'orders', 'SELECT')") == [(True,)]
        master.run("DROP TABLE orders")


def test_an_event_trigger_is_named_and_its_remedy_works(account, arn):
    with as_rdsadmin(account, arn, "shop") as another:
        another.run("CREATE TABLE public.ddl_log (at timestamptz DEFAULT now(), who name, what text)")
        another.run("CREATE TABLE public.bills (id int); ALTER TABLE public.bills OWNER TO boss")
        another.run(
            "CREATE FUNCTION public.log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS "
            "$$ BEGIN INSERT INTO ddl_log (who, what) VALUES (current_user, tg_tag); END $$"
        )
        another.run("ALTER FUNCTION public.log_ddl() OWNER TO boss; ALTER TABLE public.ddl_log OWNER TO boss")
        another.run("CREATE EVENT TRIGGER ddl ON ddl_command_end EXECUTE FUNCTION public.log_ddl()")
    writer = {"name": "writer", "privileges": "readwrite", "on": ["shop"]}
    answer = onboard(account, arn, READER, writer)
    assert answer["status"] == "incomplete", answer
    [part] = answer["incomplete"]
    assert part["reason"].startswith("the event trigger ddl fails on rdsiam's statements: ")
    assert 'relation "ddl_log" does not exist' in part["reason"]
    assert part["retry"] is False
    assert {"create-user", "grant"} <= {change["kind"] for change in answer["changes"]}
    with account.as_master(arn) as master:
        master.run(part["remedy"].partition("run: ")[2].partition(" (")[0])
    again = account.onboard(arn)
    assert (again["status"], again["incomplete"]) == ("onboarded", [])
    with account.as_master(arn) as master:
        assert master.run("SELECT has_table_privilege('writer', 'bills', 'INSERT')") == [(True,)]
        assert ("GRANT",) in master.run("SELECT DISTINCT what FROM ddl_log")
    with as_rdsadmin(account, arn, "shop") as another:
        another.run("DROP EVENT TRIGGER ddl")


def test_groups_of_the_names_that_rdsiam_gives_are_adopted_or_left_alone(account, arn):
    with account.as_master(arn, "crm") as master:
        master.run("CREATE TABLE contacts (id int)")
        for level in ("readonly", "owner"):
            master.run(f"CREATE ROLE crm_{level} NOLOGIN")
        master.run("CREATE ROLE ann LOGIN PASSWORD 'of-old-1' IN ROLE crm_readonly")
    users = [READER, {"name": "writer", "privileges": "readwrite", "on": ["shop"]},
             {"name": "analyst", "privileges": "readonly", "on": ["crm"]},
             {"name": "maker", "privileges": "owner", "on": ["crm"]}]  # fmt: skip
    refused = onboard(account, arn, *users)
    missing = refused["incomplete"] or [refused]
    assert "a role crm_" in str(missing)
    assert "adopt_groups: true" in str(missing)
    assert "group_prefix" in str(missing)

    prefixed = onboard(account, arn, *users, group_prefix="iam_")
    assert prefixed["status"] == "onboarded", prefixed
    with account.as_master(arn, "crm") as master:
        assert master.run("SELECT has_table_privilege('ann', 'contacts', 'SELECT')") == [(False,)]
        assert master.run("SELECT has_table_privilege('analyst', 'contacts', 'SELECT')") == [(True,)]
    adopted = onboard(account, arn, *users, adopt_groups=True)
    assert adopted["status"] == "onboarded", adopted
    by_target = {
        change["target"]: change["statement"] for change in adopted["changes"] if change["kind"] == "adopt-group"
    }
    assert set(by_target) == {"crm_owner", "crm_readonly"}
    assert "with the members ann: members get readonly on crm" in by_target["crm_readonly"]
    with account.as_master(arn, "crm") as master:
        assert master.run("SELECT has_table_privilege('ann', 'contacts', 'SELECT')") == [(True,)]
    assert account.record(arn)["accounts"]["M"]["crm_readonly"] == {"S": "adopted"}
    assert account.onboard(arn)["status"] == "unchanged"
    audit = account.invoke("AuditFunction", {"databases": [arn]})
    assert audit["audited"] == 1
    account.connect(arn, "ann", "of-old-1", "crm").close()
