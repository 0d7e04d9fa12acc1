"""Requests and answers of the HTTP API: payload format 2.0 in, JSON or application/problem+json (RFC 9457) out."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rdsiam.errors import InvalidRequest

MAX_BODY = 4096
_NO_STORE = {"cache-control": "no-store"}
_NAME = re.compile(r"[\x21-\x7e]{1,255}")
_AUDIT = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}", re.ASCII)
_USUAL_AUDITS = 30
_TITLES = {
    400: "Malformed request",
    403: "Not allowed",
    404: "Not found",
    413: "Request too large",
    429: "Too many requests",
    503: "Not available",
}


class TooLarge(InvalidRequest):
    """The body is larger than any request needs to be."""


@dataclass(frozen=True)
class TokenRequest:
    """The body of `POST /tokens`."""

    database: str
    user: str
    reason: str


@dataclass(frozen=True)
class AuditsRequest:
    """A request for one audit, or for the list of them.

    :ivar audit: what the path has for an id, which may be anything; None for the list.
    """

    audit: str | None = None
    limit: int = 0
    before: str | None = None


def token_request(event: Mapping[str, Any]) -> TokenRequest:
    """Read the body of `POST /tokens`: `{"database", "user", "reason"?}` and nothing else.

    :raises InvalidRequest: naming the field. TooLarge where the body is.
    """
    body = event.get("body") or ""
    try:
        raw = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raise InvalidRequest("body", "is not readable") from None
    if len(raw) > MAX_BODY:
        raise TooLarge("body", f"is larger than {MAX_BODY} bytes")
    try:
        data = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise InvalidRequest("body", "must be a JSON object with each field once") from None
    if not isinstance(data, dict):
        raise InvalidRequest("body", "must be a JSON object")
    for name in sorted(set(data) - {"database", "user", "reason"}):
        raise InvalidRequest(name if re.fullmatch(r"[A-Za-z_-]{1,40}", name) else "body", "unknown field")
    for name in ("database", "user"):
        value = data.get(name)
        if not isinstance(value, str) or _NAME.fullmatch(value) is None:
            raise InvalidRequest(name, "must be a name of 1–255 printable ASCII characters")
    reason = data.get("reason", "")
    if not isinstance(reason, str) or len(reason) > 500 or not reason.isprintable():
        raise InvalidRequest("reason", "must be at most 500 printable characters")
    return TokenRequest(data["database"], data["user"], reason.strip())


def audits_request(event: Mapping[str, Any]) -> AuditsRequest:
    """Read `GET /audits?limit&before` or `GET /audits/{id}`.

    :raises InvalidRequest: naming the parameter. An id that no audit can have is left to be not found.
    """
    path = event.get("pathParameters") or {}
    if "id" in path:
        return AuditsRequest(audit=str(path["id"]))
    query = event.get("queryStringParameters") or {}
    for name in sorted(set(query) - {"limit", "before"}):
        raise InvalidRequest(name if re.fullmatch(r"[A-Za-z_-]{1,40}", name) else "query", "unknown parameter")
    limit, before = query.get("limit", str(_USUAL_AUDITS)), query.get("before")
    if re.fullmatch(r"[1-9][0-9]?|100", limit, re.ASCII) is None:
        raise InvalidRequest("limit", "must be a number, 1–100")
    if before is not None and _AUDIT.fullmatch(before) is None:
        raise InvalidRequest("before", "must be the id of an audit")
    return AuditsRequest(limit=int(limit), before=before)


def answer(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a 200 that nobody may cache."""
    return {"statusCode": 200, "headers": {"content-type": "application/json"} | _NO_STORE, "body": json.dumps(body)}


def problem(status: int, code: str, detail: str, request_id: str, retry_after: int | None = None) -> dict[str, Any]:
    """Return an error as application/problem+json.

    :param code: stable, for programs; `detail` is for people and never holds a value from the request.
    :param retry_after: seconds after which it is worth another try.
    """
    body = {"title": _TITLES[status], "status": status, "code": code, "detail": detail, "request_id": request_id}
    retry = {"retry-after": str(retry_after)} if retry_after else {}
    headers = {"content-type": "application/problem+json"} | _NO_STORE | retry
    return {"statusCode": status, "headers": headers, "body": json.dumps(body)}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a field stands twice")
    return result
