"""Parameter values of an instance or a cluster: its group's, and RDS's if the group has none."""

from __future__ import annotations

import re
from typing import Any

from localcloud.databases.servers import postgres_settings
from localcloud.databases.servers.mysql import MysqlServer
from localcloud.databases.servers.postgres_programs import NEWEST

_POSTGRES = ("postgres", "aurora-postgresql")


def of(resource: Any, *, dynamic_only: bool = False) -> dict[str, str]:
    """Return the values of RDS's server.

    :param dynamic_only: leave out values that the group applies with the next reboot.
    """
    group = _group(resource)
    given = {} if group is None else group.parameters
    values = {} if dynamic_only else _defaults(resource)
    for name, parameter in given.items():
        if "ParameterValue" in parameter and not (dynamic_only and parameter.get("ApplyMethod") == "pending-reboot"):
            values[name] = str(parameter["ParameterValue"])
    return values


def _defaults(resource: Any) -> dict[str, str]:
    if resource.engine not in _POSTGRES:
        return dict(MysqlServer.parameters)
    major = re.match(r"\d+", str(resource.engine_version))
    version = NEWEST if major is None else int(major[0])
    return postgres_settings.default_parameters(version) | postgres_settings.REPLICATION


def _group(resource: Any) -> Any | None:
    backend = resource.backend
    if resource.resource_type == "cluster":
        return backend.db_cluster_parameter_groups.get(resource.parameter_group or "")
    return backend.db_parameter_groups.get(resource.db_parameter_group_name or "")
