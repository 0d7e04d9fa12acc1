"""Patches of moto's STS."""

from __future__ import annotations

from typing import Any, ClassVar

from moto.core.responses import ActionResult
from moto.iam.models import iam_backends
from moto.sts.exceptions import STSClientError, STSValidationError

from localcloud.moto_patches.patch import Patch, replaces

_ONE_HOUR = 3600


class Sessions(Patch):
    """Sessions of roles. AWS: the source identity stays with the session. moto: drops it."""

    target = "moto.sts.models.AssumedRole"
    new_values: ClassVar = {"source_identity": None}


class AssumingRoles(Patch):
    """The call AssumeRole."""

    target = "moto.sts.responses.TokenResponse"

    @replaces
    def assume_role(self, _: Any, response: Any) -> ActionResult:
        """Begin a session of a role."""
        role_arn = response._get_param("RoleArn")
        duration = response._get_int_param("DurationSeconds", _ONE_HOUR)
        caller = response.backend.get_caller_identity(response.get_access_key(), response.region)[1]
        role = _role(role_arn)
        if role is None:
            # AWS: a role that doesn't exist and one that doesn't trust are refused alike. moto: makes one up.
            raise STSClientError(
                "AccessDenied", f"User: {caller} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
            )
        _check_duration(duration, role, chained=":assumed-role/" in caller)
        session = response.backend.assume_role(
            region_name=response.region,
            role_session_name=response._get_param("RoleSessionName"),
            role_arn=role_arn,
            policy=response._get_param("Policy"),
            duration=duration,
            external_id=response._get_param("ExternalId"),
        )
        # AWS: the source identity and the tags stay with the session. moto: drops them.
        session.source_identity = response._get_param("SourceIdentity")
        session.tags = response.params.get("Tags") or []
        answer = {
            "Credentials": session,
            "AssumedRoleUser": {"AssumedRoleId": session.user_id, "Arn": session.arn},
            "PackedPolicySize": 6,
        }
        if session.source_identity:
            answer["SourceIdentity"] = session.source_identity
        return ActionResult(answer)


def _role(arn: str) -> Any | None:
    for account in list(iam_backends):
        for role in list(iam_backends[account]["aws"].roles.values()):
            if role.arn == arn:
                return role
    return None


def _check_duration(duration: int, role: Any, *, chained: bool) -> None:
    # AWS: up to the role's maximum, and an hour for a session that assumes another role. moto: anything.
    largest = int(role.max_session_duration or _ONE_HOUR)
    if not 900 <= duration <= 43_200:
        raise STSValidationError(
            f"1 validation error detected: Value '{duration}' at 'durationSeconds' is not in range"
        )
    if chained and duration > _ONE_HOUR:
        raise STSValidationError(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        )
    if duration > largest:
        raise STSValidationError("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
