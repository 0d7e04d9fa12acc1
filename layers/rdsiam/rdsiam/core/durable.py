"""Steps of durable executions: how a result is checkpointed, and when a failed step is repeated."""

import functools
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self, TypeVar

from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python.config import Duration, StepConfig
from aws_durable_execution_sdk_python.retries import RetryDecision
from aws_durable_execution_sdk_python.serdes import JsonSerDes

from rdsiam.core import log_keys
from rdsiam.core.large_answers import LARGEST_LIST, LargeResults, cut, long_lists, store_long_lists
from rdsiam.errors import LeaseTaken, RdsiamError

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: Attempts of a step, the first one included.
ATTEMPTS = 6
_LEASE_PAUSE = 15
#: Bytes of a result that a checkpoint holds. Lambda accepts 256 KiB, and 100 MB for all of an execution.
_LARGEST = 100_000
#: Characters of an error that a checkpoint holds, with room for its stack within what Lambda accepts.
_LONGEST_ERROR = 8_000
#: The only key of a checkpoint whose result is stored elsewhere.
_STORED_AT = "rdsiam:stored-at"


class StepFailed(RdsiamError):
    """A step failed with an error whose text a checkpoint can't hold; the log has all of it."""

    code = "step-failed"


class Result(Protocol):
    """The result of a step, which a checkpoint holds as JSON."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any], /) -> Self:
        """Return the result from which `to_json` made this JSON."""


R = TypeVar("R", bound=Result)


class Steps:
    """Runs steps of one durable execution. A step may run more than once, so each has to be idempotent.

    :param results: the store of results that a checkpoint can't hold.
    :param attempts: how often a failing step is tried; see `retry`.
    """

    def __init__(self, context: DurableContext, results: LargeResults, attempts: int = ATTEMPTS) -> None:
        self._context = context
        self._results = results
        self._config = StepConfig(
            retry_strategy=lambda error, attempt: retry(error, attempt, attempts), serdes=JsonSerDes()
        )

    def run(self, name: str, work: Callable[[], T]) -> T:
        """Run a step whose result is plain JSON, of any size."""
        checkpoint = self._context.step(lambda _: self._checkpoint(work), name=name, config=self._config)
        result: T = self._result(checkpoint)
        return result

    def run_typed(self, name: str, kind: type[R], work: Callable[[], R]) -> R:
        """Run a step whose result is of a class with `to_json` and `from_json`."""
        return kind.from_json(self.run(name, lambda: work().to_json()))

    def _checkpoint(self, work: Callable[[], Any]) -> Any:
        """Return the result of a step, or its address if it is too large for a checkpoint."""
        try:
            result = work()
        except Exception as error:
            if len(str(error)) <= _LONGEST_ERROR:
                raise
            logger.exception("a step failed with a long error")
            raise StepFailed(f"{str(error)[:_LONGEST_ERROR]} … (the log has all of it)") from None
        text = json.dumps(result)
        if len(text) <= _LARGEST and not _is_stored(result):
            return result
        return {_STORED_AT: self._results.put("step", text)}

    def _result(self, checkpoint: Any) -> Any:
        return json.loads(self._results.get(checkpoint[_STORED_AT])) if _is_stored(checkpoint) else checkpoint


def _is_stored(checkpoint: Any) -> bool:
    return isinstance(checkpoint, dict) and checkpoint.keys() == {_STORED_AT}


def logs_execution(
    handler: Callable[[dict[str, Any], DurableContext], T],
) -> Callable[[dict[str, Any], DurableContext], T]:
    """Give the lines of a durable function's invocations their keys, and log why one failed.

    The ARN of the execution, which has several invocations, is a key too.
    """

    @functools.wraps(handler)
    def logged(event: dict[str, Any], context: DurableContext) -> T:
        request_id = getattr(context.lambda_context, "aws_request_id", "")
        execution = context.execution_context.durable_execution_arn
        with log_keys.invocation(execution=execution, function_request_id=request_id):
            return handler(event, context)

    return logged


def answered(
    context: DurableContext, results: LargeResults, answer: Mapping[str, Any], limit: int = LARGEST_LIST
) -> dict[str, Any]:
    """Return the answer of a durable function within the limits; lists that have no room in it are stored.

    :param limit: bytes of JSON of one list.
    """
    addresses: dict[str, str] = {}
    if long_lists(answer, limit):
        steps = Steps(context, results)
        addresses = steps.run("store the whole answer", lambda: store_long_lists(answer, results, limit))
    return cut(answer, addresses, limit)


def retry(error: Exception, attempt: int, attempts: int = ATTEMPTS) -> RetryDecision:
    """Decide whether a failed step is repeated, and after which pause.

    Failures may pass: a database starts, a new policy takes seconds to apply everywhere. A lease that another run holds
    is requested until the lease of a killed run would have expired.

    :param attempt: number of the attempt that failed, from 1.
    """
    if isinstance(error, LeaseTaken):
        if attempt * _LEASE_PAUSE > error.valid_for + _LEASE_PAUSE:
            return RetryDecision.no_retry()
        logger.info("%s", error)
        return RetryDecision.retry(Duration.from_seconds(_LEASE_PAUSE))
    if attempt >= attempts:
        return RetryDecision.no_retry()
    logger.warning("step failed and is repeated: %s: %s", type(error).__name__, error)
    return RetryDecision.retry(Duration.from_seconds(min(2**attempt, 30)))
