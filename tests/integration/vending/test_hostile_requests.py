"""Requests that nobody means well with: each is refused, none gets a token, none makes anything fail.

Those with another function's credentials are in test_attacks.py.
"""

import base64
import gzip
import hmac
import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.integration.account import Account
from tests.integration.api_requests import GROUP
from tests.integration.issuer import Issuer

GOOD = {"database": "tokens-postgres", "user": "app"}
WEB = {"database": "tokens-postgres", "user": "web"}
ARN = "arn:aws:rds:eu-central-1:123456789012:db:tokens-postgres"


@dataclass
class Hostile:
    """Sends requests byte by byte as they are; whoever signs one may do anything but what it asks for."""

    account: Account
    issuer: Issuer
    roles: Mapping[str, Any]

    def send(self, path: str, data: bytes, headers: list[tuple[str, str]]) -> tuple[int, str]:
        """Return status and body of the answer."""
        connection = http.client.HTTPConnection(urlsplit(self.account.cloud.api_url).netloc, timeout=30)
        connection.putrequest("POST", path)
        for name, value in headers:
            connection.putheader(name, value)
        connection.putheader("content-length", str(len(data)))
        connection.endheaders(data)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    def iam(
        self,
        body: Any = GOOD,
        who: str = "vended",
        path: str = "/tokens",
        headers: Mapping[str, str] | None = None,
        service: str = "execute-api",
        region: str | None = None,
        keys: Mapping[str, Any] | None = None,
        change: Callable[[dict[str, str]], Any] = lambda _: None,
        sent: bytes | None = None,
    ) -> tuple[int, str]:
        """Send a signed request; `change` changes headers and `sent` the body after the signature was made."""
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        given = self.account.assume(self.roles[who]) if keys is None else keys
        request = AWSRequest("POST", self.account.cloud.api_url + path, data=data, headers=dict(headers or {}))
        credentials = Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
        SigV4Auth(credentials, service, region or self.account.cloud.region).add_auth(request)
        whole = dict(request.headers)
        change(whole)
        return self.send(path, data if sent is None else sent, list(whole.items()))

    def jwt(
        self,
        token: str | None = None,
        body: Any = WEB,
        path: str = "/oidc/tokens",
        header: Mapping[str, Any] | None = None,
        key: Any = None,
        headers: list[tuple[str, str]] | None = None,
        **claims: Any,
    ) -> tuple[int, str]:
        """Send a request with a token, which is good but for what is said."""
        if token is None:
            token = self.issuer.token(dict(header or {}), key, **({"groups": [GROUP]} | claims))
        given = [("Authorization", f"Bearer {token}")] if headers is None else headers
        return self.send(path, json.dumps(body).encode(), given)


@pytest.fixture(scope="module")
def hostile(account, place, issuer) -> Hostile:
    roles = {name: place[name] for name in ("vended", "signing", "stranger")}
    roles["vended2"] = account.make_role("tokens-vended2")
    account.let_call_the_api(roles["vended2"])
    roles["mute"] = account.make_role("tokens-mute")
    return Hostile(account, issuer, roles)


def part(data: Any) -> str:
    text = data if isinstance(data, str) else json.dumps(data)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def of_none(h: Hostile, alg: str) -> str:
    claims = h.issuer.claims(groups=[GROUP])
    return f"{part({'alg': alg, 'kid': 'one', 'typ': 'at+jwt'})}.{part(claims)}."


def by_public_key(h: Hostile) -> str:
    """Sign with the public key as the secret of an HMAC: who trusts `alg` is deceived."""
    signed = f"{part({'alg': 'HS256', 'kid': 'one', 'typ': 'at+jwt'})}.{part(h.issuer.claims(groups=[GROUP]))}"
    signature = hmac.digest(h.issuer.key.as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def without(name: str) -> Callable[[dict[str, str]], Any]:
    return lambda headers: headers.pop(next(one for one in headers if one.lower() == name))


def spoil(name: str, value: str) -> Callable[[dict[str, str]], Any]:
    return lambda headers: headers.update({name: value})


def asked(**changed: Any) -> Callable[[Hostile], tuple[int, str]]:
    return lambda h: h.iam(GOOD | changed)


#: What is sent, and what it is answered with.
REQUESTS: dict[str, tuple[int, Callable[[Hostile], tuple[int, str]]]] = {
    # --- Who asks, by IAM ---
    "not signed": (403, lambda h: h.send("/tokens", json.dumps(GOOD).encode(), [])),
    "signed with another secret": (
        403,
        lambda h: h.iam(keys=h.account.assume(h.roles["vended"]) | {"SecretAccessKey": "x" * 40}),
    ),
    "another session's token": (
        403,
        lambda h: h.iam(
            keys=h.account.assume(h.roles["vended"])
            | {"SessionToken": h.account.assume(h.roles["stranger"])["SessionToken"]}
        ),
    ),
    "no session token": (403, lambda h: h.iam(change=without("x-amz-security-token"))),
    "no date": (403, lambda h: h.iam(change=without("x-amz-date"))),
    "another date": (403, lambda h: h.iam(change=spoil("X-Amz-Date", "20200101T000000Z"))),
    "signed for another service": (403, lambda h: h.iam(service="sts")),
    "signed for another region": (403, lambda h: h.iam(region="us-east-1")),
    "another body than was signed": (403, lambda h: h.iam(WEB, sent=json.dumps(GOOD).encode())),
    "a role that may not call the API": (403, lambda h: h.iam(who="mute")),
    "a role that nobody declared": (403, lambda h: h.iam(who="stranger")),
    "a role whose name begins alike": (403, lambda h: h.iam(who="vended2")),
    "a role that signs for another user": (403, lambda h: h.iam(who="signing")),
    "a session called as a declared role": (
        403,
        lambda h: h.iam(
            keys=h.account.cloud.client("sts").assume_role(
                RoleArn=h.roles["stranger"], RoleSessionName="tokens-vended"
            )["Credentials"]
        ),
    ),
    "an administrator who is no role": (403, lambda h: h.iam(keys=h.account.administrator())),
    "a header that names another caller": (
        403,
        lambda h: h.iam(who="stranger", headers={"x-rdsiam-caller": h.roles["vended"], "x-forwarded-user": "ann"}),
    ),
    "a JWT where IAM is asked for": (403, lambda h: h.jwt(path="/tokens", body=GOOD)),
    # --- Which database, which user ---
    "a database that is not there": (403, asked(database="unknown")),
    "databases by a wildcard": (403, asked(database="tokens-*")),
    "another region's": (403, asked(database=ARN.replace("eu-central-1", "us-west-2"))),
    "another account's": (403, asked(database=ARN.replace("123456789012", "999999999999"))),
    "an ARN that goes on": (403, asked(database=f"{ARN}:x")),
    "an ARN of no service": (403, asked(database="arn:")),
    "a path": (403, asked(database="../tokens-postgres")),
    "an expression": (403, asked(database="' OR '1'='1'".replace(" ", "+"))),
    "a user in upper case": (403, asked(user="APP")),
    "users by a wildcard": (403, asked(user="*")),
    "a user by one": (403, asked(user="ap?")),
    "a path to a user": (403, asked(user="web/../app")),
    "the manager": (403, asked(user="rdsiam_manager")),
    "the auditor": (403, asked(user="rdsiam_auditor")),
    "RDS's own": (403, asked(user="rdsadmin")),
    "the master": (403, asked(user="boss")),
    "another role's user": (403, asked(user="app2")),
    "a user whose time has passed": (403, asked(user="past")),
    "no reason": (403, asked(user="oncall")),
    "a blank reason": (403, asked(user="oncall", reason="   ")),
    "a database of nothing": (400, asked(database="")),
    "a database with a space": (400, asked(database="tokens-postgres ")),
    "a database with a NUL": (400, asked(database="tokens-postgres\0")),
    "a database with a line's end": (400, asked(database="tokens-postgres\n")),
    "a letter that looks alike": (400, asked(database="tokens-p\u043estgres")),
    "256 characters": (400, asked(database="a" * 256)),
    "a number for a database": (400, asked(database=7)),
    "null for a database": (400, asked(database=None)),
    "a list of databases": (400, asked(database=["tokens-postgres"])),
    "an object for a user": (400, asked(user={"name": "app"})),
    "true for a user": (400, asked(user=True)),
    "a user with a NUL": (400, asked(user="app\0")),
    "a user with wide letters": (400, asked(user="\uff41\uff50\uff50")),
    "a reason of 501 characters": (400, asked(reason="x" * 501)),
    "a reason that turns the text around": (400, asked(reason="a\u202eb")),
    "a reason with an escape": (400, asked(reason="a\u001b[2Jb")),
    "a reason with half a character": (400, lambda h: h.iam('{"database": "d", "user": "u", "reason": "\\ud800"}')),
    # --- Bodies ---
    "no body": (400, lambda h: h.iam("")),
    "half an object": (400, lambda h: h.iam('{"database": "tokens-postgres", "user": "app"')),
    "a list": (400, lambda h: h.iam([GOOD])),
    "null": (400, lambda h: h.iam("null")),
    "a text": (400, lambda h: h.iam(json.dumps(json.dumps(GOOD)))),
    "two objects": (400, lambda h: h.iam(json.dumps(GOOD) * 2)),
    "a user twice": (400, lambda h: h.iam('{"database": "tokens-postgres", "user": "app2", "user": "app"}')),
    "a role of one's own": (400, lambda h: h.iam(GOOD | {"role": "x"}, who="stranger")),
    "a host of one's own": (400, asked(host="evil.example")),
    "a time of one's own": (400, asked(until="2099-01-01T00:00:00Z")),
    "a prototype": (400, asked(__proto__={"user": "boss"})),
    "a field without a name": (400, lambda h: h.iam(GOOD | {"": 1})),
    "not a number": (400, asked(user=float("nan"))),
    "a number of 4,000 digits": (400, lambda h: h.iam('{"database": ' + "9" * 4000 + "}")),
    "4,000 lists": (400, lambda h: h.iam("[" * 4000)),
    "5,000 bytes": (413, asked(reason="x" * 5000)),
    "a megabyte": (413, lambda h: h.iam(b" " * 2**20)),
    "a byte order mark": (400, lambda h: h.iam(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())),
    "UTF-32": (400, lambda h: h.iam(json.dumps(GOOD).encode("utf-32"))),
    "no UTF at all": (400, lambda h: h.iam(b'{"database": "\xff\xfe", "user": "app"}')),
    "compressed": (400, lambda h: h.iam(gzip.compress(json.dumps(GOOD).encode()))),
    "a form": (400, lambda h: h.iam("database=tokens-postgres&user=app")),
    "XML": (400, lambda h: h.iam('<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>')),
    # --- Where ---
    "another method by a header": (403, lambda h: h.iam(asked_as_get(h), who="stranger")),
    "a path that goes on": (404, lambda h: h.iam(path="/tokens/x")),
    "a path that goes round": (404, lambda h: h.iam(path="/x/../tokens")),
    "a path in upper case": (404, lambda h: h.iam(path="/TOKENS")),
    "a path of another stage": (404, lambda h: h.iam(path="/prod/tokens")),
    # --- JWTs ---
    "no JWT": (401, lambda h: h.jwt(headers=[])),
    "IAM where a JWT is asked for": (401, lambda h: h.iam(WEB, path="/oidc/tokens")),
    "an empty JWT": (401, lambda h: h.jwt("")),
    "two thirds of one": (401, lambda h: h.jwt(h.issuer.token(groups=[GROUP]).rpartition(".")[0])),
    "one without its signature": (401, lambda h: h.jwt(h.issuer.token(groups=[GROUP]).rpartition(".")[0] + ".")),
    "alg none": (401, lambda h: h.jwt(of_none(h, "none"))),
    "alg nOnE": (401, lambda h: h.jwt(of_none(h, "nOnE"))),
    "the public key as a secret": (401, lambda h: h.jwt(by_public_key(h))),
    "another's key": (401, lambda h: h.jwt(key=h.issuer.other_key)),
    "no key named": (401, lambda h: h.jwt(header={"kid": None})),
    "a key that is not there": (401, lambda h: h.jwt(header={"kid": "two"})),
    "a key that is a path": (401, lambda h: h.jwt(header={"kid": "../../dev/null"})),
    "claims changed after signing": (401, lambda h: h.jwt(changed_after_signing(h))),
    "expired": (401, lambda h: h.jwt(exp=int(time.time()) - 1)),
    "without an end": (401, lambda h: h.jwt(exp=None)),
    "an end that is a word": (401, lambda h: h.jwt(exp="never")),
    "not yet valid": (401, lambda h: h.jwt(nbf=int(time.time()) + 600)),
    "issued tomorrow": (401, lambda h: h.jwt(iat=int(time.time()) + 86400)),
    "another issuer": (401, lambda h: h.jwt(iss="https://evil.example")),
    "an issuer with a slash": (401, lambda h: h.jwt(iss=f"{h.issuer.url}/")),
    "no issuer": (401, lambda h: h.jwt(iss=None)),
    "another audience": (401, lambda h: h.jwt(aud="other")),
    "an audience that begins alike": (401, lambda h: h.jwt(aud="rdsiam2")),
    "audiences in one text": (401, lambda h: h.jwt(aud="rdsiam other")),
    "audiences one by one, none of them right": (401, lambda h: h.jwt(aud=["other", "rdsiam other"])),
    "no audience": (401, lambda h: h.jwt(aud=None)),
    "a client for an audience": (403, lambda h: h.jwt(aud=None, client_id="rdsiam")),
    "no scope": (403, lambda h: h.jwt(scope=None)),
    "another scope": (403, lambda h: h.jwt(scope="openid")),
    "a scope that begins alike": (403, lambda h: h.jwt(scope="rdsiam/tokens2")),
    "an ID token of Cognito": (403, lambda h: h.jwt(token_use="id")),
    "an ID token": (403, lambda h: h.jwt(nonce="n")),
    "an ID token with its hash": (403, lambda h: h.jwt(at_hash="h")),
    "a logout token": (403, lambda h: h.jwt(header={"typ": "logout+jwt"})),
    "nobody": (403, lambda h: h.jwt(sub=None)),
    "a number for a subject": (403, lambda h: h.jwt(sub=7)),
    "a member twice": (403, lambda h: h.jwt(h.issuer.sign(json.dumps(h.issuer.claims())[:-1] + ', "sub": "bob"}'))),
    "no group": (403, lambda h: h.jwt(groups=None)),
    "two groups that read as one": (403, lambda h: h.jwt(groups=["payments", "oncall"])),
    "a group with brackets": (403, lambda h: h.jwt(groups=f"[{GROUP}]")),
    "groups with a comma": (403, lambda h: h.jwt(groups=f"{GROUP},other")),
    "a group in upper case": (403, lambda h: h.jwt(groups=[GROUP.upper()])),
    "a group within a group": (403, lambda h: h.jwt(groups=[[GROUP]])),
    "groups as an object": (403, lambda h: h.jwt(groups={GROUP: True})),
    "another claim of that value": (403, lambda h: h.jwt(groups=None, roles=[GROUP])),
    "a role as a claim": (403, lambda h: h.jwt(body=GOOD, role=h.roles["vended"], sub=h.roles["vended"])),
    "a user that is not for JWTs": (403, lambda h: h.jwt(body=GOOD)),
    "two Authorization headers": (401, lambda h: h.jwt(headers=[("Authorization", f"Bearer {t}") for t in two(h)])),
    "a JWT in the query": (
        401,
        lambda h: h.jwt(path=f"/oidc/tokens?access_token={h.issuer.token(groups=[GROUP])}", headers=[]),
    ),
    "a malformed body with a good JWT": (400, lambda h: h.jwt(body=[WEB])),
}


def asked_as_get(_: Hostile) -> dict[str, str]:
    return GOOD


def two(h: Hostile) -> list[str]:
    return [h.issuer.token(groups=[GROUP]), h.issuer.token(groups=[GROUP])]


def changed_after_signing(h: Hostile) -> str:
    header, _, signature = h.issuer.token(groups=[]).split(".")
    return f"{header}.{part(h.issuer.claims(groups=[GROUP]))}.{signature}"


def test_there_are_sixty_hostile_requests_or_more():
    assert len(REQUESTS) >= 60


def test_the_same_requests_done_well_get_tokens(hostile):
    assert hostile.iam()[0] == 200
    status, body = hostile.jwt()
    assert status == 200
    hostile.account.connect(ARN, "web", json.loads(body)["token"]).close()


@pytest.mark.parametrize("name", REQUESTS)
def test_a_hostile_request_is_refused_without_a_token(hostile, name):
    expected, request = REQUESTS[name]
    status, body = request(hostile)
    assert status == expected, body
    answer = json.loads(body)
    assert set(answer) in ({"message"}, {"title", "status", "code", "detail", "hint", "request_id"})
    assert "X-Amz-Signature" not in body


def test_all_that_reached_the_function_is_on_record(hostile):
    """Written before the answer: what is refused as well, and what nobody could read."""
    table = hostile.account.cloud.outputs["DecisionsTable"]
    dynamodb = hostile.account.cloud.client("dynamodb")
    for name in ("a list", "a megabyte", "an ID token", "a database that is not there"):
        status, body = REQUESTS[name][1](hostile)
        pages = dynamodb.get_paginator("scan").paginate(TableName=table)
        items = [item for page in pages for item in page["Items"]]
        found = [one for one in items if one["request_id"]["S"] == json.loads(body)["request_id"]]
        assert len(found) == 1, name
        assert found[0]["outcome"]["S"] == ("malformed" if status in (400, 413) else "denied")
        assert found[0]["rule"]["S"]
        assert "fingerprint" not in found[0]
