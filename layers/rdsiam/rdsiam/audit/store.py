"""The objects that an audit writes into the report bucket and reads back. Each run has a prefix of its own.

    audits/<id>/context.json                   proxies and secrets of the account, for the batches; no password
    audits/<id>/batches/<number>.json          the databases of one batch
    audits/<id>/databases/<resource id>.….json the parts of a few databases of one batch; the name tells which
    audits/<id>/iam.json                       findings in the account's policies
    audits/<id>/report.json …                  the reports, see REPORTS
    audits/<id>/history.json                   open findings after the run, and the trend
    audits/index/<id>.<scope>.json             the run's summary, written last: it makes the run a finished one

Ids start with the time, so that they sort by it. A run compares itself with the newest finished run of the whole fleet
that is older: two runs at once, or a late run, read and write no common object. An id with a future time is no run's:
such an entry of the index would make every later run an old one.
"""

import json
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict

from rdsiam.audit.account import AccountContext
from rdsiam.audit.history import History
from rdsiam.audit.parts import DatabasePart
from rdsiam.aws.rds import Database
from rdsiam.findings.finding import Finding
from rdsiam.report.document import Policies, Summary

logger = logging.getLogger(__name__)

#: `all`: the whole fleet; `some`: databases that were named. Only `all` tells the state of the fleet.
Scope = Literal["all", "some"]
#: Reports of a run: short name → name and content type of the object.
REPORTS: Mapping[str, tuple[str, str]] = {
    "json": ("report.json", "application/json"),
    "csv": ("report.csv", "text/csv; charset=utf-8"),
    "html": ("report.html", "text/html; charset=utf-8"),
    "asff": ("report.asff.json", "application/json"),
    "ocsf": ("report.ocsf.jsonl", "application/x-ndjson"),
}
_ROOT = "audits/"
_TIME = "%Y%m%dT%H%M%SZ"
_INDEX = "audits/index/"
_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}", re.ASCII)
_ENTRY = re.compile(r"audits/index/(\d{8}T\d{6}Z-[0-9a-f]{8})\.(all|some)\.json", re.ASCII)
_RESOURCE_ID = re.compile(r"[A-Za-z0-9-]{1,80}")
#: Maximum difference between the clocks of two functions.
_SKEW = timedelta(minutes=1)
#: Number of objects with parts that are fetched at once: they are small, and S3 takes time for each.
_AT_ONCE = 8
#: Maximum number of parts in one object: their resource ids are its name, and a name has at most 1,024 bytes.
MOST_PARTS = 10


class RunSummary(TypedDict):
    """The entry of a finished run in the index: a part of its report."""

    id: str
    scope: Scope
    started: str
    finished: str
    policies: Policies
    summary: Summary


@dataclass(frozen=True)
class FinishedRun:
    """A run that has written its summary."""

    id: str
    scope: Scope


def new_id(at: datetime) -> str:
    """Return an id for a run that starts now: time and fraction of a second, so that ids sort, and a random part."""
    return f"{at.strftime(_TIME)}-{at.microsecond:05x}{secrets.randbelow(4096):03x}"


def is_id(text: object) -> bool:
    """Tell whether a text has the form of an id of a run."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


class AuditStore:
    """The objects under `audits/` of the report bucket. All are JSON, except some reports.

    :param objects: client that gets and puts objects; `s3` if there is none, which lists them in any case.
    """

    def __init__(
        self, s3: Any, bucket: str, now: Callable[[], datetime] = lambda: datetime.now(UTC), objects: Any | None = None
    ) -> None:
        self._s3 = s3
        self._objects = objects or s3
        self._bucket = bucket
        self._now = now

    # --- While a run goes on ---

    def put_context(self, audit: str, context: AccountContext) -> None:
        """Store the proxies and secrets of the account, for the batches."""
        self._put(f"{_prefix(audit)}context.json", context.to_json())

    def context(self, audit: str) -> AccountContext:
        """Return the proxies and secrets of the account."""
        return AccountContext.from_json(self._get(f"{_prefix(audit)}context.json"))

    def put_batch(self, audit: str, number: int, databases: Iterable[Database]) -> None:
        """Store the databases of a batch."""
        self._put(f"{_prefix(audit)}batches/{number}.json", [database.to_json() for database in databases])

    def batch(self, audit: str, number: int) -> tuple[Database, ...]:
        """Return the databases of a batch."""
        documents = self._get(f"{_prefix(audit)}batches/{number}.json")
        return tuple(Database.from_json(document) for document in documents)

    def put_parts(self, audit: str, parts: Sequence[tuple[Database, DatabasePart]]) -> None:
        """Store the parts of a few databases in one object.

        :param parts: of neighbours by `part_order`, at most MOST_PARTS; otherwise of one database.
        """
        ordered = sorted(parts, key=lambda each: part_order(each[0]))
        name = ".".join(_resource_id(database) for database, _ in ordered)
        documents = {database.resource_id: part.to_json() for database, part in ordered}
        self._put(f"{_prefix(audit)}databases/{name}.json", documents)

    def done(self, audit: str, databases: Sequence[Database]) -> set[str]:
        """Return the resource ids of those databases whose part is stored.

        :param databases: of one batch, sorted by `part_order`: the nearer they are, the fewer listings it takes.
        """
        return set(self._objects_of(audit, databases))

    def parts(self, audit: str, databases: Sequence[Database]) -> Iterator[tuple[Database, DatabasePart | None]]:
        """Yield the databases of a batch, each with its part; None if there is none."""
        objects = self._objects_of(audit, databases)
        keys = sorted(set(objects.values()))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            documents = dict(zip(keys, pool.map(self._get, keys), strict=True))
        for database in databases:
            key = objects.get(database.resource_id)
            yield database, DatabasePart.from_json(documents[key][database.resource_id]) if key else None

    def _objects_of(self, audit: str, databases: Sequence[Database]) -> dict[str, str]:
        """Return the key of the object that has the part, by resource id, for those databases that have one."""
        if not databases:
            return {}
        prefix = f"{_prefix(audit)}databases/"
        wanted = {_resource_id(database) for database in databases}
        names = sorted(part_order(database) for database in databases)
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket,
            Prefix=prefix,
            # It leaves its key out, so the listing starts at the text before the first key.
            StartAfter=prefix + names[0].removesuffix("."),
            PaginationConfig={"PageSize": len(names)},
        )
        objects: dict[str, str] = {}
        for page in pages:
            listed = [entry["Key"].removeprefix(prefix) for entry in page.get("Contents", [])]
            for name in listed:
                ids = name.removesuffix(".json").split(".")
                objects |= {resource_id: prefix + name for resource_id in ids if resource_id in wanted}
            # An object sorts by the first of its databases.
            if listed and listed[-1] >= names[-1] + "json":
                break
        return objects

    def put_iam(self, audit: str, findings: Iterable[Finding]) -> None:
        """Store the findings in the account's policies."""
        self._put(f"{_prefix(audit)}iam.json", [finding.to_json() for finding in findings])

    def iam(self, audit: str) -> list[Finding]:
        """Return the findings in the account's policies."""
        return [Finding.from_json(document) for document in self._get(f"{_prefix(audit)}iam.json")]

    # --- The results of a run ---

    def put_report(self, audit: str, kind: str, text: str) -> str:
        """Store one of REPORTS and return its URI."""
        name, content_type = REPORTS[kind]
        key = _prefix(audit) + name
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=text.encode(), ContentType=content_type)
        return f"s3://{self._bucket}/{key}"

    def report(self, audit: str, kind: str) -> str:
        """Return one of REPORTS."""
        return self._read(_prefix(audit) + REPORTS[kind][0])

    def link(self, audit: str, kind: str, seconds: int) -> str:
        """Return a link to one report. Anyone who has it can fetch the report until it expires."""
        address: str = self._s3.generate_presigned_url(
            "get_object", Params={"Bucket": self._bucket, "Key": _prefix(audit) + REPORTS[kind][0]}, ExpiresIn=seconds
        )
        return address

    def put_history(self, audit: str, history: History) -> None:
        """Store the history after a run."""
        self._put(f"{_prefix(audit)}history.json", history.to_json())

    def history(self, audit: str) -> History:
        """Return the history after a run."""
        return History.from_json(self._get(f"{_prefix(audit)}history.json"))

    def finish(self, audit: str, scope: Scope, summary: RunSummary) -> None:
        """Add a run to the index. From now on it is a finished run."""
        _prefix(audit)
        self._put(f"{_INDEX}{audit}.{scope}.json", summary)

    # --- Finished runs ---

    def finished_runs(self) -> list[FinishedRun]:
        """Return all finished runs, newest first. Ids with a future time are logged and left out."""
        runs: list[FinishedRun] = []
        latest = (self._now() + _SKEW).strftime(_TIME)
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=_INDEX)
        for entry in (entry for page in pages for entry in page.get("Contents", [])):
            match = _ENTRY.fullmatch(entry["Key"])
            if match is not None and match[1].partition("-")[0] > latest:
                logger.warning("%s is ignored: its time is in the future", entry["Key"])
            elif match is not None:
                runs.append(FinishedRun(match[1], "all" if match[2] == "all" else "some"))
        return sorted(runs, key=lambda run: run.id, reverse=True)

    def summary(self, run: FinishedRun) -> RunSummary:
        """Return the summary of a finished run."""
        summary: RunSummary = self._get(f"{_INDEX}{run.id}.{run.scope}.json")
        return summary

    def _put(self, key: str, data: object) -> None:
        body = json.dumps(data, separators=(",", ":")).encode()
        self._objects.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType="application/json")

    def _get(self, key: str) -> Any:
        return json.loads(self._read(key))

    def _read(self, key: str) -> str:
        body: bytes = self._objects.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return body.decode()


def part_order(database: Database) -> str:
    """Return the key that sorts databases before they are split into batches: the order of their objects in S3."""
    return f"{_resource_id(database)}."


def _prefix(audit: str) -> str:
    """Return the prefix of a run; only an id becomes part of a key."""
    if not is_id(audit):
        raise ValueError("not the id of an audit")
    return f"{_ROOT}{audit}/"


def _resource_id(database: Database) -> str:
    """Return the resource id, which becomes part of a key."""
    if _RESOURCE_ID.fullmatch(database.resource_id) is None:
        raise ValueError(f"{database.arn}: not a resource id of RDS: {database.resource_id}")
    return database.resource_id
