"""Findings that access.yaml accepts: for a reason, until a time, and never out of sight."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from rdsiam.access import AccessFile, Suppression
from rdsiam.audit.findings import Finding, Suppressed
from rdsiam.databases import Database
from rdsiam.engines.remedies import REMEDIES


def suppress(
    findings: Iterable[Finding], databases: Mapping[str, Database], access: AccessFile, at: datetime
) -> tuple[Finding, ...]:
    """Mark the findings that an entry accepts which matches their database. One that is over counts no more.

    An entry with `user` accepts that account, `name@host`, or all host patterns of that name; without, all of its kind.

    :param databases: by ARN. Findings about no database can't be accepted.
    """
    return tuple(_mark(one, databases.get(one.database or ""), access, at) for one in findings)


def _mark(finding: Finding, database: Database | None, access: AccessFile, at: datetime) -> Finding:
    if database is None:
        return finding
    names = {finding.user}
    if finding.user is not None:
        names.add(REMEDIES[database.family].user_of(finding.user))
    holding = [
        one
        for one in _entries(access, database)
        if one.finding == finding.kind and (one.user is None or one.user in names) and one.until > at
    ]
    if not holding:
        return finding
    longest = max(holding, key=lambda one: (one.until, one.reason))
    until = longest.until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return replace(finding, suppressed=Suppressed(longest.reason, until))


def _entries(access: AccessFile, database: Database) -> Sequence[Suppression]:
    return [one for entry in access.databases if entry.match.covers(database) for one in entry.suppress]
