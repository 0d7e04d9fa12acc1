"""Durable executions have the quotas of AWS: payloads, operations, data in all."""

from typing import Any

import pytest

from localcloud.lambda_ import quotas
from localcloud.lambda_.quotas import CheckpointRefused, Quotas, check_payloads


def update(kind: str, action: str, payload: str = "", sub: str = "Step", **more: Any) -> dict[str, Any]:
    return {"Id": "1", "Type": kind, "Action": action, "SubType": sub, "Payload": payload} | more


def step(retries: int = 0, sub: str = "Step") -> list[dict[str, Any]]:
    """Return the updates of a step, or of a condition that is polled once more than the number of retries."""
    retry = [update("STEP", "RETRY", sub=sub)] * retries
    return [update("STEP", "START", sub=sub), *retry, update("STEP", "SUCCEED", sub=sub)]


@pytest.mark.parametrize(
    ("updates", "number"),
    [
        (step(), 1),
        (step(retries=4), 5),
        ([update("STEP", "START"), update("STEP", "FAIL")], 1),
        ([update("STEP", "SUCCEED")], 1),
        (step(retries=6, sub="WaitForCondition"), 8),
        ([update("WAIT", "START")], 1),
        ([update("CHAINED_INVOKE", "START")], 1),
        ([update("CALLBACK", "START")], 1),
        ([update("CONTEXT", "START"), update("CALLBACK", "START"), *step(), update("CONTEXT", "SUCCEED")], 3),
        ([update("CONTEXT", "START"), *[update("CONTEXT", "START")] * 3, *[update("CONTEXT", "SUCCEED")] * 4], 4),
        ([update("EXECUTION", "SUCCEED")], 0),
    ],
    ids=["step", "retried step", "failed step", "step in one update", "condition", "wait", "invocation", "callback",
         "waiting for a callback", "parallel branches", "end"],
)  # fmt: skip
def test_operations_are_counted_as_lambda_meters_them(monkeypatch, updates, number):
    for more, exceeded in ((0, False), (1, True)):
        monkeypatch.setattr(quotas, "MOST_OPERATIONS", 1 + number)
        used = Quotas()
        used.begin("one", b"{}")
        assert bool(used.exceeded("one", [*updates, *step() * more])) is exceeded


def test_the_quota_of_operations_is_3000_for_each_execution():
    used = Quotas()
    for execution in ("one", "other"):
        used.begin(execution, b"{}")
        assert used.exceeded(execution, step() * 2_999) == ""
    assert "3000 operations" in used.exceeded("one", step())


@pytest.mark.parametrize(
    "large",
    [
        update("STEP", "SUCCEED", "x" * 1_000_000),
        update("STEP", "FAIL", Error={"ErrorMessage": "x" * 1_000_000, "StackTrace": None}),
        update("CHAINED_INVOKE", "START", "é" * 500_000),
    ],
    ids=["result", "error", "input beyond ASCII"],
)
def test_the_quota_of_data_is_100_megabytes_for_each_execution(large):
    used = Quotas()
    used.begin("one", b"x" * 1024)
    assert used.exceeded("one", [large] * 104) == ""
    assert "104857600 bytes" in used.exceeded("one", [large])


@pytest.mark.parametrize("action", ["SUCCEED", "RETRY"])
def test_the_result_of_a_step_has_256_kib_in_bytes(action):
    check_payloads([update("STEP", action, "x" * 262_144)])
    for payload in ("x" * 262_145, "é" * 131_073):
        with pytest.raises(CheckpointRefused, match="must be less than or equal to 262144 bytes") as refused:
            check_payloads([update("WAIT", "START"), update("STEP", action, payload)])
        assert refused.value.code == "InvalidParameterValueException"


def test_the_result_of_an_execution_has_6_mib():
    check_payloads([update("EXECUTION", "SUCCEED", "x" * 6_291_456)])
    with pytest.raises(CheckpointRefused, match=r"updates\.2\.member\.payload") as refused:
        check_payloads([update("WAIT", "START"), update("EXECUTION", "SUCCEED", "x" * 6_291_457)])
    assert refused.value.code == "ValidationException"
