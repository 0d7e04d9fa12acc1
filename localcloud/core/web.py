"""A small HTTP/1.1 server that keeps connections open and hands requests on exactly as they were sent.

Signatures cover the raw path, the raw query and the raw headers, so nothing may be decoded or merged on the way;
werkzeug's server closes every connection, which costs a client more than the call itself.
"""

import errno
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import override

logger = logging.getLogger(__name__)

LARGEST_BODY = 64 * 1024 * 1024
IDLE_SECONDS = 120.0


@dataclass(frozen=True)
class Request:
    """One HTTP request; `path`, `query` and header names are as the client sent them."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
    remote: str = "127.0.0.1"

    def header(self, name: str) -> str | None:
        """Return the first value of a header, whatever its case."""
        lower_name = name.lower()
        return next((value for key, value in self.headers if key.lower() == lower_name), None)


@dataclass(frozen=True)
class Response:
    """One HTTP response; Content-Length is added by the server."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)


Handler = Callable[[Request], Response]


class PortUnavailable(Exception):
    """The port of a server can't be used."""


class HttpServer:
    """Serves `handle` on a port of 127.0.0.1, one thread a connection.

    :raises PortUnavailable: the port that was asked for can't be used.
    """

    def __init__(self, handle: Handler, port: int = 0, *, largest_body: int = LARGEST_BODY) -> None:
        handler_class = type("_Handler", (_RequestHandler,), {"answer": staticmethod(handle), "largest": largest_body})
        try:
            self._server = _Server(("127.0.0.1", port), handler_class)
        except OSError as error:
            if not port:
                raise
            problem = "is taken by another program" if error.errno == errno.EADDRINUSE else f"({error.strerror})"
            raise PortUnavailable(f"port {port} of 127.0.0.1 {problem}; choose another one with --port") from None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="http")

    @property
    def port(self) -> int:
        """The port of the server."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The server's address without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Answer requests from now on, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; requests that are being answered run on."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        # A client that disconnects is normal; any other error is logged.
        logger.debug("connection ended early", exc_info=True)


class _RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    server_version = "localcloud"
    sys_version = ""
    answer: Handler
    largest: int

    def _serve(self) -> None:
        try:
            body = b"".join(self._body())
        except _TooLarge:
            self.close_connection = True
            self._write(
                Response(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    (("Content-Type", "application/json"),),
                    b'{"message":"Request Entity Too Large"}',
                )
            )
            return
        except ValueError:
            self.close_connection = True
            self._write(Response(HTTPStatus.BAD_REQUEST))
            return
        path, _, query = self.path.partition("?")
        request = Request(self.command, path, query, tuple(self.headers.items()), body, self.client_address[0])
        try:
            response = type(self).answer(request)
        except Exception:
            # The boundary of the server: the client learns that the request failed, the log says why.
            logger.exception("%s %s could not be answered", request.method, request.path)
            response = Response(HTTPStatus.INTERNAL_SERVER_ERROR)
        self._write(response)

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Serve every method; the handler decides which methods exist."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _body(self) -> Iterator[bytes]:
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            yield from self._chunks()
            return
        length = int(self.headers.get("Content-Length") or 0)
        if length > self.largest:
            raise _TooLarge
        if length:
            yield self.rfile.read(length)

    def _chunks(self) -> Iterator[bytes]:
        total = 0
        while size := int(self.rfile.readline(64).split(b";")[0], 16):
            total += size
            if total > self.largest:
                raise _TooLarge
            yield self.rfile.read(size)
            self.rfile.readline(8)
        while self.rfile.readline(8192).strip():
            pass

    def _write(self, response: Response) -> None:
        self.send_response(response.status)
        named = {name.lower() for name, _ in response.headers}
        for name, value in response.headers:
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        if "content-length" not in named and response.status not in (204, 304):
            self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: a request line may hold a presigned URL."""

    @override
    def finish(self) -> None:
        try:
            super().finish()
        except (BrokenPipeError, ConnectionResetError, socket.timeout):  # noqa: UP041  the client has gone
            self.close_connection = True


class _TooLarge(Exception):
    """The body is larger than this server takes."""
