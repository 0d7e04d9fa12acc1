"""The HTTP API: API Gateway's routes and authorizers, and its payload format 2.0, in front of the functions."""

from __future__ import annotations

import base64
import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from localcloud.core import sigv4
from localcloud.core.sigv4 import Credential, SignatureRefused
from localcloud.core.web import HttpServer, Request, Response
from localcloud.iam.permissions import CallDenied
from localcloud.lambda_.emulators import Outcome
from localcloud.lambda_.functions import LambdaError
from localcloud.lambda_.jwt_authorizer import JwtAuthorizer, JwtRefused, ScopeMissing
from localcloud.lambda_.routes import API_ID, Jwt, Route

logger = logging.getLogger(__name__)

LARGEST_BODY = 10 * 1024 * 1024
#: Raise CallDenied if a caller may not invoke the ARN of a route, or API Gateway may not invoke a function for it.
CheckCaller = Callable[[Credential, str], None]
CheckGateway = Callable[[str, str], None]


class HttpApi:
    """Serves the routes of a template at an address of its own.

    :param secret_of: returns the credential of an access key, None for an unknown or inactive one.
    :param invoke: invokes a function by its ARN.
    :param user_id: returns the unique id of a credential's user or session, as STS writes it.
    """

    def __init__(
        self,
        region: str,
        account: str,
        secret_of: Callable[[str], Credential | None],
        invoke: Callable[[str, bytes], Outcome],
        user_id: Callable[[Credential], str],
        check_caller: CheckCaller,
        check_gateway: CheckGateway,
    ) -> None:
        self._region = region
        self._account = account
        self._secret_of = secret_of
        self._invoke = invoke
        self._user_id = user_id
        self._check_caller = check_caller
        self._check_gateway = check_gateway
        self._jwt = JwtAuthorizer()
        self._routes: tuple[tuple[Route, re.Pattern[str]], ...] = ()
        self.server = HttpServer(self.handle, largest_body=LARGEST_BODY)

    def deploy(self, routes: Iterable[Route]) -> None:
        """Serve these routes from now on."""
        self._routes = tuple((route, _pattern(route.path)) for route in routes)

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        route_match = self._find(request)
        if route_match is None:
            return _message(404, "Not Found")
        route, parameters = route_match
        try:
            authorizer = self._by_iam(request) if route.jwt is None else self._by_jwt(request, route.jwt)
        except (CallDenied, ScopeMissing):
            return _message(403, "Forbidden")
        except SignatureRefused as refused:
            logger.info("request refused: %s %s %s", request.method, route.path, refused.code)
            return _message(403, "Forbidden")
        except JwtRefused as refused:
            logger.info("request refused: %s %s %s", request.method, route.path, refused)
            return _message(401, "Unauthorized", ("www-authenticate", f'Bearer scope="" error="{refused}"'))
        event = self._event(request, route, parameters, authorizer)
        try:
            self._check_gateway(route.function, f"{API_ID}/$default/{route.method}{route.path}")
            outcome = self._invoke(route.function, json.dumps(event).encode())
        except CallDenied as denied:
            logger.error("request not answered: %s", denied)
            return _message(500, _FAILED)
        except LambdaError as error:
            logger.warning("request not answered: %s %s %s", request.method, route.path, error.code)
            return _message(503, "Service Unavailable") if error.status == 429 else _message(500, _FAILED)
        if outcome.failed:
            return _message(500, _FAILED)
        try:
            return _response(json.loads(outcome.payload))
        except (ValueError, TypeError, AttributeError) as error:
            logger.warning("malformed answer of a function: %s %s %s", request.method, route.path, type(error).__name__)
            return _message(500, _FAILED)

    def _find(self, request: Request) -> tuple[Route, dict[str, str]] | None:
        for route, pattern in self._routes:
            match = pattern.fullmatch(request.path)
            if match and route.method in ("ANY", request.method):
                return route, {key: unquote(value) for key, value in match.groupdict().items()}
        return None

    def _by_iam(self, request: Request) -> dict[str, Any]:
        """Return `requestContext.authorizer` of the request's signer.

        :raises SignatureRefused: the request has no valid signature.
        :raises CallDenied: the signer may not call this route.
        """
        caller = self._authorize(request)
        self._check_caller(caller, f"{API_ID}/$default/{request.method}{unquote(request.path)}")
        user_id = self._user_id(caller)
        return {
            "iam": {
                "accessKey": caller.access_key,
                "accountId": caller.account,
                "callerId": user_id,
                "cognitoIdentity": None,
                "principalOrgId": None,
                "userArn": caller.principal_arn,
                "userId": user_id,
            }
        }

    def _by_jwt(self, request: Request, jwt: Jwt) -> dict[str, Any]:
        """Return `requestContext.authorizer` of the request's token."""
        return self._jwt.authorize(_joined(request).get("authorization"), jwt)

    def _authorize(self, request: Request) -> Credential:
        """Return the request's signer.

        :raises SignatureRefused: the request has no valid signature.
        """
        scope = sigv4.read_claim(request.headers, request.query).scope
        if scope.service != "execute-api" or scope.region != self._region:
            raise SignatureRefused("SignatureDoesNotMatch", "Credential is scoped to another service or region")
        return sigv4.verify_request(
            request.method, request.path, request.query, request.headers, request.body, self._secret_of
        )

    def _event(
        self, request: Request, route: Route, parameters: Mapping[str, str], authorizer: Mapping[str, Any]
    ) -> dict[str, Any]:
        headers = _joined(request)
        cookies = headers.pop("cookie", "")
        body, encoded = _text(request.body)
        now = time.time()
        event: dict[str, Any] = {
            "version": "2.0",
            "routeKey": f"{route.method} {route.path}",
            "rawPath": request.path,
            "rawQueryString": request.query,
            "headers": headers,
            "requestContext": {
                "accountId": self._account,
                "apiId": API_ID,
                "authorizer": authorizer,
                "domainName": headers.get("host", "localhost"),
                "domainPrefix": API_ID,
                "http": {
                    "method": request.method,
                    "path": request.path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": request.remote,
                    "userAgent": headers.get("user-agent", ""),
                },
                "requestId": str(uuid.uuid4()),
                "routeKey": f"{route.method} {route.path}",
                "stage": "$default",
                "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
                "timeEpoch": int(now * 1000),
            },
            "isBase64Encoded": encoded,
        }
        if body is not None:
            event["body"] = body
        if cookies:
            event["cookies"] = [cookie.strip() for cookie in cookies.split(";")]
        if request.query:
            event["queryStringParameters"] = _query(request.query)
        if parameters:
            event["pathParameters"] = dict(parameters)
        return event


_FAILED = "Internal Server Error"


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+\+?)\}", path)
    text = ""
    for index, part in enumerate(parts):
        if index % 2 == 0:
            text += re.escape(part)
        else:
            text += f"(?P<{part.rstrip('+')}>{'.+' if part.endswith('+') else '[^/]+'})"
    return re.compile(text)


def _joined(request: Request) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.headers:
        key = name.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    return headers


def _query(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    return parameters


def _text(body: bytes) -> tuple[str | None, bool]:
    if not body:
        return None, False
    try:
        return body.decode(), False
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), True


def _response(answer: Any) -> Response:
    """Turn a function's answer into a response, as payload format 2.0 says."""
    if not isinstance(answer, dict) or "statusCode" not in answer:
        return Response(200, (("Content-Type", "application/json"),), json.dumps(answer).encode())
    headers = {str(name).lower(): str(value) for name, value in (answer.get("headers") or {}).items()}
    headers.setdefault("content-type", "text/plain;charset=UTF-8")
    body = answer.get("body") or ""
    if not isinstance(body, str):
        raise TypeError("the body is no string")
    content = base64.b64decode(body, validate=True) if answer.get("isBase64Encoded") else body.encode()
    cookies = [("set-cookie", str(cookie)) for cookie in answer.get("cookies") or []]
    return Response(int(answer["statusCode"]), (*headers.items(), *cookies), content)


def _message(status: int, message: str, *headers: tuple[str, str]) -> Response:
    content = json.dumps({"message": message}).encode()
    return Response(status, (("Content-Type", "application/json"), *headers), content)
