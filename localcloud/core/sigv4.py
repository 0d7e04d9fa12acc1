"""The verifying side of AWS's Signature Version 4: the checks that a server makes of a signed request.

Written from the specification, independently of `rdsiam.signer` and of botocore, so that each checks the others.
Source: "Create a signed AWS API request", AWS General Reference; "Authenticating Requests: Using Query Parameters", S3.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote_to_bytes

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_HASH = hashlib.sha256(b"").hexdigest()
MAX_SKEW = timedelta(minutes=5)
_MAX_PRESIGNED_SECONDS = 604_800
_UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


class SignatureRefused(Exception):
    """A request whose signature AWS would refuse; `code` is AWS's error code, `message` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Credential:
    """A known access key: the secret that verifies its signatures, and its owner.

    `principal_arn` is the ARN in policies and logs: a user's, or the assumed-role ARN of a session, whose role is
    `role_arn` (with its path).
    """

    access_key: str
    secret_key: str = field(repr=False)
    principal_arn: str
    account: str
    session_token: str | None = field(default=None, repr=False)
    expires: datetime | None = None
    role_arn: str | None = None
    session_policy: str | None = None


@dataclass(frozen=True)
class Scope:
    """The credential scope of a signature: the day, region and service that its key is derived for."""

    date: str
    region: str
    service: str

    def __str__(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


@dataclass(frozen=True)
class Claim:
    """A request's own statement about its signature, before anything is verified."""

    access_key: str
    scope: Scope
    timestamp: str
    signed_headers: tuple[str, ...]
    signature: str
    session_token: str | None = field(default=None, repr=False)
    expires: int | None = None  # seconds; None: signed by headers, not presigned


def signature(
    *,
    method: str,
    path: str,
    query: Iterable[tuple[str, str]],
    headers: Headers,
    signed_headers: Sequence[str],
    payload_hash: str,
    timestamp: str,
    scope: Scope,
    secret_key: str,
) -> str:
    """Return the signature that the holder of `secret_key` would make.

    :param path: the canonical path: encoded once for S3 and tokens, twice for other services.
    :param query: name and value, percent-encoded, without `X-Amz-Signature`.
    :param timestamp: of the form 20260131T235959Z.
    """
    values = _by_name(headers)
    canonical = "\n".join(
        [
            method,
            path,
            "&".join(f"{name}={value}" for name, value in sorted(query)),
            "".join(f"{name}:{','.join(' '.join(v.split()) for v in values[name])}\n" for name in signed_headers),
            ";".join(signed_headers),
            payload_hash,
        ]
    )
    to_sign = "\n".join([ALGORITHM, timestamp, str(scope), hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret_key}".encode()
    for part in (scope.date, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def verify_request(
    method: str,
    path: str,
    query: str,
    headers: Headers,
    body: bytes,
    secret_of: Callable[[str], Credential | None],
    now: datetime | None = None,
) -> Credential:
    """Verify a request signed by its `Authorization` header or presigned by its query, and return the signer.

    :param path: as received, percent-encoded.
    :param query: as received, without the question mark.
    :param headers: all of them, any case.
    :param secret_of: returns the credential of an access key, None for an unknown or inactive one.
    :param now: UTC; the present when omitted.
    :raises SignatureRefused: with AWS's error code.
    """
    now = now or datetime.now(UTC)
    values = _by_name(headers)
    pairs = _pairs(query)
    claim = read_claim(values, pairs)
    credential = secret_of(claim.access_key)
    if credential is None:
        raise SignatureRefused("InvalidClientTokenId", "The security token included in the request is invalid.")
    if not same_token(claim.session_token, credential.session_token):
        raise SignatureRefused("InvalidClientTokenId", "The security token included in the request is invalid.")
    if credential.expires is not None and credential.expires <= now:
        raise SignatureRefused("ExpiredToken", "The security token included in the request is expired")
    _check_time(claim, now)
    _check_signed_headers(claim, values)
    expected = signature(
        method=method,
        path=_canonical_path(path, claim.scope.service),
        query=[(name, value) for name, value in pairs if name != "X-Amz-Signature"],
        headers=[(name, value) for name, all_values in values.items() for value in all_values],
        signed_headers=claim.signed_headers,
        payload_hash=_payload_hash(claim, values, body),
        timestamp=claim.timestamp,
        scope=claim.scope,
        secret_key=credential.secret_key,
    )
    if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
        raise SignatureRefused(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method.",
        )
    return credential


def read_claim(headers: Headers | Mapping[str, list[str]], query: str | Sequence[tuple[str, str]]) -> Claim:
    """Read a request's statement about its signature, without verifying it.

    :raises SignatureRefused: MissingAuthenticationToken or IncompleteSignature.
    """
    values = _by_name(headers)
    pairs = _pairs(query) if isinstance(query, str) else query
    presigned = any(name == "X-Amz-Algorithm" for name, _ in pairs)
    authorization = values.get("authorization", [])
    if presigned and authorization:
        raise _incomplete("only one of the Authorization header and X-Amz-Algorithm may be given")
    if presigned:
        return _claim_of_query(pairs)
    if not authorization:
        raise SignatureRefused("MissingAuthenticationToken", "Missing Authentication Token")
    return _claim_of_headers(authorization, values)


def parse_timestamp(timestamp: str) -> datetime | None:
    """Return the time of an `X-Amz-Date` (20260131T235959Z), None if it isn't one."""
    if not re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", timestamp, re.ASCII):
        return None
    try:
        return datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def same_token(given: str | None, expected: str | None) -> bool:
    """Compare session tokens in constant time; a missing one equals only a missing one."""
    if given is None or expected is None:
        return given is expected
    return hmac.compare_digest(given.encode(), expected.encode())


def parse_credential(text: str) -> tuple[str, Scope] | None:
    """Split `access key/date/region/service/aws4_request`; None if it isn't of that form."""
    parts = text.split("/")
    if len(parts) != 5 or not all(parts) or parts[4] != "aws4_request":
        return None
    return parts[0], Scope(*parts[1:4])


def _claim_of_headers(authorization: list[str], values: Mapping[str, list[str]]) -> Claim:
    algorithm, _, rest = authorization[0].strip().partition(" ")
    if len(authorization) != 1 or algorithm != ALGORITHM:
        raise _incomplete("the Authorization header is not one AWS4-HMAC-SHA256 signature")
    fields: dict[str, str] = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        if name in fields:
            raise _incomplete(f"Authorization header has more than one '{name}'")
        fields[name] = value
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not fields.get(name):
            raise _incomplete(f"Authorization header requires '{name}' parameter")
    dates = values.get("x-amz-date", [])
    tokens = values.get("x-amz-security-token", [])
    if len(dates) != 1 or len(tokens) > 1:
        raise _incomplete("Authorization header requires existence of one 'X-Amz-Date' header")
    return _claim(fields["Credential"], dates[0], fields["SignedHeaders"], fields["Signature"], tokens, None)


def _claim_of_query(pairs: Sequence[tuple[str, str]]) -> Claim:
    given: dict[str, str] = {}
    for name, value in pairs:
        if name.startswith("X-Amz-"):
            if name in given:
                raise _incomplete(f"the query has more than one '{name}'")
            given[name] = unquote_to_bytes(value).decode("utf-8", "replace")
    required = ("X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature")
    if given["X-Amz-Algorithm"] != ALGORITHM or not all(given.get(name) for name in required):
        raise _incomplete("a presigned URL requires the algorithm AWS4-HMAC-SHA256 and " + ", ".join(required))
    expires = given["X-Amz-Expires"]
    if not re.fullmatch(r"[0-9]{1,6}", expires, re.ASCII) or not 0 < int(expires) <= _MAX_PRESIGNED_SECONDS:
        raise _incomplete("X-Amz-Expires must be a number of seconds, at most a week")
    tokens = [given["X-Amz-Security-Token"]] if "X-Amz-Security-Token" in given else []
    return _claim(
        given["X-Amz-Credential"],
        given["X-Amz-Date"],
        given["X-Amz-SignedHeaders"],
        given["X-Amz-Signature"],
        tokens,
        int(expires),
    )


def _claim(
    credential: str, timestamp: str, signed: str, signature: str, tokens: Sequence[str], expires: int | None
) -> Claim:
    parsed = parse_credential(credential)
    if parsed is None:
        raise _incomplete("Credential must be access key, date, region, service and 'aws4_request'")
    if parse_timestamp(timestamp) is None:
        raise _incomplete("X-Amz-Date must be of the form 20260131T235959Z")
    token = tokens[0] if tokens else None
    return Claim(parsed[0], parsed[1], timestamp, tuple(signed.split(";")), signature, token, expires)


def _check_time(claim: Claim, now: datetime) -> None:
    signed_at = parse_timestamp(claim.timestamp)
    assert signed_at is not None  # read_claim has checked this
    if not claim.timestamp.startswith(claim.scope.date + "T"):
        raise SignatureRefused("SignatureDoesNotMatch", "Date in Credential scope does not match the request's date")
    if signed_at > now + MAX_SKEW:
        raise SignatureRefused("SignatureDoesNotMatch", f"Signature not yet current: {claim.timestamp} is still later")
    life = MAX_SKEW if claim.expires is None else timedelta(seconds=claim.expires)
    if signed_at + life < now:
        raise SignatureRefused("SignatureDoesNotMatch", f"Signature expired: {claim.timestamp} is now too early")


def _check_signed_headers(claim: Claim, values: Mapping[str, list[str]]) -> None:
    signed = claim.signed_headers
    if "host" not in signed or list(signed) != sorted(set(signed)) or any(name not in values for name in signed):
        raise SignatureRefused("SignatureDoesNotMatch", "SignedHeaders must name existing headers, host among them")
    unsigned = [name for name in values if name.startswith("x-amz-") and name not in signed]
    if unsigned:
        raise SignatureRefused("SignatureDoesNotMatch", f"headers are not signed: {', '.join(sorted(unsigned))}")


def _payload_hash(claim: Claim, values: Mapping[str, list[str]], body: bytes) -> str:
    given = values.get("x-amz-content-sha256", [None])[0]
    if given is None and claim.expires is not None and claim.scope.service == "s3":
        return _UNSIGNED_PAYLOAD  # the signer of such a URL can't know the body
    actual = hashlib.sha256(body).hexdigest()
    if given is None or given == actual:
        return actual
    if given == _UNSIGNED_PAYLOAD or given.startswith("STREAMING-"):
        return given
    raise SignatureRefused("SignatureDoesNotMatch", "The body is not the one whose hash was signed.")


def _canonical_path(path: str, service: str) -> str:
    if service == "s3":
        return path or "/"
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            segments = segments[:-1]
        elif segment not in ("", "."):
            segments.append(segment)
    normal = "/" + "/".join(segments)
    if segments and path.endswith("/"):
        normal += "/"
    return quote(normal, safe="/~")


def _pairs(query: str) -> list[tuple[str, str]]:
    """Split a query and bring names and values to AWS's one encoding, whatever the client's was."""
    pairs = (part.partition("=") for part in query.split("&") if part)
    return [(_encoded(name), _encoded(value)) for name, _, value in pairs]


def _encoded(text: str) -> str:
    return quote(unquote_to_bytes(text), safe="-_.~")


def _by_name(headers: Headers | Mapping[str, list[str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        values.setdefault(name.lower(), []).extend([value] if isinstance(value, str) else value)
    return values


def _incomplete(message: str) -> SignatureRefused:
    return SignatureRefused("IncompleteSignature", message)
