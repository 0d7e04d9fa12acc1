"""`rdsiam doctor`: says why a login fails, what an error means, and what a token says."""

import json
import sys
from datetime import UTC, datetime

import click

from rdsiam.command.aws import Aws
from rdsiam.command.login import described
from rdsiam.command.output import progress, show, visible
from rdsiam.core import times
from rdsiam.doctor.known_errors import explain
from rdsiam.tokens.parser import read_token

_FAILED, _UNKNOWN = 3, 7


@click.command(
    epilog="""\b
Examples:
  rdsiam doctor orders app_service                       # goes through all that can be wrong
  rdsiam doctor --error "FATAL: PAM authentication failed for user"
  rdsiam token orders -u app_service | rdsiam doctor --token -"""
)
@click.argument("database", required=False)
@click.argument("user", required=False)
@click.option("--error", metavar="TEXT", help="Explain this error message.")
@click.option("--token", metavar="-", type=click.Choice(["-"]), help="Read a token from stdin and tell what it says.")
@click.option("--output", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--profile", help="Profile of the AWS configuration.")
@click.option("--region", help="AWS region. Default: the profile's.")
def doctor(
    database: str | None,
    user: str | None,
    error: str | None,
    token: str | None,
    form: str,
    profile: str | None,
    region: str | None,
) -> None:
    """Say why USER's login on DATABASE fails, with your own credentials; nothing is changed.

    Exit codes: 0 all OK, 3 something is wrong, 7 nothing is known to be wrong but not all could be looked at.
    """
    if sum([database is not None, error is not None, token is not None]) != 1 or (database and not user):
        raise click.UsageError("give DATABASE and USER, or --error TEXT, or --token -")
    if error is not None:
        sys.exit(_explain(error, form))
    if token is not None:
        sys.exit(_read(sys.stdin.read(), form))
    assert database is not None
    assert user is not None
    sys.exit(_look(database, user, form, Aws(profile, region)))


def _look(name: str, user: str, form: str, aws: Aws) -> int:
    from rdsiam.doctor.checks import Doctor, Row  # the drivers take a moment to load, and a pasted error needs none

    found: list[Row] = []
    for row in Doctor(described(aws, name), user, aws.client, aws.credentials(), aws.region).rows():
        found.append(row)
        if form == "table":
            click.echo(f"{row.state:<8}{row.check:<20}{visible(row.detail)}")
            if row.fix and row.state != "OK":
                click.echo(f"{'':<8}{'':<20}→ {visible(row.fix)}")
    if form == "json":
        click.echo(json.dumps([vars(row) for row in found], indent=2))
    states = {row.state for row in found}
    return _FAILED if "FAIL" in states else _UNKNOWN if "UNKNOWN" in states else 0


def _explain(error: str, form: str) -> int:
    found = explain(error)
    if form == "json":
        click.echo(json.dumps([{"cause": one.cause, "fixes": one.fixes} for one in found], indent=2))
    for one in found if form == "table" else ():
        click.echo(one.cause)
        for fix in one.fixes:
            click.echo(f"  → {fix}")
    if not found:
        progress("this text is not known here: rdsiam doctor DATABASE USER goes through all that can be wrong")
    return _FAILED if found else _UNKNOWN


def _read(text: str, form: str) -> int:
    facts, now = read_token(text), datetime.now(UTC)
    ended = facts.expires <= now
    rows = [
        ("user", facts.user),
        ("endpoint", f"{facts.host}:{facts.port}"),
        ("region", facts.region),
        ("signed with", f"{facts.access_key}, {'temporary' if facts.temporary else 'lasting'} credentials"),
        ("signed at", times.text(facts.signed)),
        ("good until", f"{times.text(facts.expires)}{', so it has expired' if ended else ''}"),
        ("length", f"{facts.length} characters"),
        ("cut off by", ", ".join(facts.cut_by) or "nothing known"),
    ]
    show(rows, ("what", "it says"), "json" if form == "json" else "table")
    if facts.temporary:
        progress("it also ends when the credentials do that signed it, which a token doesn't tell")
    return _FAILED if ended or facts.signed > now else 0
