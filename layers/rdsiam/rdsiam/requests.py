"""What the functions are asked, checked field by field; errors name the field and never repeat its value."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rdsiam.errors import InvalidRequest

#: The events that start an onboarding: created, deleted. All others that come are ignored.
CREATED, DELETED = "RDS-EVENT-0005", "RDS-EVENT-0003"
_ARN = re.compile(r"arn:aws[a-z-]{0,12}:rds:[a-z0-9-]{1,32}:\d{12}:[a-z-]{1,20}:[A-Za-z0-9:._-]{1,255}")


@dataclass(frozen=True)
class DatabaseRequest:
    """A request that names a database.

    :ivar ignored: why nothing is to be done; empty where something is.
    """

    database: str
    plan: bool = False
    ignored: str = ""


def onboard_request(event: Any) -> DatabaseRequest:
    """Read what OnboardFunction is invoked with: an RDS event, or `{"database": "<arn>", "plan"?, "confirm"?}`.

    :raises InvalidRequest: naming the field.
    """
    if isinstance(event, Mapping) and "detail-type" in event:
        return _rds_event(event)
    return _request(event, {"database", "plan", "confirm"})


def policy_request(event: Any) -> DatabaseRequest:
    """Read what PolicyFunction is invoked with: `{"database": "<arn>", "plan"?}`.

    :raises InvalidRequest: naming the field.
    """
    return _request(event, {"database", "plan"})


def _request(event: Any, known: set[str]) -> DatabaseRequest:
    if not isinstance(event, Mapping):
        raise InvalidRequest("event", "must be a JSON object")
    for name in sorted(set(map(str, event)) - known):
        # Only a plain name is repeated: the caller may have put a value where a name belongs.
        raise InvalidRequest(name if re.fullmatch(r"[A-Za-z_-]{1,40}", name) else "event", "unknown field")
    for name in ("plan", "confirm"):
        if not isinstance(event.get(name, False), bool):
            raise InvalidRequest(name, "must be true or false")
    return DatabaseRequest(_arn("database", event.get("database")), event.get("plan", False))


def _rds_event(event: Mapping[str, Any]) -> DatabaseRequest:
    detail = event.get("detail")
    if not isinstance(detail, Mapping):
        raise InvalidRequest("detail", "must be a JSON object")
    arn = _arn("detail.SourceArn", detail.get("SourceArn"))
    if event.get("source") != "aws.rds":
        return DatabaseRequest(arn, ignored="the event is not one of RDS")
    if detail.get("EventID") not in {CREATED, DELETED}:
        return DatabaseRequest(arn, ignored="the event does not tell of a database created or deleted")
    return DatabaseRequest(arn)


def _arn(field: str, value: Any) -> str:
    if value is None:
        raise InvalidRequest(field, "is missing; it must be the ARN of a database")
    if not isinstance(value, str) or _ARN.fullmatch(value) is None:
        raise InvalidRequest(field, "must be the ARN of a database, arn:aws:rds:REGION:ACCOUNT:db:IDENTIFIER")
    return value
