"""Work and waits of packages that repeat for each session, mock or execution, and that tests need once or never."""

import functools
import os

from aws_durable_execution_sdk_python import state
from botocore import loaders, session


def spare_repetitions() -> None:
    """Read each service's model once in this process, make no AMIs, and end durable executions when they have ended.

    `mock_aws` begins with a new session, which has read no model. Each of moto's regions of EC2, which those of RDS
    make, has 1,300 AMIs of which no test knows any. The SDK looks for the end of an execution a few times a second.
    """
    os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
    assert hasattr(state, "_STOP_SIGNAL_POLL_SECONDS")
    state._STOP_SIGNAL_POLL_SECONDS = 0.01
    if session.create_loader is loaders.create_loader:
        session.create_loader = functools.cache(loaders.create_loader)
