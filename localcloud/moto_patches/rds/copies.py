"""Patches of moto's replicas, snapshots and restored instances: here each has its data."""

from __future__ import annotations

import copy
import shutil
import uuid
from typing import Any, ClassVar

from moto.rds.exceptions import DBInstanceAlreadyExists, RDSClientError
from moto.rds.models import DBInstance, utcnow

from localcloud.databases.rds.fleet import Fleet
from localcloud.moto_patches.patch import Patch, replaces
from localcloud.moto_patches.rds import refusals
from localcloud.moto_patches.rds.instances import secret_password, unfinished

# Attributes that a copy has of its original unless the call sets them; tags and IAM authentication are not copied.
_INHERITED = (
    "engine", "engine_version", "db_instance_class", "allocated_storage", "master_username", "db_name",
    "storage_type", "storage_encrypted", "license_model", "backup_retention_period",
)  # fmt: skip


class Snapshots(Patch):
    """The model of a snapshot, which holds its data here."""

    target = "moto.rds.models.DBSnapshot"
    new_values: ClassVar = {"local_data": None}


class CopyCalls(Patch):
    """Calls about replicas, snapshots and restored instances."""

    target = "moto.rds.models.RDSBackend"

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    @replaces
    def create_db_instance_read_replica(self, original: Any, backend: Any, kwargs: Any) -> Any:
        """Create an instance that follows another one."""
        request = dict(kwargs.items())
        source = backend.find_db_from_id(request["source_db_instance_identifier"])
        _check_new(backend, request["db_instance_identifier"])
        refusals.check_available(source)
        if source.db_cluster_identifier is not None:
            raise refusals.invalid_combination(f"{source.resource_id} is a member of a DB cluster.")
        iam = bool(request.pop("enable_iam_database_authentication", False))
        tags = request.pop("tags", None)
        request["source_db_instance_identifier"] = source.db_instance_identifier
        public = request.setdefault("publicly_accessible", False)
        replica = unfinished(original(backend, request))
        # moto: a shallow copy that shares what belongs to the source alone.
        replica.__dict__.pop("master_user_secret", None)
        replica.manage_master_user_password = False
        replica.created = replica.instance_create_time = utcnow()
        replica.tags, replica.publicly_accessible = tags, public
        replica.enable_iam_database_authentication = iam
        life = self._fleet.begin(replica)
        life.later(life.follow, self._fleet.instance(source))
        return replica

    @replaces
    def promote_read_replica(self, _: Any, backend: Any, kwargs: Any) -> Any:
        """Make a replica an instance of its own."""
        replica = backend.describe_db_instances(kwargs["db_instance_identifier"])[0]
        if not replica.is_replica:
            raise refusals.invalid_state(f"{replica.db_instance_identifier} is not a read replica.")
        source = backend.databases.get(replica.source_db_instance_identifier)
        if source is not None and replica.db_instance_identifier in source.replicas:
            source.remove_replica(replica)
        replica.is_replica, replica.status = False, "modifying"
        life = self._fleet.instance(replica)
        life.later(life.promote)
        return replica

    @replaces
    def create_db_snapshot(self, original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
        """Copy the data of an instance."""
        name = kwargs.get("db_instance_identifier") or args[0]
        instance = backend.describe_db_instances(name)[0]
        automated = kwargs.get("snapshot_type") == "automated"
        if instance.db_cluster_identifier is not None and not automated:
            raise refusals.invalid_state(f"{name} is a member of a DB cluster, whose snapshots are the cluster's.")
        snapshot = original(backend, *args, **kwargs)
        if snapshot.snapshot_type == "manual":
            # AWS: a snapshot takes a while. moto: it is available at once.
            snapshot.status, snapshot.local_id = "creating", uuid.uuid4().hex
            life = self._fleet.instance(instance)
            life.later(life.snapshot, snapshot)
        return snapshot

    @replaces
    def copy_db_snapshot(self, original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
        """Copy a snapshot, which shares its data."""
        copied = original(backend, *args, **kwargs)
        source = str(kwargs.get("source_db_snapshot_identifier") or args[0])
        copied.local_data = backend.get_db_snapshot(source).local_data
        return copied

    @replaces
    def delete_db_snapshot(self, original: Any, backend: Any, identifier: str) -> Any:
        """Delete a snapshot, and its data if no other snapshot shares them."""
        deleted = original(backend, identifier)
        shared = [each for each in backend.database_snapshots.values() if each.local_data == deleted.local_data]
        if deleted.local_data is not None and not shared:
            shutil.rmtree(deleted.local_data, ignore_errors=True)
        return deleted

    @replaces
    def restore_db_instance_from_db_snapshot(self, _: Any, backend: Any, from_snapshot_id: str, overrides: Any) -> Any:
        """Create an instance with the data of a snapshot."""
        snapshot = backend.describe_db_snapshots(None, from_snapshot_id.rpartition(":snapshot:")[2])[0]
        if snapshot.status != "available":
            raise RDSClientError("InvalidDBSnapshotState", f"Snapshot {snapshot.resource_id} is {snapshot.status}.")
        if snapshot.local_data is None:
            raise RDSClientError("InvalidDBSnapshotState", "In localcloud only manual snapshots hold data.")
        request = dict(overrides.items())
        instance, password = _restored(backend, snapshot.database, request["db_instance_identifier"], request)
        life = self._fleet.begin(instance)
        life.later(life.restore, snapshot.local_data, password, snapshot.db_snapshot_identifier)
        return instance

    @replaces
    def restore_db_instance_to_point_in_time(
        self, _: Any, backend: Any, source_id: str, target_id: str, overrides: Any
    ) -> Any:
        """Create an instance with the present data of another one."""
        source = backend.describe_db_instances(source_id)[0]
        refusals.check_available(source)
        request = dict(overrides.items())
        if not request.pop("use_latest_restorable_time", False):
            raise RDSClientError("InvalidParameterValue", "localcloud restores to UseLatestRestorableTime only.")
        instance, password = _restored(backend, source, target_id, request)
        life = self._fleet.begin(instance)
        life.later(life.restore_in_time, self._fleet.instance(source), password)
        return instance


def _restored(backend: Any, original: Any, identifier: str, request: dict[str, Any]) -> tuple[Any, str | None]:
    """Return a new instance like `original`, and its new password if RDS manages it."""
    _check_new(backend, identifier)
    given = {name: copy.copy(getattr(original, name)) for name in _INHERITED}
    given |= {name: value for name, value in request.items() if value is not None}
    for name in ("source_db_instance_identifier", "target_db_instance_identifier"):
        given.pop(name, None)
    given |= {"db_instance_identifier": identifier, "master_user_password": None, "port": None}
    instance = unfinished(DBInstance(backend, **given))
    instance.local_master_iam = original.local_master_iam and not instance.manage_master_user_password
    backend.databases[identifier] = instance
    return instance, secret_password(instance) if instance.manage_master_user_password else None


def _check_new(backend: Any, identifier: str) -> None:
    backend._validate_db_identifier(identifier)
    if identifier in backend.databases:
        raise DBInstanceAlreadyExists
