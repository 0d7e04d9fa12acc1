"""A reconcile applies one version of access.yaml, records it as applied, and applies none that takes most logins."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner
from moto import mock_aws

from rdsiam.access.model import parse
from rdsiam.access.store import CONFIRMED, AccessStore, Versioned
from rdsiam.errors import AccessFileInvalid
from rdsiam.onboarding.options import Options
from rdsiam.onboarding.reconcile import reconcile
from rdsiam.state.applied_access import AppliedAccess
from rdsiam.state.inventory import Inventory
from tests.unit.databases import ORDERS
from tests.unit.inventories import create_inventory
from tests.unit.results import Results

KEYS: dict[str, Any] = {"region_name": "eu-west-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}


class Fleet:
    """One database, the versions of access.yaml that were published, and the onboardings that were started."""

    def __init__(self, dynamodb: Any) -> None:
        self.applied = AppliedAccess(dynamodb, "inventory")
        self.inventory = Inventory(dynamodb, "inventory")
        self.versions: list[Versioned | AccessFileInvalid] = []
        self.started: list[dict[str, Any]] = []
        self.asked: list[str] = []
        #: The store of an environment that has run before; None for the versions above.
        self.access: AccessStore | None = None
        #: An action of somebody else, while the first page is compared.
        self.meanwhile: list[Any] = []

    def publish(self, callers: int, confirmed: bool = False, user: str = "app") -> str:
        """Publish a file in which that many roles may log in as one user."""
        lines = [f'{{role: "arn:aws:iam::123456789012:role/r{index}"}}' for index in range(callers)]
        users = f"{{name: {user}, privileges: readonly, on: [shop], callers: [{', '.join(lines)}]}}"
        file = parse(f"version: 1\ndatabases: [{{match: {{identifier: orders}}, users: [{users}]}}]\n")
        number = len(self.versions) + 1
        self.versions.append(Versioned(file, f"v{number}", confirmed, f"2026-11-27T10:00:{number:02}Z"))
        return f"v{number}"

    def publish_invalid(self) -> None:
        self.versions.append(AccessFileInvalid(["line 1: version: must be 1"], f"v{len(self.versions) + 1}"))

    def current(self, **_: bool) -> Versioned:
        latest = self.versions[-1]
        if isinstance(latest, AccessFileInvalid):
            raise latest
        return latest

    def version(self, version: str) -> Versioned | None:
        self.asked.append(version)
        known = (each for each in self.versions if isinstance(each, Versioned))
        return next((each for each in known if each.version == version), None)

    def page(self, _: str | None) -> tuple[Any, None]:
        while self.meanwhile:
            self.meanwhile.pop()()
        return (ORDERS,), None

    def reconcile(self, plan: bool = False, confirm: bool = False) -> Any:
        """Return the answer of a reconcile, or the error that it ended with."""
        services: Any = SimpleNamespace(
            databases=SimpleNamespace(list=lambda: [ORDERS], page=self.page),
            newest=self.access or self,
            applied=self.applied,
            inventory=self.inventory,
            results=Results(),
            functions=SimpleNamespace(invoke=lambda **asked: self.started.append(asked)),
            onboard_function="onboard",
            connect_role_shards=1,
        )

        @durable_execution
        def handler(_: Any, context: DurableContext) -> dict[str, Any]:
            return reconcile(context, services, Options(plan, confirm)).to_json()

        with DurableFunctionTestRunner(handler, poll_interval=0.01) as runner:
            result = runner.run("{}", execution_timeout=60)
        return json.loads(result.result) if result.result else str(result.error)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with mock_aws():
        dynamodb = boto3.client("dynamodb", **KEYS)
        create_inventory(dynamodb)
        yield Fleet(dynamodb)


def test_a_reconcile_records_the_version_that_it_applied(fleet):
    first = fleet.publish(2)
    assert fleet.applied.version() is None
    assert fleet.reconcile()["started"] == [ORDERS.arn]
    assert fleet.applied.version() == first
    second = fleet.publish(1)
    fleet.reconcile()
    assert fleet.applied.version() == second


def test_the_applied_version_is_no_database(fleet):
    fleet.publish(1)
    fleet.reconcile()
    assert list(fleet.inventory.all()) == []


def test_a_version_that_takes_most_logins_starts_nothing_and_stays_unapplied(fleet):
    first = fleet.publish(3)
    fleet.reconcile()
    fleet.started.clear()
    second = fleet.publish(1)
    error = fleet.reconcile()
    assert f"version {second} of access.yaml waits" in error
    assert "2 of 3 rules by which callers get tokens disappear" in error
    assert "rdsiam access publish FILE --confirm" in error
    assert (fleet.started, fleet.applied.version()) == ([], first)


@pytest.mark.parametrize("by", ["the publisher", "an operator"])
def test_a_version_that_is_confirmed_is_applied(fleet, by):
    fleet.publish(3)
    fleet.reconcile()
    second = fleet.publish(0, confirmed=by == "the publisher")
    assert fleet.reconcile(confirm=by == "an operator")["started"] == [ORDERS.arn]
    assert fleet.applied.version() == second


@pytest.mark.parametrize("by", ["the publisher", "an operator"])
def test_a_version_that_is_confirmed_is_recorded_before_anything_may_fail(fleet, by):
    """Else the next version would be compared with the logins that this one takes, and would bring them back."""
    fleet.publish(3)
    fleet.reconcile()
    second = fleet.publish(0, confirmed=by == "the publisher")
    fleet.meanwhile.append(fleet.publish_invalid)
    assert "version: must be 1" in fleet.reconcile(confirm=by == "an operator")
    assert fleet.applied.version() == second


def test_a_version_that_no_one_confirmed_is_recorded_last(fleet):
    first = fleet.publish(3)
    fleet.reconcile()
    fleet.publish(2)
    fleet.meanwhile.append(fleet.publish_invalid)
    assert "version: must be 1" in fleet.reconcile()
    assert fleet.applied.version() == first


def test_an_environment_that_has_read_the_version_sees_that_it_was_confirmed(fleet):
    """The second object has the same content, and in this bucket the same ETag."""
    s3 = boto3.client("s3", **KEYS)
    s3.create_bucket(Bucket="access", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_bucket_versioning(Bucket="access", VersioningConfiguration={"Status": "Enabled"})
    fleet.access = AccessStore(s3, "access", max_age=0)

    def put(users: str, **metadata: str) -> str:
        content = f"version: 1\ndatabases: [{{match: {{identifier: orders}}, users: [{users}]}}]\n"
        made = s3.put_object(Bucket="access", Key="access.yaml", Body=content.encode(), Metadata=metadata)
        return str(made["VersionId"])

    first = put("{name: app, privileges: readonly, on: [shop], callers: [{claim: {groups: dba}}]}")
    fleet.reconcile()
    put("")
    assert "of access.yaml waits" in fleet.reconcile()
    assert fleet.applied.version() == first
    confirmed = put("", **CONFIRMED)
    fleet.reconcile()
    assert fleet.applied.version() == confirmed


def test_a_plan_shows_what_would_start_and_applies_nothing(fleet):
    first = fleet.publish(3)
    fleet.reconcile()
    fleet.started.clear()
    fleet.publish(0)
    assert fleet.reconcile(plan=True)["started"] == [ORDERS.arn]
    assert (fleet.started, fleet.applied.version()) == ([], first)


def test_if_the_applied_version_is_gone_the_newest_is_applied(fleet):
    fleet.publish(3)
    fleet.reconcile()
    fleet.versions.clear()
    fleet.publish(0)
    newest = fleet.publish(0)
    fleet.reconcile()
    assert fleet.applied.version() == newest


def test_a_version_published_while_a_reconcile_runs_is_left_to_the_next_one(fleet):
    """Its losses were not checked: the running reconcile goes on with the version that was."""
    first = fleet.publish(3)
    fleet.meanwhile.append(lambda: fleet.publish(0))
    fleet.reconcile()
    assert fleet.applied.version() == first
    assert fleet.asked == [first], "the database was compared with the version that was checked"
    assert "of access.yaml waits" in fleet.reconcile()


def test_a_slower_reconcile_of_an_earlier_version_replaces_no_later_one(fleet):
    fleet.publish(3)
    later: list[str] = []

    def publish_and_reconcile() -> None:
        later.append(fleet.publish(4))
        fleet.reconcile()

    fleet.meanwhile.append(publish_and_reconcile)
    fleet.reconcile()
    assert [fleet.applied.version()] == later


def test_an_invalid_version_is_neither_applied_nor_recorded(fleet):
    first = fleet.publish(3)
    fleet.reconcile()
    fleet.publish_invalid()
    services_error = fleet.reconcile()
    assert "version: must be 1" in services_error
    assert fleet.applied.version() == first


def test_a_broken_version_that_was_corrected_meanwhile_is_not_applied_unchecked(fleet):
    first = fleet.publish(3)
    fleet.reconcile()
    fleet.started.clear()
    fleet.publish_invalid()
    fleet.meanwhile.append(lambda: fleet.publish(0))
    assert "version: must be 1" in fleet.reconcile()
    assert (fleet.started, fleet.applied.version()) == ([], first)
