"""The commands in one group, and how errors end them."""

import re
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
from rdsiam.core.similar import did_you_mean
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
#: Words of click.
_NO_NUMBER = re.compile(r"is not a valid (integer|float)(?: range)?")
_NO_COMMAND = re.compile(r"No such command '(?P<name>.*?)'(?=\.)", re.DOTALL)
_EXTRA = re.compile(r"Got unexpected extra arguments? \((?P<words>.*)\)", re.DOTALL)


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
        progress(f"rdsiam: {_usage_problem(error)} [usage]")
        code = error.exit_code
    except click.Abort:
        click.echo("rdsiam: interrupted", err=True)
        code = ExitCode.INTERRUPTED
    sys.exit(code)


def _usage_problem(error: click.UsageError) -> str:
    """Return the problem and what to do: the parameter or command that was probably meant, or where help is."""
    help_command = f"see {error.ctx.command_path if error.ctx else 'rdsiam'} --help"
    if isinstance(error, click.MissingParameter):  # whose choices click puts into lines of their own
        return f"{' '.join(error.format_message().split()).rstrip('.')}; {help_command}"
    # Without click's own suggestions, which know neither the commands of extras nor upper and lower case.
    problem = error.message if isinstance(error, click.NoSuchOption) else error.format_message()
    problem = _NO_NUMBER.sub(lambda found: "is no whole number" if found[1] == "integer" else "is no number", problem)
    if error.ctx is None:
        return f"{problem.rstrip('.')}; {help_command}"
    command, suggestion = error.ctx.command, ""
    if isinstance(error, click.NoSuchOption):
        if meaning := _same_meaning(error.option_name, command):
            return f"No such option '{error.option_name}': this command has the {meaning}; {help_command}"
        suggestion = did_you_mean(error.option_name, [name for each in command.params for name in each.opts])
    elif isinstance(command, click.Group) and (wrong := _NO_COMMAND.match(problem)):
        problem = wrong[0]
        suggestion = did_you_mean(wrong["name"], command.list_commands(error.ctx))
    elif (extra := _EXTRA.match(problem)) and any("--database" in each.opts for each in command.params):
        return f"Unexpected argument: {extra['words']}; a database is named with --database; {help_command}"
    return f"{problem.rstrip('.')}; {suggestion or help_command}"


def _same_meaning(name: str, command: click.Command) -> str:
    """Return the parameter that a command has for the meaning of an option of another command; empty if none."""
    spelling = _SPELLINGS.get(name, "")
    for parameter in command.params:
        if spelling in (*parameter.opts, parameter.human_readable_name):
            return f"{'option' if isinstance(parameter, click.Option) else 'argument'} {spelling}"
    return ""
