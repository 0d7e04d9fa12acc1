"""The AWS endpoint of a cloud: verifies the caller, then passes the call to Lambda or to moto."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from localcloud.aws.refusals import refusal
from localcloud.core import sigv4
from localcloud.core.sigv4 import Claim, Credential, SignatureRefused
from localcloud.core.web import Handler, HttpServer, Request, Response
from localcloud.iam.permissions import CallDenied

logger = logging.getLogger(__name__)

#: The service that localcloud's own calls are signed for; AWS doesn't have it.
CONTROL = "localcloud"
#: Answers a call of the Lambda API on behalf of a caller, or returns None to leave it to moto.
LambdaApi = Callable[[Request, Credential], Response | None]
#: Raises CallDenied if a caller may not make a call of a service.
Check = Callable[[Credential, str, Request], None]


class Front:
    """Serves all AWS APIs at one address; a call without a valid signature is refused.

    :param secret_of: returns the credential of an access key, None for an unknown or inactive one.
    :param check: judges each call by the caller's policies.
    :param lambda_api: the part of the Lambda API that localcloud answers instead of moto.
    :param control: answers localcloud's own calls, signed for the service `localcloud`.
    """

    def __init__(
        self,
        secret_of: Callable[[str], Credential | None],
        check: Check,
        lambda_api: LambdaApi,
        control: Handler,
        port: int = 0,
    ) -> None:
        self._secret_of = secret_of
        self._check = check
        self._lambda_api = lambda_api
        self._control = control
        self._moto = DomainDispatcherApplication(create_backend_app)
        self.server = HttpServer(self.handle, port)

    def handle(self, request: Request) -> Response:
        """Answer one call."""
        service = "sts"
        try:
            claim = sigv4.read_claim(request.headers, request.query)
            service = claim.scope.service
            caller = sigv4.verify_request(
                request.method, request.path, request.query, request.headers, request.body, self._secret_of
            )
            self._check(caller, service, request)
        except SignatureRefused as refused:
            logger.info("call refused: service=%s %s", service, refused.code)
            return refusal(service, refused.code, refused.message)
        except CallDenied as denied:
            return refusal(service, "AccessDenied", str(denied))
        if service == "lambda":
            answer = self._lambda_api(request, caller)
            if answer is not None:
                return answer
        if service == CONTROL:
            return self._control(request)
        return _through_wsgi(self._moto, request, claim)


def _through_wsgi(application: Any, request: Request, claim: Claim) -> Response:
    """Ask a WSGI application in this process."""
    status: list[str] = []
    headers: list[tuple[str, str]] = []

    def start_response(line: str, given: list[tuple[str, str]], _: object = None) -> Callable[[bytes], object]:
        status.append(line)
        headers.extend(given)
        return lambda _: None

    answer: Iterable[bytes] = application(_environ(request, claim), start_response)
    try:
        body = b"".join(answer)
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()
    # moto counts characters instead of bytes: the server sets the length, except for HEAD.
    final_headers = headers if request.method == "HEAD" else [h for h in headers if h[0].lower() != "content-length"]
    return Response(int(status[0].split()[0]), tuple(final_headers), body)


def _environ(request: Request, claim: Claim) -> dict[str, Any]:
    host = request.header("Host") or "localhost"
    name, _, port = host.partition(":")
    target = request.path + (f"?{request.query}" if request.query else "")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),
        "QUERY_STRING": request.query,
        "REQUEST_URI": target,
        "RAW_URI": target,
        "SERVER_NAME": name,
        "SERVER_PORT": port or "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": request.remote,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "CONTENT_LENGTH": str(len(request.body)),
        "HTTP_HOST": host,
    }
    for key, value in request.headers:
        variable = key.upper().replace("-", "_")
        if variable == "CONTENT_TYPE":
            environ["CONTENT_TYPE"] = value
        elif variable not in ("CONTENT_LENGTH", "TRANSFER_ENCODING", "HOST") and "_" not in key:
            variable = f"HTTP_{variable}"
            environ[variable] = f"{environ[variable]},{value}" if variable in environ else value
    # moto reads the service and the account from this header, and guesses without it. It gets the verified values in
    # the only form that it understands, so that the service that was judged answers, and no other.
    environ["HTTP_AUTHORIZATION"] = (
        f"{sigv4.ALGORITHM} Credential={claim.access_key}/{claim.scope}, "
        f"SignedHeaders={';'.join(claim.signed_headers)}, Signature={claim.signature}"
    )
    return environ
