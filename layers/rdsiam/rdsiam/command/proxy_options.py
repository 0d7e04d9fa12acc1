"""Options of `rdsiam proxy`; a configuration file has keys for most of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from rdsiam.command import names, options
from rdsiam.command.login import endpoint_option

#: Option → its field in the settings of the proxy.
_FIELDS = {
    "max_connections": "max_connections",
    "connections_per_second": "connections_per_second",
    "login_timeout": "login_timeout",
    "drain_timeout": "drain_timeout",
    "health_host": "health_host",
    "health_port": "health_port",
    "require_password_file": "password_file",
    "certificate": "certificate",
    "key": "key",
    "cut": "cut",
    "cut_interval": "cut_interval",
}
_OF_LISTENERS = ("user", "endpoint", "host", "port", "socket")
_FILE = click.Path(dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class ProxyOptions:
    """Options of the command; None if they are not given.

    :ivar fields: fields of the settings that are given.
    :ivar name: database or schema in the printed lines.
    """

    config: Path | None
    user: str | None
    endpoint: str | None
    host: str | None
    port: int | None
    socket: Path | None
    fields: Mapping[str, Any]
    name: str | None
    local: bool
    reason: str | None
    only_check: bool

    def given(self) -> list[str]:
        """Return the options that a configuration file has keys for."""
        own = [name for name in _OF_LISTENERS if getattr(self, name) is not None]
        return [
            f"--{name.replace('_', '-')}"
            for name in (*own, *(n for n, field in _FIELDS.items() if field in self.fields))
        ]


def with_proxy_options(command: options.Command) -> options.Command:
    """Add the options of the proxy itself; the command gets `proxy_options`."""
    port = click.IntRange(0, 65535)
    added: list[options.Decorator] = [
        click.option("--config", metavar="FILE", type=_FILE, help="Read databases and settings from proxy.toml."),
        click.option(
            "--user",
            "-u",
            metavar="USER",
            shell_complete=names.of_own_users,
            help="Database user of all clients. Default: the one that each client names.",
        ),
        endpoint_option,
        click.option(
            "--port",
            metavar="PORT",
            type=port,
            help="Port of the first database; further ones count up. Default: the engine's.",
        ),
        click.option("--host", metavar="ADDRESS", help="Address to listen on. Default: localhost."),
        click.option("--socket", metavar="PATH", type=_FILE, help="Listen on a unix socket instead of a port."),
        click.option("--dbname", "-d", "name", metavar="NAME", help="Database or schema in the printed lines."),
        click.option(
            "--require-password-file",
            metavar="FILE",
            type=_FILE,
            help="Clients have to give the password in this file.",
        ),
        click.option("--certificate", metavar="FILE", type=_FILE, help="Certificate for clients, PEM, with its chain."),
        click.option("--key", metavar="FILE", type=_FILE, help="Key of the certificate, PEM."),
        click.option(
            "--max-connections", metavar="NUMBER", type=click.IntRange(1), help="Connections of clients. Default: 1000."
        ),
        click.option(
            "--connections-per-second",
            metavar="NUMBER",
            type=click.IntRange(1),
            help="New connections to each database. Default: 50.",
        ),
        click.option(
            "--login-timeout",
            metavar="SECONDS",
            type=click.FloatRange(1, 3600),
            help="Time for a client's login. Default: 30.",
        ),
        click.option(
            "--drain-timeout",
            metavar="SECONDS",
            type=click.FloatRange(0, 3600),
            help="Time for open connections after SIGTERM. Default: 30.",
        ),
        click.option(
            "--health-port", metavar="PORT", type=port, help="Serve /healthz, /readyz and /metrics at this port."
        ),
        click.option("--health-host", metavar="ADDRESS", help="Address of the health port. Default: 127.0.0.1."),
        click.option(
            "--cut", is_flag=True, default=None, help="Close open connections of users whose access has ended."
        ),
        click.option(
            "--cut-interval",
            metavar="SECONDS",
            type=click.FloatRange(1, 3600),
            help="Time between two questions to the API for --cut. Default: 30.",
        ),
        click.option("--local", is_flag=True, help="Sign with your own credentials instead of asking the API."),
        click.option("--reason", metavar="TEXT", help="Why, if access.yaml requires a reason."),
        click.option("--check", "only_check", is_flag=True, help="Check the settings, and start nothing."),
    ]
    own = ["config", *_OF_LISTENERS, "name", "local", "reason", "only_check"]

    def make(values: Mapping[str, Any]) -> ProxyOptions:
        # A flag that is not given is False.
        given = {name: value for name in _FIELDS if (value := values[name]) is not None and value is not False}
        fields = {_FIELDS[name]: value for name, value in given.items()}
        return ProxyOptions(**{name: values[name] for name in own}, fields=fields)

    return options.add(added, options.gather("proxy_options", [*own, *_FIELDS], make)(command))
