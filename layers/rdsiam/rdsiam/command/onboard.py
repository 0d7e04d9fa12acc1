"""`rdsiam onboard`: makes one database match access.yaml, or shows what that would change."""

import sys

import click

from rdsiam.command import names, options
from rdsiam.command.answers import Answer
from rdsiam.command.aws import database_arn
from rdsiam.command.installation import Installation
from rdsiam.command.output import Output


@click.command(
    epilog="""\b
Examples:
  rdsiam onboard orders --plan
      the SQL and the calls; exit code 3 if anything would change
  rdsiam onboard orders
  rdsiam onboard orders --confirm --output json"""
)
@click.argument("database", shell_complete=names.of_fleet)
@options.mode("Exceed the change limit, and grant what waits for confirmation.")
@options.everything
@options.output(quiet=True)
@options.installation("onboard_function")
def onboard(database: str, mode: options.Mode, everything: bool, output: Output, installation: Installation) -> None:
    """Make DATABASE (identifier or ARN) passwordless, as access.yaml declares.

    For all databases of the fleet that differ: rdsiam reconcile.

    With --plan after a database changed its tags or its name: also shows which users would gain what.

    Exit codes: 0 done or nothing to do, 3 refused, ignored, or (with --plan) something would change, 7 done in part.
    """
    payload = {"database": database_arn(installation.aws, database)} | mode.payload()
    document = installation.run("onboard_function", payload, "onboard", output.progress, everything=everything)
    answer = Answer.from_json(document)
    answer.show(output, database)
    sys.exit(answer.exit_code({"onboarded", "unchanged"}))
