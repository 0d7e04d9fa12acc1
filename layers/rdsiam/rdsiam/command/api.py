"""The HTTP API as the command asks it: requests signed with the caller's credentials, answers checked."""

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
from rdsiam.command.errors import Denied, ExecutionFailed, NotFound, TryAgain, Usage
from rdsiam.tokens.endpoints import is_rds

_LOCAL = {"localhost", "127.0.0.1", "::1"}
_FIELDS: Mapping[str, type] = {"token": str, "host": str, "port": int, "user": str, "engine": str, "database": str}


class Api:
    """The API at `url`, asked by one caller.

    :raises Usage: the address is not https: a token would cross the network in clear.
    """

    def __init__(self, url: str, aws: Aws) -> None:
        place = urlsplit(url)
        if place.scheme != "https" and not (place.scheme == "http" and place.hostname in _LOCAL):
            raise Usage(f"the API's address must begin with https://, not {url}")
        self._url = url.rstrip("/")
        self._aws = aws
        parts = (place.hostname or "").split(".")
        self._region = parts[2] if len(parts) > 3 and parts[1] == "execute-api" else None

    @property
    def region(self) -> str:
        """The region that requests are signed for: the one that the API's address names, else the caller's."""
        return self._region or self._aws.region

    def token(self, database: str, user: str, reason: str | None) -> dict[str, Any]:
        """Return the answer of `POST /tokens`."""
        body = {"database": database, "user": user} | ({"reason": reason} if reason else {})
        answer = self._ask("POST", "/tokens", body)
        for name, kind in _FIELDS.items():
            if type(answer.get(name)) is not kind:
                raise ExecutionFailed(f"the API's answer has no {name}")
        local = urlsplit(self._url).hostname in _LOCAL
        if not (is_rds(answer["host"]) or local):
            raise ExecutionFailed(f"the API names a host that is no RDS endpoint: {answer['host']}")
        return answer

    def databases(self) -> list[dict[str, Any]]:
        """Return what this caller may log in to: `identifier`, `arn`, `engine`, `users` of each."""
        listed = self._ask("GET", "/databases").get("databases")
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise ExecutionFailed("the API's answer has no list of databases")
        return listed

    def decisions(self, wanted: Mapping[str, str], most: int) -> tuple[list[dict[str, Any]], bool]:
        """Return past decisions, newest first, and whether there are more.

        :param wanted: parameters of `GET /decisions`.
        :param most: how many at most, over all pages.
        """
        found: list[dict[str, Any]] = []
        following: str | None = None
        while True:
            query = {
                **wanted,
                "limit": str(min(100, most - len(found))),
                **({"before": following} if following else {}),
            }
            page = self._ask("GET", f"/decisions?{urlencode(query)}")
            listed, following = page.get("decisions"), page.get("next")
            if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
                raise ExecutionFailed("the API's answer has no list of decisions")
            found += listed
            if following is None or len(found) >= most:
                return found, following is not None

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
            why = type(error).__name__
            raise TryAgain(f"{self._url} can't be reached: {why}; is it the address of ApiUrl?") from None
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


def _problem(status: int, what: str, answer: Mapping[str, Any], headers: Mapping[str, str]) -> Exception:
    """Return the error that a refusal stands for; what API Gateway itself refuses has no `code`."""
    parts = [f"{what}: {answer.get('detail') or answer.get('message') or status}"]
    parts += [str(answer["hint"])] if answer.get("hint") else []
    parts += [f"request {answer['request_id']}"] if answer.get("request_id") else []
    if status in (401, 403):
        if not answer.get("code"):
            parts.append("your role needs execute-api:Invoke on this API, and credentials that have not ended")
        return Denied("; ".join(parts))
    if status == 404:
        return NotFound("; ".join(parts))
    if status == 429 or status >= 500:
        after = {name.lower(): value for name, value in headers.items()}.get("retry-after")
        return TryAgain("; ".join([*parts, f"try again in {after} s" if after else "try again"]))
    return Usage("; ".join(parts))
