"""The life of a cluster: one server for all its members, which come and go; tokens are judged on the cluster's id."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from localcloud.databases.rds import events
from localcloud.databases.rds.events import Event
from localcloud.databases.rds.lives import BACKING_UP, CREATING, STOPPING, Life, Site, new_port

logger = logging.getLogger(__name__)


class ClusterLife(Life):
    """One Aurora or Multi-AZ cluster with its members. The server starts with the first member, its data stay.

    :param password: the administrator's, for when the server is made.
    """

    def __init__(self, cluster: Any, password: str | None, site: Site) -> None:
        super().__init__(cluster, cluster.db_cluster_resource_id, site)
        self._password = password
        self._running = False
        if self.has_server:
            # As on AWS the endpoint is known at once, though no server listens before the first member.
            cluster.port = new_port()
            cluster.local_address = "localhost"

    def create(self) -> None:
        """Become available, without a server yet."""
        self._stopping.wait(CREATING)
        self.resource.status = "available"
        events.publish(self.resource, events.CLUSTER_CREATED)
        logger.info("cluster available: %s", self.resource.resource_id)

    def join(self, member: Any) -> None:
        """Add a member; the first member starts the server."""
        cluster, began = self.resource, time.monotonic()
        if self.has_server and not self._running:
            if self.server is None:
                self._open(cluster.port, self._password, cluster.database_name)
                self._password = None
            else:
                self._bounce()
            self._running = True
        member.port = cluster.port
        member.local_endpoint = {"Address": cluster.local_address or member.address, "Port": cluster.port}
        self._stopping.wait(max(0.0, CREATING - (time.monotonic() - began)))
        member.status = "backing-up"
        events.publish(member, events.INSTANCE_CREATED)
        self._stopping.wait(BACKING_UP)
        member.status = "available"
        logger.info("member available: %s of %s", member.resource_id, cluster.resource_id)

    def leave(self, member: Any, forget: Callable[[], None]) -> None:
        """Remove a member; the last member stops the server, whose data stay."""
        forget()
        if not self._members() and self.server is not None:
            self.server.stop()
            self._running = False
        self._stopping.wait(STOPPING)
        events.publish(member, events.INSTANCE_DELETED)
        logger.info("member deleted: %s of %s", member.resource_id, self.resource.resource_id)

    def reboot_member(self, member: Any) -> None:
        """Restart a member, and apply its pending changes; a reader restarts without the server."""
        if member.is_cluster_writer:
            self._restart(member)
        else:
            self._stopping.wait(STOPPING)
            member.status = "available"
            events.publish(member, events.INSTANCE_RESTARTED)
        self.apply(member, dict(member.local_pending), None)

    def reboot(self) -> None:
        """Restart all members, and apply the cluster's pending changes."""
        self._bounce()
        self._stopping.wait(STOPPING)
        self._all("available", events.INSTANCE_RESTARTED)
        pending = {name: value for name, value in self.resource.local_pending.items() if name != "MasterUserPassword"}
        self.apply(self.resource, pending, None)

    def stop(self) -> None:
        """Stop the server until `start`."""
        if self.server is not None:
            self.server.stop()
        self._running = False
        self._stopping.wait(STOPPING)
        self._all("stopped", events.INSTANCE_STOPPED)
        events.publish(self.resource, events.CLUSTER_STOPPED)
        logger.info("cluster stopped: %s", self.resource.resource_id)

    def start(self) -> None:
        """Start the server again, at the same port."""
        if self._members():
            self._bounce()
            self._running = True
        self._stopping.wait(STOPPING)
        self._all("available", events.INSTANCE_STARTED)
        events.publish(self.resource, events.CLUSTER_STARTED)
        logger.info("cluster started: %s", self.resource.resource_id)

    def delete(self, forget: Callable[[], None]) -> None:
        """Remove the server and its data; `forget` takes the cluster out of Describe."""
        self._remove()
        self._stopping.wait(STOPPING)
        forget()
        events.publish(self.resource, events.CLUSTER_DELETED)
        logger.info("cluster deleted: %s", self.resource.resource_id)
        self._worker.shutdown(wait=False)

    def _members(self) -> list[Any]:
        return [member for member in self.resource.members if member.status != "deleting"]

    def _all(self, status: str, happened: Event) -> None:
        for member in self._members():
            member.status = status
            events.publish(member, happened)
        self.resource.status = status
