"""Runs the proxy for `rdsiam proxy`: settings from options or a file, its parts, and what it prints."""

import asyncio
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

import click

from rdsiam.command.errors import CommandError, ExitCode, Usage
from rdsiam.command.installation import Installation
from rdsiam.command.output import Output, progress, visible
from rdsiam.command.proxy_options import ProxyOptions
from rdsiam.command.proxy_sources import LastingInstallation, source
from rdsiam.core.arn import is_arn
from rdsiam.proxy import logs, proxy_file
from rdsiam.proxy.connection_strings import lines
from rdsiam.proxy.contracts import Engine, EngineName, Listener, Upstream, UpstreamFailed
from rdsiam.proxy.mysql.engine import MySQLEngine
from rdsiam.proxy.network import Trust
from rdsiam.proxy.postgres.engine import PostgresEngine
from rdsiam.proxy.running import End, run
from rdsiam.proxy.sentences import failed
from rdsiam.proxy.server import Factory, Server
from rdsiam.proxy.settings import Settings, protection
from rdsiam.proxy.settings import check as check_settings
from rdsiam.proxy.threads import Threads
from rdsiam.proxy.upstream import DatabaseUpstream, Limits, Workers
from rdsiam.tokens.trust import ca_file

#: A name and the port to listen on; an ARN contains colons, and no part of it that may come last is a number.
_WITH_PORT = re.compile(r"(?P<name>.+):(?P<port>[0-9]{1,5})")
_ENGINES: dict[EngineName, Callable[[], Engine]] = {"postgres": PostgresEngine, "mysql": MySQLEngine}
_EXITS = {End.COMPLETE: ExitCode.OK, End.CUT: ExitCode.INCOMPLETE, End.AT_ONCE: ExitCode.INTERRUPTED}
#: Code of a database that can't be served at the start → exit code; all others may succeed the next time.
_START_EXITS = {
    "denied": ExitCode.DENIED,
    "expired-credentials": ExitCode.DENIED,
    "not-allowed": ExitCode.DENIED,
    "reason-required": ExitCode.DENIED,
    "signs-itself": ExitCode.DENIED,
    "user-revoked": ExitCode.DENIED,
    "no-such-endpoint": ExitCode.NOT_FOUND,
    "not-found": ExitCode.NOT_FOUND,
    "usage": ExitCode.USAGE,
}
#: Threads for calls to the API and AWS, and for the system's resolver.
_CALLS, _NAMES = 16, 4


def read_settings(databases: Sequence[str], options: ProxyOptions) -> Settings:
    """Return the settings of a configuration file, or of the options.

    :raises Usage: both are given, or neither.
    :raises ProxySettingsInvalid: they break the rules.
    """
    if options.config is not None:
        given = [*(["DATABASE"] if databases else []), *options.given()]
        if given:
            raise Usage(f"--config is given, and {', '.join(given)} as well", f"write it into {options.config}")
        return proxy_file.read(options.config)
    if not databases:
        raise Usage("no database is named", "name one, or give --config FILE; rdsiam ls lists them")
    if options.socket is not None and (len(databases) > 1 or options.port is not None or options.host is not None):
        raise Usage("--socket is for one database, without --port and --host", "use --config for more")
    settings = Settings(tuple(_listeners(databases, options)), **options.fields)
    check_settings(settings)
    return settings


def _listeners(databases: Sequence[str], options: ProxyOptions) -> list[Listener]:
    named = []
    for text in databases:
        with_port = _WITH_PORT.fullmatch(text)
        name = with_port["name"] if with_port else text
        if ":" in name and not is_arn(name) and not set("/@") & set(name):  # those of a connection string
            database = name.partition(":")[0]
            raise Usage(f"{database}: what follows the colon is no port", "write DATABASE:PORT, with a whole number")
        named.append((name, int(with_port["port"]) if with_port else None))
    taken = {port for _, port in named}
    following = options.port
    listeners = []
    for name, port in named:
        if port is None and following is not None:
            while following and following in taken:
                following += 1
            port, following = following, following + 1 if following else 0
        if port is not None and port > 65535:
            raise Usage(f"{name}: no port {port}", "ports end at 65535")
        socket = options.socket.absolute() if options.socket is not None else None
        host = options.host or "localhost"
        listeners.append(Listener(name, options.endpoint, options.user, host=host, port=port, socket=socket))
    return listeners


def check_files(settings: Settings) -> None:
    """Check the files that settings and RDSIAM_CA name, and say that they are good."""
    protection(settings)
    ca_file()
    progress(
        f"good: {len(settings.listeners)} listener{'s' if len(settings.listeners) > 1 else ''}; nothing was started"
    )


def serve(load: Callable[[], Settings], options: ProxyOptions, output: Output, installation: Installation) -> ExitCode:
    """Run the proxy until a signal ends it, and return its exit code."""
    settings = load()
    ca_file()  # else each client would hear of it
    terminal = sys.stderr.isatty()
    logs.set_up(terminal)
    lasting = LastingInstallation(installation.flags, installation.profile, installation.region)
    workers = Workers(Threads(_CALLS, "calls"), Threads(_NAMES, "names"))
    trust = Trust()

    async def upstream(listener: Listener, per_second: int) -> Upstream:
        limits = Limits(per_second=per_second)
        # It may ask CloudFormation for the API's address; signals are heard meanwhile.
        making = asyncio.get_running_loop().run_in_executor(
            workers.calls, source, lasting, listener, options.local, options.reason
        )
        try:
            tokens, access = await asyncio.wait_for(making, limits.token)
        except TimeoutError:
            problem = f"AWS has not told the API's address within {limits.token:g} s"
            raise failed(problem, "give it with --api-url, or RDSIAM_API_URL", "no-answer") from None
        return DatabaseUpstream(tokens, access, workers, limits, trust)

    def again() -> Settings | None:
        has_gone = terminal and not sys.stderr.isatty()
        return None if options.config is None or has_gone else load()

    async def main() -> End:
        server = Server(settings, Factory(upstream, lambda engine: _ENGINES[engine]()))
        return await run(server, again, lambda: show(server, options.name, output))

    try:
        end = asyncio.run(main())
    except UpstreamFailed as failure:
        raise StartFailed(failure) from None
    return _EXITS[end]


class StartFailed(CommandError):
    """A database of the proxy is unknown, not allowed, or can't be asked for; the code says which."""

    code = "start-failed"

    def __init__(self, failure: UpstreamFailed) -> None:
        super().__init__(str(failure))
        self.code = failure.code
        self.exit_code = _START_EXITS.get(failure.code, ExitCode.TRY_AGAIN)


def show(server: Server, name: str | None, output: Output) -> None:
    """Print how clients connect to each listener, and whether they have to give a password.

    :param name: database or schema in the lines.
    """
    for listening in server.listening:
        listener = listening.listener
        tls = listening.service.protection.tls is not None
        users = listener.users or listening.users
        user = listener.user or (next(iter(users)) if len(users) == 1 else None)
        password = listening.service.protection.secret is not None
        printed = lines(listener, listening.engine, user, name, tls)
        if output.form == "json":
            place = {"host": listener.host, "port": listener.port}
            if listener.socket is not None:
                place = {"socket": str(listener.socket)}
            document = {
                "database": listener.database,
                "engine": listening.engine,
                "endpoint": listening.service.labels["endpoint"],
                **place,
                "user": user,
                "password_required": password,
                **asdict(printed),
            }
            click.echo(json.dumps(document))
            continue
        named = listener.database if listener.endpoint is None else f"{listener.database} {listener.endpoint}"
        click.echo(visible(f"{named}: {listening.service.labels['listener']}"))
        for line in printed.all:
            click.echo(f"  {line}")
        if password:
            option = "; mysql asks for it with --password" if listening.engine == "mysql" else ""
            click.echo(visible(f"  clients have to give the password in {server.settings.password_file}{option}"))
    sys.stdout.flush()
