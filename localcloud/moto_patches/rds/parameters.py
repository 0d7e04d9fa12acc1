"""Parameter groups that do something: what is set to be applied immediately reaches the servers at once."""

from __future__ import annotations

from typing import Any

from moto.rds import models
from moto.rds.exceptions import RDSClientError

from localcloud.databases.rds.fleet import Fleet


def close(fleet: Fleet) -> None:
    """Patch moto's parameter groups."""
    backend_class = models.RDSBackend
    modify, modify_cluster = backend_class.modify_db_parameter_group, backend_class.modify_db_cluster_parameter_group

    def modify_db_parameter_group(backend: Any, name: str, parameters: Any) -> Any:
        _check_own(name)
        group = modify(backend, name, parameters)
        _tell(fleet, "db", "db_parameter_group_name", group.name)
        return group

    def modify_db_cluster_parameter_group(backend: Any, name: str, parameters: Any) -> Any:
        _check_own(name)
        group = modify_cluster(backend, name, parameters)
        _tell(fleet, "cluster", "parameter_group", group.name)
        return group

    backend_class.modify_db_parameter_group = modify_db_parameter_group
    backend_class.modify_db_cluster_parameter_group = modify_db_cluster_parameter_group


def _check_own(name: str) -> None:
    # AWS: default groups can't be changed. moto: can.
    if name.startswith("default."):
        raise RDSClientError("InvalidDBParameterGroupState", f"{name} is a default group and can't be modified.")


def _tell(fleet: Fleet, kind: str, attribute: str, group: str) -> None:
    for life in fleet.lives():
        if life.resource.resource_type == kind and getattr(life.resource, attribute) == group:
            life.later(life.read_parameters)
