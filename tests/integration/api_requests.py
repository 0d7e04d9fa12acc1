"""Databases whose users are vended, and callers of POST /tokens."""

import json
from typing import Any
from urllib.parse import parse_qsl, urlencode

import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.integration.account import Account

#: A group that a JWT's claim `groups` names.
GROUP = "payments oncall"


def get(account: Account, credentials: Any, path: str) -> requests.Response:
    """Send a GET, signed by the credentials. What API Gateway would encode before it compares is encoded here."""
    path, _, query = path.partition("?")
    encoded = urlencode(parse_qsl(query, keep_blank_values=True))
    request = AWSRequest("GET", account.cloud.api_url + path + (f"?{encoded}" if query else ""))
    keys = Credentials(credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
    SigV4Auth(keys, "execute-api", account.cloud.region).add_auth(request)
    return requests.get(str(request.url), headers=dict(request.headers), timeout=30)


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
    headers = dict(request.headers) | changes.get("headers", {})
    return requests.post(str(request.url), data=sent, headers=headers, timeout=30)
