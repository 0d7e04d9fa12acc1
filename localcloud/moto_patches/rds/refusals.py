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


def invalid_state(message: str) -> Exception:
    """Return the error for an instance whose state doesn't allow the call."""
    return _error("InvalidDBInstanceState", message)


def invalid_cluster_state(message: str) -> Exception:
    """Return the error for a cluster whose state doesn't allow the call."""
    return _error("InvalidDBClusterStateFault", message)


def invalid_combination(message: str) -> Exception:
    """Return the error for parameters that don't go together, or not with the resource."""
    return _error("InvalidParameterCombination", message)


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
