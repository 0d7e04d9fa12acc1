"""Findings that access.yaml accepts: for a reason, until a time, and never out of sight."""

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
    """Mark the findings that an entry accepts which matches their database. One that is over counts no more.

    An entry with `user` accepts that account, `name@host`, or all host patterns of that name; without, all of its kind.

    :param databases: by ARN. Findings about no database can't be accepted.
    """
    return tuple(_mark(one, databases.get(one.database or ""), access, at) for one in findings)


def _mark(finding: Finding, database: SelectedDatabase | None, access: AccessFile, at: datetime) -> Finding:
    if database is None:
        return finding
    names = {finding.user}
    if finding.user is not None:
        names.add(REMEDIATIONS[database.family].user_of(finding.user))
    holding = [
        one
        for one in access.suppressions(database)
        if one.finding == finding.kind and (one.user is None or one.user in names) and one.until > at
    ]
    if not holding:
        return finding
    longest = max(holding, key=lambda one: (one.until, one.reason))
    until = times.text(longest.until)
    return replace(finding, suppressed=Suppressed(longest.reason, until))
