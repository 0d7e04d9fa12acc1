"""A login token made by boto3 is good for exactly the login it was made for."""

from __future__ import annotations

import logging
import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import boto3
import pytest

from localcloud.core.sigv4 import Credential
from localcloud.databases.token_verifier import LoginRefused, Reason, TokenVerifier

ACCOUNT, REGION = "123456789012", "eu-west-1"
USER_KEY = Credential("AKIDEXAMPLE", "secret", f"arn:aws:iam::{ACCOUNT}:user/alice", ACCOUNT)
SESSION = replace(
    USER_KEY, access_key="ASIAEXAMPLE", session_token="FwoG/+=Zz", expires=datetime.now(UTC) + timedelta(days=1)
)
KEYS = {known.access_key: known for known in (USER_KEY, SESSION)}
LOGIN: dict[str, Any] = {
    "endpoints": [("localhost", 5432)],
    "user": "app",
    "resource_id": "db-ABC",
    "account": ACCOUNT,
    "tls": True,
}


def token(credential=SESSION, host="localhost", port=5432, user="app", region=REGION):
    return client(credential, region).generate_db_auth_token(host, port, user)


@cache
def client(credential, region):
    session = boto3.Session(credential.access_key, credential.secret_key, credential.session_token, region)
    return session.client("rds")


class FakeJudge:
    def __init__(self, allows=True):
        self.allows, self.asked = allows, []

    def __call__(self, *question):
        self.asked.append(question)
        return self.allows


def verify(text, judge=None, now=None, **login):
    clock = (lambda: now) if now else (lambda: datetime.now(UTC))
    TokenVerifier(KEYS.get, judge or FakeJudge(), REGION, clock).verify(text, **LOGIN | login)


def reason(text, **arguments):
    with pytest.raises(LoginRefused) as refused:
        verify(text, **arguments)
    return refused.value.reason


@pytest.mark.parametrize("credential", KEYS.values(), ids=["user", "session"])
def test_a_token_made_by_boto3_is_good(credential):
    verify(token(credential))


def test_the_judge_is_asked_for_exactly_this_user_on_this_database():
    judge = FakeJudge()

    verify(token(user="näme"), judge, user="näme")

    resource = f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:db-ABC/näme"
    assert judge.asked == [(SESSION, "rds-db:connect", resource, ACCOUNT)]


def test_every_changed_character_of_a_token_is_refused():
    good = token()
    for at, old in enumerate(good):
        for new in {"a", "0", "%", "&", "Z", old.swapcase()} - {old}:
            reason(good[:at] + new + good[at + 1 :])


def test_every_missing_or_doubled_character_of_a_token_is_refused():
    good = token()
    for at, character in enumerate(good):
        reason(good[:at] + good[at + 1 :])
        reason(good[:at] + character + good[at:])


def test_a_login_without_tls_is_refused_first():
    assert reason("anything", tls=False) is Reason.NO_TLS


@pytest.mark.parametrize(
    "change",
    [
        ("Action=connect", "Action=other"),
        ("Action=connect&", ""),
        ("Action=connect&", "Action=connect&Action=connect&"),
        ("Action=connect&", "Action=connect&More=1&"),
        ("rds-db", "rds"),
        ("X-Amz-Expires=900", "X-Amz-Expires=901"),
        ("X-Amz-Expires=900", "X-Amz-Expires=0"),
        ("X-Amz-Expires=900", "X-Amz-Expires=+90"),
        ("SignedHeaders=host", "SignedHeaders=host%3Bx"),
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"),
        ("DBUser=app", "DBUser=*"),
        ("DBUser=app", "DBUser=%2A"),
        ("%2F", "%2f"),
        ("%2F", "/"),
        ("localhost:", "https://localhost:"),
        ("/?", "?"),
    ],
    ids=" → ".join,
)
def test_a_token_of_another_shape_is_malformed(change):
    assert reason(token().replace(*change)) is Reason.MALFORMED


@pytest.mark.parametrize("text", ["", "password", "a" * 100_000, "\0", "é/?é=é", "h:1/?" + "&" * 50])
def test_what_is_no_token_is_malformed(text):
    assert reason(text) is Reason.MALFORMED


@pytest.mark.parametrize("other", [{"host": "127.0.0.1"}, {"port": 5433}], ids=["host", "port"])
def test_a_token_for_another_endpoint_is_refused(other):
    assert reason(token(**other)) is Reason.WRONG_ENDPOINT


def test_a_server_takes_tokens_for_each_of_its_endpoints():
    endpoints = [("localhost", 5433), ("127.0.0.2", 5432)]
    verify(token(host="127.0.0.2"), endpoints=endpoints)
    verify(token(port=5433), endpoints=endpoints)
    assert reason(token(), endpoints=endpoints) is Reason.WRONG_ENDPOINT
    assert reason(token(), endpoints=[]) is Reason.WRONG_ENDPOINT


@pytest.mark.parametrize("user", ["other", "App", "appp"])
def test_a_token_for_another_user_is_refused(user):
    assert reason(token(user=user)) is Reason.WRONG_USER


def test_a_token_for_another_region_is_refused():
    assert reason(token(region="eu-west-2")) is Reason.WRONG_REGION


def test_a_key_that_nobody_has_is_refused():
    assert reason(token(replace(USER_KEY, access_key="AKIDNOBODY"))) is Reason.UNKNOWN_KEY


@pytest.mark.parametrize(
    "credential",
    [replace(SESSION, session_token=None), replace(SESSION, session_token="x"), replace(USER_KEY, session_token="x")],
    ids=["missing", "wrong", "extra"],
)
def test_a_wrong_session_token_is_refused(credential):
    assert reason(token(credential)) is Reason.WRONG_SESSION_TOKEN


def test_credentials_that_expired_make_a_token_worthless_before_its_time():
    assert reason(token(), now=SESSION.expires) is Reason.CREDENTIALS_EXPIRED


def test_a_token_is_good_for_fifteen_minutes():
    text, now = token(), datetime.now(UTC)

    verify(text, now=now + timedelta(minutes=14, seconds=58))
    assert reason(text, now=now + timedelta(minutes=15, seconds=2)) is Reason.TOO_OLD


def test_a_token_from_the_future_is_refused():
    text, now = token(), datetime.now(UTC)

    verify(text, now=now - timedelta(minutes=4, seconds=58))
    assert reason(text, now=now - timedelta(minutes=5, seconds=2)) is Reason.NOT_YET_VALID


def test_a_token_signed_with_another_secret_is_refused():
    assert reason(token(replace(SESSION, secret_key="guess"))) is Reason.WRONG_SIGNATURE


def test_a_login_without_permission_to_connect_is_refused():
    assert reason(token(), judge=FakeJudge(allows=False)) is Reason.NOT_ALLOWED


def test_what_can_not_be_judged_is_refused():
    def broken(*_):
        raise RuntimeError("no answer")

    assert reason(token(), judge=broken) is Reason.UNJUDGED


def test_the_log_says_why_and_never_shows_the_token(caplog):
    text = token(replace(SESSION, secret_key="guess"))  # before: boto3 itself logs signatures when it debugs
    caplog.set_level(logging.DEBUG)

    reason(text)

    assert Reason.WRONG_SIGNATURE.value in caplog.text
    signature = text.rpartition("=")[2]
    assert signature not in caplog.text
    assert set(signature) <= set(string.hexdigits)
