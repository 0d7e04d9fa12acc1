"""The findings in the format of AWS Security Hub (ASFF), for BatchImportFindings.

Sources: "Security Finding Format", AWS Security Hub User Guide; "Guidelines for using the BatchImportFindings API",
its Partner Guide; the limits of each field are in the API reference of AwsSecurityFinding.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from rdsiam.report import figures
from rdsiam.report.formatting import shortened, visible

#: Maximum number of findings, and of bytes, in a call of BatchImportFindings.
BATCH = 100
BATCH_BYTES = 6 * 1024 * 1024
#: Maximum bytes of one finding. Findings made here stay below, since each field has its own limit.
FINDING_BYTES = 240 * 1024
_TITLE, _DESCRIPTION, _RECOMMENDATION, _NOTE, _FIELD, _DETAIL = 256, 1024, 512, 512, 2048, 1024
_MOST_FIELDS, _MOST_TAGS = 25, 50
_TYPE = "Software and Configuration Checks/AWS Security Best Practices/Passwordless Databases"
_IAM_TYPES = {"role": "AwsIamRole", "user": "AwsIamUser", "policy": "AwsIamPolicy", "group": "AwsIamGroup"}
#: Kinds that mean unknown: neither passed nor failed.
_UNKNOWN = frozenset({"database-unreachable"})


def asff(
    report: Mapping[str, Any],
    *,
    account: str,
    region: str,
    partition: str = "aws",
    product_arn: str | None = None,
    report_url: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the findings of a report: open, suppressed (Workflow SUPPRESSED), resolved (record ARCHIVED).

    :param account: the account of the hub, which has to call BatchImportFindings.
    :param product_arn: of the integration; by default the account's own product.
    :param report_url: address of the whole report, without a secret, since all readers of the hub see it.
    """
    product = product_arn or f"arn:{partition}:securityhub:{region}:{account}:product/{account}/default"
    databases = {each["arn"]: each for each in report["databases"]}
    for finding in report["findings"]:
        yield _finding(report, finding, databases, (account, region, partition, product), report_url)
    for finding in report["resolved"]:
        gone = {**finding, "evidence": {}, "remediation": [], "suppressed": None}
        yield _finding(report, gone, databases, (account, region, partition, product), report_url)


def batches(findings: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Yield the findings in lists that BatchImportFindings accepts: at most 100, and 6 MB."""
    batch: list[Mapping[str, Any]] = []
    size = 0
    for finding in findings:
        its = len(json.dumps(finding, ensure_ascii=False).encode()) + 1
        if batch and (len(batch) == BATCH or size + its > BATCH_BYTES - 1024):
            yield batch
            batch, size = [], 0
        batch.append(finding)
        size += its
    if batch:
        yield batch


def suppressions(findings: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the requests of BatchUpdateFindings that suppress the suppressed findings.

    BatchImportFindings sets the workflow of a finding only when it creates the finding; an open finding stays open.
    """
    by_note: dict[str, list[Mapping[str, Any]]] = {}
    for finding in findings:
        if finding["Workflow"]["Status"] == "SUPPRESSED":
            by_note.setdefault(finding["Note"]["Text"], []).append(finding)
    for note, suppressed in sorted(by_note.items()):
        rest = iter(suppressed)
        while part := list(islice(rest, BATCH)):
            yield {
                "FindingIdentifiers": [{"Id": each["Id"], "ProductArn": each["ProductArn"]} for each in part],
                "Workflow": {"Status": "SUPPRESSED"},
                "Note": {"Text": note, "UpdatedBy": "rdsiam"},
            }


def _finding(
    report: Mapping[str, Any],
    finding: Mapping[str, Any],
    databases: Mapping[str, Mapping[str, Any]],
    place: tuple[str, str, str, str],
    report_url: str | None,
) -> dict[str, Any]:
    account, region, partition, product = place
    resolved, suppressed = finding.get("resolved"), finding.get("suppressed")
    label = finding["severity"].upper()
    document: dict[str, Any] = {
        "SchemaVersion": "2018-10-08",
        "Id": f"rdsiam/{account}/{region}/{finding['id']}",
        "ProductArn": product,
        "ProductName": "rdsiam",
        "GeneratorId": _line(f"rdsiam/{finding['kind']}", 512),
        "AwsAccountId": account,
        "Types": [_TYPE],
        "CreatedAt": finding.get("first_seen") or report["started"],
        "UpdatedAt": resolved or report["finished"],
        "FirstObservedAt": finding.get("first_seen") or report["started"],
        "LastObservedAt": resolved or report["finished"],
        "Severity": {"Label": label, "Original": finding["severity"]},
        "FindingProviderFields": {"Severity": {"Label": label, "Original": finding["severity"]}, "Types": [_TYPE]},
        "Title": _line(finding["title"], _TITLE),
        "Description": _line(_description(finding), _DESCRIPTION),
        "Remediation": {"Recommendation": {"Text": _recommendation(finding)}},
        "ProductFields": _product_fields(report, finding),
        "Resources": _resources(finding, databases.get(finding["database"] or ""), (account, region, partition)),
        "Compliance": {"Status": _compliance(finding)},
        "Workflow": {"Status": "SUPPRESSED" if suppressed else "RESOLVED" if resolved else "NEW"},
        "RecordState": "ARCHIVED" if resolved else "ACTIVE",
    }
    if report_url:
        document["SourceUrl"] = report_url
    if suppressed:
        words = f"Suppressed in access.yaml until {suppressed['until']}: {suppressed['reason']}"
        document["Note"] = {"Text": _line(words, _NOTE), "UpdatedBy": "rdsiam", "UpdatedAt": report["finished"]}
    return document


def _line(text: object, limit: int) -> str:
    """Return a text on one line, without hidden characters, cut to a limit in bytes; `-` if empty, for the API."""
    # The visible text is never shorter than the text itself, so a longer part is not needed.
    return shortened(visible(str(text)[: limit + 1]), limit) or "-"


def _description(finding: Mapping[str, Any]) -> str:
    evidence = ", ".join(f"{key}: {_value(value)}" for key, value in sorted(finding["evidence"].items()))
    user = f" User: {finding['user']}." if finding["user"] is not None else ""
    return f"{finding['title']}.{user}{f' Evidence: {evidence}.' if evidence else ''}"


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _whole(remediation: Mapping[str, Any], limit: int) -> bool:
    """Tell whether a step can be shown unchanged: a cut or changed statement must not be run."""
    text = remediation["text"]
    return len(text.encode("utf-8", "surrogatepass")) <= limit and visible(text) == text


def _recommendation(finding: Mapping[str, Any]) -> str:
    if finding.get("resolved"):
        return "Nothing is left to do."
    words = {"sql": "Run", "cli": "Run", "access": "Add to access.yaml", "cloudformation": "Set"}
    first = [each for each in finding["remediation"] if each["way"] == 1]
    if len(first) == 1:  # one of several steps must not be run alone
        before = f"{words[first[0]['language']]}, {figures.runner(first[0])}: "
        text = {"text": before + str(first[0]["text"])}
        if _whole(text, _RECOMMENDATION):
            return text["text"]
    return "See the remediation in the audit's report."


def _product_fields(report: Mapping[str, Any], finding: Mapping[str, Any]) -> dict[str, str]:
    fields = {
        "rdsiam/kind": finding["kind"],
        "rdsiam/run": report["id"],
        **({"rdsiam/user": finding["user"]} if finding["user"] is not None else {}),
    }
    product_fields = {key: _line(value, _FIELD) for key, value in fields.items()}
    # Other ways need their notes: a lock without the question of who uses the login is an outage.
    first = [each for each in finding["remediation"] if each["way"] == 1]
    for number, each in enumerate(first[:_MOST_FIELDS], 1):
        if _whole(each, _FIELD):
            product_fields[f"rdsiam/remediation/{number}/{each['language']}"] = each["text"]
    return product_fields


def _compliance(finding: Mapping[str, Any]) -> str:
    if finding.get("resolved"):
        return "PASSED"
    return "NOT_AVAILABLE" if finding["kind"] in _UNKNOWN else "FAILED"


def _resources(
    finding: Mapping[str, Any], database: Mapping[str, Any] | None, place: tuple[str, str, str]
) -> list[dict[str, Any]]:
    """Return the resources of a finding: the database, the IAM principal or policy, or else the account."""
    account, region, partition = place
    arn, user = finding["database"], finding["user"] or ""
    located = {"Partition": partition, "Region": region}
    evidence = [(key, finding["evidence"][key]) for key in sorted(finding["evidence"])[:_MOST_FIELDS]]
    other = {_line(key, 128): _line(_value(value), _DETAIL) for key, value in evidence}
    resources = []
    if arn:
        resources.append({"Type": _rds_type(arn), "Id": _line(arn, _DETAIL), **located, **_tags(database)})
    if user.startswith("arn:"):
        holder_type = user.split(":")[5].split("/")[0] if user.count(":") >= 5 else ""
        resources.append(
            {"Type": _IAM_TYPES.get(holder_type, "Other"), "Id": _line(user, _DETAIL), "Partition": partition}
        )
    if not resources:
        resources.append({"Type": "AwsAccount", "Id": f"AWS::::Account:{account}", **located})
    details: dict[str, Any] = {"Other": other} if other else {}
    if arn and database and resources[0]["Type"] == "AwsRdsDbInstance":
        details["AwsRdsDbInstance"] = _instance(database)
    if details:
        resources[0]["Details"] = details
    return resources


def _rds_type(arn: str) -> str:
    parts = arn.split(":")
    return {"db": "AwsRdsDbInstance", "cluster": "AwsRdsDbCluster"}.get(parts[5] if len(parts) > 5 else "", "Other")


def _instance(database: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "DBInstanceIdentifier": _line(database["identifier"], 255),
        "DbiResourceId": _line(database["resource_id"], 255),
        "Engine": _line(database["engine"], 255),
        "EngineVersion": _line(database["engine_version"], 255),
        "PubliclyAccessible": bool(database["public"]),
    }


def _tags(database: Mapping[str, Any] | None) -> dict[str, Any]:
    tags: Sequence[tuple[str, str]] = sorted((database or {}).get("tags", {}).items())[:_MOST_TAGS]
    shown = {_line(key, 128): _line(value, 256) for key, value in tags if key.strip()}
    return {"Tags": shown} if shown else {}
