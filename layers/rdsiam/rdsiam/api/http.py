"""Requests and answers of the HTTP API: payload format 2.0 in, JSON or application/problem+json (RFC 9457) out.

The rules for fields and parameters are defined here once: requests are checked by them, and docs/openapi.json is made
from them.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import cache
from typing import Annotated, Any, NamedTuple, TypedDict, TypeVar, get_type_hints

from rdsiam.core.arn import lower_identifier
from rdsiam.errors import InvalidRequest, RdsiamError
from rdsiam.tokens.database_endpoints import WRITER

MAX_BODY = 4096
_NO_STORE = {"cache-control": "no-store"}
_USUAL_AUDITS, _USUAL_DECISIONS = 30, 50


class Response(TypedDict):
    """An answer for API Gateway."""

    statusCode: int
    headers: dict[str, str]
    body: str


class ProblemKind(NamedTuple):
    """Problems with one code.

    :ivar retry_after: seconds after which another try is worthwhile; None if it never is.
    """

    status: int
    title: str
    hint: str
    retry_after: int | None = None


#: Code of a problem → its kind. An error with another code is answered as `unavailable`.
PROBLEMS: Mapping[str, ProblemKind] = {
    "malformed": ProblemKind(400, "Malformed request", "GET /openapi.json describes valid requests"),
    "no-such-endpoint": ProblemKind(
        404, "No such endpoint", "GET /databases lists the endpoints of the databases that you may log in to"
    ),
    "not-allowed": ProblemKind(
        403, "Not allowed", "GET /databases lists the databases and users that you may log in to; access.yaml decides"
    ),
    "not-found": ProblemKind(404, "Not found", "GET /audits lists the finished audits"),
    "reason-required": ProblemKind(403, "Reason required", "send a `reason` of 1–500 printable characters"),
    "signs-itself": ProblemKind(
        403, "Signs itself", "sign the token with the credentials of your role, for the endpoint that RDS reports"
    ),
    "too-large": ProblemKind(413, "Request too large", "give a shorter reason; no other field needs much room"),
    "unavailable": ProblemKind(
        503, "Not available", "try again after the seconds in Retry-After; no token was given", retry_after=5
    ),
    "user-revoked": ProblemKind(403, "User revoked", "ask an operator of rdsiam, who sees the reason"),
}


@dataclass(frozen=True)
class Shape:
    """Rule for a text.

    :ivar pattern: matches the whole text; only syntax that Python and JSON Schema share.
    :ivar problem: message for a text that breaks the rule.
    """

    pattern: str
    problem: str
    description: str
    example: str
    format: str | None = None

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        schema: dict[str, Any] = handler(core)
        rule = {"format": self.format} if self.format else {"pattern": f"^{self.pattern}$"}
        return schema | rule | {"description": self.description, "examples": [self.example]}

    def read(self, name: str, value: Any) -> str:
        """Return the value.

        :raises InvalidRequest: the value breaks the rule.
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
_NAME_PROBLEM = "must be a name of 1–255 printable ASCII characters, none of them a space"
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
_TIME_PROBLEM = "must be a time with a zone, such as 2026-12-31T00:00:00Z; a + is written %2B"
_LIMIT = Shape("([1-9][0-9]?|100)", "must be a number, 1–100", "maximum number", "30")
_AUDIT = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}"
_POSITION = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

DatabaseName = Annotated[
    str, Shape(_NAME, _NAME_PROBLEM, "Identifier of an instance, or the ARN of any database.", "orders-1")
]
UserName = Annotated[str, Shape(_NAME, _NAME_PROBLEM, "User in the database, case as declared.", "app_service")]
EndpointName = Annotated[
    str,
    Shape(
        r"[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9.])?",
        "must be writer, reader, or the name or host name of an endpoint",
        "`writer`, `reader`, or the name or host name of an endpoint that `GET /databases` lists.",
        "reader",
    ),
]
Reason = Annotated[
    str,
    Shape(
        f"{_PRINTABLE}{{0,500}}",
        "must be at most 500 printable characters",
        "Why, in the caller's words; may not be blank if access.yaml requires a reason.",
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
    Shape(
        _POSITION, "must be the value of `next`", "`next` of the page before.", "019ab3a1-7d2c-7c31-9a0e-3f1d2b4c5d6e"
    ),
]


class TooLarge(InvalidRequest):
    """The body is larger than any request needs to be."""

    code = "too-large"


@dataclass(frozen=True)
class TokenRequest:
    """The body of `POST /tokens`."""

    database: DatabaseName
    user: UserName
    reason: Reason = ""
    endpoint: EndpointName = WRITER


@dataclass(frozen=True)
class AuditsQuery:
    """The parameters of `GET /audits`."""

    limit: Limit = str(_USUAL_AUDITS)
    before: AuditId | None = None


@dataclass(frozen=True)
class DecisionsQuery:
    """The parameters of `GET /decisions`, newest first.

    :ivar since: seven days ago by default.
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

        :raises InvalidRequest: a time is not in the calendar.
        """
        return _seconds("since", self.since), _seconds("until", self.until)


@dataclass(frozen=True)
class NoQuery:
    """No parameters."""


Query = TypeVar("Query", AuditsQuery, DecisionsQuery, NoQuery)


@dataclass(frozen=True)
class Problem:
    """An error: `code` for programs, `detail` and `hint` for people. No field repeats a value from the request."""

    title: str
    status: int
    code: str
    detail: str
    hint: str
    request_id: str


def token_request(event: Mapping[str, Any]) -> TokenRequest:
    """Read the body of `POST /tokens`: a JSON object with TokenRequest's fields and no others.

    :raises InvalidRequest: a field breaks its rule; the error names the field.
    :raises TooLarge: the body is too large.
    """
    body = event.get("body") or ""
    try:
        raw = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raise InvalidRequest("body", "is not readable") from None
    if len(raw) > MAX_BODY:
        raise TooLarge("body", f"is larger than {MAX_BODY} bytes")
    try:
        # Decoded first, because json guesses the encoding of bytes.
        data = json.loads(raw.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise InvalidRequest("body", "must be a JSON object with each field once") from None
    if not isinstance(data, dict):
        raise InvalidRequest("body", "must be a JSON object")
    known = _shapes(TokenRequest)
    _refuse_unknown(data, known, "body", "unknown field")
    missing = {"endpoint": WRITER}
    given = {name: shape.read(name, data.get(name, missing.get(name, ""))) for name, shape in known.items()}
    return TokenRequest(
        lower_identifier(given["database"]), given["user"], given["reason"].strip(), given["endpoint"].lower()
    )


def query(event: Mapping[str, Any], kind: type[Query]) -> Query:
    """Read the parameters of a request. API Gateway joins repeated parameters by commas, which no rule accepts.

    :raises InvalidRequest: a parameter breaks its rule; the error names the parameter.
    """
    given = event.get("queryStringParameters") or {}
    known = _shapes(kind)  # type: ignore[arg-type]  # mypy takes the class for its instances, and asks them for a hash
    _refuse_unknown(given, known, "query", "unknown parameter")
    return kind(**{name: known[name].read(name, value) for name, value in given.items()})


def answer(body: Mapping[str, Any] | str) -> Response:
    """Return a 200 that nobody may cache.

    :param body: an object, or text that is JSON already.
    """
    text = body if isinstance(body, str) else json.dumps(body)
    return {"statusCode": 200, "headers": {"content-type": "application/json"} | _NO_STORE, "body": text}


def code_of(error: Exception) -> str:
    """Return the code of the problem to answer an error with; `unavailable` unless the API has the error's own code."""
    return error.code if isinstance(error, RdsiamError) and error.code in PROBLEMS else "unavailable"


def problem(code: str, detail: str, request_id: str) -> Response:
    """Return an error as application/problem+json.

    :param code: a key of `PROBLEMS`.
    :param detail: for people; never repeats a value from the request.
    """
    kind = PROBLEMS[code]
    body = Problem(kind.title, kind.status, code, detail, kind.hint, request_id)
    retry = {"retry-after": str(kind.retry_after)} if kind.retry_after is not None else {}
    headers = {"content-type": "application/problem+json"} | _NO_STORE | retry
    return {"statusCode": kind.status, "headers": headers, "body": json.dumps(asdict(body))}


@cache
def _shapes(kind: type[Any]) -> dict[str, Shape]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _shape(hints[field.name]) for field in fields(kind)}


def _shape(hint: Any) -> Shape:
    parts = (hint, *getattr(hint, "__args__", ()))
    shape: Shape = next(entry for part in parts for entry in getattr(part, "__metadata__", ()))
    return shape


def _refuse_unknown(given: Mapping[str, Any], known: Mapping[str, Any], whole: str, problem: str) -> None:
    for name in sorted(set(given) - set(known)):
        # Only a plain name is repeated: a caller may have sent a secret as a name.
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
        raise ValueError("a field is repeated")
    return result
