"""Parameter groups through boto3: what they set is so in the database, and binds who logs in."""

from typing import Any

import psycopg
import pytest
from botocore.exceptions import ClientError

from tests.integration.databases import REFUSED, Databases
from tests.kinds import needs_mysql

# Engine, family, version, parameter, what is shown when it is on and when it is off.
CASES = {
    "postgres": ("postgres18", "18.1", "rds.force_ssl", "1", "0"),
    "mariadb": ("mariadb10.11", "10.11.11", "require_secure_transport", "ON", "OFF"),
    "mysql": ("mysql8.4", "8.4.7", "require_secure_transport", "ON", "OFF"),
}


@pytest.mark.exhaustive_on("mysql")
@pytest.mark.parametrize("engine", CASES)
def test_tls_is_enforced_as_the_parameter_group_says(databases, engine):
    family, version, parameter, on, off = CASES[engine]
    rds, name = databases.rds, f"tls-{engine}"
    rds.create_db_parameter_group(DBParameterGroupName=name, DBParameterGroupFamily=family, Description="mine")
    _set(databases, name, parameter, "1", "immediate")
    databases.make(name, engine, EngineVersion=version, DBParameterGroupName=name, EnableIAMDatabaseAuthentication=True)
    databases.available(name)
    instance = databases.instance(name)
    password = databases.password(instance)
    assert _shown(databases, instance, parameter) == on
    with pytest.raises(REFUSED):
        databases.connect(instance, "boss", password, tls=False)

    _set(databases, name, parameter, "0", "pending-reboot")
    assert _shown(databases, instance, parameter) == on
    rds.reboot_db_instance(DBInstanceIdentifier=name)
    databases.available(name)
    assert _shown(databases, instance, parameter) == off
    databases.connect(instance, "boss", password, tls=False).connection.close()

    _set(databases, name, parameter, "1", "immediate")
    databases.eventually(lambda: _shown(databases, instance, parameter) == on)
    databases.drop(name)


@needs_mysql
@pytest.mark.exhaustive  # test_servers.py shows what the parameters do
def test_mysql_has_partial_revokes_and_the_case_of_names_as_the_parameter_group_says(databases):
    name = "names-mysql"
    databases.rds.create_db_parameter_group(
        DBParameterGroupName=name, DBParameterGroupFamily="mysql8.4", Description="mine"
    )
    _set(databases, name, "partial_revokes", "0", "pending-reboot")
    _set(databases, name, "lower_case_table_names", "1", "pending-reboot")
    databases.make(name, "mysql", DBParameterGroupName=name)
    databases.available(name)
    instance = databases.instance(name)
    assert _shown(databases, instance, "partial_revokes") == "OFF"
    assert _shown(databases, instance, "lower_case_table_names") == "1"
    _set(databases, name, "partial_revokes", "1", "pending-reboot")
    databases.rds.reboot_db_instance(DBInstanceIdentifier=name)
    databases.available(name)
    assert _shown(databases, instance, "partial_revokes") == "ON"
    databases.drop(name)


def test_tokens_need_tls_in_any_case(databases):
    databases.make("old-pg", "postgres", EngineVersion="14.19", EnableIAMDatabaseAuthentication=True)
    databases.available("old-pg")
    instance = databases.instance("old-pg")
    assert _shown(databases, instance, "rds.force_ssl") == "0", "the default before 15"
    with databases.as_master(instance) as master:
        databases.make_iam_user(master)
    databases.by_token(instance, "app", instance["DbiResourceId"]).connection.close()
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        databases.connect(instance, "app", "any token", tls=False)
    databases.drop("old-pg")


def test_a_cluster_has_its_own_kind_of_group(databases):
    rds, name = databases.rds, "tls-cluster"
    rds.create_db_cluster_parameter_group(
        DBClusterParameterGroupName=name, DBParameterGroupFamily="aurora-postgresql17", Description="mine"
    )
    databases.make_cluster(name, "aurora-postgresql", members=1, DBClusterParameterGroupName=name)
    databases.available(f"{name}-1")
    cluster = databases.cluster(name)
    assert (cluster["DBClusterParameterGroup"], _shown(databases, cluster, "rds.force_ssl")) == (name, "1")
    rds.modify_db_cluster_parameter_group(
        DBClusterParameterGroupName=name,
        Parameters=[{"ParameterName": "rds.force_ssl", "ParameterValue": "0", "ApplyMethod": "immediate"}],
    )
    databases.eventually(lambda: _shown(databases, cluster, "rds.force_ssl") == "0")
    databases.drop(f"{name}-1")
    rds.delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True)


def test_default_groups_stay_as_they_are(databases):
    with pytest.raises(ClientError, match="InvalidDBParameterGroupState"):
        _set(databases, "default.postgres18", "rds.force_ssl", "0", "immediate")


def _set(databases: Databases, group: str, name: str, value: str, method: str) -> None:
    parameter = {"ParameterName": name, "ParameterValue": value, "ApplyMethod": method}
    databases.rds.modify_db_parameter_group(DBParameterGroupName=group, Parameters=[parameter])


def _shown(databases: Databases, described: dict[str, Any], parameter: str) -> str:
    with databases.as_master(described) as master:
        if "postgres" in described["Engine"]:
            return str(master.run(f"SHOW {parameter}")[0][0])
        return str(master.run(f"SHOW GLOBAL VARIABLES LIKE '{parameter}'")[0][1])
