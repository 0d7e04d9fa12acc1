"""Notifications about an audit: CloudWatch, EventBridge, the readers of a digest, Security Hub.

A notification may be repeated after a failure or a kill: Security Hub identifies findings by their ids, events carry
the ids of run and finding, metrics are gauges. The digest comes last, since people would read it twice.
"""

import json
import logging
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from rdsiam.core.batches import batched
from rdsiam.core.counts import agreed, counted, number
from rdsiam.core.observability import metrics, name_metrics
from rdsiam.errors import RdsiamError
from rdsiam.findings.finding import SEVERITIES
from rdsiam.report.document import FindingLine, Report
from rdsiam.report.security_hub import batches, suppressions

logger = logging.getLogger(__name__)

#: Maximum number of entries of PutEvents.
_EVENTS = 10
#: Maximum number of findings in a digest, so that people read it to its end; SNS itself accepts 256 KB.
_LINES = 100
_LONGEST_NAME = 120


class NotificationFailed(RdsiamError):
    """A receiver did not accept a notification about an audit."""

    code = "notification-failed"


class Notifier:
    """Notifies others of the result of an audit.

    :param topic: ARN of the topic that gets the digest.
    :param security_hub: client of Security Hub; None if findings are not sent to it.
    """

    def __init__(self, events: Any, sns: Any, topic: str, security_hub: Any | None = None) -> None:
        self._events = events
        self._sns = sns
        self._topic = topic
        self._security_hub = security_hub

    def notify(self, report: Report, asff: Sequence[Mapping[str, Any]], new: frozenset[str], news: bool) -> None:
        """Notify all receivers.

        :param asff: the same findings as Security Hub accepts them.
        :param new: ids of new findings.
        :param news: send findings and figures, not only that the audit has finished. False for an audit of single
            databases: the next audit of the fleet doesn't know its findings, and so could not report them as resolved.
        :raises NotificationFailed: a receiver refused; the step can be repeated.
        """
        findings = [finding for finding in report["findings"] if finding["id"] in new] if news else []
        if news and self._security_hub is not None:
            self._import(self._security_hub, asff)
        critical = (finding for finding in findings if finding["severity"] == "critical")
        self._publish([_completed_event(report), *(_finding_event(report, finding) for finding in critical)])
        if findings:
            message = "\n".join(_digest(report, findings))
            self._sns.publish(TopicArn=self._topic, Subject=_subject(report, findings), Message=message)
        if news:
            _add_metrics(report, findings)
        logger.info("sent the notifications of audit %s, %d new findings", report["id"], len(findings))

    def _publish(self, events: Sequence[Mapping[str, Any]]) -> None:
        for entries in batched(events, _EVENTS):
            answer = self._events.put_events(Entries=list(entries))
            if failed := answer["FailedEntryCount"]:
                code = next((entry["ErrorCode"] for entry in answer["Entries"] if "ErrorCode" in entry), "unknown")
                raise NotificationFailed(f"EventBridge: {counted(failed, 'event')} not accepted ({code})")

    def _import(self, security_hub: Any, findings: Sequence[Mapping[str, Any]]) -> None:
        for batch in batches(findings):
            answer = security_hub.batch_import_findings(Findings=batch)
            if failed := answer["FailedCount"]:
                code = _first_code(answer, "FailedFindings")
                raise NotificationFailed(f"Security Hub: {counted(failed, 'finding')} not imported ({code})")
        for request in suppressions(findings):
            answer = security_hub.batch_update_findings(**request)
            if failed := len(answer["UnprocessedFindings"]):
                code = _first_code(answer, "UnprocessedFindings")
                raise NotificationFailed(f"Security Hub: {counted(failed, 'finding')} not suppressed ({code})")


def plain(text: str) -> str:
    """Return text that is harmless in a mail: one short line without control or formatting characters."""
    safe = "".join("�" if _is_hidden(character) else character for character in text)
    return safe if len(safe) <= _LONGEST_NAME else f"{safe[: _LONGEST_NAME - 1]}…"


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character)[0] == "C" or character in "\u2028\u2029"


def _first_code(answer: Mapping[str, Any], field: str) -> str:
    return next((str(finding.get("ErrorCode")) for finding in answer.get(field, [])), "unknown")


def _completed_event(report: Report) -> dict[str, Any]:
    detail = {
        "id": report["id"],
        "scope": report["scope"],
        "started": report["started"],
        "finished": report["finished"],
        "summary": report["summary"],
    }
    return _event("rdsiam.audit.completed", None, detail)


def _finding_event(report: Report, finding: FindingLine) -> dict[str, Any]:
    detail = {
        "id": finding["id"],
        "kind": finding["kind"],
        "severity": finding["severity"],
        "database": finding["database"],
        "user": finding["user"],
        "title": finding["title"],
        "first_seen": finding["first_seen"],
        "audit": report["id"],
    }
    return _event("rdsiam.audit.finding", finding["database"], detail)


def _event(kind: str, resource: str | None, detail: Mapping[str, object]) -> dict[str, Any]:
    resources = [resource] if resource else []
    return {"Source": "rdsiam", "DetailType": kind, "Resources": resources, "Detail": json.dumps(detail)}


def _add_metrics(report: Report, new: Sequence[FindingLine]) -> None:
    summary = report["summary"]
    if summary["share"] is not None:
        metrics.add_metric("PasswordlessShare", MetricUnit.Percent, 100 * summary["share"])
    for severity in SEVERITIES:
        metrics.add_metric(f"{severity.title()}Findings", MetricUnit.Count, summary["findings"][severity])
    critical = sum(finding["severity"] == "critical" for finding in new)
    metrics.add_metric("NewCriticalFindings", MetricUnit.Count, critical)
    metrics.add_metric("AuditedDatabases", MetricUnit.Count, summary["audited"])
    metrics.add_metric("UnknownDatabases", MetricUnit.Count, summary["unreachable"])
    open_findings = [finding for finding in report["findings"] if not finding["suppressed"]]
    rotations = sum(finding["kind"].startswith("rotation-") for finding in open_findings)
    metrics.add_metric("UnhealthyRotations", MetricUnit.Count, rotations)
    metrics.add_metric("AuditsCompleted", MetricUnit.Count, 1)
    name_metrics()
    metrics.flush_metrics()


def _subject(report: Report, findings: Sequence[FindingLine]) -> str:
    return f"rdsiam: {counted(len(findings), 'new finding')} in {report['account']} {report['region']}"[:100]


def _digest(report: Report, findings: Sequence[FindingLine]) -> Iterator[str]:
    summary = report["summary"]
    yield f"The audit of {report['finished']} has findings that the audit before did not have."
    yield f"Account {report['account']}, region {report['region']}."
    yield ""
    if summary["share"] is not None:
        share = f"{100 * summary['share']:.1f} %"
        have = agreed(summary["accounts"], "has", "have")
        yield f"{share} of {counted(summary['accounts'], 'database user')} {have} no password."
    databases, were = counted(summary["databases"], "database"), agreed(summary["audited"], "was", "were")
    yield f"{number(summary['audited'])} of {databases} {were} read, {number(summary['unreachable'])} could not be."
    yield ""
    for finding in findings[:_LINES]:
        place = finding["database"] or "account"
        user = f", {plain(finding['user'])}" if finding["user"] else ""
        yield f"[{finding['severity']}] {plain(finding['title'])}"
        yield f"    {plain(place)}{user} ({finding['kind']}, {finding['id']})"
    if len(findings) > _LINES:
        yield f"… and {len(findings) - _LINES} more"
    yield ""
    yield f"The whole report: rdsiam report {report['id']}"
