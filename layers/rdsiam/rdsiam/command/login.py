"""From the name of a database to a login: the user, and a token from the API or signed here."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from rdsiam.aws.rds import FAMILIES, Family
from rdsiam.command import names, options
from rdsiam.command.api import ASSUME_A_ROLE, NOT_ALLOWED, Api
from rdsiam.command.aws import RENEW
from rdsiam.command.described import BY_IDENTIFIER, NAMELESS, describe_at, identifier_and_endpoint, kind_of
from rdsiam.command.errors import CommandError, Denied, ExecutionFailed, NotFound, TryAgain, Usage
from rdsiam.command.installation import Installation
from rdsiam.command.listed import LIST_ENDPOINTS, Listed, choose, find, only_user
from rdsiam.command.output import progress, visible
from rdsiam.core import times
from rdsiam.core.arn import Arn, is_arn
from rdsiam.core.similar import did_you_mean
from rdsiam.signer import LIFETIME, TokenSigner
from rdsiam.tokens.endpoints import is_rds, region_of

_SOON = timedelta(minutes=5)
_UNDESCRIBED = (
    "grant {} to your role, or sign for an endpoint that you know: rdsiam token --host HOST --port PORT --user USER"
)
#: Operations that tell endpoints, in the errors of callers who may describe the databases themselves.
_OF_ENDPOINTS = re.compile(r"\bDescribeDB(?:Cluster|Proxy)Endpoints\b")


@dataclass(frozen=True)
class LoginToken:
    """A token and the endpoint that accepts it.

    :ivar host: the endpoint that the token is signed for, and that the certificate must name.
    :ivar expires: expiry of the token, RFC 3339; empty if unknown.
    """

    token: str = field(repr=False)
    host: str
    port: int
    user: str
    family: Family
    database: str
    expires: str


@dataclass(frozen=True)
class LoginOptions:
    """Values of the options of every command that needs a token.

    :ivar endpoint: name or host name of an endpoint of the database; None for its writer's.
    """

    user: str | None
    local: bool
    reason: str | None
    endpoint: str | None = None


endpoint_option = click.option(
    "--endpoint",
    metavar="NAME",
    shell_complete=names.of_endpoints,
    help="Endpoint: writer (default), reader, or the name of an instance, a custom endpoint or a proxy's endpoint.",
)


def login_options(command: options.Command) -> options.Command:
    """Add the options of every command that needs a token; the command gets `login` and `installation`."""
    added: list[options.Decorator] = [
        click.option(
            "--user",
            "-u",
            metavar="USER",
            shell_complete=names.of_own_users,
            help="Database user. Default: the only one that you may be.",
        ),
        endpoint_option,
        click.option("--local", is_flag=True, help="Sign with your own credentials instead of asking the API."),
        click.option("--reason", metavar="TEXT", help="Why, if access.yaml requires a reason."),
        options.installation("api_url"),
    ]
    gathered = options.gather("login", ["user", "local", "reason", "endpoint"], lambda values: LoginOptions(**values))(
        command
    )
    return options.add(added, gathered)


def login_token(installation: Installation, database: str, login: LoginOptions) -> LoginToken:
    """Return a token for a database, from the API or signed here.

    :param database: identifier, ARN, endpoint or a CNAME of it.
    :raises Usage: no user is named, and there are several or none can be known; or a name is empty.
    """
    if login.user is not None and not login.user.strip():
        raise Usage("the name of the user is empty", "leave --user out to be the only user that you may be")
    name, host = identifier_and_endpoint(database)
    check_one_endpoint(database, host, login)
    return (_signed_here if login.local else _from_api)(installation, name, host, login)


def check_one_endpoint(database: str, host: str | None, login: LoginOptions) -> None:
    """Check that an endpoint is named once.

    :raises Usage: by the name of the database and by --endpoint; or the name is empty.
    """
    if login.endpoint is not None and not login.endpoint.strip():
        raise Usage("the name of the endpoint is empty", "leave --endpoint out for the writer's")
    if host is not None and login.endpoint is not None:
        raise Usage(f"{database} names an endpoint, and --endpoint names another", BY_IDENTIFIER)


def _from_api(installation: Installation, name: str, host: str | None, login: LoginOptions) -> LoginToken:
    api = installation.api
    if host is not None:
        _check_same(host, region_of(host), api.region)
    elif is_arn(name):
        _check_region(name, api.region)
    if login.user is not None and host is None and (login.endpoint is None or is_arn(name)):
        request = _Request(name, login.user, login.endpoint)
        try:
            answer = _ask(api, request, login.reason)
        except Denied as denied:
            if denied.code != NOT_ALLOWED or is_arn(name):
                raise
            databases = _own_list(api)
            listed = _listed_elsewhere(databases, name)
            if listed is None:
                raise _with_suggestion(denied, databases, name, login.user) from None
            request = _Request(listed.arn, login.user, listed.endpoint)
            answer = _ask(api, request, login.reason)
    else:
        request = _listed_request(api, name, host, login)
        answer = _ask(api, request, login.reason)
    # The name of the database is compared too, unless it names another endpoint.
    requested = {request.database} if request.endpoint else {request.database, name}
    account = installation.aws.account()
    if answer["user"] != request.user or not all(
        _is_requested(answer, each, api.region, account) for each in requested
    ):
        raise ExecutionFailed(
            f"asked for {request.user} on {name}, the API answers with {visible(answer['user'])} on "
            f"{visible(answer['database'])} at {visible(answer['host'])}",
            "see with rdsiam config where the API's address comes from",
        )
    if host is not None and answer["host"].lower() != host:
        raise Usage(f"the API gives tokens for {visible(answer['host'])}, not for {host}", BY_IDENTIFIER)
    if answer["engine"] not in FAMILIES:
        raise ExecutionFailed(f"the API names an engine that this version does not know: {visible(answer['engine'])}")
    return LoginToken(
        token=answer["token"],
        host=answer["host"],
        port=answer["port"],
        user=answer["user"],
        family=FAMILIES[answer["engine"]],
        database=answer["database"],
        expires=str(answer.get("expires_at") or ""),
    )


@dataclass(frozen=True)
class _Request:
    """A request for a token; the endpoint is None for the writer's."""

    database: str
    user: str
    endpoint: str | None


def _ask(api: Api, request: _Request, reason: str | None) -> dict[str, Any]:
    return api.token(request.database, request.user, reason, request.endpoint)


def _own_list(api: Api) -> list[dict[str, Any]]:
    """Return the databases that the caller may log in to; empty if the list can't be had: a denial says enough."""
    try:
        return api.databases()
    except CommandError:
        return []


def _with_suggestion(denied: Denied, databases: list[dict[str, Any]], name: str, user: str) -> Denied:
    """Return a denial with the database, or the user, of the caller's own list that was probably meant."""
    listed = find(databases, name)
    if listed is None:
        suggestion = did_you_mean(name, [str(database["identifier"]) for database in databases], 3)
    else:
        users = listed.database["users"]
        suggestion = "" if user in users else did_you_mean(user, users, 3)
    error = Denied(denied.problem, " ".join(filter(None, [suggestion, denied.remedy])))
    error.code = denied.code
    return error


def _listed_elsewhere(databases: list[dict[str, Any]], name: str) -> Listed | None:
    """Return the cluster, member or proxy of that identifier: the API itself takes identifiers of instances only.

    :raises Usage: several databases have that identifier.
    """
    listed = find(databases, name)
    instance = listed is not None and listed.endpoint is None and Arn.parse(listed.arn).kind == "db"
    return None if instance else listed


def _listed_request(api: Api, name: str, host: str | None, login: LoginOptions) -> _Request:
    """Return the request for the database and endpoint in the API's list that were named.

    A database that is not in the list is requested by its name if the user is named: the API may know why.

    :raises NotFound: the list has no such database or endpoint.
    """
    databases = api.databases()
    if not databases and login.user is None and (cause := api.without_role()):
        raise Denied(f"{name}: {cause}", ASSUME_A_ROLE)
    listed = find(databases, name if host is None else host)
    if listed is None and host is not None:
        if kind_of(host) in NAMELESS:
            raise NotFound(f"you may not log in to {host}, or it does not exist", LIST_ENDPOINTS)
        listed = find(databases, name)
        listed = None if listed is None else replace(listed, endpoint=host)
    if listed is None:
        if login.user is None:
            choose(databases, name)  # raises the error that suggests similar names
        return _Request(name, str(login.user), host or login.endpoint)
    user = login.user
    if user is None:
        user = only_user(listed.database)
        progress(f"user {user}: the only one that you may be on {listed.database['identifier']}")
    return _Request(listed.arn, user, login.endpoint or listed.endpoint)


def _check_region(arn: str, region: str) -> None:
    """Check that an ARN is of the API's region; whether it is an ARN of a database is the API's decision."""
    with suppress(ValueError):
        _check_same(arn, Arn.parse(arn).region, region)


def _check_same(name: str, its: str | None, region: str) -> None:
    if its != region:
        raise Usage(
            f"{name} is in region {its or 'none'}, the API's is {region}",
            "name the API of that region with --api-url, or the database in this region by its identifier",
        )


def _is_requested(answer: Mapping[str, Any], name: str, region: str, account: str | None) -> bool:
    """Tell whether an answer is about the requested database.

    :param name: ARN or identifier of the requested database.
    :param region: of the API, which knows the databases of its own region only.
    :param account: the caller's, which is the API's; None if the credentials don't name it.
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
    # The ARN of a proxy doesn't contain its name; its endpoint does.
    identifier: str = host.partition(".")[0] if arn.kind == "db-proxy" and is_rds(host) else arn.name
    return identifier.lower() == name.lower()


def _signed_here(installation: Installation, name: str, host: str | None, login: LoginOptions) -> LoginToken:
    if login.user is None:
        raise Usage("--local needs --user", "only the API knows which users you may be")
    try:
        database = describe_at(installation.aws, name, host, login.endpoint)
    except Denied as denied:
        operation = _OF_ENDPOINTS.search(denied.problem)
        missing = f"rds:{operation[0]}" if operation else "rds:DescribeDBClusters and rds:DescribeDBInstances"
        raise Denied(denied.problem, denied.remedy or _UNDESCRIBED.format(missing)) from None
    endpoint, port = database.endpoint
    credentials, expiry = installation.aws.credentials()
    at = datetime.now(UTC).replace(microsecond=0)
    expires = at + timedelta(seconds=LIFETIME)
    if expiry is not None and expiry < expires:
        expires = expiry
        if expiry - at < _SOON:
            progress(f"your credentials expire at {times.text(expiry)}, and the token with them")
    if expires <= at:
        raise TryAgain("your credentials have expired", RENEW)
    token = TokenSigner(credentials, database.region).token(endpoint, port, login.user, at)
    return LoginToken(token, endpoint, port, login.user, database.family, database.arn, times.text(expires))
