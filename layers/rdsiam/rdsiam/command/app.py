"""The commands and their options."""

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
from rdsiam.errors import AccessFileInvalid, DatabaseNotReady, InvalidRequest, RdsiamError, Unsupported

#: Exit codes of errors that other parts raise; the command's own have theirs in errors.py.
_CODES = {InvalidRequest: 2, Unsupported: 2, AccessFileInvalid: 3, DatabaseNotReady: 6}

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
    """Run what the command line asks for, and exit with its code."""
    try:
        app(prog_name="rdsiam")
    except RdsiamError as error:
        click.echo(f"rdsiam: {error}", err=True)
        sys.exit(exit_code(error))


def exit_code(error: RdsiamError) -> int:
    """Return the exit code that tells scripts what happened."""
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    return getattr(error, "exit_code", 1)
