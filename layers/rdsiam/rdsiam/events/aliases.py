"""The alias that a function was invoked by, and the requests that each alias accepts.

Each caller of a function has an alias of its own, and IAM lets each role invoke its own alias only. So the alias says
who asks, and a caller can ask for what it needs and for nothing else. A version or `$LATEST` is nobody's, and accepts
nothing. Functions without an alias have one caller, whom the function's policy names; the policy doesn't cover
published versions, so that these accept nothing either.
"""

import os
from collections.abc import Mapping
from typing import Any, Protocol

from rdsiam.errors import InvalidRequest

#: For each alias the sets of fields that a request may have; None for any request.
Accepted = Mapping[str, tuple[frozenset[str], ...] | None]

#: Functions pass the change limit for an operator. They confirm no attributes, of which that operator may know nothing.
_ONBOARDING = frozenset({"database", "plan", "beyond_limit"})
#: `live` is for operators, the others for the function or the event that they are named after.
ONBOARD: Accepted = {
    "live": None,
    "events": (frozenset({"database", "notice"}), frozenset({"reconcile"})),
    "reconcile": (frozenset({"database", "confirm"}),),
    "migrate": (_ONBOARDING,),
    "audit": (_ONBOARDING, frozenset({"database", "drift"})),
}
AUDIT: Accepted = {"live": None, "events": (frozenset(),)}
#: An execution of MigrateFunction starts the next one by `continue`; nobody else continues one.
MIGRATE: Accepted = {
    "live": (frozenset({"database", "user", "plan", "confirm", "in_place", "undo", "watch", "status"}),),
    "continue": (frozenset({"database", "user", "watch", "continues", "confirm"}),),
}
SECRETS: Accepted = {"live": None, "onboard": (frozenset({"database", "plan"}), frozenset({"database", "withdraw"}))}
#: Functions that have one kind of caller.
LIVE: Accepted = {"live": None}
ACCEPTED: Mapping[str, Accepted] = {
    "OnboardFunction": ONBOARD,
    "AuditFunction": AUDIT,
    "SecretsFunction": SECRETS,
    "MigrateFunction": MIGRATE,
    "VendFunction": LIVE,
}


class Context(Protocol):
    """The context that Lambda gives to a function."""

    @property
    def invoked_function_arn(self) -> str | None:
        """The ARN that the function was invoked by, with the alias if it was invoked by one."""


def check_alias(accepted: Accepted, context: Context | None, request: Any) -> None:
    """Check that the alias that the function was invoked by accepts the request.

    :raises InvalidRequest: it does not.
    """
    alias = _alias(context)
    if alias not in accepted:
        raise InvalidRequest("event", "invoke the function by the alias that is yours; this qualifier is nobody's")
    fields = accepted[alias]
    if fields is not None and not (isinstance(request, Mapping) and any(set(request) <= each for each in fields)):
        raise InvalidRequest("event", f"the alias {alias} does not accept this request")


def check_no_version(context: Context | None) -> None:
    """Check that a function without an alias was not invoked by a version, on which its policy says nothing.

    :raises InvalidRequest: it was.
    """
    if context is None or _qualifier(context) not in {"", "$LATEST"}:
        raise InvalidRequest("event", "invoke the function without a version")


def is_invoked_by(alias: str, context: Context | None) -> bool:
    """Tell whether the function was invoked by that alias. Replays of a durable execution may have another."""
    return _alias(context) == alias


def _alias(context: Context | None) -> str:
    """Return the alias that the function was invoked by; empty if there is none."""
    if os.environ.get("AWS_SAM_LOCAL") == "true":
        return "live"  # `sam local` knows no aliases
    return _qualifier(context)


def _qualifier(context: Context | None) -> str:
    """Return the qualifier of the ARN that the function was invoked by; empty if there is none."""
    parts = ((context.invoked_function_arn if context else None) or "").split(":")
    return parts[7] if len(parts) == 8 else ""
