"""Patches of moto's RDS proxies. A proxy is in Describe only: no server listens at its endpoint."""

from __future__ import annotations

import copy
from types import MappingProxyType
from typing import Any, ClassVar

from moto.core.responses import ActionResult
from moto.rds.exceptions import DBProxyNotFoundFault, RDSClientError

from localcloud.databases.rds import events
from localcloud.databases.rds.fleet import Fleet
from localcloud.moto_patches.patch import Patch, adds, replaces
from localcloud.moto_patches.rds import refusals

_SCHEMES = ("NONE", "IAM_AUTH")


class Proxies(Patch):
    """The model of a proxy."""

    target = "moto.rds.models.DBProxy"
    new_values: ClassVar = {
        "default_auth_scheme": "NONE",
        "local_endpoints": MappingProxyType({}),  # the further ones, by name; each new proxy has its own
    }


class Targets(Patch):
    """The model of a proxy's target.

    AWS: a target can be reached from the beginning, as far as Describe shows. moto: after the second Describe.
    """

    target = "moto.rds.models.DBProxyTarget"
    changed_values: ClassVar = {"registering": lambda _: property(lambda _: False)}
    new_values: ClassVar = {"tracked_cluster_id": None}


class ProxyResponses(Patch):
    """Calls about proxies whose parameters moto drops or doesn't know."""

    target = "moto.rds.responses.RDSResponse"

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    @replaces
    def create_db_proxy(self, _: Any, response: Any) -> ActionResult:
        """Create a proxy, with or without secrets."""
        params = response.params
        # AWS: end-to-end IAM authentication, which needs no secrets. moto: does not know it.
        scheme, auth = params.get("DefaultAuthScheme") or "NONE", list(params.get("Auth") or [])
        if scheme not in _SCHEMES:
            raise RDSClientError("InvalidParameterValue", f"DefaultAuthScheme must be one of {', '.join(_SCHEMES)}.")
        if scheme == "NONE" and not auth:
            raise refusals.invalid_combination("Auth is required unless DefaultAuthScheme is IAM_AUTH.")
        proxy = response.backend.create_db_proxy(
            db_proxy_name=params["DBProxyName"],
            engine_family=params["EngineFamily"],
            auth=[_auth(each) for each in auth],
            role_arn=params["RoleArn"],
            vpc_subnet_ids=params["VpcSubnetIds"],
            vpc_security_group_ids=params.get("VpcSecurityGroupIds"),
            require_tls=bool(params.get("RequireTLS")),
            idle_client_timeout=params.get("IdleClientTimeout"),
            debug_logging=params.get("DebugLogging"),
            tags=params.get("Tags", []),
        )
        proxy.default_auth_scheme, proxy.local_endpoints = scheme, {}
        proxy.url_identifier = self._fleet.names.identifier
        proxy.endpoint = self._fleet.names.other("proxy", proxy.db_proxy_name, proxy.region)
        # AWS: a proxy takes minutes. moto: it is available at once.
        proxy.status = "creating"
        self._fleet.shortly(_created, proxy)
        return ActionResult({"DBProxy": proxy})

    @adds
    def modify_db_proxy(self, response: Any) -> ActionResult:
        """Modify a proxy."""
        # moto: does not know the call.
        params = response.params
        proxy = find_proxy(response.backend, params["DBProxyName"])
        scheme = params.get("DefaultAuthScheme") or proxy.default_auth_scheme
        if scheme not in _SCHEMES:
            raise RDSClientError("InvalidParameterValue", f"DefaultAuthScheme must be one of {', '.join(_SCHEMES)}.")
        proxy.default_auth_scheme = scheme
        if params.get("Auth") is not None:
            proxy.auth = [_auth(each) for each in params["Auth"]]
        if params.get("RequireTLS") is not None:
            proxy.require_tls = bool(params["RequireTLS"])
        proxy.status = "modifying"
        self._fleet.shortly(_modified, proxy)
        return ActionResult({"DBProxy": proxy})


class ProxyCalls(Patch):
    """Calls about proxies and their targets."""

    target = "moto.rds.models.RDSBackend"

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    @replaces
    def register_db_proxy_targets(
        self,
        original: Any,
        backend: Any,
        db_proxy_name: str,
        target_group_name: str,
        db_cluster_identifiers: Any,
        db_instance_identifiers: Any,
    ) -> Any:
        """Register targets that exist."""
        find_proxy(backend, db_proxy_name)
        for cluster in db_cluster_identifiers:
            backend.describe_db_clusters(cluster)
        for instance in db_instance_identifiers:
            backend.describe_db_instances(instance)
        return original(backend, db_proxy_name, target_group_name, db_cluster_identifiers, db_instance_identifiers)

    @replaces
    def deregister_db_proxy_targets(
        self, original: Any, backend: Any, db_proxy_name: str, *args: Any, **kwargs: Any
    ) -> None:
        """Deregister targets of a proxy that exists."""
        find_proxy(backend, db_proxy_name)
        original(backend, db_proxy_name, *args, **kwargs)

    @replaces
    def describe_db_proxy_targets(self, _: Any, backend: Any, proxy_name: str) -> list[Any]:
        """Return the targets of a proxy, and the members of its clusters."""
        targets = find_proxy(backend, proxy_name).proxy_target_groups["default"].targets
        return [each for target in targets for each in _as_described(backend, target)]

    @replaces
    def describe_db_proxy_target_groups(self, _: Any, backend: Any, proxy_name: str) -> list[Any]:
        """Return the target groups of a proxy."""
        return list(find_proxy(backend, proxy_name).proxy_target_groups.values())

    @replaces
    def delete_db_proxy(self, _: Any, backend: Any, proxy_name: str) -> Any:
        """Delete a proxy, which is in Describe for a while."""
        proxy = find_proxy(backend, proxy_name)
        proxy.status = "deleting"
        self._fleet.shortly(_deleted, proxy)
        return proxy

    @replaces
    def list_tags_for_resource(self, original: Any, backend: Any, arn: str) -> Any:
        """Return the tags of a resource."""
        # AWS: an error if there is no such proxy. moto: an answer without tags.
        if ":db-proxy:" in arn and all(proxy.arn != arn for proxy in backend.db_proxies.values()):
            raise DBProxyNotFoundFault(arn)
        return original(backend, arn)


def _created(proxy: Any) -> None:
    proxy.status = "available"
    events.publish(proxy, events.PROXY_CREATED, source=proxy.db_proxy_name)


def _modified(proxy: Any) -> None:
    proxy.status = "available"
    events.publish(proxy, events.PROXY_MODIFIED, source=proxy.db_proxy_name)


def _deleted(proxy: Any) -> None:
    proxy.backend.db_proxies.pop(proxy.db_proxy_name, None)
    events.publish(proxy, events.PROXY_DELETED, source=proxy.db_proxy_name)


def find_proxy(backend: Any, name: str) -> Any:
    """Return a proxy; AWS's error if there is none."""
    if name not in backend.db_proxies:
        raise DBProxyNotFoundFault(name)
    return backend.db_proxies[name]


def _auth(given: Any) -> dict[str, Any]:
    names = ("Description", "UserName", "AuthScheme", "SecretArn", "IAMAuth", "ClientPasswordAuthType")
    return {"IAMAuth": "DISABLED", **{name: given[name] for name in names if given.get(name) is not None}}


def _as_described(backend: Any, target: Any) -> list[Any]:
    """Return a target as Describe does. AWS: a cluster and each of its members. moto: the cluster alone."""
    shown = copy.copy(target)
    if target.type == "RDS_INSTANCE":
        instance = backend.databases.get(target.rds_resource_id)
        return [] if instance is None else [_instance(shown, instance, None)]
    cluster = backend.clusters.get(target.rds_resource_id)
    if cluster is None:
        return []
    shown.port = cluster.port
    members = [_instance(copy.copy(target), member, cluster.db_cluster_identifier) for member in cluster.members]
    return [shown, *members]


def _instance(target: Any, instance: Any, cluster: str | None) -> Any:
    endpoint = instance.local_endpoint or {}
    target.type, target.rds_resource_id = "RDS_INSTANCE", instance.db_instance_identifier
    target.endpoint, target.port = endpoint.get("Address"), endpoint.get("Port")
    target.tracked_cluster_id = cluster
    target.role = "READ_ONLY" if cluster and not instance.is_cluster_writer else "READ_WRITE"
    return target
