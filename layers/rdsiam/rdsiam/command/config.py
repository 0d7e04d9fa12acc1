"""`rdsiam config`: the settings that apply, the origin of each, and the trusted files of directories."""

from pathlib import Path

import click

from rdsiam.command import options, trust
from rdsiam.command.errors import CommandError, NotFound, Usage
from rdsiam.command.installation import Installation
from rdsiam.command.output import Output, progress
from rdsiam.command.settings import SETTINGS, Setting, parsed
from rdsiam.core.counts import counted


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  rdsiam config
      each value and its origin
  rdsiam config --output json
  rdsiam config trust
      let ./rdsiam.toml apply as it is now""",
)
@options.output()
@options.installation("stack")
@click.pass_context
def config(context: click.Context, output: Output, installation: Installation) -> None:
    """Show the settings and their origins: flags > RDSIAM_* > a trusted ./rdsiam.toml > the user's file > the stack."""
    if context.invoked_subcommand is not None:
        return
    rows, missing = [], ""
    for name in SETTINGS:
        try:
            setting = installation.settings.get(name)
        except CommandError as error:
            setting, missing = Setting("", "not set"), missing or str(error)
        rows.append((name, setting.value, setting.origin))
    output.show(rows, ("setting", "value", "origin"))
    if missing:
        progress(missing)


@config.command(
    "trust",
    epilog="""\b
Examples:
  rdsiam config trust
      ./rdsiam.toml
  rdsiam config trust ~/src/shop
      the file of that directory
  rdsiam config trust --forget ~/src/shop""",
)
@click.argument("path", type=click.Path(path_type=Path), default=Path())
@click.option("--forget", is_flag=True, help="No longer trust the file, whatever its content.")
def trust_(path: Path, forget: bool) -> None:
    """Let the rdsiam.toml at PATH apply in its directory until its content changes; show what it sets."""
    if forget:
        progress(f"{path}: {counted(trust.forget(path), 'version')} of {trust.NAME} no longer trusted")
        return
    file = trust.local_file(path)
    if file is None:
        raise NotFound(f"{path}: no {trust.NAME}", "name the directory that has it, or the file")
    if file.path.name != trust.NAME:
        raise Usage(f"{file.path}: not called {trust.NAME}, so no directory's settings are read from it")
    for name, value in parsed(str(file.path), file.content).items():
        progress(f"{name} = {value}" + ("" if name in SETTINGS else "  (no setting of rdsiam: ignored)"))
    file.trust()
    progress(f"{file.path} is trusted as it is now")
