"""Requests to the HTTP API: who asks is what the authorizer says; everything else is checked field by field."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.api import http
from rdsiam.errors import InvalidRequest

EVENT = json.loads((Path(__file__).parents[3] / "events" / "tokens-post.json").read_text())


def test_a_request_has_a_database_a_user_and_perhaps_a_reason():
    assert http.token_request(EVENT) == http.TokenRequest("orders-1", "app_service", "")
    assert http.token_request(EVENT).endpoint == "writer"
    body = base64.b64encode(b'{"database": "d", "user": "u", "reason": " why "}').decode()
    assert http.token_request({"body": body, "isBase64Encoded": True}) == http.TokenRequest("d", "u", "why")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("", "body"),
        ("canary", "body"),
        ("[]", "body"),
        ("{}", "database"),
        ('{"database": "d"}', "user"),
        ('{"database": "d", "user": 7}', "user"),
        ('{"database": "d", "user": ""}', "user"),
        ('{"database": "d", "user": "a b"}', "user"),
        ('{"database": "d", "user": "u", "user": "canary"}', "body"),
        ('{"database": "d", "user": "u", "role": "canary"}', "role"),
        ('{"database": "d", "user": "u", "canary!": 1}', "body"),
        ('{"database": "d", "user": "u", "reason": ["canary"]}', "reason"),
        ('{"database": "d", "user": "u", "reason": "a\\u0000b"}', "reason"),
        ("[" * 4000, "body"),
        ("x" * 5000, "body"),
        ('{"database": "d", "user": "ü"}', "user"),
        ('{"database": "d", "user": "u", "endpoint": ""}', "endpoint"),
        ('{"database": "d", "user": "u", "endpoint": null}', "endpoint"),
        ('{"database": "d", "user": "u", "endpoint": ["canary"]}', "endpoint"),
        ('{"database": "d", "user": "u", "endpoint": "canary\\n"}', "endpoint"),
        ('{"database": "d", "user": "u", "endpoint": "http://canary/"}', "endpoint"),
        ('{"database": "d", "user": "u", "endpoint": "-canary"}', "endpoint"),
    ],
    ids=lambda value: value[:60],
)
def test_malformed_bodies_are_refused_with_the_field_and_without_the_value(body, field):
    with pytest.raises(InvalidRequest) as refused:
        http.token_request({"body": body})
    assert refused.value.field == field
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("name", ["reader", "READER", "orders-2", "orders.cluster-ro-x.eu-west-1.rds.amazonaws.com."])
def test_a_request_may_name_an_endpoint(name):
    body = json.dumps({"database": "d", "user": "u", "endpoint": name})
    assert http.token_request({"body": body}) == http.TokenRequest("d", "u", "", name.lower())


def test_a_large_body_has_an_error_of_its_own():
    with pytest.raises(http.TooLarge):
        http.token_request({"body": "x" * (http.MAX_BODY + 1)})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
def test_a_body_is_utf_8_and_nothing_else(encoding):
    body = base64.b64encode('{"database": "d", "user": "u"}'.encode(encoding)).decode()
    with pytest.raises(InvalidRequest):
        http.token_request({"body": body, "isBase64Encoded": True})


@given(st.text(), st.booleans())
def test_any_body_is_understood_or_refused(body, encoded):
    try:
        http.token_request({"body": body, "isBase64Encoded": encoded})
    except InvalidRequest as error:
        assert error.field  # noqa: PT017


def test_no_answer_may_be_cached():
    for answer in (http.answer({}), http.problem("not-allowed", "no", "id")):
        assert answer["headers"]["cache-control"] == "no-store"


def test_errors_are_problems_with_a_stable_code_and_the_request_id():
    answer = http.problem("unavailable", "later", "request-1")
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert answer["headers"]["retry-after"] == "5"
    assert json.loads(answer["body"])["request_id"] == "request-1"


def test_the_denial_of_everyone_that_no_entry_names_stays_byte_for_byte():
    detail = "access.yaml gives this caller no login as that user on that database"
    answer = http.problem("not-allowed", detail, "request-1")
    assert answer["statusCode"] == 403
    assert answer["headers"] == {"content-type": "application/problem+json", "cache-control": "no-store"}
    assert answer["body"] == (
        '{"title": "Not allowed", "status": 403, "code": "not-allowed", "detail": "access.yaml gives this caller no '
        'login as that user on that database", "hint": "GET /databases lists the databases and users that you may log '
        'in to; access.yaml decides", "request_id": "request-1"}'
    )
