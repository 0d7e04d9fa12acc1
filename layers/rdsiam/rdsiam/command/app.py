"""The commands in one group, and how errors end them."""

import sys

import click

from rdsiam.command import (
    audit,
    completion,
    config,
    connect,
    decisions,
    doctor,
    ls,
    migrate,
    onboard,
    proxy,
    reconcile,
    report,
    revoke,
    rotate,
    token,
)
from rdsiam.command.errors import ExitCode, exit_code
from rdsiam.command.extras import Commands
from rdsiam.command.output import progress
from rdsiam.command.version import VERSION
from rdsiam.errors import RdsiamError

app = Commands(
    "rdsiam",
    help="Passwordless logins for a fleet of Amazon RDS and Aurora databases.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
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
    proxy.proxy,
    reconcile.reconcile,
    report.report,
    revoke.revoke,
    rotate.rotate,
    token.token,
):
    app.add_command(_command)
click.version_option(VERSION, message="rdsiam %(version)s")(app)

#: An option that another command has, or had → the parameter with its meaning.
_SPELLINGS = {
    "--dry-run": "--plan",
    "--format": "--output",
    "--output": "--format",
    "--user": "USER",
    "-u": "USER",
    "--database": "DATABASE",
}


def run() -> None:
    """Run the command line, and exit with its code. Every error is one line: `rdsiam: problem; remedy [code]`."""
    try:
        code = app.main(prog_name="rdsiam", standalone_mode=False)
    except RdsiamError as error:
        progress(f"rdsiam: {error} [{error.code}]")
        code = exit_code(error)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.UsageError as error:
        help_command = f"{error.ctx.command_path if error.ctx else 'rdsiam'} --help"
        progress(f"rdsiam: {_usage_problem(error).rstrip('.')}; see {help_command} [usage]")
        code = error.exit_code
    except click.Abort:
        click.echo("rdsiam: interrupted", err=True)
        code = ExitCode.INTERRUPTED
    sys.exit(code)


def _usage_problem(error: click.UsageError) -> str:
    """Return the message; an unknown option is answered with the parameter that the command has for its meaning."""
    if isinstance(error, click.NoSuchOption) and error.ctx:
        spelling = _SPELLINGS.get(error.option_name, "")
        for parameter in error.ctx.command.params:
            if spelling in (*parameter.opts, parameter.human_readable_name):
                kind = "option" if isinstance(parameter, click.Option) else "argument"
                return f"No such option '{error.option_name}': this command has the {kind} {spelling}"
    if isinstance(error, click.MissingParameter):  # whose choices click puts into lines of their own
        return " ".join(error.format_message().split())
    return error.format_message()
