"""A database that is upgraded from PostgreSQL 15 to 18 stays under rdsiam: the next reconcile restores its rights."""

import json
from typing import Any

import pytest

from tests.integration.account import Account, until
from tests.integration.place import DENIED

#: test_upgrades.py of the engines shows what a run restores; here the whole way takes half a minute.
pytestmark = pytest.mark.exhaustive

IDENTIFIER = "upgraded"


def declared(name: str, level: str, role: str) -> dict[str, Any]:
    return {"name": name, "privileges": level, "on": ["shop"], "roles": [role]}


@pytest.fixture(scope="module")
def role(account) -> str:
    arn: str = account.make_role("upgraded-app")
    return arn


@pytest.fixture(scope="module")
def arn(account, role) -> str:
    """Return a database that was onboarded on 15 and is on 18."""
    users = [declared("reader", "readonly", role), declared("writer", "readwrite", role)]
    account.declare(IDENTIFIER, *users, declared("leaver", "readonly", role))
    arn: str = account.create(IDENTIFIER, "postgres15")
    account.wait_onboarded(arn)
    with account.as_master(arn) as master:
        master.run("CREATE TABLE orders (id int)")
    account.cloud.client("rds").modify_db_instance(
        DBInstanceIdentifier=IDENTIFIER, EngineVersion="18.1", AllowMajorVersionUpgrade=True, ApplyImmediately=True
    )
    until(lambda: account.describe(arn)["EngineVersion"] == "18.1", 60)
    account.wait(arn)
    return arn


def login(account: Account, arn: str, user: str, role: str) -> Any:
    return account.connect(arn, user, account.token(arn, user, account.assume(role)))


def onboarded(account: Account, arn: str) -> dict[str, Any]:
    """Wait until the inventory's record is of 18, and return it."""

    def current() -> dict[str, Any] | None:
        record = account.record(arn) or {}
        version = record.get("described", {}).get("M", {}).get("engine_version", {}).get("S")
        return record if version == "18.1" and record["finished"]["BOOL"] else None

    record: dict[str, Any] = until(current, 60)
    return record


def test_after_an_upgrade_the_next_reconcile_restores_the_managers_rights_and_all_goes_on(account, arn, role):
    account.reconcile()
    onboarded(account, arn)
    with account.as_master(arn) as master:
        administered = master.run(
            "SELECT count(*) FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid"
            " WHERE a.member = 'rdsiam_manager'::regrole AND a.admin_option AND r.rolname IN"
            " ('reader', 'writer', 'leaver', 'rdsiam_auditor', 'shop_readonly', 'shop_readwrite')"
        )
    assert administered == [(6,)]
    again = account.onboard(arn)
    assert again.get("status") == "unchanged", again

    users = [declared("writer", "readonly", role), declared("reader", "readonly", role)]
    account.declare(IDENTIFIER, *users, declared("newcomer", "readwrite", role))
    answer = account.onboard(arn)
    assert answer["status"] in {"onboarded", "unchanged"}, answer  # the event of the new file may have been first
    for user in ("writer", "newcomer"):
        with login(account, arn, user, role) as session:
            session.run("SELECT * FROM orders")
            if user == "writer":
                with pytest.raises(DENIED):
                    session.run("INSERT INTO orders VALUES (1)")
    until(lambda: account.refused(arn, "leaver", account.token(arn, "leaver", account.assume(role))), 30)
    assert account.onboard(arn)["status"] == "unchanged"
    audit = account.invoke("AuditFunction", {"databases": [arn]})
    assert audit["audited"] == 1
    bucket, _, key = audit["reports"]["json"].removeprefix("s3://").partition("/")
    report = json.load(account.cloud.client("s3").get_object(Bucket=bucket, Key=key)["Body"])
    assert {finding["kind"] for finding in report["findings"]} <= {"administrators-unexamined"}
