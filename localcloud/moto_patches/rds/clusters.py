"""Where moto's clusters do otherwise than AWS's: statuses, endpoints, IAM authentication, Multi-AZ."""

from __future__ import annotations

import copy
from typing import Any

from moto.core.responses import ActionResult
from moto.rds import models
from moto.rds.exceptions import RDSClientError
from moto.rds.responses import RDSResponse
from moto.rds.utils import FilterDef

from localcloud.databases.rds.fleet import Fleet
from localcloud.moto_patches.rds import refusals
from localcloud.moto_patches.rds.instances import ENGINE_VERSIONS, secret_password

#: Versions that RDS offers today, as moto's are old.
CLUSTER_VERSIONS = ENGINE_VERSIONS | {
    "aurora-postgresql": "17.6",
    "aurora-mysql": "8.0.mysql_aurora.3.10.1",
    "docdb": "5.0.0",
    "neptune": "1.4.6.0",
}
_MULTI_AZ = ("postgres", "mysql")
_NO_PASSWORD = ("neptune",)


def close(fleet: Fleet) -> None:
    """Patch moto's clusters."""
    cluster_class, backend_class = models.DBCluster, models.RDSBackend
    create, modify = backend_class.create_db_cluster, backend_class.modify_db_cluster
    default_port, default_storage = cluster_class.default_port, cluster_class.default_allocated_storage
    # AWS: DocumentDB's clusters are in Describe too. moto: does not know them.
    engines = [*models.ClusterEngine.list_cluster_engines(), "docdb"]
    models.ClusterEngine.list_cluster_engines = classmethod(lambda _: engines)
    cluster_class.default_engine_version = staticmethod(CLUSTER_VERSIONS.__getitem__)
    cluster_class.default_port = staticmethod(lambda engine: 27017 if engine == "docdb" else default_port(engine))
    cluster_class.default_allocated_storage = staticmethod(
        lambda engine, storage_type: 1 if engine == "docdb" else default_storage(engine, storage_type)
    )
    # AWS: clusters are found by their resource id too. moto: refuses the filter.
    cluster_class.SUPPORTED_FILTERS = cluster_class.SUPPORTED_FILTERS | {
        "db-cluster-resource-id": FilterDef(["db_cluster_resource_id"], "DB Cluster Resource Ids")
    }
    cluster_class.local_pending = {}
    cluster_class.local_address = None
    cluster_class.local_filling = False
    # AWS: the status takes its time. moto: is available as soon as somebody has looked.
    cluster_class.status = property(lambda self: self._status, lambda self, value: setattr(self, "_status", value))
    cluster_class.pending_modified_values = property(lambda self: self.local_pending or None)
    # The same name as the instances' attribute; moto's modify would set one that nothing reads.
    cluster_class.enable_iam_database_authentication = property(
        lambda self: bool(self.iam_auth), lambda self, value: setattr(self, "iam_auth", bool(value))
    )
    names = cluster_class.endpoint.fget, cluster_class.reader_endpoint.fget
    cluster_class.endpoint = property(lambda self: self.local_address or names[0](self))
    cluster_class.reader_endpoint = property(lambda self: self.local_address or names[1](self))

    def create_db_cluster(backend: Any, kwargs: Any) -> Any:
        wanted = dict(kwargs.items())
        if wanted["db_cluster_identifier"] in backend.clusters:
            raise RDSClientError("DBClusterAlreadyExistsFault", "DB Cluster already exists")
        engine, password = wanted["engine"], wanted.get("master_user_password")
        if engine not in _NO_PASSWORD:
            refusals.check_password(password, managed=wanted.get("manage_master_user_password"))
        if engine in _MULTI_AZ and not wanted.get("db_cluster_instance_class"):
            raise refusals.invalid_combination(f"DBClusterInstanceClass is required for engine {engine}.")
        # AWS: IAM authentication on Multi-AZ clusters too. moto: refuses it.
        iam = bool(wanted.pop("enable_iam_database_authentication", False))
        cluster = create(backend, wanted)
        cluster.iam_auth = iam
        cluster.local_pending = {}
        if cluster.manage_master_user_password:
            password = secret_password(cluster)
        life = fleet.begin_cluster(cluster, password)
        life.later(life.create)
        if engine in _MULTI_AZ:
            _fill(backend, cluster)
        return cluster

    def modify_db_cluster(backend: Any, kwargs: Any) -> Any:
        wanted = dict(kwargs.items())
        cluster = backend.describe_db_clusters(wanted["db_cluster_identifier"])[0]
        refusals.check_cluster_available(cluster)
        if wanted.get("new_db_cluster_identifier"):
            raise RDSClientError("InvalidParameterValue", "Clusters can't be renamed in localcloud.")
        iam = wanted.pop("enable_iam_database_authentication", None)
        password = wanted.pop("master_user_password", None)
        if password is not None:
            refusals.check_password(password, managed=False)
        was_managed = cluster.manage_master_user_password
        modify(backend, wanted | {"db_cluster_identifier": cluster.db_cluster_identifier})
        if cluster.manage_master_user_password and not was_managed:
            password = secret_password(cluster)
        # As with instances: the flag waits unless it is to be applied immediately, a password never waits.
        pending = dict(cluster.local_pending)
        if iam is not None and iam != cluster.enable_iam_database_authentication:
            pending["IAMDatabaseAuthenticationEnabled"] = iam
        elif iam is not None:
            pending.pop("IAMDatabaseAuthenticationEnabled", None)
        now = dict(pending) if wanted.get("apply_immediately") else {}
        if password is not None:
            pending["MasterUserPassword"] = "****"
        cluster.local_pending = pending
        answer = copy.copy(cluster)
        now.pop("MasterUserPassword", None)
        if now or password is not None:
            life = fleet.cluster(cluster)
            life.later(life.apply, cluster, now, password)
        return answer

    def delete_db_cluster(backend: Any, cluster_identifier: str, snapshot_name: str | None = None) -> Any:
        cluster = backend.describe_db_clusters(cluster_identifier)[0]
        if cluster.deletion_protection:
            raise refusals.invalid_combination("Cannot delete protected Cluster, please disable deletion protection.")
        if cluster.status == "deleting":
            raise refusals.invalid_cluster_state(f"DbCluster {cluster.resource_id} is already being deleted.")
        remaining = [member for member in cluster.members if member.status != "deleting"]
        # AWS: a Multi-AZ cluster takes its instances along; another can't be deleted while it has some.
        if remaining and not cluster.db_cluster_instance_class:
            raise refusals.invalid_cluster_state(
                "Cluster cannot be deleted, it still contains DB instances in non-deleting state."
            )
        for member in remaining:
            backend.delete_db_instance(member.db_instance_identifier, skip_final_snapshot=True)
        if cluster.manage_master_user_password:
            cluster.master_user_secret.delete_secret()
        if snapshot_name:
            backend.create_db_cluster_snapshot(cluster.db_cluster_identifier, snapshot_name)
        # AWS: deleting, for a while. moto: gone at once.
        cluster.status = "deleting"
        life = fleet.cluster(cluster)
        fleet.forget(cluster.db_cluster_resource_id)
        life.later(life.delete, lambda: backend.clusters.pop(cluster.db_cluster_identifier, None))
        return cluster

    def stop_db_cluster(backend: Any, cluster_identifier: str) -> Any:
        cluster = backend.describe_db_clusters(cluster_identifier)[0]
        refusals.check_cluster_available(cluster)
        return _move(cluster, "stopping", fleet.cluster(cluster).stop)

    def start_db_cluster(backend: Any, cluster_identifier: str) -> Any:
        cluster = backend.describe_db_clusters(cluster_identifier)[0]
        if cluster.status != "stopped":
            raise refusals.invalid_cluster_state(f"DbCluster {cluster.resource_id} is in {cluster.status} state.")
        return _move(cluster, "starting", fleet.cluster(cluster).start)

    def reboot_db_cluster(backend: Any, cluster_identifier: str) -> Any:
        cluster = backend.describe_db_clusters(cluster_identifier)[0]
        refusals.check_cluster_available(cluster)
        return _move(cluster, "rebooting", fleet.cluster(cluster).reboot)

    def _move(cluster: Any, status: str, job: Any) -> Any:
        cluster.status = status
        for member in cluster.members:
            member.status = status
        answer = copy.copy(cluster)
        fleet.cluster(cluster).later(job)
        return answer

    def reboot_response(self: Any) -> Any:
        return ActionResult({"DBCluster": self.backend.reboot_db_cluster(self.params["DBClusterIdentifier"])})

    for function in (create_db_cluster, modify_db_cluster, delete_db_cluster, stop_db_cluster, start_db_cluster,
                     reboot_db_cluster):  # fmt: skip
        setattr(backend_class, function.__name__, function)
    # AWS: RebootDBCluster, for Multi-AZ clusters. moto: does not know it.
    RDSResponse.reboot_db_cluster = reboot_response


def _fill(backend: Any, cluster: Any) -> None:
    """Make the writer and the two readers that RDS gives a Multi-AZ cluster, each in a zone of its own."""
    cluster.local_filling = True
    try:
        for number, zone in enumerate("abc", start=1):
            backend.create_db_instance({
                "db_instance_identifier": f"{cluster.db_cluster_identifier}-instance-{number}",
                "db_instance_class": cluster.db_cluster_instance_class, "engine": cluster.engine,
                "db_cluster_identifier": cluster.db_cluster_identifier, "tags": cluster.tags,
                "availability_zone": f"{cluster.region}{zone}", "publicly_accessible": cluster.publicly_accessible,
            })  # fmt: skip
    finally:
        cluster.local_filling = False
