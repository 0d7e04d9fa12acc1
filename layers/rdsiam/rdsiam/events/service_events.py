"""Events of RDS, S3 and the schedules, each of which becomes exactly one request to another function.

Whoever can write EventBridge rules can send any payload, so only the exact shapes are accepted. Of an event only the
ARN of a database and the event's number reach a request. Fields of `detail` that AWS may add are ignored.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rdsiam.errors import InvalidRequest

#: Events of RDS after which a database is onboarded. What there is to do is read from Describe, not from the event.
ONBOARDED_AFTER: Mapping[str, str] = {
    "RDS-EVENT-0003": "instance deleted",
    "RDS-EVENT-0005": "instance created",
    "RDS-EVENT-0019": "restored to a point in time",
    "RDS-EVENT-0043": "restored from a snapshot",
    "RDS-EVENT-0046": "read replica created",
    "RDS-EVENT-0047": "instance patched",
    "RDS-EVENT-0057": "read replica promoted",
    "RDS-EVENT-0062": "replication stopped by hand",
    "RDS-EVENT-0088": "instance started",
    "RDS-EVENT-0151": "cluster started",
    "RDS-EVENT-0170": "cluster created",
    "RDS-EVENT-0171": "cluster deleted",
    "RDS-EVENT-0172": "cluster renamed",
    "RDS-EVENT-0173": "minor version of a cluster upgraded",
    "RDS-EVENT-0176": "major version of a cluster upgraded",
    "RDS-EVENT-0203": "proxy created",
    "RDS-EVENT-0204": "proxy modified",
    "RDS-EVENT-0205": "proxy deleted",
    "RDS-EVENT-0268": "instance upgraded",
    "RDS-EVENT-0290": "cluster patched",
}
#: Events of blue/green deployments after which the fleet is reconciled: databases have exchanged their names, and the
#: event names none of them.
RECONCILED_AFTER: Mapping[str, str] = {
    "RDS-EVENT-0251": "instances switched over",
    "RDS-EVENT-0260": "cluster switched over",
}
#: Events of RDS that no onboarding resolves: they are published and reported.
NOTICES: Mapping[str, str] = {
    "RDS-EVENT-0016": "master password reset",
    "RDS-EVENT-0327": "secret not found",
    "RDS-EVENT-0403": "memory critically low, buffer pool cut",
    "RDS-EVENT-0404": "memory critically low, shared buffers cut",
}
_SWITCHOVER = "RDS Blue Green Deployment Event"
#: The resource type in `SourceArn`, by `detail-type`.
RESOURCE_TYPES: Mapping[str, str] = {
    "RDS DB Instance Event": "db",
    "RDS DB Cluster Event": "cluster",
    "RDS DB Proxy Event": "db-proxy",
    _SWITCHOVER: "deployment",
}
_ENVELOPE = {"version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"}
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_IDENTIFIER = r"[A-Za-z0-9:._-]{1,255}"


@dataclass(frozen=True)
class EventSources:
    """The only sources of events that EventsFunction accepts.

    :ivar access_bucket: name of the bucket that holds access.yaml.
    :ivar reconcile_rule: ARN of the rule whose schedule starts a reconcile.
    :ivar audit_rule: ARN of the rule whose schedule starts an audit.
    """

    access_bucket: str
    reconcile_rule: str
    audit_rule: str


@dataclass(frozen=True)
class EventRequest:
    """A request that an event asks for.

    :ivar event: id of the event.
    :ivar function: the function that gets the request.
    :ivar payload: the request.
    """

    event: str
    function: Literal["onboard", "audit"]
    payload: Mapping[str, Any]

    @property
    def execution_name(self) -> str:
        """Name of the durable execution: an event that is delivered twice starts one execution."""
        return f"event-{self.event}"


def event_request(event: Any, sources: EventSources) -> EventRequest:
    """Read an event of RDS, S3's event of a new access.yaml, or the event of a schedule.

    :raises InvalidRequest: naming the field; the event is refused.
    """
    if not isinstance(event, Mapping):
        raise InvalidRequest("event", "must be a JSON object")
    for name in sorted(set(map(str, event)) ^ _ENVELOPE):
        raise InvalidRequest(name if name in _ENVELOPE else "event", "must have exactly the fields of an event")
    partition, region, account = _place(sources.reconcile_rule)
    for name, expected in (("account", account), ("region", region)):
        if event[name] != expected:
            raise InvalidRequest(name, "must be that of this stack")
    if not isinstance(event["id"], str) or _ID.fullmatch(event["id"]) is None:
        raise InvalidRequest("id", "must be the id of an event")
    if not isinstance(event["detail"], Mapping):
        raise InvalidRequest("detail", "must be a JSON object")
    match event["source"]:
        case "aws.rds":
            return EventRequest(event["id"], "onboard", _after(event, f"arn:{partition}:rds:{region}:{account}"))
        case "aws.s3":
            _check_access_changed(event, sources.access_bucket)
            return EventRequest(event["id"], "onboard", {"reconcile": True})
        case "aws.events":
            return _scheduled(event, sources)
        case _:
            raise InvalidRequest("source", "must be aws.rds, aws.s3 or aws.events")


def _place(rule: str) -> tuple[str, str, str]:
    """Return partition, region and account of a rule's ARN."""
    _, partition, _, region, account, _ = rule.split(":", 5)
    return partition, region, account


def _after(event: Mapping[str, Any], prefix: str) -> Mapping[str, Any]:
    """Return the request that an event of RDS asks for."""
    kind = event["detail-type"]
    if not isinstance(kind, str) or kind not in RESOURCE_TYPES:
        raise InvalidRequest("detail-type", "must be of an instance, a cluster, a proxy or a blue/green deployment")
    number = event["detail"].get("EventID")
    numbers = RECONCILED_AFTER if kind == _SWITCHOVER else {**ONBOARDED_AFTER, **NOTICES}
    if not isinstance(number, str) or number not in numbers:
        raise InvalidRequest("detail.EventID", "must be an event that rdsiam applies")
    arn = event["detail"].get("SourceArn")
    expected = rf"{re.escape(prefix)}:{RESOURCE_TYPES[kind]}:{_IDENTIFIER}"
    if not isinstance(arn, str) or re.fullmatch(expected, arn) is None:
        raise InvalidRequest("detail.SourceArn", "must be an ARN of the event's kind, in this account and region")
    if kind == _SWITCHOVER:
        return {"reconcile": True}
    return {"database": arn, "notice": number} if number in NOTICES else {"database": arn}


def _check_access_changed(event: Mapping[str, Any], access_bucket: str) -> None:
    if event["detail-type"] != "Object Created":
        raise InvalidRequest("detail-type", "must be Object Created")
    bucket, stored = event["detail"].get("bucket"), event["detail"].get("object")
    if not isinstance(bucket, Mapping) or bucket.get("name") != access_bucket:
        raise InvalidRequest("detail.bucket", "must be the bucket of access.yaml")
    if not isinstance(stored, Mapping) or stored.get("key") != "access.yaml":
        raise InvalidRequest("detail.object", "must be access.yaml")


def _scheduled(event: Mapping[str, Any], sources: EventSources) -> EventRequest:
    if event["detail-type"] != "Scheduled Event":
        raise InvalidRequest("detail-type", "must be Scheduled Event")
    if event["detail"]:
        raise InvalidRequest("detail", "must be empty")
    if event["resources"] == [sources.reconcile_rule]:
        return EventRequest(event["id"], "onboard", {"reconcile": True})
    if event["resources"] == [sources.audit_rule]:
        return EventRequest(event["id"], "audit", {})
    raise InvalidRequest("resources", "must be one of the two schedules of this stack")
