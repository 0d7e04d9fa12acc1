"""Patches of moto's clusters: statuses, endpoints, IAM authentication, Multi-AZ."""

from __future__ import annotations

import copy
from types import MappingProxyType
from typing import Any, ClassVar

from moto.core.responses import ActionResult
from moto.rds.exceptions import RDSClientError
from moto.rds.utils import FilterDef

from localcloud.databases.rds import versions
from localcloud.databases.rds.fleet import Fleet
from localcloud.moto_patches.patch import Patch, adds, replaces
from localcloud.moto_patches.rds import refusals
from localcloud.moto_patches.rds.instances import master_change, master_of, pending_changes, secret_password
from localcloud.moto_patches.rds.versions import check_upgrade, check_version

_MULTI_AZ = ("postgres", "mysql")
_NO_PASSWORD = ("neptune",)


class Engines(Patch):
    """Engines of clusters. AWS: DocumentDB's clusters are in Describe too. moto: does not know them."""

    target = "moto.rds.models.ClusterEngine"
    changed_values: ClassVar = {"list_cluster_engines": lambda original: classmethod(lambda _: [*original(), "docdb"])}


class Clusters(Patch):
    """The model of a cluster."""

    target = "moto.rds.models.DBCluster"
    changed_values: ClassVar = {
        "default_engine_version": lambda _: staticmethod(versions.DEFAULTS.__getitem__),
        "default_port": lambda original: staticmethod(lambda engine: 27017 if engine == "docdb" else original(engine)),
        "default_allocated_storage": lambda original: staticmethod(
            lambda engine, storage_type: 1 if engine == "docdb" else original(engine, storage_type)
        ),
        # AWS: clusters are found by their resource id too. moto: refuses the filter.
        "SUPPORTED_FILTERS": lambda original: (
            original | {"db-cluster-resource-id": FilterDef(["db_cluster_resource_id"], "DB Cluster Resource Ids")}
        ),
        # AWS: the status takes its time. moto: a cluster is available after the first Describe.
        "status": lambda _: property(lambda self: self._status, lambda self, value: setattr(self, "_status", value)),
    }
    new_values: ClassVar = {
        "local_pending": {},
        "local_master_iam": False,  # AWS: not in Describe
        "internet_access_gateway_enabled": False,
        "vpc_networking_enabled": True,
        "local_filling": False,
        "local_endpoints": MappingProxyType({}),  # by identifier; a life of its own sets them
        "pending_modified_values": property(lambda self: self.local_pending or None),
        # The same name as the instances' attribute; moto's modify would set one that nothing reads.
        "enable_iam_database_authentication": property(
            lambda self: bool(self.iam_auth), lambda self, value: setattr(self, "iam_auth", bool(value))
        ),
    }


class ClusterCalls(Patch):
    """Calls about clusters."""

    target = "moto.rds.models.RDSBackend"

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    @replaces
    def create_db_cluster(self, original: Any, backend: Any, kwargs: Any) -> Any:
        """Create a cluster, whose servers start in the background."""
        request = dict(kwargs.items())
        backend._validate_db_identifier(request["db_cluster_identifier"])  # moto: any text
        if request["db_cluster_identifier"] in backend.clusters:
            raise RDSClientError("DBClusterAlreadyExistsFault", "DB Cluster already exists")
        refusals.check_port(request.get("port"))
        engine, express = request["engine"], _take_express(request)
        by_token, password = master_of(request) if engine not in _NO_PASSWORD else (False, None)
        if engine in _MULTI_AZ and not request.get("db_cluster_instance_class"):
            raise refusals.invalid_combination(f"DBClusterInstanceClass is required for engine {engine}.")
        request["engine_version"] = check_version(engine, request.get("engine_version"))
        # AWS: IAM authentication on Multi-AZ clusters too. moto: refuses it.
        iam = bool(request.pop("enable_iam_database_authentication", False))
        if by_token:
            request["master_user_password"] = password  # moto: no cluster without one
        cluster = original(backend, request)
        # AWS: the default parameter group of the version. moto: of Aurora MySQL 8.0, whatever the engine.
        if not request.get("db_cluster_parameter_group_name") and (
            family := versions.family(engine, cluster.engine_version)
        ):
            cluster.parameter_group = f"default.{family}"
        cluster.iam_auth, cluster.local_master_iam = iam, by_token
        cluster.local_pending = {}
        cluster.internet_access_gateway_enabled = express
        cluster.vpc_networking_enabled = not express
        if cluster.manage_master_user_password:
            password = secret_password(cluster)
        life = self._fleet.begin_cluster(cluster, password)
        life.later(life.create)
        if engine in _MULTI_AZ:
            _fill(backend, cluster)
        if express:
            _add_writer(backend, cluster)
        return cluster

    @replaces
    def modify_db_cluster(self, original: Any, backend: Any, kwargs: Any) -> Any:
        """Modify a cluster now, or note the change for the maintenance window."""
        request = dict(kwargs.items())
        cluster = backend.describe_db_clusters(request["db_cluster_identifier"])[0]
        refusals.check_cluster_available(cluster)
        if request.get("new_db_cluster_identifier"):
            raise RDSClientError("InvalidParameterValue", "Clusters can't be renamed in localcloud.")
        refusals.check_same_port(cluster, request.pop("port", None))
        iam = request.get("enable_iam_database_authentication")
        allow_major = bool(request.pop("allow_major_version_upgrade", False))
        version = request.pop("engine_version", None)
        if version is not None:
            refusals.check_has_members(cluster)
            version = check_upgrade(cluster, version, allow_major=allow_major)
        by_token = master_change(cluster, request)
        password = request.pop("master_user_password", None)
        was_managed = cluster.manage_master_user_password
        request.pop("enable_iam_database_authentication", None)
        original(backend, request | {"db_cluster_identifier": cluster.db_cluster_identifier})
        if cluster.manage_master_user_password and not was_managed:
            password = secret_password(cluster)
        # As with instances: changes wait without ApplyImmediately, a password never waits.
        pending = pending_changes(cluster, {"IAMDatabaseAuthenticationEnabled": iam, "EngineVersion": version})
        now = dict(pending) if request.get("apply_immediately") else {}
        if password is not None:
            pending["MasterUserPassword"] = "****"
        cluster.local_pending = pending
        answer = copy.copy(cluster)
        now.pop("MasterUserPassword", None)
        life = self._fleet.cluster(cluster)
        if now or password is not None:
            life.later(life.apply, cluster, now, password)
        if by_token is not None:
            life.later(life.set_master_iam, by_token)
        return answer

    @replaces
    def delete_db_cluster(self, _: Any, backend: Any, cluster_identifier: str, snapshot_name: str | None = None) -> Any:
        """Delete a cluster without members, or a Multi-AZ cluster with its members."""
        cluster = backend.describe_db_clusters(cluster_identifier)[0]
        if cluster.deletion_protection:
            raise refusals.invalid_combination("Cannot delete protected Cluster, please disable deletion protection.")
        if cluster.status == "deleting":
            raise refusals.invalid_cluster_state(f"DbCluster {cluster.resource_id} is already being deleted.")
        refusals.check_cluster_runs(cluster)
        # The readers first, so that none has to take over.
        members = sorted(cluster.members, key=lambda member: bool(member.is_cluster_writer))
        remaining = [member for member in members if member.status != "deleting"]
        # AWS: a Multi-AZ cluster is deleted with its instances; another cluster can't be deleted while it has members.
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
        life = self._fleet.cluster(cluster)
        self._fleet.forget(cluster.db_cluster_resource_id)
        life.later(life.delete, lambda: backend.clusters.pop(cluster.db_cluster_identifier, None))
        return cluster

    @replaces
    def stop_db_cluster(self, _: Any, backend: Any, cluster_identifier: str) -> Any:
        """Stop the servers of a cluster."""
        cluster = backend.describe_db_clusters(cluster_identifier)[0]
        refusals.check_cluster_available(cluster)
        return self._move(cluster, "stopping", self._fleet.cluster(cluster).stop)

    @replaces
    def start_db_cluster(self, _: Any, backend: Any, cluster_identifier: str) -> Any:
        """Start the servers of a stopped cluster."""
        cluster = backend.describe_db_clusters(cluster_identifier)[0]
        if cluster.status != "stopped":
            raise refusals.invalid_cluster_state(f"DbCluster {cluster.resource_id} is in {cluster.status} state.")
        return self._move(cluster, "starting", self._fleet.cluster(cluster).start)

    @replaces
    def failover_db_cluster(
        self, _: Any, backend: Any, db_cluster_identifier: str, target_db_instance_identifier: str | None = None
    ) -> Any:
        """Let a reader take over from the writer."""
        cluster = backend.describe_db_clusters(db_cluster_identifier)[0]
        refusals.check_cluster_available(cluster)
        target = _successor(cluster, target_db_instance_identifier)
        # AWS: failing-over, for a while. moto: another writer at once.
        cluster.status = "failing-over"
        answer = copy.copy(cluster)
        life = self._fleet.cluster(cluster)
        life.later(life.fail_over, target)
        return answer

    @adds
    def reboot_db_cluster(self, backend: Any, cluster_identifier: str) -> Any:
        """Restart the servers of a cluster."""
        cluster = backend.describe_db_clusters(cluster_identifier)[0]
        refusals.check_cluster_available(cluster)
        return self._move(cluster, "rebooting", self._fleet.cluster(cluster).reboot)

    def _move(self, cluster: Any, status: str, job: Any) -> Any:
        cluster.status = status
        for member in cluster.members:
            member.status = status
        answer = copy.copy(cluster)
        self._fleet.cluster(cluster).later(job)
        return answer


class ClusterResponses(Patch):
    """Answers about clusters."""

    target = "moto.rds.responses.RDSResponse"

    @adds
    def reboot_db_cluster(self, response: Any) -> ActionResult:
        """Answer RebootDBCluster, which AWS has for Multi-AZ clusters and moto does not know."""
        return ActionResult({"DBCluster": response.backend.reboot_db_cluster(response.params["DBClusterIdentifier"])})


def _successor(cluster: Any, name: str | None) -> Any:
    """Return the reader that takes over: the named one, or the one with the lowest promotion tier."""
    readers = [member for member in cluster.members if not member.is_cluster_writer and member.status == "available"]
    if name is not None:
        readers = [member for member in readers if member.db_instance_identifier == name.lower()]
        if not readers:
            raise refusals.invalid_state(f"{name} is not an available reader of {cluster.resource_id}.")
    if not readers:
        raise refusals.invalid_cluster_state(f"DbCluster {cluster.resource_id} has no reader to fail over to.")
    return min(readers, key=lambda member: int(member.promotion_tier))


def _take_express(request: dict[str, Any]) -> bool:
    """Take the parameters of Aurora's express configuration; return whether the cluster has a gateway to the internet.

    AWS: a cluster with a writer, no VPC, IAM authentication, and a master that is an IAM user. moto: knows none of it.
    """
    express = bool(request.pop("with_express_configuration", False))
    gateway, network = request.pop("enable_internet_access_gateway", None), request.pop("enable_vpc_networking", None)
    if not express:
        if gateway or network is False:
            raise refusals.invalid_combination("An internet access gateway needs WithExpressConfiguration.")
        return False
    if request["engine"] != "aurora-postgresql":
        raise refusals.invalid_combination("WithExpressConfiguration is valid for aurora-postgresql only.")
    if network or gateway is False:
        raise refusals.invalid_combination("localcloud has express clusters without a VPC only.")
    request |= {"enable_iam_database_authentication": True, "master_user_authentication_type": "iam-db-auth"}
    request.setdefault("master_username", "postgres")
    return True


def _add_writer(backend: Any, cluster: Any) -> None:
    """Make the writer that an express cluster is created with."""
    backend.create_db_instance({
        "db_instance_identifier": f"{cluster.db_cluster_identifier}-instance-1",
        "db_instance_class": "db.serverless", "engine": cluster.engine,
        "db_cluster_identifier": cluster.db_cluster_identifier, "publicly_accessible": False,
    })  # fmt: skip


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
