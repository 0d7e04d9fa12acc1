"""Records follow their database by its resource id: renamed, swapped, gone, copied."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from rdsiam.access.model import parse
from rdsiam.access.selection import NOTHING, Attributes, SelectedDatabase
from rdsiam.aws.rds_descriptions import from_cluster, from_instance
from rdsiam.core.changes import Unconfirmed
from rdsiam.errors import DatabaseNotFound
from rdsiam.onboarding.options import Options
from rdsiam.onboarding.publication import Publication
from rdsiam.onboarding.reconcile import Reconcile
from rdsiam.onboarding.recording import Recording
from rdsiam.state import fingerprint, recorded
from rdsiam.state.inventory import Inventory
from rdsiam.state.record import Applied, SecretRecord, selected
from tests.unit.databases import ORDERS
from tests.unit.inventories import create_inventory


@pytest.fixture
def inventory() -> Iterator[Inventory]:
    with mock_aws():
        keys: dict[str, Any] = {"region_name": "eu-west-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
        dynamodb = boto3.client("dynamodb", **keys)
        create_inventory(dynamodb)
        yield Inventory(dynamodb, "inventory")


class Fleet:
    """The databases that RDS has now."""

    def __init__(self, *databases: SelectedDatabase) -> None:
        self._databases = databases

    def describe(self, arn: str) -> SelectedDatabase:
        found = next((one for one in self._databases if one.arn == arn), None)
        if found is None:
            raise DatabaseNotFound(arn)
        return found

    def page(self, position: None) -> tuple[tuple[SelectedDatabase, ...], None]:
        return self._databases, position

    def of_resource(self, resource_id: str) -> SelectedDatabase | None:
        return next((one for one in self._databases if one.resource_id == resource_id), None)


def called(name: str, resource_id: str, **more: Any) -> SelectedDatabase:
    return replace(
        ORDERS, arn=ORDERS.arn.replace(":orders", f":{name}"), identifier=name, resource_id=resource_id, **more
    )


def onboard(inventory: Inventory, database: SelectedDatabase, role: str) -> None:
    inventory.select(database, Attributes.of(database))
    inventory.record_ownership(database, {"app": "created"})
    inventory.set_roles(database.arn, database.resource_id, [role], {"app": 2})
    inventory.onboarded(database, Applied("v1", "d", 1, ("app",)), "f", "2026-11-24T11:00:00Z")


def rename(inventory: Inventory, database: SelectedDatabase, *fleet: SelectedDatabase) -> None:
    recorded.follow_rename(Fleet(database, *fleet), inventory, database)  # type: ignore[arg-type]


def test_a_renamed_database_keeps_its_record_and_the_attributes_that_were_recorded(inventory):
    orders, play = called("orders", "db-ONE"), called("play", "db-ONE")
    onboard(inventory, orders, "role")
    inventory.revoke(orders.arn, {"app": "leaked"}, ())
    assert selected(play, inventory.of(play)).recorded == Attributes.of(orders), "before it has moved"
    for _ in range(2):
        rename(inventory, play)
        record = inventory.get(play.arn)
        assert inventory.get(orders.arn) is None
        assert record is not None
        assert (record.revoked, record.accounts, record.roles) == ({"app": "leaked"}, {"app": "created"}, ("role",))
        assert (record.recorded, record.arn) == (Attributes.of(orders), play.arn)
        assert record.database is not None
        assert record.database.recorded == Attributes.of(orders), "which vending goes by"


@pytest.mark.parametrize("first", [0, 1])
def test_two_databases_that_swap_names_keep_their_own_records(inventory, first):
    onboard(inventory, called("blue", "db-ONE"), "one")
    onboard(inventory, called("green", "db-TWO"), "two")
    swapped = [called("green", "db-ONE"), called("blue", "db-TWO")]
    for database in (swapped[first], swapped[1 - first]):
        rename(inventory, database, *swapped)
    for database, name in zip(swapped, ("blue", "green"), strict=True):
        record = inventory.of(database)
        assert record is not None
        assert (record.arn, record.resource_id) == (database.arn, database.resource_id)
        assert record.recorded is not None
        assert record.recorded.identifier == name


def test_a_database_renamed_to_a_free_name_also_withdraws_the_policies_of_the_former_owner(inventory):
    onboard(inventory, called("orders", "db-OLD"), "old")
    onboard(inventory, called("spare", "db-NEW"), "new")
    orders = called("orders", "db-NEW")
    rename(inventory, orders)
    record = inventory.get(orders.arn)
    assert record is not None
    assert (record.resource_id, record.policy_resource_id, record.roles) == ("db-NEW", "db-OLD", ("new", "old"))


def test_a_copy_has_the_attributes_of_its_source_even_if_that_is_gone_and_none_if_it_is_unknown(inventory):
    orders = called("orders", "db-ONE")
    onboard(inventory, orders, "role")
    assert recorded.of_copy(inventory, "db-ONE") == Attributes.of(orders)
    inventory.forget(orders.arn)
    assert inventory.get(orders.arn) is None
    assert recorded.of_copy(inventory, "db-ONE") == Attributes.of(orders)
    assert recorded.of_copy(inventory, "db-TWO") == NOTHING
    assert recorded.of_copy(inventory, None) == NOTHING
    assert list(inventory.all()) == [], "what is kept of it is no database"


def test_a_replica_has_the_attributes_of_its_source_and_not_of_a_former_database_of_its_name(inventory):
    source, replica = called("orders", "db-ONE"), called("play", "db-REPLICA", replica_of="orders")
    onboard(inventory, called("orders", "db-FORMER"), "role")

    def attributes(*fleet: SelectedDatabase, confirmed: bool = False) -> Attributes | None:
        found = recorded.selection(Fleet(*fleet), inventory, replica, confirmed)  # type: ignore[arg-type]
        return found.recorded

    assert attributes(source, replica) == NOTHING
    assert attributes(replica) == NOTHING, "its source is in another region"
    assert attributes(source, replica, confirmed=True) is None
    onboard(inventory, source, "role")
    assert attributes(source, replica) == Attributes.of(source)
    inventory.select(replica, Attributes.of(replica))
    assert attributes(source, replica) == Attributes.of(replica), "once it is confirmed"


@pytest.mark.parametrize(
    "described",
    [
        {"ReadReplicaSourceDBClusterIdentifier": "vault"},
        {"ReadReplicaSourceDBClusterIdentifier": "arn:aws:rds:eu-west-1:123456789012:cluster:vault"},
    ],
)
def test_an_instance_with_the_name_of_the_source_cluster_is_not_the_source(inventory, described):
    onboard(inventory, called("vault", "db-DECOY", tags={"env": "dev"}), "role")
    replica = from_instance(
        {
            "DBInstanceArn": ORDERS.arn.replace("orders", "replica"), "DBInstanceIdentifier": "replica",
            "Engine": "postgres", "EngineVersion": "18", "DbiResourceId": "db-REPLICA", "DBInstanceStatus": "available",
        }
        | described
    )  # fmt: skip
    fleet: Any = Fleet(called("vault", "db-DECOY", tags={"env": "dev"}))
    assert recorded.selection(fleet, inventory, replica).recorded == NOTHING


def test_a_database_with_the_name_of_the_global_cluster_is_not_the_source(inventory):
    onboard(inventory, called("world", "db-DECOY", tags={"env": "dev"}), "role")
    follower = from_cluster(
        {
            "DBClusterArn": ORDERS.arn.replace("db:orders", "cluster:far"), "DBClusterIdentifier": "far",
            "Engine": "aurora-postgresql", "EngineVersion": "17", "DbClusterResourceId": "cluster-FAR",
            "Status": "available", "GlobalClusterIdentifier": "world",
            "DBClusterMembers": [{"DBInstanceIdentifier": "far-1", "IsClusterWriter": False}],
        }
    )  # fmt: skip
    fleet: Any = Fleet(called("world", "db-DECOY", tags={"env": "dev"}))
    assert recorded.selection(fleet, inventory, follower).recorded == NOTHING


def test_a_new_database_of_the_same_name_has_no_recorded_attributes(inventory):
    onboard(inventory, called("orders", "db-ONE"), "role")
    again = called("orders", "db-TWO")
    assert selected(again, inventory.of(again)).recorded is None
    inventory.select(again, Attributes.of(again))
    record = inventory.get(again.arn)
    assert record is not None
    assert (record.accounts, record.database, record.finished) == ({}, None, False)


def test_an_undeclared_database_is_selected_as_first_seen_unless_it_is_a_replica(inventory):
    secret, play = called("secret", "db-ONE"), called("play", "db-ONE")
    inventory.see(secret)
    record = inventory.of(play)
    assert record is not None
    assert record.only_seen
    assert selected(play, record).recorded == Attributes.of(secret)
    replica = called("replica", "db-REPLICA", replica_of="orders")
    inventory.see(replica)
    found = recorded.selection(Fleet(replica), inventory, replica)  # type: ignore[arg-type]
    assert found.recorded == NOTHING, "its source's attributes count"
    inventory.record_ownership(secret, {"rdsiam_manager": "created"})
    onboarded = inventory.get(secret.arn)
    assert onboarded is not None
    assert not onboarded.only_seen


def test_a_database_with_a_recorded_secret_is_not_only_seen(inventory):
    orders = called("orders", "db-ONE")
    inventory.see(orders)
    inventory.set_secret(orders.arn, "etl", SecretRecord("db-ONE", "arn:s", "single"), None)
    record = inventory.get(orders.arn)
    assert record is not None
    assert not record.only_seen, "its rotation has to end if no entry declares it"


def test_a_record_does_not_apply_to_a_new_database_of_the_same_name(inventory):
    """A person who may rename or delete a database can restore another snapshot under its name."""
    onboard(inventory, called("play", "db-ONE", tags={"env": "dev"}), "role")
    restored = called("play", "db-TWO")
    inventory.onboarded(restored, Applied("v1", "nothing", 1, ()), "f", "2026-11-24T11:00:00Z")
    record = inventory.of(restored)
    assert record is not None
    assert record.is_of(restored)
    assert record.accounts == {}, "its manager would tell that it is no copy"
    tagged = called("play", "db-TWO", tags={"env": "dev"})
    assert selected(tagged, record).recorded == Attributes.of(restored)
    renamed = inventory.of(called("other", "db-TWO"))
    assert renamed is not None, "it is found by its resource id"
    assert renamed.is_of(restored)


def test_a_renamed_database_keeps_its_record_if_a_new_database_gets_its_name_first(inventory):
    """The usual way to restore a database: rename it, and restore its snapshot under its name."""
    onboard(inventory, called("orders", "db-ONE"), "one")
    inventory.revoke(called("orders", "db-ONE").arn, {"app": "leaked"}, ())
    former, restored = called("orders-old", "db-ONE"), called("orders", "db-TWO")
    fleet = Fleet(former, restored)
    services: Any = SimpleNamespace(databases=fleet, inventory=inventory)
    Recording(services, restored.arn, Options()).attributes()
    inventory.select(restored, recorded.of_copy(inventory, "db-ONE"), copied=True)
    for _ in range(2):
        rename(inventory, former, restored)
        record = inventory.of(former)
        assert record is not None
        assert (record.arn, record.accounts, record.revoked) == (former.arn, {"app": "created"}, {"app": "leaked"})
    fresh = inventory.get(restored.arn)
    assert fresh is not None
    assert (fresh.is_of(restored), fresh.accounts) == (True, {})
    assert (fresh.recorded, fresh.copied) == (Attributes.of(called("orders", "db-ONE")), True)


def test_a_reconcile_keeps_the_record_of_a_database_renamed_out_of_every_entry(inventory):
    """A reconcile finds the record by the resource id of the database."""
    orders, nobodys = called("orders", "db-ONE"), called("nobodys", "db-ONE")
    onboard(inventory, orders, "role")
    inventory.revoke(orders.arn, {"app": "leaked"}, ())
    started = reconcile(inventory, nobodys)
    assert started == [nobodys.arn]
    record = inventory.of(nobodys)
    assert record is not None
    assert (record.revoked, record.recorded) == ({"app": "leaked"}, Attributes.of(orders))


def test_a_reconcile_keeps_the_first_seen_attributes_of_a_renamed_database_if_a_new_database_has_its_name(inventory):
    inventory.see(called("secret", "db-ONE", tags={"team": "secret"}))
    renamed, decoy = called("other", "db-ONE", tags={"team": "play"}), called("secret", "db-TWO")
    assert reconcile(inventory, decoy, renamed) == [renamed.arn], "since something waits for confirmation"
    record = inventory.of(renamed)
    assert record is not None
    assert record.is_of(renamed)
    assert record.first_seen is not None
    assert record.first_seen.tags == {"team": "secret"}


def reconcile(inventory: Inventory, *fleet: SelectedDatabase) -> list[str]:
    """Reconcile with an access.yaml that matches team=play alone, and return the started databases."""
    file = parse(
        "version: 1\ndatabases:\n"
        "  - match: {tags: {team: play}}\n"
        "    users: [{name: dev, privileges: owner, on: [shop], callers: [{claim: {groups: dev}}]}]\n"
    )
    databases = Fleet(*fleet)
    services: Any = SimpleNamespace(
        databases=databases,
        inventory=inventory,
        newest=SimpleNamespace(current=lambda: SimpleNamespace(file=file)),
        functions=SimpleNamespace(invoke=lambda **_: None),
        onboard_function="onboard",
        connect_role_shards=4,
    )
    return list(Reconcile(services, "a-reconcile", Options()).page(None).started)


def test_a_record_without_attributes_matches_no_entry(inventory):
    orders = called("orders", "db-ONE")
    inventory.record_ownership(orders, {"app": "created"})
    inventory.onboarded(orders, Applied("v1", "d", 1, ("app",)), "f", "2026-11-24T11:00:00Z")
    record = inventory.get(orders.arn)
    assert record is not None
    assert record.database is not None
    assert record.database.recorded == NOTHING


def test_pending_gains_are_published_once_and_again_if_they_change_or_come_back(inventory):
    orders = called("orders", "db-ONE")
    onboard(inventory, orders, "role")
    published: list[dict[str, Any]] = []

    def put_events(Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803  as boto3 calls it
        published.extend(Entries)
        return {"FailedEntryCount": 0}

    services: Any = SimpleNamespace(inventory=inventory, events=SimpleNamespace(put_events=put_events))
    publication = Publication(services, orders.arn)
    for reason in ("app gains", "app gains", "app and dev gain", None, None, "app gains"):
        publication.pending(Unconfirmed(orders.arn, reason, "confirm it", retry=False) if reason else None)
    assert [one["DetailType"] for one in published] == ["rdsiam.database.gains-pending"] * 3
    assert ["dev" in one["Detail"] for one in published] == [False, True, False]
    assert all(one["Resources"] == [orders.arn] for one in published)


@pytest.mark.parametrize(("shard", "started"), [(1, False), (4, False), (5, True), (10, True)])
def test_a_reconcile_starts_databases_whose_shard_of_connect_role_the_stack_no_longer_has(inventory, shard, started):
    database = called("orders", "db-ONE")
    current = fingerprint.of_database(database, fingerprint.of_declared(()))
    inventory.select(database, Attributes.of(database))
    inventory.record_ownership(database, {"app": "created"})
    inventory.set_roles(database.arn, database.resource_id, ["role"], {"app": shard, "other": 1})
    inventory.onboarded(database, Applied("v1", "d", 1, ("app",)), current, "2026-11-24T11:00:00Z")
    record = inventory.get(database.arn)
    assert record is not None
    assert record.shards == {"app": shard, "other": 1}
    assert reconcile(inventory, database) == ([database.arn] if started else [])
