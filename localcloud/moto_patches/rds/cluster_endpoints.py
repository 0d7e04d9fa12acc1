"""Patches of moto for the endpoints of clusters: writer, reader, and custom endpoints, which moto doesn't know."""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterable, Iterator
from typing import Any

from moto.core.responses import ActionResult
from moto.rds.exceptions import DBInstanceNotFoundError, RDSClientError

from localcloud.databases.rds.custom_endpoints import CustomEndpoint
from localcloud.databases.rds.fleet import Fleet
from localcloud.moto_patches.patch import Patch, adds
from localcloud.moto_patches.rds import pages, refusals

_TYPES = ("READER", "WRITER", "ANY")
_FILTERS = {
    "db-cluster-endpoint-type": "EndpointType",
    "db-cluster-endpoint-custom-type": "CustomEndpointType",
    "db-cluster-endpoint-id": "DBClusterEndpointIdentifier",
    "db-cluster-endpoint-status": "Status",
}


class ClusterEndpointResponses(Patch):
    """Calls about endpoints of clusters. AWS: they are Aurora's. moto: knows none of them."""

    target = "moto.rds.responses.RDSResponse"

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    @adds
    def create_db_cluster_endpoint(self, response: Any) -> ActionResult:
        """Create a custom endpoint of an Aurora cluster."""
        backend, params = response.backend, response.params
        cluster = backend.describe_db_clusters(params["DBClusterIdentifier"])[0]
        if not cluster.engine.startswith("aurora-"):
            raise refusals.invalid_combination("Custom endpoints are supported for Aurora DB clusters only.")
        refusals.check_cluster_available(cluster)
        name = params["DBClusterEndpointIdentifier"].lower()
        backend._validate_db_identifier(name)
        if any(each.identifier == name for _, each in _all(backend)):
            raise RDSClientError("DBClusterEndpointAlreadyExistsFault", f"DB cluster endpoint {name} already exists")
        endpoint = CustomEndpoint(
            identifier=name,
            resource_id=f"cluster-endpoint-{_random_id()}",
            kind=_type(params["EndpointType"]),
            static_members=_members(cluster, params.get("StaticMembers")),
            excluded_members=_members(cluster, params.get("ExcludedMembers")),
        )
        _check_members(endpoint)
        self._fleet.cluster(cluster).add_endpoint(endpoint)
        answer = _custom(cluster, endpoint)
        # AWS: an endpoint takes a minute. Here its status moves on as a proxy's does.
        self._fleet.shortly(endpoint.become_available)
        return ActionResult(answer)

    @adds
    def modify_db_cluster_endpoint(self, response: Any) -> ActionResult:
        """Change the type or the members of a custom endpoint."""
        params = response.params
        cluster, endpoint = _find(response.backend, params["DBClusterEndpointIdentifier"])
        if endpoint.status != "available":
            raise RDSClientError("InvalidDBClusterEndpointStateFault", f"{endpoint.identifier} is {endpoint.status}.")
        kind = _type(params.get("EndpointType") or endpoint.kind)
        static, excluded = endpoint.static_members, endpoint.excluded_members
        # A list of one kind takes the place of a list of the other.
        if params.get("StaticMembers") is not None:
            static, excluded = _members(cluster, params["StaticMembers"]), ()
        if params.get("ExcludedMembers") is not None:
            excluded = _members(cluster, params["ExcludedMembers"])
            static = () if params.get("StaticMembers") is None else static
        endpoint.kind, endpoint.static_members, endpoint.excluded_members = kind, static, excluded
        _check_members(endpoint)
        self._fleet.cluster(cluster).endpoints_changed()
        return ActionResult(_custom(cluster, endpoint))

    @adds
    def delete_db_cluster_endpoint(self, response: Any) -> ActionResult:
        """Delete a custom endpoint."""
        cluster, endpoint = _find(response.backend, response.params["DBClusterEndpointIdentifier"])
        endpoint.status = "deleting"
        answer = _custom(cluster, endpoint)
        self._fleet.cluster(cluster).remove_endpoint(endpoint)
        return ActionResult(answer)

    @adds
    def describe_db_cluster_endpoints(self, response: Any) -> ActionResult:
        """Describe the writer's, the reader's and the custom endpoints, of one cluster or of all."""
        params, backend = response.params, response.backend
        name = params.get("DBClusterIdentifier")
        # AWS: an empty list for a cluster that does not exist.
        clusters = [each for each in backend.clusters.values() if name is None or name.lower() in _names(each)]
        described = [each for cluster in clusters for each in _described(cluster)]
        wanted = params.get("DBClusterEndpointIdentifier")
        if wanted is not None:
            described = [each for each in described if each.get("DBClusterEndpointIdentifier") == wanted.lower()]
            if not described:
                raise _not_found(wanted)
        for given in params.get("Filters") or []:
            key = _FILTERS.get(given["Name"])
            if key is None:
                raise RDSClientError("InvalidParameterValue", f"Unrecognized filter name: {given['Name']}")
            values = [value.lower() for value in given["Values"]]
            described = [each for each in described if str(each.get(key, "")).lower() in values]
        return pages.page(params, "DBClusterEndpoints", described)


def _described(cluster: Any) -> Iterator[dict[str, Any]]:
    base = {"DBClusterIdentifier": cluster.db_cluster_identifier, "Status": _status(cluster)}
    yield base | {"Endpoint": cluster.endpoint, "EndpointType": "WRITER"}
    yield base | {"Endpoint": cluster.reader_endpoint, "EndpointType": "READER"}
    for endpoint in cluster.local_endpoints.values():
        yield _custom(cluster, endpoint)


def _custom(cluster: Any, endpoint: CustomEndpoint) -> dict[str, Any]:
    return {
        "DBClusterEndpointIdentifier": endpoint.identifier,
        "DBClusterIdentifier": cluster.db_cluster_identifier,
        "DBClusterEndpointResourceIdentifier": endpoint.resource_id,
        "DBClusterEndpointArn": endpoint.arn(cluster),
        "Endpoint": endpoint.address,
        "Status": endpoint.status,
        "EndpointType": "CUSTOM",
        "CustomEndpointType": endpoint.kind,
        "StaticMembers": list(endpoint.static_members),
        "ExcludedMembers": list(endpoint.excluded_members),
    }


def _status(cluster: Any) -> str:
    return "available" if cluster.status != "creating" else "creating"


def _names(cluster: Any) -> tuple[str, str]:
    return cluster.db_cluster_identifier.lower(), cluster.db_cluster_arn.lower()


def _all(backend: Any) -> Iterator[tuple[Any, CustomEndpoint]]:
    for cluster in backend.clusters.values():
        for endpoint in cluster.local_endpoints.values():
            yield cluster, endpoint


def _find(backend: Any, name: str) -> tuple[Any, CustomEndpoint]:
    for cluster, endpoint in _all(backend):
        if endpoint.identifier == name.lower():
            return cluster, endpoint
    raise _not_found(name)


def _not_found(name: str) -> Exception:
    error: Exception = RDSClientError("DBClusterEndpointNotFoundFault", f"DB cluster endpoint {name} not found")
    return error


def _random_id() -> str:
    return "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(26))


def _type(kind: str) -> str:
    if kind.upper() not in _TYPES:
        raise RDSClientError("InvalidParameterValue", f"EndpointType must be one of {', '.join(_TYPES)}.")
    return kind.upper()


def _members(cluster: Any, names: Iterable[str] | None) -> tuple[str, ...]:
    known = {member.db_instance_identifier for member in cluster.members}
    given = tuple(sorted({name.lower() for name in names or ()}))
    for name in given:
        if name not in known:
            raise DBInstanceNotFoundError(name)
    return given


def _check_members(endpoint: CustomEndpoint) -> None:
    if endpoint.static_members and endpoint.excluded_members:
        raise refusals.invalid_combination("StaticMembers and ExcludedMembers can't be specified together.")
