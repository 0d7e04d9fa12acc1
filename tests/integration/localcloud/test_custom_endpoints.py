"""Custom endpoints of Aurora clusters through boto3: Describe, types, members, logins, errors."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from botocore.exceptions import ClientError


@pytest.fixture(scope="module")
def cluster(databases: Any) -> Iterator[str]:
    """Return a cluster with a writer and two readers."""
    databases.make_cluster("fleet", "aurora-postgresql", members=3, EnableIAMDatabaseAuthentication=True)
    databases.available("fleet-1", "fleet-2", "fleet-3")
    yield "fleet"
    databases.drop("fleet-3", "fleet-2", "fleet-1")
    databases.rds.delete_db_cluster(DBClusterIdentifier="fleet", SkipFinalSnapshot=True)


@pytest.fixture
def custom(databases: Any, cluster: str) -> Iterator[Any]:
    """Create custom endpoints, and delete them after the test."""
    made = []

    def create(name: str, kind: str, **members: list[str]) -> dict[str, Any]:
        answer = databases.rds.create_db_cluster_endpoint(
            DBClusterIdentifier=cluster, DBClusterEndpointIdentifier=name, EndpointType=kind, **members
        )
        made.append(name)
        databases.eventually(lambda: _described(databases, name)["Status"] == "available")
        return dict(answer)

    yield create
    for name in made:
        databases.rds.delete_db_cluster_endpoint(DBClusterEndpointIdentifier=name)


def test_a_cluster_has_a_writer_s_a_reader_s_and_custom_endpoints(databases, cluster, custom):
    made = custom("Analytics", "READER", StaticMembers=["fleet-2"])
    assert (made["Status"], made["DBClusterEndpointIdentifier"]) == ("creating", "analytics")
    described = databases.cluster(cluster)
    writer, reader, analytics = databases.rds.describe_db_cluster_endpoints(DBClusterIdentifier=cluster)[
        "DBClusterEndpoints"
    ]
    assert (writer["EndpointType"], writer["Endpoint"]) == ("WRITER", described["Endpoint"])
    assert (reader["EndpointType"], reader["Endpoint"]) == ("READER", described["ReaderEndpoint"])
    assert (analytics["EndpointType"], analytics["CustomEndpointType"]) == ("CUSTOM", "READER")
    assert (analytics["StaticMembers"], analytics["ExcludedMembers"]) == (["fleet-2"], [])
    assert analytics["Endpoint"].startswith("analytics.cluster-custom-")
    assert analytics["DBClusterEndpointArn"].endswith(":cluster-endpoint:analytics")
    assert analytics["DBClusterEndpointResourceIdentifier"].startswith("cluster-endpoint-")
    found = databases.rds.describe_db_cluster_endpoints(
        Filters=[{"Name": "db-cluster-endpoint-type", "Values": ["custom"]}]
    )["DBClusterEndpoints"]
    assert [each["DBClusterEndpointIdentifier"] for each in found] == ["analytics"]
    assert databases.rds.describe_db_cluster_endpoints(DBClusterIdentifier="nothing")["DBClusterEndpoints"] == []


def test_a_list_of_one_kind_takes_the_place_of_the_other(databases, cluster, custom):
    custom("any", "ANY", ExcludedMembers=["fleet-1"])
    databases.rds.modify_db_cluster_endpoint(DBClusterEndpointIdentifier="any", StaticMembers=["fleet-3", "fleet-1"])
    changed = _described(databases, "any")
    assert (changed["StaticMembers"], changed["ExcludedMembers"]) == (["fleet-1", "fleet-3"], [])


def test_custom_endpoints_lead_to_their_members_with_verified_names(databases, cluster, custom):
    described = databases.cluster(cluster)
    with databases.as_master(described) as master:
        databases.make_iam_user(master)
    of_readers = custom("readers", "READER", ExcludedMembers=["fleet-3"])
    of_all = custom("all", "ANY")
    of_one = custom("one", "ANY", StaticMembers=["fleet-1"])
    of_none = custom("none", "READER", StaticMembers=["fleet-1"])
    for endpoint, read_only, times in ((of_readers, {True}, 2), (of_all, {True, False}, 6), (of_one, {False}, 2)):
        assert {_is_read_only(databases, described, endpoint["Endpoint"]) for _ in range(times)} == read_only
    with pytest.raises(psycopg.OperationalError, match="refused"):
        _is_read_only(databases, described, of_none["Endpoint"])
    databases.rds.failover_db_cluster(DBClusterIdentifier=cluster, TargetDBInstanceIdentifier="fleet-2")
    databases.available("fleet-1", "fleet-2")
    databases.eventually(lambda: databases.cluster(cluster)["Status"] == "available")
    assert _is_read_only(databases, described, of_none["Endpoint"]), "fleet-1 is a reader now"
    for_writer = databases.rds.generate_db_auth_token(described["Endpoint"], described["Port"], "app")
    with pytest.raises(psycopg.OperationalError, match="PAM"):
        databases.connect(described | {"Endpoint": of_one["Endpoint"]}, "app", for_writer)


def _is_read_only(databases: Any, cluster: dict[str, Any], host: str) -> bool:
    with databases.by_token(cluster | {"Endpoint": host}, "app", cluster["DbClusterResourceId"]) as session:
        return bool(session.run("SELECT pg_is_in_recovery()")[0][0])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"StaticMembers": ["fleet-1"], "ExcludedMembers": ["fleet-2"]}, "InvalidParameterCombination"),
        ({"StaticMembers": ["stranger"]}, "DBInstanceNotFound"),
        ({"EndpointType": "SOME"}, "InvalidParameterValue"),
        ({"DBClusterIdentifier": "nothing"}, "DBClusterNotFoundFault"),
        ({"DBClusterEndpointIdentifier": "ends-"}, "InvalidParameterValue"),
    ],
)
def test_wrong_endpoints_are_refused(databases, cluster, arguments, error):
    request = {"DBClusterIdentifier": cluster, "DBClusterEndpointIdentifier": "wrong", "EndpointType": "ANY"}
    with pytest.raises(ClientError, match=error):
        databases.rds.create_db_cluster_endpoint(**request | arguments)
    with pytest.raises(ClientError, match="DBClusterEndpointNotFoundFault"):
        _described(databases, "wrong")


def test_the_port_of_a_cluster_stays_what_its_endpoints_listen_at(databases, cluster):
    port = databases.cluster(cluster)["Port"]
    with pytest.raises(ClientError, match="InvalidParameterValue"):
        databases.rds.modify_db_cluster(DBClusterIdentifier=cluster, Port=port + 1, ApplyImmediately=True)
    databases.rds.modify_db_cluster(DBClusterIdentifier=cluster, Port=port, ApplyImmediately=True)
    assert databases.cluster(cluster)["Port"] == port


def _described(databases: Any, name: str) -> dict[str, Any]:
    found = databases.rds.describe_db_cluster_endpoints(DBClusterEndpointIdentifier=name)["DBClusterEndpoints"]
    return dict(found[0])
