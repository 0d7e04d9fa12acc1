"""`rdsiam revoke`: locks a user at once, whatever access.yaml declares, and lifts that revocation."""

import sys

import click

from rdsiam.command import names, options
from rdsiam.command.answers import Answer
from rdsiam.command.aws import database_arn
from rdsiam.command.errors import Usage
from rdsiam.command.installation import Installation
from rdsiam.command.output import Output


@click.command(
    epilog="""\b
Examples:
  rdsiam revoke orders app_service --reason "key leaked, TICKET-7" --plan
  rdsiam revoke orders app_service --reason "key leaked, TICKET-7"
  rdsiam revoke orders app_service --lift"""
)
@click.argument("database", shell_complete=names.of_fleet)
@click.argument("user", shell_complete=names.of_users)
@click.option("--reason", metavar="TEXT", help="Why; recorded with the revocation.")
@click.option("--lift", is_flag=True, help="End the revocation: access.yaml decides again.")
@options.plan
@options.everything
@options.output(quiet=True)
@options.installation("onboard_function")
def revoke(
    database: str,
    user: str,
    reason: str | None,
    lift: bool,
    plan: bool,
    everything: bool,
    output: Output,
    installation: Installation,
) -> None:
    """Lock USER on DATABASE (identifier or ARN) and end its sessions; tokens stop within a minute. For operators.

    The user stays locked until --lift, whatever access.yaml declares. Exit codes: 0 done, 3 refused, or (with --plan)
    something would change, 7 something was not reached: the user may still be logged in there, and rdsiam tries again.
    """
    if lift == bool(reason):
        raise Usage("revoke: needs either a reason or --lift", 'give --reason "…", or --lift')
    request = {"lift": [user]} if lift else {"revoke": [user], "reason": reason}
    payload = {"database": database_arn(installation.aws, database)} | request | ({"plan": True} if plan else {})
    document = installation.run("onboard_function", payload, "revoke", output.progress, everything=everything)
    answer = Answer.from_json(document)
    answer.show(output, f"{user} on {database}")
    sys.exit(answer.exit_code({"revoked", "onboarded", "unchanged"}))
