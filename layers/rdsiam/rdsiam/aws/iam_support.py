"""Whether a database can have IAM authentication at all: its engine, version, class and region decide.

RDS's table of what can be ordered says it for each of them. A combination that is no longer offered is unknown, and
switching IAM authentication on is tried.
"""

from typing import Any, NamedTuple

from rdsiam.aws.rds_models import Database


class IamSupport(NamedTuple):
    """The answer for one database.

    :ivar upgrade: the nearest version with IAM authentication that the database can be upgraded to; None if RDS offers
        none, or if it isn't needed.
    """

    available: bool
    upgrade: str | None = None

    def problem(self, database: Database) -> str:
        """Return why the database can't have it."""
        return f"{database.arn}: {database.engine} {database.engine_version} has no IAM authentication here"

    @property
    def remedy(self) -> str:
        """The remedy, as refusals have it."""
        if self.upgrade is None:
            return "move the data to a version and a region with IAM authentication"
        return f"upgrade it to {self.upgrade} or later"


class IamSupports:
    """Looks up what RDS offers, once for each engine, version and class."""

    def __init__(self, rds: Any) -> None:
        self._rds = rds
        self._known: dict[tuple[str, str, str | None], bool] = {}

    def of(self, database: Database) -> IamSupport:
        """Return whether a database can have IAM authentication, and otherwise a version that can."""
        if database.iam_enabled or self._is_available(database, database.engine_version):
            return IamSupport(True)
        return IamSupport(False, self._upgrade(database))

    def _upgrade(self, database: Database) -> str | None:
        versions = self._rds.describe_db_engine_versions(
            Engine=database.engine, EngineVersion=database.engine_version, IncludeAll=True
        )["DBEngineVersions"]
        targets = [target["EngineVersion"] for version in versions for target in version.get("ValidUpgradeTarget", [])]
        return next((target for target in targets if self._is_available(database, target)), None)

    def _is_available(self, database: Database, version: str) -> bool:
        key = database.engine, version, database.instance_class
        if key not in self._known:
            self._known[key] = self._look_up(*key)
        return self._known[key]

    def _look_up(self, engine: str, version: str, instance_class: str | None) -> bool:
        query = {"Engine": engine, "EngineVersion": version}
        options = self._options(**query, DBInstanceClass=instance_class) if instance_class else []
        # A class that is no longer offered says nothing about its version.
        options = options or self._options(**query)
        return not options or any(options)

    def _options(self, **query: str) -> list[bool]:
        """Return for each offered combination whether it has IAM authentication; only the first if one has."""
        support: list[bool] = []
        for page in self._rds.get_paginator("describe_orderable_db_instance_options").paginate(**query):
            support += [
                bool(option.get("SupportsIAMDatabaseAuthentication")) for option in page["OrderableDBInstanceOptions"]
            ]
            if any(support):
                break
        return support
