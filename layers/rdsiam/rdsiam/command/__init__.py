"""The `rdsiam` command: what people type. Data goes to stdout, everything else to stderr, secrets nowhere.

Exit codes: 0 ok, 1 unexpected, 2 usage, 3 findings or differences, 4 denied, 5 not found, 6 try again, 7 incomplete.
"""

import sys

import click

from rdsiam.command.app import app
from rdsiam.errors import RdsiamError


def main() -> None:
    """Run the command; the entry point of `pipx install ./layers/rdsiam`."""
    try:
        app(prog_name="rdsiam")
    except RdsiamError as error:
        click.echo(f"rdsiam: {error}", err=True)
        sys.exit(getattr(error, "exit_code", 1))
