"""Finished audits, for the auditors of access.yaml: a list, and links to reports that are valid for five minutes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict, cast

from rdsiam.access.callers import Caller
from rdsiam.access.store import AccessStore
from rdsiam.audit.store import REPORTS, AuditStore
from rdsiam.core import times
from rdsiam.errors import NotAllowed, RdsiamError

#: Validity of a link. Anyone who has a link can fetch the report, so it is short.
LINK_SECONDS = 300


class AuditNotFound(RdsiamError):
    """No finished audit has that id."""

    code = "not-found"


class Audit(TypedDict):
    """A finished audit; `scope` is `some` if databases were named."""

    id: str
    scope: Literal["all", "some"]
    started: str
    finished: str
    policies: dict[str, Any]
    summary: dict[str, Any]


class AuditWithLinks(Audit):
    """A finished audit with an address for each report that is valid until `links_end`."""

    links: dict[str, str]
    links_end: str


class AuditList(TypedDict):
    """Finished audits, newest first; `next` is the value of `before` for the following page."""

    audits: list[Audit]
    next: str | None


class Reports:
    """Reads the results of finished audits."""

    def __init__(
        self, access: AccessStore, store: AuditStore, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._access = access
        self._store = store
        self._now = now

    def check(self, caller: Caller) -> None:
        """Check that the caller is an auditor.

        :raises NotAllowed: the caller is no auditor.
        :raises AccessFileUnavailable: access.yaml can't be read, so nobody is an auditor.
        """
        if not any(auditor.admits(caller) for auditor in self._access.current().file.auditors):
            raise NotAllowed

    def list(self, limit: int, before: str | None = None) -> AuditList:
        """Return finished audits, newest first.

        :param limit: maximum number; `next` is None if there are no more.
        :param before: id of an audit; only audits that started earlier are returned.
        """
        runs = [run for run in self._store.finished_runs() if before is None or run.id < before]
        shown = runs[:limit]
        following = shown[-1].id if len(runs) > len(shown) else None
        return {"audits": [cast("Audit", self._store.summary(run)) for run in shown], "next": following}

    def get(self, audit: str) -> AuditWithLinks:
        """Return an audit with links to its reports.

        :raises AuditNotFound: no finished audit has that id.
        """
        run = next((run for run in self._store.finished_runs() if run.id == audit), None)
        if run is None:
            raise AuditNotFound
        ends = self._now() + timedelta(seconds=LINK_SECONDS)
        links = {kind: self._store.link(audit, kind, LINK_SECONDS) for kind in REPORTS}
        summary = cast("Audit", self._store.summary(run))
        return {**summary, "links": links, "links_end": times.text(ends)}
