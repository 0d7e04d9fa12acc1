"""Who calls the HTTP API: what API Gateway's authorizers have verified, and nothing else in the request.

Of a JWT the authorizer checks signature, issuer, times, audience and scope. It lets ID tokens pass, takes `client_id`
for a missing audience, and writes lists as one text in which an entry with a space can't be told from two. So the
claims are read from the token itself, the very one that was verified, and checked once more. See
docs/decisions/0019-api.md.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rdsiam.access.callers import Caller
from rdsiam.errors import NotAllowed

_ASSUMED_ROLE = re.compile(
    r"arn:(aws[a-z-]*):sts::(\d{12}):assumed-role/([\w+=,.@-]{1,64})/([\w+=,.@-]{2,64})", re.ASCII
)
_PART = re.compile(r"[A-Za-z0-9_-]+")
#: What stands between the words of a list, whether it is written `[a b]` or as JSON.
_BETWEEN = re.compile(r'[\s,"\[\]]+')
#: RFC 9068 names access tokens; `JWT`, or no type at all, is what many issuers write into theirs.
_TYPES = {"at+jwt", "application/at+jwt", "jwt", ""}
#: Claims of OpenID Connect that ID tokens alone have.
_OF_ID_TOKENS = ("nonce", "at_hash", "c_hash")
NOBODY = Caller(role=None, account="", session=None, claims={})


@dataclass(frozen=True)
class Oidc:
    """Which JWTs are accepted.

    :ivar issuer: exactly what `iss` must be; empty where none is accepted.
    :ivar audience: what `aud` must be, or have among its entries.
    :ivar scope: what `scope` or `scp` must have.
    """

    issuer: str
    audience: str
    scope: str


class NotAccepted(NotAllowed):
    """A JWT passed the authorizer, but is no access token for this API.

    :ivar caller: the holder of the JWT.
    """

    code = "not-allowed"

    def __init__(self, caller: Caller, why: str) -> None:
        super().__init__(why)
        self.caller = caller


def caller_from(event: Mapping[str, Any], oidc: Oidc) -> Caller:
    """Return who calls, from the authorizer that belongs to the route.

    A caller without a role or a JWT, a user or nobody at all, is declared nowhere and so gets nothing: `sam local
    start-api` runs no authorizer. Events of another format than 2.0 name nobody: in format 1.0 a Lambda authorizer,
    which whoever may edit the API can add, writes what it likes where IAM's identity would be.

    :raises NotAccepted: a JWT that is no access token for this API.
    """
    kind, verified = _authorizer(event)
    if kind == "jwt":
        return _of_jwt(verified, event.get("headers") or {}, oidc)
    user_arn = verified.get("userArn")
    if not isinstance(user_arn, str):
        return NOBODY
    match = _ASSUMED_ROLE.fullmatch(user_arn)
    if match is None:
        return Caller(role=None, account="", session=user_arn[:200], claims={})
    partition, account, role, session = match.groups()
    return Caller(role=f"arn:{partition}:iam::{account}:role/{role}", account=account, session=session, claims={})


def _authorizer(event: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the kind of authorizer that the route has and what it has verified; nothing if it is another's."""
    context, route = event.get("requestContext"), event.get("routeKey")
    if event.get("version") != "2.0" or not isinstance(context, Mapping) or not isinstance(route, str):
        return "", {}
    kind = "jwt" if route.partition(" ")[2].startswith("/oidc/") else "iam"
    authorizer = context.get("authorizer")
    if context.get("routeKey") != route or not isinstance(authorizer, Mapping) or set(authorizer) != {kind}:
        return "", {}
    verified = authorizer[kind]
    return (kind, verified) if isinstance(verified, Mapping) else ("", {})


def _of_jwt(verified: Mapping[str, Any], headers: Mapping[str, Any], oidc: Oidc) -> Caller:
    token = str(headers.get("authorization") or "")
    header, claims = _read(token[7:].strip() if token[:7].lower() == "bearer " else token.strip())
    told = verified.get("claims")
    if not oidc.issuer or not _same(told, claims):
        raise NotAccepted(NOBODY, "the token is not the one that was verified")
    if claims["iss"] != oidc.issuer or not claims["sub"].isprintable() or not 0 < len(claims["sub"]) <= 255:
        raise NotAccepted(NOBODY, "the token names no subject, or another issuer")
    # Text and lists of text only: nothing else can be declared, and nothing else is compared.
    kept = {
        name: value
        for name, value in claims.items()
        if isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))
    }
    caller = Caller(role=None, account="", session=f"{claims['iss']}#{claims['sub']}", claims=kept)
    if why := _refusal(header, claims, oidc):
        raise NotAccepted(caller, why)
    return caller


def _same(verified: Any, claims: Mapping[str, Any]) -> bool:
    """Tell whether these are the claims that the authorizer verified: all of them, lists and text word for word.

    A claim that is null says nothing, and may be missing there. The Authorization header may have another token than
    the verified one: whoever may edit the API says where the authorizer finds its token.
    """
    return (
        isinstance(verified, Mapping)
        and all(isinstance(claims.get(name), str) for name in ("iss", "sub"))
        and {name for name, value in claims.items() if value is not None} <= set(verified) <= set(claims)
        and all(_says(verified[name], claims[name]) for name in verified)
    )


def _says(verified: Any, claim: Any) -> bool:
    """Tell whether the authorizer verified this claim; numbers and objects, which nothing goes by, are not compared."""
    if isinstance(claim, str):
        return bool(verified == claim)
    if not isinstance(claim, list) or not all(isinstance(entry, str) for entry in claim):
        return True
    # A list is one text there, in which an entry with a space can't be told from two.
    return isinstance(verified, str) and sorted(_words(" ".join(claim))) == sorted(_words(verified))


def _words(text: str) -> list[str]:
    return [word for word in _BETWEEN.split(text) if word]


def _refusal(header: Mapping[str, Any], claims: Mapping[str, Any], oidc: Oidc) -> str:
    """Return why that is no access token for this API; nothing where it is one."""
    if str(header.get("typ") or "").lower() not in _TYPES or claims.get("token_use", "access") != "access":
        return "the token is of another type than an access token"
    if any(name in claims for name in _OF_ID_TOKENS):
        return "the token is an ID token"
    audience = claims.get("aud")
    if oidc.audience not in (audience if isinstance(audience, list) else [audience]):
        return "the token is for another audience"
    held = claims.get("scope", claims.get("scp"))
    if oidc.scope not in (held.split(" ") if isinstance(held, str) else held if isinstance(held, list) else []):
        return "the token lacks the scope"
    return ""


def _read(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a compact JWT; empty where it is none, or has a member twice."""
    parts = token.split(".")
    if len(parts) != 3 or not all(_PART.fullmatch(part) for part in parts):
        return {}, {}
    try:
        read = [json.loads(_decoded(part), object_pairs_hook=_once) for part in parts[:2]]
    except (ValueError, binascii.Error, RecursionError):
        return {}, {}
    header, claims = read
    return (header, claims) if isinstance(header, dict) and isinstance(claims, dict) else ({}, {})


def _decoded(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a member stands twice")
    return result
