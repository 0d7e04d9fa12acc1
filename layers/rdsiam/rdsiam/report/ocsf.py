"""The findings as OCSF events, class Compliance Finding (2003), for Security Lake and other readers of OCSF.

Source: the Open Cybersecurity Schema Framework, version 1.8.0, with its profile `cloud`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rdsiam.report import figures
from rdsiam.report.formatting import moment

VERSION = "1.8.0"
_CLASS, _CATEGORY = 2003, 2
_CREATE, _UPDATE, _CLOSE = 1, 2, 3
_ACTIVITIES = {_CREATE: "Create", _UPDATE: "Update", _CLOSE: "Close"}
_SEVERITIES = {"low": 2, "medium": 3, "high": 4, "critical": 5}
_STATUS = {"New": 1, "In Progress": 2, "Suppressed": 3, "Resolved": 4}
_COMPLIANCE = {"Unknown": 0, "Pass": 1, "Fail": 3}
_AWS_ACCOUNT, _RULE = 10, 1


def ocsf(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an event for each finding: created if it is new, updated while it stays, closed if it is resolved."""
    databases = {each["arn"]: each for each in report["databases"]}
    for finding in report["findings"]:
        yield _event(report, finding, databases)
    for finding in report["resolved"]:
        yield _event(report, {**finding, "evidence": {}, "remediation": [], "suppressed": None}, databases)


def ocsf_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the events as JSON, one per line; ASCII, so that no name can hide something or break a line."""
    for event in ocsf(report):
        yield json.dumps(event, ensure_ascii=True, separators=(",", ":")) + "\n"


def _event(
    report: Mapping[str, Any], finding: Mapping[str, Any], databases: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    resolved, suppressed = finding.get("resolved"), finding.get("suppressed")
    activity = _CLOSE if resolved else _CREATE if _first(report, finding) else _UPDATE
    status = "Resolved" if resolved else "Suppressed" if suppressed else "New" if activity == _CREATE else "In Progress"
    passed = "Pass" if resolved else "Unknown" if finding["kind"] == "database-unreachable" else "Fail"
    first = finding.get("first_seen") or report["started"]
    event: dict[str, Any] = {
        "activity_id": activity,
        "activity_name": _ACTIVITIES[activity],
        "category_uid": _CATEGORY,
        "category_name": "Findings",
        "class_uid": _CLASS,
        "class_name": "Compliance Finding",
        "type_uid": _CLASS * 100 + activity,
        "type_name": f"Compliance Finding: {_ACTIVITIES[activity]}",
        "time": _milliseconds(resolved or report["finished"]),
        "severity_id": _SEVERITIES[finding["severity"]],
        "severity": finding["severity"].capitalize(),
        "status_id": _STATUS[status],
        "status": status,
        "message": finding["title"],
        "metadata": {
            "version": VERSION,
            "product": {"name": "rdsiam", "vendor_name": "rdsiam"},
            "profiles": ["cloud"],
            "event_code": finding["kind"],
            "correlation_uid": report["id"],
        },
        "cloud": {
            "provider": "AWS",
            "region": report["region"],
            "account": {"uid": report["account"], "type": "AWS Account", "type_id": _AWS_ACCOUNT},
        },
        "compliance": {
            "control": finding["kind"],
            "standards": ["rdsiam: passwordless databases"],
            "status": passed,
            "status_id": _COMPLIANCE[passed],
        },
        "finding_info": {
            "uid": finding["id"],
            "title": finding["title"],
            "types": [finding["kind"]],
            "analytic": {"name": finding["kind"], "uid": finding["kind"], "type": "Rule", "type_id": _RULE},
            "created_time": _milliseconds(first),
            "first_seen_time": _milliseconds(first),
            "last_seen_time": _milliseconds(resolved or report["finished"]),
        },
        "resources": _resources(report, finding, databases.get(finding["database"] or "")),
    }
    if finding["evidence"]:
        event["unmapped"] = {"evidence": dict(sorted(finding["evidence"].items()))}
    if finding["remediation"]:
        event["remediation"] = {"desc": _remediation(finding["remediation"])}
    if suppressed:
        event["comment"] = f"Suppressed until {suppressed['until']}: {suppressed['reason']}"
    return event


def _first(report: Mapping[str, Any], finding: Mapping[str, Any]) -> bool:
    return not figures.past(report) or figures.is_new(report, finding)


def _milliseconds(time: str) -> int:
    return int(moment(time).timestamp() * 1000)


def _remediation(remediations: Sequence[Mapping[str, Any]]) -> str:
    """Return all steps as text, each with its runner; steps of another way than the first are marked."""
    return "\n\n".join(f"{_heading(each)}:\n{each['text']}" for each in remediations)


def _heading(step: Mapping[str, Any]) -> str:
    way = f"or, way {step['way']}: " if step["way"] > 1 else ""
    place = f" in {step['database']}" if step["database"] else ""
    note = f" ({step['note']})" if step["note"] else ""
    return f"{way}{step['language']}{place}, {figures.runner(step)}{note}"


def _resources(
    report: Mapping[str, Any], finding: Mapping[str, Any], database: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Return the database and the user of it, the IAM principal or policy, or else the account."""
    resources: list[dict[str, Any]] = []
    arn, user = finding["database"], finding["user"]
    if arn:
        resource: dict[str, Any] = {"uid": arn, "type": "RDS database", "region": report["region"]}
        if database:
            tags = [{"name": key, "value": value} for key, value in sorted(database["tags"].items())]
            resource |= {
                "name": database["identifier"],
                "version": f"{database['engine']} {database['engine_version']}",
            }
            resource |= {"tags": tags} if tags else {}
        resources.append(resource)
    if user is not None:
        of_iam = user.startswith("arn:")
        resources.append(
            {"uid" if of_iam else "name": user, "type": "IAM identity or policy" if of_iam else "Database user"}
        )
    return resources or [{"uid": report["account"], "type": "AWS account"}]
