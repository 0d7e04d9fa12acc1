"""The endpoints of a database, as RDS describes them: writer, reader, custom ones, instances, and those of a proxy."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from rdsiam.errors import DatabaseNotFound, NoSuchEndpoint

__all__ = [
    "NOTHING_DESCRIBED",
    "WRITER",
    "DatabaseEndpoints",
    "DatabaseKind",
    "Endpoint",
    "FleetEndpoints",
    "describe",
    "describe_all",
    "look_up",
]

DatabaseKind = Literal["instance", "cluster", "proxy"]
EndpointKind = Literal["writer", "reader", "custom", "instance", "proxy"]
#: The endpoint of a database if none is named; of a proxy its own.
WRITER = "writer"
READER = "reader"
#: Statuses in which an endpoint leads to a database.
_USABLE = ("available", "modifying")
_REPLICAS = (
    "the read replicas of an RDS instance are databases of their own, with their own resource ids: name the replica as "
    "the database"
)


class Described(Protocol):
    """The facts about a database that its endpoints depend on."""

    @property
    def kind(self) -> DatabaseKind: ...
    @property
    def identifier(self) -> str: ...
    @property
    def engine(self) -> str: ...
    @property
    def resource_id(self) -> str: ...
    @property
    def host(self) -> str | None: ...
    @property
    def port(self) -> int | None: ...
    @property
    def cluster(self) -> str | None: ...


class FoundDatabase(NamedTuple):
    """A database that was found by its identifier.

    :ivar cluster: of an instance that is a member of one.
    """

    kind: DatabaseKind
    identifier: str
    engine: str
    resource_id: str
    host: str | None
    port: int | None
    cluster: str | None = None


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of a database. A token is valid for its host and port only.

    `name` is the value of `endpoint` in requests: `writer`, `reader`, or the identifier of a custom endpoint, of an
    instance, or of a further endpoint of a proxy.
    """

    name: str
    kind: EndpointKind
    host: str
    port: int


class DatabaseEndpoints(NamedTuple):
    """All endpoints of one database that lead to it: writer and reader first, then by kind and name.

    :ivar own: identifier of the instance, cluster or proxy.
    :ivar cluster: of an instance that is a member of one.
    """

    kind: DatabaseKind
    own: str
    listed: tuple[Endpoint, ...]
    cluster: str | None = None

    def choose(self, name: str) -> Endpoint:
        """Return the endpoint of that name or host name; the first one if several have the name.

        :raises NoSuchEndpoint: there is none; the message names the existing ones and never repeats the request.
        """
        wanted = name.lower().rstrip(".")
        for attribute in ("name", "host"):
            for endpoint in self.listed:
                if str(getattr(endpoint, attribute)).lower() == wanted:
                    return endpoint
        if self.kind == "instance" and wanted == self.own.lower():
            return self.choose(WRITER)
        raise self._missing(wanted)

    def _missing(self, wanted: str) -> NoSuchEndpoint:
        existing = f"it has {_enumerated([endpoint.name for endpoint in self.listed])}"
        reader = wanted == READER or ".cluster-ro-" in wanted
        if self.cluster is not None:
            problem = f"a member of the cluster {self.cluster} has one endpoint, writer, which is its own"
            return NoSuchEndpoint(problem, f"name the cluster {self.cluster} as the database")
        if self.kind == "instance":
            return NoSuchEndpoint("an RDS instance has one endpoint, writer", _REPLICAS)
        if self.kind == "proxy" and reader:
            return NoSuchEndpoint(
                f"the proxy has no read-only endpoint, or several; {existing}", "name the endpoint of the proxy"
            )
        return NoSuchEndpoint(f"the {self.kind} has no such endpoint in use; {existing}", "name one of these")


class FleetEndpoints(NamedTuple):
    """Endpoints of many databases.

    :ivar clusters: resource id → endpoints.
    :ivar proxies: name of a proxy → endpoints; RDS describes them without their ports.
    """

    clusters: Mapping[str, tuple[Endpoint, ...]]
    proxies: Mapping[str, tuple[Mapping[str, Any], ...]]

    def of(self, database: Described) -> DatabaseEndpoints:
        """Return the endpoints of a database; its own one if no other is described."""
        own: tuple[Endpoint, ...] = (
            () if database.host is None or database.port is None else (_writer(database.host, database.port),)
        )
        listed = own
        if database.kind == "cluster":
            listed = self.clusters.get(database.resource_id, own)
        if database.kind == "proxy" and database.port is not None:
            listed = (*own, *_of_proxy(self.proxies.get(database.identifier, ()), database.port))
        cluster = database.cluster if database.kind == "instance" else None
        return DatabaseEndpoints(database.kind, database.identifier, listed, cluster or None)


#: Nothing is described, so every database has its own endpoint only.
NOTHING_DESCRIBED = FleetEndpoints({}, {})


def look_up(rds: Any, identifier: str) -> FoundDatabase:
    """Return the cluster, instance or proxy of that identifier; a cluster's member is an instance.

    :param rds: client of RDS; its errors are raised.
    :raises DatabaseNotFound: there is none.
    """
    missing = rds.exceptions
    wanted = identifier.lower()
    if not wanted:
        raise DatabaseNotFound("the name of the database is empty")
    # Each answer is compared with the name: RDS may take one that it can't read for all databases.
    with suppress(missing.DBClusterNotFoundFault):
        for cluster in rds.describe_db_clusters(DBClusterIdentifier=wanted)["DBClusters"]:
            name, resource_id = cluster["DBClusterIdentifier"], cluster["DbClusterResourceId"]
            if wanted in (name.lower(), cluster["DBClusterArn"].lower()):
                host, port = cluster.get("Endpoint"), cluster.get("Port")
                return FoundDatabase("cluster", name, cluster["Engine"], resource_id, host, port)
    with suppress(missing.DBInstanceNotFoundFault):
        for instance in rds.describe_db_instances(DBInstanceIdentifier=wanted)["DBInstances"]:
            name, address = instance["DBInstanceIdentifier"], instance.get("Endpoint") or {}
            if wanted in (name.lower(), instance["DBInstanceArn"].lower()):
                host, port = address.get("Address"), address.get("Port")
                resource_id, cluster = instance["DbiResourceId"], instance.get("DBClusterIdentifier")
                return FoundDatabase("instance", name, instance["Engine"], resource_id, host, port, cluster)
    with suppress(missing.DBProxyNotFoundFault):
        for proxy in rds.describe_db_proxies(DBProxyName=identifier)["DBProxies"]:
            name = proxy["DBProxyName"]
            if wanted == name.lower():
                port = 3306 if proxy["EngineFamily"] == "MYSQL" else 5432
                return FoundDatabase("proxy", name, "", "", proxy.get("Endpoint"), port)
    raise DatabaseNotFound(f"no instance, cluster or proxy is named {identifier} in region {rds.meta.region_name}")


def describe(rds: Any, database: Described) -> DatabaseEndpoints:
    """Return the endpoints of one database as RDS describes them now. An instance has one, so RDS isn't asked.

    :param rds: client of RDS; its errors are raised.
    """
    if database.kind == "cluster":
        return _clusters(rds, database.identifier, database.engine).of(database)
    if database.kind == "proxy":
        return FleetEndpoints({}, _proxies(rds, database.identifier)).of(database)
    return NOTHING_DESCRIBED.of(database)


def describe_all(rds: Any) -> FleetEndpoints:
    """Return the endpoints of all clusters and proxies of the account and region.

    :param rds: client of RDS; its errors are raised.
    """
    return FleetEndpoints(_clusters(rds).clusters, _proxies(rds))


def _clusters(rds: Any, identifier: str = "", engine: str = "aurora") -> FleetEndpoints:
    """Describe one cluster, or all.

    :param engine: of that cluster: RDS knows custom endpoints of Aurora only.
    """
    one = {"DBClusterIdentifier": identifier} if identifier else {}
    members: dict[str, list[Mapping[str, Any]]] = {}
    members_of = {"Filters": [{"Name": "db-cluster-id", "Values": [identifier]}]} if identifier else {}
    for instance in _pages(rds.get_paginator("describe_db_instances"), "DBInstances", **members_of):
        if instance.get("DBClusterIdentifier") and (instance.get("Endpoint") or {}).get("Address"):
            members.setdefault(instance["DBClusterIdentifier"], []).append(instance)
    custom: dict[str, list[Mapping[str, Any]]] = {}
    if engine.startswith("aurora"):
        for endpoint in _pages(rds.get_paginator("describe_db_cluster_endpoints"), "DBClusterEndpoints", **one):
            if endpoint.get("EndpointType") == "CUSTOM":
                custom.setdefault(endpoint["DBClusterIdentifier"], []).append(endpoint)
    found = {}
    for cluster in _pages(rds.get_paginator("describe_db_clusters"), "DBClusters", **one):
        name = cluster["DBClusterIdentifier"]
        if cluster.get("Port"):
            found[cluster["DbClusterResourceId"]] = tuple(
                _of_cluster(cluster, members.get(name, ()), custom.get(name, ()))
            )
    return FleetEndpoints(found, {})


def _of_cluster(
    cluster: Mapping[str, Any], instances: Iterable[Mapping[str, Any]], custom: Iterable[Mapping[str, Any]]
) -> Iterator[Endpoint]:
    """Yield a cluster's endpoints.

    A secondary cluster has no writer. The reader endpoint leads to the writer while there is no reader.
    """
    port = int(cluster["Port"])
    members = cluster.get("DBClusterMembers") or []
    writers = {member["DBInstanceIdentifier"] for member in members if member.get("IsClusterWriter")}
    existing = sorted(instances, key=lambda instance: str(instance["DBInstanceIdentifier"]))
    if writers and cluster.get("Endpoint"):
        yield _writer(cluster["Endpoint"], port)
    if cluster.get("ReaderEndpoint") and existing:
        yield Endpoint(READER, "reader", cluster["ReaderEndpoint"], port)
    for endpoint in sorted(custom, key=lambda endpoint: str(endpoint["DBClusterEndpointIdentifier"])):
        if endpoint.get("Endpoint") and endpoint.get("Status") in _USABLE:
            yield Endpoint(endpoint["DBClusterEndpointIdentifier"], "custom", endpoint["Endpoint"], port)
    for instance in existing:
        address = instance["Endpoint"]
        yield Endpoint(
            instance["DBInstanceIdentifier"], "instance", address["Address"], int(address.get("Port") or port)
        )


def _proxies(rds: Any, name: str = "") -> Mapping[str, tuple[Mapping[str, Any], ...]]:
    """Return the further endpoints in use by name of the proxy: of one proxy, or of all."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    one = {"DBProxyName": name} if name else {}
    for endpoint in _pages(rds.get_paginator("describe_db_proxy_endpoints"), "DBProxyEndpoints", **one):
        if not endpoint.get("IsDefault") and endpoint.get("Endpoint") and endpoint.get("Status") in _USABLE:
            found.setdefault(endpoint["DBProxyName"], []).append(endpoint)
    return {proxy: tuple(endpoints) for proxy, endpoints in found.items()}


def _of_proxy(further: Iterable[Mapping[str, Any]], port: int) -> Iterator[Endpoint]:
    """Yield a proxy's further endpoints. Its only read-only one is its reader endpoint too."""
    endpoints = sorted(further, key=lambda endpoint: str(endpoint["DBProxyEndpointName"]))
    readers = [endpoint for endpoint in endpoints if endpoint.get("TargetRole") == "READ_ONLY"]
    if len(readers) == 1:
        yield Endpoint(READER, "reader", readers[0]["Endpoint"], port)
    for endpoint in endpoints:
        yield Endpoint(endpoint["DBProxyEndpointName"], "proxy", endpoint["Endpoint"], port)


def _writer(host: str, port: int) -> Endpoint:
    return Endpoint(WRITER, "writer", host, port)


def _pages(paginator: Any, key: str, **query: Any) -> Iterator[Any]:
    for page in paginator.paginate(**query):
        yield from page[key]


def _enumerated(names: list[str]) -> str:
    """Return names as a part of a sentence."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names) or "none"
