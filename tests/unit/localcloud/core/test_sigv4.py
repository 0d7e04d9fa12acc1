"""The verifying side of SigV4 agrees with botocore's signers and refuses everything else with AWS's codes."""

from __future__ import annotations

import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.core.sigv4 import Credential, SignatureRefused, read_claim, verify_request
from tests.examples import at_most

KNOWN = Credential("AKIDEXAMPLE", "secret/of+it", "arn:aws:iam::123456789012:user/alice", "123456789012")
SESSION = replace(KNOWN, access_key="ASIAEXAMPLE", session_token="token/+=", expires=datetime.now(UTC) + timedelta(1))
KEYS = {known.access_key: known for known in (KNOWN, SESSION)}


class Signed:
    """A request as it would arrive, signed by botocore."""

    def __init__(self, auth, credential=KNOWN, method="POST", url="https://rds.example.com/", body=b"", headers=()):
        keys = Credentials(credential.access_key, credential.secret_key, credential.session_token)
        service = "s3" if "S3" in auth.__name__ else "rds"
        request = AWSRequest(method, url, dict(headers), body)
        auth(keys, service, "eu-west-1").add_auth(request)
        prepared = request.prepare()
        parts = urlsplit(prepared.url)
        self.method, self.body = method, body
        self.path, self.query = parts.path, parts.query
        self.headers = {name.lower(): _text(value) for name, value in prepared.headers.items()}
        self.headers.setdefault("host", parts.netloc)

    def verify(self, now=None):
        return verify_request(self.method, self.path, self.query, self.headers, self.body, KEYS.get, now)


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def refusal(signed, now=None):
    with pytest.raises(SignatureRefused) as refused:
        signed.verify(now)
    return refused.value.code


ALL_AUTHS = [SigV4Auth, S3SigV4Auth, SigV4QueryAuth, S3SigV4QueryAuth]
segments = st.lists(st.text(string.ascii_letters + " +é/%~*", max_size=8), max_size=4)
words = st.text(string.ascii_letters + string.digits + " +/=&é~*'", max_size=8)


@given(
    auth=st.sampled_from(ALL_AUTHS),
    credential=st.sampled_from([KNOWN, SESSION]),
    method=st.sampled_from(["GET", "PUT", "POST"]),
    path=segments,
    query=st.lists(st.tuples(words.filter(bool), words), max_size=3),
    body=st.binary(max_size=40),
)
@settings(max_examples=at_most(150))
def test_what_botocore_signs_is_verified(auth, credential, method, path, query, body):
    if auth in {SigV4QueryAuth, S3SigV4QueryAuth}:
        body = b""  # they would move a body into the query
    url = "https://h.example.com/" + "/".join(quote(each, safe="") for each in path)
    if query:
        url += "?" + "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query)

    assert Signed(auth, credential, method, url, body).verify() == credential


@pytest.mark.parametrize("auth", ALL_AUTHS)
def test_every_changed_character_of_a_signature_is_refused(auth):
    signed = Signed(auth)
    given = read_claim(signed.headers, signed.query).signature
    for at, old in enumerate(given):
        for new in {"0", "f", old.upper()} - {old}:
            changed = Signed(auth)
            forged = given[:at] + new + given[at + 1 :]
            changed.query = signed.query.replace(given, forged)
            changed.headers = {name: value.replace(given, forged) for name, value in signed.headers.items()}
            assert refusal(changed) == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("method", "PUT"),
        ("path", "/other"),
        ("query", "a=1"),
        ("body", b"other"),
        ("headers", {"host": "other"}),
        ("headers", {"x-amz-target": "added, not signed"}),
    ],
    ids=str,
)
def test_a_changed_request_is_refused(part, value):
    signed = Signed(SigV4Auth, body=b"Action=DescribeDBInstances")
    setattr(signed, part, signed.headers | value if part == "headers" else value)

    assert refusal(signed) == "SignatureDoesNotMatch"


def test_a_body_that_is_not_the_one_hashed_is_refused():
    signed = Signed(S3SigV4Auth, body=b"one")
    signed.body = b"two"

    assert refusal(signed) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("by", [timedelta(minutes=6), -timedelta(minutes=6)], ids=["too old", "too new"])
def test_a_clock_that_is_off_by_more_than_five_minutes_is_refused(by):
    assert refusal(Signed(SigV4Auth), now=datetime.now(UTC) + by) == "SignatureDoesNotMatch"


def test_a_presigned_request_is_good_as_long_as_it_says():
    signed = Signed(SigV4QueryAuth)

    assert signed.verify(datetime.now(UTC) + timedelta(minutes=50)) == KNOWN
    assert refusal(signed, datetime.now(UTC) + timedelta(minutes=61)) == "SignatureDoesNotMatch"


def test_a_key_that_nobody_has_is_an_invalid_token():
    assert refusal(Signed(SigV4Auth, replace(KNOWN, access_key="AKIDNOBODY"))) == "InvalidClientTokenId"


@pytest.mark.parametrize("auth", ALL_AUTHS)
@pytest.mark.parametrize("token", [None, "another"])
def test_a_missing_or_wrong_session_token_is_an_invalid_token(auth, token):
    assert refusal(Signed(auth, replace(SESSION, session_token=token))) == "InvalidClientTokenId"


def test_a_session_token_for_a_key_without_one_is_an_invalid_token():
    assert refusal(Signed(SigV4Auth, replace(KNOWN, session_token="extra"))) == "InvalidClientTokenId"


def test_expired_credentials_are_refused_as_such():
    assert refusal(Signed(SigV4Auth, SESSION), now=datetime.now(UTC) + timedelta(days=2)) == "ExpiredToken"


def test_an_unsigned_request_is_refused_as_such():
    signed = Signed(SigV4Auth)
    del signed.headers["authorization"]

    assert refusal(signed) == "MissingAuthenticationToken"


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic YWxpY2U6c2VjcmV0",
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/eu-west-1/rds/aws4_request",
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE, SignedHeaders=host, Signature=00",
        "AWS4-HMAC-SHA256 Credential=A/1/eu-west-1/rds/aws4_request, SignedHeaders=host, Signature=0, Signature=1",
    ],
)
def test_an_incomplete_signature_is_refused_as_such(authorization):
    signed = Signed(SigV4Auth)
    signed.headers["authorization"] = authorization

    assert refusal(signed) == "IncompleteSignature"


def test_no_secret_shows_in_a_repr():
    assert SESSION.secret_key not in repr(SESSION)
    assert str(SESSION.session_token) not in repr(SESSION)
