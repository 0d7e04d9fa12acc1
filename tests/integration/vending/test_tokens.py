"""POST /tokens as callers use it: over HTTP, with SigV4, and real logins with what comes back."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.integration.account import Account
from tests.integration.api_requests import post


@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
@pytest.mark.parametrize("by", ["identifier", "arn"])
def test_a_declared_caller_logs_in_with_what_it_gets(account, place, engine, by):
    arn = place["arns"][engine]
    name = arn if by == "arn" else f"tokens-{engine}"
    answer = post(account, account.assume(place["vended"]), {"database": name, "user": "app"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    got = answer.json()
    keys = {"token", "host", "port", "user", "engine", "database", "issued_at", "expires_at", "ca_url"}
    assert set(got) == keys
    assert (got["user"], got["engine"], got["database"]) == ("app", engine, arn)
    account.connect(arn, "app", got["token"]).close()


def test_a_token_is_for_one_user_of_one_database(account, place):
    arns = place["arns"]
    token = post(account, account.assume(place["vended"]), {"database": arns["postgres"], "user": "app"}).json()[
        "token"
    ]
    assert account.refused(arns["postgres"], "oncall", token)
    assert account.refused(arns["postgres"], "rdsiam_manager", token)
    assert account.refused(arns["mariadb"], "app", token)


@pytest.mark.parametrize(
    ("who", "body"),
    [
        ("stranger", {"user": "app"}),
        ("signing", {"user": "app"}),
        ("vended", {"user": "app2"}),
        ("vended", {"user": "past"}),
        ("vended", {"user": "APP"}),
        ("vended", {"user": "boss"}),
        ("vended", {"user": "rdsiam_manager"}),
        ("vended", {"user": "rdsadmin"}),
        ("vended", {"user": "app", "database": "unknown"}),
        ("vended", {"user": "app", "database": "tokens-*"}),
        ("vended", {"user": "*"}),
        ("vended", {"user": "app", "database": "arn:aws:rds:us-west-2:123456789012:db:tokens-postgres"}),
    ],
    ids=str,
)
def test_all_others_get_the_same_refusal_and_a_record(account, place, who, body):
    before = len(records(account))
    answer = post(account, account.assume(place[who]), {"database": "tokens-postgres"} | body)
    assert answer.status_code == 403
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == "not-allowed"
    assert problem["detail"] == "access.yaml gives this caller no login as that user on that database"
    found = records(account)
    assert len(found) == before + 1
    assert found[-1]["outcome"] == "denied"


@pytest.mark.parametrize(
    ("who", "body", "code", "says"),
    [
        ("vended", {"user": "oncall"}, "reason-required", "access.yaml requires a reason for this login"),
        ("vended", {"user": "oncall", "reason": "   "}, "reason-required", "access.yaml requires a reason"),
        ("signing", {"user": "app2"}, "signs-itself", "access.yaml lets your role sign its own tokens"),
    ],
    ids=str,
)
def test_a_caller_whom_an_entry_names_is_told_what_to_do(account, place, who, body, code, says):
    before = len(records(account))
    answer = post(account, account.assume(place[who]), {"database": "tokens-postgres"} | body)
    assert (answer.status_code, answer.json()["code"]) == (403, code)
    assert answer.json()["detail"].startswith(says)
    assert [record["outcome"] for record in records(account)[before:]] == ["denied"]


def records(account: Account) -> list[dict[str, str]]:
    items = account.cloud.client("dynamodb").scan(TableName=account.cloud.outputs["DecisionsTable"])["Items"]
    found = [{name: value["S"] for name, value in item.items()} for item in items]
    return sorted(found, key=lambda item: item["id"])


def test_a_required_reason_is_recorded(account, place):
    credentials = account.assume(place["vended"])
    body = {"database": "tokens-postgres", "user": "oncall", "reason": "TICKET-7: locks"}
    assert post(account, credentials, body).status_code == 200
    found = [one for one in records(account) if one.get("reason") == "TICKET-7: locks"]
    assert [(one["outcome"], one["user"], one["session"]) for one in found] == [("allowed", "oncall", "test-session")]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("", 400, "malformed"),
        ("{", 400, "malformed"),
        ("[]", 400, "malformed"),
        ({"database": "tokens-postgres"}, 400, "malformed"),
        ({"database": "tokens-postgres", "user": 7}, 400, "malformed"),
        ({"database": "tokens-postgres", "user": "app", "host": "evil.example"}, 400, "malformed"),
        ({"database": "tokens-postgres", "user": "app", "reason": "x" * 5000}, 413, "too-large"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_malformed_request_is_refused_with_the_field(account, place, body, status, code):
    answer = post(account, account.assume(place["vended"]), body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "token" not in answer.json()


def test_a_request_without_a_valid_signature_never_reaches_the_function(account, place):
    body = {"database": "tokens-postgres", "user": "app"}
    credentials = account.assume(place["vended"])
    assert post(account, None, body).status_code == 403
    assert post(account, credentials | {"SecretAccessKey": "x" * 40}, body).status_code == 403
    assert post(account, credentials | {"SessionToken": "x" * 40}, body).status_code == 403
    tampered = post(account, credentials, body, data=json.dumps({"database": "tokens-postgres", "user": "oncall"}))
    assert tampered.status_code == 403


def test_forty_callers_at_once_all_get_tokens_and_records(account, place):
    credentials = account.assume(place["vended"])
    before = len(records(account))
    body = {"database": "tokens-postgres", "user": "app"}
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: post(account, credentials, body), range(40)))
    assert [answer.status_code for answer in answers] == [200] * 40
    made = records(account)[before:]
    assert len(made) == 40
    signatures = [answer.json()["token"].rpartition("X-Amz-Signature=")[2] for answer in answers]
    fingerprints = {hashlib.sha256(signature.encode()).hexdigest() for signature in signatures}
    assert {record["fingerprint"] for record in made} == fingerprints
    account.connect(place["arns"]["postgres"], "app", answers[-1].json()["token"]).close()


def test_headers_that_name_somebody_else_change_nothing(account, place):
    spoofed = {
        "x-amzn-iam-user-arn": place["vended"],
        "x-forwarded-for": "10.0.0.1",
        "x-rdsiam-caller": place["vended"],
    }
    answer = post(
        account, account.assume(place["stranger"]), {"database": "tokens-postgres", "user": "app"}, headers=spoofed
    )
    assert answer.status_code == 403


def test_other_routes_do_not_exist(account, place):
    assert requests.get(f"{account.cloud.api_url}/tokens", timeout=10).status_code in {403, 404}
    assert requests.post(f"{account.cloud.api_url}/tokens/../tokens/x", timeout=10).status_code in {403, 404}
