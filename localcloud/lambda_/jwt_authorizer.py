"""API Gateway's JWT authorizer: the issuer's keys, and exactly the checks that its documentation lists.

Like AWS's, it lets ID tokens pass on a route without scopes, takes `client_id` if there is no `aud`, and passes a list
on as one text, which the function has to interpret. See docs/localcloud.md.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.request
from collections.abc import Mapping
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from localcloud.lambda_.routes import Jwt

logger = logging.getLogger(__name__)

#: "Currently, only RSA-based algorithms are supported."
_ALGORITHMS = ["RS256", "RS384", "RS512"]
_KEYS_SECONDS = 2 * 3600
_FETCH_SECONDS = 1.5


class JwtRefused(Exception):
    """The token is missing or not valid: 401. The message is the one in `www-authenticate`."""


class ScopeMissing(Exception):
    """The token is valid, but has none of the route's scopes: 403."""


class JwtAuthorizer:
    """Checks tokens of any issuer; keys are kept as long as in API Gateway, or until a token names an unknown key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, tuple[float, KeySet]] = {}

    def authorize(self, header: str | None, jwt: Jwt) -> dict[str, Any]:
        """Return `requestContext.authorizer` of a request with this Authorization header.

        :raises JwtRefused: there is no token, or it is not valid.
        :raises ScopeMissing: the token has none of the route's scopes.
        """
        if not header:
            raise JwtRefused("")
        token = header[7:] if header[:7].lower() == "bearer " else header
        claims = self._claims(token.strip(), jwt.issuer)
        _check(claims, jwt)
        if jwt.scopes and not set(jwt.scopes) & _scopes(claims):
            raise ScopeMissing
        return {
            "jwt": {
                "claims": {name: _flat(value) for name, value in claims.items()},
                "scopes": list(jwt.scopes) or None,
            }
        }

    def _claims(self, token: str, issuer: str) -> dict[str, Any]:
        try:
            header = jws.extract_compact(token.encode("ascii")).headers()
            kid = header.get("kid")
            key_of_token = next((key for key in self._key_set(issuer, kid).keys if key.kid == kid), None)
            if kid is None or key_of_token is None:
                raise JwtRefused("signature verification failed")
            payload = jws.deserialize_compact(token, key_of_token, algorithms=_ALGORITHMS).payload
            claims = json.loads(payload)
        except (JoseError, ValueError, RecursionError) as error:
            raise JwtRefused(f"the token can't be verified: {type(error).__name__}") from None
        if not isinstance(claims, dict):
            raise JwtRefused("the token has no claims")
        return claims

    def _key_set(self, issuer: str, kid: str | None) -> KeySet:
        with self._lock:
            fetched, keys = self._keys.get(issuer, (float("-inf"), KeySet([])))
            known = any(key.kid == kid for key in keys.keys)
            if not known or time.monotonic() - fetched > _KEYS_SECONDS:
                keys = _fetch(issuer)
                self._keys[issuer] = (time.monotonic(), keys)
            return keys


def _scopes(claims: Mapping[str, Any]) -> set[str]:
    claim = claims.get("scope", claims.get("scp", ""))
    if isinstance(claim, str):
        return set(claim.split())
    return {str(scope) for scope in claim} if isinstance(claim, list) else set()


def _check(claims: Mapping[str, Any], jwt: Jwt) -> None:
    now = time.time()
    if claims.get("iss") != jwt.issuer:
        raise JwtRefused("iss claim is invalid")
    audience = claims.get("aud", claims.get("client_id"))
    if not any(entry in jwt.audience for entry in (audience if isinstance(audience, list) else [audience])):
        raise JwtRefused("aud claim is invalid")
    try:
        if not now < float(claims["exp"]):
            raise JwtRefused("the token has expired")
        if any(float(claims[name]) > now for name in ("nbf", "iat") if name in claims):
            raise JwtRefused("the token is not yet valid")
    except (KeyError, TypeError, ValueError):
        raise JwtRefused("a time is missing or is no number") from None


def _flat(value: Any) -> str:
    """Write a claim as API Gateway does: everything is text, and a list is its entries between brackets."""
    if isinstance(value, list):
        return f"[{' '.join(_flat(entry) for entry in value)}]"
    return value if isinstance(value, str) else json.dumps(value)


def _fetch(issuer: str) -> KeySet:
    try:
        configuration = _json(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        return KeySet.import_key_set(_json(configuration["jwks_uri"]))
    except (OSError, ValueError, KeyError, TypeError, JoseError) as error:
        logger.warning("could not fetch the keys of %s: %s", issuer, type(error).__name__)
        raise JwtRefused("could not fetch the issuer's keys") from None


def _json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=_FETCH_SECONDS) as answer:  # noqa: S310  # the template's own parameter
        return json.load(answer)
