"""Past audits, for the auditors of access.yaml: a list, and links that fetch one report each, for five minutes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict, cast

from rdsiam.access.callers import Caller
from rdsiam.access.store import AccessStore
from rdsiam.audit.store import REPORTS, AuditStore
from rdsiam.core import times
from rdsiam.errors import NotAllowed, RdsiamError

#: How long a link is good for. Whoever has it needs nothing else, so it is not for long.
LINK_SECONDS = 300


class AuditNotFound(RdsiamError):
    """No finished audit has that id."""

    code = "not-found"


class Audit(TypedDict):
    """An audit that is over; `scope` is `some` where databases were named."""

    id: str
    scope: Literal["all", "some"]
    started: str
    finished: str
    policies: dict[str, Any]
    summary: dict[str, Any]


class AuditWithLinks(Audit):
    """The same, with an address for each report that is good until `links_end`."""

    links: dict[str, str]
    links_end: str


class AuditList(TypedDict):
    """Audits that are over, newest first; `next` is what to give as `before` for those that follow."""

    audits: list[Audit]
    next: str | None


class Reports:
    """Reads what runs of the audit left."""

    def __init__(
        self, access: AccessStore, store: AuditStore, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._access = access
        self._store = store
        self._now = now

    def check(self, caller: Caller) -> None:
        """See that the caller is an auditor.

        :raises NotAllowed: it is not.
        :raises AccessFileUnavailable: access.yaml can't be read, so nobody is.
        """
        if not any(auditor.admits(caller) for auditor in self._access.current().file.auditors):
            raise NotAllowed

    def list(self, limit: int, before: str | None = None) -> AuditList:
        """Return `{"audits": […], "next"}`: runs that are over, newest first.

        :param limit: how many at most; `next` is what to give as `before` for those that follow, or None.
        :param before: id; only runs that started earlier.
        """
        runs = [run for run in self._store.finished_runs() if before is None or run.id < before]
        shown = runs[:limit]
        following = shown[-1].id if len(runs) > len(shown) else None
        return {"audits": [cast("Audit", self._store.summary(run)) for run in shown], "next": following}

    def one(self, audit: str) -> AuditWithLinks:
        """Return a run as `list` does, with `links` to its reports and when they end.

        :raises AuditNotFound: there is none of that id that is over.
        """
        run = next((run for run in self._store.finished_runs() if run.id == audit), None)
        if run is None:
            raise AuditNotFound
        ends = self._now() + timedelta(seconds=LINK_SECONDS)
        links = {kind: self._store.link(audit, kind, LINK_SECONDS) for kind in REPORTS}
        summary = cast("Audit", self._store.summary(run))
        return {**summary, "links": links, "links_end": times.text(ends)}
