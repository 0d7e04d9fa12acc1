"""Policies of databases that are renamed, replaced by copies, or proxied."""

import json
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from rdsiam.access.model import AccessFile, parse
from rdsiam.access.selection import Attributes
from rdsiam.access.store import Versioned
from rdsiam.aws.rds import Database, Databases
from rdsiam.errors import AccessFileInvalid, AccessFileUnavailable
from rdsiam.policies.iam_policies import ConnectPolicies
from rdsiam.policies.role_policies import PATH, RolePolicies, Stack
from rdsiam.policies.shards import ConnectRoles
from rdsiam.policies.writer import PolicyWriter, Written
from rdsiam.state import role_leases
from rdsiam.state.record import Record
from tests.unit.aws.test_rds import PREFIX, ROLE, Rds, cluster, instance, member, proxy

APP = "arn:aws:iam::123456789012:role/app"
CONNECT = "arn:aws:iam::123456789012:role/connect"
FILE = parse(f"""
version: 1
databases:
  - match: {{identifier: "*"}}
    users: [{{name: app, privileges: readonly, on: [shop], roles: ["{APP}"]}}]
""")


STACK = Stack("eu-west-1", "rdsiam")


class NoLeases:
    """Leases of roles, if no other run is there."""

    def hold(self, *_: Any, **__: Any) -> Any:
        return nullcontext(role_leases.Written())


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

    def set_roles(self, arn: str, resource_id: str, roles: Any, shards: Any) -> None:
        record = self.found.get(arn, Record(resource_id=None))
        self.found[arn] = replace(record, policy_resource_id=resource_id, roles=tuple(sorted(roles)), shards=shards)


class World:
    """An account whose fleet changes under the same access.yaml."""

    def __init__(self, iam: Any) -> None:
        self.iam = iam
        self.records = Records()

        self.file: AccessFile | Exception = FILE

    def current(self) -> Versioned:
        if isinstance(self.file, Exception):
            raise self.file
        return Versioned(self.file, "v1")

    def writer(self, *fleet: dict[str, Any]) -> PolicyWriter:
        databases, policies = Databases(Rds(*fleet), ROLE), ConnectPolicies(self.iam, STACK, {CONNECT})
        roles = ConnectRoles((CONNECT,))
        return PolicyWriter(databases, self, self.records, policies, roles, NoLeases())  # type: ignore[arg-type]

    def write(self, arn: str, *fleet: dict[str, Any]) -> str:
        return self.writer(*fleet).write(f"{PREFIX}:{arn}").status

    def withdraw(self, arn: str, *fleet: dict[str, Any]) -> Written:
        return self.writer(*fleet).withdraw(f"{PREFIX}:{arn}")

    def revoke(self, arn: str, user: str) -> None:
        record = self.records.found[f"{PREFIX}:{arn}"]
        self.records.found[f"{PREFIX}:{arn}"] = replace(record, revoked={user: "key leaked"})

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


def test_policies_of_a_cluster_name_its_own_resource_id_and_no_member(world):
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
def test_a_renamed_database_keeps_its_policies_whichever_name_is_written_first(world, order):
    world.write("db:orders", instance("orders"))
    renamed = instance("orders-new", DbiResourceId="db-ORDERS")
    for name in order:
        world.write(f"db:{name}", renamed)
    assert world.allowed() == {"db-ORDERS/app"}
    world.write("db:orders-new")
    assert world.allowed() == set()


@pytest.mark.parametrize("order", [("orders", "orders-old"), ("orders-old", "orders")])
def test_two_databases_that_swap_names_both_keep_their_policies(world, order):
    world.write("db:orders", instance("orders"))
    swapped = (instance("orders", DbiResourceId="db-GREEN"), instance("orders-old", DbiResourceId="db-ORDERS"))
    for name in order:
        world.write(f"db:{name}", *swapped)
    assert world.allowed() == {"db-GREEN/app", "db-ORDERS/app"}


def test_a_deleted_database_leaves_no_policy(world):
    world.write("db:orders", instance("orders"))
    world.write("db:orders", instance("other"))
    assert world.allowed() == set()


def declaring(*users: str) -> AccessFile:
    """Return an access.yaml with these users, for whom the role `app` signs, or with no users for this fleet."""
    listed = ", ".join(f"{{name: {user}, privileges: readonly, on: [shop], roles: ['{APP}']}}" for user in users)
    other = f"{{name: x, privileges: readonly, on: [shop], roles: ['{APP}']}}"
    match, users_of = ('"*"', listed) if users else ("none-of-them", other)
    return parse(f"version: 1\ndatabases:\n  - match: {{identifier: {match}}}\n    users: [{users_of}]\n")


def test_withdrawing_removes_logins_that_are_no_longer_declared_and_adds_none(world):
    world.file = declaring("app", "report")
    world.write("db:orders", instance("orders"))
    world.file = declaring("report", "newcomer")
    assert world.withdraw("db:orders", instance("orders")).status == "written"
    assert world.allowed() == {"db-ORDERS/report"}
    assert world.withdraw("db:orders", instance("orders")).status == "unchanged"
    assert world.write("db:orders", instance("orders")) == "written"
    assert world.allowed() == {"db-ORDERS/report", "db-ORDERS/newcomer"}


def test_withdrawing_leaves_other_databases_alone(world):
    world.write("db:orders", instance("orders"))
    world.write("db:carts", instance("carts"))
    world.file = declaring()
    world.withdraw("db:orders", instance("orders"), instance("carts"))
    assert world.allowed() == {"db-CARTS/app"}


def test_a_role_without_the_tag_gets_no_login_and_loses_undeclared_logins(world):
    world.write("db:orders", instance("orders"))
    world.iam.untag_role(RoleName="app", TagKeys=["rdsiam:managed"])
    assert world.write("db:orders", instance("orders")) == "refused"
    world.file = declaring()
    assert world.withdraw("db:orders", instance("orders")).status == "written"
    assert world.allowed() == set()


@pytest.mark.parametrize("fault", [AccessFileInvalid(["line 1: …"]), AccessFileUnavailable("S3 is away")], ids=repr)
def test_without_an_access_yaml_only_revoked_users_lose_their_logins(world, fault):
    world.file = declaring("app", "report")
    world.write("db:orders", instance("orders"))
    world.revoke("db:orders", "app")
    world.file = fault
    written = world.withdraw("db:orders", instance("orders"))
    assert (written.status, str(fault) in written.reason) == ("written", True)
    assert world.allowed() == {"db-ORDERS/report"}


def test_a_role_that_can_not_be_changed_delays_no_withdrawal_of_another_role(world, monkeypatch):
    second = world.iam.create_role(RoleName="aaa", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    world.iam.tag_role(RoleName="aaa", Tags=[{"Key": "rdsiam:managed", "Value": "true"}])
    world.file = parse(f"""
version: 1
databases:
  - match: {{identifier: "*"}}
    users: [{{name: app, privileges: readonly, on: [shop], roles: ["{APP}", "{second}"]}}]
""")
    world.write("db:orders", instance("orders"))
    world.file = declaring()
    apply = RolePolicies.apply

    def denied(self: Any, plan: Any, wrote: Any) -> Any:
        if self.role == second:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "by a service control policy"}}, "Detach")
        return apply(self, plan, wrote)

    monkeypatch.setattr(RolePolicies, "apply", denied)
    with pytest.raises(ClientError, match="service control policy"):
        world.withdraw("db:orders", instance("orders"))
    assert world.allowed() == set()
