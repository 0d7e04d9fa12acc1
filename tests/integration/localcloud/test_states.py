"""Instances through boto3 that are stopped, restarted, renamed and modified, at once or later."""

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from botocore.exceptions import ClientError

from tests.integration.databases import REFUSED, Databases, Events

ENGINE_NAMES = ["postgres", "mariadb"]


@pytest.fixture(scope="module")
def instances(databases: Databases, events: Events) -> Iterator[list[str]]:
    """Return an instance of each engine, IAM authentication on."""
    for engine in ENGINE_NAMES:
        databases.make(f"state-{engine}", engine, EnableIAMDatabaseAuthentication=True, PubliclyAccessible=True)
    databases.available(*(f"state-{engine}" for engine in ENGINE_NAMES))
    yield ENGINE_NAMES
    databases.drop(*(f"state-{engine}" for engine in ENGINE_NAMES))


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_stopped_instance_keeps_its_endpoint_and_its_data_and_lets_nobody_in(databases, instances, events, engine):
    name = f"state-{engine}"
    before = databases.instance(name)
    assert before["PubliclyAccessible"]
    with databases.as_master(before) as master:
        databases.make_iam_user(master)
    databases.rds.stop_db_instance(DBInstanceIdentifier=name)
    with pytest.raises(ClientError, match="InvalidDBInstanceState"):
        databases.rds.stop_db_instance(DBInstanceIdentifier=name)
    databases.available(name, status="stopped")
    assert databases.instance(name)["Endpoint"] == before["Endpoint"]
    with pytest.raises(REFUSED):
        databases.as_master(before)
    with pytest.raises(ClientError, match="InvalidDBInstanceState"):
        databases.rds.modify_db_instance(DBInstanceIdentifier=name, BackupRetentionPeriod=3)
    databases.rds.start_db_instance(DBInstanceIdentifier=name)
    databases.available(name)
    databases.by_token(before, "app", before["DbiResourceId"]).connection.close()
    databases.eventually(lambda: "0088" in events.of(name))
    assert [number for number in events.of(name) if number in ("0087", "0088")] == ["0087", "0088"]


def test_changes_wait_until_one_is_to_be_applied_immediately(databases, instances, events):
    name = "state-postgres"
    rds, size = databases.rds, databases.instance(name)["DBInstanceClass"]
    rds.modify_db_instance(DBInstanceIdentifier=name, DBInstanceClass="db.m7g.large", AllocatedStorage=40)
    rds.modify_db_instance(DBInstanceIdentifier=name, EnableIAMDatabaseAuthentication=False, AllocatedStorage=20)
    waiting = databases.instance(name)
    assert waiting["PendingModifiedValues"] == {
        "DBInstanceClass": "db.m7g.large", "IAMDatabaseAuthenticationEnabled": False
    }  # fmt: skip
    assert (waiting["DBInstanceClass"], waiting["IAMDatabaseAuthenticationEnabled"]) == (size, True)
    rds.modify_db_instance(DBInstanceIdentifier=name, EnableIAMDatabaseAuthentication=True, ApplyImmediately=True)
    databases.eventually(lambda: not databases.instance(name).get("PendingModifiedValues"))
    databases.available(name)
    changed = databases.instance(name)
    assert (changed["DBInstanceClass"], changed["IAMDatabaseAuthenticationEnabled"]) == ("db.m7g.large", True)
    assert "0014" in events.of(name)


def test_a_reboot_makes_the_changes_that_wait(databases, instances, events):
    name = "state-mariadb"
    databases.rds.modify_db_instance(DBInstanceIdentifier=name, EnableIAMDatabaseAuthentication=False)
    databases.rds.reboot_db_instance(DBInstanceIdentifier=name)
    databases.eventually(lambda: not databases.instance(name)["IAMDatabaseAuthenticationEnabled"])
    databases.available(name)
    assert "0006" in events.of(name)


def test_a_password_does_not_wait(databases, events):
    first, second = secrets.token_hex(8), secrets.token_hex(8)
    databases.make("pwd", "postgres", MasterUserPassword=first)
    databases.available("pwd")
    databases.rds.modify_db_instance(DBInstanceIdentifier="pwd", MasterUserPassword=second)
    databases.eventually(lambda: "0016" in events.of("pwd"))
    databases.as_master(databases.instance("pwd"), second).connection.close()
    databases.drop("pwd")


def test_an_instance_listens_at_the_port_that_was_asked_for(databases):
    for port in (1149, 65536):
        with pytest.raises(ClientError, match="InvalidParameterValue"):
            databases.make("ported", "postgres", Port=port)
    databases.make("ported", "postgres", Port=6543, EnableIAMDatabaseAuthentication=True)
    databases.available("ported")
    instance = databases.instance("ported")
    assert instance["Endpoint"]["Port"] == 6543
    with databases.as_master(instance) as master:
        databases.make_iam_user(master)
    for port in (1149, 6544):
        with pytest.raises(ClientError, match="InvalidParameterValue"):
            databases.rds.modify_db_instance(DBInstanceIdentifier="ported", DBPortNumber=port, ApplyImmediately=True)
    databases.rds.modify_db_instance(DBInstanceIdentifier="ported", DBPortNumber=6543, ApplyImmediately=True)
    assert databases.instance("ported")["Endpoint"]["Port"] == 6543
    databases.by_token(instance, "app", instance["DbiResourceId"]).connection.close()
    databases.drop("ported")


def test_a_renamed_instance_has_another_arn_and_the_same_resource_id(databases):
    databases.make("old-name", "postgres", EnableIAMDatabaseAuthentication=True)
    databases.available("old-name")
    before = databases.instance("old-name")
    with databases.as_master(before) as master:
        databases.make_iam_user(master)
    databases.rds.modify_db_instance(
        DBInstanceIdentifier="old-name", NewDBInstanceIdentifier="new-name", ApplyImmediately=True
    )
    databases.eventually(lambda: databases.gone("old-name"))
    databases.available("new-name")
    after = databases.instance("new-name")
    assert after["DbiResourceId"] == before["DbiResourceId"]
    assert after["DBInstanceArn"] == before["DBInstanceArn"].replace("old-name", "new-name")
    assert after["Endpoint"]["Address"] == before["Endpoint"]["Address"].replace("old-name", "new-name")
    with pytest.raises(psycopg.OperationalError, match=r"resolve|could not translate"):
        databases.as_master(before)
    databases.by_token(after, "app", after["DbiResourceId"]).connection.close()
    databases.drop("new-name")
