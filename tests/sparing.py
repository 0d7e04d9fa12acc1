"""Work of botocore and moto that they repeat for each session and each mock, and that tests need once or never."""

import functools
import os

from botocore import loaders, session


def spare_repetitions() -> None:
    """Read each service's model once in this process, and make no AMIs.

    `mock_aws` begins with a new session, which has read no model. Each of moto's regions of EC2, which those of RDS
    make, has 1,300 AMIs of which no test knows any.
    """
    os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
    if session.create_loader is loaders.create_loader:
        session.create_loader = functools.cache(loaders.create_loader)
