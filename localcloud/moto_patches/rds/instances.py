"""Patches of moto's instances: resource ids, statuses, endpoints, pending changes."""

from __future__ import annotations

import copy
import json
import secrets
import string
from typing import Any, ClassVar

from moto.rds.exceptions import DBInstanceAlreadyExists

from localcloud.databases.rds import versions
from localcloud.databases.rds.fleet import Fleet
from localcloud.databases.rds.lives import DEFERRED
from localcloud.moto_patches.patch import Patch, replaces
from localcloud.moto_patches.rds import refusals
from localcloud.moto_patches.rds.versions import check_iam, check_upgrade, check_version

#: Tag of an instance that is one more endpoint of another instance's server; its value is the other's identifier. If
#: there is no such instance, the endpoint accepts connections and stays silent. For measuring large fleets.
SHARED_WITH = "localcloud:shared-with"
_PORTS = {"aurora-postgresql": 5432, "aurora-mysql": 3306, "docdb": 27017}
# Characters that every engine allows in a master password, and that need no quoting.
_PASSWORD_CHARACTERS = string.ascii_letters + string.digits + "!#*+-.=?_~"
_PASSWORD_LENGTH = 32


def secret_password(resource: Any) -> str:
    """Return the password that RDS keeps in Secrets Manager for an instance or a cluster."""
    secret = resource.master_user_secret.secret
    return str(json.loads(secret.versions[secret.default_version_id]["secret_string"])["password"])


def unfinished(instance: Any) -> Any:
    """Make moto's finished instance a new one like AWS's: with an id of its own, and not available yet."""
    # AWS: each instance has a resource id. moto: all have the same.
    instance.dbi_resource_id = _resource_id()
    # AWS: creating, backing-up, available. moto: available at once.
    instance.status = "creating"
    instance.local_endpoint = None
    instance.local_pending = {}
    instance.publicly_accessible = bool(instance.publicly_accessible)
    return instance


class Engines(Patch):
    """Engines of instances. AWS: DocumentDB's instances are in Describe too. moto: does not know them."""

    target = "moto.rds.models.DbInstanceEngine"
    changed_values: ClassVar = {
        "valid_db_instance_engine": lambda original: classmethod(lambda _: [*original(), "docdb"])
    }


class Instances(Patch):
    """The model of an instance."""

    target = "moto.rds.models.DBInstance"
    changed_values: ClassVar = {
        "default_engine_versions": lambda original: original | versions.DEFAULTS,
        "default_port": lambda original: staticmethod(lambda engine: _PORTS.get(engine) or original(engine)),
        # AWS: no Endpoint until the instance has one. moto: one from the start, under a name that resolves nowhere.
        "endpoint": lambda _: property(lambda self: self.local_endpoint),
    }
    new_values: ClassVar = {
        "local_endpoint": None,
        "local_pending": {},
        "local_master_iam": False,  # AWS: not in Describe
        # AWS: changes that were requested and are not applied yet. moto: nothing.
        "pending_modified_values": property(lambda self: self.local_pending or None),
    }


class Members(Patch):
    """The model of a cluster's instance. AWS: the cluster's flag is the members'. moto: each has its own."""

    target = "moto.rds.models.DBInstanceClustered"
    changed_values: ClassVar = {
        "iam_database_authentication_enabled": lambda _: property(
            lambda self: self.cluster.iam_database_authentication_enabled
        )
    }


class MasterSecrets(Patch):
    """The secret of a master. AWS: the administrator's name and a random password. moto: one fixed pair for all."""

    target = "moto.rds.models.MasterUserSecret"

    @replaces
    def _generate_secret_string(self, _: Any, secret: Any) -> str:
        return json.dumps({"username": secret.resource.master_username, "password": _new_password()})


class InstanceCalls(Patch):
    """Calls about instances."""

    target = "moto.rds.models.RDSBackend"

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    @replaces
    def create_db_instance(self, original: Any, backend: Any, kwargs: Any) -> Any:
        """Create an instance, whose server starts in the background."""
        request = dict(kwargs.items())
        if request.get("db_cluster_identifier") is not None:
            return self._create_member(original, backend, request)
        refusals.check_port(request.get("port"))
        by_token, password = master_of(request)
        request["engine_version"] = check_version(request.get("engine", ""), request.get("engine_version"))
        check_iam(
            request.get("engine", ""), request["engine_version"], request.get("enable_iam_database_authentication")
        )
        instance = unfinished(original(backend, request))
        instance.local_master_iam = by_token
        if instance.manage_master_user_password:
            password = secret_password(instance)
        life = self._fleet.begin(instance)
        other = next((tag["Value"] for tag in instance.tags if tag["Key"] == SHARED_WITH), None)
        if other is None:
            life.later(life.create, password or "")
        else:
            source = backend.databases.get(other)
            life.later(life.share, source and self._fleet.instance(source))
        return instance

    def _create_member(self, original: Any, backend: Any, request: dict[str, Any]) -> Any:
        refusals.check_member(request)
        cluster = backend.describe_db_clusters(request["db_cluster_identifier"])[0]
        refusals.check_joinable(cluster)
        refusals.check_member_version(cluster, request.get("engine_version"))
        request["db_cluster_identifier"] = cluster.db_cluster_identifier
        member = unfinished(original(backend, request))
        life = self._fleet.cluster(cluster)
        life.later(life.join, member)
        return member

    @replaces
    def modify_db_instance(self, original: Any, backend: Any, identifier: str, kwargs: Any) -> Any:
        """Modify an instance now, or note the change for the maintenance window."""
        instance = backend.describe_db_instances(identifier)[0]
        refusals.check_available(instance)
        request = dict(kwargs.items())
        if instance.db_cluster_identifier is not None:
            refusals.check_member(request)
        refusals.check_same_port(instance, request.pop("db_port_number", None))
        by_token = master_change(instance, request)
        password = request.pop("master_user_password", None)
        if password is not None:
            refusals.check_no_replica(instance, "MasterUserPassword")
        allow_major = bool(request.pop("allow_major_version_upgrade", False))
        if request.get("engine_version") is not None:
            refusals.check_upgradable(instance)
            request["engine_version"] = check_upgrade(instance, request["engine_version"], allow_major=allow_major)
            group = request.get("db_parameter_group_name") or instance.db_parameter_group_name or ""
            family = versions.family(instance.engine, request["engine_version"])
            refusals.check_group_fits(backend.db_parameter_groups.get(group), family)
        version = request.get("engine_version") or instance.engine_version
        check_iam(instance.engine, version, request.get("enable_iam_database_authentication"))
        deferred = {name: request.pop(key, None) for name, key in DEFERRED.items()}
        deferred["DBInstanceIdentifier"] = _new_name(backend, instance, request)
        was_managed = instance.manage_master_user_password
        original(backend, instance.db_instance_identifier, request | {"db_instance_identifier": instance.resource_id})
        if instance.manage_master_user_password and not was_managed:
            password = secret_password(instance)
        # AWS: some changes wait for the next maintenance window; ApplyImmediately applies all pending changes. A
        # password is changed at once in any case. moto: nothing ever waits.
        pending = pending_changes(instance, deferred)
        if password is not None:
            pending["MasterUserPassword"] = "****"
        instance.local_pending = pending
        answer = copy.copy(instance)
        waiting = {name: value for name, value in pending.items() if name != "MasterUserPassword"}
        now = waiting if request.get("apply_immediately") else {}
        life = self._fleet.of(instance)
        if now or password is not None:
            life.later(life.apply, instance, now, password)
        if by_token is not None:
            life.later(life.set_master_iam, by_token)
        return answer

    @replaces
    def delete_db_instance(
        self, original: Any, backend: Any, db_instance_identifier: str, *args: Any, **kwargs: Any
    ) -> Any:
        """Delete an instance; its replicas are promoted."""
        instance = backend.describe_db_instances(db_instance_identifier)[0]
        if instance.status == "deleting":
            raise refusals.invalid_state(f"Instance {instance.db_instance_identifier} is already being deleted.")
        if instance.db_cluster_identifier is not None:
            refusals.check_cluster_runs(instance.cluster)
        replicas = [backend.databases[name] for name in instance.replicas]
        for replica in replicas:
            backend.promote_read_replica({"db_instance_identifier": replica.db_instance_identifier})
        deleted = original(backend, instance.db_instance_identifier, *args, **kwargs)
        # AWS: deleting, for a while. moto: gone at once.
        backend.databases[deleted.db_instance_identifier] = deleted

        def forget() -> None:
            backend.databases.pop(deleted.db_instance_identifier, None)

        if deleted.db_cluster_identifier is not None:
            cluster_life = self._fleet.cluster(deleted.cluster)
            cluster_life.later(cluster_life.leave, deleted, forget)
        else:
            life = self._fleet.instance(deleted)
            self._fleet.forget(deleted.dbi_resource_id)
            life.later(life.delete, forget)
        return deleted

    @replaces
    def stop_db_instance(self, _: Any, backend: Any, identifier: str, snapshot_identifier: str | None = None) -> Any:
        """Stop the server of an instance."""
        instance = backend.describe_db_instances(identifier)[0]
        refusals.check_stoppable(instance)
        if snapshot_identifier:
            backend.create_db_snapshot(instance.db_instance_identifier, snapshot_identifier)
        return self._move(instance, "stopping", self._fleet.instance(instance).stop)

    @replaces
    def start_db_instance(self, _: Any, backend: Any, identifier: str) -> Any:
        """Start the server of a stopped instance."""
        instance = backend.describe_db_instances(identifier)[0]
        refusals.check_startable(instance)
        return self._move(instance, "starting", self._fleet.instance(instance).start)

    @replaces
    def reboot_db_instance(self, _: Any, backend: Any, identifier: str) -> Any:
        """Restart the server of an instance."""
        instance = backend.describe_db_instances(identifier)[0]
        refusals.check_available(instance)
        if instance.db_cluster_identifier is None:
            return self._move(instance, "rebooting", self._fleet.instance(instance).reboot)
        return self._move(instance, "rebooting", self._fleet.cluster(instance.cluster).reboot_member, instance)

    def _move(self, instance: Any, status: str, job: Any, *arguments: Any) -> Any:
        # AWS: the change of status takes a while. moto: it is immediate.
        instance.status = status
        answer = copy.copy(instance)
        self._fleet.of(instance).later(job, *arguments)
        return answer


def master_of(request: dict[str, Any]) -> tuple[bool, str | None]:
    """Check how the master of a new resource logs in; return whether by token, and the password if one was given.

    An IAM user has a password that nobody knows.
    """
    password, managed = request.get("master_user_password"), request.get("manage_master_user_password")
    by_token = refusals.check_master_type(
        request.get("engine", ""),
        request.pop("master_user_authentication_type", None),
        iam=bool(request.get("enable_iam_database_authentication")),
        password=password,
        managed=managed,
    )
    if by_token:
        return True, _new_password()
    refusals.check_password(password, managed=managed)
    return False, password


def master_change(resource: Any, request: dict[str, Any]) -> bool | None:
    """Check a change of how the master logs in; return whether by token from now on, None if that stays."""
    kind = request.pop("master_user_authentication_type", None)
    password, managed = request.get("master_user_password"), request.get("manage_master_user_password")
    given = request.get("enable_iam_database_authentication")
    iam = bool(resource.enable_iam_database_authentication) if given is None else bool(given)
    by_token = refusals.check_master_type(resource.engine, kind, iam=iam, password=password, managed=managed)
    if by_token and resource.manage_master_user_password and managed is not False:
        # AWS: a master has one kind of login; RDS deletes the secret that it kept.
        request["manage_master_user_password"] = False
    if kind is None:
        refusals.check_master_stays(resource, iam=given, managed=managed)
    if password is not None or (kind == "password" and resource.local_master_iam):
        refusals.check_password(password, managed=managed)
    if kind is None or by_token == resource.local_master_iam:
        return None
    resource.local_master_iam = by_token
    return by_token


def _resource_id() -> str:
    return "db-" + "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(26))


def _new_password() -> str:
    return "".join(secrets.choice(_PASSWORD_CHARACTERS) for _ in range(_PASSWORD_LENGTH))


def _new_name(backend: Any, instance: Any, request: dict[str, Any]) -> str | None:
    name = request.pop("new_db_instance_identifier", None)
    if name is None or name.lower() == instance.db_instance_identifier:
        return None
    backend._validate_db_identifier(name)
    if name in backend.databases:
        raise DBInstanceAlreadyExists
    return str(name).lower()


def pending_changes(instance: Any, deferred: dict[str, Any]) -> dict[str, Any]:
    """Return the earlier and the requested changes; requesting the present value cancels a change."""
    pending = dict(instance.local_pending)
    for name, value in deferred.items():
        if value is None:
            continue
        if name in DEFERRED and getattr(instance, DEFERRED[name], None) == value:
            pending.pop(name, None)
        else:
            pending[name] = value
    return pending
