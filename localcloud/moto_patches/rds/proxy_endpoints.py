"""Patches of moto for the further endpoints of RDS proxies, which moto doesn't know. No server listens at them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from moto.core.responses import ActionResult
from moto.rds.exceptions import RDSClientError

from localcloud.databases.rds.fleet import Fleet
from localcloud.moto_patches.patch import Patch, adds
from localcloud.moto_patches.rds import pages
from localcloud.moto_patches.rds.proxies import find_proxy

_ROLES = ("READ_WRITE", "READ_ONLY")


@dataclass
class ProxyEndpoint:
    """A further endpoint of a proxy; its life is its proxy's.

    :ivar target_role: READ_WRITE, or READ_ONLY for the readers of the proxy's cluster.
    """

    name: str
    target_role: str
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    status: str = "creating"
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    resource_id: str = field(default_factory=lambda: f"prx-endpoint-{secrets.token_hex(9)[:17]}")

    def become_available(self) -> None:
        """Move the status on, unless the endpoint is being deleted."""
        if self.status in ("creating", "modifying"):
            self.status = "available"


class ProxyEndpointResponses(Patch):
    """Calls about further endpoints of proxies."""

    target = "moto.rds.responses.RDSResponse"

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    @adds
    def create_db_proxy_endpoint(self, response: Any) -> ActionResult:
        """Create a further endpoint of a proxy."""
        backend, params = response.backend, response.params
        proxy, name = find_proxy(backend, params["DBProxyName"]), params["DBProxyEndpointName"]
        backend._validate_db_identifier(name)
        if proxy.status != "available":
            raise RDSClientError("InvalidDBProxyStateFault", f"DB proxy {proxy.db_proxy_name} is {proxy.status}.")
        if any(name.lower() == each.name.lower() for _, each in _all(backend)):
            raise RDSClientError("DBProxyEndpointAlreadyExistsFault", f"DB proxy endpoint {name} already exists.")
        role = params.get("TargetRole") or "READ_WRITE"
        if role not in _ROLES:
            raise RDSClientError("InvalidParameterValue", f"TargetRole must be one of {', '.join(_ROLES)}.")
        endpoint = ProxyEndpoint(
            name,
            role,
            tuple(params["VpcSubnetIds"]),
            tuple(params.get("VpcSecurityGroupIds") or proxy.vpc_security_group_ids),
        )
        proxy.local_endpoints[name] = endpoint
        answer = _described(proxy, endpoint)
        self._fleet.shortly(endpoint.become_available)
        return ActionResult({"DBProxyEndpoint": answer})

    @adds
    def describe_db_proxy_endpoints(self, response: Any) -> ActionResult:
        """Describe the further endpoints, of one proxy or of all. Each proxy says its own first one."""
        params, backend = response.params, response.backend
        if params.get("DBProxyName") is not None:
            find_proxy(backend, params["DBProxyName"])
        described = [
            _described(proxy, endpoint)
            for proxy, endpoint in _all(backend)
            if params.get("DBProxyName") in (None, proxy.db_proxy_name)
            and params.get("DBProxyEndpointName") in (None, endpoint.name)
        ]
        if params.get("DBProxyEndpointName") is not None and not described:
            raise _not_found(params["DBProxyEndpointName"])
        return pages.page(params, "DBProxyEndpoints", described)

    @adds
    def modify_db_proxy_endpoint(self, response: Any) -> ActionResult:
        """Rename a further endpoint, or change its security groups."""
        params = response.params
        proxy, endpoint = _find(response.backend, params["DBProxyEndpointName"])
        new_name = params.get("NewDBProxyEndpointName")
        if new_name is not None:
            response.backend._validate_db_identifier(new_name)
            if any(new_name.lower() == each.name.lower() for _, each in _all(response.backend)):
                raise RDSClientError(
                    "DBProxyEndpointAlreadyExistsFault", f"DB proxy endpoint {new_name} already exists."
                )
            proxy.local_endpoints.pop(endpoint.name)
            endpoint.name = new_name
            proxy.local_endpoints[new_name] = endpoint
        if params.get("VpcSecurityGroupIds") is not None:
            endpoint.security_groups = tuple(params["VpcSecurityGroupIds"])
        endpoint.status = "modifying"
        answer = _described(proxy, endpoint)
        self._fleet.shortly(endpoint.become_available)
        return ActionResult({"DBProxyEndpoint": answer})

    @adds
    def delete_db_proxy_endpoint(self, response: Any) -> ActionResult:
        """Delete a further endpoint, which is in Describe for a while."""
        proxy, endpoint = _find(response.backend, response.params["DBProxyEndpointName"])
        endpoint.status = "deleting"
        answer = _described(proxy, endpoint)
        self._fleet.shortly(proxy.local_endpoints.pop, endpoint.name, None)
        return ActionResult({"DBProxyEndpoint": answer})


def _described(proxy: Any, endpoint: ProxyEndpoint) -> dict[str, Any]:
    return {
        "DBProxyEndpointName": endpoint.name,
        "DBProxyEndpointArn": f"arn:{proxy.partition}:rds:{proxy.region}:{proxy.account_id}:db-proxy-endpoint:"
        + endpoint.resource_id,
        "DBProxyName": proxy.db_proxy_name,
        "Status": endpoint.status,
        "VpcId": proxy.vpc_id,
        "VpcSecurityGroupIds": list(endpoint.security_groups),
        "VpcSubnetIds": list(endpoint.subnets),
        "Endpoint": f"{endpoint.name.lower()}.endpoint.proxy-{proxy.url_identifier}.{proxy.region}.rds.amazonaws.com",
        "CreatedDate": endpoint.created,
        "TargetRole": endpoint.target_role,
        "IsDefault": False,
    }


def _all(backend: Any) -> Iterator[tuple[Any, ProxyEndpoint]]:
    for proxy in backend.db_proxies.values():
        for endpoint in list(proxy.local_endpoints.values()):
            yield proxy, endpoint


def _find(backend: Any, name: str) -> tuple[Any, ProxyEndpoint]:
    for proxy, endpoint in _all(backend):
        if endpoint.name == name:
            return proxy, endpoint
    raise _not_found(name)


def _not_found(name: str) -> Exception:
    error: Exception = RDSClientError("DBProxyEndpointNotFoundFault", f"DB proxy endpoint {name} not found.")
    return error
