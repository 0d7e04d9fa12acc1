"""From what the databases and the policies gave, and the run before, to the report: sorted, counted, no I/O."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rdsiam.audit.history import Compared, History, Seen, compare, extend
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.finding import SEVERITIES, Finding
from rdsiam.state.migrations import counts


@dataclass(frozen=True)
class Run:
    """Which run it is, and of what.

    :ivar whole: of the whole fleet, not of databases that were named.
    :ivar policies: why the account's policies could not be read; None where they were.
    """

    id: str
    started: str
    finished: str
    account: str
    region: str
    whole: bool
    access_version: str
    policies: str | None = None


@dataclass(frozen=True)
class Collected:
    """A report, and what the next run has to know of this one.

    :ivar new: ids of the findings that are news, for those who are told.
    """

    report: dict[str, Any]
    history: History
    new: frozenset[str]


def collect(
    run: Run,
    before: History,
    databases: Sequence[Mapping[str, Any]],
    of_databases: Iterable[Finding],
    of_policies: Iterable[Finding],
) -> Collected:
    """Return the report of a run.

    :param databases: entries of the report, without the number of their findings.
    """
    unread = frozenset(one["arn"] for one in databases if one["read"] == "unknown")
    seen = Seen(
        read=frozenset(one["arn"] for one in databases) - unread,
        unread=unread,
        unread_too=frozenset(kind.id for kind in KINDS.values() if kind.source == "rds"),
        policies=run.policies is None,
        whole=run.whole,
    )
    compared = compare(before, of_databases, of_policies, seen, run.started)
    summary = _summary(databases, compared)
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
    report = {
        "schema_version": 1,
        "id": run.id,
        "started": run.started,
        "finished": run.finished,
        "account": run.account,
        "region": run.region,
        "scope": "all" if run.whole else "some",
        "access_version": run.access_version,
        "policies": {"read": run.policies is None, "cause": run.policies},
        "summary": summary,
        "databases": _with_numbers(databases, compared.findings),
        "findings": [finding.to_json() for finding in sorted(compared.findings, key=_order)],
        "resolved": [
            {
                "id": one.id,
                "kind": one.kind,
                "severity": one.severity,
                "database": one.database,
                "user": one.user,
                "title": one.title,
                "first_seen": one.first_seen,
                "resolved": run.finished,
            }
            for one in compared.resolved
        ],
        "trend": list(trend),
    }
    return Collected(report, History(compared.open, trend), compared.new)


def severities(findings: Iterable[Finding]) -> dict[str, int]:
    """Return how many there are of each severity, without those that are accepted."""
    counted = Counter(finding.severity for finding in findings if finding.suppressed is None)
    return {severity: counted[severity] for severity in SEVERITIES}


def _summary(databases: Sequence[Mapping[str, Any]], compared: Compared) -> dict[str, Any]:
    read = Counter(one["read"] for one in databases)
    accounts = sum(one["accounts"]["total"] for one in databases)
    passwordless = accounts - sum(one["accounts"]["password"] for one in databases)
    return {
        # Replicas and proxies are listed, but have no users of their own: their source's are read, and their targets'.
        "databases": read["audited"] + read["unknown"],
        "audited": read["audited"],
        "unreachable": read["unknown"],
        "accounts": accounts,
        "passwordless": passwordless,
        "share": round(passwordless / accounts, 4) if accounts else None,
        "findings": severities(compared.findings),
        "suppressed": sum(finding.suppressed is not None for finding in compared.findings),
        "new": len(compared.new),
        "migrations": counts(each["state"] for one in databases for each in one["migrations"]),
    }


def _with_numbers(databases: Iterable[Mapping[str, Any]], findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return the entries, sorted, with the number of findings that concern each, those in policies too."""
    of: dict[str | None, list[Finding]] = {}
    for finding in findings:
        of.setdefault(finding.database, []).append(finding)
    numbered = [{**one, "findings": severities(of.get(one["arn"], ()))} for one in databases]
    return sorted(numbered, key=lambda one: str(one["arn"]))


def _order(finding: Finding) -> tuple[int, str, str, str, str]:
    severity = SEVERITIES.index(finding.severity)
    return severity, finding.kind, finding.database or "", finding.user or "", finding.id
