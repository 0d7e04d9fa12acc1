"""`rdsiam reconcile`: starts the onboarding of every database that differs from its record, or lists them."""

import sys
from collections.abc import Mapping
from typing import Any

import click

from rdsiam.command import options
from rdsiam.command.errors import ExitCode
from rdsiam.command.installation import Installation
from rdsiam.command.long_lists import remarks
from rdsiam.command.output import Output
from rdsiam.core.arn import Arn
from rdsiam.core.counts import agreed, counted, number

_CONFIRM = (
    "Apply a version of access.yaml that takes most logins, or go on if RDS lists no database; each onboarding exceeds "
    "its change limit, and grants what waits for confirmation."
)


@click.command(
    epilog="""\b
Examples:
  rdsiam reconcile --plan
      the databases that differ; exit code 3 if there are any
  rdsiam reconcile
  rdsiam reconcile --confirm --plan --output json"""
)
@options.mode(_CONFIRM)
@options.everything
@options.output(quiet=True)
@options.installation("onboard_function")
def reconcile(mode: options.Mode, everything: bool, output: Output, installation: Installation) -> None:
    """Start the onboarding of all databases of the fleet that differ from their records, as a new access.yaml does.

    No database is opened to find them. Each onboarding is an execution of its own, which goes on after the command has
    ended.

    Exit codes: 0 started, or nothing differs, 3 refused, or (with --plan) onboardings would be started.
    """
    payload = {"reconcile": True} | mode.payload()
    answer = installation.run("onboard_function", payload, "reconcile", output.progress, everything=everything)
    _show(answer, mode.plan, output)
    sys.exit(ExitCode.DIFFERENT if mode.plan and answer["started"] else ExitCode.OK)


def _show(answer: Mapping[str, Any], plan: bool, output: Output) -> None:
    output.show([(Arn.parse(arn).name, arn) for arn in answer["started"]], ("database", "arn"), answer)
    for line in remarks(answer):
        output.progress(line)
    total = answer.get("started_total", len(answer["started"]))
    differ = f"{counted(total, 'database')} {agreed(total, 'differs', 'differ')}"
    rest = f"{number(answer['unchanged'])} {agreed(answer['unchanged'], 'is', 'are')} as recorded"
    output.progress(f"{'planned' if plan else 'reconciled'}: {differ}; {rest}")
    if total and not plan:
        output.progress("their onboardings were started and go on; the result of one: rdsiam onboard DATABASE")
