"""`rdsiam migrate`: leads a user from its password to tokens, over days; says how far all of them have come."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from rdsiam.command.aws import Aws, database_arn
from rdsiam.command.executions import run
from rdsiam.command.output import Format, progress, show
from rdsiam.command.settings import Settings
from rdsiam.core.arn import Arn

_DIFFERENT, _INCOMPLETE = 3, 7
#: After this step the function watches for days.
_WATCHING = "begin watching"
_DONE = {"retired", "unchanged", "running", "undone"}


@click.command(
    epilog="""\b
Examples:
  rdsiam migrate orders app --plan       # what would be done, with the SQL; exit code 3 if anything
  rdsiam migrate orders app --watch 14d  # returns when the watching begins
  rdsiam migrate --status                # how far all migrations of the fleet have come
  rdsiam migrate orders app --undo       # gives login and secret back"""
)
@click.argument("database", required=False)
@click.argument("user", required=False)
@click.option("--plan", "--dry-run", "plan", is_flag=True, help="Change nothing, say what would be changed.")
@click.option("--in-place", is_flag=True, help="The user itself takes tokens, and no password from then on.")
@click.option(
    "--watch",
    metavar="TIME",
    default="7d",
    show_default=True,
    help="So long nobody must log in as USER: s, m, h or d; 90d at most.",
)
@click.option("--status", is_flag=True, help="Say how far migrations have come: of the fleet, of DATABASE, of USER.")
@click.option("--undo", is_flag=True, help="Take back what was done, the last first.")
@click.option(
    "--confirm", is_flag=True, help="Exceed the change limit; with --undo, end the sessions of a user that is dropped."
)
@click.option("--output", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.option("--migrate-function", metavar="NAME", help="MigrateFunction with its alias. Default: the stack's output.")
@click.option("--stack", metavar="NAME", help="Name of the CloudFormation stack. Default: rdsiam.")
@click.option("--profile", help="Profile of the AWS configuration.")
@click.option("--region", help="AWS region. Default: the profile's.")
def migrate(
    database: str | None,
    user: str | None,
    plan: bool,
    in_place: bool,
    watch: str,
    status: bool,
    undo: bool,
    confirm: bool,
    form: Format,
    quiet: bool,
    migrate_function: str | None,
    stack: str | None,
    profile: str | None,
    region: str | None,
) -> None:
    """Lead USER of DATABASE (identifier or ARN) from its password to tokens, and back with --undo.

    access.yaml must say who takes its place; without that you are told the lines to add. Exit codes: 0 done, watching
    or nothing to do, 3 refused or (with --plan) something would change, 7 done, but for secrets that are named.
    """
    if status and (plan or undo or in_place or confirm):
        raise click.UsageError("--status goes with no other wish")
    if not status and (database is None or user is None):
        raise click.UsageError("name DATABASE and USER, or say --status")
    aws = Aws(profile, region)
    settings = Settings({"migrate_function": migrate_function, "stack": stack}, aws.outputs)
    function = settings.get("migrate_function", "MigrateFunctionAlias").value
    tell = (lambda _: None) if quiet else progress
    client = aws.client("lambda")
    arn = database_arn(aws, database) if database else None
    if status:
        _status(_all(client, function, arn, user), form, tell)
        return
    requests = {"plan": plan, "in_place": in_place, "undo": undo, "confirm": confirm}
    payload = {"database": arn, "user": user, "watch": watch} | {name: True for name, on in requests.items() if on}
    answer = run(client, function, payload, "migrate", tell, until=None if plan or undo else _WATCHING)
    if not answer:
        found = _all(client, function, arn, user)
        until = found[0]["until"] if found else None
        answer = {"database": arn, "user": user, "status": "watching", "until": until, "changes": []}
        told = f"{user} is retired {until} if nobody logs in as it until then; rdsiam migrate --status tells"
        answer["reason"] = "\n".join([told, *(found[0]["history"][-1]["done"][1:] if found else [])])
    _show(answer, form)
    sys.exit(_exit_code(answer))


def _all(client: Any, function: str, arn: str | None, user: str | None) -> list[dict[str, Any]]:
    """Return the migrations that are asked for."""
    asked = {"status": True} | ({"database": arn} if arn else {})
    answer = run(client, function, asked, "status", lambda _: None)
    return [one for one in answer["migrations"] if user in (None, one["user"])]


def _status(migrations: Sequence[Mapping[str, Any]], form: Format, tell: Callable[[str], None]) -> None:
    states = [one["state"] for one in migrations]
    counted = {state: states.count(state) for state in ("paired", "proven", "watching", "retired")}
    if form == "json":
        click.echo(json.dumps({"states": counted, "migrations": migrations}, indent=2))
    else:
        rows = [
            (
                Arn.parse(one["database"]).name,
                one["user"],
                one["successor"] if one["successor"] != one["user"] else "in place",
                one["state"],
                one["history"][-1]["at"],
                one["until"],
                (one["watch"] or {}).get("last_seen"),
                _from(one["watch"]),
            )
            for one in migrations
        ]
        show(rows, ("database", "user", "successor", "state", "since", "until", "last seen", "from"), form)
    tell(", ".join(f"{number} {state}" for state, number in counted.items()))


def _from(watch: Mapping[str, Any] | None) -> str:
    """Return where the old user's last sessions came from, and why the end waits."""
    seen = [f"{one['application'] or '?'} at {one['address'] or '?'}" for one in (watch or {}).get("seen", [])]
    return "; ".join([*seen, *([watch["held"]] if watch and watch["held"] else [])])


def _show(answer: Mapping[str, Any], form: Format) -> None:
    if form == "json":
        click.echo(json.dumps(answer, indent=2))
    elif answer["changes"] or form == "csv":
        rows = [(one["kind"], one["target"], one["statement"]) for one in answer["changes"]]
        show(rows, ("change", "target", "statement"), form)
    reason = answer["reason"] or f"{answer['user']} on {answer['database']}"
    # Lines to paste stay lines.
    for line in f"{answer['status']}: {reason}".splitlines():
        progress(line)


def _exit_code(answer: Mapping[str, Any]) -> int:
    if answer["status"] == "planned":
        return _DIFFERENT if answer["changes"] else 0
    if answer.get("left"):
        return _INCOMPLETE
    return 0 if answer["status"] in _DONE | {"watching"} else _DIFFERENT
