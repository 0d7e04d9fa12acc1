"""Schemas with `_`, `%` and capitals from access.yaml to a query by token, on MySQL as RDS and Aurora run it."""

import json
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

from tests.integration.account import Account
from tests.integration.databases import Databases
from tests.kinds import needs_mysql

pytestmark = [needs_mysql, pytest.mark.exhaustive_on("patterns", "lower")]
#: Kind of database → partial_revokes, lower_case_table_names; None for RDS's default.
KINDS: dict[str, tuple[str | None, str | None]] = {
    "aurora": (None, None),
    "patterns": ("0", None),
    "lower": (None, "1"),
}
SCHEMAS = ("my_app", "myXapp", "Sales%2024", "MyApp")


@pytest.fixture(scope="module", params=KINDS)
def database(request, account, databases) -> Iterator[tuple[str, str]]:
    """Return the ARN of an onboarded database with these schemas, and the role of its users."""
    name = f"names-{request.param}"
    arn = _make(databases, name, *KINDS[request.param])
    with account.as_master(arn) as master:
        for schema in SCHEMAS:
            master.run(f"CREATE DATABASE `{schema}`")
            master.run(f"CREATE TABLE `{schema}`.things (id int)")
            master.run(f"INSERT INTO `{schema}`.things VALUES (7)")
    role = account.make_role(name)
    account.declare(
        name,
        {"name": "app", "privileges": "readonly", "on": ["my_app"], "roles": [role]},
        {"name": "sales", "privileges": "readwrite", "on": ["Sales%2024", "MyApp"], "roles": [role]},
    )
    answer = account.onboard(arn)
    assert answer["status"] == "onboarded", answer
    yield arn, role
    account.declare(name)


def _make(databases: Databases, name: str, partial_revokes: str | None, lower_case: str | None) -> str:
    rds = databases.rds
    if partial_revokes is None and lower_case is None:
        databases.make_cluster(name, "aurora-mysql", members=1, DatabaseName="shop")
        databases.available(f"{name}-1")
        return str(databases.cluster(name)["DBClusterArn"])
    rds.create_db_parameter_group(DBParameterGroupName=name, DBParameterGroupFamily="mysql8.4", Description="names")
    for parameter, value in {"partial_revokes": partial_revokes, "lower_case_table_names": lower_case}.items():
        if value is not None:
            rds.modify_db_parameter_group(
                DBParameterGroupName=name,
                Parameters=[{"ParameterName": parameter, "ParameterValue": value, "ApplyMethod": "pending-reboot"}],
            )
    databases.make(name, "mysql", DBParameterGroupName=name, DBName="shop")
    databases.available(name)
    return str(databases.instance(name)["DBInstanceArn"])


def ids(account: Account, arn: str, role: str, user: str, schema: str) -> list[Any]:
    token = account.token(arn, user, account.assume(role))
    with account.connect(arn, user, token, schema) as session:
        return session.run("SELECT id FROM things")


def test_a_token_user_reads_the_tables_of_its_schemas_and_no_others(account, database):
    arn, role = database
    assert ids(account, arn, role, "app", "my_app") == [(7,)]
    for schema in ("Sales%2024", "MyApp"):
        assert ids(account, arn, role, "sales", schema) == [(7,)]
    for user, schema in (("app", "myXapp"), ("app", "MyApp"), ("sales", "my_app")):
        with pytest.raises(pymysql.OperationalError, match=r"1044|1142"):
            ids(account, arn, role, user, schema)


def test_again_nothing_changes_and_the_audit_finds_nothing(account, database):
    arn, role = database
    for _ in range(2):
        again = account.onboard(arn)
        assert (again["status"], again["changes"]) == ("unchanged", [])
    answer = account.invoke("AuditFunction", {"databases": [arn]})
    bucket, _, key = answer["reports"]["json"].removeprefix("s3://").partition("/")
    report = json.loads(account.cloud.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    assert (answer["audited"], answer["unreachable"]) == (1, 0)
    assert [finding for finding in report["findings"] if finding["user"]] == []
    assert ids(account, arn, role, "sales", "MyApp") == [(7,)]
