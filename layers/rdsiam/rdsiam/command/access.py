"""`rdsiam access`: checks access.yaml, compares it with the published file, and publishes it."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

import click
from botocore.exceptions import ClientError

from rdsiam.access import reserved_roles
from rdsiam.access.model import AccessFile, json_schema, parse
from rdsiam.access.selection import select
from rdsiam.access.store import CONFIRMED
from rdsiam.aws.rds import Database, Databases
from rdsiam.command import options
from rdsiam.command.aws import Aws, translate_errors
from rdsiam.command.errors import ExitCode, NotFound, TryAgain, Usage
from rdsiam.command.installation import Installation
from rdsiam.command.login import describe
from rdsiam.command.output import Output, progress, visible
from rdsiam.errors import AccessFileInvalid

_KEY = "access.yaml"
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
        advice = list(reserved_roles.advice(parse(_read(file))))
    except AccessFileInvalid as error:
        problems = error.problems
    if output.form == "json":
        click.echo(json.dumps({"valid": not problems, "problems": problems, "advice": advice}, indent=2))
    for line in [*problems, *advice]:
        click.echo(f"{file}: {visible(line)}", err=True)
    if not problems:
        progress(f"{file} is valid")
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
@click.option("--database", "databases", multiple=True, metavar="NAME", help="Compare only this one; repeatable.")
@options.output()
@options.installation("access_bucket")
def plan(file: Path, databases: tuple[str, ...], output: Output, installation: Installation) -> None:
    """Show how FILE differs from the published file, and the users and databases that would change.

    Nothing is changed. For the SQL of what is already published: rdsiam onboard DATABASE --plan.
    """
    text = _read(file)
    new = parse(text)
    aws = installation.aws
    published = _published(installation)
    difference = _difference(published.text, text, file)
    compared = [describe(aws, name) for name in databases] if databases else _all(aws)
    rows = list(_changes(published.access, new, compared))
    if output.form == "table":
        click.echo(difference, nl=False)
    output.show(rows, ("database", "user", "change"))
    changed = {row[0] for row in rows}
    progress(f"{len(changed)} of {len(compared)} databases change" if difference else "nothing differs")
    sys.exit(ExitCode.DIFFERENT if difference else ExitCode.OK)


@access.command(
    epilog="""\b
Examples:
  rdsiam access publish access.yaml --plan
  rdsiam access publish access.yaml
  rdsiam access publish access.yaml --profile publisher"""
)
@_FILE
@options.plan
@click.option("--confirm", is_flag=True, help="Let most callers lose their logins.")
@options.installation("access_bucket")
def publish(file: Path, plan: bool, confirm: bool, installation: Installation) -> None:
    """Check FILE and make it the published access.yaml. A version published meanwhile is never overwritten."""
    text = _read(file)
    parse(text)
    bucket = _bucket(installation)
    published = _published(installation)
    difference = _difference(published.text, text, file)
    if not difference and not confirm:
        progress("nothing differs: nothing was published")
        return
    click.echo(difference, nl=False)
    condition = {"IfMatch": published.etag} if published.etag else {"IfNoneMatch": "*"}
    if plan:
        progress(f"s3:PutObject s3://{bucket}/{_KEY} {condition}: not done, because this is a dry run")
        return
    with translate_errors(f"s3://{bucket}/{_KEY}"):
        try:
            answer = installation.aws.client("s3").put_object(
                Bucket=bucket,
                Key=_KEY,
                Body=text.encode(),
                ContentType="application/yaml",
                Metadata=dict(CONFIRMED) if confirm else {},
                **condition,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in {"PreconditionFailed", "ConditionalRequestConflict", "412"}:
                raise TryAgain(
                    f"{_KEY} was published meanwhile", "see the difference with rdsiam access plan"
                ) from None
            raise
    progress(f"published as version {answer.get('VersionId') or answer['ETag']}; rdsiam now applies it to the fleet")


@dataclass(frozen=True)
class _Published:
    text: str
    access: AccessFile | None
    etag: str | None


def _published(installation: Installation) -> _Published:
    """Return the published file; empty if none has been published yet."""
    bucket = _bucket(installation)
    try:
        with translate_errors(f"s3://{bucket}/{_KEY}"):
            answer = installation.aws.client("s3").get_object(Bucket=bucket, Key=_KEY)
            text = answer["Body"].read().decode()
    except NotFound:
        progress(f"no {_KEY} has been published in {bucket} yet")
        return _Published("", None, None)
    except UnicodeDecodeError:
        raise Usage(f"s3://{bucket}/{_KEY} is not text") from None
    try:
        current = parse(text)
    except AccessFileInvalid:
        progress("the published file is invalid: it allows nobody to log in")
        return _Published(text, None, answer["ETag"])
    return _Published(text, current, answer["ETag"])


def _bucket(installation: Installation) -> str:
    return installation.settings.get("access_bucket").value


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise AccessFileInvalid(["line 1: the file is not UTF-8"]) from None
    except OSError as error:
        raise NotFound(f"{file}: {error.strerror}") from None


def _difference(old: str, new: str, file: Path) -> str:
    lines = unified_diff(old.splitlines(), new.splitlines(), f"published {_KEY}", str(file), lineterm="")
    return "".join(f"{visible(line)}\n" for line in lines)


def _all(aws: Aws) -> list[Database]:
    """Return the databases of this account and region that can have declared users: also clusters and IAM proxies."""
    with translate_errors("the fleet"):
        caller = aws.client("sts").get_caller_identity()["Arn"]
        return list(Databases(aws.client("rds"), caller).list())


def _changes(old: AccessFile | None, new: AccessFile, databases: list[Database]) -> Iterator[tuple[str, str, str]]:
    """Yield database, user and change."""
    for database in sorted(databases, key=lambda database: database.arn):
        try:
            before = {user.name: user for user in old.declared(select(database, None))} if old else {}
        except AccessFileInvalid:
            before = {}
        after = {user.name: user for user in new.declared(select(database, None))}
        for name in sorted(before.keys() | after.keys()):
            if name not in after:
                yield database.identifier, name, "no longer declared"
            elif name not in before:
                yield database.identifier, name, "declared"
            elif before[name] != after[name]:
                yield database.identifier, name, "declaration changed"
