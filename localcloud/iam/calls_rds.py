"""Needs of RDS's calls. Tagged resources are looked up, as conditions may ask about their tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from moto.rds.models import rds_backends

from localcloud.core.web import Request
from localcloud.iam.actions import rules
from localcloud.iam.calls import Need, Parameters, Place, UnknownCall, all_resources, read_call, tags_context

# Kinds of resources, as their ARNs name them.
_DB, _CLUSTER, _SNAPSHOT, _PG, _CLUSTER_PG = "db", "cluster", "snapshot", "pg", "cluster-pg"
_OTHERS = (
    ("DBParameterGroupName", _PG),
    ("OptionGroupName", "og"),
    ("DBSubnetGroupName", "subgrp"),
    ("DBClusterParameterGroupName", _CLUSTER_PG),
)

Rule = Callable[[Place, str, Parameters], Iterable[Need]]


def rds_needs(request: Request, place: Place) -> list[Need]:
    """Return the needs of a call of RDS.

    :raises UnknownCall: it is not listed.
    """
    operation, parameters = read_call("rds", request)
    rule = _RULES.get(operation)
    if rule is None:
        raise UnknownCall(f"rds:{operation}")
    return list(rule(place, f"rds:{operation}", parameters))


def _resources(parameters: Mapping[str, str]) -> Rule:
    """Need the action on the resources that parameters name, by identifier or ARN.

    :param parameters: the kind of resource by parameter. Without a value, the first one stands for all of its kind, and
        the others are left out.
    """
    named = tuple(parameters.items())

    def rule(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
        (first, kind), *rest = named
        yield _need(place, action, kind, str(parameters.get(first) or "*"))
        for key, other in [*rest, *_OTHERS]:
            if key != first and key in parameters:
                yield _need(place, action, other, str(parameters[key]))

    return rule


def _need(place: Place, action: str, kind: str, name: str) -> Need:
    arn = name if name.startswith("arn:") else place.arn("rds", f"{kind}:{name}")
    resource = None if name == "*" else _find(place, arn)
    return Need(action, arn, {} if resource is None else tags_context(resource.tags))


def _tagged(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
    """Need the action on the resource whose ARN a call of tagging names."""
    yield _need(place, action, _DB, str(parameters["ResourceName"]))


def _proxy(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
    """Need the action on a proxy, whose ARN ends in an id; calls about targets also need it on the target group."""
    name = str(parameters.get("DBProxyName") or "*")
    proxy = rds_backends[place.account][place.region].db_proxies.get(name)
    ids = [place.arn("rds", f"db-proxy:{'*' if name == '*' else 'prx-' + name}")] if proxy is None else [proxy.arn]
    context = {} if proxy is None else tags_context(proxy.tags)
    if action in _ON_TARGETS and proxy is not None:
        ids += [group.arn for group in proxy.proxy_target_groups.values()]
    if action == "rds:RegisterDBProxyTargets":
        ids = ids[1:] or [place.arn("rds", "target-group:*")]
    for arn in ids:
        yield Need(action, arn, context)
    if action in _ON_TARGETS:
        for key, value in parameters.items():
            kind = {"DBInstanceIdentifiers": _DB, "DBClusterIdentifiers": _CLUSTER}.get(key.partition(".")[0])
            if kind == _DB or (kind and action != "rds:RegisterDBProxyTargets"):
                yield _need(place, action, kind, str(value))


def _proxy_endpoint(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
    """Need the action on the proxy that a call names, and on a further endpoint, whose ARN ends in an id."""
    name, proxies = parameters.get("DBProxyEndpointName"), rds_backends[place.account][place.region].db_proxies
    if "DBProxyName" in parameters or name is None:
        yield from _proxy(place, action, parameters)
    if name is not None:
        ids = [each.local_endpoints[name].resource_id for each in proxies.values() if name in each.local_endpoints]
        number = ids[0] if ids else f"prx-endpoint-{name}"
        yield Need(action, place.arn("rds", f"db-proxy-endpoint:{number}"), {})


_ON_TARGETS = {"rds:RegisterDBProxyTargets", "rds:DeregisterDBProxyTargets", "rds:DescribeDBProxyTargets"}


def _find(place: Place, arn: str) -> Any | None:
    backend = rds_backends[place.account][place.region]
    kind, _, name = arn.split(":", 5)[-1].partition(":")
    resources = {
        _DB: backend.databases,
        _CLUSTER: backend.clusters,
        _SNAPSHOT: backend.database_snapshots,
        "cluster-snapshot": backend.cluster_snapshots,
        "db-proxy": {proxy.resource_id: proxy for proxy in backend.db_proxies.values()},
    }.get(kind, {})
    return resources.get(name)


_RULES: dict[str, Rule] = rules(
    "rds",
    {
        "all_resources": lambda: all_resources,
        "resources": _resources,
        "proxy": lambda: _proxy,
        "proxy_endpoint": lambda: _proxy_endpoint,
        "tagged_resource": lambda: _tagged,
    },
)
