"""Starts a durable function and follows it to its end, telling what it has come to."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rdsiam.command.aws import told
from rdsiam.command.errors import ExecutionFailed, NotFound

_PAUSE = 1.0
_DONE = ("StepSucceeded", "ChainedInvokeSucceeded")
_BAD = ("StepFailed", "ChainedInvokeFailed", "ChainedInvokeTimedOut")


def run(
    client: Any,
    function: str,
    payload: Mapping[str, Any],
    kind: str,
    progress: Callable[[str], None],
    until: str | None = None,
) -> dict[str, Any]:
    """Start the function, follow its durable execution and return its answer.

    :param client: Lambda.
    :param function: name or ARN with the alias.
    :param kind: what the execution is about; its name begins with it.
    :param progress: told of each piece that ends, one line.
    :param until: a piece after whose end the execution is left to itself; then the answer is empty.
    :raises ExecutionFailed: it ended with an error.
    """
    with told(function):
        answer = client.invoke(
            FunctionName=function,
            InvocationType="Event",
            DurableExecutionName=f"{kind}-{uuid.uuid4().hex}",
            Payload=json.dumps(payload),
        )
    arn = answer.get("DurableExecutionArn")
    if not arn:
        raise NotFound(f"{function} is not a durable function: name it with its alias")
    seen = 0
    while True:
        with told(function):
            now = client.get_durable_execution(DurableExecutionArn=arn)
            for number, line in _ended(client, arn, seen):
                progress(line)
                seen = number
                if line == until:
                    return {}
        if now["Status"] == "SUCCEEDED":
            result = json.loads(now.get("Result") or "null")
            return result if isinstance(result, dict) else {}
        if now["Status"] != "RUNNING":
            error = now.get("Error") or {}
            cause = error.get("ErrorMessage") or now["Status"].lower()
            raise ExecutionFailed(f"{function} ended as {now['Status']}: {cause} (execution {arn})")
        time.sleep(_PAUSE)


def _ended(client: Any, arn: str, seen: int) -> Iterator[tuple[int, str]]:
    """Yield number and line of each event after `seen` that tells of an end."""
    marker: str | None = None
    while True:
        page = client.get_durable_execution_history(
            DurableExecutionArn=arn, MaxItems=1000, **({"Marker": marker} if marker else {})
        )
        for event in page["Events"]:
            if event["EventId"] > seen and event["EventType"] in (*_DONE, *_BAD):
                failed = ": failed" if event["EventType"] in _BAD else ""
                yield event["EventId"], f"{event.get('Name') or 'step'}{failed}"
        marker = page.get("NextMarker")
        if not marker:
            return
