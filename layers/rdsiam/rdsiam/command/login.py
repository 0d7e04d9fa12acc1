"""From the name of a database to a login: the user, and a token from the API or signed here."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any

import click

from rdsiam.aws.rds import FAMILIES, Database, Databases, Family
from rdsiam.command import names, options
from rdsiam.command.api import ASSUME_A_ROLE
from rdsiam.command.aws import RENEW, Aws, database_arn, translate_errors
from rdsiam.command.errors import Denied, ExecutionFailed, NotFound, TryAgain, Usage
from rdsiam.command.installation import Installation
from rdsiam.command.output import progress, visible
from rdsiam.core import times
from rdsiam.core.arn import Arn, is_arn, lower_identifier
from rdsiam.errors import DatabaseNotFound
from rdsiam.signer import LIFETIME, TokenSigner
from rdsiam.tokens.endpoints import follow, is_rds, region_of

_SOON = timedelta(minutes=5)
_BY_IDENTIFIER = "name the database by its identifier or ARN; for another endpoint of a cluster, sign with --local"
_UNDESCRIBED = (
    "grant rds:DescribeDBClusters and rds:DescribeDBInstances to your role, or sign for an endpoint that you know: "
    "rdsiam token --host HOST --port PORT --user USER"
)
#: Endpoints that are not a database's own, by the second part of their names.
_OTHER_ENDPOINTS = {
    re.compile(r"cluster-ro-.*"): "the readers' endpoint",
    re.compile(r"cluster-custom-.*"): "a custom endpoint",
    re.compile(r"endpoint"): "a further endpoint of a proxy",
}
#: Endpoints whose names don't contain what they belong to.
_NAMELESS = {"a custom endpoint", "a further endpoint of a proxy"}
#: Scheme and user before a host, and the port, database and options behind it, as connection strings have them.
_CONNECTION_STRING = re.compile(
    r"(?:[A-Za-z0-9+:.-]+://)?(?:[^@/]*@)?(?P<host>[A-Za-z0-9][^/:@?#]*)(?::[0-9]+)?(?:[/?#].*)?"
)


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
    """Values of the options of every command that needs a token."""

    user: str | None
    local: bool
    reason: str | None


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
        click.option("--local", is_flag=True, help="Sign with your own credentials instead of asking the API."),
        click.option("--reason", metavar="TEXT", help="Why, if access.yaml requires a reason."),
        options.installation("api_url"),
    ]
    gathered = options.gather("login", ["user", "local", "reason"], lambda values: LoginOptions(**values))(command)
    return options.add(added, gathered)


def login_token(installation: Installation, database: str, login: LoginOptions) -> LoginToken:
    """Return a token for a database, from the API or signed here.

    :param database: identifier, ARN, endpoint or a CNAME of it.
    :raises Usage: no user is named, and there are several or none can be known; or a name is empty.
    """
    if login.user is not None and not login.user.strip():
        raise Usage("the name of the user is empty", "leave --user out to be the only user that you may be")
    name, endpoint = identifier_and_endpoint(database)
    return (_signed_here if login.local else _from_api)(installation, name, endpoint, login)


def describe(aws: Aws, name: str, own_endpoint: bool = False, rds: Any = None) -> Database:
    """Return the database of that identifier or ARN, as RDS describes it to the caller.

    :param own_endpoint: a member of a cluster is returned by its own endpoint, not as its cluster.
    :param rds: a client with time limits of its own.
    """
    rds = rds or aws.client("rds")
    arn = database_arn(aws, name, rds)
    try:
        with translate_errors(name):
            databases = Databases(rds, arn)
            return databases.replica(arn) if own_endpoint else databases.describe(arn)
    except DatabaseNotFound as error:
        raise NotFound(str(error)) from None


def describe_at(aws: Aws, name: str, endpoint: str | None, rds: Any = None) -> Database:
    """Return the database of that identifier or ARN with the endpoint that was named: its own, or its readers'.

    :param endpoint: None if the database was named otherwise.
    :raises Usage: it is no endpoint of that database.
    """
    if endpoint is not None and _kind(endpoint) in _NAMELESS:
        raise Usage(
            f"the name of {endpoint} doesn't tell its cluster or proxy", "rdsiam token --host signs for any endpoint"
        )
    database = describe(aws, name, own_endpoint=True, rds=rds)
    if endpoint is None or database.host is None:
        return database
    if endpoint not in (database.host, _readers(database.host)):
        raise Usage(f"{endpoint} is no endpoint of {database.arn}, whose is {database.host}", _BY_IDENTIFIER)
    return replace(database, host=endpoint)


def identifier_and_endpoint(name: str) -> tuple[str, str | None]:
    """Return identifier or ARN, and the endpoint if the name is an endpoint or a CNAME of one."""
    if is_arn(name):
        return lower_identifier(name), None
    if not name:
        raise Usage("the name of the database is empty", "give its identifier, ARN or endpoint; rdsiam ls lists them")
    within = _CONNECTION_STRING.fullmatch(name)
    if within is not None and within["host"] != name:  # which is not repeated: it may contain a password
        raise Usage("the database is named with a scheme, a user, a port or a path", f"name it {within['host']}")
    if "." not in name:
        return lower_identifier(name), None
    try:
        host = follow(name)
    except OSError as error:
        raise NotFound(f"{name} does not resolve: {error}") from None
    if not is_rds(host):
        raise NotFound(f"{name} is no RDS endpoint, and no CNAME of one", "name the database by its identifier")
    if host != name.lower().rstrip("."):
        progress(f"{name} leads to {host}")
    return host.partition(".")[0], host


def _from_api(installation: Installation, name: str, endpoint: str | None, login: LoginOptions) -> LoginToken:
    api = installation.api
    if endpoint is not None:
        _check_served(endpoint, api.region)
    elif is_arn(name):
        _check_region(name, api.region)
    user, database = login.user, name
    if user is None:
        databases = api.databases()
        if not databases and (cause := api.without_role()):
            raise Denied(f"{name}: {cause}", ASSUME_A_ROLE)
        listed = choose(databases, name)
        database, user = listed["arn"], only_user(listed)
        progress(f"user {user}: the only one that you may be on {listed['identifier']}")
    answer = api.token(database, user, login.reason)
    if answer["user"] != user or not _is_requested(answer, name, api.region, installation.aws.account()):
        raise ExecutionFailed(
            f"asked for {user} on {name}, the API answers with {visible(answer['user'])} on "
            f"{visible(answer['database'])} at {visible(answer['host'])}",
            "see with rdsiam config where the API's address comes from",
        )
    if endpoint is not None and answer["host"].lower() != endpoint:
        raise Usage(f"the API gives tokens for {visible(answer['host'])}, not for {endpoint}", _BY_IDENTIFIER)
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


def _check_served(endpoint: str, region: str) -> None:
    """Check that the API can have tokens for an endpoint, before it is asked and records a decision.

    :raises Usage: it has none; the token for another endpoint of the database would lead elsewhere.
    """
    _check_same(endpoint, region_of(endpoint), region)
    if (kind := _kind(endpoint)) is not None:
        served = "a proxy's own" if "proxy" in kind else "a cluster's writer"
        raise Usage(f"{endpoint} is {kind}, and the API gives tokens for {served}", _BY_IDENTIFIER)


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


def _kind(endpoint: str) -> str | None:
    """Return the kind of an endpoint that is not a database's own; None if it may be one."""
    label = endpoint.split(".")[1]
    return next((kind for pattern, kind in _OTHER_ENDPOINTS.items() if pattern.fullmatch(label)), None)


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


def _readers(endpoint: str) -> str:
    """Return the readers' endpoint of the cluster that has this endpoint; of an instance its own endpoint."""
    return endpoint.replace(".cluster-", ".cluster-ro-", 1)


def choose(databases: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """Return the database of that identifier or ARN.

    :raises NotFound: no database has that name; similar names are suggested.
    :raises Usage: several databases have that name.
    """
    matching = [
        database
        for database in databases
        if name == database.get("arn") or name.lower() == str(database.get("identifier")).lower()
    ]
    if len(matching) > 1:
        arns = ", ".join(sorted(str(database["arn"]) for database in matching))
        raise Usage(f"{name} is ambiguous", f"name the database by its ARN: {arns}")
    if not matching:
        similar = get_close_matches(name, [str(database.get("identifier")) for database in databases])
        remedy = f"did you mean {' or '.join(similar)}?" if similar else "rdsiam ls shows what you may log in to"
        raise NotFound(f"you may not log in to {name}, or it does not exist", remedy)
    return matching[0]


def only_user(database: Mapping[str, Any]) -> str:
    """Return the only user that the caller may be.

    :raises Usage: the caller may be several users; the message lists them.
    """
    users = sorted(str(user) for user in database.get("users") or [])
    identifier = database.get("identifier")
    if not users:
        raise Denied(f"you may be no user on {identifier}", "ask for an entry in access.yaml")
    if len(users) > 1:
        raise Usage(f"you may be several users on {identifier}", f"give --user: {', '.join(map(visible, users))}")
    return users[0]


def _signed_here(installation: Installation, name: str, host: str | None, login: LoginOptions) -> LoginToken:
    if login.user is None:
        raise Usage("--local needs --user", "only the API knows which users you may be")
    try:
        database = describe_at(installation.aws, name, host)
    except Denied as denied:
        raise Denied(denied.problem, denied.remedy or _UNDESCRIBED) from None
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
