"""The commands in one group, and how errors end them."""

import sys

import click

from rdsiam.command import (
    access,
    audit,
    completion,
    config,
    connect,
    decisions,
    doctor,
    ls,
    migrate,
    onboard,
    revoke,
    rotate,
    token,
)
from rdsiam.command.errors import exit_code
from rdsiam.errors import RdsiamError

app = click.Group(
    "rdsiam",
    help="Passwordless logins for a fleet of Amazon RDS and Aurora databases.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    access.access,
    audit.audit,
    completion.completion,
    config.config,
    connect.env,
    connect.exec_,
    connect.mysql,
    connect.psql,
    decisions.decisions,
    doctor.doctor,
    ls.ls,
    migrate.migrate,
    onboard.onboard,
    revoke.revoke,
    rotate.rotate,
    token.token,
):
    app.add_command(_command)


def run() -> None:
    """Run the command line, and exit with its code."""
    try:
        app(prog_name="rdsiam")
    except RdsiamError as error:
        click.echo(f"rdsiam: {error} [{error.code}]", err=True)
        sys.exit(exit_code(error))
