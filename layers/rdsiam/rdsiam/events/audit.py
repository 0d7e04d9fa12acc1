"""Requests to AuditFunction."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rdsiam.errors import InvalidRequest
from rdsiam.events import fields

_MOST_FINDINGS = 100
_FINDING = re.compile(r"[0-9a-f]{20}", re.ASCII)


@dataclass(frozen=True)
class AuditRequest:
    """A request for an audit, or for the remediation of findings.

    :ivar databases: ARNs of the databases to audit, sorted; None for the whole fleet.
    :ivar remediate: ids of findings, sorted; empty for an audit.
    """

    databases: tuple[str, ...] | None = None
    remediate: tuple[str, ...] = ()
    plan: bool = False
    confirm: bool = False


def audit_request(event: Any) -> AuditRequest:
    """Read a request to AuditFunction.

    `{}`, `{"databases": ["<arn>", …]}`, or `{"remediate": ["<finding id>", …]}` with `plan` and `confirm`.

    :raises InvalidRequest: naming the field. An empty list is an error: it means neither all nor none.
    """
    if fields.names(event, "remediate"):
        fields.check(event, {"remediate", "plan", "confirm"})
        return AuditRequest(
            remediate=_findings(event), plan=fields.flag(event, "plan"), confirm=fields.flag(event, "confirm")
        )
    fields.check(event, {"databases"})
    return AuditRequest(fields.databases(event))


def _findings(event: Mapping[str, Any]) -> tuple[str, ...]:
    ids = event["remediate"]
    if not isinstance(ids, list) or not 1 <= len(ids) <= _MOST_FINDINGS:
        raise InvalidRequest("remediate", f"must be a list of 1–{_MOST_FINDINGS} ids of findings")
    if not all(isinstance(finding, str) and _FINDING.fullmatch(finding) for finding in ids):
        raise InvalidRequest("remediate", "must have ids of findings, as the report shows them")
    return tuple(sorted(set(ids)))
