"""Clusters through boto3: servers of members, endpoints, tokens judged on the cluster's resource id, events."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.databases import CLASS, REFUSED, Databases, Events, Session, endpoint

ENGINE_NAMES = ["aurora-postgresql", "aurora-mysql"]
READ_ONLY = "read-only"


@pytest.fixture(scope="module")
def clusters(databases: Databases, events: Events) -> Iterator[list[str]]:
    """Return a cluster of each Aurora engine with a writer and a reader, IAM authentication on, and a table."""
    for engine in ENGINE_NAMES:
        databases.make_cluster(
            engine, engine, members=2, DatabaseName="shop", EnableIAMDatabaseAuthentication=True,
            Tags=[{"Key": "env", "Value": "test"}],
        )  # fmt: skip
    databases.available(*(f"{engine}-{number}" for engine in ENGINE_NAMES for number in (1, 2)))
    for engine in ENGINE_NAMES:
        with databases.as_master(databases.cluster(engine)) as master:
            databases.make_iam_user(master)
            make_table(master, engine)
    yield ENGINE_NAMES
    for engine in ENGINE_NAMES:
        databases.drop(*members(databases, engine))
        databases.rds.delete_db_cluster(DBClusterIdentifier=engine, SkipFinalSnapshot=True)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_each_member_has_an_endpoint_and_the_cluster_has_two(databases, clusters, engine):
    cluster = databases.cluster(engine)
    roles = [(each["DBInstanceIdentifier"], each["IsClusterWriter"]) for each in cluster["DBClusterMembers"]]
    assert roles == [(f"{engine}-1", True), (f"{engine}-2", False)]
    assert cluster["DbClusterResourceId"].startswith("cluster-")
    assert cluster["TagList"] == [{"Key": "env", "Value": "test"}]
    name, _, identifier = cluster["Endpoint"].removesuffix(".eu-central-1.rds.amazonaws.com").partition(".cluster-")
    assert (name, len(identifier)) == (engine, 12)
    assert cluster["ReaderEndpoint"] == cluster["Endpoint"].replace(".cluster-", ".cluster-ro-")
    port = 3306 if engine == "aurora-mysql" else 5432
    assert cluster["Port"] == port
    for name in (f"{engine}-1", f"{engine}-2"):
        member = databases.instance(name)
        assert member["DBClusterIdentifier"] == engine
        assert member["DbiResourceId"].startswith("db-")
        host = f"{name}.{identifier}.eu-central-1.rds.amazonaws.com"
        assert (member["Endpoint"]["Address"], member["Endpoint"]["Port"]) == (host, port)
        assert member["IAMDatabaseAuthenticationEnabled"], "as the cluster's"


@pytest.mark.parametrize("identifier", ["a\n127.0.0.1 b", "two words", "1st", "a--b"])
def test_a_cluster_s_identifier_is_checked(databases, identifier):
    with pytest.raises(ClientError, match="InvalidParameterValue"):
        databases.make_cluster(identifier, "aurora-postgresql", members=0)
    with pytest.raises(ClientError, match="DBClusterNotFound"):
        databases.cluster(identifier)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_reader_follows_the_writer_and_cannot_be_written(databases, clusters, engine):
    cluster = databases.cluster(engine)
    with connected(databases, cluster, databases.readers(cluster)) as reader:
        with connected(databases, cluster, cluster) as writer:
            writer.run("INSERT INTO shop.t VALUES (2)")
        databases.eventually(lambda: has_table(reader) and (2,) in reader.run("SELECT x FROM shop.t"))
        with pytest.raises(Exception, match=READ_ONLY):
            reader.run("INSERT INTO shop.t VALUES (3)")
    with connected(databases, cluster, databases.instance(f"{engine}-2")) as reader:
        assert (2,) in reader.run("SELECT x FROM shop.t")
        with pytest.raises(Exception, match=READ_ONLY):
            reader.run("INSERT INTO shop.t VALUES (3)")


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_tokens_are_judged_on_the_cluster_s_resource_id_at_every_endpoint(databases, clusters, engine):
    cluster = databases.cluster(engine)
    number = cluster["DbClusterResourceId"]
    writer, reader = databases.instance(f"{engine}-1"), databases.instance(f"{engine}-2")
    for place in (cluster, databases.readers(cluster), writer, reader):
        with databases.by_token(place, "app", number) as session:
            assert session.run("SELECT 1") == [(1,)]
    for member in (writer, reader):
        with pytest.raises(REFUSED):
            databases.by_token(member, "app", member["DbiResourceId"])


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_token_is_good_only_at_servers_to_which_its_endpoint_leads(databases, clusters, engine):
    cluster = databases.cluster(engine)
    reader, readers = databases.instance(f"{engine}-2"), databases.readers(cluster)
    for signed_for, used_at in ((cluster, reader), (cluster, readers), (reader, cluster), (readers, cluster)):
        token = token_for(databases, cluster, signed_for)
        with pytest.raises(REFUSED):
            databases.connect(used_at, "app", token)


@pytest.mark.exhaustive_on("mysql")
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_events_tell_of_the_cluster_and_of_each_member(databases, clusters, events, engine):
    databases.eventually(lambda: events.of(f"{engine}-2"))
    created = next(e for e in events.all() if e["detail"]["EventID"] == "RDS-EVENT-0170")
    assert (created["detail-type"], created["detail"]["SourceType"]) == ("RDS DB Cluster Event", "CLUSTER")
    assert events.of(engine)[0] == "0170"
    assert [events.of(f"{engine}-{number}")[0] for number in (1, 2)] == ["0005", "0005"]


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_iam_authentication_is_the_cluster_s_to_switch_for_all_members(databases, clusters, engine):
    with pytest.raises(ClientError, match="InvalidParameterCombination"):
        databases.rds.modify_db_instance(DBInstanceIdentifier=f"{engine}-1", EnableIAMDatabaseAuthentication=False)
    databases.rds.modify_db_cluster(DBClusterIdentifier=engine, EnableIAMDatabaseAuthentication=False)
    cluster = databases.cluster(engine)
    assert cluster["PendingModifiedValues"] == {"IAMDatabaseAuthenticationEnabled": False}
    assert cluster["IAMDatabaseAuthenticationEnabled"]
    databases.rds.modify_db_cluster(DBClusterIdentifier=engine, ApplyImmediately=True)
    databases.eventually(lambda: not databases.cluster(engine)["IAMDatabaseAuthenticationEnabled"])
    assert not databases.instance(f"{engine}-2")["IAMDatabaseAuthenticationEnabled"]
    assert not databases.cluster(engine).get("PendingModifiedValues")
    for place in (cluster, databases.instance(f"{engine}-2")):
        with pytest.raises(REFUSED):
            databases.by_token(place, "app", cluster["DbClusterResourceId"])
    databases.rds.modify_db_cluster(
        DBClusterIdentifier=engine, EnableIAMDatabaseAuthentication=True, ApplyImmediately=True
    )
    databases.eventually(lambda: databases.cluster(engine)["IAMDatabaseAuthenticationEnabled"])
    for place in (cluster, databases.instance(f"{engine}-2")):
        databases.by_token(place, "app", cluster["DbClusterResourceId"]).connection.close()


@pytest.mark.exhaustive_on("mysql")
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_parameters_are_those_of_all_members(databases, clusters, engine):
    group, name = f"strict-{engine}", "rds.force_ssl" if "postgres" in engine else "require_secure_transport"
    family = "aurora-postgresql17" if "postgres" in engine else "aurora-mysql8.0"
    databases.rds.create_db_cluster_parameter_group(
        DBClusterParameterGroupName=group, DBParameterGroupFamily=family, Description="x"
    )
    value = "0" if "postgres" in engine else "1"
    databases.rds.modify_db_cluster_parameter_group(
        DBClusterParameterGroupName=group,
        Parameters=[{"ParameterName": name, "ParameterValue": value, "ApplyMethod": "immediate"}],
    )
    databases.rds.modify_db_cluster(DBClusterIdentifier=engine, DBClusterParameterGroupName=group)
    for number in (1, 2):
        databases.rds.reboot_db_instance(DBInstanceIdentifier=f"{engine}-{number}")
        databases.available(f"{engine}-{number}")
    cluster = databases.cluster(engine)
    password = databases.password(cluster)
    for number in (1, 2):
        member = databases.instance(f"{engine}-{number}")
        databases.eventually(lambda member=member: refused(databases, member, password, tls=False) == (value == "1"))


@pytest.mark.exhaustive_on("mysql")
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_cluster_stops_and_starts_with_its_members(databases, clusters, events, engine):
    cluster, reader = databases.cluster(engine), databases.instance(f"{engine}-2")
    places = [cluster, databases.readers(cluster), reader]
    with pytest.raises(ClientError, match="not eligible"):
        databases.rds.stop_db_instance(DBInstanceIdentifier=f"{engine}-1")
    databases.rds.stop_db_cluster(DBClusterIdentifier=engine)
    databases.eventually(lambda: databases.cluster(engine)["Status"] == "stopped")
    databases.available(f"{engine}-1", f"{engine}-2", status="stopped")
    assert databases.cluster(engine)["Endpoint"] == cluster["Endpoint"]
    for place in places:
        with pytest.raises(REFUSED):
            connected(databases, cluster, place)
    with pytest.raises(ClientError, match="InvalidDBClusterStateFault"):
        databases.rds.delete_db_instance(DBInstanceIdentifier=f"{engine}-2")
    databases.rds.start_db_cluster(DBClusterIdentifier=engine)
    settled(databases, engine)
    for place in places:
        connected(databases, cluster, place).connection.close()
    assert_replicates(databases, engine, reader, 4)
    databases.eventually(lambda: "0151" in events.of(engine))
    assert "0150" in events.of(engine)
    assert {"0087", "0088"} <= set(events.of(f"{engine}-1"))


@pytest.mark.exhaustive_on("mysql")
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_reader_is_rebooted_alone(databases, clusters, engine):
    cluster, reader = databases.cluster(engine), databases.instance(f"{engine}-2")
    with connected(databases, cluster, cluster) as on_writer, connected(databases, cluster, reader) as on_reader:
        databases.rds.reboot_db_instance(DBInstanceIdentifier=f"{engine}-2")
        databases.available(f"{engine}-2")
        on_writer.run("SELECT 1")
        assert ended(on_reader)
    assert databases.instance(f"{engine}-2")["Endpoint"] == reader["Endpoint"]
    assert_replicates(databases, engine, reader, 5)


@pytest.mark.exhaustive_on("mysql")
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_members_join_and_leave(databases, clusters, engine):
    cluster, third = databases.cluster(engine), f"{engine}-3"
    join(databases, engine, third)
    reader = databases.instance(third)
    assert_replicates(databases, engine, reader, 6)
    sockets = {socket_of(databases, databases.readers(cluster)) for _ in range(6)}
    assert len(sockets) == 2, "the reader endpoint leads to the readers in turn"
    databases.drop(third)
    with pytest.raises(REFUSED):
        connected(databases, cluster, reader)
    assert len({socket_of(databases, databases.readers(cluster)) for _ in range(4)}) == 1


@pytest.mark.exhaustive_on("mysql")
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_y_a_reader_takes_over_from_the_writer(databases, clusters, events, engine):
    third = f"{engine}-third"
    join(databases, engine, third)
    cluster = databases.cluster(engine)
    with pytest.raises(ClientError, match="InvalidDBInstanceState"):
        databases.rds.failover_db_cluster(DBClusterIdentifier=engine, TargetDBInstanceIdentifier=f"{engine}-1")
    with (
        connected(databases, cluster, cluster) as on_writer,
        connected(databases, cluster, databases.instance(third)) as elsewhere,
    ):
        on_writer.run("INSERT INTO shop.t VALUES (7)")
        answer = databases.rds.failover_db_cluster(
            DBClusterIdentifier=engine, TargetDBInstanceIdentifier=f"{engine}-2"
        )["DBCluster"]
        assert answer["Status"] == "failing-over"
        settled(databases, engine)
        assert ended(on_writer)
        assert (7,) in elsewhere.run("SELECT x FROM shop.t"), "sessions on other readers stay"
    now = databases.cluster(engine)
    assert writers(now) == [f"{engine}-2"]
    assert (now["Endpoint"], now["ReaderEndpoint"], now["Port"]) == (
        cluster["Endpoint"], cluster["ReaderEndpoint"], cluster["Port"],
    )  # fmt: skip
    for name in (f"{engine}-1", third):
        assert_replicates(databases, engine, databases.instance(name), time.time_ns() % 1_000_000)
    with connected(databases, cluster, databases.instance(f"{engine}-2")) as session:
        assert (7,) in session.run("SELECT x FROM shop.t")
        session.run("INSERT INTO shop.t VALUES (8)")
    assert socket_of(databases, cluster) == socket_of(databases, databases.instance(f"{engine}-2"))
    databases.by_token(now, "app", cluster["DbClusterResourceId"]).connection.close()
    failover = {"0069", "0071", "0073"}
    databases.eventually(lambda: [each for each in events.of(engine) if each in failover] == ["0073", "0071"])
    databases.eventually(lambda: events.of(f"{engine}-1")[-2:] == ["0004", "0006"])


@pytest.mark.exhaustive_on("mysql")
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_z_a_reader_takes_over_if_the_writer_leaves(databases, clusters, engine):
    cluster = databases.cluster(engine)
    (writer,) = writers(cluster)
    with connected(databases, cluster, cluster) as session:
        session.run("INSERT INTO shop.t VALUES (9)")
    databases.drop(writer)
    (successor,) = writers(databases.cluster(engine))
    assert successor != writer
    with connected(databases, cluster, cluster) as session:
        assert (9,) in session.run("SELECT x FROM shop.t")
        session.run("INSERT INTO shop.t VALUES (10)")
    for name in members(databases, engine):
        assert_replicates(databases, engine, databases.instance(name), 11)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("engine", "version"),
    [("aurora-postgresql", {}), ("aurora-postgresql", {"EngineVersion": "13.23"}), ("aurora-mysql", {})],
    ids=["postgres", "postgres13", "mysql"],
)
def test_a_reader_takes_over_from_a_writer_that_was_killed_and_another_reader_too(databases, engine, version):
    name = f"killed-{time.monotonic_ns()}"
    databases.make_cluster(name, engine, members=3, **version)
    first, second, third = (f"{name}-{number}" for number in (1, 2, 3))
    databases.available(first, second, third)
    cluster = databases.cluster(name)
    with databases.as_master(cluster) as master:
        make_table(master, engine)
    assert_replicates(databases, name, databases.instance(second), 2)
    for killed in (first, third):
        databases.process(killed).kill()
    databases.rds.failover_db_cluster(DBClusterIdentifier=name, TargetDBInstanceIdentifier=second)
    settled(databases, name)
    assert writers(databases.cluster(name)) == [second]
    with databases.as_master(cluster) as master:
        assert master.run("SELECT x FROM shop.t ORDER BY x") == [(1,), (2,)]
    for reader in (first, third):
        assert_replicates(databases, name, databases.instance(reader), 3)
    databases.drop(third, second, first)
    databases.rds.delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True)


@pytest.mark.exhaustive_on("mysql")
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_cluster_outlives_its_members_and_keeps_its_data(databases, events, engine):
    name = f"lasting-{engine}"
    databases.make_cluster(name, engine, members=0)
    cluster = databases.cluster(name)
    assert cluster["DBClusterMembers"] == []
    with pytest.raises(REFUSED):
        databases.as_master(cluster)
    first, second, third = (f"{name}-{number}" for number in (1, 2, 3))
    join(databases, name, first)
    with databases.as_master(cluster) as master:
        make_table(master, engine)
    with connected(databases, cluster, databases.readers(cluster)) as alone:
        alone.run("INSERT INTO shop.t VALUES (2)")  # without a reader, the reader endpoint leads to the writer
    join(databases, name, second)
    with pytest.raises(ClientError, match="still contains DB instances"):
        databases.rds.delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True)
    password = f"changed{time.time_ns()}"
    databases.rds.modify_db_cluster(DBClusterIdentifier=name, MasterUserPassword=password, ApplyImmediately=True)
    reader = databases.instance(second)
    databases.eventually(lambda: not refused(databases, reader, password))
    databases.drop(first)
    assert writers(databases.cluster(name)) == [second], "the reader has taken over"
    databases.drop(second)
    with pytest.raises(REFUSED):
        databases.as_master(cluster, password)
    join(databases, name, third)
    with databases.as_master(cluster, password) as master:
        assert master.run("SELECT x FROM shop.t ORDER BY x") == [(1,), (2,)]
    databases.rds.delete_db_instance(DBInstanceIdentifier=third, SkipFinalSnapshot=True)
    databases.rds.delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True)
    databases.eventually(lambda: "0171" in events.of(name))
    with pytest.raises(ClientError, match="DBClusterNotFoundFault"):
        databases.cluster(name)
    assert events.of(third) == ["0005", "0003"]


@pytest.mark.exhaustive_on("mysql")
@pytest.mark.parametrize("engine", ["postgres", "mysql"])
def test_a_multi_az_cluster_brings_its_members_and_takes_them_along(databases, engine):
    name = f"maz-{engine}"
    with pytest.raises(ClientError, match="DBClusterInstanceClass"):
        databases.make_cluster(name, engine, members=0)
    databases.make_cluster(
        name, engine, members=0, DBClusterInstanceClass="db.r6gd.large", EnableIAMDatabaseAuthentication=True
    )
    names = [f"{name}-instance-{number}" for number in (1, 2, 3)]
    databases.available(*names)
    cluster = databases.cluster(name)
    assert writers(cluster) == names[:1]
    assert (cluster["DBClusterInstanceClass"], cluster["MultiAZ"]) == ("db.r6gd.large", True)
    with databases.as_master(cluster) as master:
        databases.make_iam_user(master)
        make_table(master, engine)
    databases.by_token(cluster, "app", cluster["DbClusterResourceId"]).connection.close()
    reader = databases.instance(names[2])
    assert_replicates(databases, name, reader, 2)
    databases.by_token(reader, "app", cluster["DbClusterResourceId"]).connection.close()
    databases.rds.failover_db_cluster(DBClusterIdentifier=name)
    settled(databases, name)
    assert writers(databases.cluster(name)) == names[1:2]
    assert_replicates(databases, name, reader, 3)
    databases.rds.reboot_db_cluster(DBClusterIdentifier=name)
    databases.available(*names)
    assert_replicates(databases, name, reader, 4)
    databases.rds.delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True)
    databases.eventually(lambda: all(databases.gone(each) for each in names), 60)


@pytest.mark.exhaustive_on("docdb")
@pytest.mark.parametrize("engine", ["neptune", "docdb"])
def test_clusters_of_other_services_are_in_describe(databases, engine):
    secret = {} if engine == "neptune" else {"MasterUsername": "boss", "MasterUserPassword": f"p{time.time_ns()}"}
    databases.rds.create_db_cluster(DBClusterIdentifier=f"other-{engine}", Engine=engine, **secret)
    names = [f"other-{engine}-{number}" for number in (1, 2)]
    for name in names:
        databases.rds.create_db_instance(
            DBInstanceIdentifier=name, DBInstanceClass=CLASS, Engine=engine, DBClusterIdentifier=f"other-{engine}"
        )
    databases.available(*names)
    assert databases.cluster(f"other-{engine}")["Engine"] == engine
    databases.rds.failover_db_cluster(DBClusterIdentifier=f"other-{engine}")
    databases.eventually(lambda: writers(databases.cluster(f"other-{engine}")) == names[1:])
    settled(databases, f"other-{engine}")
    databases.drop(*names)
    databases.rds.delete_db_cluster(DBClusterIdentifier=f"other-{engine}", SkipFinalSnapshot=True)


def connected(databases: Databases, cluster: dict[str, Any], place: dict[str, Any]) -> Session:
    """Log in as the cluster's master at one of its endpoints."""
    return databases.as_master(place, databases.password(cluster))


def settled(databases: Databases, cluster: str) -> None:
    """Wait until the cluster is available, for as long as servers of three members may take to start."""
    databases.eventually(lambda: databases.cluster(cluster)["Status"] == "available", 60)


def members(databases: Databases, cluster: str) -> list[str]:
    return [each["DBInstanceIdentifier"] for each in databases.cluster(cluster)["DBClusterMembers"]]


def writers(cluster: dict[str, Any]) -> list[str]:
    return [each["DBInstanceIdentifier"] for each in cluster["DBClusterMembers"] if each["IsClusterWriter"]]


def join(databases: Databases, cluster: str, member: str) -> None:
    databases.rds.create_db_instance(
        DBInstanceIdentifier=member, DBInstanceClass=CLASS, Engine=databases.cluster(cluster)["Engine"],
        DBClusterIdentifier=cluster,
    )  # fmt: skip
    databases.available(member)


def make_table(master: Session, engine: str) -> None:
    if "postgres" in engine:
        master.run("CREATE SCHEMA IF NOT EXISTS shop")
    else:
        master.run("CREATE DATABASE IF NOT EXISTS shop")
    master.run("CREATE TABLE shop.t AS SELECT 1 AS x")


def assert_replicates(databases: Databases, name: str, reader: dict[str, Any], number: int) -> None:
    """Check that a reader shows a row that is written to the cluster now."""
    cluster = databases.cluster(name)
    with connected(databases, cluster, cluster) as writer:
        writer.run(f"INSERT INTO shop.t VALUES ({number})")
    with connected(databases, cluster, reader) as session:
        databases.eventually(lambda: has_table(session) and (number,) in session.run("SELECT x FROM shop.t"))


def has_table(session: Session) -> bool:
    """Return whether a server has the table, which comes to a reader as rows do: a moment later."""
    return bool(session.run("SELECT 1 FROM information_schema.tables WHERE table_schema = 'shop' AND table_name = 't'"))


def token_for(databases: Databases, cluster: dict[str, Any], place: dict[str, Any]) -> str:
    """Return a token for `app` of a role that may connect to the cluster."""
    arn = (
        f"arn:aws:rds-db:{databases.cloud.region}:{databases.cloud.account}:dbuser:{cluster['DbClusterResourceId']}/app"
    )
    session = databases.role({"Effect": "Allow", "Action": "rds-db:connect", "Resource": arn})
    return str(databases.cloud.client("rds", session).generate_db_auth_token(*endpoint(place), "app"))


def socket_of(databases: Databases, place: dict[str, Any]) -> Any:
    """Return a value that only the server behind an endpoint has."""
    with connected(databases, databases.cluster(place["DBClusterIdentifier"]), place) as session:
        postgres = "postgres" in place["Engine"]
        (row,) = session.run("SHOW unix_socket_directories" if postgres else "SELECT @@socket")
        return row[0]


def refused(databases: Databases, place: dict[str, Any], password: str, *, tls: bool = True) -> bool:
    try:
        databases.connect(place, "boss", password, tls=tls).connection.close()
    except REFUSED:
        return True
    return False


def ended(session: Session) -> bool:
    try:
        session.run("SELECT 1")
    except REFUSED:
        return True
    return False
