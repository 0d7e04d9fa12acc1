"""Requests to PolicyFunction."""

from dataclasses import dataclass
from typing import Any

from rdsiam.errors import InvalidRequest
from rdsiam.events import fields


@dataclass(frozen=True)
class PolicyRequest:
    """A request to write the IAM policies of one database.

    :ivar database: ARN.
    :ivar confirm: of a plan: show the policies as if the gains of the current attributes were confirmed.
    :ivar assume_revoked: of a plan: users to treat as revoked; None for the users that are.
    :ivar withdraw: remove logins and give none.
    """

    database: str
    plan: bool = False
    confirm: bool = False
    assume_revoked: tuple[str, ...] | None = None
    withdraw: bool = False


def policy_request(event: Any) -> PolicyRequest:
    """Read a request to PolicyFunction.

    `{"database": "<arn>"}`; a plan with `"plan": true` and optional `confirm` and `assume_revoked`, which only a plan
    may have, since policies are written as the inventory says; or `{"database": "<arn>", "withdraw": true}`.

    :raises InvalidRequest: naming the field.
    """
    if fields.names(event, "withdraw"):
        fields.check(event, {"database", "withdraw"})
        fields.must_be_true(event, "withdraw")
        return PolicyRequest(fields.database(event), withdraw=True)
    fields.check(event, {"database", "plan", "confirm", "assume_revoked"})
    plan = fields.flag(event, "plan")
    for name in ("confirm", "assume_revoked"):
        if name in event and not plan:
            raise InvalidRequest(name, "is allowed in a plan only")
    assumed = fields.users(event, "assume_revoked", fewest=0) if "assume_revoked" in event else None
    return PolicyRequest(fields.database(event), plan, fields.flag(event, "confirm"), assumed)
