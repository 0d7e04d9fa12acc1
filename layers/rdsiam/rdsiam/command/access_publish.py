"""`rdsiam access publish`, `history`, `diff` and `rollback`: versions of access.yaml, and what each changes."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import click

from rdsiam.access.change_limit import Loss, loss
from rdsiam.access.model import AccessFile
from rdsiam.aws.rds import Database, Databases
from rdsiam.command import options
from rdsiam.command.access_changes import HEADER, Changes, changes
from rdsiam.command.access_versions import (
    Bucket,
    Published,
    Source,
    condition,
    difference,
    read,
    rules_of_reconciles,
)
from rdsiam.command.aws import Aws, translate_errors
from rdsiam.command.errors import CommandError, ExitCode, Usage
from rdsiam.command.installation import Installation
from rdsiam.command.output import Output, progress
from rdsiam.core.counts import counted
from rdsiam.errors import Refused

_FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True))
_HOW = [
    options.plan,
    click.option("--yes", is_flag=True, help="Publish without asking."),
    click.option("--confirm", is_flag=True, help="Publish without asking, also if most callers lose their logins."),
]


@dataclass(frozen=True)
class Publication:
    """The options of a publication.

    :ivar yes: without asking.
    :ivar confirm: also if it exceeds the change limit of vending; without asking.
    """

    plan: bool
    yes: bool
    confirm: bool


def _how(command: options.Command) -> options.Command:
    gathered = options.gather("how", ["plan", "yes", "confirm"], lambda values: Publication(**values))(command)
    return options.add(_HOW, gathered)


@click.command(
    epilog="""\b
Examples:
  rdsiam access publish access.yaml --plan
  rdsiam access publish access.yaml
  rdsiam access publish access.yaml --yes
      in a pipeline, which has no terminal
  rdsiam access publish access.yaml --confirm"""
)
@_FILE
@_how
@options.installation("access_bucket", "inventory_table")
def publish(file: Path, how: Publication, installation: Installation) -> None:
    """Show the logins that FILE takes and gives, ask, and make it the published access.yaml.

    A version published meanwhile is never overwritten. A version that takes more than half of the callers' logins waits
    until it is confirmed, here with --confirm, also after it was published.

    Exit codes: 0 published or nothing to do, 3 not published: the answer was no, or (with --plan) something differs.
    """
    _publish(read(file), how, installation)


@click.command(
    epilog="""\b
Examples:
  rdsiam access history
  rdsiam access rollback 3sL4kqtJ --plan
  rdsiam access rollback 3sL4kqtJ"""
)
@click.argument("version")
@_how
@options.installation("access_bucket", "inventory_table")
def rollback(version: str, how: Publication, installation: Installation) -> None:
    """Publish an earlier VERSION again, as a new version: its id, or the beginning of its id.

    Shows the logins that are lost and gained, and asks, as rdsiam access publish does.
    """
    _publish(Bucket(installation).version(version).source, how, installation)


@click.command(
    epilog="""\b
Examples:
  rdsiam access history
  rdsiam access history --limit 100 --output json"""
)
@click.option(
    "--limit", metavar="NUMBER", type=click.IntRange(1, 1000), default=20, show_default=True, help="Number of versions."
)
@options.output()
@options.installation("access_bucket", "inventory_table")
def history(limit: int, output: Output, installation: Installation) -> None:
    """List the versions of access.yaml, the newest first.

    `published` is the newest version, `applied` the one that the last reconcile applied to the fleet, `confirmed` one
    whose publisher confirmed that most callers may lose their logins, `waits` one that is not confirmed yet.
    """
    bucket = Bucket(installation)
    listed = list(islice(bucket.versions(), limit))
    applied, published = bucket.applied(), bucket.published()
    waits = _waits(published, _applied(bucket, published))
    rows = []
    for each in listed:
        states = {
            "deleted": each.deleted,
            "published": each.latest and not each.deleted,
            "applied": each.id == applied,
            "confirmed": not each.deleted and bucket.is_confirmed(each.id),
            "waits": each.latest and waits,
        }
        rows.append((each.id, each.published, ", ".join(state for state, holds in states.items() if holds)))
    output.show(rows, ("version", "time", "state"))
    if applied is None:
        progress("which version is applied is unknown: no reconcile has run, or the inventory can't be read")


@click.command(
    epilog="""\b
Examples:
  rdsiam access diff 3sL4kqtJ
  rdsiam access diff 3sL4kqtJ rS0PCJn1 --output json"""
)
@click.argument("old", metavar="A")
@click.argument("new", metavar="[B]", required=False)
@options.output()
@options.installation("access_bucket")
def diff(old: str, new: str | None, output: Output, installation: Installation) -> None:
    """Show how version B differs from version A, and the logins that are lost and gained.

    Without B: the published version. Exit codes: 0 nothing differs, 3 something does.
    """
    bucket = Bucket(installation)
    first = bucket.version(old)
    second = bucket.version(new) if new else bucket.published()
    lines = difference(first.source, second.source)
    if output.form == "table":
        click.echo(lines, nl=False)
    if second.access is not None:
        _show(_changes(first.access, second.access, installation), output)
    sys.exit(ExitCode.DIFFERENT if lines else ExitCode.OK)


def fleet(aws: Aws) -> list[Database]:
    """Return the databases of this account and region that can have declared users: also clusters and IAM proxies."""
    with translate_errors("the fleet"):
        caller = aws.client("sts").get_caller_identity()["Arn"]
        return list(Databases(aws.client("rds"), caller).list())


def _publish(source: Source, how: Publication, installation: Installation) -> None:
    new = source.parsed()
    bucket = Bucket(installation)
    published = bucket.published()
    lines = difference(published.source, source)
    if not lines and not (how.confirm and not published.confirmed):
        progress("nothing differs: nothing was published")
        return
    click.echo(lines, nl=False)
    applied = _applied(bucket, published)
    used = applied if _waits(published, applied) else published
    if used is not published:
        progress(f"compared with {used.source.name}, which is applied, as the published one waits")
    lost = _lost(applied.access, new)
    found = _changes(used.access, new, installation)
    _show(found, Output("table"))
    _warn(found, lost, how.confirm)
    unapplied = published.confirmed and applied is not published
    if unapplied and lost.needs_confirmation and not how.confirm:
        raise Refused(
            f"version {published.version} is confirmed and not applied yet: the logins that it took would come back",
            "publish with --confirm, or after the next reconcile",
            "needs-confirmation",
        )
    if how.plan:
        progress(f"s3:PutObject {bucket.address} {condition(published)}: not done, because this is a plan")
        sys.exit(ExitCode.DIFFERENT)
    if not (how.yes or how.confirm) and not _agreed(bucket.address):
        progress("nothing was published")
        sys.exit(ExitCode.DIFFERENT)
    version = bucket.put(source, published, how.confirm)
    progress(f"published as version {version}")
    waits = lost.needs_confirmation and not how.confirm
    for line in _waiting(applied.version) if waits else _next(found, installation):
        progress(line)


def _agreed(address: str) -> bool:
    """Ask whether to publish.

    :raises Usage: there is no terminal to ask on.
    """
    if not _has_terminal():
        raise Usage(f"{address}: nothing was published, as there is no terminal to ask on", "give --yes")
    return click.confirm("Publish?", err=True)


def _has_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()  # None if it is closed


def _applied(bucket: Bucket, published: Published) -> Published:
    """Return the version that the last reconcile applied; the published one if it is that, or if it isn't known."""
    applied = bucket.applied()
    if applied in (None, published.version):
        return published
    try:
        version = bucket.exactly(str(applied))
    except CommandError:
        return published
    return published if version.access is None else version


def _waits(published: Published, applied: Published) -> bool:
    """Return whether tokens are vended by the applied version, since the published one is not confirmed."""
    if published.access is None or published.confirmed:
        return False
    return _lost(applied.access, published.access).needs_confirmation


def _lost(old: AccessFile | None, new: AccessFile) -> Loss:
    """Return what callers lose; nothing if there is no old version, or if it is invalid."""
    return Loss(0, 0) if old is None else loss(old, new, datetime.now(UTC))


def _changes(old: AccessFile | None, new: AccessFile, installation: Installation) -> Changes | None:
    """Return the changes of the fleet; None, with a message, if the caller may not list it."""
    try:
        databases: Sequence[Database] = fleet(installation.aws)
    except CommandError as error:
        progress(f"the logins of each database are unknown: {error}")
        return None
    return changes(old, new, databases, datetime.now(UTC))


def _show(found: Changes | None, output: Output) -> None:
    if found is None:
        return
    output.show(found.rows(short=output.form == "table"), HEADER)
    lost, gained = len(found.lost), len(found.gained)
    progress(f"{counted(lost, 'login')} lost, {gained} gained")


def _warn(found: Changes | None, lost: Loss, confirm: bool) -> None:
    """Write what exceeds a change limit, and what is invalid on one database only."""
    if lost.needs_confirmation and not confirm:
        progress(f"change limit of vending: {lost}, more than half")
    for subject, problem in sorted(found.needs_confirmation.items()) if found else ():
        progress(f"change limit of {subject}: {problem}")
    for database, problem in sorted(found.invalid.items()) if found else ():
        progress(f"invalid on {database}, where nothing is onboarded by it: {problem}")


def _waiting(applied: str) -> list[str]:
    """Return what a version waits for, and how to go back.

    :param applied: id of the version by which tokens are vended; empty if the bucket has no versions.
    """
    return [
        "it waits: tokens are vended by the applied version, and the fleet does not follow",
        "to let it pass: publish the same file with --confirm",
        f"to take it back: rdsiam access rollback {applied or 'VERSION'}",
    ]


def _next(found: Changes | None, installation: Installation) -> list[str]:
    """Return what follows the publication, and what does not."""
    lines = ["tokens follow within 60 seconds", _fleet_follows(installation)]
    limited = sorted(found.needs_confirmation) if found else []
    if "the fleet" in limited:
        lines.append("each database whose declaration changed waits for: rdsiam onboard DATABASE --confirm")
    else:
        lines += [f"{database} waits for: rdsiam onboard {database} --confirm" for database in limited]
    return lines


def _fleet_follows(installation: Installation) -> str:
    rules = rules_of_reconciles(installation)
    if not rules:
        return "the fleet follows with the next reconcile"
    by_publication = [enabled for name, enabled in rules if "AccessChanged" in name]
    if any(by_publication):
        return "the fleet follows now: a reconcile starts"
    if any(enabled for _, enabled in rules):
        return "the fleet follows with the scheduled reconcile, as the rule that a new access.yaml starts is disabled"
    names = ", ".join(name for name, _ in rules)
    return f"the fleet follows once you run rdsiam reconcile, as {names} are disabled"
