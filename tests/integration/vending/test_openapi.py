"""schemathesis: whatever it makes of docs/openapi.json, the API answers as the document says, with both authorizers."""

from collections.abc import Mapping
from typing import Any

import pytest
import requests
import schemathesis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from requests.auth import AuthBase
from schemathesis import engine
from schemathesis.config import SchemathesisConfig
from schemathesis.engine.events import NonFatalError, ScenarioFinished

from tests.integration.api_requests import GROUP
from tests.openapi import document

#: API Gateway has no 405: of a method without a route it says 404.
_UNKNOWN_METHODS = {"unsupported_method": {"enabled": False}}
#: To what nobody signed it says 403, where schemathesis insists on 401.
_UNSIGNED = {"missing_required_header": {"enabled": False}}


class Sigv4(AuthBase):
    """Signs as a role."""

    def __init__(self, keys: Mapping[str, str], region: str) -> None:
        self._keys = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
        self._region = region

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        signed = AWSRequest(request.method, request.url, data=request.body or b"")
        SigV4Auth(self._keys, "execute-api", self._region).add_auth(signed)
        request.headers.update(dict(signed.headers))
        return request


class Bearer(AuthBase):
    """Shows a JWT."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@pytest.mark.exhaustive
@pytest.mark.parametrize("authorizer", ["iam", "jwt"])
def test_the_api_is_as_it_is_described(account, place, issuer, authorizer):
    described = document()
    under = "/oidc/" if authorizer == "jwt" else "/"
    described["paths"] = {
        path: item for path, item in described["paths"].items() if path.startswith("/oidc/") == (under == "/oidc/")
    }
    # A request that gets a token is among those that are sent.
    shown = described["components"]["schemas"]["TokenRequest"]["properties"]
    shown["database"]["examples"] = ["tokens-postgres"]
    shown["endpoint"]["examples"] = ["writer"]
    shown["user"]["examples"] = ["app" if authorizer == "iam" else "web"]
    config = SchemathesisConfig.from_dict(
        {
            "base-url": account.cloud.api_url,
            "seed": 7,
            "continue-on-failure": True,
            "generation": {"max-examples": 10},
            "checks": _UNKNOWN_METHODS | (_UNSIGNED if authorizer == "iam" else {}),
        }
    )
    schema = schemathesis.openapi.from_dict(described, config=config)
    keys = account.assume(place["vended"])
    auth = Sigv4(keys, account.cloud.region) if authorizer == "iam" else Bearer(issuer.token(groups=[GROUP]))
    schema.auth.set_from_requests(auth)
    answered: set[tuple[str, int]] = set()
    failures: list[str] = []
    for event in engine.from_schema(schema).execute():
        if isinstance(event, NonFatalError):
            failures.append(str(event.info))
        elif isinstance(event, ScenarioFinished):
            recorder = event.recorder
            answered |= {
                (recorder.label, one.response.status_code) for one in recorder.interactions.values() if one.response
            }
            failures += [
                f"{recorder.label}: {check.name}: {check.failure_info.failure}\n{check.failure_info.code_sample}"
                for checks in recorder.checks.values()
                for check in checks
                if check.failure_info is not None
            ]
    assert failures == []
    assert {(f"POST {under}tokens", status) for status in (200, 400, 403)} <= answered
    assert {(f"GET {under}{name}", 200) for name in ("databases", "decisions")} <= answered


def test_a_wrong_document_would_be_found(account, place):
    """So that the test above can fail: a field that answers don't have."""
    described: dict[str, Any] = document()
    described["paths"] = {"/databases": described["paths"]["/databases"]}
    described["components"]["schemas"]["AllowedDatabases"]["required"] = ["databases", "owner"]
    schema = schemathesis.openapi.from_dict(described)
    case = schema["/databases"]["GET"].Case()
    auth = Sigv4(account.assume(place["vended"]), account.cloud.region)
    with pytest.raises(BaseExceptionGroup, match="failure"):
        case.call_and_validate(base_url=account.cloud.api_url, auth=auth)
