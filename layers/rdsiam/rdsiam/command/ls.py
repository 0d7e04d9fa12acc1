"""`rdsiam ls`: the databases that the caller may log in to."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import click

from rdsiam.command import names, options
from rdsiam.command.api import ASSUME_A_ROLE
from rdsiam.command.installation import Installation
from rdsiam.command.output import Output, progress
from rdsiam.core.counts import counted
from rdsiam.core.similar import did_you_mean

_COLUMNS = ("database", "engine", "users", "port", "endpoint", "arn")
_COLUMNS_OF_ENDPOINTS = ("database", "name", "kind", "port", "endpoint", "arn")


@click.command(
    epilog="""\b
Examples:
  rdsiam ls
  rdsiam ls 'orders-*'
  rdsiam ls --engine postgres --user analyst
  rdsiam ls orders --endpoints
      readers, custom endpoints and instances too
  rdsiam ls --output csv > databases.csv"""
)
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1, shell_complete=names.of_logins)
@click.option("--engine", metavar="NAME", help="Only databases of this engine, such as aurora-mysql.")
@click.option(
    "--user",
    "-u",
    metavar="USER",
    shell_complete=names.of_own_users,
    help="Only databases that you may log in to as this user.",
)
@click.option("--endpoints", is_flag=True, help="A row for each endpoint: writer, reader, custom ones, instances.")
@options.output()
@options.installation("api_url")
def ls(
    patterns: tuple[str, ...],
    engine: str | None,
    user: str | None,
    endpoints: bool,
    output: Output,
    installation: Installation,
) -> None:
    """List the databases that you may log in to, the users that you may be there, and the endpoints.

    PATTERN is an identifier, or has * and ?; a database is listed if it matches one of them.
    """
    allowed = installation.api.databases()
    databases = [database for database in allowed if _matches(database, patterns, engine, user)]
    if endpoints:
        output.show(_endpoint_rows(databases), _COLUMNS_OF_ENDPOINTS, databases, least=("arn", "kind"))
    else:
        output.show(_rows(databases), _COLUMNS, databases, least=("arn", "engine"))
    if not allowed:
        cause = installation.api.without_role()
        progress(f"you may log in to no database{f': {cause}; {ASSUME_A_ROLE}' if cause else ''}")
    elif not databases:
        advice = _advice(allowed, patterns, engine, user)
        none = f"you may log in to {counted(len(allowed), 'database')}, and none matches"
        progress(f"{none}; {advice}" if advice else none)


def _advice(allowed: Sequence[Mapping[str, Any]], patterns: Sequence[str], engine: str | None, user: str | None) -> str:
    """Return the names that were probably meant: of the first part of the request that nothing has at all."""
    identifiers = {str(database.get("identifier")) for database in allowed}
    for pattern in patterns:
        if not any(fnmatchcase(identifier.lower(), pattern.lower()) for identifier in identifiers):
            return did_you_mean(pattern, identifiers, 3)
    engines = {str(database.get("engine")) for database in allowed}
    if engine is not None and engine not in engines:
        return did_you_mean(engine, engines)
    users = {str(each) for database in allowed for each in database.get("users") or []}
    return did_you_mean(user, users, 3) if user is not None and user not in users else ""


def _rows(databases: Sequence[Mapping[str, Any]]) -> list[Sequence[Any]]:
    return [
        (
            database.get("identifier"),
            database.get("engine"),
            ", ".join(map(str, database.get("users") or [])),
            database.get("port"),
            database.get("host"),
            database.get("arn"),
        )
        for database in databases
    ]


def _endpoint_rows(databases: Sequence[Mapping[str, Any]]) -> list[Sequence[Any]]:
    return [
        (
            database.get("identifier"),
            endpoint["name"],
            endpoint["kind"],
            endpoint["port"],
            endpoint["host"],
            database.get("arn"),
        )
        for database in databases
        for endpoint in database.get("endpoints") or []
    ]


def _matches(database: Mapping[str, Any], patterns: Sequence[str], engine: str | None, user: str | None) -> bool:
    identifier = str(database.get("identifier")).lower()
    return (
        (not patterns or any(fnmatchcase(identifier, pattern.lower()) for pattern in patterns))
        and engine in (None, database.get("engine"))
        and (user is None or user in (database.get("users") or []))
    )
