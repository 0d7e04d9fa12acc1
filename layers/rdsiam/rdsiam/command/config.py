"""`rdsiam config`: the settings that apply, where each comes from, and which files of directories are trusted."""

from pathlib import Path

import click

from rdsiam.command import trust
from rdsiam.command.aws import Aws
from rdsiam.command.errors import Denied, ExecutionFailed, NotFound, TryAgain, Usage
from rdsiam.command.output import Format, progress, show
from rdsiam.command.settings import DEFAULT_STACK, Setting, Settings, parsed

#: Settings, and the stack's output that has each; None where no output does.
SETTINGS = {
    "stack": None,
    "api_url": "ApiUrl",
    "access_bucket": "AccessBucket",
    "audit_function": "AuditFunctionAlias",
    "migrate_function": "MigrateFunctionAlias",
    "onboard_function": "OnboardFunctionAlias",
    "secrets_function": "SecretsFunction",
}


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  rdsiam config                          # each value, and where it comes from
  rdsiam config --output json
  rdsiam config trust                    # let ./rdsiam.toml count, as it is now""",
)
@click.option("--output", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--stack", metavar="NAME", help="Name of the CloudFormation stack. Default: rdsiam.")
@click.option("--profile", help="Profile of the AWS configuration.")
@click.option("--region", help="AWS region. Default: the profile's.")
@click.pass_context
def config(context: click.Context, form: Format, stack: str | None, profile: str | None, region: str | None) -> None:
    """Show the settings and their origins: flags > RDSIAM_* > a trusted ./rdsiam.toml > the user's file > the stack."""
    if context.invoked_subcommand is not None:
        return
    settings = Settings({"stack": stack}, Aws(profile, region).outputs)
    rows = []
    for name, output in SETTINGS.items():
        try:
            found = settings.get(name, output)
        except (NotFound, Denied, TryAgain, ExecutionFailed) as error:
            found = Setting(DEFAULT_STACK, "default") if name == "stack" else Setting("", f"not set: {error}")
        rows.append((name, found.value, found.origin))
    show(rows, ("setting", "value", "origin"), form)


@config.command(
    "trust",
    epilog="""\b
Examples:
  rdsiam config trust                    # ./rdsiam.toml
  rdsiam config trust ~/src/shop         # the one of that directory
  rdsiam config trust --forget ~/src/shop""",
)
@click.argument("path", type=click.Path(path_type=Path), default=Path())
@click.option("--forget", is_flag=True, help="Trust it no longer, whatever its content.")
def trust_(path: Path, forget: bool) -> None:
    """Let the rdsiam.toml at PATH count in its directory, until its content changes; show what it sets."""
    if forget:
        progress(f"{path}: {trust.forget(path)} versions of {trust.NAME} were trusted, none is now")
        return
    file = trust.local_file(path)
    if file is None:
        raise NotFound(f"there is no {trust.NAME} at {path}: name the directory that has it, or the file")
    if file.path.name != trust.NAME:
        raise Usage(f"{file.path} is not called {trust.NAME}: no directory's settings are read from it")
    for name, value in parsed(str(file.path), file.content).items():
        progress(f"{name} = {value}" + ("" if name in SETTINGS else "  (no setting of rdsiam: it is ignored)"))
    file.trust()
    progress(f"{file.path} is trusted as it is now")
