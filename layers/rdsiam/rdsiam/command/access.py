"""`rdsiam access`: checks access.yaml before anybody publishes it, shows what it would change, and publishes it."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

import click
from botocore.exceptions import ClientError

from rdsiam.access.model import AccessFile, json_schema, parse
from rdsiam.access.selection import select
from rdsiam.aws.rds import Database, Databases
from rdsiam.command.aws import Aws, told
from rdsiam.command.errors import NotFound, TryAgain, Usage
from rdsiam.command.login import described
from rdsiam.command.output import Format, progress, show, visible
from rdsiam.command.settings import Settings
from rdsiam.errors import AccessFileInvalid

_DIFFERENT = 3
_KEY = "access.yaml"
_FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


def _places(command: click.Command) -> click.Command:
    """Add the options that say which stack's file it is about."""
    for names, text in (
        ("--region", "AWS region. Default: the profile's."),
        ("--profile", "Profile of the AWS configuration."),
        ("--stack", "Name of the CloudFormation stack. Default: rdsiam."),
        ("--access-bucket", "Bucket of access.yaml. Default: the stack's output."),
    ):
        command.params.append(click.Option([names], help=text))
    return command


@click.group()
def access() -> None:
    """Check, compare and publish access.yaml, which says who may log in where as whom."""


@access.command(
    epilog="""\b
Examples:
  rdsiam access validate access.yaml
  rdsiam access validate --output json access.yaml       # for an editor or a pipeline
  git show HEAD:access.yaml | rdsiam access validate -"""
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True))
@click.option("--output", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def validate(file: Path, form: str) -> None:
    """Check FILE without asking AWS. Exit codes: 0 valid, 3 not; each problem is a line with its number and key."""
    problems: list[str] = []
    try:
        parse(_text(file))
    except AccessFileInvalid as error:
        problems = error.problems
    if form == "json":
        click.echo(json.dumps({"valid": not problems, "problems": problems}, indent=2))
    for problem in problems:
        click.echo(f"{file}: {visible(problem)}", err=True)
    if not problems:
        progress(f"{file} is valid")
    sys.exit(_DIFFERENT if problems else 0)


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


@_places
@access.command(
    epilog="""\b
Examples:
  rdsiam access plan access.yaml
  rdsiam access plan access.yaml --database orders --database billing
  rdsiam access plan access.yaml --output json           # exit code 3 if anything differs"""
)
@_FILE
@click.option("--database", "databases", multiple=True, metavar="NAME", help="Compare only this one; may be repeated.")
@click.option("--output", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
def plan(
    file: Path,
    databases: tuple[str, ...],
    form: Format,
    access_bucket: str | None,
    stack: str | None,
    profile: str | None,
    region: str | None,
) -> None:
    """Show how FILE differs from what is published, and whom that concerns on which database.

    Nothing is changed. The SQL of what is published already: rdsiam onboard DATABASE --plan.
    """
    text = _text(file)
    new = parse(text)
    aws = Aws(profile, region)
    published = _published(aws, _bucket(aws, access_bucket, stack))
    difference = _difference(published.text, text, file)
    chosen = [described(aws, name) for name in databases] if databases else _all(aws)
    rows = list(_concerned(published.access, new, chosen))
    if form == "table":
        click.echo(difference, nl=False)
    if rows or form != "table":
        show(rows, ("database", "user", "change"), form)
    progress(f"{len({row[0] for row in rows})} of {len(chosen)} databases change" if difference else "nothing differs")
    sys.exit(_DIFFERENT if difference else 0)


@_places
@access.command(
    epilog="""\b
Examples:
  rdsiam access publish access.yaml --dry-run
  rdsiam access publish access.yaml
  rdsiam access publish access.yaml --profile publisher"""
)
@_FILE
@click.option("--dry-run", is_flag=True, help="Check everything and change nothing.")
def publish(
    file: Path,
    dry_run: bool,
    access_bucket: str | None,
    stack: str | None,
    profile: str | None,
    region: str | None,
) -> None:
    """Check FILE and make it the one that counts. What somebody else published meanwhile is never overwritten."""
    text = _text(file)
    parse(text)
    aws = Aws(profile, region)
    bucket = _bucket(aws, access_bucket, stack)
    published = _published(aws, bucket)
    difference = _difference(published.text, text, file)
    if not difference:
        progress("nothing differs: nothing was published")
        return
    click.echo(difference, nl=False)
    condition = {"IfMatch": published.etag} if published.etag else {"IfNoneMatch": "*"}
    if dry_run:
        progress(f"s3:PutObject s3://{bucket}/{_KEY} {condition}: not done, as this is a dry run")
        return
    with told(f"s3://{bucket}/{_KEY}"):
        try:
            answer = aws.client("s3").put_object(
                Bucket=bucket, Key=_KEY, Body=text.encode(), ContentType="application/yaml", **condition
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in {"PreconditionFailed", "ConditionalRequestConflict", "412"}:
                raise TryAgain("somebody else published meanwhile: rdsiam access plan shows what") from None
            raise
    progress(f"published as version {answer.get('VersionId') or answer['ETag']}; the fleet follows it now")


@dataclass(frozen=True)
class _Published:
    text: str
    access: AccessFile | None
    etag: str | None


def _published(aws: Aws, bucket: str) -> _Published:
    """Return the file that counts now; an empty one where there is none yet."""
    try:
        with told(f"s3://{bucket}/{_KEY}"):
            answer = aws.client("s3").get_object(Bucket=bucket, Key=_KEY)
            text = answer["Body"].read().decode()
    except NotFound:
        progress(f"there is no {_KEY} in {bucket} yet")
        return _Published("", None, None)
    except UnicodeDecodeError:
        raise Usage(f"what is published in {bucket} is not text") from None
    try:
        current = parse(text)
    except AccessFileInvalid:
        progress("what is published now is not valid: nobody gets in by it")
        return _Published(text, None, answer["ETag"])
    return _Published(text, current, answer["ETag"])


def _bucket(aws: Aws, access_bucket: str | None, stack: str | None) -> str:
    settings = Settings({"access_bucket": access_bucket, "stack": stack}, aws.outputs)
    return settings.get("access_bucket", "AccessBucket").value


def _text(file: Path) -> str:
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
    """Return what can have declared users in this account and region: instances, clusters and IAM proxies."""
    with told("the fleet"):
        caller = aws.client("sts").get_caller_identity()["Arn"]
        return list(Databases(aws.client("rds"), caller).list())


def _concerned(old: AccessFile | None, new: AccessFile, databases: list[Database]) -> Iterator[tuple[str, str, str]]:
    """Yield database, user and what happens to that user there."""
    for database in sorted(databases, key=lambda one: one.arn):
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
                yield database.identifier, name, "declared otherwise"
