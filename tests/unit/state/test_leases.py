"""One run at a time has the lease of a server, whatever is killed, late or repeated."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from moto import mock_aws

from rdsiam.errors import LeaseLost, LeaseTaken
from rdsiam.state.inventory import Inventory
from rdsiam.state.leases import SECONDS, Lease, Leases
from rdsiam.state.migrations import Migrations
from tests.examples import at_most
from tests.unit.databases import ORDERS

TABLE = "inventory"
OTHER = replace(ORDERS, arn=f"{ORDERS.arn}-2", resource_id="db-TWO")


class Clock:
    """Seconds since 1970, as the test wants them."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("dynamodb", "eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
        client.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "database", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "database", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield client


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(dynamodb, clock) -> Iterator[Leases]:
    made = Leases(dynamodb, TABLE, clock)
    yield made
    for database in (ORDERS, OTHER):
        made.forget(database.resource_id)


def test_a_lease_that_is_taken_names_its_holder_and_its_end(leases, clock):
    clock.now = 1_800_000_000
    with leases.hold(ORDERS, "execution one"):
        with pytest.raises(LeaseTaken, match=r"db-ONE: execution one, until 2027-01-15T08:03:00Z") as taken:
            leases.take(ORDERS, "execution two")
        assert taken.value.valid_for == SECONDS
    leases.take(ORDERS, "execution two")


def test_servers_have_leases_of_their_own(leases):
    with leases.hold(ORDERS, "execution one"), leases.hold(OTHER, "execution two"):
        pass


def test_a_lease_is_given_back_if_the_step_fails(leases):
    with pytest.raises(RuntimeError), leases.hold(ORDERS, "execution one"):
        raise RuntimeError
    leases.take(ORDERS, "execution two")


def test_the_lease_of_a_killed_run_expires(leases, clock):
    leases.take(ORDERS, "execution one")
    clock.now += SECONDS - 1
    with pytest.raises(LeaseTaken):
        leases.take(ORDERS, "execution two")
    clock.now += 1
    leases.take(ORDERS, "execution two")


def test_the_same_execution_goes_on_at_once(leases):
    """Lambda runs one invocation of an execution at a time: whoever had the lease is dead."""
    first = leases.take(ORDERS, "execution one")
    second = leases.take(ORDERS, "execution one")
    leases.release(first)
    with pytest.raises(LeaseTaken):
        leases.take(ORDERS, "execution two")
    leases.release(second)
    leases.take(ORDERS, "execution two")


def test_a_run_that_lost_its_lease_changes_nothing_and_takes_it_from_nobody(leases, clock):
    late = leases.take(ORDERS, "execution one")
    late.check()
    clock.now += SECONDS
    with pytest.raises(LeaseLost, match="execution one has lost its lease of db-ONE"):
        late.check()
    leases.take(ORDERS, "execution two")
    leases.release(late)
    with pytest.raises(LeaseTaken, match="execution two"):
        leases.take(ORDERS, "execution three")


def test_nobody_takes_a_lease_for_a_database(dynamodb, leases):
    """Audit, reports, reconciles and migrations read the same table."""
    inventory = Inventory(dynamodb, TABLE)
    with leases.hold(ORDERS, "execution one"):
        inventory.record_ownership(ORDERS, {"app": "created"})
        assert [arn for arn, _ in inventory.all()] == [ORDERS.arn]
        assert list(Migrations(dynamodb, TABLE).all()) == []
    inventory.forget(ORDERS.arn)


class TwoRuns(RuleBasedStateMachine):
    """Runs that take, lose, keep, and give back the lease, and are killed, in any order."""

    leases: Leases
    clock: Clock
    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.leases.forget(ORDERS.resource_id)
        #: What each execution's living step believes to have.
        self.alive: dict[str, Lease] = {}

    def may_write(self) -> list[str]:
        able = []
        for holder, lease in self.alive.items():
            try:
                lease.check()
            except LeaseLost:
                continue
            able.append(holder)
        return able

    @rule(target=held, holder=st.sampled_from(["one", "two"]))
    def take(self, holder: str) -> Lease | None:
        others = [each for each in self.may_write() if each != holder]
        try:
            lease = self.leases.take(ORDERS, holder)
        except LeaseTaken:
            return None
        assert not others, "a second run took the lease of one that may still write"
        self.alive[holder] = lease
        return lease

    @rule(lease=consumes(held))
    def give_back(self, lease: Lease | None) -> None:
        """At the end of a step, and late: of a step that had lost it."""
        if lease is not None:
            self.leases.release(lease)
            if self.alive.get(lease.holder) == lease:
                del self.alive[lease.holder]

    @rule(holder=st.sampled_from(["one", "two"]))
    def killed(self, holder: str) -> None:
        self.alive.pop(holder, None)

    @rule(seconds=st.sampled_from([1, 60, SECONDS - 1, SECONDS, SECONDS + 1]))
    def time_passes(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule()
    def nobody_is_kept_out_for_longer_than_a_lease(self) -> None:
        self.clock.now += SECONDS
        self.leases.release(self.leases.take(ORDERS, "three"))

    @invariant()
    def one_run_at_most_may_write(self) -> None:
        assert len(self.may_write()) <= 1


@pytest.mark.hypothesis
def test_two_runs_never_have_it_at_a_time_and_none_waits_for_ever(dynamodb):
    clock = Clock()

    class Machine(TwoRuns):
        leases = Leases(dynamodb, TABLE, clock)

    Machine.clock = clock
    run_state_machine_as_test(Machine, settings=settings(max_examples=at_most(60), stateful_step_count=25))
