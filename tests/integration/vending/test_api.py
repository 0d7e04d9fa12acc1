"""GET /databases and GET /decisions, by IAM and by JWT: everybody sees one's own, auditors see all."""

import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.api_requests import GROUP, get, post

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def auditor(account, place) -> str:
    """Return a role that may see all decisions."""
    role: str = account.make_role("api-auditor")
    account.let_call_the_api(role)
    account.auditors.append({"role": role})
    account.publish_entries()
    account.start_afresh("ReportsFunction")
    account.start_afresh("VendFunction")
    assert get(account, account.assume(role), "/decisions?caller=x").status_code == 200
    return role


def with_jwt(account, issuer, path, **claims) -> requests.Response:
    token = issuer.token(**claims)
    return requests.get(account.cloud.api_url + path, headers={"authorization": f"Bearer {token}"}, timeout=30)


def ours(answer: requests.Response) -> list[dict[str, Any]]:
    """Return what is listed of this fixture's databases: others may be declared for the same callers."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return [one for one in answer.json()["databases"] if one["identifier"].startswith("tokens-")]


def test_a_role_sees_the_logins_that_access_yaml_gives_it(account, place):
    listed = ours(get(account, account.assume(place["vended"]), "/databases"))
    addresses = {
        engine: (endpoint["Address"], endpoint["Port"])
        for engine, arn in place["arns"].items()
        for endpoint in [account.describe(arn)["Endpoint"]]
    }
    assert listed == [
        {
            "identifier": f"tokens-{engine}",
            "arn": place["arns"][engine],
            "engine": engine,
            "users": ["app", "oncall"],
            "host": addresses[engine][0],
            "port": addresses[engine][1],
            "endpoints": [
                {"name": "writer", "kind": "writer", "host": addresses[engine][0], "port": addresses[engine][1]}
            ],
        }
        for engine in ("mariadb", "postgres")
    ]


def test_a_jwt_sees_the_logins_that_its_claims_allow(account, place, issuer):
    listed = ours(with_jwt(account, issuer, "/oidc/databases", groups=[GROUP]))
    assert [(one["identifier"], one["users"]) for one in listed] == [
        ("tokens-mariadb", ["web"]),
        ("tokens-postgres", ["web"]),
    ]
    assert ours(with_jwt(account, issuer, "/oidc/databases", groups=["payments", "oncall"])) == []


@pytest.mark.parametrize("who", ["signing", "stranger"])
def test_a_caller_that_may_have_no_token_sees_no_database(account, place, who):
    assert ours(get(account, account.assume(place[who]), "/databases")) == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/databases?all=1", 400),
        ("/decisions?limit=0", 400),
        ("/decisions?limit=101", 400),
        ("/decisions?limit=1&limit=2", 400),
        ("/decisions?since=yesterday", 400),
        ("/decisions?since=2026-02-31T00:00:00Z", 400),
        ("/decisions?since=2026-02-01T00:00:00", 400),
        ("/decisions?before=x", 400),
        ("/decisions?database=", 400),
        ("/decisions?user=app", 400),
        ("/decisions?caller=arn:aws:iam::123456789012:role/tokens-vended", 403),
        ("/audits", 403),
        ("/openapi.json?x=1", 400),
    ],
)
def test_other_questions_are_refused(account, place, path, status):
    answer = get(account, account.assume(place["stranger"]), path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert {"code", "detail", "hint", "request_id"} <= set(answer.json())


def test_everybody_sees_the_decisions_of_ones_own_session(account, place):
    mine = account.cloud.client("sts").assume_role(RoleArn=place["vended"], RoleSessionName="api-mine")["Credentials"]
    other = account.cloud.client("sts").assume_role(RoleArn=place["vended"], RoleSessionName="api-other")["Credentials"]
    asked = [post(account, keys, {"database": "tokens-postgres", "user": user}) for keys, user in
             [(mine, "app"), (mine, "boss"), (other, "app")]]  # fmt: skip
    assert [answer.status_code for answer in asked] == [200, 403, 200]
    assert post(account, mine, "[").status_code == 400
    seen = get(account, mine, "/decisions").json()
    assert [(one["outcome"], one.get("user")) for one in seen["decisions"]] == [
        ("malformed", ""),
        ("denied", "boss"),
        ("allowed", "app"),
    ]
    assert seen["next"] is None
    allowed = seen["decisions"][-1]
    assert (allowed["caller"], allowed["session"]) == (place["vended"], "api-mine")
    assert allowed["source_identity"].startswith("tokens-vended-")
    assert allowed["database"] == place["arns"]["postgres"]
    assert allowed["rule"].endswith(".callers[0]")
    assert re.fullmatch("[0-9a-f]{64}", allowed["fingerprint"])
    assert allowed["expires_at"] == asked[0].json()["expires_at"]
    assert asked[0].json()["token"] not in json.dumps(seen)
    assert "X-Amz" not in json.dumps(seen)


def test_a_jwts_holder_sees_its_own(account, place, issuer):
    subject = f"api-{uuid.uuid4().hex}"
    headers = {"authorization": f"Bearer {issuer.token(sub=subject, groups=[GROUP])}"}
    body = {"database": "tokens-mariadb", "user": "web"}
    assert requests.post(account.cloud.api_url + "/oidc/tokens", json=body, headers=headers, timeout=30).ok
    seen = with_jwt(account, issuer, "/oidc/decisions", sub=subject).json()["decisions"]
    assert [(one["caller"], one["outcome"]) for one in seen] == [(f"{issuer.url}#{subject}", "allowed")]
    assert with_jwt(account, issuer, "/oidc/decisions", sub=f"{subject}2").json()["decisions"] == []


def test_auditors_see_all_page_by_page_each_once_and_newest_first(account, place, auditor):
    table = account.cloud.outputs["DecisionsTable"]
    pages = account.cloud.client("dynamodb").get_paginator("scan").paginate(TableName=table)
    before = {item["id"]["S"] for page in pages for item in page["Items"] if "day" in item}
    keys, found, following = account.assume(auditor), [], ""
    while following is not None:
        page = get(account, keys, f"/decisions?limit=7{following and f'&before={following}'}").json()
        assert len(page["decisions"]) <= 7
        found += [one["id"] for one in page["decisions"]]
        following = page["next"]
    assert found == sorted(set(found), reverse=True)
    assert before <= set(found)


def test_auditors_choose_by_database_caller_and_time(account, place, auditor):
    keys = account.assume(auditor)
    assert post(account, account.assume(place["vended"]), {"database": "tokens-mariadb", "user": "app"}).ok

    def ask(query: str) -> list[dict[str, str]]:
        answer = get(account, keys, f"/decisions?{query}")
        assert answer.status_code == 200, answer.text
        listed: list[dict[str, str]] = answer.json()["decisions"]
        return listed

    of_database = ask("database=tokens-mariadb")
    assert {one["database"] for one in of_database} == {place["arns"]["mariadb"]}
    assert ask(f"database={place['arns']['mariadb']}") == of_database
    both = ask(f"database=tokens-mariadb&caller={place['vended']}")
    assert {(one["database"], one["caller"]) for one in both} == {(place["arns"]["mariadb"], place["vended"])}
    assert ask(f"caller={place['vended']}&until=2020-01-01T00:00:00Z") == []
    assert ask("since=2020-01-01T00:00:00%2B01:00&until=2020-02-01T00:00:00Z") == []
    assert ask("since=2030-01-01T00:00:00Z") == []


def test_the_api_describes_itself(account, place):
    answer = get(account, account.assume(place["stranger"]), "/openapi.json")
    assert answer.json() == json.loads((ROOT / "docs" / "openapi.json").read_text())


# --- rdsiam ls, rdsiam decisions ---


def test_ls_lists_the_logins_of_the_caller(account, place):
    done = account.rdsiam("ls", credentials=account.assume(place["vended"]))
    assert done.returncode == 0, done.stderr
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["DATABASE", "ENGINE", "USERS", "PORT", "ENDPOINT", "ARN"]
    assert [row.split()[:2] for row in rows if row.startswith("tokens-")] == [
        ["tokens-mariadb", "mariadb"],
        ["tokens-postgres", "postgres"],
    ]


def test_decisions_of_ones_own_and_of_others(account, place, auditor):
    keys = account.cloud.client("sts").assume_role(RoleArn=place["vended"], RoleSessionName="api-cli")["Credentials"]
    assert post(account, keys, {"database": "tokens-postgres", "user": "app"}).ok
    done = account.rdsiam("decisions", "--output", "json", credentials=keys)
    assert done.returncode == 0, done.stderr
    assert [(one["user"], one["session"]) for one in json.loads(done.stdout)] == [("app", "api-cli")]
    assert account.rdsiam("decisions", "--caller", place["signing"], credentials=keys).returncode == 4
    of_all = account.rdsiam(
        "decisions", "--database", "tokens-postgres", "--limit", "2", credentials=account.assume(auditor)
    )
    assert of_all.returncode == 0, of_all.stderr
    assert len(of_all.stdout.splitlines()) == 3
    assert "there are more" in of_all.stderr
    assert account.rdsiam("decisions", "--since", "soon", credentials=keys).returncode == 2
