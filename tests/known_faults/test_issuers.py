"""Access tokens as issuers write them."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests

#: By what it is: what access.yaml names, the token's claims, its header.
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
    "Cognito, without aud": (
        {"cognito:groups": "oncall"},
        {"aud": None, "client_id": "rdsiam", "token_use": "access", "cognito:groups": ["oncall"]},
        {"typ": None},
    ),
    "GitHub Actions, without a scope": (
        {"repository": "o/r"},
        {"scope": None, "sub": "repo:o/r:environment:prod", "repository": "o/r", "environment": "prod"},
        {"typ": "JWT"},
    ),
    "a boolean": ({"email_verified": "true"}, {"email_verified": True}, {"typ": "JWT"}),
}


@pytest.fixture(scope="module")
def database(account) -> Iterator[str]:
    """Return the identifier of a database with a user for each token: `reader0` for the first, and so on."""
    identifier = "faults-tokens"
    users = [
        {"name": f"reader{number}", "privileges": "readonly", "on": ["shop"], "callers": [{"claim": claim}]}
        for number, (claim, _, _) in enumerate(TOKENS.values())
    ]
    account.entries["faults"] = {"match": {"identifier": identifier}, "users": users}
    account.publish_entries()
    arn = account.create(identifier, "postgres")
    account.wait(arn)
    assert account.onboard(arn)["status"] in {"onboarded", "unchanged"}
    yield identifier
    del account.entries["faults"]
    account.publish_entries()
    account.cloud.client("rds").delete_db_instance(DBInstanceIdentifier=identifier, SkipFinalSnapshot=True)


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.known_fault("case 20", "access tokens as issuers write them (issue 14 C)")
def test_a_token_that_carries_what_access_yaml_names_is_understood(account, database, issuer, name):
    _, claims, header = TOKENS[name]
    answer = requests.post(
        f"{account.cloud.api_url}/oidc/tokens",
        json={"database": database, "user": f"reader{list(TOKENS).index(name)}"},
        headers={"authorization": f"Bearer {issuer.token(header, **claims)}"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
