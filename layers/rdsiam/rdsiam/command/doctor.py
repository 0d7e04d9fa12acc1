"""`rdsiam doctor`: diagnoses a failed login, explains an error message, or reads a token."""

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from rdsiam.aws.rds import FAMILIES, Database
from rdsiam.command import names, options, wrapping
from rdsiam.command.aws import Aws
from rdsiam.command.described import describe_at, identifier_and_endpoint
from rdsiam.command.errors import Denied, ExitCode, NotFound, TryAgain
from rdsiam.command.installation import Installation
from rdsiam.command.listed import find
from rdsiam.command.login import LoginOptions, LoginToken, check_one_endpoint, endpoint_option, login_token
from rdsiam.command.output import Output, progress, visible
from rdsiam.core import times
from rdsiam.core.extras import needs
from rdsiam.doctor.known_errors import explain
from rdsiam.errors import NoSuchEndpoint
from rdsiam.tokens.parser import read_token

if TYPE_CHECKING:
    from rdsiam.doctor.case import ListedDatabase, LoginCase, Undescribed, UserRecord

#: Seconds for an answer of AWS: there are many calls, and each that gets none is a check that is UNKNOWN.
_READ_SECONDS = 10
#: Actions that describe a database by its name, whatever it is.
_DESCRIBE = ("rds:DescribeDBClusters", "rds:DescribeDBInstances")
#: Words that a command begins with.
_PROGRAMS = {"aws", "pip", "rdsiam"}
#: Columns of a terminal that wrapped text needs beside the names of the checks.
_LEAST = 20
_FIELDS = ("check", "state", "detail", "fix")


@click.command(
    epilog="""\b
Examples:
  rdsiam doctor orders app_service
      checks everything that can be wrong
  rdsiam doctor orders app_service --endpoint reader
  rdsiam doctor --error "FATAL: PAM authentication failed for user"
  rdsiam token orders -u app_service | rdsiam doctor --token -"""
)
@click.argument("database", required=False, shell_complete=names.of_fleet)
@click.argument("user", required=False, shell_complete=names.of_users)
@click.option("--error", metavar="TEXT", help="Explain this error message.")
@click.option("--token", metavar="-", type=click.Choice(["-"]), help="Read a token from stdin and show its content.")
@click.option("--reason", metavar="TEXT", help="Why, if access.yaml requires a reason.")
@endpoint_option
@options.output("table", "json")
@options.installation("api_url")
def doctor(
    database: str | None,
    user: str | None,
    error: str | None,
    token: str | None,
    reason: str | None,
    endpoint: str | None,
    output: Output,
    installation: Installation,
) -> None:
    """Find out why USER's login on DATABASE fails, with your own credentials; nothing is changed.

    The API is asked for a token, which it records; a call of AWS that is denied leaves its check UNKNOWN.

    Exit codes: 0 all OK, 3 something is wrong, 7 nothing is known to be wrong but some checks could not be done.
    """
    if sum([database is not None, error is not None, token is not None]) != 1 or (database and not user):
        raise click.UsageError("give DATABASE and USER, or --error TEXT, or --token -")
    if error is not None:
        sys.exit(_explain(error, output))
    if token is not None:
        sys.exit(_show_token(sys.stdin.read(), output))
    assert database is not None
    assert user is not None
    sys.exit(_check(database, LoginOptions(user, False, reason, endpoint), output, installation))


def _check(name: str, login: LoginOptions, output: Output, installation: Installation) -> ExitCode:
    # Imported late: the drivers take a moment to load, and --error needs none.
    from rdsiam.doctor.checks import diagnose

    rows = []
    for row in diagnose(_case(name, login, installation)):
        rows.append(row)
        if output.form == "table" and not row.skipped:
            click.echo(_wrapped(f"{row.state:<8}{row.check:<20}", visible(row.detail)))
            if row.fix and row.state != "OK":
                click.echo(_wrapped(f"{'':<28}→ ", visible(row.fix)))
    if output.form == "json":
        click.echo(json.dumps([{name: getattr(row, name) for name in _FIELDS} for row in rows], indent=2))
    elif skipped := [row.check for row in rows if row.skipped]:
        progress(f"not checked because of the above: {', '.join(skipped)}")
    states = {row.state for row in rows}
    if "FAIL" in states:
        return ExitCode.DIFFERENT
    return ExitCode.INCOMPLETE if "UNKNOWN" in states else ExitCode.OK


def _wrapped(start: str, text: str) -> str:
    """Return a line whose text continues below its beginning on a terminal; in a file or a pipe it stays whole.

    A command stays whole everywhere, to be copied.
    """
    room = shutil.get_terminal_size().columns - len(start)
    if not sys.stdout.isatty() or not _LEAST <= room < len(text) or text.split()[0] in _PROGRAMS:
        return start + text
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
    return start + f"\n{'':<{len(start)}}".join(lines)


def _print(start: str, text: str) -> None:
    for line in wrapping.beside(start, visible(text), sys.stdout):
        click.echo(line)


def _case(name: str, login: LoginOptions, installation: Installation) -> "LoginCase":
    from rdsiam.doctor.case import LoginCase

    aws, user = installation.aws, str(login.user)
    identifier, host = identifier_and_endpoint(name)
    check_one_endpoint(name, host, login)

    def ask() -> LoginToken:
        with _setting("api_url"):
            installation.settings.get("api_url")
        return login_token(installation, name, login)

    def listing() -> "ListedDatabase | None":
        return _listed(installation, host or identifier, login.endpoint)

    def record(database: Database) -> "UserRecord":
        return _record(installation, database, user)

    return LoginCase(
        _described(aws, identifier, host, login.endpoint),
        user,
        lambda service: aws.client(service, _READ_SECONDS),
        *aws.credentials(),
        aws.region,
        ask,
        listing,
        record,
    )


def _described(aws: Aws, identifier: str, host: str | None, endpoint: str | None) -> "Database | Undescribed":
    """Return the database, or why the caller could not describe it; other checks go on without."""
    from rdsiam.doctor.case import Undescribed, unknown
    from rdsiam.doctor.failures import of_rdsiam

    try:
        return describe_at(aws, identifier, host, endpoint, aws.client("rds", _READ_SECONDS))
    except (Denied, TryAgain) as error:
        verdict = of_rdsiam(error)
        if any(call in verdict.fix for call in _DESCRIBE):
            verdict = unknown(verdict.detail, f"grant {' and '.join(_DESCRIBE)} to the caller")
        return Undescribed(identifier, verdict)


def _listed(installation: Installation, name: str, endpoint: str | None) -> "ListedDatabase | None":
    """Return the database from the API's list; None if it isn't in there, or has no endpoint that RDS could give.

    :param name: identifier, ARN or host name of an endpoint.
    :param endpoint: value of --endpoint.
    """
    from rdsiam.doctor.case import ListedDatabase

    listed = find(installation.api.databases(), name)
    if listed is None or listed.database.get("engine") not in FAMILIES:
        return None
    named = replace(listed, endpoint=endpoint or listed.endpoint)
    try:
        host, port = named.address
    except NoSuchEndpoint:
        return None
    if not installation.api.may_name(host):
        return None
    return ListedDatabase(listed.arn, str(listed.database["engine"]), host, port)


def _record(installation: Installation, database: Database, user: str) -> "UserRecord":
    from rdsiam.doctor.case import UserRecord

    with needs("access"):
        from rdsiam.state.inventory import Inventory
    with _setting("inventory_table"):
        table = installation.settings.get("inventory_table").value
    record = Inventory(installation.aws.client("dynamodb", _READ_SECONDS), table).of(database)
    if record is None or not record.is_of(database) or record.onboarded_at is None:
        return UserRecord(False)
    declared = record.applied is None or user in record.applied.users
    disabled = user in record.departing or (user in record.accounts and not declared)
    return UserRecord(True, record.revoked.get(user), disabled)


@contextmanager
def _setting(name: str) -> Iterator[None]:
    """Let the error of a setting that the stack doesn't tell name the variable that sets it."""
    try:
        yield
    except (Denied, NotFound) as error:
        remedy = f"set RDSIAM_{name.upper()}, or grant cloudformation:DescribeStacks"
        raise type(error)(error.problem, remedy) from None


def _explain(error: str, output: Output) -> ExitCode:
    known = explain(error)
    if output.form == "json":
        click.echo(json.dumps([{"cause": entry.cause, "fixes": entry.fixes} for entry in known], indent=2))
    for entry in known if output.form == "table" else ():
        _print("", entry.cause)
        for fix in entry.fixes:
            _print("  → ", fix)
    if not known:
        progress("this message is not known: rdsiam doctor DATABASE USER checks everything that can be wrong")
    return ExitCode.DIFFERENT if known else ExitCode.INCOMPLETE


def _show_token(text: str, output: Output) -> ExitCode:
    facts, now = read_token(text), datetime.now(UTC)
    expired = facts.expires <= now
    rows = [
        ("user", facts.user),
        ("endpoint", f"{facts.host}:{facts.port}"),
        ("region", facts.region),
        ("signed with", f"{facts.access_key}, {'temporary' if facts.temporary else 'lasting'} credentials"),
        ("signed at", times.text(facts.signed)),
        ("valid until", f"{times.text(facts.expires)}{', so it has expired' if expired else ''}"),
        ("length", f"{facts.length} characters"),
        ("cut off by", ", ".join(facts.cut_by) or "nothing known"),
    ]
    output.show(rows, ("part", "content"))
    if facts.temporary:
        progress("the token also expires with the credentials that signed it, and it doesn't say when they do")
    return ExitCode.DIFFERENT if expired or facts.signed > now else ExitCode.OK
