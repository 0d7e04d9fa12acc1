"""Which databases can have IAM authentication: RDS's own table of offers decides, not a list of versions."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rdsiam.aws.iam_support import IamSupport, IamSupports
from rdsiam.aws.rds import Databases
from rdsiam.errors import Refused
from tests.unit.databases import ORDERS

OLD = replace(ORDERS, engine="mariadb", engine_version="10.6.24", iam_enabled=False, instance_class="db.t4g.medium")


class Rds:
    """RDS's offers: (engine, version, class) → whether it has IAM authentication; and upgrades by version."""

    def __init__(self, offers: dict[tuple[str, str, str], bool], upgrades: dict[str, list[str]] | None = None) -> None:
        self.offers = offers
        self.upgrades = upgrades or {}
        self.asked: list[dict[str, str]] = []

    def get_paginator(self, name: str) -> Any:
        assert name == "describe_orderable_db_instance_options"
        return type("Paginator", (), {"paginate": staticmethod(self._pages)})

    def _pages(self, **query: str) -> Iterator[dict[str, Any]]:
        self.asked.append(query)
        for (engine, version, instance_class), iam in self.offers.items():
            offered = (engine, version) == (query["Engine"], query["EngineVersion"])
            if offered and query.get("DBInstanceClass") in (None, instance_class):
                yield {"OrderableDBInstanceOptions": [{"SupportsIAMDatabaseAuthentication": iam}]}

    def describe_db_engine_versions(self, Engine: str, EngineVersion: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        targets = [{"Engine": Engine, "EngineVersion": each} for each in self.upgrades.get(EngineVersion, [])]
        return {"DBEngineVersions": [{"ValidUpgradeTarget": targets}]}


def test_a_version_that_is_offered_with_it_has_it():
    assert IamSupports(Rds({("mariadb", "10.6.24", "db.t4g.medium"): True})).of(OLD) == IamSupport(True)


def test_a_database_in_which_it_is_on_is_not_looked_up():
    rds = Rds({})
    assert IamSupports(rds).of(replace(OLD, iam_enabled=True)).available
    assert rds.asked == []


def test_the_nearest_version_with_it_is_named():
    table = {
        ("mariadb", "10.6.24", "db.t4g.medium"): False,
        ("mariadb", "10.6.25", "db.t4g.medium"): False,
        ("mariadb", "10.11.4", "db.t4g.medium"): True,
        ("mariadb", "11.4.3", "db.t4g.medium"): True,
    }
    rds = Rds(table, {"10.6.24": ["10.6.25", "10.11.4", "11.4.3"]})
    support = IamSupports(rds).of(OLD)
    assert support == IamSupport(False, "10.11.4")
    assert support.problem(OLD).endswith("mariadb 10.6.24 has no IAM authentication here")
    assert support.remedy == "upgrade it to 10.11.4 or later"


@pytest.mark.parametrize("engine", ["mariadb", "postgres", "mysql"])
def test_a_region_that_offers_no_version_with_it_has_no_upgrade(engine):
    table = {(engine, version, "db.t4g.medium"): False for version in ("10.6.24", "10.11.4")}
    support = IamSupports(Rds(table, {"10.6.24": ["10.11.4"]})).of(replace(OLD, engine=engine))
    assert support == IamSupport(False, None)
    assert "region" in support.remedy


@pytest.mark.parametrize(
    ("table", "available"),
    [
        pytest.param({("mariadb", "10.6.24", "db.m7g.large"): False}, False, id="the class is no longer offered"),
        pytest.param({("mariadb", "10.6.24", "db.m7g.large"): True}, True, id="another class has it"),
        pytest.param({}, True, id="the version is no longer offered, so it is tried"),
    ],
)
def test_what_is_no_longer_offered_is_decided_by_the_rest(table, available):
    assert IamSupports(Rds(table)).of(OLD).available is available


def test_a_cluster_is_looked_up_by_its_version_alone():
    rds = Rds({("aurora-mysql", "8.0", "db.r7g.large"): False, ("aurora-mysql", "8.0", "db.r8g.large"): True})
    cluster = replace(OLD, engine="aurora-mysql", engine_version="8.0", kind="cluster", instance_class=None)
    assert IamSupports(rds).of(cluster).available
    assert rds.asked == [{"Engine": "aurora-mysql", "EngineVersion": "8.0"}]


def test_many_databases_of_one_version_are_looked_up_once():
    rds = Rds({("mariadb", "10.6.24", "db.t4g.medium"): True})
    supports = IamSupports(rds)
    assert all(supports.of(replace(OLD, identifier=f"db-{number}")).available for number in range(100))
    assert len(rds.asked) == 1


def test_a_switch_that_rds_refuses_for_good_is_refused_and_not_repeated():
    rds: Any = Rds({("mariadb", "10.6.24", "db.t4g.medium"): False}, {"10.6.24": ["10.11.4"]})
    error = {"Error": {"Code": "InvalidParameterCombination", "Message": "not supported for this configuration"}}

    def modify(**_: Any) -> None:
        raise ClientError(error, "ModifyDBInstance")  # type: ignore[arg-type]

    rds.modify_db_instance = modify
    with pytest.raises(Refused) as refused:
        Databases(rds, "arn:aws:iam::123456789012:role/onboard").enable_iam(OLD)
    assert refused.value.code == "iam-unavailable"
    assert "not supported for this configuration" in refused.value.problem
