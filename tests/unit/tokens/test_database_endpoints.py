"""Endpoints of databases, read from RDS's descriptions: which there are, and which one a name means."""

from typing import Any

import pytest

from rdsiam.aws.rds_descriptions import from_cluster, from_instance, from_proxy
from rdsiam.errors import NoSuchEndpoint
from rdsiam.tokens.database_endpoints import DatabaseEndpoints, describe, describe_all
from tests.unit.aws.test_rds import Rds, cluster, custom, instance, member, proxy, proxy_endpoint

X = "x.eu-west-1.rds.amazonaws.com"


def endpoints(described: dict[str, Any], *others: dict[str, Any]) -> DatabaseEndpoints:
    """Return the endpoints of a described database, which are the same if all databases are described at once."""
    if "DBClusterArn" in described:
        database = from_cluster(described)
    elif "DBProxyArn" in described:
        database = from_proxy(described, ())
    else:
        database = from_instance(described)
    rds = Rds(described, *others)
    alone = describe(rds, database)
    assert describe_all(rds).of(database) == alone
    return alone


def names(found: DatabaseEndpoints) -> list[tuple[str, str]]:
    return [(endpoint.name, endpoint.kind) for endpoint in found.listed]


SHOP = (
    cluster(
        "shop", "shop-2", "shop-1", custom=[custom("reports", "shop"), custom("batch", "shop", Status="modifying")]
    ),
    member("shop-1", "shop"),
    member("shop-2", "shop"),
    cluster("other", "other-1", custom=[custom("foreign", "other")]),
    member("other-1", "other"),
)


def test_a_cluster_has_writer_reader_custom_endpoints_and_instances():
    found = endpoints(*SHOP)
    assert [(each.name, each.kind, each.host, each.port) for each in found.listed] == [
        ("writer", "writer", f"shop.cluster-{X}", 5432),
        ("reader", "reader", f"shop.cluster-ro-{X}", 5432),
        ("batch", "custom", f"batch.cluster-custom-{X}", 5432),
        ("reports", "custom", f"reports.cluster-custom-{X}", 5432),
        ("shop-1", "instance", f"shop-1.{X}", 5432),
        ("shop-2", "instance", f"shop-2.{X}", 5432),
    ]


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("writer", f"shop.cluster-{X}"),
        ("reader", f"shop.cluster-ro-{X}"),
        ("READER", f"shop.cluster-ro-{X}"),
        ("reports", f"reports.cluster-custom-{X}"),
        ("shop-2", f"shop-2.{X}"),
        (f"Shop.cluster-ro-{X}", f"shop.cluster-ro-{X}"),
        (f"reports.cluster-custom-{X}.", f"reports.cluster-custom-{X}"),
    ],
)
def test_an_endpoint_is_chosen_by_its_name_or_host_name(name, host):
    assert endpoints(*SHOP).choose(name).host == host


@pytest.mark.parametrize(
    "name", ["other-1", "foreign", "shop", "shop-3", f"shop.cluster-ro-y.{X}", f"other.cluster-{X}"]
)
def test_an_unknown_endpoint_is_an_error_that_names_the_existing_ones_and_not_the_request(name):
    with pytest.raises(NoSuchEndpoint, match="it has writer, reader, batch, reports, shop-1 and shop-2") as caught:
        endpoints(*SHOP).choose(name)
    assert name not in str(caught.value).replace("shop-1 and shop-2", "").split()


@pytest.mark.parametrize("name", ["reader", f"shop.cluster-ro-{X}"])
@pytest.mark.parametrize("others", [[], [member("shop-2", "shop", Endpoint=None, DBInstanceStatus="creating")]])
def test_the_reader_endpoint_exists_without_a_reader_since_it_leads_to_the_writer_then(name, others):
    members = ["shop-1", *(each["DBInstanceIdentifier"] for each in others)]
    found = endpoints(cluster("shop", *members), member("shop-1", "shop"), *others)
    assert names(found) == [("writer", "writer"), ("reader", "reader"), ("shop-1", "instance")]
    assert found.choose(name).host == f"shop.cluster-ro-{X}"


@pytest.mark.parametrize("status", ["creating", "deleting", "inactive"])
def test_a_custom_endpoint_that_leads_nowhere_is_left_out(status):
    found = endpoints(
        cluster("shop", "shop-1", custom=[custom("reports", "shop", Status=status)]), member("shop-1", "shop")
    )
    assert names(found) == [("writer", "writer"), ("reader", "reader"), ("shop-1", "instance")]


def test_an_endpoint_with_the_name_of_another_is_chosen_by_its_host_name():
    found = endpoints(
        cluster("shop", "shop-1", "shop-2", custom=[custom("reader", "shop"), custom("shop-2", "shop")]),
        member("shop-1", "shop"),
        member("shop-2", "shop"),
    )
    assert found.choose("reader").host == f"shop.cluster-ro-{X}"
    assert found.choose(f"reader.cluster-custom-{X}").kind == "custom"
    assert found.choose(f"shop-2.{X}").kind == "instance"


def test_a_secondary_cluster_of_a_global_database_has_no_writer():
    secondary = cluster("shop", "shop-1", GlobalClusterIdentifier="world")
    secondary["DBClusterMembers"][0]["IsClusterWriter"] = False
    assert names(endpoints(secondary, member("shop-1", "shop"))) == [("reader", "reader"), ("shop-1", "instance")]


def test_rds_is_not_asked_for_custom_endpoints_of_a_multi_az_cluster():
    described = cluster("shop", "shop-1", "shop-2", Engine="postgres")
    rds: Any = Rds(described, member("shop-1", "shop"), member("shop-2", "shop"))
    rds.describe_db_cluster_endpoints = lambda **_: pytest.fail("RDS knows custom endpoints of Aurora only")
    found = describe(rds, from_cluster(described))
    assert [each.name for each in found.listed] == ["writer", "reader", "shop-1", "shop-2"]


@pytest.mark.parametrize("name", ["writer", "orders", "ORDERS", f"orders.{X}"])
def test_an_instance_has_one_endpoint(name):
    found = endpoints(instance("orders", ReadReplicaDBInstanceIdentifiers=["orders-copy"]))
    assert names(found) == [("writer", "writer")]
    assert found.choose(name).host == f"orders.{X}"


@pytest.mark.parametrize("name", ["reader", "orders-copy", "reports", f"orders-copy.{X}"])
def test_read_replicas_of_an_instance_are_databases_of_their_own_and_are_not_named(name):
    found = endpoints(
        instance("orders", ReadReplicaDBInstanceIdentifiers=["orders-copy"]),
        instance("orders-copy", ReadReplicaSourceDBInstanceIdentifier="orders"),
    )
    with pytest.raises(NoSuchEndpoint, match="databases of their own, with their own resource ids") as caught:
        found.choose(name)
    assert "orders-copy" not in str(caught.value)


FURTHER = [
    proxy_endpoint("front", "front", IsDefault=True),
    proxy_endpoint("reports", "front", TargetRole="READ_ONLY"),
    proxy_endpoint("far", "front"),
    proxy_endpoint("new", "front", Status="creating"),
]


def test_a_proxy_has_its_own_endpoint_and_further_ones():
    found = endpoints(proxy("front", endpoints=FURTHER), proxy("other", endpoints=[proxy_endpoint("foreign", "other")]))
    assert [(each.name, each.kind, each.host, each.port) for each in found.listed] == [
        ("writer", "writer", f"front.proxy-{X}", 5432),
        ("reader", "reader", f"reports.endpoint.proxy-{X}", 5432),
        ("far", "proxy", f"far.endpoint.proxy-{X}", 5432),
        ("reports", "proxy", f"reports.endpoint.proxy-{X}", 5432),
    ]


@pytest.mark.parametrize("roles", [["READ_WRITE"], ["READ_ONLY", "READ_ONLY"], []])
def test_the_reader_of_a_proxy_is_its_only_read_only_endpoint(roles):
    further = [proxy_endpoint(f"e{number}", "front", TargetRole=role) for number, role in enumerate(roles)]
    with pytest.raises(NoSuchEndpoint, match="no read-only endpoint, or several; it has writer"):
        endpoints(proxy("front", endpoints=further)).choose("reader")


def test_the_port_of_a_mysql_proxy_s_endpoints_is_mysql_s():
    found = endpoints(proxy("front", EngineFamily="MYSQL", endpoints=FURTHER))
    assert {each.port for each in found.listed} == {3306}


def test_a_cluster_that_is_not_described_has_the_recorded_endpoint():
    recorded = from_cluster(cluster("shop", "shop-1"))
    gone = describe_all(Rds(cluster("shop", "shop-1", DbClusterResourceId="cluster-ANOTHER"))).of(recorded)
    assert names(gone) == [("writer", "writer")]
