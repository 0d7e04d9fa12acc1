"""Verification of login tokens as RDS does it; a refusal has a reason, which is logged."""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from urllib.parse import quote, unquote

from localcloud.core import sigv4
from localcloud.core.sigv4 import Credential, Scope

logger = logging.getLogger(__name__)

MAX_TOKEN = 65_536
MAX_EXPIRES = 900
MAX_FUTURE = timedelta(minutes=5)
_PARAMETERS = frozenset(
    {"Action", "DBUser", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders",
     "X-Amz-Signature"}
)  # fmt: skip
_SESSION_TOKEN = "X-Amz-Security-Token"  # noqa: S105 - the name of a parameter


class Reason(StrEnum):
    """Reasons of a refused login in the order of judgement, as the `iam-db-auth-error` log says them."""

    NO_TLS = "the connection is not encrypted"
    MALFORMED = "the token is malformed"
    WRONG_ENDPOINT = "the token was signed for another host or port"
    WRONG_USER = "the token was signed for another database user"
    WRONG_REGION = "the token was signed for another region"
    UNKNOWN_KEY = "the access key id does not exist or is inactive"
    WRONG_SESSION_TOKEN = "the session token is missing or not the access key's"  # noqa: S105
    CREDENTIALS_EXPIRED = "the credentials that signed the token have expired"
    TOO_OLD = "the token has expired"
    NOT_YET_VALID = "the token was signed in the future"
    WRONG_SIGNATURE = "the signature does not match"
    NOT_ALLOWED = "the signer is not allowed to perform rds-db:connect as this user on this database"
    UNJUDGED = "the request could not be judged"


class LoginRefused(Exception):
    """A login that RDS would refuse; the client learns only that it failed, the log says the `reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


#: Host and port.
Endpoint = tuple[str, int]
#: (who signed, action, resource ARN, account of the resource) → allowed?
Judge = Callable[[Credential, str, str, str], bool]


@dataclass(frozen=True)
class _Token:
    endpoint: str
    user: str
    access_key: str
    scope: Scope
    timestamp: str
    signed_at: datetime
    expires: int
    session_token: str | None = field(repr=False)
    signature: str = field(repr=False)
    query: tuple[tuple[str, str], ...] = field(repr=False)


class TokenVerifier:
    """Verifies login tokens for the databases of one region.

    :param secret_of: returns the credential of an access key, None for an unknown or inactive one.
    :param judge: decides whether a credential's policies allow an action; see `principals.Principals.allows`.
    :param clock: returns the present, UTC.
    """

    def __init__(
        self,
        secret_of: Callable[[str], Credential | None],
        judge: Judge,
        region: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        partition: str = "aws",
    ) -> None:
        self._secret_of = secret_of
        self._judge = judge
        self._region = region
        self._clock = clock
        self._partition = partition

    def verify(
        self, token: str, endpoints: Collection[Endpoint], user: str, resource_id: str, account: str, tls: bool
    ) -> None:
        """Check that `token` logs `user` in to the database `resource_id` at one of its endpoints.

        :param endpoints: the endpoints that lead to the server, with hosts as Describe returns them.
        :param tls: whether the token came over an encrypted connection.
        :raises LoginRefused: the token is not valid for this login; the reason is logged, the token is not.
        """
        try:
            names = {f"{host.lower()}:{port}" for host, port in endpoints}
            self._verify(token, names, user, resource_id, account, tls)
        except LoginRefused as refused:
            logger.info("login refused: user=%r database=%s reason=%s", user, resource_id, refused.reason.value)
            raise
        except Exception as error:
            # A token that could not be judged is refused. The error's text is left out: it might quote the token.
            logger.error("login not judged: user=%r database=%s %s", user, resource_id, type(error).__name__)
            raise LoginRefused(Reason.UNJUDGED) from None

    def _verify(self, text: str, endpoints: set[str], user: str, resource_id: str, account: str, tls: bool) -> None:
        _require(tls, Reason.NO_TLS)
        token = _parse(text)
        _require(token.endpoint in endpoints, Reason.WRONG_ENDPOINT)
        _require(token.user == user, Reason.WRONG_USER)
        _require(token.scope.region == self._region, Reason.WRONG_REGION)
        credential = self._secret_of(token.access_key)
        if credential is None:
            raise LoginRefused(Reason.UNKNOWN_KEY)
        _require(sigv4.same_token(token.session_token, credential.session_token), Reason.WRONG_SESSION_TOKEN)
        now = self._clock()
        _require(credential.expires is None or now < credential.expires, Reason.CREDENTIALS_EXPIRED)
        _require(now - token.signed_at <= timedelta(seconds=token.expires), Reason.TOO_OLD)
        _require(token.signed_at - now <= MAX_FUTURE, Reason.NOT_YET_VALID)
        expected = sigv4.signature(
            method="GET",
            path="/",
            query=token.query,
            headers={"host": token.endpoint},
            signed_headers=("host",),
            payload_hash=sigv4.EMPTY_HASH,
            timestamp=token.timestamp,
            scope=token.scope,
            secret_key=credential.secret_key,
        )
        _require(hmac.compare_digest(expected.encode(), token.signature.encode()), Reason.WRONG_SIGNATURE)
        resource = f"arn:{self._partition}:rds-db:{self._region}:{account}:dbuser:{resource_id}/{user}"
        _require(self._judge(credential, "rds-db:connect", resource, account), Reason.NOT_ALLOWED)


def _parse(text: str) -> _Token:
    """Take a token apart; any difference from a signer's form is malformed."""
    endpoint, separator, query = text.partition("/?")
    _require(bool(separator) and len(text) <= MAX_TOKEN, Reason.MALFORMED)
    _require(re.fullmatch(r"[a-z0-9.\-]+:[1-9][0-9]{0,4}", endpoint, re.ASCII) is not None, Reason.MALFORMED)
    encoded = [tuple(part.split("=")) for part in query.split("&")]
    _require(all(len(pair) == 2 for pair in encoded), Reason.MALFORMED)
    pairs = [(pair[0], pair[1]) for pair in encoded]
    given = {name: _decoded(value) for name, value in pairs}
    _require(len(given) == len(pairs) and given.keys() - {_SESSION_TOKEN} == _PARAMETERS, Reason.MALFORMED)
    credential = sigv4.parse_credential(given["X-Amz-Credential"])
    signed_at = sigv4.parse_timestamp(given["X-Amz-Date"])
    if credential is None or signed_at is None:
        raise LoginRefused(Reason.MALFORMED)
    access_key, scope = credential
    _require(given["Action"] == "connect" and scope.service == "rds-db", Reason.MALFORMED)
    _require(given["X-Amz-Algorithm"] == sigv4.ALGORITHM, Reason.MALFORMED)
    _require(given["X-Amz-SignedHeaders"] == "host", Reason.MALFORMED)
    _require(given["X-Amz-Date"].startswith(scope.date + "T"), Reason.MALFORMED)
    expires = given["X-Amz-Expires"]
    _require(re.fullmatch(r"[1-9][0-9]{0,2}", expires, re.ASCII) is not None, Reason.MALFORMED)
    _require(int(expires) <= MAX_EXPIRES, Reason.MALFORMED)
    # With a wildcard, the ARN in the request would mean more than this user.
    _require(not set("*?") & set(given["DBUser"]), Reason.MALFORMED)
    return _Token(
        endpoint=endpoint,
        user=given["DBUser"],
        access_key=access_key,
        scope=scope,
        timestamp=given["X-Amz-Date"],
        signed_at=signed_at,
        expires=int(expires),
        session_token=given.get(_SESSION_TOKEN),
        signature=given["X-Amz-Signature"],
        query=tuple(pair for pair in pairs if pair[0] != "X-Amz-Signature"),
    )


def _decoded(value: str) -> str:
    """Decode a value that is percent-encoded as SigV4 does it; any other spelling is malformed."""
    try:
        decoded = unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise LoginRefused(Reason.MALFORMED) from None
    _require(bool(decoded) and quote(decoded, safe="-_.~") == value, Reason.MALFORMED)
    return decoded


def _require(holds: bool, otherwise: Reason) -> None:
    if not holds:
        raise LoginRefused(otherwise)
