"""Parameters of the GET routes, which ReportsFunction answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar

from rdsiam.api.http import DatabaseName, Shape, refuse_unknown, shapes
from rdsiam.errors import InvalidRequest

_USUAL_AUDITS, _USUAL_DECISIONS = 30, 50
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
_TIME_PROBLEM = "must be a time with a zone, such as 2026-12-31T00:00:00Z; a + is written %2B"
_LIMIT = Shape("([1-9][0-9]?|100)", "must be a number, 1–100", "maximum number", "30")
_AUDIT = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}"
_POSITION = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

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


def query(event: Mapping[str, Any], kind: type[Query]) -> Query:
    """Read the parameters of a request. API Gateway joins repeated parameters by commas, which no rule accepts.

    :raises InvalidRequest: a parameter breaks its rule; the error names the parameter.
    """
    given = event.get("queryStringParameters") or {}
    known = shapes(kind)  # type: ignore[arg-type]  # mypy takes the class for its instances, and asks them for a hash
    refuse_unknown(given, known, "query", "unknown parameter")
    return kind(**{name: known[name].read(name, value) for name, value in given.items()})


def _seconds(name: str, time: str | None) -> float | None:
    if time is None:
        return None
    try:
        return datetime.fromisoformat(time.upper()).timestamp()
    except ValueError:
        raise InvalidRequest(name, "is not in the calendar") from None
