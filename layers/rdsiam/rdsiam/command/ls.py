"""`rdsiam ls`: the databases that the caller may log in to."""

import click

from rdsiam.command import options
from rdsiam.command.api import ASSUME_A_ROLE
from rdsiam.command.installation import Installation
from rdsiam.command.output import Output, progress


@click.command(
    epilog="""\b
Examples:
  rdsiam ls
  rdsiam ls --output json
  rdsiam ls --output csv > databases.csv"""
)
@options.output()
@options.installation("api_url")
def ls(output: Output, installation: Installation) -> None:
    """List the databases that you may log in to, and the users that you may log in as."""
    databases = installation.api.databases()
    rows = [
        (
            database.get("identifier"),
            database.get("engine"),
            ", ".join(map(str, database.get("users") or [])),
            database.get("arn"),
        )
        for database in databases
    ]
    output.show(rows, ("database", "engine", "users", "arn"), databases)
    if not rows:
        cause = installation.api.without_role()
        progress(f"you may log in to no database{f': {cause}; {ASSUME_A_ROLE}' if cause else ''}")
