"""Findings that access.yaml accepts: for a reason and until a time. They stay visible."""

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

    An entry with `user` accepts the account `name@host`, or all accounts of a name; without, all findings of its kind.

    :param databases: by ARN. Findings about no database can't be accepted.
    """
    return tuple(_mark(finding, databases.get(finding.database or ""), access, at) for finding in findings)


def _mark(finding: Finding, database: SelectedDatabase | None, access: AccessFile, at: datetime) -> Finding:
    if database is None:
        return finding
    names = {finding.user}
    if finding.user is not None:
        names.add(REMEDIATIONS[database.family].user_of(finding.user))
    entries = [
        entry
        for entry in access.suppressions(database)
        if entry.finding == finding.kind and (entry.user is None or entry.user in names) and entry.until > at
    ]
    if not entries:
        return finding
    longest = max(entries, key=lambda entry: (entry.until, entry.reason))
    return replace(finding, suppressed=Suppressed(longest.reason, times.text(longest.until)))
