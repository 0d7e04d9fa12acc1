"""`rdsiam proxy`: lets programs in that can't ask for tokens."""

import sys
from typing import TYPE_CHECKING

import click

from rdsiam.command import names, options
from rdsiam.command.installation import Installation
from rdsiam.command.output import Output
from rdsiam.command.proxy_options import ProxyOptions, with_proxy_options

if TYPE_CHECKING:
    from rdsiam.proxy.settings import Settings


@click.command(
    epilog="""\b
Examples:
  rdsiam proxy orders
      PostgreSQL at localhost:5432, MySQL at localhost:3306
  rdsiam proxy shop --endpoint reader -d shop
      the readers of a cluster; the printed lines open the database shop
  rdsiam proxy orders:5433 billing -u app_service --local
      several databases, signed with your own credentials
  rdsiam proxy orders --socket /run/user/1000/.s.PGSQL.5432
  rdsiam proxy --config proxy.toml"""
)
@click.argument("databases", metavar="[DATABASE[:PORT]]...", nargs=-1, shell_complete=names.of_logins)
@with_proxy_options
@options.output("text", "json")
@options.installation("api_url")
def proxy(databases: tuple[str, ...], proxy_options: ProxyOptions, output: Output, installation: Installation) -> None:
    """Let programs that can't ask for tokens log in to DATABASE, through a port of this machine.

    Each connection is logged in with a fresh token, over verified TLS. On this machine clients need no password and no
    TLS. The proxy prints the lines to paste into them, and runs until SIGTERM or SIGINT.
    """
    # Imported late: other commands have no use for asyncio, which takes 50 ms.
    from rdsiam.command.proxy_run import check_files, read_settings, serve

    def load() -> "Settings":
        return read_settings(databases, proxy_options)

    if proxy_options.only_check:
        check_files(load())
    else:
        sys.exit(serve(load, proxy_options, output, installation))
