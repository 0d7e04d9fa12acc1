"""AWS clients and our own credentials: made when first used, with time limits that leave time to say what failed."""

from functools import cache, partial
from typing import Any

from botocore.config import Config
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError
from botocore.session import Session

from rdsiam.errors import EndpointUnreachable
from rdsiam.signer import Credentials

#: Inside a VPC a missing endpoint shows as silence: three attempts of 2 s, and at most 3 s between them, end in 10 s.
_CONFIG = Config(connect_timeout=2, read_timeout=15, retries={"mode": "standard", "total_max_attempts": 3})


@cache
def _session() -> Session:
    return Session()


@cache
def client(service: str) -> Any:
    """Return this process's client of `service`, for the region and credentials of the environment.

    Its calls raise EndpointUnreachable within 10 s if no connection can be made.
    """
    # Links to objects: without it botocore may sign them in the old way, which encrypted objects refuse.
    config = _CONFIG.merge(Config(signature_version="s3v4")) if service == "s3" else _CONFIG
    client = _session().create_client(service, config=config)
    model = client.meta.service_model
    # VPC endpoints go by the prefix of the address: "events", where botocore says eventbridge in its own events.
    name_the_endpoint = partial(_name_the_endpoint, model.endpoint_prefix)
    client.meta.events.register(f"after-call-error.{model.service_id.hyphenize()}", name_the_endpoint)
    return client


def own_credentials() -> Credentials:
    """Return the credentials of this function's role as they are now.

    :raises RuntimeError: the environment has none.
    """
    credentials = _session().get_credentials()
    if credentials is None:
        raise RuntimeError("no AWS credentials in the environment")
    now = credentials.get_frozen_credentials()
    return Credentials(now.access_key or "", now.secret_key or "", now.token)


def _name_the_endpoint(service: str, exception: Exception, **_: Any) -> None:
    """Raise an error that names the service, as botocore's own has only an address. Read timeouts stay as they are."""
    if isinstance(exception, ConnectTimeoutError | EndpointConnectionError):
        raise EndpointUnreachable(service, str(exception.kwargs.get("endpoint_url"))) from exception
