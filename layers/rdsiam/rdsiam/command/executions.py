"""Runs a durable function and reports each finished step until the execution ends."""

import json
import shlex
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rdsiam.command import output
from rdsiam.command.aws import translate_errors
from rdsiam.command.errors import ExecutionFailed, FunctionError, NotFound, is_known
from rdsiam.command.output import visible

_PAUSE = 1.0
_SUCCEEDED = ("StepSucceeded", "ChainedInvokeSucceeded")
_FAILED = ("StepFailed", "ChainedInvokeFailed", "ChainedInvokeTimedOut")


def run(
    client: Any,
    function: str,
    payload: Mapping[str, Any],
    kind: str,
    progress: Callable[[str], None],
    until: str | None = None,
) -> dict[str, Any]:
    """Start the function, wait for its durable execution and return its answer.

    :param client: Lambda.
    :param function: name or ARN with the alias.
    :param kind: prefix of the execution's name.
    :param progress: called with one line for each finished step.
    :param until: a step to wait for instead of the end; the answer is then empty.
    :raises ExecutionFailed: the execution ended with an error.
    """
    name = f"{kind}-{uuid.uuid4().hex}"
    begun = f"execution {name} of {function} may have begun, and then goes on"
    with _report_interrupt(begun), translate_errors(function):
        answer = client.invoke(
            FunctionName=function, InvocationType="Event", DurableExecutionName=name, Payload=json.dumps(payload)
        )
    arn = answer.get("DurableExecutionArn")
    if not arn:
        raise NotFound(f"{function} is not a durable function", "name the function with its alias")
    show = shlex.join(["aws", "lambda", "get-durable-execution", "--durable-execution-arn", arn])
    with _report_interrupt(f"execution {arn} goes on; its state: {show}"):
        return _answer(client, function, arn, progress, until)


@contextmanager
def _report_interrupt(consequence: str) -> Iterator[None]:
    """Tell the user that an interrupt ends the command only."""
    try:
        yield
    except KeyboardInterrupt:
        output.progress(consequence)
        raise


def _answer(client: Any, function: str, arn: str, progress: Callable[[str], None], until: str | None) -> dict[str, Any]:
    """Wait for an execution, or for one of its steps, and return its answer."""
    last_event = 0
    while True:
        with translate_errors(function):
            execution = client.get_durable_execution(DurableExecutionArn=arn)
            for number, line in _finished_steps(client, arn, last_event):
                progress(line)
                last_event = number
                if line == until:
                    return {}
        if execution["Status"] == "SUCCEEDED":
            result = json.loads(execution.get("Result") or "null")
            return result if isinstance(result, dict) else {}
        if execution["Status"] != "RUNNING":
            error = execution.get("Error") or {}
            cause = error.get("ErrorMessage") or execution["Status"].lower()
            kind = str(error.get("ErrorType")).removeprefix("rdsiam.errors.")
            if is_known(kind):
                raise FunctionError(kind, visible(cause))
            raise ExecutionFailed(f"{function}: {execution['Status']}: {cause} (execution {arn})")
        time.sleep(_PAUSE)


def _finished_steps(client: Any, arn: str, after: int) -> Iterator[tuple[int, str]]:
    """Yield number and line of each event after `after` that ends a step."""
    marker: str | None = None
    while True:
        page = client.get_durable_execution_history(
            DurableExecutionArn=arn, MaxItems=1000, **({"Marker": marker} if marker else {})
        )
        for event in page["Events"]:
            if event["EventId"] > after and event["EventType"] in (*_SUCCEEDED, *_FAILED):
                failed = ": failed" if event["EventType"] in _FAILED else ""
                yield event["EventId"], f"{event.get('Name') or 'step'}{failed}"
        marker = page.get("NextMarker")
        if not marker:
            return
