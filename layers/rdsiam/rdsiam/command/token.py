"""`rdsiam token`: a login token on stdout, from the API or signed here."""

from datetime import UTC, datetime, timedelta

import click

from rdsiam.command import fast_token, names
from rdsiam.command.aws import RENEW
from rdsiam.command.errors import NotFound, TryAgain, Usage
from rdsiam.command.installation import Installation
from rdsiam.command.login import LoginOptions, login_options, login_token
from rdsiam.core import times
from rdsiam.signer import LIFETIME, TokenSigner
from rdsiam.tokens.endpoints import follow, is_rds, region_of


@click.command(
    epilog="""\b
Examples:
  rdsiam token orders
      from the API, as the only user that you may be
  rdsiam token orders --user analyst --reason TICKET-7
  rdsiam token orders --endpoint reader
  rdsiam token --host orders.c9akciq32.eu-central-1.rds.amazonaws.com --port 5432 --user app_service
  PGPASSWORD=$(rdsiam token orders -u analyst) psql "host=… user=analyst sslmode=verify-full sslrootcert=…" """
)
@click.argument("database", required=False, shell_complete=names.of_logins)
@click.option("--host", metavar="NAME", help="Sign offline for this endpoint, with your own credentials.")
@click.option("--port", metavar="PORT", type=click.IntRange(1, 65535), help="With --host: its port.")
@login_options
def token(
    database: str | None, host: str | None, port: int | None, login: LoginOptions, installation: Installation
) -> None:
    """Print a login token and a newline, nothing else.

    With DATABASE (identifier, ARN, endpoint or a CNAME of it), the API decides and records caller and reason. With
    --host, the token is signed here with your own credentials: of the environment, a profile, SSO, a container.
    """
    if (database is None) == (host is None):
        raise click.UsageError("give DATABASE, or --host with --port and --user")
    if database is not None:
        if port is not None:
            raise click.UsageError("--port goes with --host")
        fast_token.show(login_token(installation, database, login).token)
        return
    assert host is not None
    if port is None or login.user is None:
        raise click.UsageError("--host needs --port and --user")
    of_api = (login.reason, login.endpoint, *installation.flags.values())
    if any(value is not None for value in of_api):
        raise click.UsageError(
            "--reason, --endpoint, --api-url and --stack go with DATABASE: with --host the API is not asked"
        )
    fast_token.show(_signed(_endpoint(host), port, login.user, installation))


def _signed(host: str, port: int, user: str, installation: Installation) -> str:
    region = installation.region or region_of(host)
    if region is None:
        raise Usage(f"the name {host} contains no region", "give --region")
    credentials, expiry = Installation({}, installation.profile, region).aws.credentials()
    if expiry is not None and expiry <= datetime.now(UTC):
        raise TryAgain("your credentials have expired", RENEW)
    if expiry is not None and expiry < datetime.now(UTC) + timedelta(seconds=LIFETIME):
        fast_token.warn(f"the token expires with your credentials at {times.text(expiry)}")
    return TokenSigner(credentials, region).token(host, port, user)


def _endpoint(host: str) -> str:
    """Return the endpoint that a CNAME leads to; a host that leads to no endpoint is returned with a warning."""
    if is_rds(host) or host == "localhost":
        return host
    try:
        endpoint = follow(host)
    except OSError:
        raise NotFound(
            f"{host} is no RDS endpoint and does not resolve", "give the endpoint that RDS reports"
        ) from None
    if is_rds(endpoint):
        fast_token.warn(f"{host} leads to {endpoint}: the token is signed for that endpoint")
    else:
        fast_token.warn(f"{host} is no RDS endpoint and leads to none: RDS refuses tokens for other names")
    return endpoint
