"""`rdsiam doctor`: diagnoses a failed login, explains an error message, or reads a token."""

import json
import sys
from datetime import UTC, datetime

import click

from rdsiam.command import options
from rdsiam.command.errors import ExitCode
from rdsiam.command.installation import Installation
from rdsiam.command.login import describe
from rdsiam.command.output import Output, progress, visible
from rdsiam.core import times
from rdsiam.doctor.known_errors import explain
from rdsiam.tokens.parser import read_token


@click.command(
    epilog="""\b
Examples:
  rdsiam doctor orders app_service
      checks everything that can be wrong
  rdsiam doctor --error "FATAL: PAM authentication failed for user"
  rdsiam token orders -u app_service | rdsiam doctor --token -"""
)
@click.argument("database", required=False)
@click.argument("user", required=False)
@click.option("--error", metavar="TEXT", help="Explain this error message.")
@click.option("--token", metavar="-", type=click.Choice(["-"]), help="Read a token from stdin and show its content.")
@options.output("table", "json")
@options.installation()
def doctor(
    database: str | None,
    user: str | None,
    error: str | None,
    token: str | None,
    output: Output,
    installation: Installation,
) -> None:
    """Find out why USER's login on DATABASE fails, with your own credentials; nothing is changed.

    Exit codes: 0 all OK, 3 something is wrong, 7 nothing is known to be wrong but some checks could not be done.
    """
    if sum([database is not None, error is not None, token is not None]) != 1 or (database and not user):
        raise click.UsageError("give DATABASE and USER, or --error TEXT, or --token -")
    if error is not None:
        sys.exit(_explain(error, output))
    if token is not None:
        sys.exit(_show_token(sys.stdin.read(), output))
    assert database is not None
    assert user is not None
    sys.exit(_check(database, user, output, installation))


def _check(name: str, user: str, output: Output, installation: Installation) -> ExitCode:
    # Imported late: the drivers take a moment to load, and --error needs none.
    from rdsiam.doctor.case import LoginCase
    from rdsiam.doctor.checks import Row, diagnose

    aws = installation.aws
    rows: list[Row] = []
    database = describe(aws, name, own_endpoint=True)
    for row in diagnose(LoginCase(database, user, aws.client, *aws.credentials(), aws.region)):
        rows.append(row)
        if output.form == "table":
            click.echo(f"{row.state:<8}{row.check:<20}{visible(row.detail)}")
            if row.fix and row.state != "OK":
                click.echo(f"{'':<8}{'':<20}→ {visible(row.fix)}")
    if output.form == "json":
        click.echo(json.dumps([vars(row) for row in rows], indent=2))
    states = {row.state for row in rows}
    if "FAIL" in states:
        return ExitCode.DIFFERENT
    return ExitCode.INCOMPLETE if "UNKNOWN" in states else ExitCode.OK


def _explain(error: str, output: Output) -> ExitCode:
    known = explain(error)
    if output.form == "json":
        click.echo(json.dumps([{"cause": entry.cause, "fixes": entry.fixes} for entry in known], indent=2))
    for entry in known if output.form == "table" else ():
        click.echo(entry.cause)
        for fix in entry.fixes:
            click.echo(f"  → {fix}")
    if not known:
        progress("this message is not known: rdsiam doctor DATABASE USER checks everything that can be wrong")
    return ExitCode.DIFFERENT if known else ExitCode.INCOMPLETE


def _show_token(text: str, output: Output) -> ExitCode:
    facts, now = read_token(text), datetime.now(UTC)
    expired = facts.expires <= now
    rows = [
        ("user", facts.user),
        ("endpoint", f"{facts.host}:{facts.port}"),
        ("region", facts.region),
        ("signed with", f"{facts.access_key}, {'temporary' if facts.temporary else 'lasting'} credentials"),
        ("signed at", times.text(facts.signed)),
        ("valid until", f"{times.text(facts.expires)}{', so it has expired' if expired else ''}"),
        ("length", f"{facts.length} characters"),
        ("cut off by", ", ".join(facts.cut_by) or "nothing known"),
    ]
    output.show(rows, ("part", "content"))
    if facts.temporary:
        progress("the token also expires with the credentials that signed it, and it doesn't say when they do")
    return ExitCode.DIFFERENT if expired or facts.signed > now else ExitCode.OK
