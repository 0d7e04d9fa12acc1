"""The life of one RDS resource: the jobs that instances and clusters share, done in order."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from localcloud.core.certificates import Authority
from localcloud.databases.rds import events, parameters, versions
from localcloud.databases.rds.events import Event
from localcloud.databases.rds.names import Names, port_at
from localcloud.databases.servers.mariadb import MariadbServer
from localcloud.databases.servers.mysql_choice import mysql_server
from localcloud.databases.servers.mysql_family import MysqlFamilyServer
from localcloud.databases.servers.postgres import PostgresServer
from localcloud.databases.servers.server import DatabaseServer, ServerAddress, ServerFailed, Verify
from localcloud.databases.token_verifier import Endpoint, TokenVerifier
from localcloud.settings import Administrator

logger = logging.getLogger(__name__)

#: Shortened: RDS takes minutes.
CREATING = BACKING_UP = 0.6
SWITCHING = 0.7
STOPPING = 0.3
POSTGRES = ("postgres", "aurora-postgresql")
MYSQL = ("mysql", "aurora-mysql")
_ENGINES = (*POSTGRES, "mariadb", *MYSQL)
#: Changes that may wait for the maintenance window: name in PendingModifiedValues, and attribute of moto's model.
DEFERRED = {
    "IAMDatabaseAuthenticationEnabled": "enable_iam_database_authentication",
    "DBInstanceClass": "db_instance_class",
    "AllocatedStorage": "allocated_storage",
    "EngineVersion": "engine_version",
    "MultiAZ": "multi_az",
    "StorageType": "storage_type",
    "Iops": "iops",
    "BackupRetentionPeriod": "backup_retention_period",
    "CACertificateIdentifier": "ca_certificate_identifier",
}


@dataclass(frozen=True)
class Site:
    """Settings that all servers share.

    :ivar root: the folder of their data; they run as `nobody`, who has to be able to enter it.
    :ivar administrator: the kind of administrator that PostgreSQL's servers have, if their version allows a choice.
    """

    root: Path
    authority: Authority
    verifier: TokenVerifier
    names: Names
    administrator: Administrator = "rds"


class Life:
    """One instance or cluster and its server; its jobs run in order, on a thread of their own.

    :param resource: moto's model, whose status and values the jobs move on.
    :param resource_id: the id in the resource of `rds-db:connect`, `db-…` or `cluster-…`.
    :ivar failure: the reason why its last job failed; empty if none did.
    """

    #: The events of a major upgrade, and the event of a minor one.
    _upgrade_events: ClassVar[events.UpgradeEvents]
    _patched: ClassVar[Event]

    def __init__(self, resource: Any, resource_id: str, site: Site) -> None:
        self.resource = resource
        self.server: DatabaseServer | None = None
        self.failure = ""
        self._resource_id = resource_id
        self._site = site
        self._directory = site.root / resource_id
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=resource.resource_id)
        self._stopping = threading.Event()

    def later(self, job: Callable[..., None], *arguments: object) -> Future[None]:
        """Do a job after the waiting jobs; an error is logged and shows in the status."""
        future = self._worker.submit(job, *arguments)
        future.add_done_callback(self._report)
        return future

    def end(self) -> None:
        """Stop the server and drop the waiting jobs; nothing is deleted."""
        self._stopping.set()
        self._worker.shutdown(wait=True, cancel_futures=True)
        for server in self.servers:
            server.stop()

    @property
    def servers(self) -> list[DatabaseServer]:
        """All its servers."""
        return [] if self.server is None else [self.server]

    def apply(self, resource: Any, changes: Mapping[str, Any], password: str | None) -> None:
        """Apply changes, named as in PendingModifiedValues; `resource` is the cluster, a member or the instance."""
        if password is not None:
            self._set_password(password)
        rest = dict(changes)
        iam = rest.pop("IAMDatabaseAuthenticationEnabled", None)
        if iam is not None:
            self._switch_iam(bool(iam))
        name = rest.pop("DBInstanceIdentifier", None)
        version = rest.pop("EngineVersion", None)
        if version is not None:
            self._upgrade(str(version))
        if rest:
            self._reshape(resource, rest)
        if name is not None:
            resource.status = "renaming"
            self._stopping.wait(SWITCHING)
            self._rename(resource, str(name))
            self._done(resource, "DBInstanceIdentifier")
            self._restart(resource)

    def set_master_iam(self, enabled: bool) -> None:
        """Make the master an IAM user, or a user with a password."""
        self.resource.status = "resetting-master-credentials"
        for server in self.servers:
            if isinstance(server, PostgresServer):
                server.set_master_iam(enabled)
        self.resource.status = "available"
        logger.info("master logs in by %s: %s", "token" if enabled else "password", self.resource.resource_id)

    def read_parameters(self) -> None:
        """Take over the values of the parameter group that need no reboot."""
        for server in self.servers:
            server.set_parameters(parameters.of(self.resource, dynamic_only=True))

    @property
    def has_server(self) -> bool:
        """Whether the engine has a server here."""
        return self.resource.engine in _ENGINES

    def _claim(self, resource: Any, *more_names: str) -> ServerAddress:
        """Return an address for the server of an instance or a member, with its name.

        :param more_names: further names in its certificate.
        """
        names = self._site.names
        host = names.instance(resource.db_instance_identifier, resource.region)
        address = names.add(host)
        port = port_at(address, int(resource.port))
        return ServerAddress(host, port, (address,), (host, *more_names))

    def _rename(self, resource: Any, name: str) -> None:
        """Give an instance another identifier, and so another endpoint."""
        host = self._site.names.instance(name, resource.region)
        for server in self._servers_of(resource):
            self._site.names.rename(server.address.addresses[0], host)
            server.address = replace(server.address, host=host, names=(host, *server.address.names[1:]))
        rename(resource, name)
        resource.local_endpoint = {"Address": host, "Port": resource.port}

    def _open(
        self, address: ServerAddress, password: str | None, database: str | None, source: DatabaseServer | None = None
    ) -> None:
        """Start the server, with the data in its directory if there are any."""
        self.server = self._run(self._directory, address, password, database, source)

    def _run(
        self,
        directory: Path,
        address: ServerAddress,
        password: str | None,
        database: str | None,
        source: DatabaseServer | None,
    ) -> DatabaseServer:
        """Return a new server that runs."""
        resource = self.resource
        server = self._server(directory, address, password, database, source)
        try:
            server.set_parameters(parameters.of(resource))
            server.start()
            server.set_iam(bool(resource.enable_iam_database_authentication))
            if resource.local_master_iam and isinstance(server, PostgresServer):
                server.set_master_iam(enabled=True)
        except BaseException:
            server.stop()
            raise
        logger.info("%s, %s %s, runs on %s", resource.resource_id, resource.engine, resource.engine_version,
                    server.product)  # fmt: skip
        return server

    def _server(
        self,
        directory: Path,
        address: ServerAddress,
        password: str | None,
        database: str | None,
        source: DatabaseServer | None,
    ) -> DatabaseServer:
        """Return the server of the engine and the version that were asked for, not started yet."""
        resource, site = self.resource, self._site
        if resource.engine in POSTGRES:
            assert source is None or isinstance(source, PostgresServer)
            return PostgresServer(
                directory, address, resource.master_username, password, database, site.authority, self._verify(address),
                source, str(resource.engine_version), site.administrator,
            )  # fmt: skip
        kind = MariadbServer if resource.engine == "mariadb" else mysql_server()
        if resource.engine in MYSQL and kind is MariadbServer:
            logger.info("%s: MariaDB stands in for MySQL", resource.resource_id)
        assert source is None or isinstance(source, MysqlFamilyServer)
        return kind(
            directory,
            address,
            resource.master_username,
            password,
            database,
            site.authority,
            self._verify(address),
            source,
        )

    def _verify(self, address: ServerAddress) -> Verify:
        account, socket = self.resource.account_id, address.socket

        def verify(user: str, token: str, encrypted: bool) -> None:
            self._site.verifier.verify(token, self._endpoints(socket), user, self._resource_id, account, encrypted)

        return verify

    def _endpoints(self, socket: tuple[str, int]) -> list[Endpoint]:
        """Return the endpoints that lead to the server at an address and port."""
        address, port = socket
        return [(self._site.names.host_of(address), port)]

    def _bounce(self, resource: Any) -> None:
        """Restart the servers of a resource, which read their parameters anew."""
        for server in self._servers_of(resource):
            server.stop()
            server.set_parameters(parameters.of(self.resource))
            server.start()

    def _servers_of(self, resource: Any) -> list[DatabaseServer]:  # noqa: ARG002 - for clusters, whose members differ
        return self.servers

    def _restart(self, resource: Any) -> None:
        """Reboot an instance: the server, the status, the events."""
        resource.status = "rebooting"
        events.publish(resource, events.INSTANCE_SHUT_DOWN)
        self._bounce(resource)
        self._stopping.wait(STOPPING)
        resource.status = "available"
        events.publish(resource, events.INSTANCE_RESTARTED)
        logger.info("database restarted: %s", resource.resource_id)

    def _switch_iam(self, enabled: bool) -> None:
        self._stopping.wait(SWITCHING)
        for server in self.servers:
            server.set_iam(enabled)
        self.resource.enable_iam_database_authentication = enabled
        self._done(self.resource, "IAMDatabaseAuthenticationEnabled")
        logger.info("IAM authentication switched: %s %s", self.resource.resource_id, "on" if enabled else "off")

    def _set_password(self, password: str) -> None:
        self.resource.status = "resetting-master-credentials"
        if self.server is not None:
            self.server.set_master_password(password)
        self._done(self.resource, "MasterUserPassword")
        self.resource.status = "available"
        events.publish(self.resource, events.PASSWORD_RESET)
        logger.info("master password changed: %s", self.resource.resource_id)

    def _upgrade(self, version: str) -> None:
        """Upgrade the engine of an instance or a cluster; after a failure it has the version that it had."""
        resource = self.resource
        self._set_status("upgrading")
        if versions.is_major_upgrade(resource.engine, resource.engine_version, version):
            self._upgrade_series(version)
        else:
            self._stopping.wait(SWITCHING)
            self._set_version(version)
            self._bounce(resource)
            events.publish(resource, self._patched)
        self._set_status("available")

    def _upgrade_series(self, version: str) -> None:
        happened = self._upgrade_events
        events.publish(self.resource, happened.checking)
        self._stopping.wait(SWITCHING)
        events.publish(self.resource, happened.checked)
        try:
            self._move_data(version)
        except ServerFailed as error:
            logger.error("%s is not upgraded: %s", self.resource.resource_id, error)
            self._done(self.resource, "EngineVersion")
            events.publish(self.resource, happened.failed)
        else:
            logger.info("database upgraded: %s to %s", self.resource.resource_id, version)
            events.publish(self.resource, happened.finished)

    def _move_data(self, version: str) -> None:
        """Upgrade the server, and all that follow it.

        :raises ServerFailed: the new version does not take the data; nothing has changed.
        """
        events.publish(self.resource, self._upgrade_events.started)
        if self.server is not None:
            self.server.upgrade(version)
        self._set_version(version)
        for server in self.servers:
            server.set_parameters(parameters.of(self.resource))
        events.publish(self.resource, self._upgrade_events.finishing)

    def _set_version(self, version: str) -> None:
        self.resource.engine_version = version
        self._done(self.resource, "EngineVersion")

    def _set_status(self, status: str) -> None:
        self.resource.status = status

    def _reshape(self, resource: Any, changes: Mapping[str, Any]) -> None:
        resource.status = "modifying"
        self._stopping.wait(SWITCHING)
        if "DBInstanceClass" in changes:
            events.publish(resource, events.CLASS_CHANGING)
            self._bounce(resource)
        for name, value in changes.items():
            setattr(resource, DEFERRED[name], value)
            self._done(resource, name)
        resource.status = "available"
        if "DBInstanceClass" in changes:
            events.publish(resource, events.CLASS_CHANGED)
        logger.info("database modified: %s %s", resource.resource_id, ", ".join(sorted(changes)))

    def _remove(self) -> None:
        if self.server is not None:
            self.server.stop()
            self._site.names.remove(self.server.address.addresses[0])
            self.server = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def _done(self, resource: Any, change: str) -> None:
        pending = dict(resource.local_pending)
        pending.pop(change, None)
        resource.local_pending = pending

    def _report(self, job: Future[None]) -> None:
        """Log an error of a job, as no caller waits for it."""
        error = None if job.cancelled() else job.exception()
        if error is None or self._stopping.is_set():
            return
        self.resource.status = "failed" if self.server is None else "incompatible-parameters"
        self.failure = _sentence(error)
        logger.error("database %s failed: %s", self.resource.resource_id, _sentence(error))


def _sentence(error: BaseException) -> str:
    return str(error) if isinstance(error, ServerFailed) else f"{type(error).__name__}: {error}"


def rename(instance: Any, name: str) -> None:
    """Give an instance another identifier, and so another ARN; everything else stays, with its resource id."""
    databases, old = instance.backend.databases, instance.db_instance_identifier
    databases.pop(old)
    instance.db_instance_identifier = name
    databases[name] = instance
    for other in databases.values():
        if other.source_db_instance_identifier == old:
            other.source_db_instance_identifier = instance.db_instance_identifier
        other.replicas = [instance.db_instance_identifier if each == old else each for each in other.replicas]
