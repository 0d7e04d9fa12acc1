"""Read replicas, snapshots and restores through boto3: each copy has its own resource id, and the users and data."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.databases import REFUSED, Databases, Events

pytestmark = pytest.mark.exhaustive_on("mysql")  # MariaDB's replication is MySQL's, but for its words

ENGINE_NAMES = ["postgres", "mariadb", "mysql"]
#: Engines whose replica is promoted in the test; the others' source is deleted.
PROMOTED = ("postgres", "mysql")


@pytest.fixture(scope="module", params=ENGINE_NAMES)
def engine(request) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def source(databases: Databases, events: Events, engine: str) -> Iterator[dict[str, Any]]:
    """Return an instance with an IAM user, a table, a snapshot, a replica and copies of both kinds."""
    rds = databases.rds
    databases.make(f"src-{engine}", engine, EnableIAMDatabaseAuthentication=True)
    databases.available(f"src-{engine}")
    made = databases.instance(f"src-{engine}")
    with databases.as_master(made) as master:
        databases.make_iam_user(master)
        for statement in _table(engine):
            master.run(statement)
    rds.create_db_snapshot(DBSnapshotIdentifier=f"snap-{engine}", DBInstanceIdentifier=f"src-{engine}")
    databases.eventually(lambda: _snapshot_is_available(databases, f"snap-{engine}"))
    databases.available(f"src-{engine}")
    with databases.as_master(made) as master:
        master.run("INSERT INTO shop.t VALUES (2)")
    rds.create_db_instance_read_replica(
        DBInstanceIdentifier=f"replica-{engine}", SourceDBInstanceIdentifier=f"src-{engine}",
        EnableIAMDatabaseAuthentication=True, Tags=[{"Key": "of", "Value": engine}],
    )  # fmt: skip
    rds.restore_db_instance_from_db_snapshot(
        DBInstanceIdentifier=f"copy-{engine}", DBSnapshotIdentifier=f"snap-{engine}"
    )
    rds.restore_db_instance_to_point_in_time(
        SourceDBInstanceIdentifier=f"src-{engine}", TargetDBInstanceIdentifier=f"clone-{engine}",
        UseLatestRestorableTime=True, EnableIAMDatabaseAuthentication=True, ManageMasterUserPassword=True,
    )  # fmt: skip
    databases.available(*(f"{kind}-{engine}" for kind in ("replica", "copy", "clone")))
    yield made
    databases.drop(*(f"{kind}-{engine}" for kind in ("copy", "clone")))


@pytest.mark.parametrize("kind", ["replica", "copy", "clone"])
def test_a_copy_has_a_resource_id_and_an_endpoint_of_its_own(databases, source, kind, engine):
    copied = databases.instance(f"{kind}-{engine}")
    assert copied["DbiResourceId"] != source["DbiResourceId"]
    assert copied["Endpoint"]["Address"].startswith(f"{kind}-{engine}.c")
    assert copied["Endpoint"]["Port"] == source["Endpoint"]["Port"]
    assert copied["DBInstanceArn"].endswith(f":db:{kind}-{engine}")
    assert copied["IAMDatabaseAuthenticationEnabled"] == (kind != "copy"), "as asked for, off where nobody asked"


def test_a_replica_follows_its_source_and_cannot_be_written(databases, source, engine):
    replica = databases.instance(f"replica-{engine}")
    assert replica["ReadReplicaSourceDBInstanceIdentifier"] == f"src-{engine}"
    assert replica["TagList"] == [{"Key": "of", "Value": engine}]
    assert databases.instance(f"src-{engine}")["ReadReplicaDBInstanceIdentifiers"] == [f"replica-{engine}"]
    password = databases.password(source)
    with databases.as_master(source) as master, databases.as_master(replica, password) as reader:
        master.run("INSERT INTO shop.t VALUES (3)")
        databases.eventually(lambda: (3,) in reader.run("SELECT x FROM shop.t"))
        with pytest.raises(Exception, match="read-only"):
            reader.run("INSERT INTO shop.t VALUES (4)")
    with pytest.raises(ClientError, match="InvalidDBInstanceState"):
        databases.rds.stop_db_instance(DBInstanceIdentifier=f"src-{engine}")


@pytest.mark.parametrize("kind", ["replica", "clone"])
def test_a_copy_has_the_users_but_the_source_s_policies_do_not_match(databases, source, kind, engine):
    copied = databases.instance(f"{kind}-{engine}")
    with databases.by_token(copied, "app", copied["DbiResourceId"]) as session:
        assert session.run("SELECT 1") == [(1,)]
    with pytest.raises(REFUSED):
        databases.by_token(copied, "app", source["DbiResourceId"])


def test_a_restored_instance_is_what_the_snapshot_was(databases, source, engine):
    copied = databases.instance(f"copy-{engine}")
    assert "MasterUserSecret" not in copied
    with databases.as_master(copied, databases.password(source)) as master:
        assert master.run("SELECT x FROM shop.t") == [(1,)], "before the second row was written"
    with pytest.raises(REFUSED):
        databases.by_token(copied, "app", copied["DbiResourceId"])
    clone = databases.instance(f"clone-{engine}")
    assert databases.password(clone) != databases.password(source)
    with databases.as_master(clone) as master:
        assert {(1,), (2,)} <= set(master.run("SELECT x FROM shop.t"))


def test_events_tell_how_a_copy_came_to_be(databases, source, events, engine):
    databases.eventually(lambda: events.of(f"clone-{engine}"))
    assert events.of(f"replica-{engine}")[:2] == ["0005", "0046"]
    assert events.of(f"copy-{engine}")[0] == "0043"
    assert events.of(f"clone-{engine}")[0] == "0019"
    assert events.of(f"snap-{engine}") == ["0042"]


def test_z_replicas_become_instances_when_they_are_promoted_or_their_source_goes(databases, source, engine):
    name = f"replica-{engine}"
    number, password = databases.instance(name)["DbiResourceId"], databases.password(source)
    if engine in PROMOTED:
        databases.rds.promote_read_replica(DBInstanceIdentifier=name)
    else:
        databases.rds.delete_db_instance(DBInstanceIdentifier=f"src-{engine}", SkipFinalSnapshot=True)
    databases.eventually(lambda: "ReadReplicaSourceDBInstanceIdentifier" not in databases.instance(name))
    databases.available(name)
    promoted = databases.instance(name)
    assert promoted["DbiResourceId"] == number
    with databases.as_master(promoted, password) as master:
        master.run("INSERT INTO shop.t VALUES (5)")
    databases.by_token(promoted, "app", number).connection.close()
    databases.drop(name, *([f"src-{engine}"] if engine in PROMOTED else []))


def test_copies_of_unknown_sources_are_refused(databases):
    with pytest.raises(ClientError, match="DBInstanceNotFound"):
        databases.rds.create_db_instance_read_replica(DBInstanceIdentifier="lost", SourceDBInstanceIdentifier="nowhere")
    with pytest.raises(ClientError, match="DBSnapshotNotFound"):
        databases.rds.restore_db_instance_from_db_snapshot(DBInstanceIdentifier="lost", DBSnapshotIdentifier="nothing")


def _snapshot_is_available(databases: Databases, name: str) -> bool:
    return bool(_snapshot(databases, name)["Status"] == "available")


def _snapshot(databases: Databases, name: str) -> dict[str, Any]:
    return dict(databases.rds.describe_db_snapshots(DBSnapshotIdentifier=name)["DBSnapshots"][0])


def _table(engine: str) -> list[str]:
    return [f"CREATE {'SCHEMA' if engine == 'postgres' else 'DATABASE'} shop", "CREATE TABLE shop.t AS SELECT 1 AS x"]
