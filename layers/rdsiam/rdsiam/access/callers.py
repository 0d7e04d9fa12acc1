"""Callers of the HTTP API, and the rules of access.yaml by which a caller gets tokens.

A caller signs its request with an IAM role's credentials, or sends a JWT of an OIDC issuer.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from rdsiam.access import fields


@dataclass(frozen=True)
class Caller:
    """A caller whose identity API Gateway's authorizer has verified.

    :ivar role: ARN of the caller's IAM role, `arn:aws:iam::<account>:role/<name>`, with or without the role's path.
        None for a caller with a JWT, and for an IAM identity that isn't a role.
    :ivar account: account of the role; empty without a role.
    :ivar session: name of the role session; for a JWT its issuer and subject, `<iss>#<sub>`.
    :ivar claims: claims of the verified JWT, with objects within objects; empty for a role. None stands for a claim
        that can't be used: it matches nothing, and no path leads past it.
    """

    role: str | None
    account: str
    session: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The caller's name in records: the role, or the session if there is no role, or `nobody`."""
        return self.role or self.session or "nobody"


class Principal(BaseModel):
    """A role, or claims of a JWT that must all match."""

    model_config = fields.STRICT

    role: fields.RoleArn | None = None
    claim: Annotated[dict[fields.Label, fields.Label], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _has_role_or_claim(self) -> "Principal":
        if (self.role is None) == (self.claim is None):
            raise ValueError("needs exactly one of role and claim")
        return self

    def admits(self, caller: Caller) -> bool:
        """Tell whether the caller has this role, or all of these claims.

        Roles are compared without their paths, since the ARN of an assumed role has no path.
        """
        if self.role is not None:
            return has_role(caller, [self.role])
        return bool(self.claim) and all(_has(caller.claims, name, value) for name, value in (self.claim or {}).items())


class CallerRule(Principal):
    """A rule: the callers that may ask for tokens, until when, and whether they must give a reason."""

    until: fields.Time | None = None
    reason: Literal["required"] | None = None

    def narrowed(self, other: "CallerRule") -> "CallerRule | None":
        """Return a rule that admits a caller only if both rules do; None if the rules name different callers.

        It expires with the rule that expires first, and requires a reason if one of them does.
        """
        if (self.role, self.claim) != (other.role, other.claim):
            return None
        ends = [rule.until for rule in (self, other) if rule.until is not None]
        return self.model_copy(update={"until": min(ends, default=None), "reason": self.reason or other.reason})


def has_role(caller: Caller, roles: Iterable[str]) -> bool:
    """Tell whether the caller has one of these roles, given by their ARNs."""
    if caller.role is None:
        return False
    own = _bare_role(caller.role, caller.account)
    return own is not None and any(_bare_role(role) == own for role in roles)


def _bare_role(arn: str, account: str | None = None) -> tuple[str, str, str] | None:
    """Return partition, account and name of a role; None if the ARN isn't a role's, or not of the account `account`."""
    matched = re.fullmatch(fields.ROLE_PATTERN, arn)
    if not matched or (account is not None and account != matched["account"]):
        return None
    return matched["partition"], matched["account"], matched["name"]


def _has(claims: Mapping[str, Any], name: str, value: str) -> bool:
    """Tell whether the claim of this name is `value`, or a list that contains it.

    A claim of exactly that name counts alone. If there is none, the name is a path: `realm_access.roles` is `roles` in
    `realm_access`. Names of clients contain dots too: a path that leads to several places leads nowhere.
    """
    values = [claims[name]] if name in claims else list(_along(claims, name))
    if len(values) != 1:
        return False
    entries = values[0] if isinstance(values[0], list | tuple) else values
    return any(_is(entry, value) for entry in entries)


def _along(claims: Mapping[str, Any], path: str) -> Iterator[Any]:
    """Yield the claims at all places to which a path leads."""
    if path in claims:
        yield claims[path]
    for position in (index for index, character in enumerate(path) if character == "."):
        start = path[:position]
        if isinstance(claims.get(start), Mapping):
            yield from _along(claims[start], path[position + 1 :])
        elif start in claims and claims[start] is None:
            yield None


def _is(entry: Any, value: str) -> bool:
    """Tell whether an entry of a claim is `value`: text, or a boolean or whole number as JSON writes it."""
    if isinstance(entry, bool):
        return value == ("true" if entry else "false")
    return isinstance(entry, str | int) and value == str(entry)
