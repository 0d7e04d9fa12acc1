"""`rdsiam revoke`: locks a user at once, whatever access.yaml declares, and lifts that again."""

import json
import sys

import click

from rdsiam.command.aws import Aws, database_arn
from rdsiam.command.errors import Usage
from rdsiam.command.executions import run
from rdsiam.command.output import Format, progress, show, tell_incomplete
from rdsiam.command.settings import Settings

_DIFFERENT = 3
_INCOMPLETE = 7


@click.command(
    epilog="""\b
Examples:
  rdsiam revoke orders app_service --reason "key leaked, TICKET-7" --plan
  rdsiam revoke orders app_service --reason "key leaked, TICKET-7"
  rdsiam revoke orders app_service --lift"""
)
@click.argument("database")
@click.argument("user")
@click.option("--reason", metavar="TEXT", help="Why; it is kept with the revocation.")
@click.option("--lift", is_flag=True, help="Let the user be what access.yaml declares again.")
@click.option("--plan", "--dry-run", "plan", is_flag=True, help="Change nothing, say what would be changed.")
@click.option("--output", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.option("--onboard-function", metavar="NAME", help="OnboardFunction with its alias. Default: the stack's output.")
@click.option("--stack", metavar="NAME", help="Name of the CloudFormation stack. Default: rdsiam.")
@click.option("--profile", help="Profile of the AWS configuration.")
@click.option("--region", help="AWS region. Default: the profile's.")
def revoke(
    database: str,
    user: str,
    reason: str | None,
    lift: bool,
    plan: bool,
    form: Format,
    quiet: bool,
    onboard_function: str | None,
    stack: str | None,
    profile: str | None,
    region: str | None,
) -> None:
    """Lock USER on DATABASE (identifier or ARN) and end its sessions; tokens stop within a minute. For operators.

    It stays so, whatever access.yaml declares, until --lift. Exit codes: 0 done, 3 refused, or (with --plan) something
    would change, 7 something was not reached: the user may still be logged in there, and rdsiam tries again.
    """
    if lift == bool(reason):
        raise Usage('say why with --reason "…", or give --lift, not both')
    aws = Aws(profile, region)
    settings = Settings({"onboard_function": onboard_function, "stack": stack}, aws.outputs)
    function = settings.get("onboard_function", "OnboardFunctionAlias").value
    request = {"lift": [user]} if lift else {"revoke": [user], "reason": reason}
    payload = {"database": database_arn(aws, database)} | request | ({"plan": True} if plan else {})
    answer = run(aws.client("lambda"), function, payload, "revoke", (lambda _: None) if quiet else progress)
    if form == "json":
        click.echo(json.dumps(answer, indent=2))
    elif answer.get("changes") or form == "csv":
        rows = [(one["kind"], one["target"], one["statement"]) for one in answer.get("changes") or []]
        show(rows, ("change", "target", "statement"), form)
    tell_incomplete(answer)
    progress(f"{answer.get('status')}: {answer.get('reason') or f'{user} on {database}'}")
    if answer.get("status") == "planned":
        sys.exit(_DIFFERENT if answer.get("changes") else 0)
    if answer.get("status") == "incomplete":
        sys.exit(_INCOMPLETE)
    sys.exit(0 if answer.get("status") in {"revoked", "onboarded", "unchanged"} else _DIFFERENT)
