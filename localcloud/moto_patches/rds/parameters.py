"""Patches of moto's parameter groups: a parameter that is applied immediately reaches the servers at once."""

from __future__ import annotations

from typing import Any

from moto.rds.exceptions import RDSClientError

from localcloud.databases.rds.fleet import Fleet
from localcloud.moto_patches.patch import Patch, replaces


class ParameterGroups(Patch):
    """Calls about parameter groups."""

    target = "moto.rds.models.RDSBackend"

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    @replaces
    def modify_db_parameter_group(self, original: Any, backend: Any, name: str, parameters: Any) -> Any:
        """Modify a group of instances."""
        _check_own(name)
        group = original(backend, name, parameters)
        self._update("db", "db_parameter_group_name", group.name)
        return group

    @replaces
    def modify_db_cluster_parameter_group(self, original: Any, backend: Any, name: str, parameters: Any) -> Any:
        """Modify a group of clusters."""
        _check_own(name)
        group = original(backend, name, parameters)
        self._update("cluster", "parameter_group", group.name)
        return group

    def _update(self, kind: str, attribute: str, group: str) -> None:
        for life in self._fleet.lives():
            if life.resource.resource_type == kind and getattr(life.resource, attribute) == group:
                life.later(life.read_parameters)


def _check_own(name: str) -> None:
    # AWS: default groups can't be changed. moto: changes them.
    if name.startswith("default."):
        raise RDSClientError("InvalidDBParameterGroupState", f"{name} is a default group and can't be modified.")
