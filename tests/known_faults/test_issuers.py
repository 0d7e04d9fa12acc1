"""Access tokens as issuers write them."""

from typing import Any

import pytest
import requests

#: By what it is: what access.yaml names, the token's claims, its header.
TOKENS: dict[str, tuple[dict[str, str], dict[str, Any], dict[str, Any]]] = {
    "Auth0's claims that are addresses": (
        {"https://example.com/roles": "oncall"},
        {"https://example.com/roles": ["oncall"], "aud": ["rdsiam", "https://t/userinfo"], "azp": "x"},
        {"typ": "JWT"},
    ),
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


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.known_fault("case 20", "access tokens as issuers write them (issue 14 C)")
def test_a_token_that_carries_what_access_yaml_names_is_understood(account, place, issuer, name):
    claim, claims, header = TOKENS[name]
    database = place["arns"]["postgres"].rpartition(":")[2]
    reader = {"name": "reader", "privileges": "readonly", "on": ["shop"], "callers": [{"claim": claim}]}
    account.entries["faults"] = {"match": {"identifier": database}, "users": [reader]}
    try:
        account.publish_entries()
        assert account.onboard(place["arns"]["postgres"])["status"] in {"onboarded", "unchanged"}
        answer = requests.post(
            f"{account.cloud.api_url}/oidc/tokens",
            json={"database": database, "user": "reader"},
            headers={"authorization": f"Bearer {issuer.token(header, **claims)}"},
            timeout=30,
        )
    finally:
        del account.entries["faults"]
        account.publish_entries()
    assert answer.status_code == 200, answer.text
