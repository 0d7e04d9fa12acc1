"""Durable steps: typed results come back from checkpoints, and failed steps are repeated by one rule."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python.config import Duration
from aws_durable_execution_sdk_python.retries import RetryDecision
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner

from rdsiam.core import durable
from rdsiam.core.changes import Unreached
from rdsiam.core.durable import ATTEMPTS, Steps, answered, retry
from rdsiam.errors import LeaseTaken
from tests.unit.results import Results

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
        seen.result = Steps(context, Results()).run_typed("look", Unreached, work)
        context.step(lambda _: None, name="end")
        return {"plain": Steps(context, Results()).run("plain", lambda: [1, 2])}

    with DurableFunctionTestRunner(handler, poll_interval=0.01) as runner:
        result = runner.run("{}", execution_timeout=10)
    assert json.loads(result.result or "") == {"plain": [1, 2]}
    assert (seen.runs, seen.result) == (1, LEFT)


def run(flow: Any) -> Any:
    """Run a durable function that ends after one replay; return the runner's result."""

    @durable_execution
    def handler(_: Any, context: DurableContext) -> Any:
        return flow(context)

    with DurableFunctionTestRunner(handler, poll_interval=0.01) as runner:
        return runner.run("{}", execution_timeout=20)


LARGE = {"changes": [{"statement": "GRANT " + "é" * 100, "number": number} for number in range(3_000)]}


@pytest.mark.parametrize(
    ("result", "stored"),
    [
        (LARGE, 1),
        (["x" * 300_000], 1),
        ({"rdsiam:stored-at": "s3://somewhere/else"}, 1),
        ({"rdsiam:stored-at": "s3://somewhere/else", "more": 1}, 0),
        ("rdsiam:stored-at", 0),
        (None, 0),
        ({"changes": []}, 0),
    ],
    ids=["large", "one long text", "like an address", "unlike an address", "a text", "none", "small"],
)
def test_a_result_of_any_size_survives_a_replay_and_its_checkpoint_is_small(result, stored):
    results, seen = Results(), []

    def flow(context: DurableContext) -> None:
        seen.append(Steps(context, results).run("look", lambda: result))
        context.wait(Duration.from_seconds(1))

    execution = run(flow)
    assert seen == [result] * 2
    assert len(results.texts) == stored
    sizes = [len(each.result or "") for each in execution.operations if hasattr(each, "result")]
    assert max(sizes) < 100_000


def test_a_result_that_can_not_be_stored_is_a_failed_step_and_is_repeated(monkeypatch):
    monkeypatch.setattr(durable, "retry", lambda *_: RetryDecision.retry(Duration.from_seconds(1)))

    class Unavailable(Results):
        failures = 1

        def put(self, name: str, text: str) -> str:
            if self.failures:
                self.failures -= 1
                raise ConnectionError("S3 does not answer")
            return super().put(name, text)

    results = Unavailable()
    execution = run(lambda context: len(Steps(context, results).run("look", lambda: LARGE)["changes"]))
    assert execution.result == "3000"


def test_an_error_that_a_checkpoint_can_not_hold_is_cut():
    def flow(context: DurableContext) -> str:
        try:
            Steps(context, Results(), attempts=1).run("fail", fail)
        except Exception as error:
            return str(error)
        raise AssertionError

    def fail() -> None:
        raise ValueError("DROP USER " + "x" * 400_000)

    text = json.loads(run(flow).result)
    assert text.startswith("DROP USER x")
    assert "the log has all of it" in text
    assert len(text) < 10_000


def test_the_answer_of_a_durable_function_is_cut_and_stored_in_a_step():
    results = Results()
    answer = {"status": "planned", "reason": "", "changes": LARGE["changes"] * 3}
    execution = run(lambda context: answered(context, results, answer))
    cut = json.loads(execution.result)
    assert cut["changes_total"] == 9_000
    assert json.loads(results.get(cut["changes_at"])) == answer["changes"]
    small = {"status": "planned", "reason": "", "changes": []}
    assert json.loads(run(lambda context: answered(context, results, small)).result) == small
