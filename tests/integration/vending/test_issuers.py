"""Access tokens as issuers write them: through the authorizer, and as the function reads them."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from localcloud import client
from localcloud.client import RunningCloud
from tests.integration.issuer import Issuer

#: By issuer: what access.yaml names, the token's claims, its header.
TOKENS: dict[str, tuple[dict[str, str], dict[str, Any], dict[str, Any]]] = {
    "Keycloak before 25, with a nonce": (
        {"groups": "/oncall"},
        {"typ": "Bearer", "nonce": "n-0S6", "session_state": "s", "acr": "1", "groups": ["/oncall"]},
        {"typ": "JWT"},
    ),
    "Keycloak's roles": (
        {"realm_access.roles": "oncall"},
        {"realm_access": {"roles": ["oncall"]}},
        {"typ": "JWT"},
    ),
    "Keycloak's roles of a client": (
        {"resource_access.my.client.roles": "reader"},
        {"resource_access": {"my.client": {"roles": ["reader", "x"]}, "account": {"roles": ["view"]}}},
        {"typ": "JWT"},
    ),
    "Auth0's own claims": (
        {"https://example.com/roles": "oncall"},
        {"https://example.com/roles": ["oncall"], "aud": ["rdsiam", "https://t/userinfo"], "azp": "x"},
        {"typ": "JWT"},
    ),
    "Okta": (
        {"groups": "okta-oncall"},
        {"scope": None, "scp": ["rdsiam/tokens", "openid"], "groups": ["Everyone", "okta-oncall"], "ver": 1},
        {"typ": None},
    ),
    "a boolean": ({"email_verified": "true"}, {"email_verified": True}, {"typ": "JWT"}),
    "a number": ({"employee": "1234"}, {"employee": 1234}, {"typ": "JWT"}),
}
#: Tokens that only parameters admit.
COGNITO = {"aud": None, "client_id": "7a1b2c3d", "token_use": "access", "cognito:groups": ["oncall"]}
GITHUB = {"scope": None, "sub": "repo:o/r:environment:prod", "repository": "o/r", "environment": "prod"}


@pytest.fixture(scope="module")
def database(account) -> Iterator[str]:
    """Return the identifier of a database with a user for each token: `reader0` for the first, and so on."""
    identifier = "issuers-tokens"
    users = [
        {"name": f"reader{number}", "privileges": "readonly", "on": ["shop"], "callers": [{"claim": claim}]}
        for number, (claim, _, _) in enumerate(TOKENS.values())
    ]
    account.entries["issuers"] = {"match": {"identifier": identifier}, "users": users}
    account.publish_entries()
    arn = account.create(identifier, "postgres")
    account.wait(arn)
    assert account.onboard(arn)["status"] in {"onboarded", "unchanged"}
    account.start_afresh("VendFunction")  # it keeps access.yaml for a minute
    yield identifier
    del account.entries["issuers"]
    account.publish_entries()
    account.cloud.client("rds").delete_db_instance(DBInstanceIdentifier=identifier, SkipFinalSnapshot=True)


def ask(cloud: RunningCloud, issuer: Issuer, database: str, name: str, **changed: Any) -> requests.Response:
    """Ask for a token as the user whose claim the token of that issuer carries."""
    _, claims, header = TOKENS[name]
    return requests.post(
        f"{cloud.api_url}/oidc/tokens",
        json={"database": database, "user": f"reader{list(TOKENS).index(name)}"},
        headers={"authorization": f"Bearer {issuer.token(header, **(claims | changed))}"},
        timeout=30,
    )


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_that_carries_what_access_yaml_names_is_understood(account, database, issuer, name):
    answer = ask(account.cloud, issuer, database, name)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("Keycloak before 25, with a nonce", {"typ": "ID"}),
        ("Keycloak's roles", {"realm_access": {"roles": ["dev"]}, "roles": ["oncall"]}),
        ("Keycloak's roles", {"realm_access.roles": "none"}),
        ("Keycloak's roles of a client", {"resource_access": {"my": {"client": {"roles": ["x"]}}}}),
        ("a boolean", {"email_verified": False}),
        ("a number", {"employee": 12345}),
    ],
    ids=["an ID token", "another path", "a claim of the name", "another client", "false", "another number"],
)
def test_a_token_that_carries_something_else_is_refused(account, database, issuer, name, changed):
    assert ask(account.cloud, issuer, database, name, **changed).status_code == 403


@pytest.fixture(scope="module")
def lenient(tmp_path_factory, issuer) -> Iterator[RunningCloud]:
    """Return a cloud that takes tokens of a client of Cognito without an audience, and tokens without a scope."""
    log = tmp_path_factory.mktemp("lenient") / "cloud.log"
    given = (f"OidcIssuer={issuer.url}", "OidcScope=", "OidcClientIds=7a1b2c3d,other")
    with client.start(*(part for one in given for part in ("--parameter", one)), log=log) as running:
        text = "version: 1\ndatabases:\n  - {match: {identifier: none}, users: []}\n"
        running.client("s3").put_object(Bucket=running.outputs["AccessBucket"], Key="access.yaml", Body=text.encode())
        yield running


def listed(cloud: RunningCloud, issuer: Issuer, claims: dict[str, Any]) -> int:
    """Return the status of a list of databases, which is empty for every token that is accepted."""
    headers = {"authorization": f"Bearer {issuer.token({'typ': 'JWT'}, **claims)}"}
    return requests.get(f"{cloud.api_url}/oidc/databases", headers=headers, timeout=30).status_code


@pytest.mark.exhaustive
def test_parameters_admit_tokens_without_audience_or_scope_and_no_others(account, issuer, lenient):
    for claims in (COGNITO, GITHUB):
        assert listed(account.cloud, issuer, claims) in {401, 403}
        assert listed(lenient, issuer, claims) == 200
    assert listed(lenient, issuer, {}) == 200
    for claims in (
        COGNITO | {"client_id": "stranger"},
        COGNITO | {"token_use": "id"},
        COGNITO | {"aud": "7a1b2c3d"},
        GITHUB | {"aud": "sts.amazonaws.com"},
        GITHUB | {"nonce": "n"},
    ):
        assert listed(lenient, issuer, claims) in {401, 403}, claims
