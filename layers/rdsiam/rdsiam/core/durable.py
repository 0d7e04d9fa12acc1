"""Steps of durable executions that may be repeated, and when they are."""

import logging

from aws_durable_execution_sdk_python.config import Duration, StepConfig
from aws_durable_execution_sdk_python.retries import RetryDecision

from rdsiam.errors import LeaseTaken

logger = logging.getLogger(__name__)

_ATTEMPTS = 6
_LEASE_PAUSE = 15


def _retry(error: Exception, attempt: int) -> RetryDecision:
    """Try again what may go away by itself: a database that starts, a policy that is not yet everywhere.

    A lease that another run holds is asked for again until one that a killed run has left has expired.
    """
    if isinstance(error, LeaseTaken):
        if attempt * _LEASE_PAUSE > error.valid_for + _LEASE_PAUSE:
            return RetryDecision.no_retry()
        logger.info("%s", error)
        return RetryDecision.retry(Duration.from_seconds(_LEASE_PAUSE))
    if attempt >= _ATTEMPTS:
        return RetryDecision.no_retry()
    logger.warning("step failed and is repeated: %s", error)
    return RetryDecision.retry(Duration.from_seconds(min(2**attempt, 30)))


#: For steps that may be repeated.
RETRIED = StepConfig(retry_strategy=_retry)
