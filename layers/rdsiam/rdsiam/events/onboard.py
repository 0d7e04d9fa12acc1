"""Requests to OnboardFunction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rdsiam.errors import InvalidRequest
from rdsiam.events import fields
from rdsiam.events.service_events import NOTICES

_LONGEST_REASON = 500


@dataclass(frozen=True)
class OnboardRequest:
    """A request to onboard one database.

    :ivar database: ARN.
    :ivar confirm: exceeding the change limit is intended, and the gains of the current attributes are confirmed.
    :ivar beyond_limit: exceeding the change limit is intended; no gain is confirmed.
    :ivar drift: digest of the drift for which the audit starts it; empty if it doesn't.
    """

    database: str
    plan: bool = False
    confirm: bool = False
    beyond_limit: bool = False
    drift: str = ""


@dataclass(frozen=True)
class RevokeRequest:
    """A request to revoke users of one database.

    :ivar database: ARN.
    :ivar users: names, sorted.
    :ivar reason: recorded with the revocation.
    """

    database: str
    users: tuple[str, ...]
    reason: str
    plan: bool = False


@dataclass(frozen=True)
class LiftRequest:
    """A request to lift the revocation of users of one database.

    :ivar database: ARN.
    :ivar users: names, sorted.
    """

    database: str
    users: tuple[str, ...]
    plan: bool = False


@dataclass(frozen=True)
class NoticeRequest:
    """A request to record and publish what RDS reported of a database.

    :ivar database: ARN.
    :ivar notice: number of the event, a key of `NOTICES`.
    """

    database: str
    notice: str


@dataclass(frozen=True)
class ReconcileRequest:
    """A request to compare the whole fleet with access.yaml."""

    plan: bool = False
    confirm: bool = False


def onboard_request(event: Any) -> OnboardRequest | RevokeRequest | LiftRequest | NoticeRequest | ReconcileRequest:
    """Read a request to OnboardFunction.

    `{"database": "<arn>"}` with `plan`, and `confirm` or `beyond_limit`, or with `drift`; `{"reconcile": true}` with
    `plan` and `confirm`; `{"database": "<arn>", "revoke": ["<user>", …], "reason": "…"}` or
    `{"database": "<arn>", "lift": ["<user>", …]}`, both with `plan`; `{"database": "<arn>", "notice": "RDS-EVENT-…"}`.

    :raises InvalidRequest: naming the field.
    """
    if fields.names(event, "reconcile"):
        fields.check(event, {"reconcile", "plan", "confirm"})
        fields.must_be_true(event, "reconcile")
        return ReconcileRequest(fields.flag(event, "plan"), fields.flag(event, "confirm"))
    if fields.names(event, "notice"):
        fields.check(event, {"database", "notice"})
        if event["notice"] not in tuple(NOTICES):
            raise InvalidRequest("notice", "must be the number of an event that is published")
        return NoticeRequest(fields.database(event), event["notice"])
    if fields.names(event, "lift"):
        fields.check(event, {"database", "lift", "plan"})
        return LiftRequest(fields.database(event), fields.users(event, "lift"), fields.flag(event, "plan"))
    if fields.names(event, "revoke"):
        fields.check(event, {"database", "revoke", "reason", "plan"})
        reason = _reason(event)
        return RevokeRequest(fields.database(event), fields.users(event, "revoke"), reason, fields.flag(event, "plan"))
    fields.check(event, {"database", "plan", "confirm", "beyond_limit", "drift"})
    return OnboardRequest(
        fields.database(event),
        fields.flag(event, "plan"),
        fields.flag(event, "confirm"),
        fields.flag(event, "beyond_limit"),
        fields.digest(event, "drift"),
    )


def _reason(event: Mapping[str, Any]) -> str:
    reason = event.get("reason")
    if not isinstance(reason, str) or not reason.strip() or len(reason) > _LONGEST_REASON or not reason.isprintable():
        raise InvalidRequest("reason", f"must say why, in 1–{_LONGEST_REASON} printable characters")
    return reason.strip()
