"""Quotas of durable executions, which AWS's local runner doesn't enforce: payloads, operations, data in all.

Payloads: the service's own messages, as AWS's SDK for Go has them in its tests. Operations and data: "How durable
operations are metered" and "Lambda quotas" of the Lambda Developer Guide. What a checkpoint answers when an execution
has used up a quota is inferred from AWS's SDK for Python, which expects no token and an execution that has failed.
"""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

#: Bytes of the result of a step, or of the state between two polls of a condition.
LARGEST_STEP = 262_144
#: Bytes of the result of an execution.
LARGEST_RESULT = 6_291_456
#: Operations of one execution; it can't be raised.
MOST_OPERATIONS = 3_000
#: Bytes that one execution may persist in all; it can't be raised.
MOST_BYTES = 100 * 1024 * 1024

Update = Mapping[str, Any]


class CheckpointRefused(Exception):
    """A checkpoint has a payload that is too large.

    :ivar code: of the error that AWS answers.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Quotas:
    """Usage of each execution."""

    def __init__(self) -> None:
        self._operations: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def begin(self, execution: str, payload: bytes) -> None:
        """Count the start of an execution."""
        with self._lock:
            self._operations[execution] = 1
            self._bytes[execution] = len(payload)

    def exceeded(self, execution: str, updates: Sequence[Update]) -> str:
        """Count updates of an execution, and return the quota that they exceed; empty if they exceed none."""
        with self._lock:
            self._operations[execution] += sum(map(_operations, updates))
            self._bytes[execution] += sum(map(_bytes, updates))
            if self._operations[execution] > MOST_OPERATIONS:
                return f"The durable execution has more than {MOST_OPERATIONS} operations."
            if self._bytes[execution] > MOST_BYTES:
                return f"The durable execution has written more than {MOST_BYTES} bytes."
        return ""


def check_payloads(updates: Sequence[Update]) -> None:
    """Check the payloads of a checkpoint.

    :raises CheckpointRefused: one is too large.
    """
    for number, update in enumerate(updates, 1):
        size, kind = len((update.get("Payload") or "").encode()), (update["Type"], update["Action"])
        if kind == ("EXECUTION", "SUCCEED") and size > LARGEST_RESULT:
            raise CheckpointRefused(
                "ValidationException",
                f"1 validation error detected: Value at 'updates.{number}.member.payload' failed to satisfy "
                f"constraint: Member must have length less than or equal to {LARGEST_RESULT}",
            )
        if kind in {("STEP", "SUCCEED"), ("STEP", "RETRY")} and size > LARGEST_STEP:
            message = f"STEP output payload size must be less than or equal to {LARGEST_STEP} bytes."
            raise CheckpointRefused("InvalidParameterValueException", message)


def _operations(update: Update) -> int:
    """Return the number of operations that an update counts as.

    A step counts as one and one more for each retry; a condition as one and one more for each poll.
    """
    kind, action = update["Type"], update["Action"]
    if kind == "EXECUTION":
        return 0
    if kind == "STEP":
        polls = update.get("SubType") == "WaitForCondition"
        return 1 if polls or action != "START" else 0
    return 1 if action == "START" else 0


def _bytes(update: Update) -> int:
    error = update.get("Error") or {}
    texts = [update.get("Payload") or "", *(str(part) for part in error.values())]
    return sum(len(text.encode()) for text in texts)
