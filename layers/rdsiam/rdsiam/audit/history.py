"""Comparison of an audit run with the previous run: new and resolved findings, and since when each one is open."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rdsiam.findings.finding import Finding, Severity
from rdsiam.report.document import TrendLine

#: Maximum number of runs in the trend; the oldest is evicted.
LONGEST_TREND = 90


@dataclass(frozen=True)
class OpenFinding:
    """A finding that was open when a run ended, as the history stores it.

    :ivar first_seen: start of the run that first had the finding, RFC 3339.
    :ivar policy: whether the finding is about the account's IAM policies; otherwise it is about a database.
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
    """The state after a run, with which the next run is compared.

    :ivar open: open findings by id.
    :ivar trend: figures of past runs of the whole fleet, oldest first.
    :ivar new: ids of the run's new findings; see `Comparison.new`.
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
    """The databases and policies that a run has read. A run resolves findings about these only.

    :ivar read: ARNs of the databases that were read, and of replicas and proxies, which have no users to read.
    :ivar unreadable: ARNs of the databases that could not be read.
    :ivar without_reading: kinds of findings that come from RDS alone, so that a run can resolve them on unreadable
        databases, too.
    :ivar policies: whether the account's IAM policies were read.
    :ivar whole: whether the run audited the whole fleet. Then a database that is neither read nor unreadable no longer
        exists.
    """

    read: frozenset[str]
    unreadable: frozenset[str]
    without_reading: frozenset[str]
    policies: bool
    whole: bool


@dataclass(frozen=True)
class Comparison:
    """A run compared with the previous run.

    :ivar findings: this run's findings, each with the start of the run that first had it.
    :ivar new: ids of the findings that aren't suppressed, and that the previous run didn't have or had suppressed.
    :ivar resolved: findings that were open before this run, and that this run has checked and not found.
    :ivar open: this run's findings, and earlier findings that this run could not check; by id.
    """

    findings: tuple[Finding, ...]
    new: frozenset[str]
    resolved: tuple[OpenFinding, ...]
    open: Mapping[str, OpenFinding]


def compare(
    before: History, of_databases: Iterable[Finding], of_policies: Iterable[Finding], coverage: Coverage, at: str
) -> Comparison:
    """Compare the findings of a run with the findings that were open before it.

    A finding that this run could not check stays open: a database whose state is unknown never counts as compliant.

    :param of_databases: the run's findings about databases.
    :param of_policies: the run's findings about the account's IAM policies.
    :param at: start of the run, RFC 3339.
    """
    findings: list[Finding] = []
    open: dict[str, OpenFinding] = {}
    new: set[str] = set()
    for policy, group in ((False, of_databases), (True, of_policies)):
        for finding in group:
            if finding.id in open:
                continue  # the same problem, found twice
            earlier = before.open.get(finding.id)
            first_seen = earlier.first_seen if earlier else at
            findings.append(replace(finding, first_seen=first_seen))
            open[finding.id] = _open(finding, first_seen, policy)
            # A suppression that has expired makes its finding new again.
            if finding.suppressed is None and (earlier is None or earlier.suppressed):
                new.add(finding.id)
    missing = [earlier for id, earlier in sorted(before.open.items()) if id not in open]
    resolved = tuple(earlier for earlier in missing if _is_checked(earlier, coverage))
    unchecked = {earlier.id: earlier for earlier in missing if not _is_checked(earlier, coverage)}
    return Comparison(tuple(findings), frozenset(new), resolved, open | unchecked)


def extend(trend: Sequence[TrendLine], last: TrendLine) -> tuple[TrendLine, ...]:
    """Return the trend with one more run at its end."""
    return (*trend, last)[-LONGEST_TREND:]


def _is_checked(earlier: OpenFinding, coverage: Coverage) -> bool:
    """Tell whether a run would have found an earlier finding again if the problem still existed."""
    if earlier.policy:
        # A run that audits only some databases evaluates all policies, but keeps only the findings about its databases.
        return coverage.policies and (coverage.whole or earlier.database in coverage.read | coverage.unreadable)
    if earlier.database in coverage.unreadable:
        return earlier.kind in coverage.without_reading
    return coverage.whole or earlier.database in coverage.read


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
