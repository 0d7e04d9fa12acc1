"""Requests and answers of the HTTP API: payload format 2.0 in, JSON or application/problem+json (RFC 9457) out.

What a field or a parameter must be stands here once: requests are checked by it, and docs/openapi.json is made of it.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import cache
from typing import Annotated, Any, get_type_hints

from rdsiam.errors import InvalidRequest

MAX_BODY = 4096
_NO_STORE = {"cache-control": "no-store"}
_USUAL_AUDITS, _USUAL_DECISIONS = 30, 50
_TITLES = {
    400: "Malformed request",
    403: "Not allowed",
    404: "Not found",
    413: "Request too large",
    503: "Not available",
}
_HINTS = {
    "malformed": "GET /openapi.json says what a request may have",
    "not-allowed": "GET /databases lists what you may log in to, and as whom; access.yaml decides",
    "not-found": "GET /audits lists the audits that are over",
    "too-large": "leave the reason short; nothing else needs room",
    "unavailable": "try again after the seconds that Retry-After says; nothing was handed out",
}


@dataclass(frozen=True)
class Shape:
    """What a text must be.

    :ivar pattern: a full match, in words that Python's and JSON Schema's expressions share.
    :ivar problem: what a caller is told whose text is otherwise.
    """

    pattern: str
    problem: str
    description: str
    example: str
    format: str | None = None

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        schema: dict[str, Any] = handler(core)
        what = {"format": self.format} if self.format else {"pattern": f"^{self.pattern}$"}
        return schema | what | {"description": self.description, "examples": [self.example]}

    def read(self, name: str, value: Any) -> str:
        """Return the value, which is as it must be.

        :raises InvalidRequest: it is not.
        """
        if not isinstance(value, str) or re.fullmatch(self.pattern, value) is None:
            raise InvalidRequest(name, self.problem)
        return value


#: Printable text of the basic plane: no control, no line or paragraph separator, nothing invisible, nothing private.
_PRINTABLE = (
    "[ -~\u00a1-\u00ac\u00ae-\u061b\u061e-\u180d\u180f-\u1fff\u2010-\u2027\u2030-\u205e\u2070-\ud7ff"
    "\uf900-\ufdcf\ufdf0-\ufefe\uff01-\uffef]"
)
_NAME = r"[\x21-\x7e]{1,255}"
_NAME_PROBLEM = "must be a name of 1–255 printable ASCII characters"
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
_TIME_PROBLEM = "must be a time with a zone, such as 2026-12-31T00:00:00Z; a + is written %2B"
_LIMIT = Shape("([1-9][0-9]?|100)", "must be a number, 1–100", "how many at most", "30")
_AUDIT = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}"
_POSITION = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

DatabaseName = Annotated[
    str, Shape(_NAME, _NAME_PROBLEM, "Identifier of an instance, or the ARN of any database.", "orders-1")
]
UserName = Annotated[str, Shape(_NAME, _NAME_PROBLEM, "User in the database, case as declared.", "app_service")]
Reason = Annotated[
    str,
    Shape(
        f"{_PRINTABLE}{{0,500}}",
        "must be at most 500 printable characters",
        "Why, in the caller's words; where access.yaml requires one it may not be blank.",
        "TICKET-12: stuck orders",
    ),
]
Limit = Annotated[str, _LIMIT]
AuditId = Annotated[str, Shape(_AUDIT, "must be the id of an audit", "Id of an audit.", "20261124T040000Z-0a1b2c3d")]
CallerName = Annotated[
    str,
    Shape(
        "[ -~]{1,1024}",
        "must be 1–1,024 printable ASCII characters",
        "Role's ARN without its path, or `<iss>#<sub>` of a JWT.",
        "arn:aws:iam::123456789012:role/ci-runner",
    ),
]
Time = Annotated[
    str, Shape(_TIME, _TIME_PROBLEM, "Time with a zone (RFC 3339).", "2026-11-24T00:00:00Z", format="date-time")
]
Position = Annotated[
    str,
    Shape(_POSITION, "must be what `next` was", "`next` of the page before.", "019ab3a1-7d2c-7c31-9a0e-3f1d2b4c5d6e"),
]


class TooLarge(InvalidRequest):
    """The body is larger than any request needs to be."""


@dataclass(frozen=True)
class TokenRequest:
    """The body of `POST /tokens`."""

    database: DatabaseName
    user: UserName
    reason: Reason = ""


@dataclass(frozen=True)
class AuditsQuery:
    """The parameters of `GET /audits`."""

    limit: Limit = str(_USUAL_AUDITS)
    before: AuditId | None = None


@dataclass(frozen=True)
class DecisionsQuery:
    """The parameters of `GET /decisions`, newest first.

    :ivar since: seven days ago where it is left out.
    """

    database: DatabaseName | None = None
    caller: CallerName | None = None
    since: Time | None = None
    until: Time | None = None
    limit: Limit = str(_USUAL_DECISIONS)
    before: Position | None = None

    @property
    def span(self) -> tuple[float | None, float | None]:
        """`since` and `until` in seconds since 1970.

        :raises InvalidRequest: not in the calendar.
        """
        return _seconds("since", self.since), _seconds("until", self.until)


@dataclass(frozen=True)
class NoQuery:
    """No parameters."""


@dataclass(frozen=True)
class Problem:
    """An error, for programs by its `code`, for people by `detail` and `hint`. None holds a value from the request."""

    title: str
    status: int
    code: str
    detail: str
    hint: str
    request_id: str


def token_request(event: Mapping[str, Any]) -> TokenRequest:
    """Read the body of `POST /tokens`: a JSON object of TokenRequest's fields and nothing else.

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
        # As text, since of bytes json would guess the encoding.
        data = json.loads(raw.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise InvalidRequest("body", "must be a JSON object with each field once") from None
    if not isinstance(data, dict):
        raise InvalidRequest("body", "must be a JSON object")
    known = _shapes(TokenRequest)
    _refuse_unknown(data, known, "body", "unknown field")
    given = {name: shape.read(name, data.get(name, "")) for name, shape in known.items()}
    return TokenRequest(given["database"], given["user"], given["reason"].strip())


def query[Q: (AuditsQuery, DecisionsQuery, NoQuery)](event: Mapping[str, Any], kind: type[Q]) -> Q:
    """Read the parameters of a request; one that stands twice has a comma in it, and so is none.

    :raises InvalidRequest: naming the parameter.
    """
    given = event.get("queryStringParameters") or {}
    known = _shapes(kind)  # type: ignore[arg-type]  # mypy takes the class for its instances, and asks them for a hash
    _refuse_unknown(given, known, "query", "unknown parameter")
    return kind(**{name: known[name].read(name, value) for name, value in given.items()})


def answer(body: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return a 200 that nobody may cache; text is JSON already."""
    text = body if isinstance(body, str) else json.dumps(body)
    return {"statusCode": 200, "headers": {"content-type": "application/json"} | _NO_STORE, "body": text}


def problem(status: int, code: str, detail: str, request_id: str, retry_after: int | None = None) -> dict[str, Any]:
    """Return an error as application/problem+json.

    :param code: stable, for programs; `detail` is for people and never holds a value from the request.
    :param retry_after: seconds after which it is worth another try.
    """
    body = Problem(_TITLES[status], status, code, detail, _HINTS[code], request_id)
    retry = {"retry-after": str(retry_after)} if retry_after else {}
    headers = {"content-type": "application/problem+json"} | _NO_STORE | retry
    return {"statusCode": status, "headers": headers, "body": json.dumps(asdict(body))}


@cache
def _shapes(kind: type[Any]) -> dict[str, Shape]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _shape(hints[field.name]) for field in fields(kind)}


def _shape(hint: Any) -> Shape:
    found = [one for part in (hint, *getattr(hint, "__args__", ())) for one in getattr(part, "__metadata__", ())]
    shape: Shape = found[0]
    return shape


def _refuse_unknown(given: Mapping[str, Any], known: Mapping[str, Any], whole: str, problem: str) -> None:
    for name in sorted(set(given) - set(known)):
        # Only a plain name is repeated: the caller may have put a value where a name belongs.
        raise InvalidRequest(name if re.fullmatch(r"[A-Za-z_-]{1,40}", name) else whole, problem)


def _seconds(name: str, time: str | None) -> float | None:
    if time is None:
        return None
    try:
        return datetime.fromisoformat(time.upper()).timestamp()
    except ValueError:
        raise InvalidRequest(name, "is not in the calendar") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a field stands twice")
    return result
