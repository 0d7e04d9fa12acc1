"""Signed requests to AWS: the very headers that botocore would send."""

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.aws.sigv4 import encoded, signed
from rdsiam.signer import Credentials

AT = datetime(2026, 11, 24, 9, 30, 15, tzinfo=UTC)
HEADERS = {"host": "dynamodb.eu-west-1.amazonaws.com", "content-type": "application/x-amz-json-1.0"}
TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


def of_botocore(monkeypatch, credentials, auth, service, method, path, headers, body):
    """Return the headers as botocore signs them at that time."""
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: AT.replace(tzinfo=None))
    request = AWSRequest(method, f"https://{headers['host']}{encoded(path)}", {}, body)
    for name, value in (headers | {"x-amz-content-sha256": signed_at(credentials, body)}).items():
        request.headers[name] = value
    keys = BotoCredentials(credentials.access_key, credentials.secret_key, credentials.session_token)
    auth(keys, service, "eu-west-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


def signed_at(credentials, body):
    return signed(credentials, "eu-west-1", "s3", "GET", "/", HEADERS, body, AT.timestamp())["x-amz-content-sha256"]


@pytest.mark.parametrize(
    ("auth", "service", "method", "path"),
    [
        (SigV4Auth, "dynamodb", "POST", "/"),
        (SigV4Auth, "sts", "POST", "/"),
        (S3SigV4Auth, "s3", "GET", "/b/a b=ü.yaml"),
    ],
    ids=["dynamodb", "sts", "s3"],
)
@given(
    secret=TEXT, session=st.none() | TEXT, body=st.binary(max_size=100), headers=st.dictionaries(
        st.from_regex(r"x-[a-z]{1,9}(-[a-z0-9]{1,9})?", fullmatch=True).filter(lambda name: "amz" not in name), TEXT
    )
)  # fmt: skip
def test_requests_are_signed_as_botocore_signs_them(auth, service, method, path, secret, session, body, headers):
    credentials = Credentials("AKIDEXAMPLE", secret, session)
    with pytest.MonkeyPatch.context() as monkeypatch:
        expected = of_botocore(monkeypatch, credentials, auth, service, method, path, HEADERS | headers, body)
    result = signed(credentials, "eu-west-1", service, method, path, HEADERS | headers, body, AT.timestamp())
    assert result == expected


@pytest.mark.parametrize("query", ["versionId=3%2FL4k%2Bqt_.B~", "versionId=null", "a=1&versionId=x"])
def test_requests_with_a_query_are_signed_as_botocore_signs_them(monkeypatch, query):
    credentials = Credentials("AKIDEXAMPLE", "secret", "session")
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: AT.replace(tzinfo=None))
    request = AWSRequest("GET", f"https://{HEADERS['host']}/b/access.yaml?{query}", {}, b"")
    for name, value in (HEADERS | {"x-amz-content-sha256": signed_at(credentials, b"")}).items():
        request.headers[name] = value
    S3SigV4Auth(BotoCredentials("AKIDEXAMPLE", "secret", "session"), "s3", "eu-west-1").add_auth(request)
    result = signed(credentials, "eu-west-1", "s3", "GET", "/b/access.yaml", HEADERS, b"", AT.timestamp(), query=query)
    assert result == {name.lower(): value for name, value in request.headers.items()}


def test_each_part_of_a_request_changes_the_signature():
    def signature(**changed):
        given: dict[str, Any] = {
            "region": "eu-west-1",
            "service": "sts",
            "method": "POST",
            "path": "/",
            "headers": HEADERS,
            "body": b"a",
        }
        return signed(Credentials("AKIDEXAMPLE", "secret"), **(given | {"at": 0.0} | changed))["authorization"]

    changes: list[dict[str, Any]] = [
        {}, {"region": "eu-west-2"}, {"service": "s3"}, {"method": "GET"}, {"path": "/a"}, {"body": b"b"}, {"at": 1.0},
        {"headers": HEADERS | {"host": "example.com"}}, {"query": "versionId=a"}, {"query": "versionId=b"},
    ]  # fmt: skip
    assert len({signature(**changed) for changed in changes}) == len(changes)
