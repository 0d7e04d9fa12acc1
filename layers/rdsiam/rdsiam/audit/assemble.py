"""Assembles the report of a run: sorted, counted, compared with the run before; no I/O."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

from rdsiam.audit.history import Comparison, Coverage, History, compare, extend
from rdsiam.audit.parts import DatabaseEntry
from rdsiam.core import times
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.databases import is_transient
from rdsiam.findings.finding import SEVERITIES, Finding
from rdsiam.report.document import (
    DatabaseLine,
    FindingLine,
    OnboardingLine,
    Report,
    ResolvedLine,
    Severities,
    States,
    Summary,
)
from rdsiam.state.migrations import counts

UNREACHABLE = "database-unreachable"
#: After this long, a database that RDS is changing is no less unknown than any other.
_LONGEST_TRANSITION = timedelta(days=1)


@dataclass(frozen=True)
class AuditRun:
    """The run that a report is of.

    :ivar whole: of the whole fleet, not of databases that were named.
    :ivar onboardings: that it has started.
    :ivar policies_unreadable: why the account's policies could not be read; None if they were.
    """

    id: str
    started: str
    finished: str
    account: str
    region: str
    whole: bool
    access_version: str
    onboardings: Sequence[OnboardingLine] = ()
    policies_unreadable: str | None = None


@dataclass(frozen=True)
class AssembledReport:
    """A report, and the history for the next run."""

    report: Report
    history: History


def assemble(
    run: AuditRun,
    before: History,
    entries: Sequence[DatabaseEntry],
    of_databases: Iterable[Finding],
    of_policies: Iterable[Finding],
) -> AssembledReport:
    """Return the report of a run.

    :param before: history of the run before.
    :param of_databases: findings about databases.
    :param of_policies: findings in IAM policies.
    """
    settled = [_of_long_transition(finding, before, run.started) for finding in of_databases]
    comparison = compare(before, settled, of_policies, _coverage(run, entries), run.started)
    summary = _summary(entries, comparison)
    trend = before.trend
    if run.whole:
        trend = extend(trend, {
            "id": run.id,
            "finished": run.finished,
            "share": summary["share"],
            "accounts": summary["accounts"],
            "findings": summary["findings"],
            "unreachable": summary["unreachable"],
        })  # fmt: skip
    report: Report = {
        "schema_version": 1,
        "id": run.id,
        "started": run.started,
        "finished": run.finished,
        "account": run.account,
        "region": run.region,
        "scope": "all" if run.whole else "some",
        "access_version": run.access_version,
        "policies": {"read": run.policies_unreadable is None, "cause": run.policies_unreadable},
        "summary": summary,
        "databases": _database_lines(entries, comparison.findings),
        "findings": [_finding_line(finding) for finding in sorted(comparison.findings, key=_order)],
        "resolved": _resolved_lines(comparison, run.finished),
        "onboardings": list(run.onboardings),
        "trend": list(trend),
    }
    return AssembledReport(report, History(comparison.open, trend, comparison.new))


def severities(findings: Iterable[Finding]) -> Severities:
    """Return the number of findings of each severity, without suppressed findings."""
    numbers = Counter(finding.severity for finding in findings if finding.suppressed is None)
    return {
        "critical": numbers["critical"],
        "high": numbers["high"],
        "medium": numbers["medium"],
        "low": numbers["low"],
    }


def _of_long_transition(finding: Finding, before: History, now: str) -> Finding:
    """Return the finding about an unreachable database; high again if RDS changes it for longer than it should."""
    earlier = before.open.get(finding.id)
    if finding.kind != UNREACHABLE or earlier is None or not is_transient(finding.evidence):
        return finding
    long = times.moment(now) - times.moment(earlier.first_seen) > _LONGEST_TRANSITION
    return replace(finding, severity=KINDS[UNREACHABLE].severity) if long else finding


def _coverage(run: AuditRun, entries: Sequence[DatabaseEntry]) -> Coverage:
    unreadable = frozenset(entry.arn for entry in entries if entry.read == "unknown")
    return Coverage(
        read=frozenset(entry.arn for entry in entries) - unreadable,
        unreadable=unreadable,
        without_reading=frozenset(kind.id for kind in KINDS.values() if kind.source == "rds"),
        policies=run.policies_unreadable is None,
        whole=run.whole,
    )


def _summary(entries: Sequence[DatabaseEntry], comparison: Comparison) -> Summary:
    results = Counter(entry.read for entry in entries)
    accounts = sum(entry.accounts.total for entry in entries)
    passwordless = accounts - sum(entry.accounts.password for entry in entries)
    states: Mapping[str, int] = counts(migration.state for entry in entries for migration in entry.migrations)
    return {
        # Replicas and proxies are listed, but not counted: they have no users of their own.
        "databases": results["audited"] + results["unknown"],
        "audited": results["audited"],
        "unreachable": results["unknown"],
        "accounts": accounts,
        "passwordless": passwordless,
        "share": round(passwordless / accounts, 4) if accounts else None,
        "findings": severities(comparison.findings),
        "suppressed": sum(finding.suppressed is not None for finding in comparison.findings),
        "new": len(comparison.new),
        "migrations": cast("States", states),
    }


def _database_lines(entries: Iterable[DatabaseEntry], findings: Iterable[Finding]) -> list[DatabaseLine]:
    """Return the entries, sorted, with the number of findings about each database, those in policies included."""
    by_database: dict[str | None, list[Finding]] = {}
    for finding in findings:
        by_database.setdefault(finding.database, []).append(finding)
    return [
        entry.line(severities(by_database.get(entry.arn, ()))) for entry in sorted(entries, key=lambda entry: entry.arn)
    ]


def _finding_line(finding: Finding) -> FindingLine:
    return cast("FindingLine", finding.to_json())


def _resolved_lines(comparison: Comparison, finished: str) -> list[ResolvedLine]:
    return [
        {
            "id": former.id,
            "kind": former.kind,
            "severity": former.severity,
            "database": former.database,
            "user": former.user,
            "title": former.title,
            "first_seen": former.first_seen,
            "resolved": finished,
        }
        for former in comparison.resolved
    ]


def _order(finding: Finding) -> tuple[int, str, str, str, str]:
    severity = SEVERITIES.index(finding.severity)
    return severity, finding.kind, finding.database or "", finding.user or "", finding.id
