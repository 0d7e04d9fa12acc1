"""All databases of a cloud: the lives of instances and clusters, and their common start and end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from localcloud.core.certificates import Authority
from localcloud.databases.rds.clusters import ClusterLife
from localcloud.databases.rds.instances import InstanceLife
from localcloud.databases.rds.lives import CREATING, Life, Site
from localcloud.databases.rds.names import Names
from localcloud.databases.servers import mariadb, mysql_choice, postgres_administrator, postgres_template
from localcloud.databases.token_verifier import TokenVerifier
from localcloud.settings import Administrator

logger = logging.getLogger(__name__)

_PREPARATIONS: dict[str, Callable[[Path], object]] = {
    "postgres": postgres_template.prepare,
    "mariadb": mariadb.prepare,
    "mysql": mysql_choice.prepare,
}


class Fleet:
    """The lives of all instances and clusters, by resource id.

    :param directory: the folder of the servers' data; they run as `nobody`, who has to be able to enter it.
    :param administrator: the kind of administrator that PostgreSQL's newest version has.
    """

    def __init__(
        self,
        directory: Path,
        authority: Authority,
        verifier: TokenVerifier,
        names: Names,
        administrator: Administrator = "rds",
    ) -> None:
        #: The names of all endpoints.
        self.names = names
        self._site = Site(directory, authority, verifier, names, administrator)
        self._instances: dict[str, InstanceLife] = {}
        self._clusters: dict[str, ClusterLife] = {}
        self._lock = threading.Lock()
        self._later = ThreadPoolExecutor(max_workers=1, thread_name_prefix="proxies")
        self._stopping = threading.Event()

    def prepare(self) -> None:
        """Prepare each engine's template of data in the background, so that its first instance starts fast."""
        preparations = dict(_PREPARATIONS)
        if self._site.administrator == "rds":
            preparations["administrator"] = postgres_administrator.module
        for name, job in preparations.items():
            threading.Thread(target=self._prepare, args=(name, job), daemon=True, name=f"prepare {name}").start()

    def stop(self) -> None:
        """Stop all servers; nothing is deleted."""
        self._stopping.set()
        self._later.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            lives: list[Life] = [*self._instances.values(), *self._clusters.values()]
        with ThreadPoolExecutor(max_workers=max(1, len(lives))) as pool:
            list(pool.map(Life.end, lives))

    def begin(self, instance: Any) -> InstanceLife:
        """Return the life of a new instance."""
        life = InstanceLife(instance, self._site, lambda: self._replicas(instance))
        with self._lock:
            self._instances[instance.dbi_resource_id] = life
        logger.info("database is being created: %s (%s)", instance.resource_id, instance.engine)
        return life

    def begin_cluster(self, cluster: Any, password: str | None) -> ClusterLife:
        """Return the life of a new cluster."""
        life = ClusterLife(cluster, password, self._site)
        with self._lock:
            self._clusters[cluster.db_cluster_resource_id] = life
        logger.info("cluster is being created: %s (%s)", cluster.resource_id, cluster.engine)
        return life

    def _replicas(self, instance: Any) -> list[InstanceLife]:
        databases = instance.backend.databases
        return [self.instance(databases[name]) for name in instance.replicas if name in databases]

    def instance(self, instance: Any) -> InstanceLife:
        """Return the life of an instance that is no member."""
        return self._instances[instance.dbi_resource_id]

    def cluster(self, cluster: Any) -> ClusterLife:
        """Return the life of a cluster."""
        return self._clusters[cluster.db_cluster_resource_id]

    def of(self, instance: Any) -> Life:
        """Return the life that an instance is part of: a member's is the cluster's."""
        return self.instance(instance) if instance.db_cluster_identifier is None else self.cluster(instance.cluster)

    def lives(self) -> list[Life]:
        """Return all lives."""
        with self._lock:
            return [*self._instances.values(), *self._clusters.values()]

    def failure_of(self, identifier: str) -> str:
        """Return the reason why a job of an instance or a cluster failed; empty if none did."""
        return next((life.failure for life in self.lives() if life.resource.resource_id == identifier), "")

    def shortly(self, job: Callable[..., None], *arguments: Any) -> None:
        """Do a job about a resource without a life of its own, after a while and in order."""

        def wait_and_do() -> None:
            if not self._stopping.wait(CREATING):
                job(*arguments)

        self._later.submit(wait_and_do)

    def forget(self, resource_id: str) -> None:
        """Drop a life that has ended or is about to end."""
        with self._lock:
            self._instances.pop(resource_id, None)
            self._clusters.pop(resource_id, None)

    def _prepare(self, name: str, job: Callable[[Path], object]) -> None:
        try:
            job(self._site.root)
        except Exception as error:
            if not self._stopping.is_set():
                logger.warning("%s could not be prepared on this machine: %s", name, error)
