"""The life of a cluster: a server for each member, readers that follow the writer, and the cluster's endpoints.

Tokens are judged on the cluster's id. The data outlive the members.
"""

from __future__ import annotations

import itertools
import logging
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.databases.rds import events
from localcloud.databases.rds.custom_endpoints import CustomEndpoint
from localcloud.databases.rds.events import Event
from localcloud.databases.rds.lives import BACKING_UP, CREATING, STOPPING, Life, Site
from localcloud.databases.rds.names import port_at
from localcloud.databases.servers.forwarder import Forwarder
from localcloud.databases.servers.server import DatabaseServer, ServerAddress, ServerFailed
from localcloud.databases.token_verifier import Endpoint

logger = logging.getLogger(__name__)


@dataclass
class _Member:
    """A member with its server; `serving` is False while it restarts or is stopped."""

    resource: Any
    directory: Path
    server: DatabaseServer
    serving: bool = True


class ClusterLife(Life):
    """One Aurora or Multi-AZ cluster with its members; `server` is the writer's.

    :param password: the administrator's, for when the first server is made.
    """

    _upgrade_events = events.CLUSTER_UPGRADE
    _patched = events.CLUSTER_PATCHED

    def __init__(self, cluster: Any, password: str | None, site: Site) -> None:
        super().__init__(cluster, cluster.db_cluster_resource_id, site)
        self._password = password
        self._data: Path | None = None  # while there is no member
        self._running: dict[str, _Member] = {}
        self._numbers = itertools.count(1)
        cluster.url_identifier = site.names.identifier
        cluster.local_endpoints = {}
        self._forwarders: dict[str, Forwarder] = {}  # by name
        self._addresses: dict[str, str] = {}
        if self.has_server:
            # As on AWS the endpoints are known at once, though no server listens before the first member.
            self._add_name(cluster.endpoint)
            self._add_name(cluster.reader_endpoint)

    @property
    def servers(self) -> list[DatabaseServer]:
        """The servers of all members; the writer's is the first."""
        members = [member.server for member in self._running.values()]
        return sorted(members, key=lambda server: server is not self.server)

    def end(self) -> None:
        """Stop endpoints and servers; nothing is deleted."""
        super().end()
        for forwarder in self._forwarders.values():
            forwarder.stop()

    def create(self) -> None:
        """Become available, without a server yet."""
        self._stopping.wait(CREATING)
        self.resource.status = "available"
        events.publish(self.resource, events.CLUSTER_CREATED)
        logger.info("cluster available: %s", self.resource.resource_id)

    def join(self, member: Any) -> None:
        """Add a member with its server: the first is the writer, others follow it."""
        began = time.monotonic()
        member.port = self.resource.port
        endpoint: Endpoint = (self._site.names.instance(member.db_instance_identifier, member.region), member.port)
        if self.has_server:
            self._add(member)
        self._route()
        member.local_endpoint = {"Address": endpoint[0], "Port": endpoint[1]}
        self._stopping.wait(max(0.0, CREATING - (time.monotonic() - began)))
        member.status = "backing-up"
        events.publish(member, events.INSTANCE_CREATED)
        self._stopping.wait(BACKING_UP)
        member.status = "available"
        logger.info("member available: %s of %s at %s:%s", member.resource_id, self.resource.resource_id, *endpoint)

    def leave(self, member: Any, forget: Callable[[], None]) -> None:
        """Remove a member: a reader takes over from a writer; the data of the last member stay."""
        former = self._running.pop(member.dbi_resource_id, None)
        self._route()
        if former is not None:
            if former.server is self.server and self._running:
                self._fail_over_to(self._best_reader())
            former.server.stop()
            self._site.names.remove(former.server.address.addresses[0])
            if self._running:
                shutil.rmtree(former.directory, ignore_errors=True)
            else:
                self.server, self._data = None, former.directory
        forget()
        self._stopping.wait(STOPPING)
        events.publish(member, events.INSTANCE_DELETED)
        logger.info("member deleted: %s of %s", member.resource_id, self.resource.resource_id)

    def fail_over(self, target: Any) -> None:
        """Make a reader the writer; the former writer becomes a reader."""
        cluster = self.resource
        if target.is_cluster_writer or target not in cluster.members:
            events.publish(cluster, events.FAILOVER_FAILED)
        else:
            former = next(member for member in cluster.members if member.is_cluster_writer)
            former.status = "rebooting"
            events.publish(former, events.INSTANCE_SHUT_DOWN)
            self._exchange(former, target)
            self._stopping.wait(STOPPING)
            former.status = "available"
            events.publish(former, events.INSTANCE_RESTARTED)
        cluster.status = "available"

    def add_endpoint(self, endpoint: CustomEndpoint) -> None:
        """Add a custom endpoint, whose name is known at once."""
        endpoint.address = self._custom_name(endpoint.identifier)
        self._add_name(endpoint.address)
        self.resource.local_endpoints[endpoint.identifier] = endpoint
        self.endpoints_changed()

    def endpoints_changed(self) -> None:
        """Lead the custom endpoints to their present members."""
        self.later(self._route)

    def remove_endpoint(self, endpoint: CustomEndpoint) -> None:
        """Remove a custom endpoint."""
        self.later(self._remove_endpoint, endpoint)

    def reboot_member(self, member: Any) -> None:
        """Restart a member, and apply its pending changes."""
        self._restart(member)
        self.apply(member, dict(member.local_pending), None)

    def reboot(self) -> None:
        """Restart all members, and apply the cluster's pending changes."""
        self._bounce(self.resource)
        self._stopping.wait(STOPPING)
        self._all("available", events.INSTANCE_RESTARTED)
        pending = {name: value for name, value in self.resource.local_pending.items() if name != "MasterUserPassword"}
        self.apply(self.resource, pending, None)

    def stop(self) -> None:
        """Stop the servers until `start`."""
        self._serve(self._running.values(), False)
        for server in reversed(self.servers):
            server.stop()
        self._stopping.wait(STOPPING)
        self._all("stopped", events.INSTANCE_STOPPED)
        events.publish(self.resource, events.CLUSTER_STOPPED)
        logger.info("cluster stopped: %s", self.resource.resource_id)

    def start(self) -> None:
        """Start the servers again, at the same addresses."""
        self._bounce(self.resource)
        self._stopping.wait(STOPPING)
        self._all("available", events.INSTANCE_STARTED)
        events.publish(self.resource, events.CLUSTER_STARTED)
        logger.info("cluster started: %s", self.resource.resource_id)

    def delete(self, forget: Callable[[], None]) -> None:
        """Remove the data; `forget` takes the cluster out of Describe."""
        if self._data is not None:
            shutil.rmtree(self._data, ignore_errors=True)
        for host in list(self._forwarders):
            self._remove_name(host)
        self._stopping.wait(STOPPING)
        forget()
        events.publish(self.resource, events.CLUSTER_DELETED)
        logger.info("cluster deleted: %s", self.resource.resource_id)
        self._worker.shutdown(wait=False)

    def _add(self, resource: Any) -> DatabaseServer:
        """Start the server of a new member: with the cluster's data, or as a replica of the writer."""
        first, kept = self.server is None, self._data
        directory = kept if first and kept else self._site.root / f"{self._resource_id}-{next(self._numbers)}"
        password = self._password if first and not kept else None
        server = self._run(
            directory, self._member_address(resource), password, self.resource.database_name, self.server
        )
        self._running[resource.dbi_resource_id] = _Member(resource, directory, server)
        if first:
            self.server, self._data, self._password = server, None, None
        return server

    def _exchange(self, former: Any, target: Any) -> None:
        """Let a reader take over, and make the former writer's server anew, as a reader."""
        if not self.has_server:
            former.is_cluster_writer, target.is_cluster_writer = False, True
            return
        member = self._running[former.dbi_resource_id]
        self._serve([member], False)
        self._fail_over_to(self._running[target.dbi_resource_id])
        self._renew(member)

    def _fail_over_to(self, successor: _Member) -> None:
        """Let a reader take over from the writer, whose server stops; the other readers follow it."""
        former = self.server
        target = successor.resource.resource_id
        events.publish(self.resource, events.FAILOVER_STARTED, target=target)
        successor.server.take_over()
        self.server = successor.server
        for resource in self.resource.members:
            resource.is_cluster_writer = resource is successor.resource
        self._route()
        for member in self._running.values():
            if member.server not in (former, self.server):
                self._follow(member)
        events.publish(self.resource, events.FAILOVER_COMPLETED, target=target)
        logger.info("failover: %s is the writer of %s", target, self.resource.resource_id)

    def _follow(self, member: _Member) -> None:
        assert self.server is not None
        try:
            member.server.follow(self.server)
        except ServerFailed as error:
            logger.warning("%s is made anew, since it can't follow: %s", member.resource.resource_id, error)
            self._renew(member)

    def _renew(self, member: _Member) -> None:
        """Make a member's server anew, at the same address, as a replica of the writer."""
        self._serve([member], False)
        member.server.stop()
        shutil.rmtree(member.directory, ignore_errors=True)
        member.server = self._run(member.directory, member.server.address, None, None, self.server)
        self._serve([member], True)

    def _move_data(self, version: str) -> None:
        """Upgrade the writer, and make the readers anew."""
        members = list(self._running.values())
        self._serve(members, False)
        try:
            super()._move_data(version)
            for member in members:
                if member.server is not self.server:
                    self._renew(member)
        finally:
            self._serve(members, True)

    def _set_status(self, status: str) -> None:
        for member in self.resource.members:
            if member.status != "deleting":
                member.status = status
        super()._set_status(status)

    def _best_reader(self) -> _Member:
        """Return the reader with the lowest promotion tier."""
        readers = [member for member in self._running.values() if member.server is not self.server]
        return min(readers, key=lambda member: int(member.resource.promotion_tier))

    def _bounce(self, resource: Any) -> None:
        members = self._members_of(resource)
        self._serve(members, False)
        super()._bounce(resource)
        self._serve(members, True)

    def _servers_of(self, resource: Any) -> list[DatabaseServer]:
        servers = [member.server for member in self._members_of(resource)]
        return [server for server in self.servers if server in servers]

    def _members_of(self, resource: Any) -> list[_Member]:
        """Return the member of this instance; all members for the cluster."""
        return [member for member in self._running.values() if resource in (member.resource, self.resource)]

    def _serve(self, members: Iterable[_Member], serving: bool) -> None:
        for member in members:
            member.serving = serving
        self._route()

    def _route(self) -> None:
        """Lead the endpoints to the writer, to the readers in turn or else the writer, and to their members."""
        if not self.has_server:
            return
        cluster = self.resource
        serving = [member for member in self._running.values() if member.serving]
        writers = [member.server.address.socket for member in serving if member.server is self.server]
        readers = [member.server.address.socket for member in serving if member.server is not self.server]
        self._forwarders[cluster.endpoint].lead_to(writers)
        self._forwarders[cluster.reader_endpoint].lead_to(readers or writers)
        for endpoint in list(cluster.local_endpoints.values()):
            members = [each for each in serving if endpoint.leads_to(each.resource, each.server is self.server)]
            self._forwarders[endpoint.address].lead_to([each.server.address.socket for each in members])

    def _endpoints(self, socket: tuple[str, int]) -> list[Endpoint]:
        cluster = [
            (host, self.resource.port)
            for host, endpoint in list(self._forwarders.items())
            if socket in endpoint.targets
        ]
        return [*super()._endpoints(socket), *cluster]

    def _add_name(self, host: str) -> None:
        """Give an endpoint of the cluster an address, and have it lead nowhere yet."""
        address = self._site.names.add(host)
        if not self._forwarders:
            self.resource.port = port_at(address, int(self.resource.port))
        self._addresses[host], self._forwarders[host] = address, Forwarder((address, int(self.resource.port)))

    def _remove_name(self, host: str) -> None:
        self._forwarders.pop(host).stop()
        self._site.names.remove(self._addresses.pop(host))

    def _remove_endpoint(self, endpoint: CustomEndpoint) -> None:
        if self.resource.local_endpoints.pop(endpoint.identifier, None) is not None:
            self._remove_name(endpoint.address)

    def _custom_name(self, identifier: str) -> str:
        return self._site.names.other("cluster-custom", identifier, self.resource.region)

    def _member_address(self, member: Any) -> ServerAddress:
        """Return the address of a new member; the endpoints of the cluster are in its certificate."""
        cluster = self.resource
        return self._claim(member, cluster.endpoint, cluster.reader_endpoint, self._custom_name("*"))

    def _all(self, status: str, happened: Event) -> None:
        for member in self.resource.members:
            if member.status != "deleting":
                member.status = status
                events.publish(member, happened)
        self.resource.status = status
