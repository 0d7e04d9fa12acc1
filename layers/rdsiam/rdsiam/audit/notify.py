"""Who is told of an audit: CloudWatch, EventBridge, the readers of a digest, Security Hub.

Telling may be repeated, after a failure or a kill: Security Hub goes by the finding's id, events carry the ids of run
and finding, metrics are gauges; the digest, which somebody would read twice, comes when all else is done.
"""

import json
import logging
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import batched
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from rdsiam.core.observability import metrics
from rdsiam.errors import RdsiamError
from rdsiam.findings.finding import SEVERITIES
from rdsiam.report.security_hub import batches, suppressions

logger = logging.getLogger(__name__)

#: What PutEvents takes at once.
_EVENTS = 10
#: A mail that nobody reads to its end helps nobody; SNS itself takes 256 KB.
_LINES = 100
_LONGEST_NAME = 120


class NotTold(RdsiamError):
    """A notification about an audit was not delivered."""

    code = "not-notified"


class Telling:
    """Tells others how an audit ended.

    :param topic: ARN of the topic that gets the digest.
    :param security_hub: client of Security Hub; None where it is not wanted.
    """

    def __init__(self, events: Any, sns: Any, topic: str, security_hub: Any | None = None) -> None:
        self._events = events
        self._sns = sns
        self._topic = topic
        self._security_hub = security_hub

    def tell(
        self, report: Mapping[str, Any], asff: Sequence[Mapping[str, Any]], new: frozenset[str], news: bool
    ) -> None:
        """Tell of a report.

        :param asff: the same findings as Security Hub takes them.
        :param new: ids of the findings that are new.
        :param news: tell more than that it is over. Not so of an audit of single databases: the next audit of the fleet
            does not know what it found, and so could not tell that it is resolved.
        :raises NotTold: somebody refused; tell again.
        """
        fresh = [finding for finding in report["findings"] if finding["id"] in new] if news else []
        if news and self._security_hub is not None:
            self._import(asff)
        self._publish([_completed(report), *(_found(report, one) for one in fresh if one["severity"] == "critical")])
        if fresh:
            self._sns.publish(
                TopicArn=self._topic, Subject=_subject(report, fresh), Message="\n".join(_digest(report, fresh))
            )
        if news:
            _measure(report, fresh)
        logger.info("told of audit %s, %d new findings", report["id"], len(fresh))

    def _publish(self, events: Sequence[Mapping[str, Any]]) -> None:
        for some in batched(events, _EVENTS, strict=False):
            answer = self._events.put_events(Entries=list(some))
            if answer["FailedEntryCount"]:
                code = next((one["ErrorCode"] for one in answer["Entries"] if "ErrorCode" in one), "unknown")
                raise NotTold(f"EventBridge did not take {answer['FailedEntryCount']} events: {code}")

    def _import(self, findings: Sequence[Mapping[str, Any]]) -> None:
        assert self._security_hub is not None
        for some in batches(findings):
            answer = self._security_hub.batch_import_findings(Findings=some)
            if answer["FailedCount"]:
                raise NotTold(f"Security Hub did not take {answer['FailedCount']} findings: {_code(answer, 'Failed')}")
        for request in suppressions(findings):
            answer = self._security_hub.batch_update_findings(**request)
            if left := len(answer["UnprocessedFindings"]):
                raise NotTold(f"Security Hub did not suppress {left} findings: {_code(answer, 'Unprocessed')}")


def _code(answer: Mapping[str, Any], which: str) -> str:
    return next((str(one.get("ErrorCode")) for one in answer.get(f"{which}Findings", [])), "unknown")


def _completed(report: Mapping[str, Any]) -> dict[str, Any]:
    detail = {name: report[name] for name in ("id", "scope", "started", "finished", "summary")}
    return _event("rdsiam.audit.completed", [], detail)


def _found(report: Mapping[str, Any], finding: Mapping[str, Any]) -> dict[str, Any]:
    names = ("id", "kind", "severity", "database", "user", "title", "first_seen")
    detail = {name: finding[name] for name in names}
    return _event("rdsiam.audit.finding", [finding["database"]], detail | {"audit": report["id"]})


def _event(kind: str, resources: Sequence[str | None], detail: Mapping[str, Any]) -> dict[str, Any]:
    named = [one for one in resources if one]
    return {"Source": "rdsiam", "DetailType": kind, "Resources": named, "Detail": json.dumps(detail)}


def _measure(report: Mapping[str, Any], fresh: Sequence[Mapping[str, Any]]) -> None:
    summary = report["summary"]
    if summary["share"] is not None:
        metrics.add_metric("PasswordlessShare", MetricUnit.Percent, 100 * summary["share"])
    for severity in SEVERITIES:
        metrics.add_metric(f"{severity.title()}Findings", MetricUnit.Count, summary["findings"][severity])
    critical = sum(finding["severity"] == "critical" for finding in fresh)
    metrics.add_metric("NewCriticalFindings", MetricUnit.Count, critical)
    metrics.add_metric("AuditedDatabases", MetricUnit.Count, summary["audited"])
    metrics.add_metric("UnknownDatabases", MetricUnit.Count, summary["unreachable"])
    rotations = sum(one["kind"].startswith("rotation-") and not one["suppressed"] for one in report["findings"])
    metrics.add_metric("UnhealthyRotations", MetricUnit.Count, rotations)
    metrics.add_metric("AuditsCompleted", MetricUnit.Count, 1)
    metrics.flush_metrics()


def _subject(report: Mapping[str, Any], fresh: Sequence[Mapping[str, Any]]) -> str:
    plural = "" if len(fresh) == 1 else "s"
    return f"rdsiam: {len(fresh)} new finding{plural} in {report['account']} {report['region']}"[:100]


def _digest(report: Mapping[str, Any], fresh: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    summary = report["summary"]
    yield f"The audit of {report['finished']} found what the one before did not, in account {report['account']}."
    yield ""
    if summary["share"] is not None:
        share = f"{100 * summary['share']:.1f} %"
        yield f"{share} of {summary['accounts']} database users have no password."
    yield f"{summary['audited']} of {summary['databases']} databases were read, {summary['unreachable']} could not be."
    yield ""
    for finding in fresh[:_LINES]:
        where = finding["database"] or "account"
        who = f", {plain(finding['user'])}" if finding["user"] else ""
        yield f"[{finding['severity']}] {plain(finding['title'])}"
        yield f"    {plain(where)}{who} ({finding['kind']}, {finding['id']})"
    if len(fresh) > _LINES:
        yield f"… and {len(fresh) - _LINES} more"
    yield ""
    yield f"The report is audit {report['id']}: GET /audits/{report['id']}."


def plain(text: str) -> str:
    """Return text that can't do anything to a mail: one line, no control or formatting characters, not too long."""
    safe = "".join("�" if unicodedata.category(one)[0] == "C" or one in "\u2028\u2029" else one for one in text)
    return safe if len(safe) <= _LONGEST_NAME else f"{safe[: _LONGEST_NAME - 1]}…"
