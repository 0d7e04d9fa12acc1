"""A migration whose user keeps logging in continues in new executions, each within Lambda's limit of operations."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python.lambda_service import OperationType
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner

from rdsiam.access.model import parse
from rdsiam.access.store import Versioned
from rdsiam.core import durable
from rdsiam.events.migrate import MigrateRequest, migrate_request
from rdsiam.migration import flow
from rdsiam.migration.continuation import MOST_OPERATIONS, OPERATIONS_OF_AN_ATTEMPT, Continuing
from rdsiam.state.migrations import Migration, Superseded
from tests.unit.migration.test_steps import ORDERS, FakeSecrets, World, dynamodb
from tests.unit.results import Results

__all__ = ["dynamodb"]
#: Lambda ends an execution that has more; it doesn't raise this quota.
QUOTA = 3_000
START = {"database": ORDERS.arn, "user": "app", "watch": "1s"}


class Chain:
    """MigrateFunction, of which an execution may start another one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.started: dict[str, dict[str, Any]] = {}
        self.services: Any = SimpleNamespace(
            databases=SimpleNamespace(describe=lambda _: ORDERS),
            access=SimpleNamespace(current=lambda: Versioned(parse(world.file), "1")),
            migrations=world.migrations,
            inventory=SimpleNamespace(get=lambda _: None),
            secrets=FakeSecrets(world.server),
            results=Results(),
            functions=self,
            onboard_function="onboard",
            migrate_function="migrate:continue",
        )
        self.fails: list[Exception] = []

    def invoke(self, **asked: Any) -> None:
        """Start an execution, or find that of the same name, as Lambda does."""
        assert (asked["FunctionName"], asked["InvocationType"]) == ("migrate:continue", "Event")
        payload = json.loads(asked["Payload"])
        assert self.started.setdefault(asked["DurableExecutionName"], payload) == payload
        if self.fails:
            raise self.fails.pop()

    def run(self, payload: dict[str, Any]) -> tuple[str, int]:
        """Run one execution; return its status and the number of its operations."""
        request = migrate_request(payload)
        assert isinstance(request, MigrateRequest)
        attempts = 0

        @durable_execution
        def handler(_: Any, context: DurableContext) -> dict[str, Any]:
            return flow.migrate(context, self.services, request).to_json()

        def onboard(*_: Any) -> dict[str, Any]:
            texts = {"code": "", "reason": "", "remedy": ""}
            return {"status": "unchanged", "changes": [], "incomplete": []} | texts

        with DurableFunctionTestRunner(handler, poll_interval=0.01) as runner:
            runner.register_function("onboard", onboard)
            result = runner.run("{}", execution_timeout=120)
        assert result.result is not None, result.error
        for operation in result.operations:
            attempts += getattr(operation, "attempt", 1) if operation.operation_type is OperationType.STEP else 1
        return json.loads(result.result)["status"], 1 + attempts

    def next(self) -> dict[str, Any]:
        """Return the payload of the last execution that was started."""
        return list(self.started.values())[-1]


@pytest.fixture
def chain(dynamodb, monkeypatch) -> Chain:
    monkeypatch.setattr(flow, "MOST_OPERATIONS", 6)
    monkeypatch.setattr(flow, "pause", lambda _: 1)
    return Chain(World(dynamodb, monkeypatch))


def migration(chain: Chain) -> Migration:
    found = chain.world.migration()
    assert found is not None
    return found


def test_an_execution_stays_below_the_quota_with_all_its_repetitions():
    before_watching = 8 * durable.ATTEMPTS  # a step for each state, and the onboarding
    last_attempts = OPERATIONS_OF_AN_ATTEMPT + 3 * durable.ATTEMPTS  # retire, retire the secret, release the lease
    assert OPERATIONS_OF_AN_ATTEMPT > durable.ATTEMPTS + 1
    assert before_watching + MOST_OPERATIONS + last_attempts + durable.ATTEMPTS < QUOTA * 0.9


def test_a_migration_continues_in_new_executions_with_the_same_record(chain):
    chain.world.server.sessions = 1
    status, operations = chain.run(START)
    assert status == "running"
    for number in range(1, 4):
        assert len(chain.started) == number
        status, more = chain.run(chain.next())
        assert status == "running"
        assert more < operations
    assert migration(chain).state == "watching"
    watch = migration(chain).watch
    assert watch is not None
    assert watch.observations == 4 * 6
    assert [entry["state"] for entry in migration(chain).history] == ["paired", "proven", "watching"]
    chain.world.server.sessions = 0
    chain.world.pass_time()
    assert chain.run(chain.next())[0] == "retired"
    assert not chain.world.server.open
    assert migration(chain).execution == ""


def test_what_the_operator_asked_for_holds_in_the_next_execution(chain):
    chain.world.server.sessions = 1
    chain.run(START | {"confirm": True, "watch": "2s"})
    request = migrate_request(chain.next())
    assert isinstance(request, MigrateRequest)
    assert (request.confirm, request.watch, request.user, request.database) == (True, 2, "app", ORDERS.arn)
    assert migration(chain).execution == request.continues


def test_of_two_deliveries_exactly_one_continues(chain):
    chain.world.server.sessions = 1
    chain.run(START)
    payload = chain.next()
    assert chain.run(payload)[0] == "running"
    continued = migration(chain)
    assert len(chain.started) == 2
    for late in (payload, payload):
        assert chain.run(late)[0] == "running"
        assert migration(chain) == continued  # nothing was written
    assert len(chain.started) == 2


def test_a_start_whose_answer_was_lost_is_repeated_by_the_same_name(chain):
    chain.world.server.sessions = 1
    chain.fails = [ConnectionError("no answer"), ConnectionError("no answer")]
    assert chain.run(START)[0] == "running"
    assert len(chain.started) == 1


def test_an_undo_in_between_ends_the_chain(chain):
    chain.world.server.sessions = 1
    chain.run(START)
    chain.world.file = chain.world.file.replace("replaces: app", "replaces: other")
    assert chain.run(START | {"undo": True})[0] == "undone"
    assert chain.run(chain.next())[0] == "running"
    assert len(chain.started) == 1
    assert chain.world.server.open


def continuing(chain: Chain, execution: str) -> Continuing:
    request = migrate_request(chain.next())
    assert isinstance(request, MigrateRequest)
    return Continuing(chain.services, request, execution)


def test_the_step_that_takes_over_may_be_repeated(chain):
    chain.world.server.sessions = 1
    chain.run(START)
    run = continuing(chain, "b" * 16)
    assert run.begin() == run.begin()
    assert run.begin().successor == "app_iam"
    assert migration(chain).execution == "b" * 16
    assert continuing(chain, "c" * 16).begin().running


def test_a_write_of_the_old_execution_at_the_same_time_stops_nobody(chain, monkeypatch):
    chain.world.server.sessions = 1
    chain.run(START)
    old, save = migration(chain), chain.world.migrations.save
    writes: list[Migration] = []

    def save_late(arn: str, migration: Migration) -> Migration:
        if not writes:
            writes.append(save(arn, old))
        return save(arn, migration)

    monkeypatch.setattr(chain.world.migrations, "save", save_late)
    assert not continuing(chain, "b" * 16).begin().running
    assert migration(chain).execution == "b" * 16
    with pytest.raises(Superseded):
        save(ORDERS.arn, old)
