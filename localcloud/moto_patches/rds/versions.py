"""Patches of moto's engine versions: AWS answers what can be created and upgraded; moto knows two engines' options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moto.core.responses import ActionResult
from moto.rds.exceptions import RDSClientError

from localcloud.databases.rds import versions
from localcloud.databases.rds.versions import Series
from localcloud.moto_patches.patch import Patch, adds, replaces
from localcloud.moto_patches.rds import pages

_CLASSES = ("db.t4g.medium", "db.t4g.large", "db.m7g.large", "db.r7g.large")
_ZONES = "abc"
_DESCRIPTIONS = {
    "postgres": "PostgreSQL",
    "mysql": "MySQL Community Edition",
    "mariadb": "MariaDB Community Edition",
    "aurora-postgresql": "Aurora (PostgreSQL)",
    "aurora-mysql": "Aurora MySQL",
}


def check_version(engine: str, requested: str | None) -> str | None:
    """Return the version of a new database; None if moto decides.

    :raises RDSClientError: RDS does not offer it.
    """
    if requested is None and engine not in versions.DEFAULTS:
        return None
    try:
        return versions.resolve(engine, requested)
    except versions.UnknownVersion as unknown:
        raise RDSClientError("InvalidParameterCombination", str(unknown)) from None


def check_upgrade(resource: Any, requested: str, *, allow_major: bool) -> str:
    """Return the version that an instance or a cluster is upgraded to.

    :raises RDSClientError: RDS does not offer the version or the upgrade.
    """
    engine, present = str(resource.engine), str(resource.engine_version)
    target = check_version(engine, requested) or requested
    if target != present and versions.series_of(engine):
        try:
            versions.check_upgrade(engine, present, target, allow_major=allow_major)
        except versions.UpgradeRefused as refused:
            raise RDSClientError("InvalidParameterCombination", str(refused)) from None
    return target


def check_iam(engine: str, version: str | None, iam: object) -> None:
    """Check that IAM authentication is not switched on for a version without it.

    :raises RDSClientError: RDS refuses it.
    """
    series = next((each for each in versions.series_of(engine) if version in each.versions), None)
    # AWS: refuses the call. moto: switches it on for every version.
    if iam and series is not None and not versions.has_iam(series):
        message = "IAM Database Authentication is not supported for this configuration."
        raise RDSClientError("InvalidParameterCombination", message)


class VersionResponses(Patch):
    """Answers about engine versions."""

    target = "moto.rds.responses.RDSResponse"

    @adds
    def describe_db_engine_versions(self, response: Any) -> ActionResult:
        """Answer DescribeDBEngineVersions, which moto does not know."""
        wanted = response.params
        default_only = bool(wanted.get("DefaultOnly"))
        result = [
            _described(series, version)
            for series, version in _offered(wanted.get("Engine"), wanted.get("EngineVersion"))
            if wanted.get("DBParameterGroupFamily") in (None, series.family)
            and (not default_only or version == versions.DEFAULTS[series.engine])
        ]
        return pages.page(wanted, "DBEngineVersions", result)

    @replaces
    def describe_orderable_db_instance_options(self, original: Any, response: Any) -> ActionResult:
        """Answer DescribeOrderableDBInstanceOptions for the engines that localcloud has servers for."""
        wanted = response.params
        if not versions.series_of(wanted.get("Engine", "")):
            answer: ActionResult = original(response)
            return answer
        options = [
            _option(series, version, instance_class, response.region)
            for series, version in _offered(wanted["Engine"], wanted.get("EngineVersion"))
            for instance_class in _CLASSES
            if wanted.get("DBInstanceClass") in (None, instance_class)
        ]
        return pages.page(wanted, "OrderableDBInstanceOptions", options)


def _offered(engine: str | None, version: str | None) -> Iterator[tuple[Series, str]]:
    """Yield the versions that RDS offers; a request may name an engine, and a version or its series."""
    for series in versions.SERIES:
        if engine in (None, series.engine):
            for each in series.versions:
                if version in (None, series.name, each):
                    yield series, each


def _described(series: Series, version: str) -> dict[str, Any]:
    engine = series.engine
    return {
        "Engine": engine,
        "MajorEngineVersion": series.name,
        "EngineVersion": version,
        "DBParameterGroupFamily": series.family,
        "DBEngineDescription": _DESCRIPTIONS[engine],
        "DBEngineVersionDescription": f"{_DESCRIPTIONS[engine]} {version}",
        "ValidUpgradeTarget": [
            {
                "Engine": engine,
                "EngineVersion": target,
                "Description": f"{_DESCRIPTIONS[engine]} {target}",
                "AutoUpgrade": False,
                "IsMajorVersionUpgrade": is_major,
            }
            for target, is_major in versions.upgrade_targets(engine, version)
        ],
        "SupportsReadReplica": not engine.startswith("aurora-"),
        "Status": "available",
    }


def _option(series: Series, version: str, instance_class: str, region: str) -> dict[str, Any]:
    return {
        "Engine": series.engine,
        "EngineVersion": version,
        "DBInstanceClass": instance_class,
        "LicenseModel": "postgresql-license" if "postgres" in series.engine else "general-public-license",
        "AvailabilityZones": [{"Name": f"{region}{zone}"} for zone in _ZONES],
        "MultiAZCapable": not series.engine.startswith("aurora-"),
        "ReadReplicaCapable": not series.engine.startswith("aurora-"),
        "Vpc": True,
        "SupportsStorageEncryption": True,
        "StorageType": "aurora" if series.engine.startswith("aurora-") else "gp3",
        "SupportsIAMDatabaseAuthentication": versions.has_iam(series),
        "SupportedEngineModes": ["provisioned"],
        "SupportsClusters": series.engine.startswith("aurora-"),
    }
