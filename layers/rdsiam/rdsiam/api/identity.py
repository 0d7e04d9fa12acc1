"""Identity of a caller of the HTTP API, from the part of a request that API Gateway's authorizers have verified.

The authorizer checks a JWT's signature, issuer, times, audience and scope. But it accepts ID tokens, takes `client_id`
for a missing audience, and writes a list as one text in which an entry with a space looks like two entries. So the
claims are read from the verified token itself and checked again. See docs/decisions/0019-api.md.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from rdsiam.access.callers import Caller
from rdsiam.api import claim_texts
from rdsiam.errors import NotAllowed

_ASSUMED_ROLE = re.compile(
    r"arn:(aws[a-z-]*):sts::(\d{12}):assumed-role/([\w+=,.@-]{1,64})/([\w+=,.@-]{2,64})", re.ASCII
)
_PART = re.compile(r"[A-Za-z0-9_-]+")
#: Separators of a list, whether it is written `[a b]` or as JSON.
_BETWEEN = re.compile(r'[\s,"\[\]]+')
#: Types of access tokens: those of RFC 9068, and `JWT` or none, as many issuers write.
_TYPES = {"at+jwt", "application/at+jwt", "jwt", ""}
#: Claims of OpenID Connect that ID tokens alone have.
_OF_ID_TOKENS = ("at_hash", "c_hash")
#: The claim `typ` of Keycloak's access tokens, and of its other tokens.
_KEYCLOAK_ACCESS = "Bearer"
_KEYCLOAK_OTHERS = {
    "id", "refresh", "offline", "logout", "serialized-id", "initialaccesstoken", "registrationaccesstoken",
}  # fmt: skip
#: The claim of security events (RFC 8417), of which logout tokens are one kind.
_EVENTS = "events"
#: Times, about which the authorizer decides.
_TIMES = {"exp", "iat", "nbf"}
NOBODY = Caller(role=None, account="", session=None, claims={})


class Oidc(NamedTuple):
    """Rules for accepted JWTs.

    :ivar issuer: exact value of `iss`; empty if no JWT is accepted.
    :ivar audience: value or entry that `aud` must have.
    :ivar scope: entry that `scope` or `scp` must have; empty if no scope is required.
    :ivar clients: `client_id` of access tokens of Amazon Cognito that need no `aud`.
    """

    issuer: str
    audience: str
    scope: str
    clients: frozenset[str] = frozenset()

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Oidc":
        """Return the rules that a function's environment sets."""
        issuer, audience, scope, clients = (
            environment[f"RDSIAM_OIDC_{name}"] for name in ("ISSUER", "AUDIENCE", "SCOPE", "CLIENTS")
        )
        return cls(issuer, audience, scope, frozenset(filter(None, clients.split(","))))


class NotAccepted(NotAllowed):
    """A JWT passed the authorizer, but is no access token for this API.

    :ivar caller: the holder of the JWT.
    """

    code = "not-allowed"

    def __init__(self, caller: Caller, problem: str) -> None:
        super().__init__(problem)
        self.caller = caller


def caller_from(event: Mapping[str, Any], oidc: Oidc) -> Caller:
    """Return the caller, from the route's own authorizer.

    A caller with neither role nor JWT can't be declared, and so is allowed nothing: `sam local start-api` runs no
    authorizer. Events of formats other than 2.0 name nobody: in format 1.0 a Lambda authorizer, which anyone who may
    edit the API can add, could write any identity in the place of IAM's.

    :raises NotAccepted: the JWT is no access token for this API.
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
    """Return the kind of the route's authorizer and what it verified; empty if another authorizer answered."""
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
    verified_claims: Any = verified.get("claims")
    if not oidc.issuer:
        raise NotAccepted(NOBODY, "no issuer is declared (parameter OidcIssuer)")
    if claims and "sub" not in claims:  # Keycloak writes it only with the client scope `basic`
        raise NotAccepted(NOBODY, "the token names no subject that could be verified (claim sub)")
    if not _same(verified_claims, claims):
        raise NotAccepted(NOBODY, "the token is not the one that was verified")
    if claims["iss"] != oidc.issuer:
        raise NotAccepted(NOBODY, "the token is of another issuer")
    if not claims["sub"].isprintable() or not 0 < len(claims["sub"]) <= 255:
        raise NotAccepted(NOBODY, "the token names no subject")
    # A claim that can't be compared counts as there: a path must not lead past its name.
    usable = {
        name: value if _is_text(value) or claim_texts.is_same(verified_claims.get(name), value) else None
        for name, value in claims.items()
        if name not in _TIMES
    }
    caller = Caller(role=None, account="", session=f"{claims['iss']}#{claims['sub']}", claims=usable)
    if problem := _problem(header, claims, oidc):
        raise NotAccepted(caller, problem)
    return caller


def _same(verified: Any, claims: Mapping[str, Any]) -> bool:
    """Tell whether these are exactly the claims that the authorizer verified.

    A claim that is null may be missing there. The Authorization header may hold another token than the verified one:
    anyone who may edit the API decides where the authorizer finds its token.
    """
    return (
        isinstance(verified, Mapping)
        and all(isinstance(claims.get(name), str) for name in ("iss", "sub"))
        and {name for name, value in claims.items() if value is not None} <= set(verified) <= set(claims)
        and all(_says(verified[name], claims[name]) for name in verified)
    )


def _says(verified: Any, claim: Any) -> bool:
    """Tell whether the authorizer verified this claim, if it is text or a list of text.

    How the authorizer writes all others isn't documented: of those, only the ones that can be compared are used.
    """
    if isinstance(claim, str):
        return bool(verified == claim)
    if not _is_text(claim):
        return True
    # There a list is one text, in which an entry with a space looks like two entries.
    return isinstance(verified, str) and sorted(_words(" ".join(claim))) == sorted(_words(verified))


def _is_text(claim: Any) -> bool:
    """Tell whether a claim is text or a list of text."""
    return isinstance(claim, str) or (isinstance(claim, list) and all(isinstance(entry, str) for entry in claim))


def _words(text: str) -> list[str]:
    return [word for word in _BETWEEN.split(text) if word]


def _problem(header: Mapping[str, Any], claims: Mapping[str, Any], oidc: Oidc) -> str:
    """Return why a token is no access token for this API; empty if it is one."""
    if str(header.get("typ") or "").lower() not in _TYPES or claims.get("token_use", "access") != "access":
        return "the token is of another type than an access token"
    if str(claims.get("typ")).lower() in _KEYCLOAK_OTHERS or _EVENTS in claims:
        return "the token is of another type than an access token"
    # Keycloak before 25 writes the nonce into access tokens too.
    is_keycloak_access = bool(oidc.scope) and claims.get("typ") == _KEYCLOAK_ACCESS
    if any(name in claims for name in _OF_ID_TOKENS) or ("nonce" in claims and not is_keycloak_access):
        return "the token is an ID token"
    if "aud" not in claims and oidc.clients:
        client = claims.get("client_id")
        if claims.get("token_use") != "access" or not isinstance(client, str) or client not in oidc.clients:
            return "the token has no audience, and its client is none of OidcClientIds"
    else:
        audience = claims.get("aud")
        if oidc.audience not in (audience if isinstance(audience, list) else [audience]):
            return "the token is for another audience"
    scopes = claims.get("scope", claims.get("scp"))
    listed = scopes.split(" ") if isinstance(scopes, str) else scopes if isinstance(scopes, list) else []
    return "" if not oidc.scope or oidc.scope in listed else "the token lacks the scope"


def _read(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a compact JWT; empty if the text is no JWT, or repeats a member."""
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
        raise ValueError("a member is repeated")
    return result
