"""Databases whose users are vended, and callers of POST /tokens."""

import json
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.integration.fix_account import Account

#: A group that a JWT's claim `groups` names.
GROUP = "payments oncall"


@pytest.fixture(scope="session")
def place(account) -> dict[str, Any]:
    """A database of each engine with one user that is vended to one role."""
    vended, signing, stranger = (account.make_role(f"tokens-{name}") for name in ("vended", "signing", "stranger"))
    for role in (vended, signing, stranger):
        account.let_call_the_api(role)
    arns = {}
    for engine in ("postgres", "mariadb"):
        account.declare(
            f"tokens-{engine}",
            {"name": "app", "privileges": "readonly", "on": ["shop"], "callers": [{"role": vended}]},
            {"name": "app2", "privileges": "readonly", "on": ["shop"], "roles": [signing]},
            {
                "name": "oncall",
                "privileges": "owner",
                "on": ["shop"],
                "callers": [{"role": vended, "reason": "required", "until": "2099-01-01T00:00:00Z"}],
            },
            {
                "name": "past",
                "privileges": "owner",
                "on": ["shop"],
                "callers": [{"role": vended, "until": "2020-01-01T00:00:00Z"}],
            },
            # The group's name has a space, which API Gateway's own claims lose.
            {"name": "web", "privileges": "readonly", "on": ["shop"], "callers": [{"claim": {"groups": GROUP}}]},
        )
        arns[engine] = account.create(f"tokens-{engine}", engine)
    for arn in arns.values():
        account.wait_onboarded(arn, 90)
    return {"vended": vended, "signing": signing, "stranger": stranger, "arns": arns}


def get(account: Account, credentials: Any, path: str) -> requests.Response:
    """Send a GET, signed by the credentials. What API Gateway would encode before it compares is encoded here."""
    path, _, query = path.partition("?")
    encoded = urlencode(parse_qsl(query, keep_blank_values=True))
    request = AWSRequest("GET", account.cloud.api_url + path + (f"?{encoded}" if query else ""))
    keys = Credentials(credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
    SigV4Auth(keys, "execute-api", account.cloud.region).add_auth(request)
    return requests.get(request.url, headers=dict(request.headers), timeout=30)


def post(account: Account, credentials: Any, body: Any, **changes: Any) -> requests.Response:
    """Send the request, signed by the credentials; unsigned without any."""
    data = body if isinstance(body, str) else json.dumps(body)
    request = AWSRequest(
        "POST", f"{account.cloud.api_url}/tokens", data=data, headers={"content-type": "application/json"}
    )
    if credentials:
        keys = Credentials(credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
        SigV4Auth(keys, "execute-api", account.cloud.region).add_auth(request)
    sent = changes.get("data", data)
    return requests.post(request.url, data=sent, headers=dict(request.headers) | changes.get("headers", {}), timeout=30)
