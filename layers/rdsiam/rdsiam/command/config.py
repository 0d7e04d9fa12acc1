"""`rdsiam config`: the settings that apply, and where each comes from."""

import click

from rdsiam.command.aws import Aws
from rdsiam.command.errors import Denied, ExecutionFailed, NotFound, TryAgain
from rdsiam.command.output import Format, progress, show
from rdsiam.command.settings import DEFAULT_STACK, Setting, Settings, files

#: Settings, and the stack's output that has each; None where no output does.
SETTINGS = {
    "stack": None,
    "api_url": "ApiUrl",
    "access_bucket": "AccessBucket",
    "audit_function": "AuditFunctionAlias",
    "migrate_function": "MigrateFunctionAlias",
    "onboard_function": "OnboardFunctionAlias",
}


@click.command(
    epilog="""\b
Examples:
  rdsiam config
  rdsiam config --origin                 # where does each value come from?
  rdsiam config --origin --output json"""
)
@click.option("--origin", is_flag=True, help="Show where each value comes from.")
@click.option("--output", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--stack", metavar="NAME", help="Name of the CloudFormation stack. Default: rdsiam.")
@click.option("--profile", help="Profile of the AWS configuration.")
@click.option("--region", help="AWS region. Default: the profile's.")
def config(origin: bool, form: Format, stack: str | None, profile: str | None, region: str | None) -> None:
    """Show the settings: flags > RDSIAM_* > ./rdsiam.toml > the user's file > the stack's outputs."""
    settings = Settings({"stack": stack}, Aws(profile, region).outputs)
    rows = []
    for name, output in SETTINGS.items():
        try:
            found = settings.get(name, output)
        except (NotFound, Denied, TryAgain, ExecutionFailed) as error:
            found = Setting(DEFAULT_STACK, "default") if name == "stack" else Setting("", f"not set: {error}")
        rows.append((name, found.value, found.origin) if origin else (name, found.value))
    show(rows, ("setting", "value", "origin") if origin else ("setting", "value"), form)
    if origin:
        progress(f"files, nearest first: {', '.join(map(str, files()))}")
