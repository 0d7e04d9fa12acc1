"""The fleet as RDS describes it: what is a database, what it is called, and what is left alone."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rdsiam.aws.rds import Database, Databases
from rdsiam.aws.rds_descriptions import from_cluster, from_instance, from_proxy
from rdsiam.errors import DatabaseNotFound, DatabaseNotReady, Unsupported

ROLE = "arn:aws:iam::123456789012:role/onboard"
PREFIX = "arn:aws:rds:eu-west-1:123456789012"


def instance(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "DBInstanceArn": f"{PREFIX}:db:{name}",
        "DBInstanceIdentifier": name,
        "Engine": "postgres",
        "EngineVersion": "18.1",
        "DbiResourceId": f"db-{name.upper()}",
        "DBInstanceStatus": "available",
        "Endpoint": {"Address": f"{name}.x.eu-west-1.rds.amazonaws.com", "Port": 5432},
        "IAMDatabaseAuthenticationEnabled": True,
        "MasterUsername": "boss",
        "TagList": [{"Key": "env", "Value": "prod"}],
    } | changes


def cluster(name: str, *members: str, **changes: Any) -> dict[str, Any]:
    """Return an Aurora cluster; its first member is the writer."""
    return {
        "DBClusterArn": f"{PREFIX}:cluster:{name}",
        "DBClusterIdentifier": name,
        "Engine": "aurora-postgresql",
        "EngineMode": "provisioned",
        "EngineVersion": "17.4",
        "DbClusterResourceId": f"cluster-{name.upper()}",
        "Status": "available",
        "Endpoint": f"{name}.cluster-x.eu-west-1.rds.amazonaws.com",
        "ReaderEndpoint": f"{name}.cluster-ro-x.eu-west-1.rds.amazonaws.com",
        "Port": 5432,
        "MasterUsername": "boss",
        "MasterUserSecret": {"SecretArn": "arn:secret"},
        "DatabaseName": "shop",
        "DBClusterMembers": [
            {"DBInstanceIdentifier": member, "IsClusterWriter": number == 0} for number, member in enumerate(members)
        ],
        "PendingModifiedValues": {},
        "TagList": [],
    } | changes


def member(name: str, of: str, **changes: Any) -> dict[str, Any]:
    return instance(name, DBClusterIdentifier=of, Engine="aurora-postgresql", **changes)


def proxy(name: str, scheme: str = "IAM_AUTH", **changes: Any) -> dict[str, Any]:
    return {
        "DBProxyArn": f"{PREFIX}:db-proxy:prx-{name}",
        "DBProxyName": name,
        "Status": "available",
        "EngineFamily": "POSTGRESQL",
        "DefaultAuthScheme": scheme,
        "Auth": [],
        "Endpoint": f"{name}.proxy-x.eu-west-1.rds.amazonaws.com",
        "RequireTLS": True,
    } | changes


def custom(name: str, of: str, **changes: Any) -> dict[str, Any]:
    """Return a custom endpoint, to be given to a cluster as `custom`."""
    return {
        "DBClusterEndpointIdentifier": name,
        "DBClusterIdentifier": of,
        "Endpoint": f"{name}.cluster-custom-x.eu-west-1.rds.amazonaws.com",
        "Status": "available",
        "EndpointType": "CUSTOM",
        "CustomEndpointType": "ANY",
    } | changes


def proxy_endpoint(name: str, of: str, **changes: Any) -> dict[str, Any]:
    """Return a further endpoint of a proxy, to be given to the proxy as `endpoints`."""
    return {
        "DBProxyEndpointName": name,
        "DBProxyName": of,
        "Endpoint": f"{name}.endpoint.proxy-x.eu-west-1.rds.amazonaws.com",
        "Status": "available",
        "TargetRole": "READ_WRITE",
        "IsDefault": False,
    } | changes


def not_found(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "gone"}}, "Describe")


class Rds:
    """RDS's API over fixed descriptions; every page has one element, as AWS's may."""

    def __init__(self, *described: dict[str, Any], targets: Any = ()) -> None:
        self.instances = [one for one in described if "DBInstanceArn" in one]
        self.clusters = [one for one in described if "DBClusterArn" in one]
        self.found_proxies = [one for one in described if "DBProxyArn" in one]
        self.targets = list(targets)
        self.modified: list[tuple[str, dict[str, Any]]] = []
        self.meta = type("Meta", (), {"region_name": "eu-west-1"})

    def describe_db_instances(self, **asked: Any) -> Any:
        return self._answer("DBInstances", self.instances, "DBInstance", "DBInstanceNotFound", asked)

    def describe_db_clusters(self, **asked: Any) -> Any:
        return self._answer("DBClusters", self.clusters, "DBCluster", "DBClusterNotFoundFault", asked)

    def describe_db_proxies(self, **asked: Any) -> Any:
        return self._answer("DBProxies", self.found_proxies, "DBProxy", "DBProxyNotFoundFault", asked)

    def describe_db_cluster_endpoints(self, **asked: Any) -> Any:
        endpoints = [
            endpoint
            for each in self.clusters
            if asked.get("DBClusterIdentifier") in (None, each["DBClusterIdentifier"])
            for endpoint in each.get("custom", ())
            if asked.get("DBClusterEndpointIdentifier") in (None, endpoint["DBClusterEndpointIdentifier"])
        ]
        return {"DBClusterEndpoints": endpoints}

    def describe_db_proxy_endpoints(self, **asked: Any) -> Any:
        endpoints = [
            endpoint
            for each in self.found_proxies
            if asked.get("DBProxyName") in (None, each["DBProxyName"])
            for endpoint in each.get("endpoints", ())
            if asked.get("DBProxyEndpointName") in (None, endpoint["DBProxyEndpointName"])
        ]
        return {"DBProxyEndpoints": endpoints}

    def describe_db_proxy_targets(self, **_: Any) -> Any:
        return {"Targets": self.targets}

    def list_tags_for_resource(self, ResourceName: str) -> Any:  # noqa: N803
        if ResourceName not in [one["DBProxyArn"] for one in self.found_proxies]:
            raise not_found("DBProxyNotFoundFault")
        return {"TagList": [{"Key": "env", "Value": "prod"}]}

    def modify_db_instance(self, **asked: Any) -> None:
        self.modified.append(("instance", asked))

    def modify_db_cluster(self, **asked: Any) -> None:
        self.modified.append(("cluster", asked))

    def get_paginator(self, name: str) -> Any:
        def paginate(**asked: Any) -> Iterator[Any]:
            marker: dict[str, str] = {}
            while True:
                page = getattr(self, name)(**asked, **marker)
                yield page
                if "Marker" not in page:
                    return
                marker = {"Marker": page["Marker"]}

        return type("Paginator", (), {"paginate": staticmethod(paginate)})

    def _answer(self, key: str, found: list[Any], kind: str, code: str, asked: dict[str, Any]) -> Any:
        name = asked.get(f"{kind}Identifier")
        if name is not None:
            found = [one for one in found if name in (one[f"{kind}Identifier"], one[f"{kind}Arn"])]
            if not found:
                raise not_found(code)
            return {key: found}
        fields = {
            "db-cluster-id": "DBClusterIdentifier",
            "dbi-resource-id": "DbiResourceId",
            "db-cluster-resource-id": "DbClusterResourceId",
        }
        for one in asked.get("Filters", []):
            found = [each for each in found if each.get(fields[one["Name"]]) in one["Values"]]
        at = int(asked.get("Marker", 0))
        return {key: found[at : at + 1]} | ({"Marker": str(at + 1)} if at + 1 < len(found) else {})


def databases(*described: dict[str, Any], **options: Any) -> Databases:
    return Databases(Rds(*described, **options), ROLE)


FLEET = (
    instance("orders"),
    instance("copy", ReadReplicaSourceDBInstanceIdentifier="orders"),
    instance("ledger", Engine="oracle-ee"),
    member("shop-1", "shop", PubliclyAccessible=True),
    member("shop-2", "shop"),
    cluster("shop", "shop-1", "shop-2"),
    cluster("graph", "graph-1", Engine="neptune"),
    proxy("front"),
    proxy("classic", "NONE"),
)


# --- one ---


def test_a_cluster_is_one_database_with_the_writers_endpoint_and_the_clusters_resource_id():
    found = databases(*FLEET).describe(f"{PREFIX}:cluster:shop")
    assert found.kind == "cluster"
    assert found.resource_id == "cluster-SHOP"
    assert found.endpoint == ("shop.cluster-x.eu-west-1.rds.amazonaws.com", 5432)
    assert (found.master_secret_arn, found.default_database) == ("arn:secret", "shop")
    assert found.public
    assert found.has_users


def test_the_writers_arn_describes_its_cluster_and_a_readers_says_why_not():
    assert databases(*FLEET).describe(f"{PREFIX}:db:shop-1").arn == f"{PREFIX}:cluster:shop"
    with pytest.raises(Unsupported, match=r"reader of cluster shop.*shop-1"):
        databases(*FLEET).describe(f"{PREFIX}:db:shop-2")


def test_readers_of_a_cluster_and_replicas_that_are_clusters_are_its_replicas():
    fleet = databases(*FLEET)
    assert fleet.describe(f"{PREFIX}:cluster:shop").replicas == ("shop-2",)
    reader = fleet.replica(f"{PREFIX}:db:shop-2")
    assert (reader.kind, reader.identifier, reader.replica_of) == ("instance", "shop-2", "shop")
    assert reader.endpoint == ("shop-2.x.eu-west-1.rds.amazonaws.com", 5432)
    assert (reader.resource_id, reader.master_secret_arn, reader.replicas) == ("cluster-SHOP", "arn:secret", ())
    assert fleet.replica(f"{PREFIX}:cluster:shop").kind == "cluster"
    assert fleet.replica(f"{PREFIX}:db:orders").arn == f"{PREFIX}:db:orders"
    with pytest.raises(Unsupported, match="another account or region"):
        fleet.replica("arn:aws:rds:us-east-1:123456789012:db:shop-2")
    far = "arn:aws:rds:us-east-1:123456789012:cluster:far"
    assert from_cluster(cluster("shop", "shop-1", ReadReplicaIdentifiers=[far])).replicas == (far,)
    source = instance("orders", ReadReplicaDBClusterIdentifiers=["aurora"], ReadReplicaDBInstanceIdentifiers=["copy"])
    assert from_instance(source).replicas == ("copy", f"{PREFIX}:cluster:aurora")


def test_a_cluster_without_instances_has_no_endpoint_yet():
    assert from_cluster(cluster("new")).host is None


def test_a_cluster_that_follows_one_of_another_region_is_a_replica_with_its_readers_endpoint():
    members = [{"DBInstanceIdentifier": "far-1", "IsClusterWriter": False}]
    far = from_cluster(cluster("far", DBClusterMembers=members, GlobalClusterIdentifier="world"))
    source = "arn:aws:rds::123456789012:global-cluster:world"
    assert (far.replica_of, far.host) == (source, "far.cluster-ro-x.eu-west-1.rds.amazonaws.com")
    assert not far.has_users
    follower = from_cluster(cluster("far", "far-1", ReplicationSourceIdentifier="arn:aws:rds:us-east-1:1:cluster:a"))
    assert follower.replica_of == "arn:aws:rds:us-east-1:1:cluster:a"


def test_a_cluster_that_is_between_two_writers_has_nothing_to_connect_to():
    members = [{"DBInstanceIdentifier": "shop-1", "IsClusterWriter": False}]
    assert from_cluster(cluster("shop", DBClusterMembers=members)).host is None


@pytest.mark.parametrize(
    ("key", "source"),
    [
        ("ReadReplicaSourceDBInstanceIdentifier", "orders"),
        ("ReadReplicaSourceDBClusterIdentifier", f"{PREFIX}:cluster:orders"),
    ],
)
def test_a_replica_has_no_users_of_its_own(key, source):
    found = from_instance(instance("copy", **{key: "orders"}))
    assert found.replica_of == source
    assert not found.has_users


def test_a_proxy_has_the_resource_id_of_its_arn_and_its_tags():
    found = databases(*FLEET).describe(f"{PREFIX}:db-proxy:prx-front")
    assert (found.kind, found.resource_id, found.engine, found.port) == ("proxy", "prx-front", "postgres", 5432)
    assert found.tags == {"env": "prod"}
    assert found.iam_enabled
    assert not found.has_users
    assert not databases(*FLEET).describe(f"{PREFIX}:db-proxy:prx-classic").iam_enabled
    assert from_proxy(proxy("m", EngineFamily="MYSQL"), []).port == 3306


@pytest.mark.parametrize(
    "described",
    [
        cluster("graph", "graph-1", Engine="neptune"),
        cluster("docs", "docs-1", Engine="docdb"),
        cluster("old", "old-1", EngineMode="serverless"),
    ],
    ids=lambda one: one["DBClusterIdentifier"],
)
def test_clusters_without_iam_authentication_are_not_supported(described):
    with pytest.raises(Unsupported):
        from_cluster(described)


@pytest.mark.parametrize("engine", ["oracle-ee", "sqlserver-se", "custom-oracle-ee", "neptune", "docdb", "db2-se"])
def test_engines_without_iam_authentication_are_not_supported(engine):
    with pytest.raises(Unsupported, match=engine):
        from_instance(instance("x", Engine=engine))


def test_a_proxy_for_sql_server_is_not_supported():
    with pytest.raises(Unsupported):
        from_proxy(proxy("x", EngineFamily="SQLSERVER"), [])


@pytest.mark.parametrize("kind", ["db:nothing", "cluster:nothing", "db-proxy:prx-nothing"])
def test_what_rds_does_not_know_does_not_exist(kind):
    with pytest.raises(DatabaseNotFound):
        databases(*FLEET).describe(f"{PREFIX}:{kind}")


@pytest.mark.parametrize("kind", ["db:x", "cluster:x"])
def test_an_empty_answer_never_means_that_a_database_is_gone(kind):
    found = databases()
    found._rds._answer = lambda key, *_: {key: []}
    with pytest.raises(DatabaseNotReady):
        found.describe(f"{PREFIX}:{kind}")


def test_a_proxy_that_is_not_listed_but_has_tags_is_not_gone():
    found = databases()
    found._rds.list_tags_for_resource = lambda **_: {"TagList": []}
    with pytest.raises(DatabaseNotReady):
        found.describe(f"{PREFIX}:db-proxy:prx-x")


@pytest.mark.parametrize(
    "arn",
    [
        f"{PREFIX}:snapshot:rds:orders",
        "arn:aws:rds:us-west-2:123456789012:db:orders",
        "arn:aws:rds:eu-west-1:999999999999:cluster:shop",
    ],
)
def test_other_things_accounts_and_regions_are_not_asked_for(arn):
    with pytest.raises(Unsupported):
        databases(*FLEET).describe(arn)


def test_a_database_is_found_by_its_resource_id_whatever_it_is_called():
    fleet = databases(*FLEET)
    for resource_id, identifier in (("db-ORDERS", "orders"), ("cluster-SHOP", "shop"), ("prx-front", "front")):
        found = fleet.of_resource(resource_id)
        assert found is not None
        assert found.identifier == identifier
    assert fleet.of_resource("db-GONE") is fleet.of_resource("cluster-GONE") is fleet.of_resource("prx-gone") is None


@pytest.mark.parametrize("arn", [f"{PREFIX}:db:orders", f"{PREFIX}:cluster:shop"])
def test_iam_authentication_of_a_cluster_is_switched_on_the_cluster(arn):
    fleet = databases(*FLEET)
    fleet.enable_iam(fleet.describe(arn))
    [(kind, asked)] = fleet._rds.modified
    assert kind == ("cluster" if ":cluster:" in arn else "instance")
    assert asked["EnableIAMDatabaseAuthentication"]
    assert asked["ApplyImmediately"]


# --- all ---


def test_a_list_has_instances_clusters_and_iam_proxies_and_counts_members_once():
    found = {one.identifier: one for one in databases(*FLEET).list()}
    assert sorted(found) == ["copy", "front", "orders", "shop"]
    assert found["shop"].public


def test_pages_add_up_to_the_list():
    fleet = databases(*FLEET)
    position: str | None = None
    found: list[Database] = []
    pages = 0
    while pages == 0 or position is not None:
        some, position = fleet.page(position)
        found += some
        pages += 1
    assert [one.arn for one in found] == [one.arn for one in fleet.list()]
    assert pages == len(FLEET)


def test_proxies_say_what_is_behind_them_and_whether_they_use_passwords():
    auth = [{"AuthScheme": "SECRETS", "SecretArn": "arn:b", "UserName": "app"}, {"SecretArn": "arn:a"}]
    targets = [
        {"Type": "TRACKED_CLUSTER", "RdsResourceId": "shop"},
        {"Type": "RDS_INSTANCE", "RdsResourceId": "shop-1", "TrackedClusterId": "shop"},
    ]
    one, other = databases(proxy("iam"), proxy("classic", "NONE", Auth=auth), targets=targets).proxies()
    assert (one.name, one.classic) == ("classic", True)
    assert (one.secret_arns, one.users, one.targets) == (("arn:a", "arn:b"), ("app",), ("shop", "shop-1"))
    assert (other.name, other.classic, other.tls_required) == ("iam", False, True)


def test_identities_know_every_resource_id_and_whose_members_there_are():
    found = databases(*FLEET).identities()
    assert set(found.known) == {
        "db-ORDERS", "db-COPY", "db-LEDGER", "cluster-SHOP", "cluster-GRAPH", "prx-front", "prx-classic",
    }  # fmt: skip
    assert found.members == {"db-SHOP-1": "cluster-SHOP", "db-SHOP-2": "cluster-SHOP"}
