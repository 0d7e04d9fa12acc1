"""Logger and metrics, made once for all functions. They take names and outcomes, never a request or a response."""

import logging

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging import utils

logger = Logger()
metrics = Metrics()

# What the layer logs with the standard library comes out in the same form.
_package = logging.getLogger("rdsiam")
utils.copy_config_to_registered_loggers(source_logger=logger, include={"rdsiam"})
