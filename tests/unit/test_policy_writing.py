"""Whose policies are written when databases are renamed, replaced by copies, or proxied."""

import json
from dataclasses import replace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from rdsiam.access import parse
from rdsiam.access_store import Versioned
from rdsiam.databases import Database, Databases
from rdsiam.inventory import Record
from rdsiam.policies import PATH, ConnectPolicies
from rdsiam.policy_writing import PolicyWriter
from rdsiam.selection import Attributes
from tests.unit.test_databases import PREFIX, ROLE, Rds, cluster, instance, member, proxy

APP = "arn:aws:iam::123456789012:role/app"
CONNECT = "arn:aws:iam::123456789012:role/connect"
FILE = parse(f"""
version: 1
databases:
  - match: {{identifier: "*"}}
    users: [{{name: app, privileges: readonly, on: [shop], roles: ["{APP}"]}}]
""")


class Records:
    """The inventory, in memory."""

    def __init__(self) -> None:
        self.found: dict[str, Record] = {}

    def get(self, arn: str) -> Record | None:
        return self.found.get(arn)

    def of(self, database: Database) -> Record:
        """Return the record as onboarding leaves it before policies are written: with attributes."""
        record = self.found.get(database.arn, Record(resource_id=None))
        return replace(record, resource_id=database.resource_id, recorded=Attributes.of(database))

    def set_roles(self, arn: str, resource_id: str, roles: Any) -> None:
        record = self.found.get(arn, Record(resource_id=None))
        self.found[arn] = replace(record, policy_resource_id=resource_id, roles=tuple(sorted(roles)))


class World:
    """An account whose fleet changes under the same access.yaml."""

    def __init__(self, iam: Any) -> None:
        self.iam = iam
        self.records = Records()

    def write(self, arn: str, *fleet: dict[str, Any]) -> str:
        access = type("Access", (), {"current": lambda _: Versioned(FILE, "v1")})()
        databases = Databases(Rds(*fleet), ROLE)
        writer = PolicyWriter(databases, access, self.records, ConnectPolicies(self.iam, CONNECT), CONNECT)  # type: ignore[arg-type]
        return writer.write(f"{PREFIX}:{arn}", plan=False).status

    def allowed(self) -> set[str]:
        found: set[str] = set()
        for policy in self.iam.list_attached_role_policies(RoleName="app", PathPrefix=PATH)["AttachedPolicies"]:
            version = self.iam.get_policy(PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"]
            answer = self.iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId=version)
            found |= set(answer["PolicyVersion"]["Document"]["Statement"][0]["Resource"])
        return {one.partition("dbuser:")[2] for one in found}


@pytest.fixture
def world():
    with mock_aws():
        iam = boto3.client("iam", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
        trust = json.dumps({"Version": "2012-10-17", "Statement": []})
        iam.create_role(
            RoleName="app", AssumeRolePolicyDocument=trust, Tags=[{"Key": "rdsiam:managed", "Value": "true"}]
        )
        yield World(iam)


def test_a_clusters_policies_name_its_own_resource_id_and_no_members(world):
    assert world.write("cluster:shop", cluster("shop", "shop-1"), member("shop-1", "shop")) == "written"
    assert world.allowed() == {"cluster-SHOP/app"}


def test_a_replica_and_a_proxy_have_policies_of_their_own(world):
    fleet = (instance("orders"), instance("copy", ReadReplicaSourceDBInstanceIdentifier="orders"), proxy("front"))
    for arn in ("db:orders", "db:copy", "db-proxy:prx-front"):
        world.write(arn, *fleet)
    assert world.allowed() == {"db-ORDERS/app", "db-COPY/app", "prx-front/app"}


def test_a_proxy_that_becomes_a_classic_one_loses_its_policies(world):
    world.write("db-proxy:prx-front", proxy("front"))
    world.write("db-proxy:prx-front", proxy("front", "NONE"))
    assert world.allowed() == set()


def test_a_copy_of_the_same_name_replaces_the_policies(world):
    world.write("db:orders", instance("orders"))
    world.write("db:orders", instance("orders", DbiResourceId="db-COPY"))
    assert world.allowed() == {"db-COPY/app"}


@pytest.mark.parametrize("order", [("orders-new", "orders"), ("orders", "orders-new")])
def test_a_renamed_database_keeps_its_policies_whoever_is_looked_at_first(world, order):
    world.write("db:orders", instance("orders"))
    renamed = instance("orders-new", DbiResourceId="db-ORDERS")
    for name in order:
        world.write(f"db:{name}", renamed)
    assert world.allowed() == {"db-ORDERS/app"}
    world.write("db:orders-new")
    assert world.allowed() == set()


@pytest.mark.parametrize("order", [("orders", "orders-old"), ("orders-old", "orders")])
def test_two_databases_that_swap_names_both_keep_theirs(world, order):
    world.write("db:orders", instance("orders"))
    swapped = (instance("orders", DbiResourceId="db-GREEN"), instance("orders-old", DbiResourceId="db-ORDERS"))
    for name in order:
        world.write(f"db:{name}", *swapped)
    assert world.allowed() == {"db-GREEN/app", "db-ORDERS/app"}


def test_a_deleted_database_leaves_nothing(world):
    world.write("db:orders", instance("orders"))
    world.write("db:orders", instance("other"))
    assert world.allowed() == set()
