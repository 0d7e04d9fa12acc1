"""The databases that a cloud is started with, created through the API like any other."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from localcloud.settings import DatabaseRequest
from localcloud.start_failures import StartFailed

MASTER = "dbadmin"
_CLASS = "db.t4g.medium"
_LIMIT = 90.0


def _in_the_log(_: str) -> str:
    return "see the log of localcloud"


def make(
    client: Callable[[str], Any],
    requests: Iterable[DatabaseRequest],
    ca: Path,
    failure_of: Callable[[str], str] = _in_the_log,
    check: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Create databases and return them as `python -m localcloud` prints them; an Aurora database is a cluster.

    :param client: makes clients of AWS's services.
    :param failure_of: returns the reason why the database of an identifier failed.
    :param check: called while a database is waited for; what it raises ends the waiting.
    :raises StartFailed: a database has not become available within 90 s.
    """
    databases = list(requests)
    if not databases:
        return []
    rds, secrets = client("rds"), client("secretsmanager")
    for database in databases:
        (_create_cluster if _is_cluster(database) else _create_instance)(rds, database)
    return [_as_printed(_wait_for(rds, database, failure_of, check), secrets, ca) for database in databases]


def _is_cluster(database: DatabaseRequest) -> bool:
    return database.engine.startswith("aurora-")


def _create_instance(rds: Any, database: DatabaseRequest) -> None:
    rds.create_db_instance(
        DBInstanceIdentifier=database.identifier,
        DBInstanceClass=_CLASS,
        Engine=database.engine,
        MasterUsername=MASTER,
        ManageMasterUserPassword=True,
        AllocatedStorage=20,
        **({"DBName": database.name} if database.name else {}),
    )


def _create_cluster(rds: Any, database: DatabaseRequest) -> None:
    rds.create_db_cluster(
        DBClusterIdentifier=database.identifier,
        Engine=database.engine,
        MasterUsername=MASTER,
        ManageMasterUserPassword=True,
        **({"DatabaseName": database.name} if database.name else {}),
    )
    rds.create_db_instance(
        DBInstanceIdentifier=f"{database.identifier}-1",
        DBInstanceClass=_CLASS,
        Engine=database.engine,
        DBClusterIdentifier=database.identifier,
    )


def _wait_for(
    rds: Any, database: DatabaseRequest, failure_of: Callable[[str], str], check: Callable[[], None]
) -> dict[str, Any]:
    """Return the description of a database as soon as the instance or the cluster's writer is available."""
    deadline = time.monotonic() + _LIMIT
    writer = f"{database.identifier}-1" if _is_cluster(database) else database.identifier
    while True:
        check()
        instance: dict[str, Any] = rds.describe_db_instances(DBInstanceIdentifier=writer)["DBInstances"][0]
        if instance["DBInstanceStatus"] == "available":
            break
        if instance["DBInstanceStatus"] == "failed" or time.monotonic() > deadline:
            failure = failure_of(database.identifier) or f"it was not available within {_LIMIT:.0f} s"
            raise StartFailed(f"database {database.identifier} is {instance['DBInstanceStatus']}: {failure}")
        time.sleep(0.1)
    if not _is_cluster(database):
        return instance
    return dict(rds.describe_db_clusters(DBClusterIdentifier=database.identifier)["DBClusters"][0])


def _as_printed(described: dict[str, Any], secrets: Any, ca: Path) -> dict[str, Any]:
    secret = secrets.get_secret_value(SecretId=described["MasterUserSecret"]["SecretArn"])
    cluster = "DBClusterArn" in described
    return {
        "identifier": described["DBClusterIdentifier" if cluster else "DBInstanceIdentifier"],
        "arn": described["DBClusterArn" if cluster else "DBInstanceArn"],
        "engine": described["Engine"],
        "host": described["Endpoint"] if cluster else described["Endpoint"]["Address"],
        "port": described["Port"] if cluster else described["Endpoint"]["Port"],
        "ca": str(ca),
        "master_user": MASTER,
        "master_password": json.loads(secret["SecretString"])["password"],
    }
