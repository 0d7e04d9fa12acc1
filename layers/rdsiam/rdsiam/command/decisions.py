"""`rdsiam decisions`: who asked for which login, what was decided, and why."""

import json
import re
from datetime import UTC, datetime, timedelta

import click

from rdsiam.command.aws import Aws
from rdsiam.command.errors import Usage
from rdsiam.command.login import api
from rdsiam.command.output import Format, progress, show
from rdsiam.core import times

_AGO = re.compile(r"([1-9][0-9]{0,4})([mhd])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_COLUMNS = ("at", "outcome", "caller", "session", "database", "user", "reason", "rule")


@click.command(
    epilog="""\b
Examples:
  rdsiam decisions                                   # your own of the last seven days
  rdsiam decisions --database orders --since 24h     # everybody's, for auditors
  rdsiam decisions --caller arn:aws:iam::123456789012:role/ci --output json"""
)
@click.option("--database", metavar="NAME", help="Of this database, identifier or ARN.")
@click.option("--caller", metavar="NAME", help="Of this caller: a role's ARN, or ISSUER#SUBJECT.")
@click.option("--since", metavar="TIME", default="7d", show_default=True, help="Time with a zone; or 90m, 24h, 7d ago.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many at most.")
@click.option("--output", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--api-url", metavar="URL", help="Address of the API. Default: the stack's output.")
@click.option("--stack", metavar="NAME", help="Name of the CloudFormation stack. Default: rdsiam.")
@click.option("--profile", help="Profile of the AWS configuration.")
@click.option("--region", help="AWS region. Default: the profile's.")
def decisions(
    database: str | None,
    caller: str | None,
    since: str,
    limit: int,
    form: Format,
    api_url: str | None,
    stack: str | None,
    profile: str | None,
    region: str | None,
) -> None:
    """List decisions about logins, newest first: your own; as one of access.yaml's auditors everybody's."""
    given = {"database": database, "caller": caller, "since": _time(since)}
    wanted = {name: value for name, value in given.items() if value is not None}
    found, more = api(Aws(profile, region), api_url, stack).decisions(wanted, limit)
    if form == "json":
        click.echo(json.dumps(found, indent=2))
    elif found or form == "csv":
        show([[one.get(name) for name in _COLUMNS] for one in found], _COLUMNS, form)
    if not found:
        progress(f"no decisions since {wanted['since']}")
    if more:
        progress(f"there are more: these are the newest {len(found)}; ask for more with --limit")


def _time(since: str) -> str:
    """Return the time that is meant, as the API takes it."""
    if match := _AGO.fullmatch(since):
        at = datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    else:
        try:
            at = datetime.fromisoformat(since)
        except ValueError:
            raise Usage("--since: must be a time such as 2026-11-24T00:00:00Z, or 90m, 24h, 7d") from None
        if at.tzinfo is None:
            raise Usage("--since: must have a time zone, such as the Z of 2026-11-24T00:00:00Z")
    return times.text(at)
