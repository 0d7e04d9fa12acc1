"""Requests and answers of the HTTP API: payload format 2.0 in, JSON or application/problem+json (RFC 9457) out.

The rules for fields are defined here once, those for parameters in `api.queries`: requests are checked by them, and
docs/openapi.json is made from them.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Annotated, Any, NamedTuple, TypedDict, get_type_hints

from rdsiam.core.arn import lower_identifier
from rdsiam.errors import InvalidRequest, RdsiamError
from rdsiam.tokens.database_endpoints import WRITER

MAX_BODY = 4096
_NO_STORE = {"cache-control": "no-store"}


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


class Shape(NamedTuple):
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
    known = shapes(TokenRequest)
    refuse_unknown(data, known, "body", "unknown field")
    missing = {"endpoint": WRITER}
    given = {name: shape.read(name, data.get(name, missing.get(name, ""))) for name, shape in known.items()}
    return TokenRequest(
        lower_identifier(given["database"]), given["user"], given["reason"].strip(), given["endpoint"].lower()
    )


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
def shapes(kind: type[Any]) -> dict[str, Shape]:
    """Return the rule of each field of a request's class."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _shape(hints[field.name]) for field in fields(kind)}


def _shape(hint: Any) -> Shape:
    parts = (hint, *getattr(hint, "__args__", ()))
    shape: Shape = next(entry for part in parts for entry in getattr(part, "__metadata__", ()))
    return shape


def refuse_unknown(given: Mapping[str, Any], known: Mapping[str, Any], whole: str, problem: str) -> None:
    """Check that all names are known.

    :raises InvalidRequest: one is not; it is named if it is a plain name, else the whole is.
    """
    for name in sorted(set(given) - set(known)):
        # Only a plain name is repeated: a caller may have sent a secret as a name.
        raise InvalidRequest(name if re.fullmatch(r"[A-Za-z_-]{1,40}", name) else whole, problem)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a field is repeated")
    return result
