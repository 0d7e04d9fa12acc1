"""The small clients of the token path: they ask, answer and fail as boto3's do."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError, ResponseStreamingError

from rdsiam.aws import clients, fast_clients
from rdsiam.errors import EndpointUnreachable
from tests.waiting import growing_pauses

ASSUMED = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<AssumedRoleUser><AssumedRoleId>AROA:x</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/r/x</Arn>
</AssumedRoleUser><Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>canary/secret+=</SecretAccessKey>
<SessionToken>canary/session+==</SessionToken><Expiration>2026-11-24T10:30:00Z</Expiration></Credentials>
</AssumeRoleResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleResponse>"""
STS_ERROR = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>AccessDenied</Code><Message>not authorized</Message></Error><RequestId>r</RequestId></ErrorResponse>"""
S3_ERROR = "<Error><Code>NoSuchKey</Code><Message>gone</Message><RequestId>r</RequestId></Error>"
DYNAMODB_ERROR = (
    '{"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", "message": "it is there"}'
)
ITEM = {"id": {"S": "1"}, "n": {"N": "5432"}, "t": {"BOOL": True}, "m": {"M": {"l": {"L": [{"NULL": True}]}}}}
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "get_item": ("dynamodb", {"TableName": "t", "Key": {"database": {"S": "ü"}}, "ConsistentRead": True}),
    "put_item": (
        "dynamodb",
        {"TableName": "t", "Item": {"id": {"S": "1"}}, "ConditionExpression": "attribute_not_exists(id)"},
    ),
    "put_object": (
        "s3",
        {"Bucket": "b", "Key": "audits/ü 1.json", "Body": b'{"x": 1}', "ContentType": "application/json"},
    ),
    "get_object": ("s3", {"Bucket": "bucket.with-dots", "Key": "access.yaml", "IfNoneMatch": '"etag"'}),
    "get_object of a version": ("s3", {"Bucket": "b", "Key": "access.yaml", "VersionId": "3/L4k+qt_.B~ü&x=y null"}),
    "assume_role": (
        "sts",
        {"RoleArn": "arn:aws:iam::123456789012:role/connect", "RoleSessionName": "a=b", "DurationSeconds": 3600,
         "Policy": '{"Version": "2012-10-17"}', "SourceIdentity": "ci-1"},
    ),
}  # fmt: skip
#: Call, status, headers, body of the answer.
ANSWERS = [
    ("get_item", 200, {}, json.dumps({"Item": ITEM})),
    ("get_item", 200, {}, "{}"),
    ("put_item", 200, {}, "{}"),
    ("get_object", 200, {"ETag": '"e"', "x-amz-version-id": "v1"}, "version: 1\n"),
    ("get_object", 200, {"ETag": '"e"'}, ""),
    ("get_object", 200, {"ETag": '"e"', "x-amz-meta-rdsiam-confirmed": "true", "x-amz-meta-a-b": "c"}, "version: 1\n"),
    ("get_object of a version", 200, {"ETag": '"e"', "x-amz-version-id": "v1"}, "version: 1\n"),
    ("get_object of a version", 404, {}, S3_ERROR.replace("NoSuchKey", "NoSuchVersion")),
    ("put_object", 200, {"ETag": '"e"', "x-amz-version-id": "v1"}, ""),
    ("put_object", 403, {}, S3_ERROR.replace("NoSuchKey", "AccessDenied")),
    ("assume_role", 200, {}, ASSUMED),
    ("get_object", 304, {"ETag": '"e"'}, ""),
    ("get_object", 404, {}, S3_ERROR),
    ("get_object", 403, {}, ""),
    ("assume_role", 403, {}, STS_ERROR),
    ("put_item", 400, {}, DYNAMODB_ERROR),
    ("get_item", 400, {}, '{"__type": "AccessDeniedException", "Message": "not authorized"}'),
]


class Service(ThreadingHTTPServer):
    """A server that gives prepared answers and records the requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers: list[tuple[int, dict[str, str], str]] = [(200, {}, "{}")]
        self.asked = []
        self.connections = set()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        """Say nothing: clients that hang up are what some tests are about."""

    def next_answer(self):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.connections.add(self.client_address)
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        status, headers, text = self.server.next_answer()
        self.send_response(status)
        headers = {"content-length": str(len(text.encode()))} | headers
        hangs_up = headers.pop("test-hangs-up", None)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())
        self.close_connection = bool(hangs_up)

    do_GET = do_PUT = do_POST  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    with Service() as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.01,))
        thread.start()
        yield service
        service.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def environment(monkeypatch, request):
    for name in fast_clients._BOTO3_ONLY:
        monkeypatch.delenv(name, raising=False)
    values = {"ACCESS_KEY_ID": "AKIDEXAMPLE", "SECRET_ACCESS_KEY": "canary-key", "SESSION_TOKEN": "canary-token"}
    for name, value in (values | {"REGION": "eu-west-1", "DEFAULT_REGION": "eu-west-1"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    if "service" in request.fixturenames:
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("service").url)
    monkeypatch.setattr(fast_clients, "time", SimpleNamespace(sleep=lambda _: None, monotonic=time.monotonic))


def call(name, made_by=fast_clients.client):
    service, arguments = CALLS[name]
    return getattr(made_by(service), name.partition(" ")[0])(**arguments)


def until_asked(service):
    """Wait for the first request."""
    for pause in growing_pauses():
        if service.asked:
            return
        time.sleep(pause)


def by_boto3(service):
    """Return boto3's client, which makes one attempt, of a session that no other test has used."""
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    return boto3.Session().client(service, config=config)


def told(name, made_by):
    """Return what a call answers or raises, in a form that can be compared."""
    try:
        answer = call(name, made_by)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return error.operation_name, status, error.response["Error"]["Code"]
    names = ("Item", "Credentials", "ContentLength", "ETag", "Metadata", "VersionId")
    kept = {key: answer[key] for key in names if key in answer}
    return kept | ({"Body": answer["Body"].read()} if "Body" in answer else {})


@pytest.mark.parametrize(("name", "status", "headers", "body"), ANSWERS)
def test_answers_and_errors_are_those_of_boto3(service, name, status, headers, body):
    service.answers = [(status, headers, body)]
    assert told(name, fast_clients.client) == told(name, by_boto3)


@pytest.mark.parametrize("name", CALLS)
def test_requests_are_those_of_boto3(service, name):
    service.answers = [next((status, headers, body) for call, status, headers, body in ANSWERS if call == name)]
    call(name)
    call(name, by_boto3)
    ours, theirs = service.asked
    assert ours[:2] == theirs[:2]
    assert as_data(ours[3]) == as_data(theirs[3])
    for header in ("content-type", "x-amz-target", "if-none-match", "x-amz-security-token"):
        values = [{key.lower(): value for key, value in one[2].items()}.get(header) for one in (ours, theirs)]
        assert values[0] == values[1], header


def as_data(body):
    return json.loads(body) if body.startswith(b"{") else sorted(body.decode().split("&"))


def test_credentials_that_are_assumed_end_when_sts_says(service):
    service.answers = [(200, {}, ASSUMED)]
    found = call("assume_role")["Credentials"]
    assert found["SessionToken"] == "canary/session+=="
    assert found["Expiration"] == datetime(2026, 11, 24, 10, 30, tzinfo=UTC)


def test_a_connection_is_kept(service):
    client = fast_clients.client("dynamodb")
    for _ in range(3):
        client.put_item(**CALLS["put_item"][1])
    assert (len(service.asked), len(service.connections)) == (3, 1)


def test_a_connection_that_was_closed_meanwhile_is_made_anew(service):
    service.answers = [(200, {"test-hangs-up": "1"}, "{}")]
    client = fast_clients.client("dynamodb")
    for _ in range(3):
        client.put_item(**CALLS["put_item"][1])
        time.sleep(0.05)
    assert (len(service.asked), len(service.connections)) == (3, 3)


def test_threads_share_a_client(service):
    client = fast_clients.client("dynamodb")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.put_item(**CALLS["put_item"][1]), range(200)))
    assert len(service.asked) == 200
    assert len(service.connections) <= 8


@pytest.mark.parametrize(
    "passing",
    [
        (503, {}, ""),
        (500, {}, "no JSON"),
        (429, {}, "{}"),
        (400, {}, '{"__type": "x#ProvisionedThroughputExceededException"}'),
        (400, {}, "<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>"),
        (200, {"content-length": "50", "test-hangs-up": "1"}, "{}"),
    ],
    ids=str,
)
def test_what_passes_is_tried_three_times(service, passing):
    service.answers = [passing, passing, (200, {}, "{}")]
    assert call("put_item") == {}
    service.answers = [passing]
    service.asked.clear()
    with pytest.raises((ClientError, BotoCoreError)):
        call("put_item")
    assert len(service.asked) == 3


def test_a_call_that_was_begun_answers_the_next_of_the_same_once(service):
    service.answers = [(200, {"ETag": f'"{number}"'}, "") for number in range(3)]
    s3 = fast_clients.client("s3")
    s3.begin_get_object(Bucket="b", Key="access.yaml")
    until_asked(service)

    assert s3.get_object(Bucket="b", Key="other.yaml")["ETag"] == '"1"'
    assert s3.get_object(Bucket="b", Key="access.yaml")["ETag"] == '"0"'
    assert s3.get_object(Bucket="b", Key="access.yaml")["ETag"] == '"2"'
    assert [path for _, path, *_ in service.asked] == ["/b/access.yaml", "/b/other.yaml", "/b/access.yaml"]


def test_a_call_that_was_begun_too_long_ago_is_made_anew(service, monkeypatch):
    service_name, request = CALLS["get_item"]
    service.answers = [(200, {}, json.dumps({"Item": {"n": {"N": number}}})) for number in ("1", "2")]
    dynamodb = fast_clients.client(service_name)
    dynamodb.begin_get_item(**request)
    until_asked(service)
    monkeypatch.setattr(fast_clients, "_FRESH_SECONDS", -1.0)

    assert dynamodb.get_item(**request)["Item"]["n"] == {"N": "2"}


def test_a_call_that_was_begun_and_failed_is_made_anew(service, monkeypatch):
    monkeypatch.setattr(fast_clients, "_ATTEMPTS", 1)
    service_name, request = CALLS["get_item"]
    service.answers = [
        (200, {"content-length": "9", "test-hangs-up": "yes"}, ""),
        (200, {}, json.dumps({"Item": ITEM})),
    ]
    dynamodb = fast_clients.client(service_name)
    dynamodb.begin_get_item(**request)

    assert dynamodb.get_item(**request)["Item"] == ITEM
    assert len(service.asked) == 2


@pytest.mark.parametrize("name", CALLS)
def test_what_does_not_pass_is_asked_once(service, name):
    service.answers = [(403, {}, "")]
    with pytest.raises(ClientError, match="403"):
        call(name)
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("name", "body"),
    [("put_item", ""), ("get_item", "<html>"), ("assume_role", "<html>"), ("assume_role", "<a/>"), ("get_object", "a")],
)
def test_an_answer_that_is_none_is_an_error_and_never_an_empty_answer(service, name, body):
    service.answers = [(200, {}, body)]
    with pytest.raises((ValueError, KeyError, SyntaxError)):
        call(name)


def test_an_answer_larger_than_any_is_not_read(service, monkeypatch):
    monkeypatch.setattr(fast_clients, "_LARGEST_ANSWER", 10)
    service.answers = [(200, {"ETag": '"e"'}, "x" * 11)]
    with pytest.raises(ResponseStreamingError, match="larger"):
        call("get_object")


def test_a_service_that_can_not_be_reached_is_named(monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(EndpointUnreachable, match=r"^sts can't be reached at http://127\.0\.0\.1"):
            call("assume_role")


def test_silence_is_distinguished_from_a_missing_endpoint(monkeypatch):
    monkeypatch.setattr(fast_clients, "_READ_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ReadTimeoutError):
            call("assume_role")


@pytest.mark.parametrize(
    ("region", "name", "url"),
    [
        ("eu-west-1", "sts", "https://sts.eu-west-1.amazonaws.com"),
        ("us-east-1", "s3", "https://s3.us-east-1.amazonaws.com"),
        ("us-gov-west-1", "dynamodb", "https://dynamodb.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "s3", "https://s3.cn-north-1.amazonaws.com.cn"),
        ("eusc-de-east-1", "sts", "https://sts.eusc-de-east-1.amazonaws.eu"),
        ("us-iso-east-1", "dynamodb", "https://dynamodb.us-iso-east-1.c2s.ic.gov"),
        ("us-isob-east-1", "s3", "https://s3.us-isob-east-1.sc2s.sgov.gov"),
        ("eu-isoe-west-1", "sts", "https://sts.eu-isoe-west-1.cloud.adc-e.uk"),
        ("xx-nowhere-1", "sts", "https://sts.xx-nowhere-1.amazonaws.com"),
    ],
)
def test_addresses_are_those_of_boto3(monkeypatch, region, name, url):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_REGION", region)
    assert fast_clients.client(name)._endpoint._url == url
    config = Config(s3={"addressing_style": "path", "us_east_1_regional_endpoint": "regional"})
    assert boto3.client(name, region_name=region, config=config).meta.endpoint_url == url


def test_certificates_are_verified(monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    context = fast_clients.client("sts")._endpoint._tls
    assert (context.check_hostname, context.verify_mode.name) == (True, "CERT_REQUIRED")


@pytest.mark.parametrize("setting", [*fast_clients._BOTO3_ONLY, "AWS_ACCESS_KEY_ID"])
def test_other_settings_of_credentials_are_left_to_boto3(monkeypatch, setting):
    monkeypatch.setenv(setting, "" if setting == "AWS_ACCESS_KEY_ID" else "something")
    monkeypatch.setattr(clients, "client", lambda service: f"boto3's {service}")
    assert fast_clients.client("sts") == "boto3's sts"


@pytest.mark.parametrize("answer", [(403, {}, STS_ERROR), (200, {}, ASSUMED[:-20]), (500, {}, "canary")])
def test_no_error_and_no_repr_has_a_secret(service, answer):
    service.answers = [answer]
    client = fast_clients.client("sts")
    with pytest.raises(Exception) as failed:  # noqa: PT011  whatever it is
        client.assume_role(**CALLS["assume_role"][1])
    assert "canary" not in f"{failed.value!r} {failed.value} {client!r} {vars(client)!r} {vars(client._endpoint)!r}"
