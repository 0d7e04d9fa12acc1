"""Suppression of findings that access.yaml accepts, for a reason and until a time.

A suppressed finding stays in the report, marked with its reason.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from rdsiam.access.model import AccessFile
from rdsiam.access.selection import SelectedDatabase
from rdsiam.core import times
from rdsiam.engines.registry import REMEDIATIONS
from rdsiam.findings.finding import Finding, Suppressed


def suppress(
    findings: Iterable[Finding], databases: Mapping[str, SelectedDatabase], access: AccessFile, at: datetime
) -> tuple[Finding, ...]:
    """Mark the findings that access.yaml accepts at this time.

    A suppression with `user` accepts findings of its kind about that account, `name@host`, or about all accounts of
    that user name. A suppression without `user` accepts all findings of its kind on the database.

    :param databases: databases by ARN. A finding that names none of them can't be accepted.
    """
    return tuple(_mark(finding, databases.get(finding.database or ""), access, at) for finding in findings)


def _mark(finding: Finding, database: SelectedDatabase | None, access: AccessFile, at: datetime) -> Finding:
    if database is None:
        return finding
    users = {finding.user}
    if finding.user is not None:
        users.add(REMEDIATIONS[database.family].user_of(finding.user))  # the account's user name, without its host
    suppressions = [
        suppression
        for suppression in access.suppressions(database)
        if suppression.finding == finding.kind
        and (suppression.user is None or suppression.user in users)
        and suppression.until > at
    ]
    if not suppressions:
        return finding
    last = max(suppressions, key=lambda suppression: (suppression.until, suppression.reason))
    return replace(finding, suppressed=Suppressed(last.reason, times.text(last.until)))
