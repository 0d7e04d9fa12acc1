"""Databases and entries of access.yaml that a file of tests made: they go with it.

A database that stays is compared by each later reconcile, read by each later audit, and onboarded anew when its entry
has changed: files that come later would pay for it.
"""

import contextlib
import json
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from tests.integration.account import Account, until


@dataclass(frozen=True)
class Inventory:
    """Names of the entries and identifiers of the databases that exist at one time."""

    entries: frozenset[str]
    instances: frozenset[str]
    clusters: frozenset[str]

    @classmethod
    def of(cls, account: Account) -> "Inventory":
        """List what exists now."""
        return cls(
            frozenset(account.entries),
            frozenset(each["DBInstanceIdentifier"] for each in instances(account)),
            frozenset(each["DBClusterIdentifier"] for each in clusters(account)),
        )


def instances(account: Account) -> list[dict[str, Any]]:
    """Return the instances of the account, as RDS describes them."""
    pages = account.cloud.client("rds").get_paginator("describe_db_instances").paginate()
    return [each for page in pages for each in page["DBInstances"]]


def clusters(account: Account) -> list[dict[str, Any]]:
    """Return the clusters of the account."""
    pages = account.cloud.client("rds").get_paginator("describe_db_clusters").paginate()
    return [each for page in pages for each in page["DBClusters"]]


def remove(account: Account, before: Inventory) -> None:
    """Remove what did not exist before, except what files share; the event of a deletion ends the database's record."""
    after = Inventory.of(account)
    entries = after.entries - before.entries - account.shared
    for name in entries:
        del account.entries[name]
    if entries:
        account.publish_entries()
    _delete_instances(account, after.instances - before.instances - account.shared)
    _delete_clusters(account, after.clusters - before.clusters - account.shared)


def _delete_instances(account: Account, names: Set[str]) -> None:
    """Delete instances one after the other, so that one environment of each function has them forgotten."""
    rds, made = (
        account.cloud.client("rds"),
        [each for each in instances(account) if each["DBInstanceIdentifier"] in names],
    )
    for each in sorted(made, key=lambda each: "ReadReplicaSourceDBInstanceIdentifier" not in each):  # replicas first
        name = each["DBInstanceIdentifier"]
        remember_password(account, name, each)
        if each["DBInstanceStatus"] != "deleting":
            rds.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
        until(lambda name=name: name not in Inventory.of(account).instances, 60)
        until(lambda arn=each["DBInstanceArn"]: account.record(arn) is None, 60)


def _delete_clusters(account: Account, names: Set[str]) -> None:
    """Delete clusters, whose members are gone."""
    rds, made = (
        account.cloud.client("rds"),
        [each for each in clusters(account) if each["DBClusterIdentifier"] in names],
    )
    for each in made:
        name = each["DBClusterIdentifier"]
        remember_password(account, name, each)
        if each["Status"] != "deleting":
            rds.delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True)
        until(lambda name=name: name not in Inventory.of(account).clusters, 60)
        until(lambda arn=each["DBClusterArn"]: account.record(arn) is None, 60)


def remember_password(account: Account, identifier: str, described: dict[str, Any]) -> None:
    """Keep the master's password of a database for the test that looks for secrets at the end."""
    if described.get("MasterUserSecret"):
        secrets = account.cloud.client("secretsmanager")
        # A database that its own file is deleting may have lost its secret by now.
        with contextlib.suppress(secrets.exceptions.ResourceNotFoundException):
            value = secrets.get_secret_value(SecretId=described["MasterUserSecret"]["SecretArn"])["SecretString"]
            account.passwords[f"the master's password of {identifier}"] = json.loads(value)["password"]
