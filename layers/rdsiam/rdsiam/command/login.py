"""From what a person names to a login: which database, which user, and a token from the API or signed here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any

import click

from rdsiam.aws.rds import FAMILIES, Database, Databases, Family
from rdsiam.command.api import Api
from rdsiam.command.aws import Aws, database_arn, told
from rdsiam.command.errors import Denied, ExecutionFailed, NotFound, TryAgain, Usage
from rdsiam.command.output import progress, visible
from rdsiam.command.settings import Settings
from rdsiam.core import times
from rdsiam.core.arn import Arn, is_arn
from rdsiam.errors import DatabaseNotFound
from rdsiam.signer import LIFETIME, TokenSigner
from rdsiam.tokens.endpoints import follow, is_rds, region_of

_SOON = timedelta(minutes=5)


@dataclass(frozen=True)
class Login:
    """A token, and where it is good for.

    :ivar host: the endpoint that the token is signed for, and whose name the certificate must have.
    :ivar expires: when the token ends, RFC 3339; empty where that is not known.
    """

    token: str = field(repr=False)
    host: str
    port: int
    user: str
    family: Family
    database: str
    expires: str


@dataclass(frozen=True)
class LoginRequest:
    """What the options of a command ask for; `options` adds them to one."""

    database: str
    user: str | None
    local: bool
    reason: str | None
    api_url: str | None
    stack: str | None
    profile: str | None
    region: str | None


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of everything that needs a token: see Wish."""
    for option in reversed(
        [
            click.option("--user", "-u", metavar="NAME", help="Database user. Default: the one that you may be."),
            click.option("--local", is_flag=True, help="Sign with your own credentials instead of asking the API."),
            click.option("--reason", metavar="TEXT", help="Why, where access.yaml requires a reason."),
            click.option("--api-url", metavar="URL", help="Address of the API. Default: the stack's output."),
            click.option("--stack", metavar="NAME", help="Name of the CloudFormation stack. Default: rdsiam."),
            click.option("--profile", help="Profile of the AWS configuration."),
            click.option("--region", help="AWS region. Default: the profile's."),
        ]
    ):
        command = option(command)
    return command


def api(aws: Aws, api_url: str | None, stack: str | None) -> Api:
    """Return the API that the settings name."""
    return Api(Settings({"api_url": api_url, "stack": stack}, aws.outputs).get("api_url", "ApiUrl").value, aws)


def login(request: LoginRequest) -> Login:
    """Return a token as wished.

    :raises Usage: the user is not named and there are several, or none can be known.
    """
    aws = Aws(request.profile, request.region)
    name, host = _identifier(request.database)
    return _signed_here(aws, request, name, host) if request.local else _asked_for(aws, request, name, host)


def described(aws: Aws, name: str) -> Database:
    """Return the database of that identifier or ARN, as RDS describes it to the caller."""
    arn = database_arn(aws, name)
    try:
        with told(name):
            return Databases(aws.client("rds"), arn).describe(arn)
    except DatabaseNotFound as error:
        raise NotFound(str(error)) from None


def _identifier(name: str) -> tuple[str, str | None]:
    """Return identifier or ARN, and the endpoint where it was named by that, or by a CNAME of it."""
    if is_arn(name) or "." not in name:
        return name, None
    try:
        host = follow(name)
    except OSError as error:
        raise NotFound(f"{name} does not resolve: {error}") from None
    if not is_rds(host):
        raise NotFound(f"{name} is not the name of an RDS endpoint, nor a CNAME of one")
    if host != name.lower():
        progress(f"{name} leads to {host}")
    return host.partition(".")[0], host


def _asked_for(aws: Aws, request: LoginRequest, name: str, endpoint: str | None) -> Login:
    asked = api(aws, request.api_url, request.stack)
    user, database = request.user, name
    if user is None:
        one = choose(asked.databases(), name)
        database, user = one["arn"], only_user(one)
        progress(f"user {user}: the one that you may be on {one['identifier']}")
    answer = asked.token(database, user, request.reason)
    if answer["user"] != user or not _is_asked_for(answer, name, asked.region, aws.account()):
        raise ExecutionFailed(
            f"asked for {user} on {name}, the API answers with {visible(answer['user'])} on "
            f"{visible(answer['database'])} at {visible(answer['host'])}; rdsiam config says where its address is from"
        )
    if endpoint is not None and is_rds(answer["host"]) and answer["host"].lower() != endpoint:
        raise Usage(
            f"the API gives tokens for {visible(answer['host'])}, not for {endpoint}: name the database by its "
            "identifier, or sign with --local"
        )
    if answer["engine"] not in FAMILIES:
        raise ExecutionFailed(f"the API names an engine that this version does not know: {visible(answer['engine'])}")
    return Login(
        token=answer["token"],
        host=answer["host"],
        port=answer["port"],
        user=answer["user"],
        family=FAMILIES[answer["engine"]],
        database=answer["database"],
        expires=str(answer.get("expires_at") or ""),
    )


def _is_asked_for(answer: Mapping[str, Any], name: str, region: str, account: str | None) -> bool:
    """Tell whether an answer is about the database that was named.

    :param name: its ARN, which says all, or its identifier.
    :param region: of the API, which knows the databases of its own region only.
    :param account: the caller's, which is the API's; None if that is not known without asking AWS.
    """
    if is_arn(name):
        return bool(answer["database"] == name)
    try:
        arn = Arn.parse(answer["database"])
    except ValueError:
        return False
    if (arn.service, arn.region) != ("rds", region) or (account is not None and arn.account != account):
        return False
    host = answer["host"]
    if is_rds(host) and region_of(host) != region:
        return False
    # A proxy's ARN doesn't have its name; its endpoint does.
    own: str = host.partition(".")[0] if arn.kind == "db-proxy" and is_rds(host) else arn.name
    return own == name


def choose(listed: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """Return the database of that identifier or ARN.

    :raises NotFound: there is none; names that are alike are told.
    :raises Usage: there are several.
    """
    found = [one for one in listed if name in (one.get("identifier"), one.get("arn"))]
    if len(found) > 1:
        raise Usage(f"{name} is ambiguous: name one by its ARN: {', '.join(sorted(str(one['arn']) for one in found))}")
    if not found:
        alike = get_close_matches(name, [str(one.get("identifier")) for one in listed])
        hint = f"; did you mean {' or '.join(alike)}?" if alike else "; rdsiam ls shows what you may log in to"
        raise NotFound(f"you may not log in to {name}, or it does not exist{hint}")
    return found[0]


def only_user(database: Mapping[str, Any]) -> str:
    """Return the one user that the caller may be.

    :raises Usage: there are several: they are listed.
    """
    users = [str(user) for user in database.get("users") or []]
    if not users:
        raise Denied(f"there is no user on {database.get('identifier')} that you may be")
    if len(users) > 1:
        raise Usage(f"say --user: on {database.get('identifier')} you may be {', '.join(map(visible, sorted(users)))}")
    return users[0]


def _signed_here(aws: Aws, request: LoginRequest, name: str, host: str | None) -> Login:
    if request.user is None:
        raise Usage("--local needs --user: only the API knows whom you may be")
    database = described(aws, name)
    endpoint, port = database.endpoint
    credentials, end = aws.credentials()
    at = datetime.now(UTC).replace(microsecond=0)
    expires = at + timedelta(seconds=LIFETIME)
    if end is not None and end < expires:
        expires = end
        if end - at < _SOON:
            progress(f"your credentials end at {times.text(end)}, and the token with them")
    if expires <= at:
        raise TryAgain("your credentials have ended: renew them, e.g. aws sso login")
    token = TokenSigner(credentials, database.region).token(host or endpoint, port, request.user, at)
    return Login(token, host or endpoint, port, request.user, database.family, database.arn, times.text(expires))
