"""The life of an instance that is no member of a cluster: a database of its own, a read replica, or a copy."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import Any

from localcloud.databases.rds import events
from localcloud.databases.rds.events import Event
from localcloud.databases.rds.lives import BACKING_UP, CREATING, STOPPING, Life, Site
from localcloud.databases.servers.endpoints import SharedEndpoint, SilentEndpoint
from localcloud.databases.servers.postgres import PostgresServer
from localcloud.databases.servers.server import ServerFailed, copy_template

logger = logging.getLogger(__name__)


class InstanceLife(Life):
    """One instance, from its creation to its deletion.

    :param replicas: finds the lives of its read replicas.
    """

    _upgrade_events = events.INSTANCE_UPGRADE
    _patched = events.INSTANCE_PATCHED

    def __init__(self, instance: Any, site: Site, replicas: Callable[[], list[InstanceLife]]) -> None:
        super().__init__(instance, instance.dbi_resource_id, site)
        self._replicas = replicas

    def create(self, password: str) -> None:
        """Become a new, empty database."""
        self._appear(
            lambda: self._open(self._claim(self.resource), password, self.resource.db_name), events.INSTANCE_CREATED
        )

    def share(self, source: Life | None) -> None:
        """Become one more endpoint of another database's server, or a silent endpoint if there is no such database."""

        def build() -> None:
            address, server = self._claim(self.resource), source and source.server
            if isinstance(server, PostgresServer):
                self.server = SharedEndpoint(address, server, self._verify(address))
            else:
                self.server = SilentEndpoint(address)
            self.server.start()

        self._appear(build, events.INSTANCE_CREATED)

    def follow(self, source: Life) -> None:
        """Become the read replica of another instance."""
        self._appear(
            lambda: self._open(self._claim(self.resource), None, None, source.server),
            events.INSTANCE_CREATED,
            events.REPLICATION_RESUMED,
        )

    def restore(self, data: Path, password: str | None, snapshot: str) -> None:
        """Take over a snapshot's data, and the given master password if there is one."""
        self._copied(lambda: copy_template(data, self._directory), password, events.RESTORED_FROM_SNAPSHOT, snapshot)

    def restore_in_time(self, source: Life, password: str | None) -> None:
        """Take over another instance's present data."""

        def copy() -> None:
            # On the source's thread, so that it does not stop or end meanwhile.
            server = source.server
            if server is None:
                raise RuntimeError(f"{source.resource.resource_id} has no data")
            source.later(server.copy_to, self._directory).result()

        self._copied(copy, password, events.RESTORED_IN_TIME, source.resource.resource_id)

    def snapshot(self, snapshot: Any) -> None:
        """Keep a copy of the present data."""
        instance, before = self.resource, self.resource.status
        if before == "available":
            instance.status = "backing-up"
        data = self._site.root / "snapshots" / snapshot.local_id
        if self.server is not None:
            self.server.copy_to(data)
            snapshot.local_data = data
        snapshot.status = "available"
        instance.status = before
        events.publish(snapshot, events.SNAPSHOT_CREATED)
        logger.info("snapshot taken: %s of %s", snapshot.resource_id, instance.resource_id)

    def renew(self, version: str) -> None:
        """Follow the source whose engine was upgraded, from a copy of its data."""
        if self.server is not None:
            self.server.renew()
        self._set_version(version)
        self.resource.status = "available"
        events.publish(self.resource, self._upgrade_events.finished)
        logger.info("replica upgraded: %s to %s", self.resource.resource_id, version)

    def promote(self) -> None:
        """Become a database of its own."""
        instance = self.resource
        instance.status = "modifying"
        if self.server is not None:
            self.server.promote()
        self._stopping.wait(STOPPING)
        instance.source_db_instance_identifier = None
        events.publish(instance, events.REPLICATION_ENDED)
        self._restart(instance)

    def reboot(self) -> None:
        """Restart, and apply the pending changes."""
        self._restart(self.resource)
        pending = {name: value for name, value in self.resource.local_pending.items() if name != "MasterUserPassword"}
        self.apply(self.resource, pending, None)

    def stop(self) -> None:
        """Stop the server until `start`."""
        if self.server is not None:
            self.server.stop()
        self._stopping.wait(STOPPING)
        self.resource.status = "stopped"
        events.publish(self.resource, events.INSTANCE_STOPPED)
        logger.info("database stopped: %s", self.resource.resource_id)

    def start(self) -> None:
        """Start the server again, at the same port."""
        self._bounce(self.resource)
        self._stopping.wait(STOPPING)
        self.resource.status = "available"
        events.publish(self.resource, events.INSTANCE_STARTED)
        logger.info("database started: %s", self.resource.resource_id)

    def delete(self, forget: Callable[[], None]) -> None:
        """Remove the server and its data; `forget` takes the instance out of Describe."""
        self._remove()
        forget()
        events.publish(self.resource, events.INSTANCE_DELETED)
        logger.info("database deleted: %s", self.resource.resource_id)
        self._worker.shutdown(wait=False)

    def _move_data(self, version: str) -> None:
        """Upgrade the server, then its replicas, as RDS does for PostgreSQL."""
        replicas = self._replicas()
        for replica in replicas:
            replica.resource.status = "upgrading"
            events.publish(replica.resource, events.REPLICA_WAITS_FOR_SOURCE)
        events.publish(self.resource, events.DOWNTIME_STARTED)
        try:
            super()._move_data(version)
        except ServerFailed:
            for replica in replicas:
                replica.resource.status = "available"
            raise
        if replicas:
            events.publish(self.resource, events.SOURCE_WAITS_FOR_REPLICAS)
        wait([replica.later(replica.renew, version) for replica in replicas])

    def _copied(self, copy: Callable[[], None], password: str | None, event: Event, source: str) -> None:
        def build() -> None:
            copy()
            self._open(self._claim(self.resource), None, None)
            if password is not None and self.server is not None:
                self.server.set_master_password(password)

        self._appear(build, event, source=source, target=self.resource.resource_id)

    def _appear(self, build: Callable[[], None], *happened: Event, **names: str) -> None:
        instance, began = self.resource, time.monotonic()
        if self.has_server:
            build()
            assert self.server is not None
            host, instance.port = self.server.address.host, self.server.address.port
        else:
            logger.info("%s: %s has no server here", instance.resource_id, instance.engine)
            host = self._site.names.instance(instance.db_instance_identifier, instance.region)  # it leads nowhere
        self._stopping.wait(max(0.0, CREATING - (time.monotonic() - began)))
        instance.local_endpoint = {"Address": host, "Port": instance.port}
        instance.status = "backing-up"
        for event in happened:
            events.publish(instance, event, **names)
        self._stopping.wait(BACKING_UP)
        instance.status = "available"
        logger.info("database available: %s at %s:%s", instance.resource_id, host, instance.port)
