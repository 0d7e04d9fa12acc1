"""Differences from access.yaml since the last onboarding: the daily audit has the database onboarded."""

import json
from typing import Any

import pytest

from tests.integration.account import Account, until
from tests.kinds import MYSQL_EXHAUSTIVE

# `engines/test_layout.py` shows on each engine what differs after something was created.
pytestmark = pytest.mark.exhaustive_on("mariadb")

PATH = "/rdsiam/connect/"


@pytest.fixture(scope="module", params=["postgres", "mariadb", MYSQL_EXHAUSTIVE])
def arn(account, request) -> str:
    """Return a database on which a user may read everything, whatever is created later."""
    name = f"drift-{request.param}"
    role = account.make_role(name)
    account.declare(name, {"name": "reader", "privileges": "readonly", "on": "*", "roles": [role]})
    made: str = account.create(name, request.param)
    account.wait_onboarded(made, 120)
    assert account.onboard(made)["status"] in {"onboarded", "unchanged"}
    return made


def is_postgres(arn: str) -> bool:
    return arn.endswith("postgres")


def is_in_order(account: Account, arn: str) -> bool:
    """Return whether a plan has no changes."""
    return not account.onboard(arn, plan=True)["changes"]


def audit_daily(account: Account) -> None:
    account.cloud.fire_schedule("rdsiam-audit")


def create(account: Account, arn: str, *statements: str, name: str = "shop") -> None:
    """Run statements as the master, and check that a plan now has changes."""
    with account.as_master(arn, name) as master:
        for statement in statements:
            master.run(statement)
    assert not is_in_order(account, arn)


def test_a_database_that_is_created_later_is_covered_after_the_next_audit(account, arn):
    create(account, arn, "CREATE DATABASE tenant")
    assert account.invoke("AuditFunction", {})["audited"] >= 1
    until(lambda: is_in_order(account, arn), 60)


def test_a_database_that_is_created_later_is_covered_at_once_by_onboard(account, arn):
    create(account, arn, "CREATE DATABASE customer")
    assert account.onboard(arn)["status"] == "onboarded"
    assert is_in_order(account, arn)


def test_schemas_owners_and_users_are_as_declared_after_the_daily_audit(account, arn):
    if is_postgres(arn):
        migrator = "CREATE ROLE migrator; GRANT migrator TO boss; GRANT CREATE ON DATABASE tenant TO migrator"
        schema = "SET ROLE migrator; CREATE SCHEMA sales; CREATE TABLE sales.bills (id int)"
        create(account, arn, migrator, schema, name="tenant")
    with account.as_master(arn) as master:
        master.run('DROP ROLE "reader"' if is_postgres(arn) else "DROP USER reader")
    audit_daily(account)
    until(lambda: is_in_order(account, arn), 120)
    role = f"arn:aws:iam::{account.cloud.account}:role/{arn.rpartition(':')[2]}"
    token = account.token(arn, "reader", account.assume(role))
    if is_postgres(arn):
        with account.as_master(arn, "tenant") as master:
            master.run("SET ROLE migrator; CREATE TABLE sales.later (id int)")
        with account.connect(arn, "reader", token, "tenant") as reader:
            assert reader.run("SELECT * FROM sales.bills, sales.later") == []
    else:
        account.connect(arn, "reader", token, "tenant").close()


# --- Policies that somebody took away ---


def detach(iam: Any, role: str, policy: str) -> None:
    iam.detach_role_policy(RoleName=role, PolicyArn=policy)


def edit(iam: Any, role: str, policy: str) -> None:
    statement = {
        "Sid": "LogIn",
        "Effect": "Allow",
        "Action": "rds-db:connect",
        "Resource": "arn:aws:rds-db:x:1:dbuser:y/z",
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.create_policy_version(PolicyArn=policy, PolicyDocument=document, SetAsDefault=True)


def delete(iam: Any, role: str, policy: str) -> None:
    detach(iam, role, policy)
    for version in iam.list_policy_versions(PolicyArn=policy)["Versions"]:
        if not version["IsDefaultVersion"]:
            iam.delete_policy_version(PolicyArn=policy, VersionId=version["VersionId"])
    iam.delete_policy(PolicyArn=policy)


def lost(account: Account, arn: str) -> list[dict[str, Any]]:
    """Audit the database, and return the findings about logins that roles lost."""
    answer = account.invoke("AuditFunction", {"databases": [arn]})
    key = answer["reports"]["json"].partition(f"{account.cloud.outputs['ReportBucket']}/")[2]
    body = account.cloud.client("s3").get_object(Bucket=account.cloud.outputs["ReportBucket"], Key=key)["Body"].read()
    return [one for one in json.loads(body)["findings"] if one["kind"] == "connect-grant-missing"]


@pytest.mark.parametrize("take", [detach, edit, delete])
@pytest.mark.exhaustive_on("mariadb", "mysql", "delete")
def test_a_role_that_lost_its_policy_is_found_and_has_its_logins_again(account, arn, take):
    iam, role = account.cloud.client("iam"), arn.rpartition(":")[2]
    attached = iam.list_attached_role_policies(RoleName=role, PathPrefix=PATH)["AttachedPolicies"]
    assert lost(account, arn) == []
    take(iam, role, attached[0]["PolicyArn"])
    found = lost(account, arn)
    assert [(one["database"], one["user"].rpartition("/")[2]) for one in found] == [(arn, role)]
    assert found[0]["evidence"]["users"] == ["reader"]
    assert [step["text"] for step in found[0]["remediation"]] == [f"rdsiam onboard {arn}"]
    if take is detach:
        audit_daily(account)
        until(lambda: lost(account, arn) == [], 90)
    else:
        assert account.rdsiam("onboard", arn).returncode == 0
        assert lost(account, arn) == []
