"""Routes of the HTTP API."""

from __future__ import annotations

from dataclasses import dataclass

#: The id of the one HTTP API that a cloud has.
API_ID = "localcloud"


@dataclass(frozen=True)
class Jwt:
    """A JWT authorizer, and the scopes of a route, of which a token needs at least one."""

    issuer: str
    audience: tuple[str, ...]
    scopes: tuple[str, ...]


@dataclass(frozen=True)
class Route:
    """A route of the HTTP API: the function that it calls, and its authorizer."""

    method: str  # upper-case; ANY for all
    path: str
    function: str  # ARN
    jwt: Jwt | None = None  # None: AWS_IAM
