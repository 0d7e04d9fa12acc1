"""Clusters through boto3: their members, their one server, tokens judged on the cluster's resource id, their events."""

import time
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from tests.integration.databases import CLASS, REFUSED, Databases, Events

ENGINE_NAMES = ["aurora-postgresql", "aurora-mysql"]


@pytest.fixture(scope="module")
def clusters(databases: Databases, events: Events) -> Iterator[list[str]]:
    """Return a cluster of each Aurora engine with two members, IAM authentication on."""
    for engine in ENGINE_NAMES:
        databases.make_cluster(
            engine, engine, members=2, DatabaseName="shop", EnableIAMDatabaseAuthentication=True,
            Tags=[{"Key": "env", "Value": "test"}],
        )  # fmt: skip
    databases.available(*(f"{engine}-{number}" for engine in ENGINE_NAMES for number in (1, 2)))
    yield ENGINE_NAMES
    for engine in ENGINE_NAMES:
        databases.drop(f"{engine}-1", f"{engine}-2")
        databases.rds.delete_db_cluster(DBClusterIdentifier=engine, SkipFinalSnapshot=True)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_cluster_has_a_writer_and_readers_at_one_endpoint(databases, clusters, engine):
    cluster = databases.cluster(engine)
    members = [(each["DBInstanceIdentifier"], each["IsClusterWriter"]) for each in cluster["DBClusterMembers"]]
    assert members == [(f"{engine}-1", True), (f"{engine}-2", False)]
    assert cluster["DbClusterResourceId"].startswith("cluster-")
    assert cluster["TagList"] == [{"Key": "env", "Value": "test"}]
    assert cluster["Endpoint"] == cluster["ReaderEndpoint"] == "localhost"
    for name, _ in members:
        member = databases.instance(name)
        assert member["DBClusterIdentifier"] == engine
        assert member["DbiResourceId"].startswith("db-")
        assert member["Endpoint"] == {"Address": "localhost", "Port": cluster["Port"]}
        assert member["IAMDatabaseAuthenticationEnabled"], "as the cluster's"


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_tokens_are_judged_on_the_cluster_s_resource_id_not_on_a_member_s(databases, clusters, engine):
    cluster, writer = databases.cluster(engine), databases.instance(f"{engine}-1")
    with databases.as_master(cluster) as master:
        databases.make_iam_user(master)
    with databases.by_token(cluster, "app", cluster["DbClusterResourceId"]) as session:
        assert session.run("SELECT 1") == [(1,)]
    with pytest.raises(REFUSED):
        databases.by_token(cluster, "app", writer["DbiResourceId"])


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_events_tell_of_the_cluster_and_of_each_member(databases, clusters, events, engine):
    databases.eventually(lambda: events.of(f"{engine}-2"))
    created = next(e for e in events.all() if e["detail"]["EventID"] == "RDS-EVENT-0170")
    assert (created["detail-type"], created["detail"]["SourceType"]) == ("RDS DB Cluster Event", "CLUSTER")
    assert events.of(engine)[0] == "0170"
    assert [events.of(f"{engine}-{number}")[0] for number in (1, 2)] == ["0005", "0005"]


def test_iam_authentication_is_the_cluster_s_to_switch(databases, clusters):
    name = "aurora-postgresql"
    with pytest.raises(ClientError, match="InvalidParameterCombination"):
        databases.rds.modify_db_instance(DBInstanceIdentifier=f"{name}-1", EnableIAMDatabaseAuthentication=False)
    databases.rds.modify_db_cluster(DBClusterIdentifier=name, EnableIAMDatabaseAuthentication=False)
    waiting = databases.cluster(name)
    assert waiting["PendingModifiedValues"] == {"IAMDatabaseAuthenticationEnabled": False}
    assert waiting["IAMDatabaseAuthenticationEnabled"]
    databases.rds.modify_db_cluster(DBClusterIdentifier=name, ApplyImmediately=True)
    databases.eventually(lambda: not databases.cluster(name)["IAMDatabaseAuthenticationEnabled"])
    assert not databases.instance(f"{name}-2")["IAMDatabaseAuthenticationEnabled"]
    assert not databases.cluster(name).get("PendingModifiedValues")
    with pytest.raises(REFUSED):
        databases.by_token(waiting, "app", waiting["DbClusterResourceId"])
    databases.rds.modify_db_cluster(
        DBClusterIdentifier=name, EnableIAMDatabaseAuthentication=True, ApplyImmediately=True
    )
    databases.eventually(lambda: databases.cluster(name)["IAMDatabaseAuthenticationEnabled"])


def test_a_cluster_stops_and_starts_with_its_members(databases, clusters, events):
    name = "aurora-mysql"
    before = databases.cluster(name)
    with pytest.raises(ClientError, match="not eligible"):
        databases.rds.stop_db_instance(DBInstanceIdentifier=f"{name}-1")
    databases.rds.stop_db_cluster(DBClusterIdentifier=name)
    databases.eventually(lambda: databases.cluster(name)["Status"] == "stopped")
    databases.available(f"{name}-1", f"{name}-2", status="stopped")
    assert databases.cluster(name)["Endpoint"] == before["Endpoint"]
    with pytest.raises(REFUSED):
        databases.as_master(before)
    databases.rds.start_db_cluster(DBClusterIdentifier=name)
    databases.eventually(lambda: databases.cluster(name)["Status"] == "available")
    databases.as_master(before).connection.close()
    databases.eventually(lambda: "0151" in events.of(name))
    assert "0150" in events.of(name)
    assert {"0087", "0088"} <= set(events.of(f"{name}-1"))


def test_a_cluster_outlives_its_members_and_keeps_its_data(databases, events):
    databases.make_cluster("lasting", "aurora-postgresql", members=0)
    cluster = databases.cluster("lasting")
    assert cluster["DBClusterMembers"] == []
    with pytest.raises(REFUSED):
        databases.as_master(cluster)
    _join(databases, "first")
    with databases.as_master(cluster) as master:
        master.run("CREATE TABLE kept AS SELECT 7 AS x")
    _join(databases, "second")
    with pytest.raises(ClientError, match="still contains DB instances"):
        databases.rds.delete_db_cluster(DBClusterIdentifier="lasting", SkipFinalSnapshot=True)
    databases.drop("first")
    assert databases.cluster("lasting")["DBClusterMembers"][0]["IsClusterWriter"], "the reader has taken over"
    databases.drop("second")
    with pytest.raises(REFUSED):
        databases.as_master(cluster)
    _join(databases, "third")
    with databases.as_master(cluster) as master:
        assert master.run("SELECT x FROM kept") == [(7,)]
    databases.rds.delete_db_instance(DBInstanceIdentifier="third", SkipFinalSnapshot=True)
    databases.rds.delete_db_cluster(DBClusterIdentifier="lasting", SkipFinalSnapshot=True)
    databases.eventually(lambda: "0171" in events.of("lasting"))
    with pytest.raises(ClientError, match="DBClusterNotFoundFault"):
        databases.cluster("lasting")
    assert events.of("third") == ["0005", "0003"]


@pytest.mark.parametrize("engine", ["postgres", "mysql"])
def test_a_multi_az_cluster_brings_its_members_and_takes_them_along(databases, engine):
    name = f"maz-{engine}"
    with pytest.raises(ClientError, match="DBClusterInstanceClass"):
        databases.make_cluster(name, engine, members=0)
    databases.make_cluster(
        name, engine, members=0, DBClusterInstanceClass="db.r6gd.large", EnableIAMDatabaseAuthentication=True
    )
    members = [f"{name}-instance-{number}" for number in (1, 2, 3)]
    databases.available(*members)
    cluster = databases.cluster(name)
    assert [each["IsClusterWriter"] for each in cluster["DBClusterMembers"]] == [True, False, False]
    assert (cluster["DBClusterInstanceClass"], cluster["MultiAZ"]) == ("db.r6gd.large", True)
    with databases.as_master(cluster) as master:
        databases.make_iam_user(master)
    databases.by_token(cluster, "app", cluster["DbClusterResourceId"]).connection.close()
    databases.rds.delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True)
    databases.eventually(lambda: all(databases.gone(each) for each in members))


@pytest.mark.parametrize("engine", ["neptune", "docdb"])
def test_clusters_of_other_services_are_in_describe(databases, engine):
    secret = {} if engine == "neptune" else {"MasterUsername": "boss", "MasterUserPassword": f"p{time.time_ns()}"}
    databases.rds.create_db_cluster(DBClusterIdentifier=f"other-{engine}", Engine=engine, **secret)
    databases.rds.create_db_instance(
        DBInstanceIdentifier=f"other-{engine}-1", DBInstanceClass=CLASS, Engine=engine,
        DBClusterIdentifier=f"other-{engine}",
    )  # fmt: skip
    databases.available(f"other-{engine}-1")
    assert databases.cluster(f"other-{engine}")["Engine"] == engine
    databases.drop(f"other-{engine}-1")
    databases.rds.delete_db_cluster(DBClusterIdentifier=f"other-{engine}", SkipFinalSnapshot=True)


def _join(databases: Databases, member: str) -> None:
    databases.rds.create_db_instance(
        DBInstanceIdentifier=member, DBInstanceClass=CLASS, Engine="aurora-postgresql", DBClusterIdentifier="lasting"
    )
    databases.available(member)
