"""`rdsiam ls`: what you may log in to."""

import json

import click

from rdsiam.command.aws import Aws
from rdsiam.command.login import api
from rdsiam.command.output import Format, progress, show


@click.command(
    epilog="""\b
Examples:
  rdsiam ls
  rdsiam ls --output json
  rdsiam ls --output csv > databases.csv"""
)
@click.option("--output", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--api-url", metavar="URL", help="Address of the API. Default: the stack's output.")
@click.option("--stack", metavar="NAME", help="Name of the CloudFormation stack. Default: rdsiam.")
@click.option("--profile", help="Profile of the AWS configuration.")
@click.option("--region", help="AWS region. Default: the profile's.")
def ls(form: Format, api_url: str | None, stack: str | None, profile: str | None, region: str | None) -> None:
    """List the databases that you may log in to, and as whom."""
    listed = api(Aws(profile, region), api_url, stack).databases()
    if form == "json":
        click.echo(json.dumps(listed, indent=2))
        return
    rows = [
        (one.get("identifier"), one.get("engine"), ", ".join(map(str, one.get("users") or [])), one.get("arn"))
        for one in listed
    ]
    if rows or form == "csv":
        show(rows, ("database", "engine", "users", "arn"), form)
    if not rows:
        progress("there is no database that you may log in to")
