"""`rdsiam rotate`: sets up, shows, starts and unsticks rotations of passwords, of one user or of a whole set."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from rdsiam.command import names, options, rotate_all
from rdsiam.command.answers import Answer, show_reason
from rdsiam.command.aws import database_arn
from rdsiam.command.errors import ExitCode, NotFound, Usage
from rdsiam.command.installation import Installation
from rdsiam.command.output import Output, progress, visible
from rdsiam.command.secrets_function import SecretsFunction
from rdsiam.core.similar import did_you_mean
from rdsiam.rotation import commands

#: State that is not in order → what to do.
_ADVICE = {
    "failing": "a step fails: see the cause in the log of RotateFunction, then: rdsiam rotate now",
    "stuck": "it never ends by itself: rdsiam rotate now once the cause is gone, else rdsiam rotate unstick",
    "overdue": "it should have rotated: rdsiam rotate now shows why it has not",
    "initial": "rdsiam is creating the secret, and its password is not set yet: rdsiam rotate set-up",
}
_WAIT = click.option(
    "--wait",
    "seconds",
    metavar="SECONDS",
    type=click.IntRange(1, 3600),
    default=120,
    show_default=True,
    help="Time for each rotation.",
)
_LEAST = ("pending since", "window", "last rotated")
_COLUMNS = ("name", "user", "state", "schedule", "window", "last_rotated", "next_rotation", "pending_since")


@click.group()
def rotate() -> None:
    """Rotate the passwords that have to stay."""


@rotate.command(
    epilog="""\b
Examples:
  rdsiam rotate status orders legacy_etl
      last and next rotation, and what is wrong
  rdsiam rotate status orders legacy_etl --output json
  rdsiam rotate status orders legacy_etl || rdsiam rotate now orders legacy_etl"""
)
@click.argument("database", shell_complete=names.of_fleet)
@click.argument("user", shell_complete=names.of_users)
@options.output()
@options.installation("secrets_function")
def status(database: str, user: str, output: Output, installation: Installation) -> None:
    """Show the rotation of USER's password on DATABASE (identifier or ARN). Exit codes: 0 in order, 3 not."""
    function = SecretsFunction(installation)
    sys.exit(_show_status(_secrets(function, database_arn(installation.aws, database), database, user), output))


@rotate.command(
    epilog="""\b
Examples:
  rdsiam rotate now orders legacy_etl --reason TICKET-12
  rdsiam rotate now orders legacy_etl --plan
  rdsiam rotate now orders legacy_etl --wait 600"""
)
@click.argument("database", shell_complete=names.of_fleet)
@click.argument("user", shell_complete=names.of_users)
@click.option("--reason", metavar="TEXT", help="Why, for the log.")
@_WAIT
@options.plan
@options.output(quiet=True)
@options.installation("secrets_function")
def now(
    database: str,
    user: str,
    reason: str | None,
    seconds: int,
    plan: bool,
    output: Output,
    installation: Installation,
) -> None:
    """Rotate USER's password on DATABASE (identifier or ARN) now, and wait for the end.

    Exit codes: 0 done, 3 something is wrong or (with --plan) would be done, 6 not done in time.
    """
    function = SecretsFunction(installation)
    arn = database_arn(installation.aws, database)
    secret = _recorded_secret(function, arn, database, user)
    if plan:
        sys.exit(_show_status([secret], output) or ExitCode.DIFFERENT)
    function.rotate(secret["secret"], reason, seconds, output.progress)
    sys.exit(_show_status(_secrets(function, arn, database, user), output))


@rotate.command(
    epilog="""\b
Examples:
  rdsiam rotate unstick orders legacy_etl --plan
  rdsiam rotate unstick orders legacy_etl
  rdsiam rotate unstick orders legacy_etl --output json"""
)
@click.argument("database", shell_complete=names.of_fleet)
@click.argument("user", shell_complete=names.of_users)
@options.plan
@options.output()
@options.installation("secrets_function")
def unstick(database: str, user: str, plan: bool, output: Output, installation: Installation) -> None:
    """Remove AWSPENDING from USER's secret, unless the database accepts its password.

    Exit codes: 0 done or nothing to do, 3 refused, AWSCURRENT doesn't log in either, or (with --plan) would be done.
    """
    function = SecretsFunction(installation)
    secret = _recorded_secret(function, database_arn(installation.aws, database), database, user)
    answer = function.ask({"unstick": secret["secret"], "plan": plan})
    if output.form == "json":
        click.echo(json.dumps(answer, indent=2))
    if answer["status"] == "unchanged":
        progress("nothing is pending")
        return
    planned = answer["status"] == "planned"
    removal = "would be removed" if planned else "was removed"
    progress(f"AWSPENDING {removal} from version {answer['version']}, which the database does not accept")
    if not answer["current_logs_in"]:
        progress("AWSCURRENT does not log in either: put the password that is in use into the secret")
    sys.exit(ExitCode.DIFFERENT if planned or not answer["current_logs_in"] else ExitCode.OK)


@rotate.command(
    "set-up",
    epilog="""\b
Examples:
  rdsiam rotate set-up orders legacy_etl --plan
  rdsiam rotate set-up orders legacy_etl
      as access.yaml declares; or why not
  rdsiam rotate set-up orders legacy_etl --secret ARN --confirm""",
)
@click.argument("database", shell_complete=names.of_fleet)
@click.argument("user", shell_complete=names.of_users)
@click.option("--secret", metavar="ARN", help="The existing secret that holds the password.")
@options.mode("Take the secret of --secret, or create one.")
@options.output()
@options.installation("secrets_function")
def set_up(
    database: str, user: str, secret: str | None, mode: options.Mode, output: Output, installation: Installation
) -> None:
    """Put the secret of USER on DATABASE (identifier or ARN) on the schedule that access.yaml declares.

    Exit codes: 0 done or nothing to do, 3 refused or (with --plan) something would change.
    """
    payload = {"database": database_arn(installation.aws, database), "user": user} | mode.payload()
    answer = Answer.from_json(SecretsFunction(installation).ask(payload | ({"secret": secret} if secret else {})))
    answer.show(output, f"{user} on {database}")
    sys.exit(ExitCode.OK if answer.status in {"written", "unchanged"} else ExitCode.DIFFERENT)


@rotate.command(
    "list",
    epilog="""\b
Examples:
  rdsiam rotate list
      all rotations; for those that are refused, the line to add
  rdsiam rotate list --database orders
  rdsiam rotate list --output csv > rotations.csv""",
)
@options.databases("Only of this one; repeatable.")
@options.output()
@options.installation("secrets_function")
def list_(databases: tuple[str, ...], output: Output, installation: Installation) -> None:
    """List all rotations that are set up, and why rdsiam refuses some. Exit codes: 0 in order, 3 some are refused."""
    arns = sorted({database_arn(installation.aws, name) for name in databases})
    answer = SecretsFunction(installation).ask({"list": True} | ({"databases": arns} if arns else {}))
    secrets = answer["secrets"]
    rows = [
        (
            secret["identifier"] or "?",
            secret["user"],
            secret["name"],
            "refused" if secret["problem"] else secret["state"],
            secret["next_rotation"],
            secret["problem"],
        )
        for secret in secrets
    ]
    output.show(rows, ("database", "user", "secret", "state", "next rotation", "problem"), secrets, ("next rotation",))
    rotate_all.report_skipped(answer, progress)
    if not secrets:
        progress("no rotation is set up")
    lines = [visible(secret["line_to_add"]) for secret in secrets if secret["line_to_add"]]
    if lines:
        progress("to have them rotated, add the intended lines to `databases` of access.yaml:")
        for line in lines:
            progress(f"  {line}")
    sys.exit(ExitCode.DIFFERENT if any(secret["problem"] for secret in secrets) else ExitCode.OK)


@rotate.command(
    "all",
    epilog="""\b
Examples:
  rdsiam rotate all --reason "leak" --match 'orders-*' --plan
  rdsiam rotate all --reason "leak" --match 'orders-*'
  rdsiam rotate all --reason "leak" --database orders --database billing --at-once 2""",
)
@click.option("--reason", metavar="TEXT", required=True, help="Why, for the log.")
@options.databases("Only of this one; repeatable.")
@click.option("--match", "patterns", multiple=True, metavar="PATTERN", help="Identifiers, with * and ?; repeatable.")
@click.option(
    "--at-once", metavar="NUMBER", type=click.IntRange(1, 64), default=8, show_default=True, help="Number of databases."
)
@_WAIT
@options.gather(
    "choice", ["reason", "databases", "patterns", "at_once", "seconds"], lambda values: rotate_all.Choice(**values)
)
@options.plan
@options.output(quiet=True)
@options.installation("secrets_function")
def all_(choice: rotate_all.Choice, plan: bool, output: Output, installation: Installation) -> None:
    """Rotate every password of a set now, in an emergency such as a leak.

    Exit codes: 0 all are rotated, 3 (with --plan) would be done, 7 some were not rotated.
    """
    arns = sorted({database_arn(installation.aws, name) for name in choice.databases})
    sys.exit(rotate_all.run(SecretsFunction(installation), choice, arns, plan, output))


def _secrets(function: SecretsFunction, arn: str, database: str, user: str) -> list[dict[str, Any]]:
    """Return the secrets that RotateFunction rotates for the user, or for the user and its clone."""
    listed = function.ask({"list": True, "databases": [arn]})["secrets"]
    secrets = [secret for secret in listed if user in {secret["user"], str(secret["user"]).removesuffix("_clone")}]
    if not secrets:
        suggestion = did_you_mean(user, {str(secret["user"]) for secret in listed})
        reason = f"for the reason: {commands.set_up(database, user, '--plan')}"
        raise NotFound(f"{user} on {database}: no secret is rotated by rdsiam", suggestion or reason)
    return secrets


def _recorded_secret(function: SecretsFunction, arn: str, database: str, user: str) -> dict[str, Any]:
    """Return the only secret of the user that the inventory records."""
    secrets = _secrets(function, arn, database, user)
    # Anybody can write a secret that names this user: only recorded secrets count if there are any.
    secrets = [secret for secret in secrets if not secret["line_to_add"]] or secrets
    if len(secrets) > 1:
        names = ", ".join(secret["name"] for secret in secrets)
        raise Usage(f"{user} on {database}: several secrets are rotated: {names}", "rotate them with rdsiam rotate all")
    return secrets[0]


def _show_status(secrets: Sequence[Mapping[str, Any]], output: Output) -> ExitCode:
    rows = [[secret[name] for name in _COLUMNS] for secret in secrets]
    output.show(rows, [name.replace("_", " ") for name in _COLUMNS], list(secrets), _LEAST)
    for secret in secrets:
        if secret["problem"]:
            show_reason(f"{secret['name']} is refused: {secret['problem']}", "", secret["remedy"])
        elif secret["state"] in _ADVICE:
            progress(f"{secret['name']} is {secret['state']}: {_ADVICE[secret['state']]}")
    in_order = not any(secret["problem"] or secret["state"] in _ADVICE for secret in secrets)
    return ExitCode.OK if in_order else ExitCode.DIFFERENT
