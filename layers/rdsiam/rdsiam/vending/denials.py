"""Denials that tell a caller what to do. Only callers that an entry names for that user of that database get them.

Such a caller may log in there, or could if the user were not revoked, and so learns nothing about what exists. Every
other caller gets the same denial, whether the database exists or not.
"""

from collections.abc import Mapping

from rdsiam.access.decide import Decision, Way
from rdsiam.errors import NotAllowed


class ReasonRequired(NotAllowed):
    """An entry of access.yaml lets the caller log in if the request has a reason."""

    code = "reason-required"

    def __init__(self) -> None:
        super().__init__("access.yaml requires a reason for this login")


class SignsItself(NotAllowed):
    """An entry of access.yaml lets the caller's role sign its own tokens, and gives it none from the API."""

    code = "signs-itself"

    def __init__(self) -> None:
        super().__init__("access.yaml lets your role sign its own tokens for this login, and gives it none here")


class UserRevoked(NotAllowed):
    """An entry of access.yaml names the caller, but an operator has revoked the user."""

    code = "user-revoked"

    def __init__(self) -> None:
        super().__init__("an operator has revoked this user, so nobody can log in as it")


_DENIALS: Mapping[Way, type[ReasonRequired | SignsItself]] = {"give-reason": ReasonRequired, "sign": SignsItself}


def denial(decision: Decision, revoked: bool) -> NotAllowed:
    """Return the error for a login that is denied, or that would be allowed if the user were not revoked."""
    if revoked and (decision.allowed or decision.way is not None):
        return UserRevoked()
    return NotAllowed() if decision.way is None else _DENIALS[decision.way]()
