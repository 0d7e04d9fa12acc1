"""Requests to SecretsFunction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rdsiam.errors import InvalidRequest
from rdsiam.events import fields

_LONGEST_USER, _LONGEST_REASON = 80, 500


@dataclass(frozen=True)
class SecretsRequest:
    """A request to SecretsFunction.

    :ivar action: `apply` access.yaml to a database; the others look after secrets that are rotated already.
    :ivar database: ARN, of `apply`.
    :ivar user: of `apply`, the only user concerned; None for all.
    :ivar databases: of `list`, ARNs of the databases whose secrets are listed; None for all.
    :ivar secret: ARN, of the actions on one secret; of `apply` the secret that an operator names for the user.
    :ivar reason: of `rotate`, for the log.
    :ivar withdraw: of `apply`, end rotations that are no longer declared and set none up.
    """

    action: Literal["apply", "list", "show", "rotate", "unstick", "sessions"]
    database: str = ""
    user: str | None = None
    databases: tuple[str, ...] | None = None
    secret: str = ""
    reason: str | None = None
    plan: bool = False
    confirm: bool = False
    withdraw: bool = False


#: Actions on one secret, and the further fields of each.
_ON_ONE_SECRET: Mapping[Literal["show", "rotate", "unstick", "sessions"], set[str]] = {
    "show": set(),
    "rotate": {"reason"},
    "unstick": {"plan"},
    "sessions": set(),
}


def secrets_request(event: Any) -> SecretsRequest:
    """Read a request to SecretsFunction.

    `{"database": "<arn>"}` with `user`, `secret`, `plan` and `confirm`, or with `withdraw` alone; `{"list": true}` with
    `databases`; or one of `show`, `rotate` (with `reason`), `unstick` (with `plan`) and `sessions`, each with the ARN
    of a secret.

    :raises InvalidRequest: naming the field.
    """
    if fields.names(event, "list"):
        fields.check(event, {"list", "databases"})
        fields.must_be_true(event, "list")
        return SecretsRequest("list", databases=fields.databases(event))
    for action, more in _ON_ONE_SECRET.items():
        if fields.names(event, action):
            fields.check(event, {action, *more})
            reason = fields.line(event, "reason", _LONGEST_REASON)
            return SecretsRequest(
                action, secret=fields.secret(event, action), reason=reason, plan=fields.flag(event, "plan")
            )
    if fields.names(event, "withdraw"):
        fields.check(event, {"database", "withdraw"})
        fields.must_be_true(event, "withdraw")
        return SecretsRequest("apply", database=fields.database(event), withdraw=True)
    fields.check(event, {"database", "user", "secret", "plan", "confirm"})
    if "secret" in event and "user" not in event:
        raise InvalidRequest("secret", "goes with user")
    return SecretsRequest(
        "apply",
        database=fields.database(event),
        user=fields.line(event, "user", _LONGEST_USER),
        secret=fields.secret(event, "secret") if "secret" in event else "",
        plan=fields.flag(event, "plan"),
        confirm=fields.flag(event, "confirm"),
    )
