"""Refusals of RDS that moto doesn't have: of passwords, and of calls that a resource's state or kind rules out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moto.rds.exceptions import RDSClientError

# Settings of the cluster, which its members don't have, by moto's names.
_OF_THE_CLUSTER = {
    "enable_iam_database_authentication": "EnableIAMDatabaseAuthentication",
    "master_user_password": "MasterUserPassword",
    "manage_master_user_password": "ManageMasterUserPassword",
    "master_username": "MasterUsername",
    "allocated_storage": "AllocatedStorage",
    "backup_retention_period": "BackupRetentionPeriod",
    "storage_encrypted": "StorageEncrypted",
}

_FIRST_PORT, _LAST_PORT = 1150, 65535


def invalid_state(message: str) -> Exception:
    """Return the error for an instance whose state doesn't allow the call."""
    return _error("InvalidDBInstanceState", message)


def invalid_cluster_state(message: str) -> Exception:
    """Return the error for a cluster whose state doesn't allow the call."""
    return _error("InvalidDBClusterStateFault", message)


def invalid_combination(message: str) -> Exception:
    """Return the error for parameters that don't go together, or not with the resource."""
    return _error("InvalidParameterCombination", message)


def check_port(port: int | None) -> None:
    # AWS: ports from 1150 on. moto: any.
    if port is not None and not _FIRST_PORT <= int(port) <= _LAST_PORT:
        raise _error("InvalidParameterValue", f"Invalid port: {port}. Valid: {_FIRST_PORT} to {_LAST_PORT}.")


def check_same_port(resource: Any, port: int | None) -> None:
    # AWS: moves to the port with a restart. moto: says it, of a cluster; nothing would listen there.
    check_port(port)
    if port is not None and int(port) != int(resource.port):
        raise _error("InvalidParameterValue", "The port of a database can't be changed in localcloud.")


def check_available(instance: Any) -> None:
    # AWS: an instance that is being created, saved or deleted can't be modified. moto: it can.
    if instance.status != "available":
        raise invalid_state(f"Database instance is not in available state: {instance.db_instance_identifier}.")


def check_cluster_available(cluster: Any) -> None:
    if cluster.status != "available":
        raise invalid_cluster_state(f"DbCluster {cluster.resource_id} is in {cluster.status} state.")


def check_cluster_runs(cluster: Any) -> None:
    # AWS: a stopped cluster has to be started before it or a member is deleted. moto: deletes them.
    if cluster.status in ("stopping", "stopped"):
        raise invalid_cluster_state(f"Db cluster {cluster.resource_id} is in {cluster.status} state")


def check_member(request: Mapping[str, Any]) -> None:
    """Check that a call sets none of the cluster's settings on a member."""
    given = [name for key, name in _OF_THE_CLUSTER.items() if request.get(key) is not None]
    if given:
        raise invalid_combination(
            f"The requested DB Instance will be a member of a DB Cluster. Set {given[0]} for the DB Cluster."
        )


def check_joinable(cluster: Any) -> None:
    if cluster.db_cluster_instance_class and not cluster.local_filling:
        raise invalid_combination(f"{cluster.resource_id} is a Multi-AZ DB cluster: RDS makes its instances.")
    if cluster.status in ("stopping", "stopped", "deleting"):
        raise invalid_cluster_state(f"DbCluster {cluster.resource_id} is in {cluster.status} state.")


def check_member_version(cluster: Any, requested: str | None) -> None:
    # AWS: a member has its cluster's version. moto: any.
    if requested is not None and requested != cluster.engine_version:
        raise invalid_combination(
            f"The engine version that you requested for your DB instance ({requested}) does not match the engine "
            f"version of your DB cluster ({cluster.engine_version})."
        )


def check_upgradable(instance: Any) -> None:
    # AWS: members are upgraded with their cluster, and replicas with their source. moto: each by itself.
    if instance.is_replica:
        raise invalid_combination(f"{instance.resource_id} is a read replica; upgrade its source.")
    if instance.db_cluster_identifier is not None:
        raise invalid_combination(
            "The specified DB Instance is a member of a cluster. Modify the DB engine version for the DB Cluster using "
            "the ModifyDbCluster API"
        )


def check_has_members(cluster: Any) -> None:
    # AWS: an engine is upgraded on the members' servers. moto: an upgrade changes a word.
    if not cluster.members:
        raise invalid_cluster_state(f"DbCluster {cluster.resource_id} has no DB instances to upgrade.")


def check_group_fits(group: Any, family: str | None) -> None:
    """Check that a parameter group is of the family of an engine version, if both are known."""
    if group is not None and family is not None and group.family != family and not group.name.startswith("default."):
        raise invalid_combination(
            f"The parameter group {group.name} with DBParameterGroupFamily {group.family} can't be used for this "
            f"instance. Please use a parameter group with DBParameterGroupFamily {family}"
        )


def check_no_replica(instance: Any, parameter: str) -> None:
    if instance.is_replica:
        raise invalid_combination(f"{parameter} can't be changed on a read replica; change it on its source.")


def check_stoppable(instance: Any) -> None:
    # AWS: neither members nor replicas and their sources can be stopped. moto: looks at replicas only.
    if instance.db_cluster_identifier is not None:
        raise invalid_combination(f"{instance.engine} DB instances are not eligible for stopping and starting.")
    if instance.is_replica or instance.replicas:
        raise invalid_state(f"{instance.db_instance_identifier} has a read replica or is one, and can't be stopped.")
    check_available(instance)


def check_startable(instance: Any) -> None:
    if instance.db_cluster_identifier is not None:
        raise invalid_combination(f"{instance.engine} DB instances are not eligible for stopping and starting.")
    if instance.status != "stopped":
        raise invalid_state(f"Instance {instance.db_instance_identifier} is not stopped: it is {instance.status}.")


def check_master_type(engine: str, kind: str | None, *, iam: bool, password: str | None, managed: bool | None) -> bool:
    """Check MasterUserAuthenticationType; return whether it makes the master an IAM user."""
    # AWS: PostgreSQL's master may be an IAM user. moto: does not know the parameter.
    if kind is None:
        return False
    if kind not in {"password", "iam-db-auth"}:
        raise _error("InvalidParameterValue", f"Invalid value for MasterUserAuthenticationType: {kind}.")
    if engine not in {"postgres", "aurora-postgresql"}:
        raise invalid_combination(f"MasterUserAuthenticationType is not supported for engine {engine}.")
    if kind == "password":
        return False
    if password or managed:
        given = "MasterUserPassword" if password else "ManageMasterUserPassword"
        raise invalid_combination(f"You can't specify {given} with MasterUserAuthenticationType iam-db-auth.")
    if not iam:
        raise invalid_combination("MasterUserAuthenticationType iam-db-auth requires IAM database authentication.")
    return True


def check_master_stays(resource: Any, *, iam: bool | None, managed: bool | None) -> None:
    """Check a change of a resource whose master is an IAM user."""
    if resource.local_master_iam and iam is False:
        raise invalid_combination("IAM database authentication can't be disabled while the master user depends on it.")
    if resource.local_master_iam and managed:
        raise invalid_combination(
            "You can't specify ManageMasterUserPassword with MasterUserAuthenticationType iam-db-auth."
        )


def check_password(password: str | None, *, managed: bool | None) -> None:
    # AWS: exactly one password, of 8 or more characters without / " @ and space. moto: takes anything.
    if managed and password:
        raise invalid_combination(
            "You can't specify MasterUserPassword for an instance with ManageMasterUserPassword enabled."
        )
    if not managed and not password:
        raise _error("InvalidParameterValue", "The parameter MasterUserPassword must be provided.")
    if password and (len(password) < 8 or set('/"@ ') & set(password) or not password.isprintable()):
        raise _error(
            "InvalidParameterValue",
            "The parameter MasterUserPassword is not a valid password. Only printable ASCII "
            "characters besides '/', '@', '\"', ' ' may be used, at least 8 of them.",
        )


def _error(code: str, message: str) -> Exception:
    error: Exception = RDSClientError(code, message)
    return error
