"""Engine versions through boto3: the server that was asked for, and upgrades with everything that is in a database."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.databases.servers.postgres_programs import obtainable
from tests.integration.databases import CLASS, Databases, Events

TEAM = "SELECT member::regrole::text FROM pg_auth_members WHERE roleid = 'team'::regrole ORDER BY 1"


@pytest.fixture(scope="module", autouse=True)
def _older_servers() -> None:
    for version in (13, 14, 16, 17):
        if obtainable(version) != version:
            pytest.skip(f"PostgreSQL {version} could not be fetched")


MEMBERS = """
SELECT m.roleid::regrole::text, m.member::regrole::text, m.admin_option, m.inherit_option, m.set_option
FROM pg_auth_members m WHERE m.roleid::regrole::text IN ('rds_iam', 'rds_superuser', 'app', 'team')
"""


def refused(call: Any, **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as refusal:
        call(**arguments)
    error = refusal.value.response["Error"]
    return error["Code"], error["Message"]


def major_of(databases: Databases, described: dict[str, Any]) -> int:
    with databases.as_master(described) as master:
        ((number,),) = master.run("SHOW server_version_num")
    return int(number) // 10_000


@pytest.fixture(scope="module")
def source(databases: Databases, events: Events) -> Iterator[dict[str, Any]]:
    """Return an instance of 14 with users, a snapshot, and a read replica."""
    databases.make("src14", "postgres", EngineVersion="14.12", DBName="shop", EnableIAMDatabaseAuthentication=True)
    databases.available("src14")
    described = databases.instance("src14")
    with databases.as_master(described) as master:
        databases.make_iam_user(master)
        master.run("CREATE ROLE team")
        master.run("GRANT team TO app")
        master.run("CREATE TABLE kept (id int)")
        master.run("INSERT INTO kept VALUES (1)")
        master.run("GRANT SELECT ON kept TO team")
    rds = databases.rds
    rds.create_db_snapshot(DBSnapshotIdentifier="snap14", DBInstanceIdentifier="src14")
    databases.available("src14")
    rds.create_db_instance_read_replica(
        DBInstanceIdentifier="replica14", SourceDBInstanceIdentifier="src14", EnableIAMDatabaseAuthentication=True
    )
    databases.available("replica14")
    yield described
    databases.drop("src14")
    databases.drop("replica14")


def test_an_instance_has_the_version_that_was_asked_for(databases: Databases, source: dict[str, Any]) -> None:
    assert source["EngineVersion"] == "14.12"
    assert major_of(databases, source) == 14
    with databases.connect(source, "boss", databases.password(source), tls=False) as master:
        assert master.run("SHOW rds.force_ssl") == [("0",)], "off by default up to 14"
    replica = databases.instance("replica14")
    assert replica["EngineVersion"] == "14.12"
    with databases.as_master(replica, databases.password(source)) as master:
        assert master.run("SELECT current_setting('server_version_num')::int / 10000, pg_is_in_recovery()") == [
            (14, True)
        ]


def test_upgrades_that_aws_refuses_are_refused_in_its_words(databases: Databases, source: dict[str, Any]) -> None:
    modify = databases.rds.modify_db_instance
    name = {"DBInstanceIdentifier": "src14", "ApplyImmediately": True}
    invalid = "InvalidParameterCombination"

    assert refused(modify, **name, EngineVersion="18.1") == (
        invalid, "The AllowMajorVersionUpgrade flag must be present when upgrading to a new major version.",
    )  # fmt: skip
    assert refused(modify, **name, EngineVersion="13.23", AllowMajorVersionUpgrade=True) == (
        invalid, "Cannot upgrade postgres from 14.12 to 13.23",
    )  # fmt: skip
    assert refused(modify, **name, EngineVersion="14.11") == (invalid, "Cannot upgrade postgres from 14.12 to 14.11")
    assert refused(modify, **name, EngineVersion="12.22") == (invalid, "Cannot find version 12.22 for postgres")
    replica = {"DBInstanceIdentifier": "replica14", "EngineVersion": "18.1", "AllowMajorVersionUpgrade": True}
    assert refused(modify, **replica)[0] == invalid
    databases.rds.create_db_parameter_group(
        DBParameterGroupName="of14", DBParameterGroupFamily="postgres14", Description="of 14"
    )
    code, message = refused(
        modify, **name, EngineVersion="18.1", AllowMajorVersionUpgrade=True, DBParameterGroupName="of14"
    )
    assert (code, "postgres18" in message) == (invalid, True)
    assert databases.instance("src14")["EngineVersion"] == source["EngineVersion"]


def test_a_minor_upgrade_restarts_the_server(databases: Databases, source: dict[str, Any], events: Events) -> None:
    databases.rds.modify_db_instance(DBInstanceIdentifier="src14", EngineVersion="14.13", ApplyImmediately=True)
    databases.eventually(lambda: databases.instance("src14")["EngineVersion"] == "14.13")
    databases.available("src14")
    databases.eventually(lambda: "0047" in events.of("src14"))
    assert major_of(databases, source) == 14


def test_a_major_upgrade_waits_without_apply_immediately_and_moves_everything(
    databases: Databases, source: dict[str, Any], events: Events
) -> None:
    rds = databases.rds
    answer = rds.modify_db_instance(
        DBInstanceIdentifier="src14", EngineVersion="18.1", AllowMajorVersionUpgrade=True
    )["DBInstance"]  # fmt: skip
    assert answer["PendingModifiedValues"] == {"EngineVersion": "18.1"}
    assert databases.instance("src14")["EngineVersion"] == "14.13"

    rds.reboot_db_instance(DBInstanceIdentifier="src14")
    databases.eventually(lambda: "0267" in events.of("src14"))
    databases.eventually(lambda: databases.instance("src14")["EngineVersion"] == "18.1")
    databases.available("src14", "replica14")

    described, replica = databases.instance("src14"), databases.instance("replica14")
    assert "EngineVersion" not in described.get("PendingModifiedValues", {})
    assert described["DbiResourceId"] == source["DbiResourceId"]
    assert replica["EngineVersion"] == "18.1"
    password = databases.password(source)
    for database, resource_id in ((described, source["DbiResourceId"]), (replica, replica["DbiResourceId"])):
        with databases.as_master(database, password) as master:
            assert master.run("SELECT current_setting('server_version_num')::int / 10000") == [(18,)]
            assert master.run(TEAM) == [("app",)]
        with databases.by_token(database, "app", resource_id) as app:
            assert app.run("SELECT * FROM kept") == [(1,)]
    with databases.as_master(described, password) as master:
        master.run("INSERT INTO kept VALUES (2)")
    databases.eventually(lambda: _rows(databases, replica, password) == 2)
    upgrade = [each for each in events.of("src14") if each in ("0264", "0265", "0266", "0267", "0268", "0269", "0399")]
    assert upgrade == ["0264", "0265", "0266", "0267", "0269", "0399", "0268"]
    assert [each for each in events.of("replica14") if each in ("0268", "0398")] == ["0398", "0268"]


def _rows(databases: Databases, described: dict[str, Any], password: str) -> int:
    with databases.as_master(described, password) as master:
        ((count,),) = master.run("SELECT count(*) FROM kept")
    return int(count)


def test_a_snapshot_keeps_its_version(databases: Databases, source: dict[str, Any]) -> None:
    """Runs after the upgrade of the source."""
    rds = databases.rds
    (snapshot,) = rds.describe_db_snapshots(DBSnapshotIdentifier="snap14")["DBSnapshots"]
    assert snapshot["EngineVersion"] == "14.12"
    rds.restore_db_instance_from_db_snapshot(DBInstanceIdentifier="copy14", DBSnapshotIdentifier="snap14")
    databases.available("copy14")
    copied = databases.instance("copy14")
    assert copied["EngineVersion"] == "14.12"
    with databases.as_master(copied, databases.password(source)) as master:
        assert master.run("SELECT current_setting('server_version_num')::int / 10000") == [(14,)]
        assert master.run(TEAM) == [("app",)]
    databases.drop("copy14")


def test_a_database_that_the_new_version_refuses_stays_as_it_is(databases: Databases, events: Events) -> None:
    databases.make("refuses", "postgres", EngineVersion="13")
    databases.available("refuses")
    described = databases.instance("refuses")
    assert described["EngineVersion"] == "13.23", "the newest of the series"
    with databases.as_master(described) as master:
        master.run("CREATE EXTENSION pgcrypto")  # 18 of this machine has no pgcrypto

    databases.rds.modify_db_instance(
        DBInstanceIdentifier="refuses", EngineVersion="18.1", AllowMajorVersionUpgrade=True, ApplyImmediately=True
    )
    databases.eventually(lambda: "0267" in events.of("refuses"))
    databases.eventually(lambda: "0270" in events.of("refuses"))
    databases.available("refuses")

    described = databases.instance("refuses")
    assert described["EngineVersion"] == "13.23"
    assert not described.get("PendingModifiedValues")
    with databases.as_master(described) as master:
        assert master.run("SELECT extname FROM pg_extension WHERE extname = 'pgcrypto'") == [("pgcrypto",)]
        assert master.run("SELECT current_setting('server_version_num')::int / 10000") == [(13,)]
    databases.drop("refuses")


def test_the_master_of_an_upgrade_to_the_rule_of_rds_logs_in_by_password(databases: Databases) -> None:
    """On 17 the master has ADMIN OPTION on `rds_iam` and on users that it creates; by RDS's rule it needs neither."""
    databases.make("admin17", "postgres", EngineVersion="17.4", EnableIAMDatabaseAuthentication=True)
    databases.available("admin17")
    with databases.as_master(databases.instance("admin17")) as master:
        databases.make_iam_user(master)
        master.run('CREATE ROLE "se cond"')
        master.run('GRANT rds_superuser TO "se cond" WITH INHERIT FALSE')
        master.run("CREATE ROLE team")
        master.run('GRANT team TO "se cond"')
        before = master.run(MEMBERS)
        assert {("rds_iam", "boss", True, False, False), ("app", "boss", True, False, False)} <= {*before}

    databases.rds.modify_db_instance(
        DBInstanceIdentifier="admin17", EngineVersion="18.1", AllowMajorVersionUpgrade=True, ApplyImmediately=True
    )
    databases.eventually(lambda: databases.instance("admin17")["EngineVersion"] == "18.1")
    databases.available("admin17")
    described = databases.instance("admin17")
    with databases.as_master(described) as master:
        expected = {row for row in before if row[1] != "boss"} | {("rds_superuser", "boss", False, True, True)}
        assert set(master.run(MEMBERS)) == expected
    with databases.by_token(described, "app", described["DbiResourceId"]) as app:
        assert app.run("SELECT current_user") == [("app",)]
    databases.drop("admin17")


@pytest.mark.exhaustive
def test_a_cluster_is_upgraded_with_its_readers(databases: Databases, events: Events) -> None:
    databases.make_cluster("aurora16", "aurora-postgresql", 2, EngineVersion="16.8")
    databases.available("aurora16-1", "aurora16-2")
    modify = databases.rds.modify_db_cluster
    member = {"DBInstanceIdentifier": "aurora16-1", "EngineVersion": "17.9", "AllowMajorVersionUpgrade": True}
    assert "ModifyDbCluster" in refused(databases.rds.modify_db_instance, **member)[1]
    assert "flag must be present" in refused(modify, DBClusterIdentifier="aurora16", EngineVersion="17.9")[1]
    cluster = databases.cluster("aurora16")
    with databases.as_master(cluster) as master:
        master.run("CREATE TABLE kept AS SELECT 1 AS id")

    modify(DBClusterIdentifier="aurora16", EngineVersion="17.9", AllowMajorVersionUpgrade=True, ApplyImmediately=True)
    databases.eventually(lambda: "0417" in events.of("aurora16"))
    databases.eventually(lambda: databases.cluster("aurora16")["EngineVersion"] == "17.9")
    databases.available("aurora16-1", "aurora16-2")

    password = databases.password(cluster)
    for name in ("aurora16-1", "aurora16-2"):
        described = databases.instance(name)
        assert described["EngineVersion"] == "17.9"
        with databases.as_master(described, password) as master:
            assert master.run("SELECT current_setting('server_version_num')::int / 10000, id FROM kept") == [(17, 1)]
    upgrade = [each for each in events.of("aurora16") if each in ("0410", "0411", "0417", "0414", "0176")]
    assert upgrade == ["0410", "0411", "0417", "0414", "0176"]
    databases.drop("aurora16-2", "aurora16-1")
    databases.rds.delete_db_cluster(DBClusterIdentifier="aurora16", SkipFinalSnapshot=True)


@pytest.mark.parametrize(
    ("engine", "version"), [("postgres", "12.22"), ("postgres", "14.99"), ("mariadb", "9.9"), ("mysql", "x")]
)
def test_an_unknown_version_is_refused_in_the_words_of_aws(databases: Databases, engine: str, version: str) -> None:
    error = refused(
        databases.rds.create_db_instance, DBInstanceIdentifier="no-such-version", DBInstanceClass=CLASS, Engine=engine,
        AllocatedStorage=20, MasterUsername="boss", ManageMasterUserPassword=True, EngineVersion=version,
    )  # fmt: skip
    assert error == ("InvalidParameterCombination", f"Cannot find version {version} for {engine}")
    assert databases.gone("no-such-version")


def test_an_unknown_version_of_a_cluster_or_a_member_is_refused(databases: Databases) -> None:
    error = refused(
        databases.rds.create_db_cluster, DBClusterIdentifier="unknown", Engine="aurora-postgresql",
        MasterUsername="boss", ManageMasterUserPassword=True, EngineVersion="15.99",
    )  # fmt: skip
    assert error == ("InvalidParameterCombination", "Cannot find version 15.99 for aurora-postgresql")
    databases.make_cluster("memberless", "aurora-postgresql", 0)
    code, message = refused(
        databases.rds.create_db_instance, DBInstanceIdentifier="memberless-1", DBInstanceClass=CLASS,
        Engine="aurora-postgresql", DBClusterIdentifier="memberless", EngineVersion="16.8",
    )  # fmt: skip
    assert (code, "does not match the engine version of your DB cluster" in message) == (
        "InvalidParameterCombination", True,
    )  # fmt: skip
    databases.eventually(lambda: databases.cluster("memberless")["Status"] == "available")
    databases.rds.delete_db_cluster(DBClusterIdentifier="memberless", SkipFinalSnapshot=True)


@pytest.mark.parametrize(
    ("engine", "version"), [("mysql", "8.0.40"), pytest.param("mariadb", "11.4.5", marks=pytest.mark.exhaustive)]
)
def test_other_engines_say_what_was_asked_for(databases: Databases, engine: str, version: str) -> None:
    name = f"asked-{engine}"
    databases.make(name, engine, EngineVersion=version)
    assert databases.instance(name)["EngineVersion"] == version
    databases.available(name)
    databases.drop(name)


def test_engine_versions_are_described_with_their_upgrades(databases: Databases) -> None:
    describe = databases.rds.describe_db_engine_versions
    (version,) = describe(Engine="postgres", EngineVersion="14.12")["DBEngineVersions"]

    assert version["DBParameterGroupFamily"] == "postgres14"
    targets = {each["EngineVersion"]: each["IsMajorVersionUpgrade"] for each in version["ValidUpgradeTarget"]}
    assert targets["14.13"] is False
    assert targets["18.1"] is True
    assert "13.23" not in targets
    assert {each["MajorEngineVersion"] for each in describe(Engine="postgres")["DBEngineVersions"]} == {
        "13", "14", "15", "16", "17", "18",
    }  # fmt: skip
    (default,) = describe(Engine="mysql", DefaultOnly=True)["DBEngineVersions"]
    assert default["EngineVersion"] == "8.4.7"
    assert describe(Engine="postgres", EngineVersion="12.22")["DBEngineVersions"] == []
    pages = databases.rds.get_paginator("describe_db_engine_versions").paginate(PaginationConfig={"PageSize": 20})
    everything = [each["EngineVersion"] for page in pages for each in page["DBEngineVersions"]]
    assert len(everything) > 100
    assert len(everything) == len(set(everything)) + len(describe(Engine="postgres")["DBEngineVersions"]), "once each"


def test_orderable_options_say_that_iam_authentication_is_supported(databases: Databases) -> None:
    describe = databases.rds.describe_orderable_db_instance_options
    options = describe(Engine="postgres", EngineVersion="14.12", DBInstanceClass=CLASS)["OrderableDBInstanceOptions"]

    assert [each["EngineVersion"] for each in options] == ["14.12"]
    assert options[0]["SupportsIAMDatabaseAuthentication"] is True
    assert describe(Engine="postgres", EngineVersion="12.22")["OrderableDBInstanceOptions"] == []
    assert describe(Engine="neptune")["OrderableDBInstanceOptions"], "moto's own answer"
