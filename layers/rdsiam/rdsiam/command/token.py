"""`rdsiam token`: a login token on stdout, from the API or signed on the spot."""

import socket
from datetime import UTC, datetime, timedelta

import click

from rdsiam.command import fast_token, login
from rdsiam.command.aws import Aws
from rdsiam.command.errors import NotFound, TryAgain, Usage
from rdsiam.core import times
from rdsiam.signer import LIFETIME, TokenSigner
from rdsiam.tokens.endpoints import follow, is_rds, region_of


@click.command(
    epilog="""\b
Examples:
  rdsiam token orders                    # from the API, as the one user that you may be
  rdsiam token orders --user analyst --reason TICKET-7
  rdsiam token --host orders.c9akciq32.eu-central-1.rds.amazonaws.com --port 5432 --user app_service
  PGPASSWORD=$(rdsiam token orders -u analyst) psql "host=… user=analyst sslmode=verify-full sslrootcert=…" """
)
@click.argument("database", required=False)
@click.option("--host", metavar="NAME", help="Sign offline for this endpoint, with your own credentials.")
@click.option("--port", type=click.IntRange(1, 65535), help="With --host: its port.")
@login.options
def token(
    database: str | None,
    host: str | None,
    port: int | None,
    user: str | None,
    local: bool,
    reason: str | None,
    api_url: str | None,
    stack: str | None,
    profile: str | None,
    region: str | None,
) -> None:
    """Print a login token and a newline, nothing else.

    With DATABASE (identifier, ARN, endpoint or a CNAME of it) the API is asked, which records who asked and why. With
    --host it is signed here with your own credentials: those of the environment, a profile, SSO, a container.
    """
    if (database is None) == (host is None):
        raise click.UsageError("give DATABASE, or --host with --port and --user")
    if database is not None:
        if port is not None:
            raise click.UsageError("--port goes with --host")
        request = login.LoginRequest(database, user, local, reason, api_url, stack, profile, region)
        fast_token.show(login.login(request).token)
        return
    assert host is not None
    if port is None or user is None:
        raise click.UsageError("--host needs --port and --user")
    if reason is not None or api_url is not None or stack is not None:
        raise click.UsageError("--reason, --api-url and --stack go with DATABASE: with --host the API is not asked")
    fast_token.show(_signed(host, port, user, profile, region))


def _signed(host: str, port: int, user: str, profile: str | None, region: str | None) -> str:
    """Sign for a host: for the endpoint that it leads to, where it is a CNAME."""
    host = _endpoint(host)
    region = region or region_of(host)
    if region is None:
        raise Usage(f"the name {host} tells no region: give --region")
    credentials, end = Aws(profile, region).credentials()
    if end is not None and end <= datetime.now(UTC):
        raise TryAgain("your credentials have ended: renew them, e.g. aws sso login")
    if end is not None and end < datetime.now(UTC) + timedelta(seconds=LIFETIME):
        fast_token.warn(f"the token ends with your credentials at {times.text(end)}")
    return TokenSigner(credentials, region).token(host, port, user)


def _endpoint(host: str) -> str:
    if is_rds(host) or host == "localhost":
        return host
    try:
        endpoint = follow(host)
    except socket.gaierror:
        raise NotFound(f"{host} is no RDS endpoint and does not resolve: give the endpoint that RDS reports") from None
    if is_rds(endpoint):
        fast_token.warn(f"{host} leads to {endpoint}: signed for that")
    else:
        fast_token.warn(f"{host} is no RDS endpoint and leads to none: RDS refuses a token for another name")
    return endpoint
