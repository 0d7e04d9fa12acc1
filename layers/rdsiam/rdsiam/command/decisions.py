"""`rdsiam decisions`: requests for logins, with the decision on each and its reason."""

import re
from datetime import UTC, datetime, timedelta

import click

from rdsiam.command import names, options
from rdsiam.command.errors import Usage
from rdsiam.command.installation import Installation
from rdsiam.command.output import Output, progress
from rdsiam.core import times

_AGO = re.compile(r"([1-9][0-9]{0,4})([mhd])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_COLUMNS = ("at", "outcome", "caller", "session", "database", "user", "reason", "rule")
_LEAST = ("rule", "session")


@click.command(
    epilog="""\b
Examples:
  rdsiam decisions
      your own of the last seven days
  rdsiam decisions --database orders --since 24h
      of all callers, for auditors
  rdsiam decisions --caller arn:aws:iam::123456789012:role/ci --output json"""
)
@click.option(
    "--database", metavar="DATABASE", shell_complete=names.of_fleet, help="Only of this database, identifier or ARN."
)
@click.option("--caller", metavar="NAME", help="Only of this caller: a role's ARN, or ISSUER#SUBJECT.")
@click.option("--since", metavar="TIME", default="7d", show_default=True, help="Time with a zone; or 90m, 24h, 7d ago.")
@click.option(
    "--limit", metavar="NUMBER", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Maximum number."
)
@options.output()
@options.installation("api_url")
def decisions(
    database: str | None, caller: str | None, since: str, limit: int, output: Output, installation: Installation
) -> None:
    """List decisions about logins, newest first: your own, or for auditors of access.yaml those of all callers."""
    start = _time(since)
    criteria = {"database": database, "caller": caller, "since": start}
    given = {name: value for name, value in criteria.items() if value is not None}
    listed, more = installation.api.decisions(given, limit)
    output.show([[decision.get(name) for name in _COLUMNS] for decision in listed], _COLUMNS, listed, _LEAST)
    if not listed:
        progress(f"no decisions since {start}")
    if more:
        progress(f"there are more: these are the newest {len(listed)}; ask for more with --limit")


def _time(since: str) -> str:
    """Return the time as the API takes it."""
    if match := _AGO.fullmatch(since):
        at = datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    else:
        try:
            at = datetime.fromisoformat(since)
        except ValueError:
            raise Usage("--since: not a time", "give a time such as 2026-11-24T00:00:00Z, or 90m, 24h, 7d") from None
        if at.tzinfo is None:
            raise Usage("--since: the time has no zone", "add one, such as the Z of 2026-11-24T00:00:00Z")
    return times.text(at)
