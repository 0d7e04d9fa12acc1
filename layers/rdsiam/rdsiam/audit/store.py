"""What an audit writes into the report bucket and reads back: a prefix for each run, so that no run overwrites another.

    audits/<id>/context.json                   what batches have to know of the account: no password, ever
    audits/<id>/batches/<number>.json          the databases of one batch
    audits/<id>/databases/<resource id>.json   what one database gave, written as soon as it is known
    audits/<id>/iam.json                       findings in the account's policies
    audits/<id>/report.json …                  the reports, see REPORTS
    audits/<id>/history.json                   what is open after the run, since when; the trend
    audits/index/<id>.<scope>.json             the run's summary, written last: a run is over when it is there

Ids start with the time, so that their order is that of the runs. A run compares itself with the newest whole run that
is over and older: two at once, or one that is late, read and write no common object. An id whose time is still to come
is not that of a run: such an entry of the index would make every later run an old one.
"""

import json
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from rdsiam.aws.rds import Database

logger = logging.getLogger(__name__)

#: `all` the fleet, or `some` databases that were named; only the first say how the fleet is.
Scope = Literal["all", "some"]
#: The reports of a run: their short name → the object's name and its type.
REPORTS: Mapping[str, tuple[str, str]] = {
    "json": ("report.json", "application/json"),
    "csv": ("report.csv", "text/csv; charset=utf-8"),
    "html": ("report.html", "text/html; charset=utf-8"),
    "asff": ("report.asff.json", "application/json"),
    "ocsf": ("report.ocsf.jsonl", "application/x-ndjson"),
}
_ROOT = "audits/"
_INDEX = "audits/index/"
_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}", re.ASCII)
_ENTRY = re.compile(r"audits/index/(\d{8}T\d{6}Z-[0-9a-f]{8})\.(all|some)\.json", re.ASCII)
_RESOURCE_ID = re.compile(r"[A-Za-z0-9-]{1,80}")
#: Clocks of two functions differ by less.
_SKEW = timedelta(minutes=1)
#: Parts are small and S3 takes its time for each: so many are fetched at once.
_AT_ONCE = 8


@dataclass(frozen=True)
class FinishedRun:
    """A run that is over."""

    id: str
    scope: Scope


def new_id(at: datetime) -> str:
    """Return an id for a run that starts then: behind the second its fraction, so that order is kept, and chance."""
    return f"{at.strftime('%Y%m%dT%H%M%SZ')}-{at.microsecond:05x}{secrets.randbelow(4096):03x}"


def is_id(text: object) -> bool:
    """Return whether that could be the id of a run."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


class AuditStore:
    """The objects under `audits/` of the report bucket. All of them are JSON but for the reports."""

    def __init__(self, s3: Any, bucket: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._now = now

    # --- While it runs ---

    def put_context(self, audit: str, context: Mapping[str, Any]) -> None:
        """Keep what batches have to know of the account."""
        self._put(f"{_of(audit)}context.json", context)

    def context(self, audit: str) -> dict[str, Any]:
        """Return what `put_context` kept."""
        found: dict[str, Any] = self._get(f"{_of(audit)}context.json")
        return found

    def put_batch(self, audit: str, number: int, databases: Iterable[Database]) -> None:
        """Keep which databases batch `number` is of."""
        self._put(f"{_of(audit)}batches/{number}.json", [database.to_json() for database in databases])

    def batch(self, audit: str, number: int) -> tuple[Database, ...]:
        """Return the databases of batch `number`."""
        return tuple(Database.from_json(one) for one in self._get(f"{_of(audit)}batches/{number}.json"))

    def put_part(self, audit: str, database: Database, part: Mapping[str, Any]) -> None:
        """Keep what a database gave: `{"database": its entry in the report, "findings": […], "users": […] or null}`."""
        self._put(_part(audit, database), part)

    def done(self, audit: str, databases: Sequence[Database]) -> set[str]:
        """Return the resource ids of those databases that are done.

        :param databases: a batch: neighbours in the order of `part_order`, so that one listing sees them all.
        """
        keys = {_part(audit, database): database.resource_id for database in databases}
        if not keys:
            return set()
        # The first key itself must be found, and StartAfter leaves it out: so start at what comes before it.
        start = min(keys).removesuffix(".json")
        listed = self._s3.list_objects_v2(
            Bucket=self._bucket, Prefix=f"{_of(audit)}databases/", StartAfter=start, MaxKeys=len(keys)
        )
        return {keys[one["Key"]] for one in listed.get("Contents", []) if one["Key"] in keys}

    def parts(self, audit: str, databases: Sequence[Database]) -> Iterator[tuple[Database, dict[str, Any] | None]]:
        """Return the databases of a batch, each with what it gave; None where it gave nothing."""
        done = self.done(audit, databases)

        def part(database: Database) -> dict[str, Any] | None:
            return self._get(_part(audit, database)) if database.resource_id in done else None

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield from zip(databases, pool.map(part, databases), strict=True)

    def put_iam(self, audit: str, findings: Sequence[Mapping[str, Any]]) -> None:
        """Keep the findings in the account's policies."""
        self._put(f"{_of(audit)}iam.json", findings)

    def iam(self, audit: str) -> list[dict[str, Any]]:
        """Return what `put_iam` kept."""
        found: list[dict[str, Any]] = self._get(f"{_of(audit)}iam.json")
        return found

    # --- What comes of it ---

    def put_report(self, audit: str, kind: str, text: str) -> str:
        """Keep one of REPORTS and return its URI."""
        name, content_type = REPORTS[kind]
        key = _of(audit) + name
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=text.encode(), ContentType=content_type)
        return f"s3://{self._bucket}/{key}"

    def report(self, audit: str, kind: str) -> str:
        """Return what `put_report` kept."""
        return self._read(_of(audit) + REPORTS[kind][0])

    def link(self, audit: str, kind: str, seconds: int) -> str:
        """Return an address at which anybody may fetch that one report, for so long."""
        address: str = self._s3.generate_presigned_url(
            "get_object", Params={"Bucket": self._bucket, "Key": _of(audit) + REPORTS[kind][0]}, ExpiresIn=seconds
        )
        return address

    def put_history(self, audit: str, history: Mapping[str, Any]) -> None:
        """Keep what is open after the run."""
        self._put(f"{_of(audit)}history.json", history)

    def history(self, audit: str) -> dict[str, Any]:
        """Return what `put_history` kept."""
        found: dict[str, Any] = self._get(f"{_of(audit)}history.json")
        return found

    def finish(self, audit: str, scope: Scope, summary: Mapping[str, Any]) -> None:
        """Say that the run is over. What it wrote before counts from now on."""
        _of(audit)
        self._put(f"{_INDEX}{audit}.{scope}.json", summary)

    # --- Runs that are over ---

    def finished_runs(self) -> list[FinishedRun]:
        """Return all runs that are over, newest first. Ids whose time is still to come are logged and left out."""
        found: list[FinishedRun] = []
        latest = (self._now() + _SKEW).strftime("%Y%m%dT%H%M%SZ")
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=_INDEX)
        for page in pages:
            for one in page.get("Contents", []):
                match = _ENTRY.fullmatch(one["Key"])
                if match is not None and match[1].partition("-")[0] > latest:
                    logger.warning("%s is ignored: its time is still to come", one["Key"])
                elif match is not None:
                    found.append(FinishedRun(match[1], "all" if match[2] == "all" else "some"))
        return sorted(found, key=lambda run: run.id, reverse=True)

    def summary(self, run: FinishedRun) -> dict[str, Any]:
        """Return what `finish` kept."""
        found: dict[str, Any] = self._get(f"{_INDEX}{run.id}.{run.scope}.json")
        return found

    def _put(self, key: str, data: Any) -> None:
        body = json.dumps(data, separators=(",", ":")).encode()
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType="application/json")

    def _get(self, key: str) -> Any:
        return json.loads(self._read(key))

    def _read(self, key: str) -> str:
        body: bytes = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return body.decode()


def part_order(database: Database) -> str:
    """Return what databases are sorted by before they are split into batches: the order of their objects in S3."""
    return _name(database)


def _of(audit: str) -> str:
    """Return the prefix of a run; nothing but an id ever becomes part of a key."""
    if not is_id(audit):
        raise ValueError("not the id of an audit")
    return f"{_ROOT}{audit}/"


def _part(audit: str, database: Database) -> str:
    return f"{_of(audit)}databases/{_name(database)}"


def _name(database: Database) -> str:
    if _RESOURCE_ID.fullmatch(database.resource_id) is None:
        raise ValueError(f"{database.arn} has a resource id that RDS would not give")
    return f"{database.resource_id}.json"
