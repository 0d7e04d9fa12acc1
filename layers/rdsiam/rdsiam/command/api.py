"""Client of the HTTP API: signs requests with the caller's credentials and checks answers."""

import json
import re
import socket
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.credentials import Credentials as BotoCredentials
from botocore.exceptions import BotoCoreError, ProxyConnectionError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from rdsiam.command import waiting
from rdsiam.command.aws import RENEW, Aws, translate_errors
from rdsiam.command.errors import (
    CommandError,
    CredentialsExpired,
    Denied,
    ExecutionFailed,
    NotFound,
    TryAgain,
    Usage,
)
from rdsiam.errors import RdsiamError
from rdsiam.tokens.endpoints import is_rds

#: Code of a denial that is the same for everyone that no entry names.
NOT_ALLOWED = "not-allowed"
ASSUME_A_ROLE = "assume a role that access.yaml names, for example with a profile that has role_arn"
_WRONG_ADDRESS = "see with rdsiam config whether this is the address in the stack's output ApiUrl"
#: Seconds to connect, and for an answer; botocore's types know only the latter.
_TIMEOUT: Any = (waiting.SECONDS, 30)
#: For a proxy, whose clients wait for an answer.
_LASTING_TIMEOUT: Any = (waiting.SECONDS, 10)
#: Connections that are kept: more than the proxy has threads for calls.
_KEPT = 32
_LOCAL = {"localhost", "127.0.0.1", "::1"}
#: API Gateway's words for expired credentials.
_EXPIRED = re.compile(r"security token included in the request is expired|ExpiredToken", re.IGNORECASE)
#: Code of a problem → what to do, in terms of the command. The hints of the API's answers are for programs.
_REMEDIES: Mapping[str, str] = {
    "malformed": "correct it and try again",
    "no-such-endpoint": "rdsiam ls --endpoints shows the endpoints that you may log in to",
    "not-found": "correct the id; without one, rdsiam report shows the newest audit",
    "reason-required": 'give one: --reason "TICKET-12: stuck orders"',
    "signs-itself": "add --local: your own credentials sign the token",
    "too-large": "give a shorter --reason",
    "unavailable": "try again",
    "user-revoked": "ask an operator, who sees the reason with rdsiam doctor",
}
#: Remedies for a denial that is the same for everyone: of a login, of decisions, of audits.
_NO_LOGIN = "rdsiam ls shows what you may log in to; ask a publisher of access.yaml for an entry"
_NOT_AN_AUDITOR = "only auditors of access.yaml read audits; ask a publisher of access.yaml for an entry"
_NOT_YOURS = "leave --caller out to see your own decisions; only auditors of access.yaml see those of others"
_FIELDS: Mapping[str, type] = {"token": str, "host": str, "port": int, "user": str, "engine": str, "database": str}
#: A token goes into a variable and a shell, a host to programs that take several or a directory in its place.
_TOKEN = re.compile(r"[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9.])?")
_CODE = re.compile(r"[a-z]+(-[a-z]+)*")


class Api:
    """The API at `url`, for one caller.

    :param lasting: connections are kept for further requests, and slow answers are not reported: for a command that
        runs for days.
    :raises Usage: the address is not https: a token would cross the network in clear text.
    """

    def __init__(self, url: str, aws: Aws, lasting: bool = False) -> None:
        try:
            place = urlsplit(url)
            place.port  # noqa: B018  reading it checks it
        except ValueError as error:
            raise Usage(f"{url}: not an address of an API ({error})", "the address must begin with https://") from None
        if place.scheme != "https" and not (place.scheme == "http" and place.hostname in _LOCAL):
            raise Usage(f"{url}: not an address of an API", "the address must begin with https://")
        self._url = url.rstrip("/")
        self._aws = aws
        self._session = _session(self._url, _LASTING_TIMEOUT) if lasting else None
        parts = (place.hostname or "").split(".")
        self._region = parts[2] if len(parts) > 3 and parts[1] == "execute-api" else None

    @property
    def region(self) -> str:
        """The region that requests are signed for: from the API's address, else the caller's."""
        return self._region or self._aws.region

    def token(self, database: str, user: str, reason: str | None, endpoint: str | None = None) -> dict[str, Any]:
        """Return a token and its endpoint, if access.yaml allows the caller to log in.

        :param endpoint: name or host name; None for the writer's.
        :raises NotFound: the database has no such endpoint.
        :raises Denied: it doesn't; the code says why if an entry names the caller.
        """
        body = {"database": database, "user": user} | ({"reason": reason} if reason else {})
        body |= {"endpoint": endpoint} if endpoint else {}
        try:
            answer = self._ask("POST", "/tokens", f"{user} on {database}", body)
        except Denied as error:
            raise self._explained(error) from None
        for name, kind in _FIELDS.items():
            if type(answer.get(name)) is not kind:
                raise ExecutionFailed(f"the API's answer has no {name}", _WRONG_ADDRESS)
        if not _TOKEN.fullmatch(answer["token"]) or not _is_port(answer["port"]):
            raise ExecutionFailed("the API's answer has no token and port that can be used", _WRONG_ADDRESS)
        if not self.may_name(answer["host"]):
            raise ExecutionFailed(f"the API names a host that is no RDS endpoint: {answer['host']}", _WRONG_ADDRESS)
        return answer

    def may_name(self, host: str) -> bool:
        """Tell whether a host in an answer may be a database's: an endpoint of RDS, or any host of a local API."""
        local = urlsplit(self._url).hostname in _LOCAL and _HOST.fullmatch(host) is not None
        return is_rds(host) or local

    def databases(self) -> list[dict[str, Any]]:
        """Return the databases that this caller may log in to: `identifier`, `arn`, `engine`, `users`, `endpoints`."""
        listed = self._ask("GET", "/databases", "list of your databases").get("databases")
        if not isinstance(listed, list) or not all(_is_database(entry) for entry in listed):
            raise ExecutionFailed("the API's answer has no list of databases", _WRONG_ADDRESS)
        return listed

    def decisions(self, criteria: Mapping[str, str], limit: int) -> tuple[list[dict[str, Any]], bool]:
        """Return past decisions, newest first, and whether there are more.

        :param criteria: parameters of the API.
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
            page = self._ask("GET", f"/decisions?{urlencode(query)}", "list of decisions", denied=_NOT_YOURS)
            listed, position = page.get("decisions"), page.get("next")
            if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
                raise ExecutionFailed("the API's answer has no list of decisions", _WRONG_ADDRESS)
            decisions += listed
            if position is None or len(decisions) >= limit:
                return decisions, position is not None

    def audits(self, limit: int) -> list[dict[str, Any]]:
        """Return finished audits, newest first."""
        listed = self._ask("GET", f"/audits?limit={limit}", "list of audits", denied=_NOT_AN_AUDITOR).get("audits")
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise ExecutionFailed("the API's answer has no list of audits", _WRONG_ADDRESS)
        return listed

    def audit(self, audit: str) -> dict[str, Any]:
        """Return a finished audit with `links` to its reports."""
        answer = self._ask("GET", f"/audits/{quote(audit, safe='')}", f"audit {audit}", denied=_NOT_AN_AUDITOR)
        if answer.get("id") != audit or not isinstance(answer.get("links"), dict):
            raise ExecutionFailed(f"the API's answer is not about audit {audit}", _WRONG_ADDRESS)
        return answer

    def fetch(self, link: str) -> bytes:
        """Return what a link leads to, without credentials of the caller."""
        place = urlsplit(link)
        if place.scheme != "https" and not (place.scheme == "http" and place.hostname in _LOCAL):
            raise ExecutionFailed("the API's answer has no link to this report", _WRONG_ADDRESS)
        response = self._send(AWSRequest("GET", link), f"{place.scheme}://{place.netloc}")
        if response.status_code != 200:
            raise TryAgain(f"{place.netloc}: the report can't be fetched: {response.status_code}", "try again")
        return bytes(response.content)

    def without_role(self) -> str:
        """Return why this caller can't ask, if it has no role; empty if it has one, or if STS doesn't say."""
        try:
            with translate_errors():
                arn = str(self._aws.client("sts").get_caller_identity()["Arn"])
        except RdsiamError:
            return ""  # the answer of the API says enough
        if ":assumed-role/" in arn:
            return ""
        return f"you are {arn}, which is no role: IAM users and the root user can't ask"

    def _explained(self, error: Denied) -> Denied:
        """Return a denial that names the cause if the caller has no role."""
        if error.code != NOT_ALLOWED or not (cause := self.without_role()):
            return error
        denied = Denied(f"{error.problem}; {cause}", ASSUME_A_ROLE)
        denied.code = error.code
        return denied

    def _send(self, request: AWSRequest, endpoint: str) -> AWSResponse:
        session = self._session or _session(endpoint, _TIMEOUT)
        try:
            with nullcontext() if self._session else waiting.report(endpoint):
                return session.send(request.prepare())
        except ProxyConnectionError:
            proxy = "the proxy of HTTP_PROXY and HTTPS_PROXY"
            raise TryAgain(
                f"{endpoint} can't be reached through {proxy}", "correct them, or exempt the host with NO_PROXY"
            ) from None
        except BotoCoreError as error:
            raise TryAgain(f"{endpoint} can't be reached: {type(error).__name__}", _WRONG_ADDRESS) from None
        finally:
            if session is not self._session:
                session.close()

    def _ask(
        self, method: str, path: str, subject: str, body: Mapping[str, Any] | None = None, denied: str = _NO_LOGIN
    ) -> dict[str, Any]:
        """Return the answer of the API.

        :param subject: names the request in errors, in terms of the command.
        :param denied: remedy for a denial that has no code of its own.
        """
        credentials, _ = self._aws.credentials()
        keys = BotoCredentials(credentials.access_key, credentials.secret_key, credentials.session_token)
        data = json.dumps(body) if body is not None else None
        request = AWSRequest(method, self._url + path, data=data, headers={"content-type": "application/json"})
        SigV4Auth(keys, "execute-api", self.region).add_auth(request)
        response = self._send(request, self._url)
        try:
            answer = json.loads(response.content)
        except (ValueError, RecursionError):  # RecursionError: thousands of brackets
            answer = {}
        answer = answer if isinstance(answer, dict) else {}
        if response.status_code == 200:
            return answer
        remedies = {**_REMEDIES, NOT_ALLOWED: denied}
        raise _problem(response.status_code, f"{subject}: ", answer, dict(response.headers), remedies)


def _session(endpoint: str, timeout: Any) -> URLLib3Session:
    # Without the option, a request's body waits until its headers are acknowledged, which takes 40 ms.
    options: Any = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    return URLLib3Session(
        timeout=timeout,
        proxies=get_environ_proxies(endpoint),
        socket_options=options,
        max_pool_connections=_KEPT,
    )


def _is_port(value: object) -> bool:
    return type(value) is int and 1 <= value <= 65535


def _is_database(entry: object) -> bool:
    """Tell whether an element of the list of databases has the fields that commands use."""
    if not isinstance(entry, dict):
        return False
    users, port = entry.get("users"), entry.get("port")
    return (
        all(isinstance(entry.get(name), str) for name in ("identifier", "arn"))
        and isinstance(users, list)
        and all(isinstance(user, str) for user in users)
        and all(isinstance(entry.get(name, ""), str | None) for name in ("engine", "host"))
        and (port is None or _is_port(port))
        and isinstance(entry.get("endpoints", []), list)
        and all(_is_endpoint(endpoint) for endpoint in entry.get("endpoints", []))
    )


def _is_endpoint(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    return all(isinstance(entry.get(name), str) for name in ("name", "kind", "host")) and _is_port(entry.get("port"))


def _problem(
    status: int, subject: str, answer: Mapping[str, Any], headers: Mapping[str, str], remedies: Mapping[str, str]
) -> CommandError:
    """Return the error for an answer other than 200; API Gateway's own answers have no `code`."""
    if 300 <= status < 400:  # a signature is valid for one address
        return ExecutionFailed(f"{subject}the API answers {status}, a redirect", _WRONG_ADDRESS)
    problem = f"{subject}{answer.get('detail') or answer.get('message') or status}"
    code = str(answer.get("code") or "")
    code = code if _CODE.fullmatch(code) else ""
    remedy = remedies.get(code) or str(answer.get("hint") or "")
    if status in (401, 403) and not code:
        if _EXPIRED.search(problem):
            return CredentialsExpired(problem, RENEW)
        remedy = f"your role needs execute-api:Invoke on this API; if your credentials may have expired, {RENEW}"
    if status == 429 or status >= 500:
        seconds = {name.lower(): value for name, value in headers.items()}.get("retry-after")
        remedy = f"try again in {seconds} s" if seconds and seconds.isdecimal() else "try again"
    if answer.get("request_id"):
        problem += f" (request {answer['request_id']})"
    error = _kind(status)(problem, remedy)
    error.code = code or error.code
    return error


def _kind(status: int) -> type[CommandError]:
    if status in (401, 403):
        return Denied
    if status == 404:
        return NotFound
    return TryAgain if status == 429 or status >= 500 else Usage
