"""A fleet with its inventory, its access.yaml and PolicyFunction, in memory."""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from rdsiam.access.model import AccessFile, parse
from rdsiam.access.selection import Attributes
from rdsiam.access.store import Versioned
from rdsiam.aws.rds_models import Database
from rdsiam.errors import DatabaseNotFound
from rdsiam.policies.iam_policies import ConnectPolicies
from rdsiam.policies.role_policies import Stack
from rdsiam.policies.shards import ConnectRoles
from rdsiam.policies.writer import PolicyWriter, Written
from rdsiam.state import role_leases
from rdsiam.state.record import Record
from tests.unit.databases import ORDERS
from tests.unit.policies.fake_iam import FakeIam, MotoIam

EAST, WEST = "us-east-1", "eu-west-1"
#: Two of these users take half a policy.
LONG = tuple(f"{letter * 60}" for letter in "abcdefghijklmnopqrstuvwxyz")

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/"
CALLER = f"{ROLE}ci"


def declared(*users: str, match: str = "*", roles: str = "") -> AccessFile:
    """Return an access.yaml that vends these users, or, with `roles`, lets that role sign for them."""
    who = f"roles: ['{ROLE}{roles}']" if roles else f"callers: [{{role: '{CALLER}'}}]"
    listed = ", ".join(f"{{name: '{user}', privileges: readonly, on: [shop], {who}}}" for user in users)
    return parse(f"version: 1\ndatabases:\n  - match: {{identifier: '{match}'}}\n    users: [{listed}]\n")


class Inventory:
    """The records that PolicyFunction reads and writes.

    :ivar before: called before each call with its name; it may raise.
    """

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.before: Any = lambda _: None

    def get(self, arn: str) -> Record | None:
        self.before("get_item")
        return self.records.get(arn)

    def of(self, database: Database) -> Record | None:
        return self.get(database.arn)

    def set_roles(self, arn: str, resource_id: str, roles: Iterable[str], shards: Mapping[str, int]) -> None:
        self.before("update_item")
        record = self.records[arn]
        self.records[arn] = replace(
            record, policy_resource_id=resource_id, roles=tuple(sorted(roles)), shards=dict(shards)
        )


class NoLeases:
    """Leases of roles, if no other run is there."""

    def hold(self, *_: Any, **__: Any) -> Any:
        return nullcontext(role_leases.Written())


class Region:
    """A stack in one region, with databases of the given names and a shared IAM."""

    def __init__(
        self, iam: Any, file: AccessFile, region: str = "eu-west-1", shards: int = 1, per_role: int = 10
    ) -> None:
        self.iam, self.file, self.region = iam, file, region
        self.inventory = Inventory()
        self.records: Any = self.inventory
        self.databases: dict[str, Database] = {}
        self.connect_roles = ConnectRoles(tuple(f"{ROLE}{name}" for name in connect_roles(region, shards)))
        self.per_role = per_role
        self.stack = "rdsiam"
        self.leases: Any = NoLeases()

    def add(self, name: str) -> str:
        """Add a database with its record, as onboarding leaves it before policies are written."""
        arn = f"arn:aws:rds:{self.region}:{ACCOUNT}:db:{name}"
        resource_id = f"db-{name.replace('-', ''):0>26}"
        self.databases[arn] = replace(ORDERS, arn=arn, identifier=name, resource_id=resource_id)
        recorded = Attributes.of(self.databases[arn])
        self.inventory.records[arn] = Record(resource_id=resource_id, arn=arn, recorded=recorded)
        return arn

    def connect_arn(self, arn: str, user: str) -> str:
        return self.databases[arn].connect_arn(user)

    def shards_of(self, arn: str) -> dict[str, int]:
        return dict(self.inventory.records[arn].shards)

    def writer(self, iam: Any = None) -> PolicyWriter:
        policies = ConnectPolicies(
            iam or self.iam, Stack(self.region, self.stack), self.connect_roles.arns, self.per_role
        )
        stores: Any = self
        return PolicyWriter(stores, stores, self.records, policies, self.connect_roles, self.leases)

    def write(self, arn: str, iam: Any = None) -> Written:
        return self.writer(iam).write(arn)

    def current(self) -> Versioned:
        self.inventory.before("get_object")
        return Versioned(self.file, "v1")

    def describe(self, arn: str) -> Database:
        if arn not in self.databases:
            raise DatabaseNotFound(arn)
        return self.databases[arn]

    def of_resource(self, resource_id: str) -> Database | None:
        return next((each for each in self.databases.values() if each.resource_id == resource_id), None)


def connect_roles(region: str, shards: int) -> list[str]:
    """Return the names of a region's shards of ConnectRole."""
    return [f"rdsiam-{region}-ConnectRole{number if number > 1 else ''}-X" for number in range(1, shards + 1)]


def vended(region: Region, arn: str) -> set[str]:
    """Return the users of a database for whom the recorded shard allows a login."""
    found = set()
    for user, number in region.shards_of(arn).items():
        role = region.connect_roles.role(number)
        if role and region.connect_arn(arn, user) in region.iam.allowed(role.rpartition("/")[2]):
            found.add(user)
    return found


def left_over(region: Region) -> set[str]:
    """Return the ARNs of this region that some shard allows without being the recorded one."""
    recorded = {
        (region.connect_roles.role(number), region.connect_arn(arn, user))
        for arn in region.databases
        for user, number in region.shards_of(arn).items()
    }
    roles = [role for role in region.iam.roles if region.region in role]
    return {arn for role in roles for arn in region.iam.allowed(role) if (f"{ROLE}{role}", arn) not in recorded}


def two_regions(file: Any, per_role: int = 10, client: Any = None, **more: Any) -> tuple[Region, Region]:
    """Return two stacks of one account, in two regions."""
    roles = ("app", *connect_roles(WEST, 2), *connect_roles(EAST, 2))
    iam: Any = FakeIam(*roles, per_role=per_role) if client is None else MotoIam(client, *roles)
    return Region(iam, file, WEST, per_role=per_role, **more), Region(iam, file, EAST, per_role=per_role, **more)
