"""From the name of a database to the database and its endpoint, as RDS describes them to the caller."""

import re
from contextlib import suppress
from dataclasses import replace
from typing import Any

from rdsiam.aws.rds import Database, Databases
from rdsiam.command.aws import Aws, database_arn, translate_errors
from rdsiam.command.errors import NotFound, Usage
from rdsiam.command.output import progress
from rdsiam.core.arn import is_arn, lower_identifier
from rdsiam.errors import DatabaseNotFound, NoSuchEndpoint
from rdsiam.tokens.database_endpoints import describe as describe_endpoints
from rdsiam.tokens.endpoints import follow, is_rds

BY_IDENTIFIER = "name the database by its identifier or ARN, and one of its endpoints with --endpoint"
_READERS = "the readers' endpoint"
_OF_PROXY = "a further endpoint of a proxy"
#: Endpoints that are not a database's own, by the second part of their names.
_OTHER_ENDPOINTS = {
    re.compile(r"cluster-ro-.*"): _READERS,
    re.compile(r"cluster-custom-.*"): "a custom endpoint",
    re.compile(r"endpoint"): _OF_PROXY,
}
#: Endpoints whose names don't contain what they belong to.
NAMELESS = {"a custom endpoint", _OF_PROXY}
#: Scheme and user before a host, and the port, database and options behind it, as connection strings have them.
_CONNECTION_STRING = re.compile(
    r"(?:[A-Za-z0-9+:.-]+://)?(?:[^@/]*@)?(?P<host>[A-Za-z0-9][^/:@?#]*)(?::[0-9]+)?(?:[/?#].*)?"
)


def describe(aws: Aws, name: str, own_endpoint: bool = False, rds: Any = None, host: str | None = None) -> Database:
    """Return the database of that identifier or ARN, as RDS describes it to the caller.

    :param own_endpoint: a member of a cluster is returned by its own endpoint, not as its cluster.
    :param rds: a client with time limits of its own.
    :param host: the endpoint that the identifier is from; a cluster, an instance and a proxy may have the same one.
    """
    rds = rds or aws.client("rds")
    arn = database_arn(aws, name, rds, "" if host is None else _database_of(host))
    try:
        with translate_errors(name):
            databases = Databases(rds, arn)
            return databases.replica(arn) if own_endpoint else databases.describe(arn)
    except DatabaseNotFound as error:
        raise NotFound(str(error)) from None


def describe_at(aws: Aws, name: str, host: str | None, endpoint: str | None = None, rds: Any = None) -> Database:
    """Return the database of that identifier or ARN with the endpoint that was named.

    :param host: the endpoint in place of the database's name; None if the database was named otherwise.
    :param endpoint: value of --endpoint; None for the database's own endpoint.
    :raises NoSuchEndpoint: the database has none of that name.
    :raises Usage: the host is no endpoint of that database.
    """
    rds = rds or aws.client("rds")
    if endpoint is not None:
        return _at_endpoint(rds, _owner(aws, describe(aws, name, own_endpoint=True, rds=rds), rds), endpoint)
    if host is not None and kind_of(host) in NAMELESS:
        return _at_endpoint(rds, describe(aws, _owner_of(rds, host), rds=rds, host=host), host)
    database = describe(aws, name, own_endpoint=True, rds=rds, host=host)
    if host is None or database.host is None or host == database.host:
        return database
    if host != _readers(database.host):
        raise Usage(f"{host} is no endpoint of {database.arn}, whose is {database.host}", BY_IDENTIFIER)
    # Which readers there are is known without a further permission.
    if all(is_arn(replica) for replica in database.replicas):
        return _at_endpoint(rds, database, host)
    return replace(database, host=host)


def _owner(aws: Aws, database: Database, rds: Any) -> Database:
    """Return the cluster of a member; any other database itself."""
    if database.kind == "instance" and database.cluster:
        return describe(aws, database.cluster, rds=rds)
    return database


def _owner_of(rds: Any, host: str) -> str:
    """Return the identifier of the cluster or proxy that has an endpoint whose name doesn't tell it.

    :raises NotFound: the caller's account has no such endpoint in this region.
    """
    name = host.partition(".")[0]
    owners: list[Any] = []
    with suppress(NotFound), translate_errors(host):
        if kind_of(host) == _OF_PROXY:
            described = rds.describe_db_proxy_endpoints(DBProxyEndpointName=name)["DBProxyEndpoints"]
            owners = [each["DBProxyName"] for each in described if each.get("Endpoint") == host]
        else:
            described = rds.describe_db_cluster_endpoints(DBClusterEndpointIdentifier=name)["DBClusterEndpoints"]
            owners = [each["DBClusterIdentifier"] for each in described if each.get("Endpoint") == host]
    if not owners:
        raise NotFound(f"no cluster and no proxy has the endpoint {host}", BY_IDENTIFIER)
    return str(owners[0])


def _at_endpoint(rds: Any, database: Database, name: str) -> Database:
    with translate_errors(database.identifier):
        endpoints = describe_endpoints(rds, database)
    try:
        endpoint = endpoints.choose(name)
    except NoSuchEndpoint as error:
        raise NoSuchEndpoint(f"{database.identifier}: {error.problem}", error.remedy) from None
    return replace(database, host=endpoint.host, port=endpoint.port)


def _readers(endpoint: str) -> str:
    """Return the readers' endpoint of the cluster that has this endpoint; of an instance its own endpoint."""
    return endpoint.replace(".cluster-", ".cluster-ro-", 1)


def kind_of(endpoint: str) -> str | None:
    """Return the kind of an endpoint that is not a database's own; None if it may be one."""
    label = endpoint.split(".")[1]
    return next((kind for pattern, kind in _OTHER_ENDPOINTS.items() if pattern.fullmatch(label)), None)


def _database_of(endpoint: str) -> str:
    """Return what an endpoint belongs to: DBCluster, DBProxy or DBInstance."""
    kind = endpoint.split(".")[1].partition("-")[0]
    return {"cluster": "DBCluster", "proxy": "DBProxy", "endpoint": "DBProxy"}.get(kind, "DBInstance")


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
