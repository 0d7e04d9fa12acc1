"""RDS's events: their numbers and messages, and their publication on the event bus. moto publishes none.

Source: "Amazon RDS event categories and event messages", in the user guides of Amazon RDS and of Aurora.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moto.events.models import events_backends


@dataclass(frozen=True)
class Event:
    """A kind of event; `message` may have the names that `publish` is given."""

    number: str
    category: str
    message: str


INSTANCE_DELETED = Event("0003", "deletion", "DB instance deleted")
INSTANCE_SHUT_DOWN = Event("0004", "availability", "DB instance shutdown")
INSTANCE_CREATED = Event("0005", "creation", "DB instance created")
INSTANCE_RESTARTED = Event("0006", "availability", "DB instance restarted")
CLASS_CHANGING = Event("0012", "configuration change", "Applying modification to database instance class")
CLASS_CHANGED = Event("0014", "configuration change", "Finished applying modification to DB instance class")
PASSWORD_RESET = Event("0016", "configuration change", "Reset master credentials")
REPLICA_WAITS_FOR_SOURCE = Event(
    "0398", "maintenance", "Waiting for the DB engine version upgrade to finish on the primary DB instance."
)
SOURCE_WAITS_FOR_REPLICAS = Event(
    "0399", "maintenance", "Waiting for the DB engine version upgrade to finish on the read replicas."
)
RESTORED_IN_TIME = Event("0019", "restoration", "Restored from DB instance {source} to {target}")
SNAPSHOT_CREATED = Event("0042", "creation", "Manual snapshot created")
RESTORED_FROM_SNAPSHOT = Event("0043", "restoration", "Restored from snapshot {source}")
REPLICATION_RESUMED = Event("0046", "read replica", "Replication for the Read Replica resumed")
REPLICATION_ENDED = Event("0057", "read replica", "Replication streaming has been terminated")
INSTANCE_STOPPED = Event("0087", "notification", "DB instance stopped")
INSTANCE_STARTED = Event("0088", "notification", "DB instance started")
FAILOVER_FAILED = Event(
    "0069", "failover", "Cluster failover failed, check the health of your cluster instances and try again"
)
FAILOVER_COMPLETED = Event("0071", "failover", "Completed failover to DB instance: {target}")
FAILOVER_STARTED = Event("0073", "failover", "Started cross AZ failover to DB instance: {target}")
CLUSTER_STOPPED = Event("0150", "notification", "DB cluster stopped")
CLUSTER_STARTED = Event("0151", "notification", "DB cluster started")
CLUSTER_CREATED = Event("0170", "creation", "DB cluster created")
CLUSTER_DELETED = Event("0171", "deletion", "DB cluster deleted")
PROXY_CREATED = Event("0203", "creation", "RDS created DB proxy {source}")
PROXY_MODIFIED = Event("0204", "configuration change", "RDS modified DB proxy {source}")
PROXY_DELETED = Event("0205", "deletion", "RDS deleted DB proxy {source}")


@dataclass(frozen=True)
class UpgradeEvents:
    """The events of a major upgrade, of instances or of clusters."""

    checking: Event
    checked: Event
    started: Event
    finishing: Event
    finished: Event
    failed: Event


INSTANCE_UPGRADE = UpgradeEvents(
    Event("0264", "maintenance", "The pre-check started for the DB engine version upgrade."),
    Event("0265", "maintenance", "The pre-check finished for the DB engine version upgrade."),
    Event("0267", "maintenance", "The engine version upgrade started."),
    Event("0269", "maintenance", "The post-upgrade tasks are in progress."),
    Event("0268", "maintenance", "The engine version upgrade finished."),
    Event(
        "0270", "maintenance", "The DB engine version upgrade failed. The engine version upgrade rollback succeeded."
    ),
)
CLUSTER_UPGRADE = UpgradeEvents(
    Event("0410", "maintenance", "The pre-check started for the database cluster engine version upgrade."),
    Event("0411", "maintenance", "The pre-check finished for the database cluster engine version upgrade."),
    Event("0417", "maintenance", "Database cluster engine version upgrade started."),
    Event("0414", "maintenance", "The DB cluster post-upgrade tasks are in progress."),
    Event("0176", "maintenance", "Database cluster engine major version has been upgraded."),
    Event("0412", "maintenance", "The pre-check for the database cluster engine version upgrade failed or timed out."),
)
DOWNTIME_STARTED = Event("0266", "maintenance", "The downtime started for the DB instance.")
INSTANCE_PATCHED = Event("0047", "maintenance", "Database instance patched.")
CLUSTER_PATCHED = Event("0173", "maintenance", "Database cluster engine version has been upgraded.")

# By moto's name of the resource type: its name in the event, and the detail-type.
_SOURCES = {
    "db": ("DB_INSTANCE", "RDS DB Instance Event"),
    "cluster": ("CLUSTER", "RDS DB Cluster Event"),
    "snapshot": ("SNAPSHOT", "RDS DB Snapshot Event"),
    "db-proxy": ("DB_PROXY", "RDS DB Proxy Event"),
}


def publish(resource: Any, event: Event, **names: str) -> None:
    """Put an event about one of moto's resources on the default bus."""
    source_type, detail_type = _SOURCES[resource.resource_type]
    detail = {
        "EventCategories": [event.category],
        "SourceType": source_type,
        "SourceArn": resource.arn,
        "Date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        "Message": event.message.format(**names),
        "SourceIdentifier": getattr(resource, "db_proxy_name", resource.resource_id),
        "EventID": f"RDS-EVENT-{event.number}",
        "Tags": {tag["Key"]: tag["Value"] for tag in resource.tags},
    }
    events_backends[resource.account_id][resource.region].put_events([{
        "Source": "aws.rds", "DetailType": detail_type, "Resources": [resource.arn], "Detail": json.dumps(detail),
    }])  # fmt: skip
