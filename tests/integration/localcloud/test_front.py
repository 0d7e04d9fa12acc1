"""The AWS endpoint refuses whom AWS refuses, in the words of each service."""

import hashlib
import http.client
import json
import urllib.parse
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from localcloud.aws.front import Front
from localcloud.client import RunningCloud
from localcloud.core.sigv4 import Credential
from localcloud.core.web import Request, Response

CALLS = {
    "sts": lambda c: c.get_caller_identity(),
    "iam": lambda c: c.list_roles(),
    "rds": lambda c: c.describe_db_instances(),
    "s3": lambda c: c.list_buckets(),
    "dynamodb": lambda c: c.list_tables(),
    "secretsmanager": lambda c: c.list_secrets(),
    "events": lambda c: c.list_rules(),
    "logs": lambda c: c.describe_log_groups(),
    "lambda": lambda c: c.list_functions(),
}
JSON = {"dynamodb", "secretsmanager", "events", "logs", "lambda"}


def _client(cloud: RunningCloud, service: str, key: str, secret: str, token: str | None = None) -> Any:
    session: Any = boto3.Session(key, secret, token, region_name=cloud.region)
    return session.client(service, endpoint_url=cloud.endpoint, config=Config(retries={"total_max_attempts": 1}))


def _own(cloud: RunningCloud) -> tuple[str, str]:
    own = cloud.info["credentials"]
    return own["access_key_id"], own["secret_access_key"]


@pytest.mark.parametrize("service", CALLS)
def test_the_right_signature_passes(cloud: RunningCloud, service: str) -> None:
    assert CALLS[service](_client(cloud, service, *_own(cloud)))["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize("service", CALLS)
def test_an_unknown_key_is_refused_as_the_service_does(cloud: RunningCloud, service: str) -> None:
    expected = "InvalidAccessKeyId" if service == "s3" else "InvalidClientTokenId"
    expected = "UnrecognizedClientException" if service in JSON else expected
    with pytest.raises(ClientError) as refused:
        CALLS[service](_client(cloud, service, "AKIAIOSFODNN7EXAMPLE", "secret"))
    assert refused.value.response["Error"]["Code"] == expected


@pytest.mark.parametrize("service", CALLS)
def test_a_wrong_secret_is_refused_as_the_service_does(cloud: RunningCloud, service: str) -> None:
    expected = "InvalidSignatureException" if service in JSON else "SignatureDoesNotMatch"
    with pytest.raises(ClientError) as refused:
        CALLS[service](_client(cloud, service, _own(cloud)[0], "wrong"))
    assert refused.value.response["Error"]["Code"] == expected


def test_a_session_without_its_token_is_refused(cloud: RunningCloud, role: str) -> None:
    session = cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="front")["Credentials"]
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        _client(cloud, "sts", session["AccessKeyId"], session["SecretAccessKey"]).get_caller_identity()


@pytest.mark.parametrize("service", ["sts", "dynamodb", "s3"])
def test_an_expired_session_is_refused(service: str) -> None:
    """Sessions last 15 minutes at least, so this front is asked directly, with one that has just ended."""
    ended = Credential("ASIAEXPIRED", "secret", "arn:aws:sts::123456789012:assumed-role/r/s", "123456789012", "token",
                       datetime.now(UTC) - timedelta(seconds=1))  # fmt: skip
    front = Front(lambda _: ended, lambda *_: None, lambda *_: None, lambda _: Response(404))
    request = AWSRequest("GET", front.server.url + "/", {"X-Amz-Content-SHA256": hashlib.sha256(b"").hexdigest()})
    SigV4Auth(Credentials("ASIAEXPIRED", "secret", "token"), service, "eu-central-1").add_auth(request)
    headers = (("Host", front.server.url.removeprefix("http://")), *dict(request.headers).items())
    answer = front.handle(Request("GET", "/", "", headers, b""))
    front.server.stop()
    assert answer.status in (400, 403)
    assert b"ExpiredToken" in answer.body


def test_a_session_has_its_name_and_its_source_identity(cloud: RunningCloud, role: str) -> None:
    answer = cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="front", SourceIdentity="alice")
    assert answer["SourceIdentity"] == "alice"
    assert cloud.client("sts", answer["Credentials"]).get_caller_identity()["Arn"].endswith("/front")


def test_a_role_that_does_not_exist_can_not_be_assumed(cloud: RunningCloud) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        cloud.client("sts").assume_role(RoleArn="arn:aws:iam::123456789012:role/nobody", RoleSessionName="xx")


def test_a_session_longer_than_its_role_allows_is_refused(cloud: RunningCloud, role: str) -> None:
    with pytest.raises(ClientError, match="MaxSessionDuration"):
        cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="xx", DurationSeconds=7200)


def test_a_request_that_is_not_signed_is_refused(cloud: RunningCloud) -> None:
    status, body = _post(cloud, {}, b"Action=GetCallerIdentity&Version=2011-06-15")
    assert (status, b"MissingAuthenticationToken" in body) == (403, True)


def test_moto_s_own_pages_are_closed(cloud: RunningCloud) -> None:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(cloud.endpoint).netloc)
    connection.request("POST", "/moto-api/reset")
    assert connection.getresponse().status == 403


@pytest.mark.parametrize("with_hash", [True, False], ids=["hash header kept", "no hash header"])
def test_a_changed_body_is_refused(cloud: RunningCloud, with_hash: bool) -> None:
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    headers = _signed(cloud, body, with_hash=with_hash)
    assert _post(cloud, headers, body)[0] == 200
    status, answer = _post(cloud, headers, body + b"&X=1")
    assert (status, b"SignatureDoesNotMatch" in answer) == (403, True)


def test_a_connection_serves_many_calls(cloud: RunningCloud) -> None:
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(cloud.endpoint).netloc)
    for _ in range(3):
        connection.request("POST", "/", body, _signed(cloud, body, with_hash=True))
        answer = connection.getresponse()
        assert (answer.status, answer.will_close, bool(answer.read())) == (200, False, True)


def test_buckets_keep_versions_and_answer_304(cloud: RunningCloud) -> None:
    s3, bucket = cloud.client("s3"), cloud.info["outputs"]["AccessBucket"]
    put = s3.put_object(Bucket=bucket, Key="front-test", Body="überall".encode())
    assert put["VersionId"]
    got = s3.get_object(Bucket=bucket, Key="front-test")
    assert (got["VersionId"], got["Body"].read().decode()) == (put["VersionId"], "überall")
    with pytest.raises(ClientError) as unchanged:
        s3.get_object(Bucket=bucket, Key="front-test", IfNoneMatch=got["ETag"])
    assert unchanged.value.response["ResponseMetadata"]["HTTPStatusCode"] == 304
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(cloud.endpoint).netloc)
    url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "front-test"})
    for changed, status in ((url, 200), (url[:-1] + ("0" if url[-1] != "0" else "1"), 403)):
        connection.request("GET", changed.removeprefix(cloud.endpoint))
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (status, True)
    s3.delete_object(Bucket=bucket, Key="front-test")


def test_the_template_s_policies_arrive(cloud: RunningCloud) -> None:
    iam = cloud.client("iam")
    names = [role["RoleName"] for page in iam.get_paginator("list_roles").paginate() for role in page["Roles"]]
    roles = {name.split("-")[1]: name for name in names if name.startswith("rdsiam-")}
    assert "assume-connect-role" in iam.list_role_policies(RoleName=roles["VendFunctionRole"])["PolicyNames"]
    inline = iam.get_role_policy(RoleName=roles["VendFunctionRole"], PolicyName="assume-connect-role")
    assert inline["PolicyDocument"]["Statement"][0]["Resource"].endswith(roles["ConnectRole"])
    managed = iam.list_attached_role_policies(RoleName=roles["OnboardFunctionRole"])["AttachedPolicies"]
    assert "AWSXrayWriteOnlyAccess" in {policy["PolicyName"] for policy in managed}
    connect = iam.get_role(RoleName=roles["ConnectRole"])["Role"]
    assert connect["Tags"] == [{"Key": "rdsiam:managed", "Value": "true"}]
    bucket = cloud.client("s3").get_bucket_policy(Bucket=cloud.info["outputs"]["AccessBucket"])["Policy"]
    publishers = json.loads(bucket)["Statement"][0]["Condition"]["ArnNotLike"]["aws:PrincipalArn"]
    assert publishers == ["arn:aws:iam::123456789012:user/administrator"]


@pytest.fixture(scope="module")
def role(cloud: RunningCloud) -> str:
    trust = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
         "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"]}
    ]}  # fmt: skip
    answer = cloud.client("iam").create_role(RoleName="front", AssumeRolePolicyDocument=json.dumps(trust))
    return str(answer["Role"]["Arn"])


def _signed(cloud: RunningCloud, body: bytes, *, with_hash: bool) -> dict[str, str]:
    headers = {"X-Amz-Content-SHA256": hashlib.sha256(body).hexdigest()} if with_hash else {}
    request = AWSRequest("POST", cloud.endpoint + "/", headers, body)
    SigV4Auth(Credentials(*_own(cloud)), "sts", cloud.region).add_auth(request)
    return dict(request.headers)


def _post(cloud: RunningCloud, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(cloud.endpoint).netloc)
    connection.request("POST", "/", body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()
