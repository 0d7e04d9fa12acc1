"""RDS's side of the cloud: what happens to instances over time, and the real database server that each one has."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from localcloud import gaps, processes
from localcloud.certificates import Authority
from localcloud.servers import DatabaseServer, Verify, mariadb, postgres
from localcloud.verifier import TokenVerifier

logger = logging.getLogger(__name__)

#: Shortened: RDS takes minutes.
CREATING = BACKING_UP = 0.6
SWITCHING = 0.7
_SERVERS: dict[str, tuple[Callable[[Path], Path], Callable[..., DatabaseServer]]] = {
    "postgres": (postgres.prepare, postgres.PostgresServer),
    "mariadb": (mariadb.prepare, mariadb.MariadbServer),
    "mysql": (mariadb.prepare, mariadb.MariadbServer),
}
_CREATED = ("RDS-EVENT-0005", "creation", "DB instance created")
_DELETED = ("RDS-EVENT-0003", "deletion", "DB instance deleted")


class Fleet:
    """The databases of a cloud; implements `gaps.RdsHooks`.

    :param directory: where the servers keep their data; `nobody`, whom they run as, must be able to get there.
    """

    def __init__(self, directory: Path, authority: Authority, verifier: TokenVerifier) -> None:
        self._directory = directory
        self._authority = authority
        self._verifier = verifier
        self._members: dict[str, _Member] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def prepare(self) -> None:
        """Make what instances are copied from, in the background, so that the first one of an engine starts fast."""
        for engine in ("postgres", "mariadb"):
            threading.Thread(target=self._prepare, args=(engine,), daemon=True, name=f"prepare {engine}").start()

    def stop(self) -> None:
        """Stop all servers; nothing is deleted."""
        self._stopping.set()
        with self._lock:
            members = list(self._members.values())
        with ThreadPoolExecutor(max_workers=max(1, len(members))) as pool:
            list(pool.map(_Member.stop, members))

    def created(self, instance: Any, password: str) -> None:
        """Begin the life of an instance."""
        member = _Member(instance, self._directory / instance.dbi_resource_id, self._authority, self._verifier)
        with self._lock:
            self._members[instance.dbi_resource_id] = member
        logger.info("database is being created: %s (%s)", instance.db_instance_identifier, instance.engine)
        member.later(member.create, password)

    def modified(self, instance: Any, *, iam: bool | None, password: str | None) -> None:
        """Apply changes."""
        member = self._members[instance.dbi_resource_id]
        if iam is not None:
            member.later(member.switch_iam, iam)
        if password is not None:
            member.later(member.set_password, password)

    def deleted(self, instance: Any, forget: Callable[[], None]) -> None:
        """End the life of an instance."""
        with self._lock:
            member = self._members.pop(instance.dbi_resource_id)
        member.later(member.delete, forget)

    def _prepare(self, engine: str) -> None:
        try:
            _SERVERS[engine][0](self._directory)
        except Exception as error:
            if self._stopping.is_set():
                return
            logger.warning("no %s server on this machine: %s", engine, error)


class _Member:
    """One instance and its server; what happens to it happens in order, on a thread of its own."""

    def __init__(self, instance: Any, directory: Path, authority: Authority, verifier: TokenVerifier) -> None:
        self._instance = instance
        self._directory = directory
        self._authority = authority
        self._verifier = verifier
        self._server: DatabaseServer | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=instance.db_instance_identifier)
        self._stopping = threading.Event()

    def later(self, job: Callable[..., None], *arguments: object) -> None:
        self._worker.submit(job, *arguments).add_done_callback(self._report)

    def stop(self) -> None:
        self._stopping.set()
        self._worker.shutdown(wait=True, cancel_futures=True)
        if self._server is not None:
            self._server.stop()

    def create(self, password: str) -> None:
        instance, began = self._instance, time.monotonic()
        endpoint = {"Address": rds_address(instance), "Port": instance.port}
        if instance.engine in _SERVERS and instance.db_cluster_identifier is None:
            if instance.engine == "mysql":
                logger.info("%s: MariaDB stands in for MySQL", instance.db_instance_identifier)
            self._start_server(password)
            assert self._server is not None
            endpoint = {"Address": self._server.host, "Port": self._server.port}
            instance.port = self._server.port
        else:
            logger.info("%s: %s has no server here", instance.db_instance_identifier, instance.engine)
        self._stopping.wait(max(0.0, CREATING - (time.monotonic() - began)))
        instance.local_endpoint = endpoint
        instance.status = "backing-up"
        self._publish(*_CREATED)
        self._stopping.wait(BACKING_UP)
        instance.status = "available"
        logger.info(
            "database available: %s at %s:%s", instance.db_instance_identifier, endpoint["Address"], endpoint["Port"]
        )

    def switch_iam(self, enabled: bool) -> None:
        self._stopping.wait(SWITCHING)
        if self._server is not None:
            self._server.set_iam(enabled)
        self._instance.enable_iam_database_authentication = enabled
        self._done("IAMDatabaseAuthenticationEnabled")
        logger.info(
            "IAM authentication switched: %s %s", self._instance.db_instance_identifier, "on" if enabled else "off"
        )

    def set_password(self, password: str) -> None:
        self._instance.status = "resetting-master-credentials"
        if self._server is not None:
            self._server.set_master_password(password)
        self._done("MasterUserPassword")
        self._instance.status = "available"
        logger.info("master password changed: %s", self._instance.db_instance_identifier)

    def delete(self, forget: Callable[[], None]) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
        shutil.rmtree(self._directory, ignore_errors=True)
        forget()
        self._publish(*_DELETED)
        logger.info("database deleted: %s", self._instance.db_instance_identifier)
        self._worker.shutdown(wait=False)

    def _start_server(self, password: str) -> None:
        instance = self._instance
        server = _SERVERS[instance.engine][1](
            self._directory,
            processes.free_port(),
            instance.master_username,
            password,
            instance.db_name,
            self._authority,
            self._verify(),
        )
        server.start()
        self._server = server
        if instance.enable_iam_database_authentication:
            server.set_iam(True)

    def _verify(self) -> Verify:
        instance = self._instance

        def verify(user: str, token: str, encrypted: bool) -> None:
            server = self._server
            assert server is not None
            self._verifier.verify(
                token, server.host, server.port, user, instance.dbi_resource_id, instance.account_id, encrypted
            )

        return verify

    def _done(self, change: str) -> None:
        pending = dict(self._instance.local_pending)
        pending.pop(change, None)
        self._instance.local_pending = pending

    def _publish(self, event_id: str, category: str, message: str) -> None:
        instance = self._instance
        detail = {
            "EventCategories": [category],
            "SourceType": "DB_INSTANCE",
            "SourceArn": instance.db_instance_arn,
            "Date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            "Message": message,
            "SourceIdentifier": instance.db_instance_identifier,
            "EventID": event_id,
            "Tags": {tag["Key"]: tag["Value"] for tag in instance.tags},
        }
        gaps.publish_rds_event(instance.account_id, instance.region, instance.db_instance_arn, detail)

    def _report(self, job: Future[None]) -> None:
        """Say what went wrong on the thread that nobody waits for."""
        error = None if job.cancelled() else job.exception()
        if error is None or self._stopping.is_set():
            return
        self._instance.status = "failed" if self._server is None else "incompatible-parameters"
        logger.error("%s failed: %s: %s", self._instance.db_instance_identifier, type(error).__name__, error)


def rds_address(instance: Any) -> str:
    """The name of an instance that has no server: of the shape that RDS gives, and resolving nowhere."""
    return f"{instance.db_instance_identifier}.c0000localcld.{instance.region}.rds.amazonaws.com"
