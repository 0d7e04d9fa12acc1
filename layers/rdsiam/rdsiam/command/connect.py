"""`rdsiam psql`, `mysql`, `exec` and `env`: programs that are logged in, over verified TLS, without a password."""

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import click

from rdsiam.command import names, options, programs, shells, waiting
from rdsiam.command.errors import TryAgain, Usage
from rdsiam.command.fast_token import warn
from rdsiam.command.installation import Installation
from rdsiam.command.login import LoginOptions, LoginToken, login_options, login_token
from rdsiam.command.output import progress, visible
from rdsiam.command.passing import PassingCommand
from rdsiam.command.unanswered import cause

#: Exit codes of psql and of mysql without a connection.
_NO_CONNECTION = {"postgres": 2, "mysql": 1}


@dataclass(frozen=True)
class SessionOptions:
    """Database to open, and the tunnel to it.

    :ivar name: database or schema.
    :ivar via: HOST:PORT of a tunnel.
    """

    name: str | None
    via: str | None


def _session_options(command: options.Command) -> options.Command:
    """Add the options of a session; the command gets `session`, `login` and `installation`."""
    added: list[options.Decorator] = [
        click.option("--dbname", "-d", "name", metavar="NAME", help="Database or schema to open."),
        click.option(
            "--via",
            metavar="HOST:PORT",
            help="Connect through this tunnel; the token and the certificate are still the endpoint's.",
        ),
        login_options,
    ]
    gathered = options.gather("session", ["name", "via"], lambda values: SessionOptions(**values))(command)
    return options.add(added, gathered)


@click.command(
    cls=PassingCommand,
    passed="arguments",
    program="psql",
    epilog="""\b
Examples:
  rdsiam psql orders
      as the only user that you may be
  rdsiam psql orders --user analyst -d shop -- -c 'SELECT current_user'
  rdsiam psql orders --endpoint reader
      at the reader endpoint of a cluster
  rdsiam psql orders -u analyst --via 127.0.0.1:15432
      through ssh -L 15432:<endpoint>:5432
  rdsiam psql orders --local --user app_service
      signed with your own credentials""",
)
@click.argument("database", shell_complete=names.of_logins)
@_session_options
def psql(
    database: str, arguments: tuple[str, ...], session: SessionOptions, login: LoginOptions, installation: Installation
) -> None:
    """Open psql, logged in to DATABASE (identifier, ARN, endpoint or a CNAME of it).

    ARGUMENTS after -- go to psql. The certificate and its name are verified; the exit code is psql's.
    """
    program = programs.first_of("psql")
    token = _token_of_family(installation, database, login, "postgres")
    answers = _answers(installation, token, session.via, login.endpoint)
    command, variables = [program, *arguments], programs.variables(token, session.name, session.via)
    if answers:
        programs.exec_program(command, variables)
    sys.exit(_fail(installation, token, login.endpoint, command, variables))


@click.command(
    cls=PassingCommand,
    passed="arguments",
    program="mysql",
    epilog="""\b
Examples:
  rdsiam mysql billing
      as the only user that you may be
  rdsiam mysql billing --user analyst -d shop -- -e 'SELECT current_user()'
  rdsiam mysql billing --local --user app_service
      signed with your own credentials""",
)
@click.argument("database", shell_complete=names.of_logins)
@_session_options
def mysql(
    database: str, arguments: tuple[str, ...], session: SessionOptions, login: LoginOptions, installation: Installation
) -> None:
    """Open mysql (or mariadb), logged in to DATABASE (identifier, ARN, endpoint or a CNAME of it).

    ARGUMENTS after -- go to mysql. The certificate and its name are verified; the exit code is mysql's.
    """
    program = programs.first_of("mysql", "mariadb")
    token = _token_of_family(installation, database, login, "mysql")
    answers = _answers(installation, token, session.via, login.endpoint)
    schema = [f"--database={session.name}"] if session.name else []
    options = [*programs.mysql_flags(program, token, session.via), *schema]
    command = [program, *programs.mysql_arguments(options, arguments)]
    variables = programs.variables(token, session.name, session.via)
    if answers:
        programs.exec_program(command, variables)
    sys.exit(_fail(installation, token, login.endpoint, command, variables))


@click.command(
    "exec",
    cls=PassingCommand,
    passed="command",
    epilog="""\b
Examples:
  rdsiam exec orders -u app_service -- python migrate.py
  rdsiam exec orders -u analyst -d shop -- pg_dump --schema-only
  rdsiam exec billing -u analyst -- mysqldump shop""",
)
@click.argument("database", shell_complete=names.of_logins)
@_session_options
def exec_(
    database: str, command: tuple[str, ...], session: SessionOptions, login: LoginOptions, installation: Installation
) -> None:
    """Run COMMAND (after --) with variables that log it in to DATABASE.

    PostgreSQL: PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE=verify-full, PGSSLROOTCERT.
    MySQL: MYSQL_HOST, MYSQL_TCP_PORT, MYSQL_USER, MYSQL_PWD, MYSQL_SSL_CA, and MYSQL_HOME, whose option file logs in
    mysql, mysqldump and others over verified TLS. The token is valid for new connections for 15 minutes; open
    connections stay. Exit code and signals are COMMAND's.
    """
    token = login_token(installation, database, login)
    words = list(command)
    if token.family == "mysql" and programs.is_mysql_program(words[0]):
        words[1:] = programs.mysql_arguments(programs.mysql_flags(words[0], token, session.via), words[1:])
    programs.exec_program(words, programs.inherited(token, session.name, session.via))


@click.command(
    epilog="""\b
Examples:
  eval "$(rdsiam env orders -u analyst)"
      bash, zsh
  rdsiam env orders -u analyst --shell fish | source
  rdsiam env orders -u analyst --shell pwsh | Out-String | Invoke-Expression
  eval "$(rdsiam env --unset)\""""
)
@click.argument("database", required=False, shell_complete=names.of_logins)
@click.option("--shell", type=click.Choice(shells.SHELLS), help="Default: that of $SHELL, else bash.")
@click.option("--unset", is_flag=True, help="Print lines that unset the variables; needs no DATABASE.")
@_session_options
def env(
    database: str | None,
    shell: str | None,
    unset: bool,
    session: SessionOptions,
    login: LoginOptions,
    installation: Installation,
) -> None:
    """Print lines that set the variables of `rdsiam exec` in a shell."""
    language = cast("shells.Shell", shell or _own_shell())
    if unset:
        names = [*programs.NAMES["postgres"], *programs.NAMES["mysql"]]
        click.echo(shells.unset(language, names), nl=False)
        return
    if not database:
        raise click.UsageError("Missing argument 'DATABASE'.")
    token = login_token(installation, database, login)
    values = programs.inherited(token, session.name, session.via)
    if sys.stdout.isatty():
        warn('these lines contain a token: use eval "$(rdsiam env …)", which shows nothing')
    stale = programs.stale(token.family, values)
    if token.family == "postgres" and (service := os.environ.get("PGSERVICE")):
        progress(f"PGSERVICE is unset: the service {visible(service)} would lead elsewhere")
    click.echo(shells.unset(language, stale) + shells.assign(language, values), nl=False)
    progress(f"valid for new connections until {token.expires}")


def _own_shell() -> str:
    name = Path(os.environ.get("SHELL", "")).name
    return name if name in shells.SHELLS else "bash"


def _token_of_family(installation: Installation, database: str, login: LoginOptions, family: str) -> LoginToken:
    token = login_token(installation, database, login)
    if token.family != family:
        right = "psql" if token.family == "postgres" else "mysql"
        raise Usage(f"{database} speaks {token.family}", f"use rdsiam {right}")
    return token


def _answers(installation: Installation, token: LoginToken, via: str | None, endpoint: str | None) -> bool:
    """Tell whether the endpoint takes a connection: a program itself waits for minutes, and says nothing meanwhile.

    :return: True also for a tunnel, at which nobody looks.
    :raises TryAgain: the endpoint doesn't answer. An endpoint that refuses is the program's to report.
    """
    if via is not None:
        return True
    try:
        socket.create_connection((token.host, token.port), waiting.SECONDS).close()
    except TimeoutError:
        problem = f"{token.host}:{token.port} has not answered for {waiting.SECONDS:g} s"
        known = cause(installation, token, endpoint)
        if known.state:
            raise TryAgain(f"{problem}: {known.state}", known.remedy) from None
        raise TryAgain(problem, f"{known.remedy}; is a VPN or a tunnel missing?") from None
    except OSError:
        return False
    return True


def _fail(
    installation: Installation,
    token: LoginToken,
    endpoint: str | None,
    command: Sequence[str],
    variables: Mapping[str, str],
) -> int:
    """Run a program whose database takes no connection, say the cause if it fails, and return its exit code."""
    code = programs.run_program(command, variables)
    if code == _NO_CONNECTION[token.family]:  # else it has connected in the meantime
        known = cause(installation, token, endpoint)
        state = known.state or f"{token.host}:{token.port} takes no connection"
        progress(f"rdsiam: {state}; {known.remedy}")
    return code
