"""Names that a shell completes: databases, users and profiles, as AWS and the API list them to the caller.

A completion says nothing, waits three seconds at most, and offers nothing if it may not ask. Names come from databases
and from AWS, and a completed name becomes a word of a command line: a name that a shell would not take as one plain
word is not offered.
"""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import click
from botocore.session import Session

from rdsiam.aws.rds import Databases
from rdsiam.command.aws import database_arn, translate_errors
from rdsiam.command.installation import Installation
from rdsiam.core.arn import lower_identifier
from rdsiam.errors import RdsiamError

#: Maximum duration of a completion: less than the time after which a silent endpoint is reported.
_SECONDS = 2.0
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*", re.ASCII)
_FLAGS = ("access_bucket", "api_url", "stack")


def of_logins(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the databases that the caller may log in to."""
    return _offered(incomplete, lambda: _allowed(_installation(ctx)))


def of_fleet(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the databases of the account that the caller may describe, and those that the caller may log in to."""
    installation = _installation(ctx)
    return _offered(incomplete, lambda: _described(installation), lambda: _allowed(installation))


def of_own_users(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the users that the caller may be: on the database that the command line names, or on any."""
    return _offered(incomplete, lambda: _users(_installation(ctx), _database(ctx)))


def of_users(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the users that access.yaml names for the database, for callers who may read it; and the caller's own."""
    installation, database = _installation(ctx), _database(ctx)
    own = [lambda: _users(installation, database)]
    return _offered(incomplete, *own, *([lambda: _named(installation, database)] if database else []))


def of_endpoints(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the endpoints of the database that the command line names, or of all that the caller may log in to."""
    return _offered(incomplete, lambda: _endpoints(_installation(ctx), _database(ctx)))


def of_profiles(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Return the profiles of the AWS configuration."""
    return _offered(incomplete, lambda: Session().available_profiles)


def _installation(ctx: click.Context) -> Installation:
    given = ctx.params
    return Installation({name: given.get(name) for name in _FLAGS}, given.get("profile"), given.get("region"))


def _database(ctx: click.Context) -> str | None:
    # Click has not assigned arguments yet if the word that is completed is an option's value.
    name = ctx.params.get("database") or next(iter(ctx.args), None)
    return name if isinstance(name, str) else None


def _offered(incomplete: str, *sources: Callable[[], Iterable[str]]) -> list[str]:
    """Return the plain names of all sources that begin as the word does; of those that answered in time."""
    found: set[str] = set()

    def collect(source: Callable[[], Iterable[str]]) -> None:
        # Whatever a source can't do, a completion has nothing to say: the command itself names the cause.
        with suppress(Exception):
            for name in source():
                found.add(name)

    threads = [threading.Thread(target=collect, args=(source,), daemon=True) for source in sources]
    for thread in threads:
        thread.start()
    end = time.monotonic() + _SECONDS
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0))
    return sorted(name for name in set(found) if name.startswith(incomplete) and _PLAIN.fullmatch(name))


def _allowed(installation: Installation) -> Iterator[str]:
    return (str(database.get("identifier")) for database in installation.api.databases())


def _users(installation: Installation, name: str | None) -> Iterator[str]:
    for database in installation.api.databases():
        if name is None or lower_identifier(name) in (database.get("identifier"), database.get("arn")):
            yield from map(str, database.get("users") or [])


def _endpoints(installation: Installation, name: str | None) -> Iterator[str]:
    for database in installation.api.databases():
        if name is None or lower_identifier(name) in (database.get("identifier"), database.get("arn")):
            yield from (endpoint["name"] for endpoint in database.get("endpoints") or [])


def _described(installation: Installation) -> Iterator[str]:
    rds = installation.aws.client("rds")
    for call, key in (("describe_db_clusters", "DBCluster"), ("describe_db_instances", "DBInstance")):
        for page in rds.get_paginator(call).paginate():
            yield from (described[f"{key}Identifier"] for described in page[f"{key}s"])


def _named(installation: Installation, name: str) -> Iterator[str]:
    # Imported late: they need an extra of the wheel.
    from rdsiam.access.model import parse
    from rdsiam.access.selection import select

    bucket = installation.settings.get("access_bucket").value
    with translate_errors():
        text = installation.aws.client("s3").get_object(Bucket=bucket, Key="access.yaml")["Body"].read().decode()
    with suppress(RdsiamError):
        arn = database_arn(installation.aws, name)
        file, database = parse(text), select(Databases(installation.aws.client("rds"), arn).describe(arn), None)
        for user in file.declared(database):
            yield user.name
            if user.replaces:
                yield user.replaces
        yield from (user.name for user in file.rotating(database))
