"""The database of a secret, from what Describe says of instances and clusters."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from rdsiam.errors import DatabaseNotReady, Refused
from rdsiam.rotation.secret import Secret
from rdsiam.rotation.targets import Targets
from tests.unit.test_databases import cluster, instance


class Rds:
    """Describe, over what there is."""

    def __init__(self, *there: dict[str, Any]) -> None:
        self.there = there

    def _all(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self.there if f"DB{kind}Arn" in each]

    def _one(self, kind: str, identifier: str) -> dict[str, Any]:
        found = [each for each in self._all(kind) if each[f"DB{kind}Identifier"] == identifier]
        if not found:
            raise ClientError({"Error": {"Code": f"DB{kind}NotFoundFault", "Message": "none"}}, "Describe")
        return {f"DB{kind}s": found}

    def describe_db_instances(self, DBInstanceIdentifier: str) -> dict[str, Any]:  # noqa: N803  AWS's
        return self._one("Instance", DBInstanceIdentifier)

    def describe_db_clusters(self, DBClusterIdentifier: str) -> dict[str, Any]:  # noqa: N803  AWS's
        return self._one("Cluster", DBClusterIdentifier)

    def get_paginator(self, operation: str) -> Any:
        kind = {"describe_db_instances": "Instance", "describe_db_clusters": "Cluster"}[operation]
        pages = [{f"DB{kind}s": [each]} for each in self._all(kind)]
        return type("Pages", (), {"paginate": lambda _: pages})()


def secret(**keys: Any) -> Secret:
    return Secret(**{"engine": "postgres", "user": "app", "password": "p"} | keys)


ORDERS, COPY = instance("orders"), instance("copy", ReadReplicaSourceDBInstanceIdentifier="orders")
MEMBER = instance("one", DBClusterIdentifier="fleet")
FLEET = cluster("fleet", "one")
FOLLOWER = cluster("follower", "two", ReplicationSourceIdentifier="fleet")
TARGETS = Targets(Rds(ORDERS, COPY, MEMBER, FLEET, FOLLOWER, instance("other", Engine="oracle-ee")))


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"instance": "orders"}, "orders"),
        ({"host": "orders.x.eu-west-1.rds.amazonaws.com"}, "orders"),
        ({"host": "ORDERS.x.eu-west-1.rds.amazonaws.com", "port": 5432}, "orders"),
        ({"cluster": "fleet"}, "fleet"),
        ({"host": "fleet.cluster-x.eu-west-1.rds.amazonaws.com"}, "fleet"),
    ],
)
def test_a_secret_is_of_the_database_that_describe_returns(keys, found):
    assert TARGETS.find(secret(**keys)).identifier == found


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"instance": "copy"}, "a replica of orders"),
        ({"host": "copy.x.eu-west-1.rds.amazonaws.com"}, "a replica of orders"),
        ({"cluster": "follower"}, "a replica of fleet"),
        ({"instance": "one"}, "a member of cluster fleet.*name the cluster"),
        ({"instance": "other"}, "runs oracle-ee"),
        ({"instance": "missing"}, "no endpoint of an instance or cluster"),
        ({"host": "orders.evil.example"}, "no endpoint of an instance or cluster"),
        ({"host": "orders.y.eu-west-1.rds.amazonaws.com"}, "not those of orders"),
        ({"instance": "orders", "port": 1, "host": "orders.x.eu-west-1.rds.amazonaws.com"}, "not those of orders"),
        ({"host": "fleet.cluster-ro-x.eu-west-1.rds.amazonaws.com"}, "a reader"),
        ({"instance": "orders", "engine": "mysql"}, "says mysql, but orders runs postgres"),
    ],
)
def test_nothing_is_sent_where_users_are_not_made_or_describe_says_otherwise(keys, why):
    with pytest.raises(Refused, match=why):
        TARGETS.find(secret(**keys))


def test_a_host_that_is_no_name_of_rds_is_compared_with_what_all_have():
    local = instance("local", Endpoint={"Address": "localhost", "Port": 5432})
    copy = instance(
        "copied", Endpoint={"Address": "localhost", "Port": 5433}, ReadReplicaSourceDBInstanceIdentifier="l"
    )
    targets = Targets(Rds(MEMBER, instance("other", Engine="oracle-ee"), local, copy, FLEET))
    assert targets.find(secret(host="localhost", port=5432)).identifier == "local"
    with pytest.raises(Refused, match="a replica of l"):
        targets.find(secret(host="localhost", port=5433))


@pytest.mark.parametrize("engine", ["neptune", "docdb"])
def test_clusters_of_other_engines_are_refused_and_passed_over(engine):
    targets = Targets(Rds(cluster("graph", "g", Engine=engine)))
    with pytest.raises(Refused, match=f"runs {engine}"):
        targets.find(secret(cluster="graph"))
    with pytest.raises(Refused, match="no endpoint"):
        targets.find(secret(host="somewhere.example"))


def test_a_cluster_that_has_no_instance_yet_is_not_ready():
    with pytest.raises(DatabaseNotReady):
        Targets(Rds(cluster("empty"))).find(secret(cluster="empty"))
