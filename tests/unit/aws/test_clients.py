import time

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError
from botocore.httpsession import URLLib3Session

from rdsiam.aws import clients
from rdsiam.errors import EndpointUnreachable

#: What the layer calls, and what each service's VPC endpoint is called.
SERVICES = {
    "secretsmanager": ("get_secret_value", {"SecretId": "a"}),
    "rds": ("describe_db_instances", {}),
    "sts": ("get_caller_identity", {}),
    "events": ("list_rules", {}),
    "dynamodb": ("list_tables", {}),
    "s3": ("list_buckets", {}),
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, value in {
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_STS_REGIONAL_ENDPOINTS": "regional",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    for cached in (clients.client, clients._session):
        cached.cache_clear()
    yield
    for cached in (clients.client, clients._session):
        cached.cache_clear()


def fail_with(monkeypatch, error_class, **details):
    def send(_session, request):
        raise error_class(endpoint_url=request.url, **details)

    monkeypatch.setattr(URLLib3Session, "send", send)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("error", [ConnectTimeoutError, EndpointConnectionError])
def test_a_missing_endpoint_is_named(monkeypatch, service, error):
    fail_with(monkeypatch, error, error="silence")
    call, arguments = SERVICES[service]
    with pytest.raises(
        EndpointUnreachable, match=f"^{service} can't be reached at https://{service}.*parameter Endpoints"
    ):
        getattr(clients.client(service), call)(**arguments)


def test_a_slow_answer_is_not_taken_for_a_missing_endpoint(monkeypatch):
    fail_with(monkeypatch, ReadTimeoutError, error="slow")
    with pytest.raises(ReadTimeoutError):
        clients.client("rds").describe_db_instances()


def test_all_attempts_to_connect_end_in_ten_seconds():
    attempts = vars(clients._CONFIG)["retries"]["total_max_attempts"]
    longest_pauses = sum(2**number for number in range(attempts - 1))
    assert attempts * vars(clients._CONFIG)["connect_timeout"] + longest_pauses < 10


def test_errors_of_services_come_as_they_are():
    assert not issubclass(EndpointUnreachable, ClientError)
