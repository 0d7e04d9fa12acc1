"""`rdsiam onboard`: makes one database what access.yaml says, or tells what that would change."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from rdsiam.command.aws import Aws, database_arn
from rdsiam.command.executions import run
from rdsiam.command.output import Format, progress, show, tell_incomplete
from rdsiam.command.settings import Settings

_DIFFERENT, _INCOMPLETE = 3, 7


@click.command(
    epilog="""\b
Examples:
  rdsiam onboard orders --plan           # what would be done, with the SQL; exit code 3 if anything
  rdsiam onboard orders
  rdsiam onboard orders --plan           # after its tags or its name changed: also who would gain what
  rdsiam onboard orders --confirm --output json"""
)
@click.argument("database")
@click.option("--plan", "--dry-run", "plan", is_flag=True, help="Change nothing, say what would be changed.")
@click.option("--confirm", is_flag=True, help="Exceed the change limit, and give what waits for confirmation.")
@click.option("--output", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.option("--onboard-function", metavar="NAME", help="OnboardFunction with its alias. Default: the stack's output.")
@click.option("--stack", metavar="NAME", help="Name of the CloudFormation stack. Default: rdsiam.")
@click.option("--profile", help="Profile of the AWS configuration.")
@click.option("--region", help="AWS region. Default: the profile's.")
def onboard(
    database: str,
    plan: bool,
    confirm: bool,
    form: Format,
    quiet: bool,
    onboard_function: str | None,
    stack: str | None,
    profile: str | None,
    region: str | None,
) -> None:
    """Make DATABASE (identifier or ARN) passwordless, as access.yaml declares.

    Exit codes: 0 done or nothing to do, 3 refused, ignored, or (with --plan) something would change, 7 done in part.
    """
    aws = Aws(profile, region)
    settings = Settings({"onboard_function": onboard_function, "stack": stack}, aws.outputs)
    function = settings.get("onboard_function", "OnboardFunctionAlias").value
    requests = {"plan": plan, "confirm": confirm}
    payload = {"database": database_arn(aws, database)} | {name: True for name, wished in requests.items() if wished}
    tell = (lambda _: None) if quiet else progress
    answer = run(aws.client("lambda"), function, payload, "onboard", tell)
    if form == "json":
        click.echo(json.dumps(answer, indent=2))
    elif answer.get("changes") or form == "csv":
        rows = [(one["kind"], one["target"], one["statement"]) for one in answer.get("changes") or []]
        show(rows, ("change", "target", "statement"), form)
    tell_incomplete(answer)
    progress(f"{answer.get('status')}: {answer.get('reason') or database}")
    sys.exit(_exit_code(answer))


def _exit_code(answer: Mapping[str, Any]) -> int:
    if answer.get("status") == "planned":
        return _DIFFERENT if answer.get("changes") else 0
    if answer.get("status") == "incomplete":
        return _INCOMPLETE
    return 0 if answer.get("status") in {"onboarded", "unchanged"} else _DIFFERENT
