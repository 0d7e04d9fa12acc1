"""Durable steps: typed results come back from checkpoints, and failed steps are repeated by one rule."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner

from rdsiam.core.changes import Unreached
from rdsiam.core.durable import ATTEMPTS, Steps, retry
from rdsiam.errors import LeaseTaken

LEASE = LeaseTaken("db-ORDERS", "another run", "2026-01-01T00:00:00Z", valid_for=180)
LEFT = Unreached("orders", "it is stopped", "start it")


def pauses(error: Exception, attempts: int) -> list[float]:
    """Return the pauses in seconds before each repetition."""
    result: list[float] = []
    for attempt in range(1, 100):
        decision = retry(error, attempt, attempts)
        if not decision.should_retry:
            return result
        result.append(decision.delay.seconds)
    raise AssertionError("it is repeated forever")


@pytest.mark.parametrize("attempts", [4, ATTEMPTS])
def test_a_failing_step_is_repeated_after_growing_pauses(attempts):
    assert pauses(RuntimeError("down"), attempts) == [2, 4, 8, 16, 30][: attempts - 1]


def test_a_lease_is_requested_until_the_lease_of_a_killed_run_has_expired():
    waited = pauses(LEASE, ATTEMPTS)
    assert set(waited) == {15}
    assert sum(waited) >= LEASE.valid_for


def test_a_typed_result_is_rebuilt_from_its_checkpoint():
    @dataclass
    class Seen:
        runs: int = 0
        result: Any = None

    seen = Seen()

    def work() -> Unreached:
        seen.runs += 1
        return LEFT

    @durable_execution
    def handler(_: Any, context: DurableContext) -> dict[str, Any]:
        seen.result = Steps(context).run_typed("look", Unreached, work)
        context.step(lambda _: None, name="end")
        return {"plain": Steps(context).run("plain", lambda: [1, 2])}

    with DurableFunctionTestRunner(handler, poll_interval=0.01) as runner:
        result = runner.run("{}", execution_timeout=10)
    assert json.loads(result.result or "") == {"plain": [1, 2]}
    assert (seen.runs, seen.result) == (1, LEFT)
