"""`rdsiam rotate`: shows, begins and unsticks the rotation of a user's password, or rotates a whole set at once."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from rdsiam.command import rotate_all
from rdsiam.command.aws import Aws, database_arn
from rdsiam.command.errors import NotFound, Usage
from rdsiam.command.output import Format, progress, show, visible
from rdsiam.command.secrets_function import SecretsFunction

_DIFFERENT = 3
#: What to do about a state that is not in order.
_ADVICE = {
    "failing": "a step fails: the cause is in the log of RotateFunction; then --now",
    "stuck": "it never ends by itself: --now once the cause is gone, else --unstick",
    "overdue": "it should have rotated: --now shows why not",
    "initial": "rdsiam creates it, and its password is not set yet: --set-up",
}


@click.command(
    epilog="""\b
Examples:
  rdsiam rotate orders legacy_etl                      # when it rotates, when it did, what is wrong
  rdsiam rotate orders legacy_etl --now --reason TICKET-12
  rdsiam rotate orders legacy_etl --unstick --plan
  rdsiam rotate orders legacy_etl --set-up             # as access.yaml says; or why not
  rdsiam rotate orders legacy_etl --set-up --secret ARN --confirm
  rdsiam rotate --list                                 # what is set up; if refused, the line to add
  rdsiam rotate --all --reason "leak" --match 'orders-*' --plan"""
)
@click.argument("database", required=False)
@click.argument("user", required=False)
@click.option("--status", "action", flag_value="status", default=True, help="Show it; what is done if nothing is said.")
@click.option("--now", "action", flag_value="now", help="Rotate now, and wait for the end.")
@click.option("--unstick", "action", flag_value="unstick", help="Take AWSPENDING off, unless its password is in use.")
@click.option("--set-up", "action", flag_value="set-up", help="Put the secret on the schedule that access.yaml says.")
@click.option(
    "--list", "action", flag_value="list", help="List all rotations that are set up, and which are refused, and why."
)
@click.option("--all", "everything", is_flag=True, help="In an emergency: rotate every secret of a set now.")
@click.option("--reason", metavar="TEXT", help="Why, for the log. Needed with --all.")
@click.option(
    "--database", "databases", multiple=True, metavar="NAME", help="With --all, --list: only this one; repeatable."
)
@click.option("--match", "patterns", multiple=True, metavar="PATTERN", help="With --all: identifiers; * and ? allowed.")
@click.option("--at-once", type=click.IntRange(1, 64), default=8, show_default=True, help="With --all: databases.")
@click.option(
    "--wait", "seconds", type=click.IntRange(1, 3600), default=120, show_default=True, help="Seconds for each."
)
@click.option("--plan", "--dry-run", "plan", is_flag=True, help="Change nothing, say what would be done.")
@click.option("--confirm", is_flag=True, help="With --set-up: take the secret of --secret, or create one.")
@click.option("--secret", metavar="ARN", help="With --set-up: the existing secret that holds the password.")
@click.option("--output", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.option("--secrets-function", metavar="NAME", help="SecretsFunction with its alias. Default: the stack's output.")
@click.option("--stack", metavar="NAME", help="Name of the CloudFormation stack. Default: rdsiam.")
@click.option("--profile", help="Profile of the AWS configuration.")
@click.option("--region", help="AWS region. Default: the profile's.")
def rotate(
    database: str | None,
    user: str | None,
    action: str,
    everything: bool,
    reason: str | None,
    databases: tuple[str, ...],
    patterns: tuple[str, ...],
    at_once: int,
    seconds: int,
    plan: bool,
    confirm: bool,
    secret: str | None,
    form: Format,
    quiet: bool,
    secrets_function: str | None,
    stack: str | None,
    profile: str | None,
    region: str | None,
) -> None:
    """Look after the rotation of USER's password on DATABASE (identifier or ARN), or of many.

    Exit codes: 0 in order or done, 3 something is wrong, refused, or (with --plan) would be done, 6 not done in time,
    7 with --all: some were not rotated.
    """
    _check(database, user, everything, reason, databases, patterns, action, plan, confirm, secret)
    aws = Aws(profile, region)
    function = SecretsFunction(aws, secrets_function, stack)
    tell = (lambda _: None) if quiet else progress
    if everything:
        arns = sorted({database_arn(aws, name) for name in databases}) or None
        request = rotate_all.RotationRequest(str(reason), arns, patterns, at_once, seconds)
        sys.exit(rotate_all.run(function, request, plan, form, tell))
    if action == "list":
        arns = sorted({database_arn(aws, name) for name in databases})
        sys.exit(_list(function.ask({"list": True} | ({"databases": arns} if arns else {})), form))
    arn = database_arn(aws, str(database))
    if action == "set-up":
        requests = {"plan": plan, "confirm": confirm, "secret": secret}
        answer = function.ask(
            {"database": arn, "user": user} | {name: asked for name, asked in requests.items() if asked}
        )
        sys.exit(_set_up(answer, form))
    secrets = _secrets(function, arn, str(database), str(user))
    if action == "status":
        sys.exit(_status(secrets, form))
    # Anybody can write a secret that says it is of this user; what is recorded counts.
    secrets = [one for one in secrets if not one["line_to_add"]] or secrets
    if len(secrets) > 1:
        raise Usage(f"several secrets of {user} on {database} are rotated: {', '.join(one['name'] for one in secrets)}")
    arn_of_secret = secrets[0]["secret"]
    if action == "unstick":
        sys.exit(_unstick(function.ask({"unstick": arn_of_secret, "plan": plan}), form))
    if plan:
        sys.exit(_status(secrets, form) or _DIFFERENT)
    function.rotate(arn_of_secret, reason, seconds, tell)
    sys.exit(_status(_secrets(function, arn, str(database), str(user)), form))


def _check(
    database: str | None,
    user: str | None,
    everything: bool,
    reason: str | None,
    databases: Sequence[str],
    patterns: Sequence[str],
    action: str,
    plan: bool,
    confirm: bool,
    secret: str | None,
) -> None:
    if (confirm or secret) and action != "set-up":
        raise click.UsageError("--confirm and --secret go with --set-up")
    if everything:
        if database is not None or action != "status":
            raise click.UsageError("--all goes with --reason, --database, --match and --plan only")
        if not reason:
            raise click.UsageError("--all needs --reason: the reason is kept in the log")
        return
    if action == "list":
        if database is not None or patterns or plan:
            raise click.UsageError("--list goes with --database only")
        return
    if database is None or user is None:
        raise click.UsageError("name DATABASE and USER, or --all, or --list")
    if databases or patterns:
        raise click.UsageError("--database and --match go with --all")
    if plan and action == "status":
        raise click.UsageError("--plan goes with --now, --unstick, --set-up or --all")


def _secrets(function: SecretsFunction, arn: str, database: str, user: str) -> list[dict[str, Any]]:
    """Return what RotateFunction rotates for that user; of two users that take turns either name will do."""
    listed = function.ask({"list": True, "databases": [arn]})["secrets"]
    found = [one for one in listed if user in {one["user"], str(one["user"]).removesuffix("_clone")}]
    if not found:
        raise NotFound(
            f"no secret of {user} on {database} is rotated by rdsiam; rdsiam rotate {database} {user} --set-up --plan "
            "says why"
        )
    return found


def _status(secrets: Sequence[Mapping[str, Any]], form: Format) -> int:
    names = ("name", "user", "state", "schedule", "window", "last_rotated", "next_rotation", "pending_since")
    if form == "json":
        click.echo(json.dumps(list(secrets), indent=2))
    else:
        show([[one[name] for name in names] for one in secrets], [name.replace("_", " ") for name in names], form)
    for one in secrets:
        if one["problem"]:
            progress(f"{one['name']} is refused: {one['problem']}")
        elif one["state"] in _ADVICE:
            progress(f"{one['name']} is {one['state']}: {_ADVICE[one['state']]}")
    return _DIFFERENT if any(one["problem"] or one["state"] in _ADVICE for one in secrets) else 0


def _list(answer: Mapping[str, Any], form: Format) -> int:
    secrets = answer["secrets"]
    if form == "json":
        click.echo(json.dumps(secrets, indent=2))
    else:
        rows = [
            (
                one["identifier"] or "?",
                one["user"],
                one["name"],
                "refused" if one["problem"] else one["state"],
                one["next_rotation"],
                one["problem"],
            )
            for one in secrets
        ]
        show(rows, ("database", "user", "secret", "state", "next rotation", "problem"), form)
    if answer["skipped"]:
        progress(f"{answer['skipped']} secrets can't be read by SecretsFunction, so they are not among these")
    lines = [visible(one["line_to_add"]) for one in secrets if one["line_to_add"]]
    if lines:
        progress("to have them rotated, add to `databases` of access.yaml what is meant:")
        for line in lines:
            progress(f"  {line}")
    return _DIFFERENT if any(one["problem"] for one in secrets) else 0


def _unstick(answer: Mapping[str, Any], form: Format) -> int:
    if form == "json":
        click.echo(json.dumps(answer, indent=2))
    if answer["status"] == "unchanged":
        progress("nothing is pending")
        return 0
    done = "would be taken" if answer["status"] == "planned" else "was taken"
    progress(f"AWSPENDING {done} off version {answer['version']}, which the database does not accept")
    if not answer["current_logs_in"]:
        progress("AWSCURRENT does not log in either: put the password that is in use into the secret")
    return _DIFFERENT if answer["status"] == "planned" or not answer["current_logs_in"] else 0


def _set_up(answer: Mapping[str, Any], form: Format) -> int:
    if form == "json":
        click.echo(json.dumps(answer, indent=2))
    elif answer["changes"] or form == "csv":
        rows = [(one["kind"], one["target"], one["statement"]) for one in answer["changes"]]
        show(rows, ("change", "target", "statement"), form)
    progress(f"{answer['status']}: {answer['reason'] or answer['database']}")
    return 0 if answer["status"] in {"written", "unchanged"} else _DIFFERENT
