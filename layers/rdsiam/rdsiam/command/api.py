"""Client of the HTTP API: signs requests with the caller's credentials and checks answers."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from rdsiam.command.aws import Aws
from rdsiam.command.errors import CommandError, Denied, ExecutionFailed, NotFound, TryAgain, Usage
from rdsiam.tokens.endpoints import is_rds

_WRONG_ADDRESS = "see with rdsiam config whether this is the address in the stack's output ApiUrl"
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_FIELDS: Mapping[str, type] = {"token": str, "host": str, "port": int, "user": str, "engine": str, "database": str}


class Api:
    """The API at `url`, for one caller.

    :raises Usage: the address is not https: a token would cross the network in clear text.
    """

    def __init__(self, url: str, aws: Aws) -> None:
        place = urlsplit(url)
        if place.scheme != "https" and not (place.scheme == "http" and place.hostname in _LOCAL):
            raise Usage(f"{url}: not an address of an API", "the address must begin with https://")
        self._url = url.rstrip("/")
        self._aws = aws
        parts = (place.hostname or "").split(".")
        self._region = parts[2] if len(parts) > 3 and parts[1] == "execute-api" else None

    @property
    def region(self) -> str:
        """The region that requests are signed for: from the API's address, else the caller's."""
        return self._region or self._aws.region

    def token(self, database: str, user: str, reason: str | None) -> dict[str, Any]:
        """Return the answer of `POST /tokens`."""
        body = {"database": database, "user": user} | ({"reason": reason} if reason else {})
        answer = self._ask("POST", "/tokens", body)
        for name, kind in _FIELDS.items():
            if type(answer.get(name)) is not kind:
                raise ExecutionFailed(f"the API's answer has no {name}", _WRONG_ADDRESS)
        local = urlsplit(self._url).hostname in _LOCAL
        if not (is_rds(answer["host"]) or local):
            raise ExecutionFailed(f"the API names a host that is no RDS endpoint: {answer['host']}", _WRONG_ADDRESS)
        return answer

    def databases(self) -> list[dict[str, Any]]:
        """Return the databases that this caller may log in to: `identifier`, `arn`, `engine`, `users` of each."""
        listed = self._ask("GET", "/databases").get("databases")
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise ExecutionFailed("the API's answer has no list of databases", _WRONG_ADDRESS)
        return listed

    def decisions(self, criteria: Mapping[str, str], limit: int) -> tuple[list[dict[str, Any]], bool]:
        """Return past decisions, newest first, and whether there are more.

        :param criteria: parameters of `GET /decisions`.
        :param limit: maximum number over all pages.
        """
        decisions: list[dict[str, Any]] = []
        position: str | None = None
        while True:
            query = {
                **criteria,
                "limit": str(min(100, limit - len(decisions))),
                **({"before": position} if position else {}),
            }
            page = self._ask("GET", f"/decisions?{urlencode(query)}")
            listed, position = page.get("decisions"), page.get("next")
            if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
                raise ExecutionFailed("the API's answer has no list of decisions", _WRONG_ADDRESS)
            decisions += listed
            if position is None or len(decisions) >= limit:
                return decisions, position is not None

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        credentials, _ = self._aws.credentials()
        keys = BotoCredentials(credentials.access_key, credentials.secret_key, credentials.session_token)
        data = json.dumps(body) if body is not None else None
        request = AWSRequest(method, self._url + path, data=data, headers={"content-type": "application/json"})
        SigV4Auth(keys, "execute-api", self.region).add_auth(request)
        session = URLLib3Session(timeout=30, proxies=get_environ_proxies(self._url))
        try:
            response = session.send(request.prepare())
        except BotoCoreError as error:
            raise TryAgain(f"{self._url} can't be reached: {type(error).__name__}", _WRONG_ADDRESS) from None
        finally:
            session.close()
        try:
            answer = json.loads(response.content)
        except ValueError:
            answer = {}
        answer = answer if isinstance(answer, dict) else {}
        if response.status_code == 200:
            return answer
        raise _problem(response.status_code, f"{method} {path}", answer, dict(response.headers))


def _problem(status: int, request: str, answer: Mapping[str, Any], headers: Mapping[str, str]) -> CommandError:
    """Return the error for an answer other than 200; API Gateway's own answers have no `code`."""
    problem = f"{request}: {answer.get('detail') or answer.get('message') or status}"
    remedy = str(answer.get("hint") or "")
    if status in (401, 403) and not answer.get("code"):
        remedy = "your role needs execute-api:Invoke on this API, and valid credentials"
    if status == 429 or status >= 500:
        seconds = {name.lower(): value for name, value in headers.items()}.get("retry-after")
        remedy = f"try again in {seconds} s" if seconds else "try again"
    if answer.get("request_id"):
        problem += f" (request {answer['request_id']})"
    error = _kind(status)(problem, remedy)
    error.code = str(answer.get("code") or error.code)
    return error


def _kind(status: int) -> type[CommandError]:
    if status in (401, 403):
        return Denied
    if status == 404:
        return NotFound
    return TryAgain if status == 429 or status >= 500 else Usage
