"""Logger and metrics, made once for all functions. They take names and outcomes, never a request or a response."""

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging import utils

from rdsiam.core import log_keys

R = TypeVar("R")

logger = Logger()
metrics = Metrics()

# What the layer logs with the standard library comes out in the same form.
_package = logging.getLogger("rdsiam")
utils.copy_config_to_registered_loggers(source_logger=logger, include={"rdsiam"})
for _handler in logger.handlers:
    _handler.addFilter(log_keys.AddKeys())


def logs_invocation(handler: Callable[[dict[str, Any], Any], R]) -> Callable[[dict[str, Any], Any], R]:
    """Give the lines of a function's invocations their keys, and log why one failed; `durable.logs_execution` too."""

    @logger.inject_lambda_context(clear_state=True)
    @functools.wraps(handler)
    def logged(event: dict[str, Any], context: Any) -> R:
        with log_keys.invocation(function_request_id=str(context.aws_request_id)):
            return handler(event, context)

    return logged


def name_metrics() -> None:
    """Give the line of the metrics that are written next the keys of log lines; they are no dimensions."""
    for name, value in log_keys.of_invocation().items():
        metrics.add_metadata(name, value)
