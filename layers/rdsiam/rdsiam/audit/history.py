"""Compares a run with the run before: new and resolved findings, and since when each is open."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rdsiam.findings.finding import Finding, Severity
from rdsiam.report.document import TrendLine

#: Number of runs in the trend.
LONGEST_TREND = 90


@dataclass(frozen=True)
class OpenFinding:
    """A finding that was open when a run ended, as history keeps it.

    :ivar policy: it was found in the account's policies, not in a database.
    """

    id: str
    kind: str
    severity: Severity
    database: str | None
    user: str | None
    title: str
    first_seen: str
    suppressed: bool = False
    policy: bool = False


@dataclass(frozen=True)
class History:
    """State after a run.

    :ivar open: id → finding.
    :ivar trend: figures of past runs of the whole fleet, oldest first.
    :ivar new: ids of the findings that the run before did not have.
    """

    open: Mapping[str, OpenFinding] = field(default_factory=dict)
    trend: tuple[TrendLine, ...] = ()
    new: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        findings = [vars(self.open[id]) for id in sorted(self.open)]
        return {"schema_version": 1, "open": findings, "trend": list(self.trend), "new": sorted(self.new)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "History":
        """Return the history from which `to_json` made this JSON."""
        findings = (OpenFinding(**finding) for finding in data["open"])
        return cls({finding.id: finding for finding in findings}, tuple(data["trend"]), frozenset(data["new"]))


@dataclass(frozen=True)
class Coverage:
    """The databases and policies that a run has read, so that it can resolve their findings.

    :ivar read: ARNs of the databases that were read, and of those that have no users of their own.
    :ivar unreadable: ARNs of the databases that could not be read.
    :ivar without_reading: kinds of findings that can be seen to be resolved on unreadable databases, too.
    :ivar policies: the account's policies were read.
    :ivar whole: the run was of the whole fleet, so that a database that is neither read nor unreadable is gone.
    """

    read: frozenset[str]
    unreadable: frozenset[str]
    without_reading: frozenset[str]
    policies: bool
    whole: bool


@dataclass(frozen=True)
class Comparison:
    """A run compared with the run before.

    :ivar findings: of this run, each with the time at which a run first found it.
    :ivar new: ids of findings that the run before did not have and that are not suppressed.
    :ivar resolved: findings of the run before that are gone.
    :ivar open: findings of this run, and those that this run could not check.
    """

    findings: tuple[Finding, ...]
    new: frozenset[str]
    resolved: tuple[OpenFinding, ...]
    open: Mapping[str, OpenFinding]


def compare(
    before: History, of_databases: Iterable[Finding], of_policies: Iterable[Finding], coverage: Coverage, at: str
) -> Comparison:
    """Compare the findings of a run with those that were open before it.

    A finding that this run could not check stays open: unknown is never compliant.

    :param at: start of the run, RFC 3339.
    """
    findings: list[Finding] = []
    open: dict[str, OpenFinding] = {}
    new: set[str] = set()
    for policy, some in ((False, of_databases), (True, of_policies)):
        for finding in some:
            if finding.id in open:
                continue  # the same problem, found twice
            former = before.open.get(finding.id)
            first_seen = former.first_seen if former else at
            findings.append(replace(finding, first_seen=first_seen))
            open[finding.id] = _open(finding, first_seen, policy)
            # A suppression that has expired makes its finding new again.
            if finding.suppressed is None and (former is None or former.suppressed):
                new.add(finding.id)
    missing = [former for id, former in sorted(before.open.items()) if id not in open]
    resolved = tuple(former for former in missing if _is_resolved(former, coverage))
    unchecked = {former.id: former for former in missing if not _is_resolved(former, coverage)}
    return Comparison(tuple(findings), frozenset(new), resolved, open | unchecked)


def extend(trend: Sequence[TrendLine], last: TrendLine) -> tuple[TrendLine, ...]:
    """Return the trend with one more run at its end."""
    return (*trend, last)[-LONGEST_TREND:]


def _is_resolved(former: OpenFinding, coverage: Coverage) -> bool:
    if former.policy:
        # A run of some databases evaluates the policies too, but keeps only the findings about these databases.
        return coverage.policies and (coverage.whole or former.database in coverage.read | coverage.unreadable)
    if former.database in coverage.unreadable:
        return former.kind in coverage.without_reading
    return coverage.whole or former.database in coverage.read


def _open(finding: Finding, first_seen: str, policy: bool) -> OpenFinding:
    return OpenFinding(
        id=finding.id,
        kind=finding.kind,
        severity=finding.severity,
        database=finding.database,
        user=finding.user,
        title=finding.title,
        first_seen=first_seen,
        suppressed=finding.suppressed is not None,
        policy=policy,
    )
