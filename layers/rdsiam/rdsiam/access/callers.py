"""Callers, and the rules of access.yaml that admit them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from rdsiam.access import fields


@dataclass(frozen=True)
class Caller:
    """A caller, as the authorizer verified it.

    :ivar role: of an IAM caller: `arn:aws:iam::<account>:role/<name>`, with or without its path; None for a JWT.
    :ivar account: of that role; empty for a JWT.
    :ivar session: the role session's name; of a JWT issuer and subject, `<iss>#<sub>`.
    :ivar claims: of a verified JWT: text, or lists of text.
    """

    role: str | None
    account: str
    session: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The name of the caller in records: the role, or else what is known."""
        return self.role or self.session or "nobody"


class Principal(BaseModel):
    """A role, or claims of a JWT that must all match."""

    model_config = fields.STRICT

    role: fields.RoleArn | None = None
    claim: Annotated[dict[fields.Label, fields.Label], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "Principal":
        if (self.role is None) == (self.claim is None):
            raise ValueError("needs exactly one of role and claim")
        return self

    def admits(self, caller: Caller) -> bool:
        """Tell whether this is the caller. Roles are compared without their path: an assumed role's ARN has none."""
        if self.role is not None:
            return caller.role is not None and _bare_role(self.role) == _bare_role(caller.role, caller.account)
        return bool(self.claim) and all(_has(caller.claims, name, value) for name, value in (self.claim or {}).items())


class CallerRule(Principal):
    """A rule: the callers that may ask for tokens, until when, and whether they must give a reason."""

    until: fields.Time | None = None
    reason: Literal["required"] | None = None

    def narrowed(self, other: "CallerRule") -> "CallerRule | None":
        """Return the rule that admits a caller only as long as both do; None if they are about different callers."""
        if (self.role, self.claim) != (other.role, other.claim):
            return None
        ends = [rule.until for rule in (self, other) if rule.until is not None]
        return self.model_copy(update={"until": min(ends, default=None), "reason": self.reason or other.reason})


def _bare_role(arn: str, account: str | None = None) -> tuple[str, str, str] | None:
    """Return partition, account and name of a role; None for what is none, or of another account than `account`."""
    found = re.fullmatch(fields.ROLE_PATTERN, arn)
    if not found or (account is not None and account != found["account"]):
        return None
    return found["partition"], found["account"], found["name"]


def _has(claims: Mapping[str, Any], name: str, value: str) -> bool:
    """Tell whether a claim is that text, or a list with it; the types are compared too."""
    claim = claims.get(name)
    return value in claim if isinstance(claim, list | tuple) else isinstance(claim, str) and claim == value
