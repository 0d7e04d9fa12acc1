"""Steps of durable executions: how a result is checkpointed, and when a failed step is repeated."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self, TypeVar

from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python.config import Duration, StepConfig
from aws_durable_execution_sdk_python.retries import RetryDecision

from rdsiam.errors import LeaseTaken

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: Attempts of a step, the first one included.
ATTEMPTS = 6
_LEASE_PAUSE = 15


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

    :param attempts: how often a failing step is tried; see `retry`.
    """

    def __init__(self, context: DurableContext, attempts: int = ATTEMPTS) -> None:
        self._context = context
        self._config = StepConfig(retry_strategy=lambda error, attempt: retry(error, attempt, attempts))

    def run(self, name: str, work: Callable[[], T]) -> T:
        """Run a step whose result is plain JSON."""
        return self._context.step(lambda _: work(), name=name, config=self._config)

    def run_typed(self, name: str, kind: type[R], work: Callable[[], R]) -> R:
        """Run a step whose result is of a class with `to_json` and `from_json`."""
        return kind.from_json(self.run(name, lambda: work().to_json()))


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
    logger.warning("step failed and is repeated: %s", error)
    return RetryDecision.retry(Duration.from_seconds(min(2**attempt, 30)))
