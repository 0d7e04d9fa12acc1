"""Past decisions: all of them for auditors, one's own for everybody, newest first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from rdsiam.access.callers import Caller
from rdsiam.access.store import AccessStore
from rdsiam.errors import NotAllowed
from rdsiam.state.decisions import DecisionRecord, id_at, source_identity

_USUAL = timedelta(days=7)
_LAST = 2**80 - 1
#: So many calls a page: where they find less than was asked for, the page is short, and has a next one all the same.
_MOST_QUERIES = 40
_EXAMINED = 200


@dataclass(frozen=True)
class PastDecision(DecisionRecord):
    """A record, and its id."""

    id: str


@dataclass(frozen=True)
class PastDecisions:
    """A page of records; `next` leads to the following one, and is null on the last."""

    decisions: list[PastDecision]
    next: str | None


@dataclass(frozen=True)
class Search:
    """Which decisions: times in seconds since 1970, `before` the position that a page ended with.

    :ivar database: ARN.
    """

    limit: int
    database: str | None = None
    caller: str | None = None
    since: float | None = None
    until: float | None = None
    before: str | None = None


class DecisionsReader:
    """Reads the DynamoDB table DecisionsTable by its indexes, which are a moment behind."""

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
        """Return a page of what the caller may see: of who is no auditor, what the very same session asked for.

        :raises NotAllowed: it asks for another caller's, or is nobody.
        :raises AccessFileUnavailable: access.yaml can't be read, so nobody is an auditor.
        """
        equal: dict[str, str] = {}
        name = search.caller
        if not any(auditor.admits(caller) for auditor in self._access.current().file.auditors):
            if (not caller.role and not caller.session) or search.caller not in (None, caller.name):
                raise NotAllowed
            name = caller.name
            equal["source_identity"] = source_identity(caller)
        now = self._now().timestamp()
        until = now if search.until is None else min(search.until, now)
        since = until - _USUAL.total_seconds() if search.since is None else max(search.since, 0)
        low, high = id_at(int(since * 1000), 0), search.before or id_at(int(until * 1000) + 1, 0)
        if low >= high:
            return PastDecisions([], None)
        if name is not None:
            if search.database is not None:
                equal["database"] = search.database
            found = self._in("by-caller", "caller", [name], low, high, equal)
        elif search.database is not None:
            found = self._in("by-database", "database", [search.database], low, high, equal)
        else:
            found = self._in("by-day", "day", _days(low, high), low, high, equal)
        return _page(found, search)

    def _in(
        self, index: str, key: str, partitions: list[str], low: str, high: str, equal: dict[str, str]
    ) -> Iterator[tuple[str | None, list[dict[str, Any]]]]:
        """Yield how far was looked, None for all of it, and what was found up to there, call by call.

        :param low: the first id that counts; `high` is the first that doesn't any more.
        """
        names = {"#key": key, "#id": "id"} | {f"#{name}": name for name in equal}
        values = {f":{name}": {"S": value} for name, value in equal.items()}
        condition = " AND ".join(f"#{name} = :{name}" for name in equal)
        for number, partition in enumerate(partitions, 1):
            top: str | None = high
            while top is not None:
                answer = self._dynamodb.query(
                    TableName=self._table,
                    IndexName=index,
                    KeyConditionExpression="#key = :key AND #id BETWEEN :low AND :high",
                    ExpressionAttributeNames=names,
                    ExpressionAttributeValues=values
                    | {":key": {"S": partition}, ":low": {"S": low}, ":high": {"S": _before(top)}},
                    ScanIndexForward=False,
                    Limit=_EXAMINED,
                    **({"FilterExpression": condition} if condition else {}),
                )
                top = answer.get("LastEvaluatedKey", {}).get("id", {}).get("S")
                if top is not None and top <= low:
                    top = None
                yield top or (_end_before(partition) if number < len(partitions) else None), answer["Items"]


def _page(found: Iterator[tuple[str | None, list[dict[str, Any]]]], search: Search) -> PastDecisions:
    shown: list[PastDecision] = []
    for number, (position, items) in enumerate(found, 1):
        shown += [_decision(item) for item in items]
        if len(shown) > search.limit:
            return PastDecisions(shown[: search.limit], shown[search.limit - 1].id)
        if number == _MOST_QUERIES:
            return PastDecisions(shown, position)
    return PastDecisions(shown, None)


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
    """Return the greatest id that is less."""
    text = f"{int(position.replace('-', ''), 16) - 1:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _end_before(day: str) -> str:
    """Return the last id of the day before: a position from which the listing goes on with that day."""
    return id_at(int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000) - 1, _LAST)
