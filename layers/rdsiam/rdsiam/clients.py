"""AWS clients and our own credentials: made when first used, with time limits that leave time to say what failed."""

from functools import cache
from typing import Any

import boto3
from botocore.config import Config

from rdsiam.signer import Credentials

#: Inside a VPC a missing endpoint shows as silence: three attempts of 3 s end before the function's time limit.
_CONFIG = Config(connect_timeout=3, read_timeout=15, retries={"mode": "standard", "total_max_attempts": 3})


@cache
def _session() -> boto3.Session:
    return boto3.Session()


@cache
def client(service: str) -> Any:
    """Return this process's client of `service`, for the region and credentials of the environment."""
    return _session().client(service, config=_CONFIG)  # type: ignore[call-overload]


def own_credentials() -> Credentials:
    """Return the credentials of this function's role as they are now.

    :raises RuntimeError: the environment has none.
    """
    found = _session().get_credentials()
    if found is None:
        raise RuntimeError("no AWS credentials in the environment")
    now = found.get_frozen_credentials()
    return Credentials(now.access_key or "", now.secret_key or "", now.token)
