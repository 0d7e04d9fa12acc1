"""RDS through boto3 alone: instances live as on AWS, and log in whom AWS would."""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pymysql
import pytest
from botocore.exceptions import ClientError

from localcloud.client import RunningCloud

Eventually = Callable[[Callable[[], object]], Any]
ENGINE_NAMES = ["postgres", "mariadb", "mysql"]
CLASS = "db.t4g.medium"


def _describe(cloud: RunningCloud, identifier: str) -> dict[str, Any]:
    answer: dict[str, Any] = cloud.client("rds").describe_db_instances(DBInstanceIdentifier=identifier)
    return dict(answer["DBInstances"][0])


def _status(cloud: RunningCloud, identifier: str) -> str:
    return str(_describe(cloud, identifier)["DBInstanceStatus"])


@pytest.fixture(scope="module")
def instances(cloud: RunningCloud, eventually: Eventually) -> Iterator[dict[str, dict[str, Any]]]:
    """One instance of each engine, with a managed master password; what `creating` looked like is in `seen`."""
    rds = cloud.client("rds")
    made: dict[str, dict[str, Any]] = {}
    for engine in ENGINE_NAMES:
        made[engine] = rds.create_db_instance(
            DBInstanceIdentifier=f"fleet-{engine}", DBInstanceClass=CLASS, Engine=engine, AllocatedStorage=20,
            MasterUsername="boss", ManageMasterUserPassword=True, DBName="shop", Tags=[{"Key": "env", "Value": "test"}],
        )["DBInstance"]  # fmt: skip
    seen: dict[str, list[str]] = {engine: [] for engine in ENGINE_NAMES}

    def all_available() -> bool:
        for engine in ENGINE_NAMES:
            seen[engine].append(_status(cloud, f"fleet-{engine}"))
        return all(states[-1] == "available" for states in seen.values())

    eventually(all_available)
    yield {
        engine: {"created": made[engine], "seen": seen[engine], **_describe(cloud, f"fleet-{engine}")}
        for engine in ENGINE_NAMES
    }
    for engine in ENGINE_NAMES:
        rds.delete_db_instance(DBInstanceIdentifier=f"fleet-{engine}", SkipFinalSnapshot=True)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_an_instance_is_created_step_by_step(instances: dict[str, dict[str, Any]], engine: str) -> None:
    instance = instances[engine]
    assert "Endpoint" not in instance["created"]
    seen, order = list(dict.fromkeys(instance["seen"])), ["creating", "backing-up", "available"]
    assert seen == [status for status in order if status in seen], "in this order, though a slow look may miss one"
    assert (instance["created"]["DBInstanceStatus"], seen[-1]) == ("creating", "available")
    assert instance["Endpoint"]["Address"].startswith(instance["DBInstanceIdentifier"] + ".c")
    assert instance["Endpoint"]["Address"].endswith(".eu-central-1.rds.amazonaws.com")
    assert (instance["DBName"], instance["TagList"]) == ("shop", [{"Key": "env", "Value": "test"}])


def test_resource_ids_are_their_own(instances: dict[str, dict[str, Any]]) -> None:
    ids = {instance["DbiResourceId"] for instance in instances.values()}
    assert len(ids) == len(ENGINE_NAMES)
    assert all(each.startswith("db-") and len(each) == 29 for each in ids)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_rds_owns_the_master_s_secret(cloud: RunningCloud, instances: dict[str, dict[str, Any]], engine: str) -> None:
    arn = instances[engine]["MasterUserSecret"]["SecretArn"]
    described = cloud.client("secretsmanager").describe_secret(SecretId=arn)
    assert (described["OwningService"], described["Name"][:7]) == ("rds", "rds!db-")
    assert {"Key": "aws:secretsmanager:owningService", "Value": "rds"} in described["Tags"]
    content = _secret(cloud, instances[engine])
    assert content.keys() == {"username", "password"}
    assert len(content["password"]) >= 28


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_an_arn_names_an_instance_too(cloud: RunningCloud, instances: dict[str, dict[str, Any]], engine: str) -> None:
    assert _describe(cloud, instances[engine]["DBInstanceArn"])["DBInstanceIdentifier"] == f"fleet-{engine}"


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_iam_logins_work_once_iam_is_on_and_for_users_that_the_policy_allows(
    cloud: RunningCloud, instances: dict[str, dict[str, Any]], eventually: Eventually, engine: str
) -> None:
    instance, rds = instances[engine], cloud.client("rds")
    with pytest.raises((psycopg.errors.UndefinedObject, pymysql.err.OperationalError)) as before:
        _make_iam_user(cloud, instance)
    assert not isinstance(before.value, pymysql.err.OperationalError) or before.value.args[0] == 1524

    waiting = rds.modify_db_instance(DBInstanceIdentifier=f"fleet-{engine}", EnableIAMDatabaseAuthentication=True)
    assert waiting["DBInstance"]["PendingModifiedValues"] == {"IAMDatabaseAuthenticationEnabled": True}
    asked = rds.modify_db_instance(
        DBInstanceIdentifier=f"fleet-{engine}", EnableIAMDatabaseAuthentication=True, ApplyImmediately=True
    )
    assert not asked["DBInstance"]["IAMDatabaseAuthenticationEnabled"], "it takes a moment"
    eventually(lambda: _describe(cloud, f"fleet-{engine}")["IAMDatabaseAuthenticationEnabled"])
    assert _describe(cloud, f"fleet-{engine}").get("PendingModifiedValues", {}) == {}
    _make_iam_user(cloud, instance)

    arn = f"arn:aws:rds-db:{cloud.region}:123456789012:dbuser:{instance['DbiResourceId']}/app"
    allowed, stranger = _role(cloud, arn), _role(cloud, None)
    assert _log_in(cloud, instance, allowed) == "app"
    with pytest.raises((psycopg.OperationalError, pymysql.err.OperationalError)):
        _log_in(cloud, instance, stranger)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_master_s_password_can_be_changed(cloud: RunningCloud, eventually: Eventually, engine: str) -> None:
    identifier, rds, first, second = f"own-{engine}", cloud.client("rds"), *[secrets.token_hex(16) for _ in range(2)]
    rds.create_db_instance(
        DBInstanceIdentifier=identifier, DBInstanceClass=CLASS, Engine=engine, AllocatedStorage=20,
        MasterUsername="boss", MasterUserPassword=first, EnableIAMDatabaseAuthentication=True,
    )  # fmt: skip
    with pytest.raises(ClientError, match="InvalidDBInstanceState"):
        rds.modify_db_instance(DBInstanceIdentifier=identifier, BackupRetentionPeriod=3)
    eventually(lambda: _status(cloud, identifier) == "available")
    instance = _describe(cloud, identifier)
    assert instance["IAMDatabaseAuthenticationEnabled"]
    assert "MasterUserSecret" not in instance
    _connect(cloud, instance, "boss", first).close()
    rds.modify_db_instance(DBInstanceIdentifier=identifier, MasterUserPassword=second)
    eventually(lambda: "MasterUserPassword" not in _describe(cloud, identifier).get("PendingModifiedValues", {}))
    _connect(cloud, instance, "boss", second).close()
    with pytest.raises((psycopg.OperationalError, pymysql.err.OperationalError)):
        _connect(cloud, instance, "boss", first)
    rds.delete_db_instance(DBInstanceIdentifier=identifier, SkipFinalSnapshot=True)
    eventually(lambda: _is_gone(cloud, identifier))


def test_an_engine_without_a_server_is_in_describe_only(cloud: RunningCloud, eventually: Eventually) -> None:
    rds = cloud.client("rds")
    rds.create_db_instance(
        DBInstanceIdentifier="ora", DBInstanceClass=CLASS, Engine="oracle-ee", AllocatedStorage=20,
        MasterUsername="boss", MasterUserPassword=secrets.token_hex(8),
    )  # fmt: skip
    eventually(lambda: _status(cloud, "ora") == "available")
    rds.delete_db_instance(DBInstanceIdentifier="ora", SkipFinalSnapshot=True)
    eventually(lambda: _is_gone(cloud, "ora"))


def _is_gone(cloud: RunningCloud, identifier: str) -> bool:
    try:
        _describe(cloud, identifier)
    except ClientError as error:
        return error.response["Error"]["Code"] in ("DBInstanceNotFound", "DBInstanceNotFoundFault")
    return False


def _secret(cloud: RunningCloud, instance: dict[str, Any]) -> dict[str, str]:
    value = cloud.client("secretsmanager").get_secret_value(SecretId=instance["MasterUserSecret"]["SecretArn"])
    return dict(json.loads(value["SecretString"]))


def _make_iam_user(cloud: RunningCloud, instance: dict[str, Any]) -> None:
    master = _secret(cloud, instance)
    with _connect(cloud, instance, master["username"], master["password"]) as connection, connection.cursor() as cursor:
        if instance["Engine"] == "postgres":
            cursor.execute("CREATE USER app")
            cursor.execute("GRANT rds_iam TO app")
            connection.commit()
        else:
            cursor.execute("CREATE USER app@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL")


def _log_in(cloud: RunningCloud, instance: dict[str, Any], role: str) -> str:
    session = cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="app")["Credentials"]
    endpoint = instance["Endpoint"]
    token = cloud.client("rds", session).generate_db_auth_token(endpoint["Address"], endpoint["Port"], "app")
    with _connect(cloud, instance, "app", token) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        return str(cursor.fetchone()[0]).split("@")[0]


def _connect(cloud: RunningCloud, instance: dict[str, Any], user: str, password: str) -> Any:
    endpoint = instance["Endpoint"]
    if instance["Engine"] == "postgres":
        return psycopg.connect(
            host=endpoint["Address"], port=endpoint["Port"], user=user, password=password, dbname="postgres",
            sslmode="verify-full", sslrootcert=str(cloud.ca), connect_timeout=5,
        )  # fmt: skip
    return pymysql.connect(
        host=endpoint["Address"], port=endpoint["Port"], user=user, password=password, ssl_ca=str(cloud.ca),
        ssl_verify_cert=True, ssl_verify_identity=True, connect_timeout=5,
    )  # fmt: skip


def _role(cloud: RunningCloud, resource: str | None) -> str:
    trust = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "sts:AssumeRole"}
    ]}  # fmt: skip
    name, iam = f"fleet-{time.monotonic_ns()}", cloud.client("iam")
    arn = str(iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"])
    if resource is not None:
        allow = {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "rds-db:connect", "Resource": resource}
        ]}  # fmt: skip
        iam.put_role_policy(RoleName=name, PolicyName="connect", PolicyDocument=json.dumps(allow))
    return arn
