"""`rdsiam psql`, `mysql`, `exec` and `env`: a program that is logged in, with verified TLS and no password in sight."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, cast

import click

from rdsiam.command import programs, shells
from rdsiam.command.errors import Usage
from rdsiam.command.fast_token import warn
from rdsiam.command.login import Login, LoginRequest, login, options
from rdsiam.command.output import progress

_VIA = click.option(
    "--via", metavar="HOST:PORT", help="Connect there, a tunnel's end; signed and checked for the endpoint."
)
_NAME = click.option("--dbname", "-d", "name", metavar="NAME", help="Database or schema to open.")


def _wished(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gather the options of `targets.options` into one Wish."""

    @wraps(command)
    def gathered(
        database: str,
        user: str | None,
        local: bool,
        reason: str | None,
        api_url: str | None,
        stack: str | None,
        profile: str | None,
        region: str | None,
        **others: Any,
    ) -> Any:
        return command(LoginRequest(database, user, local, reason, api_url, stack, profile, region), **others)

    return options(gathered)


@click.command(
    epilog="""\b
Examples:
  rdsiam psql orders                         # as the one user that you may be
  rdsiam psql orders --user analyst -d shop -- -c 'SELECT current_user'
  rdsiam psql orders -u analyst --via 127.0.0.1:15432    # through ssh -L 15432:<endpoint>:5432
  rdsiam psql orders --local --user app_service          # signed with your own credentials"""
)
@click.argument("database")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@_NAME
@_VIA
@_wished
def psql(request: LoginRequest, arguments: tuple[str, ...], name: str | None, via: str | None) -> None:
    """Open psql, logged in to DATABASE (identifier, ARN, endpoint or a CNAME of it).

    ARGUMENTS after -- go to psql. The certificate and its name are verified; the exit code is psql's.
    """
    program = programs.first_of("psql")
    got = _of_family(request, "postgres")
    programs.exec_program([program, *arguments], programs.variables(got, name, via))


@click.command(
    epilog="""\b
Examples:
  rdsiam mysql billing                       # as the one user that you may be
  rdsiam mysql billing --user analyst -d shop -- -e 'SELECT current_user()'
  rdsiam mysql billing --local --user app_service        # signed with your own credentials"""
)
@click.argument("database")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@_NAME
@_VIA
@_wished
def mysql(request: LoginRequest, arguments: tuple[str, ...], name: str | None, via: str | None) -> None:
    """Open mysql (or mariadb), logged in to DATABASE (identifier, ARN, endpoint or a CNAME of it).

    ARGUMENTS after -- go to mysql. The certificate and its name are verified; the exit code is mysql's.
    """
    program = programs.first_of("mysql", "mariadb")
    got = _of_family(request, "mysql")
    schema = [f"--database={name}"] if name else []
    command = [program, *programs.mysql_flags(program, got, via), *schema, *arguments]
    programs.exec_program(command, programs.variables(got, name, via))


@click.command(
    "exec",
    epilog="""\b
Examples:
  rdsiam exec orders -u app_service -- python migrate.py
  rdsiam exec orders -u analyst -d shop -- pg_dump --schema-only
  rdsiam exec billing -u analyst -- mysqldump shop""",
)
@click.argument("database")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@_NAME
@_VIA
@_wished
def exec_(request: LoginRequest, command: tuple[str, ...], name: str | None, via: str | None) -> None:
    """Run COMMAND (after --) with variables that log it in to DATABASE.

    PostgreSQL: PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE=verify-full, PGSSLROOTCERT.
    MySQL: MYSQL_HOST, MYSQL_TCP_PORT, MYSQL_USER, MYSQL_PWD, MYSQL_SSL_CA; programs of MySQL's get the options for
    verified TLS too. The token is good for new connections for 15 minutes; open ones stay. Exit code and signals are
    COMMAND's.
    """
    got = login(request)
    run = list(command)
    if got.family == "mysql" and programs.is_mysql_program(run[0]):
        run[1:1] = programs.mysql_flags(run[0], got, via)
    programs.exec_program(run, programs.variables(got, name, via))


@click.command(
    epilog="""\b
Examples:
  eval "$(rdsiam env orders -u analyst)"                 # bash, zsh
  rdsiam env orders -u analyst --shell fish | source
  rdsiam env orders -u analyst --shell pwsh | Out-String | Invoke-Expression
  eval "$(rdsiam env --unset)\""""
)
@click.argument("database", required=False)
@click.option("--shell", type=click.Choice(shells.SHELLS), help="Default: that of $SHELL, else bash.")
@click.option("--unset", is_flag=True, help="Take the variables away again; needs no DATABASE.")
@_NAME
@_VIA
@_wished
def env(request: LoginRequest, shell: str | None, unset: bool, name: str | None, via: str | None) -> None:
    """Print lines that set the variables of `rdsiam exec` in a shell."""
    language = cast("shells.Shell", shell or _own_shell())
    if unset:
        names = [*programs.NAMES["postgres"], *programs.NAMES["mysql"]]
        click.echo(shells.unset(language, names), nl=False)
        return
    if not request.database:
        raise click.UsageError("Missing argument 'DATABASE'.")
    got = login(request)
    values = programs.variables(got, name, via)
    if sys.stdout.isatty():
        warn('these lines hold a token: use eval "$(rdsiam env …)", which shows nothing')
    # What led elsewhere before must go, or it would still do so.
    gone = [one for one in programs.NAMES[got.family] if one not in values]
    click.echo(shells.unset(language, gone) + shells.assign(language, values), nl=False)
    progress(f"good for new connections until {got.expires}")


def _own_shell() -> str:
    name = Path(os.environ.get("SHELL", "")).name
    return name if name in shells.SHELLS else "bash"


def _of_family(request: LoginRequest, family: str) -> Login:
    got = login(request)
    if got.family != family:
        right = "psql" if got.family == "postgres" else "mysql"
        raise Usage(f"{request.database} speaks {got.family}: use rdsiam {right}")
    return got
