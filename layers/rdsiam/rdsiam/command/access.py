"""`rdsiam access`: checks access.yaml, compares it with the published file, and publishes it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from rdsiam.access import reserved_roles
from rdsiam.access.model import AccessFile, json_schema
from rdsiam.access.selection import select
from rdsiam.aws.rds import Database
from rdsiam.command import options
from rdsiam.command.access_publish import diff, fleet, history, publish, rollback
from rdsiam.command.access_versions import Bucket, difference, name_of, read
from rdsiam.command.described import describe
from rdsiam.command.errors import ExitCode
from rdsiam.command.installation import Installation
from rdsiam.command.output import Output, progress
from rdsiam.core.counts import counted
from rdsiam.errors import AccessFileInvalid
from rdsiam.findings.catalogue import KINDS

_FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.group()
def access() -> None:
    """Check, compare and publish access.yaml, which declares who may log in where as whom."""


@access.command(
    epilog="""\b
Examples:
  rdsiam access validate access.yaml
  rdsiam access validate --output json access.yaml
      for an editor or a pipeline
  git show HEAD:access.yaml | rdsiam access validate -"""
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True))
@options.output("text", "json")
def validate(file: Path, output: Output) -> None:
    """Check FILE without AWS. Exit codes: 0 valid, 3 invalid; each problem is a line with its number and key.

    A valid file gets advice about entries that onboarding would refuse.
    """
    problems: list[str] = []
    advice: list[str] = []
    try:
        parsed = read(file).parsed()
        advice = [*parsed.unknown_findings(KINDS), *reserved_roles.advice(parsed)]
    except AccessFileInvalid as error:
        problems = error.problems
    if output.form == "json":
        click.echo(json.dumps({"valid": not problems, "problems": problems, "advice": advice}, indent=2))
    for line in [*problems, *advice]:
        progress(f"{name_of(file)}: {line}")
    if not problems:
        progress(f"{name_of(file)} is valid")
    sys.exit(ExitCode.DIFFERENT if problems else ExitCode.OK)


@access.command(
    epilog="""\b
Examples:
  rdsiam access schema > access.schema.json
  rdsiam access schema | jq '.["$defs"] | keys'
  rdsiam access schema > a.json && sed -i '1i# yaml-language-server: $schema=a.json' access.yaml"""
)
def schema() -> None:
    """Print the JSON Schema of access.yaml, for editors."""
    click.echo(json.dumps(json_schema(), indent=2))


@access.command(
    epilog="""\b
Examples:
  rdsiam access plan access.yaml
  rdsiam access plan access.yaml --database orders --database billing
  rdsiam access plan access.yaml --output json
      exit code 3 if anything differs"""
)
@_FILE
@options.databases("Compare only this one; repeatable.")
@options.output()
@options.installation("access_bucket")
def plan(file: Path, databases: tuple[str, ...], output: Output, installation: Installation) -> None:
    """Show how FILE differs from the published file, and the users and databases that would change.

    Nothing is changed. For the SQL of what is already published: rdsiam onboard DATABASE --plan.
    """
    source = read(file)
    new = source.parsed()
    aws = installation.aws
    published = Bucket(installation).published()
    lines = difference(published.source, source)
    compared = [describe(aws, name) for name in databases] if databases else fleet(aws)
    rows = list(_changes(published.access, new, compared, source.name))
    if output.form == "table":
        click.echo(lines, nl=False)
    output.show(rows, ("database", "user", "change"))
    changed = {row[0] for row in rows}
    progress(f"{len(changed)} of {counted(len(compared), 'database')} would change" if lines else "nothing differs")
    sys.exit(ExitCode.DIFFERENT if lines else ExitCode.OK)


for command in (publish, history, diff, rollback):
    access.add_command(command)


def _changes(
    old: AccessFile | None, new: AccessFile, databases: list[Database], name: str
) -> Iterator[tuple[str, str, str]]:
    """Yield database, user and change.

    :param name: of the new file.
    :raises AccessFileInvalid: the new file is invalid for a database.
    """
    for database in sorted(databases, key=lambda database: database.arn):
        try:
            before = {user.name: user for user in old.declared(select(database, None))} if old else {}
        except AccessFileInvalid:
            before = {}
        try:
            after = {user.name: user for user in new.declared(select(database, None))}
        except AccessFileInvalid as error:
            raise AccessFileInvalid(error.problems, name=f"{name}, on {database.identifier}") from None
        for name in sorted(before.keys() | after.keys()):
            if name not in after:
                yield database.identifier, name, "no longer declared"
            elif name not in before:
                yield database.identifier, name, "declared"
            elif before[name] != after[name]:
                yield database.identifier, name, "declaration changed"
