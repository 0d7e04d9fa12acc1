"""Past decisions, newest first: all of them for auditors, their own for other callers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rdsiam.access.callers import Caller
from rdsiam.access.store import AccessStore
from rdsiam.core.arn import lower_identifier
from rdsiam.errors import NotAllowed
from rdsiam.state.decisions import DecisionRecord, id_at, source_identity

_DEFAULT_SPAN = timedelta(days=7)
_LAST = 2**80 - 1
#: Maximum number of queries for a page. A page that needs more is short, and still has a next page.
_MAX_QUERIES = 40
_EXAMINED = 200


@dataclass(frozen=True)
class PastDecision(DecisionRecord):
    """A recorded decision and its id. The rule of a denial is for auditors, and empty for other callers."""

    id: str


@dataclass(frozen=True)
class PastDecisions:
    """A page of decisions; `next` is the value of `before` for the following page, and null on the last page."""

    decisions: list[PastDecision]
    next: str | None


@dataclass(frozen=True)
class Search:
    """Criteria for decisions; times are in seconds since 1970.

    :ivar database: ARN.
    :ivar before: the position at which the previous page ended.
    """

    limit: int
    database: str | None = None
    caller: str | None = None
    since: float | None = None
    until: float | None = None
    before: str | None = None


class DecisionsReader:
    """Reads the DynamoDB table DecisionsTable by its indexes, which lag behind by a moment."""

    def __init__(
        self,
        access: AccessStore,
        dynamodb: Any,
        table: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._access = access
        self._dynamodb = dynamodb
        self._table = table
        self._now = now

    def page(self, caller: Caller, search: Search) -> PastDecisions:
        """Return a page of the decisions that the caller may see.

        A caller who is no auditor sees decisions on requests of the same session only.

        :raises NotAllowed: the caller asks for another caller's decisions, or is not identified.
        :raises AccessFileUnavailable: access.yaml can't be read, so nobody is an auditor.
        """
        audits = any(auditor.admits(caller) for auditor in self._access.current().file.auditors)
        query = self._query(search, self._filters(caller, search, audits))
        if query.low >= query.high:
            return PastDecisions([], None)
        found = _page(self._run(query), search.limit)
        return found if audits else replace(found, decisions=[_as_told(each) for each in found.decisions])

    @staticmethod
    def _filters(caller: Caller, search: Search, audits: bool) -> Mapping[str, str]:
        """Return attributes and the values that decisions must have: those of the search and of the caller's rights.

        :param audits: the caller is an auditor, who sees the decisions of all callers.
        """
        database = None if search.database is None else lower_identifier(search.database)
        given = {"caller": search.caller, "database": database}
        filters = {name: value for name, value in given.items() if value is not None}
        if audits:
            return filters
        if (not caller.role and not caller.session) or search.caller not in (None, caller.name):
            raise NotAllowed
        return filters | {"caller": caller.name, "source_identity": source_identity(caller)}

    def _query(self, search: Search, filters: Mapping[str, str]) -> "_Query":
        """Choose the index with the fewest decisions to read."""
        now = self._now().timestamp()
        until = now if search.until is None else min(search.until, now)
        since = until - _DEFAULT_SPAN.total_seconds() if search.since is None else max(search.since, 0)
        low, high = id_at(int(since * 1000), 0), search.before or id_at(int(until * 1000) + 1, 0)
        for key in ("caller", "database"):
            if key in filters:
                others = {name: value for name, value in filters.items() if name != key}
                return _Query(f"by-{key}", key, [filters[key]], low, high, others)
        return _Query("by-day", "day", _days(low, high) if low < high else [], low, high, filters)

    def _run(self, query: "_Query") -> Iterator[tuple[str | None, list[dict[str, Any]]]]:
        """Yield the position that each call reached, None at the end, and the items it found."""
        names = {"#key": query.key, "#id": "id"} | {f"#{name}": name for name in query.filters}
        values = {f":{name}": {"S": value} for name, value in query.filters.items()}
        condition = " AND ".join(f"#{name} = :{name}" for name in query.filters)
        for number, partition in enumerate(query.partitions, 1):
            top: str | None = query.high
            while top is not None:
                answer = self._dynamodb.query(
                    TableName=self._table,
                    IndexName=query.index,
                    KeyConditionExpression="#key = :key AND #id BETWEEN :low AND :high",
                    ExpressionAttributeNames=names,
                    ExpressionAttributeValues=values
                    | {":key": {"S": partition}, ":low": {"S": query.low}, ":high": {"S": _before(top)}},
                    ScanIndexForward=False,
                    Limit=_EXAMINED,
                    **({"FilterExpression": condition} if condition else {}),
                )
                top = answer.get("LastEvaluatedKey", {}).get("id", {}).get("S")
                if top is not None and top <= query.low:
                    top = None
                yield top or (_end_before(partition) if number < len(query.partitions) else None), answer["Items"]


@dataclass(frozen=True)
class _Query:
    """A query of one index.

    :ivar key: the index's partition key.
    :ivar partitions: values of the key, newest first.
    :ivar low: the first id that counts.
    :ivar high: the first id after `low` that no longer counts.
    :ivar filters: attributes and the values that they must have.
    """

    index: str
    key: str
    partitions: list[str]
    low: str
    high: str
    filters: Mapping[str, str]


def _page(calls: Iterator[tuple[str | None, list[dict[str, Any]]]], limit: int) -> PastDecisions:
    shown: list[PastDecision] = []
    for number, (position, items) in enumerate(calls, 1):
        shown += [_decision(item) for item in items]
        if len(shown) > limit:
            return PastDecisions(shown[:limit], shown[limit - 1].id)
        if number == _MAX_QUERIES:
            return PastDecisions(shown, position)
    return PastDecisions(shown, None)


def _as_told(decision: PastDecision) -> PastDecision:
    """Return a decision as its caller may see it: a denial reveals no more than the answer to the request did."""
    return replace(decision, rule="") if decision.outcome == "denied" else decision


def _decision(item: dict[str, Any]) -> PastDecision:
    return PastDecision(**{field.name: item.get(field.name, {"S": ""})["S"] for field in fields(PastDecision)})


def _days(low: str, high: str) -> list[str]:
    """Return the days from before `high` back to `low`."""
    first, last = _day(low), _day(_before(high))
    return [(last - timedelta(days=number)).strftime("%Y-%m-%d") for number in range((last - first).days + 1)]


def _day(position: str) -> datetime:
    at = datetime.fromtimestamp(int(position[:8] + position[9:13], 16) / 1000, UTC)
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def _before(position: str) -> str:
    """Return the id just before a position."""
    text = f"{int(position.replace('-', ''), 16) - 1:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _end_before(day: str) -> str:
    """Return the last id of the previous day: the position from which the listing continues."""
    return id_at(int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000) - 1, _LAST)
