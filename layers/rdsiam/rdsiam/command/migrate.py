"""`rdsiam migrate`: moves a user from its password to tokens, over days, and shows the state of all migrations."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from rdsiam.command import names, options
from rdsiam.command.answers import Answer
from rdsiam.command.aws import database_arn
from rdsiam.command.installation import Installation
from rdsiam.command.output import Output
from rdsiam.core.arn import Arn

#: After this step the function watches for days.
_WATCHING = "begin watching"
_DONE = {"retired", "unchanged", "running", "undone", "watching"}
_STATES = ("paired", "proven", "watching", "retired")
_LEAST = ("since", "until", "successor")
_COLUMNS = ("database", "user", "successor", "state", "since", "until", "last seen", "from")


@click.group()
def migrate() -> None:
    """Move database users from passwords to tokens, without a failed login on the way."""


@migrate.command(
    epilog="""\b
Examples:
  rdsiam migrate start orders app --plan
      what would be done, with the SQL; exit code 3 if anything
  rdsiam migrate start orders app --watch 14d
      returns when the watching begins
  rdsiam migrate start orders app --in-place
      the user keeps its name and loses its password"""
)
@click.argument("database", shell_complete=names.of_fleet)
@click.argument("user", shell_complete=names.of_users)
@click.option("--in-place", is_flag=True, help="Let the user itself take tokens, and no password from then on.")
@click.option(
    "--watch",
    metavar="TIME",
    default="7d",
    show_default=True,
    help="Retire USER after this time without its logins: s, m, h or d; 90d at most.",
)
@options.mode("Exceed the change limit.")
@options.everything
@options.output(quiet=True)
@options.installation("migrate_function")
def start(
    database: str,
    user: str,
    in_place: bool,
    watch: str,
    mode: options.Mode,
    everything: bool,
    output: Output,
    installation: Installation,
) -> None:
    """Move USER of DATABASE (identifier or ARN) from its password to tokens; returns when the watching begins.

    access.yaml must declare USER's successor; if it doesn't, the answer has the lines to add. Exit codes: 0 done,
    watching or nothing to do, 3 refused or (with --plan) something would change, 7 done in part.
    """
    arn = database_arn(installation.aws, database)
    payload = {"database": arn, "user": user, "watch": watch} | ({"in_place": True} if in_place else {})
    until = None if mode.plan else _WATCHING
    document = installation.run(
        "migrate_function", payload | mode.payload(), "migrate", output.progress, until, everything
    )
    answer = Answer.from_json(document or _watching(installation, arn, user))
    answer.show(output, f"{user} on {arn}")
    sys.exit(answer.exit_code(_DONE))


@migrate.command(
    epilog="""\b
Examples:
  rdsiam migrate status
      all migrations of the fleet
  rdsiam migrate status orders
      of one database
  rdsiam migrate status orders app --output json"""
)
@click.argument("database", required=False, shell_complete=names.of_fleet)
@click.argument("user", required=False, shell_complete=names.of_users)
@options.output(quiet=True)
@options.installation("migrate_function")
def status(database: str | None, user: str | None, output: Output, installation: Installation) -> None:
    """Show the state of migrations: of the fleet, of DATABASE, or of USER on DATABASE."""
    migrations = _migrations(installation, database_arn(installation.aws, database) if database else None, user)
    states = [migration["state"] for migration in migrations]
    counts = {state: states.count(state) for state in _STATES}
    output.show(list(map(_row, migrations)), _COLUMNS, {"states": counts, "migrations": migrations}, _LEAST)
    output.progress(", ".join(f"{number} {state}" for state, number in counts.items()))


@migrate.command(
    epilog="""\b
Examples:
  rdsiam migrate undo orders app --plan
      what would be restored; exit code 3 if anything
  rdsiam migrate undo orders app
      restores login and secret
  rdsiam migrate undo orders app --confirm
      also ends the sessions of a successor that is dropped"""
)
@click.argument("database", shell_complete=names.of_fleet)
@click.argument("user", shell_complete=names.of_users)
@options.mode("Exceed the change limit, and end the sessions of a user that is dropped.")
@options.everything
@options.output(quiet=True)
@options.installation("migrate_function")
def undo(
    database: str, user: str, mode: options.Mode, everything: bool, output: Output, installation: Installation
) -> None:
    """Undo the migration of USER on DATABASE (identifier or ARN), the last step first.

    Exit codes: 0 undone, 3 refused or (with --plan) something would change, 7 done in part.
    """
    arn = database_arn(installation.aws, database)
    payload = {"database": arn, "user": user, "undo": True} | mode.payload()
    document = installation.run("migrate_function", payload, "migrate", output.progress, everything=everything)
    answer = Answer.from_json(document)
    answer.show(output, f"{user} on {arn}")
    sys.exit(answer.exit_code(_DONE))


def _watching(installation: Installation, arn: str, user: str) -> dict[str, Any]:
    """Return the answer for a migration that has begun to watch."""
    migrations = _migrations(installation, arn, user)
    until = migrations[0]["until"] if migrations else None
    reason = f"{user} is retired {until} if nobody logs in as it until then; rdsiam migrate status shows how it goes"
    notes = migrations[0]["history"][-1]["done"][1:] if migrations else []
    return {
        "database": arn,
        "user": user,
        "status": "watching",
        "until": until,
        "changes": [],
        "reason": "\n".join([reason, *notes]),
    }


def _migrations(installation: Installation, arn: str | None, user: str | None) -> list[dict[str, Any]]:
    request = {"status": True} | ({"database": arn} if arn else {})
    answer = installation.run("migrate_function", request, "status", lambda _: None, everything=True)
    return [migration for migration in answer["migrations"] if user in (None, migration["user"])]


def _row(migration: Mapping[str, Any]) -> Sequence[object]:
    watch = migration["watch"] or {}
    return (
        Arn.parse(migration["database"]).name,
        migration["user"],
        migration["successor"] if migration["successor"] != migration["user"] else "in place",
        migration["state"],
        migration["history"][-1]["at"],
        migration["until"],
        watch.get("last_seen"),
        _sessions(watch),
    )


def _sessions(watch: Mapping[str, Any]) -> str:
    """Return the origins of the old user's last sessions, and why the end waits."""
    sessions = [
        f"{session['application'] or '?'} at {session['address'] or '?'}" for session in watch.get("clients") or []
    ]
    return "; ".join([*sessions, *([watch["held"]] if watch.get("held") else [])])
