"""Pages of databases go on while databases are deleted, as RDS's do."""

import boto3
import pytest
from moto import mock_aws
from moto.utilities.paginator import Paginator

from localcloud.moto_patches.pages import Pages
from localcloud.moto_patches.patch import apply_patches

NAMES = ["e", "b", "d", "a", "c"]


@pytest.fixture
def rds(monkeypatch):
    """Yield RDS with five databases, created in another order than that of their names."""
    monkeypatch.setattr(Paginator, "paginate", Paginator.paginate)
    apply_patches([Pages()])
    with mock_aws():
        client = boto3.client("rds", region_name="eu-central-1")
        for name in NAMES:
            client.create_db_instance(DBInstanceIdentifier=name, Engine="postgres", DBInstanceClass="db.t4g.micro")
        yield client


def listed(rds, deleted: str | None = None) -> list[str]:
    """List databases in pages of two, and delete one after the first page."""
    names: list[str] = []
    marker: dict[str, str] = {}
    while True:
        page = rds.describe_db_instances(MaxRecords=2, **marker)
        names += [each["DBInstanceIdentifier"] for each in page["DBInstances"]]
        if deleted in NAMES and not marker:
            rds.delete_db_instance(DBInstanceIdentifier=deleted, SkipFinalSnapshot=True)
        if not page.get("Marker"):
            return names
        marker = {"Marker": page["Marker"]}


def test_pages_are_sorted_by_name(rds):
    assert listed(rds) == sorted(NAMES)


@pytest.mark.parametrize(("deleted", "names"), [("a", "abcde"), ("c", "abde"), ("d", "abce"), ("e", "abcd")], ids=str)
def test_a_database_that_is_deleted_between_two_pages_ends_no_listing(rds, deleted, names):
    assert listed(rds, deleted) == list(names)


def test_a_listing_ends_if_all_that_follow_were_deleted(rds):
    page = rds.describe_db_instances(MaxRecords=3)
    for name in ("d", "e"):
        rds.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
    assert rds.describe_db_instances(Marker=page["Marker"])["DBInstances"] == []
