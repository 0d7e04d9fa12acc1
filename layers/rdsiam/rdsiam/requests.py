"""What the functions are asked, checked field by field; errors name the field and never repeat its value."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from rdsiam.errors import InvalidRequest

#: The events that start an onboarding: created, deleted. All others that come are ignored.
CREATED, DELETED = "RDS-EVENT-0005", "RDS-EVENT-0003"
_ARN = re.compile(r"arn:aws[a-z-]{0,12}:rds:[a-z0-9-]{1,32}:\d{12}:[a-z-]{1,20}:[A-Za-z0-9:._-]{1,255}")


_SECRET = re.compile(r"arn:aws[a-z-]{0,12}:secretsmanager:[a-z0-9-]{1,32}:\d{12}:secret:[A-Za-z0-9/_+=.@!-]{1,519}")
Step = Literal["createSecret", "setSecret", "testSecret", "finishSecret"]
STEPS: tuple[Step, ...] = get_args(Step)


@dataclass(frozen=True)
class RotationRequest:
    """What Secrets Manager asks of RotateFunction.

    :ivar token: the id of the version that is to become the current one.
    :ivar rotation_token: proves to Secrets Manager who calls back; a secret.
    """

    step: Step
    secret: str
    token: str
    rotation_token: str | None = field(default=None, repr=False)


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


def rotation_request(event: Any) -> RotationRequest:
    """Read what Secrets Manager invokes RotateFunction with.

    :raises InvalidRequest: naming the field.
    """
    if not isinstance(event, Mapping):
        raise InvalidRequest("event", "must be a JSON object")
    step, secret, token = (event.get(name) for name in ("Step", "SecretId", "ClientRequestToken"))
    proof = event.get("RotationToken")
    if not isinstance(step, str) or step not in STEPS:
        raise InvalidRequest("Step", f"must be one of {', '.join(STEPS)}")
    if not isinstance(secret, str) or _SECRET.fullmatch(secret) is None:
        raise InvalidRequest("SecretId", "must be the ARN of a secret")
    if not isinstance(token, str) or re.fullmatch(r"[A-Za-z0-9-]{32,64}", token) is None:
        raise InvalidRequest("ClientRequestToken", "must be the id of a version, 32 to 64 letters, digits and dashes")
    if proof is not None and (not isinstance(proof, str) or not 0 < len(proof) <= 4096):
        raise InvalidRequest("RotationToken", "must be text")
    return RotationRequest(step, secret, token, proof)
