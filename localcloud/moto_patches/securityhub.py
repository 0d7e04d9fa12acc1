"""Security Hub's findings as AWS takes them: moto imports anything, filters nothing, and knows no updates.

Source: the Security Hub API reference and "AWS Security Finding Format (ASFF)" in its user guide: required attributes,
sizes and allowed values of those attributes that a provider of findings sets.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from moto.securityhub.exceptions import SecurityHubClientError
from moto.securityhub.models import Finding
from moto.securityhub.responses import SecurityHubResponse

from localcloud.moto_patches.patch import Patch, adds, replaces

LARGEST_BATCH = 100
_LARGEST_FINDING = 240 * 1024
_REQUIRED = ("SchemaVersion", "Id", "ProductArn", "GeneratorId", "AwsAccountId", "CreatedAt", "UpdatedAt", "Title",
             "Description", "Resources", "Severity", "Types")  # fmt: skip
_LENGTHS = {"Id": 512, "GeneratorId": 512, "Title": 256, "Description": 1024}
_TIMES = ("CreatedAt", "UpdatedAt", "FirstObservedAt", "LastObservedAt")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)", re.ASCII)
_NAMESPACES = ("Software and Configuration Checks", "TTPs", "Effects", "Unusual Behaviors",
               "Sensitive Data Identifications")  # fmt: skip
_ALLOWED = {
    ("SchemaVersion",): ("2018-10-08",),
    ("RecordState",): ("ACTIVE", "ARCHIVED"),
    ("Severity", "Label"): ("INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"),
    ("Workflow", "Status"): ("NEW", "NOTIFIED", "RESOLVED", "SUPPRESSED"),
    ("Compliance", "Status"): ("PASSED", "WARNING", "FAILED", "NOT_AVAILABLE"),
}
# Fields that belong to the customer, which another import does not overwrite.
_CUSTOMERS = ("Note", "UserDefinedFields", "VerificationState", "Workflow")
_UPDATABLE = ("Note", "Severity", "VerificationState", "Confidence", "Criticality", "Types", "UserDefinedFields",
              "Workflow", "RelatedFindings")  # fmt: skip
# Filters of GetFindings, with the path of their field in a finding.
_FILTERS = {
    "Id": ("Id",), "ProductArn": ("ProductArn",), "GeneratorId": ("GeneratorId",), "AwsAccountId": ("AwsAccountId",),
    "Title": ("Title",), "RecordState": ("RecordState",), "WorkflowStatus": ("Workflow", "Status"),
    "SeverityLabel": ("Severity", "Label"), "ComplianceStatus": ("Compliance", "Status"),
}  # fmt: skip
_COMPARISONS: Mapping[str, Callable[[str, str], bool]] = {
    "EQUALS": lambda found, value: found == value,
    "PREFIX": lambda found, value: found.startswith(value),
    "NOT_EQUALS": lambda found, value: found != value,
    "PREFIX_NOT_EQUALS": lambda found, value: not found.startswith(value),
}


def _changed_paths(paths: dict[str, Any]) -> dict[str, Any]:
    paths["{0}/findings/batchupdate$"] = SecurityHubResponse.dispatch
    return paths


class Paths(Patch):
    """Paths of Security Hub's calls. moto: has none for BatchUpdateFindings."""

    target = "moto.securityhub.urls"
    changed_values: ClassVar = {"url_paths": _changed_paths}


class FindingCalls(Patch):
    """Calls about findings."""

    target = "moto.securityhub.models.SecurityHubBackend"

    @replaces
    def batch_import_findings(self, _: Any, backend: Any, findings: Any) -> tuple[int, int, list[dict[str, Any]]]:
        """Import the findings that AWS would take, and list the others."""
        _check_enabled(backend)
        _check_batch("BatchImportFindings", findings)
        failed = []
        for finding in findings:
            wrong = next(_problems(finding, backend.region_name, backend.account_id), None)
            if wrong is None:
                _store(backend, finding)
            else:
                number = finding.get("Id") if isinstance(finding, dict) else None
                failed.append({"Id": str(number or ""), "ErrorCode": "InvalidInput", "ErrorMessage": wrong})
        return len(failed), len(findings) - len(failed), failed

    @replaces
    def get_findings(
        self,
        _: Any,
        backend: Any,
        filters: Any = None,
        sort_criteria: Any = None,
        max_results: Any = None,
        next_token: Any = None,
    ) -> tuple[list[Any], str | None]:
        """Return one page of the findings that match the filters."""
        _check_enabled(backend)
        size, start = int(max_results or LARGEST_BATCH), int(next_token or 0)
        if not 1 <= size <= LARGEST_BATCH:
            raise _invalid("MaxResults must be a number between 1 and 100")
        if sort_criteria:
            raise _invalid("SortCriteria is not known to localcloud")
        matching = [each.data for each in backend.findings if _matches(each.data, filters or {})]
        more = start + size < len(matching)
        return matching[start : start + size], str(start + size) if more else None


class FindingUpdates(Patch):
    """The call BatchUpdateFindings, which moto does not know."""

    target = "moto.securityhub.responses.SecurityHubResponse"

    @adds
    def batch_update_findings(self, response: Any) -> str:
        """Answer BatchUpdateFindings."""
        backend, request = response.securityhub_backend, json.loads(response.body)
        _check_enabled(backend)
        identifiers = request.get("FindingIdentifiers")
        _check_batch("BatchUpdateFindings", identifiers)
        done, missing = [], []
        for identifier in identifiers:
            finding = _find(backend, identifier.get("Id"), identifier.get("ProductArn"))
            if finding is None:
                missing.append({
                    "FindingIdentifier": identifier, "ErrorCode": "FindingNotFound", "ErrorMessage": "Finding Not Found"
                })  # fmt: skip
                continue
            changes = {name: request[name] for name in _UPDATABLE if name in request}
            if "Note" in changes:
                changes["Note"] = changes["Note"] | {"UpdatedAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")}
            finding.data.update(copy.deepcopy(changes))
            done.append(identifier)
        return json.dumps({"ProcessedFindings": done, "UnprocessedFindings": missing})


def _invalid(message: str) -> Exception:
    error: Exception = SecurityHubClientError("InvalidInputException", message)
    return error


def _check_enabled(backend: Any) -> None:
    if not backend.enabled:
        raise SecurityHubClientError(
            "InvalidAccessException", f"Account {backend.account_id} is not subscribed to AWS Security Hub"
        )


def _check_batch(operation: str, batch: Any) -> None:
    if not isinstance(batch, list) or not 1 <= len(batch) <= LARGEST_BATCH:
        raise _invalid(f"{operation} takes 1 to {LARGEST_BATCH} findings in a call")


def _store(backend: Any, finding: dict[str, Any]) -> None:
    known = _find(backend, finding["Id"], finding["ProductArn"])
    if known is None:
        fresh = {"RecordState": "ACTIVE", "Workflow": {"Status": "NEW"}} | copy.deepcopy(finding)
        backend.findings.append(Finding(finding["Id"], fresh))
    else:
        known.data.update({name: copy.deepcopy(finding[name]) for name in finding if name not in _CUSTOMERS})


def _find(backend: Any, number: Any, product: Any) -> Any | None:
    return next((f for f in backend.findings if (f.data["Id"], f.data["ProductArn"]) == (number, product)), None)


def _problems(finding: Any, region: str, account: str) -> Iterator[str]:
    """Yield the reasons for which AWS would refuse a finding."""
    if not isinstance(finding, dict):
        yield "a finding is an object"
        return
    yield from (f"{name} is missing" for name in _REQUIRED if finding.get(name) in (None, ""))
    if len(json.dumps(finding).encode()) > _LARGEST_FINDING:
        yield "the finding is larger than 240 KB"
    for name, length in _LENGTHS.items():
        if not isinstance(finding[name], str) or len(finding[name]) > length:
            yield f"{name} is a string of {length} characters at most"
    if finding["ProductArn"] != f"arn:aws:securityhub:{region}:{account}:product/{account}/default":
        yield "ProductArn is not that of this account and region"
    if finding["AwsAccountId"] != account:
        yield "AwsAccountId is not that of the product"
    for name in _TIMES:
        if name in finding and not _TIME.fullmatch(str(finding[name])):
            yield f"{name} is no RFC 3339 time"
    for path, values in _ALLOWED.items():
        if (value := _at(finding, path)) is not None and value not in values:
            yield f"{'.'.join(path)} is not one of {', '.join(values)}"
    if _at(finding, ("Severity", "Label")) is None and _at(finding, ("Severity", "Normalized")) is None:
        yield "Severity has neither Label nor Normalized"
    yield from _wrong_types(finding["Types"])
    yield from _wrong_resources(finding["Resources"])
    yield from _wrong_remediation(_at(finding, ("Remediation", "Recommendation")) or {})
    yield from _wrong_fields("ProductFields", finding.get("ProductFields") or {}, 2048)
    yield from _wrong_fields("UserDefinedFields", finding.get("UserDefinedFields") or {}, 1024)


def _wrong_types(types: Any) -> Iterator[str]:
    if not isinstance(types, list) or len(types) > 50:
        yield "Types is a list of 50 at most"
        return
    for each in types:
        if str(each).split("/")[0] not in _NAMESPACES or str(each).count("/") > 2:
            yield f"{each!r} is not namespace/category/classifier"


def _wrong_resources(resources: Any) -> Iterator[str]:
    if not isinstance(resources, list) or not 1 <= len(resources) <= 32:
        yield "Resources has 1 to 32 entries"
        return
    for each in resources:
        if not (each.get("Type") and each.get("Id")) or len(each["Type"]) > 256 or len(each["Id"]) > 512:
            yield "a resource has a Type of 256 and an Id of 512 characters at most"
        other = _at(each, ("Details", "Other")) or {}
        yield from _wrong_fields("Details.Other", other, 1024)


def _wrong_remediation(recommendation: Mapping[str, Any]) -> Iterator[str]:
    if len(str(recommendation.get("Text") or "")) > 512:
        yield "Remediation.Recommendation.Text has 512 characters at most"
    if (url := recommendation.get("Url")) is not None and not re.match(r"https?://", str(url)):
        yield "Remediation.Recommendation.Url is no URL"


def _wrong_fields(name: str, fields: Any, longest: int) -> Iterator[str]:
    if not isinstance(fields, dict) or len(fields) > 50:
        yield f"{name} is a map of 50 entries at most"
        return
    for key, value in fields.items():
        if not isinstance(value, str) or len(key) > 128 or len(value) > longest:
            yield f"{name} maps strings of 128 characters to strings of {longest} at most"


def _at(value: Any, path: Sequence[str]) -> Any | None:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _matches(finding: Mapping[str, Any], filters: Mapping[str, Any]) -> bool:
    """Tell whether a finding matches all filters.

    A filter matches if any of its positive values matches, and all of its negative ones (NOT)."""
    for name, tests in filters.items():
        if name not in _FILTERS and name != "ResourceId":
            raise _invalid(f"the filter {name} is not known to localcloud")
        values = [_at(finding, _FILTERS[name])] if name in _FILTERS else [each["Id"] for each in finding["Resources"]]
        results: dict[bool, list[bool]] = {True: [], False: []}
        for test in tests:
            comparison = test.get("Comparison")
            if comparison not in _COMPARISONS:
                raise _invalid(f"the comparison {comparison} is not known to localcloud")
            holds = [_COMPARISONS[comparison](str(value), str(test.get("Value"))) for value in values]
            negative = "NOT" in comparison
            results[negative].append(all(holds) if negative else any(holds))
        if not all(results[True]) or (results[False] and not any(results[False])):
            return False
    return True
