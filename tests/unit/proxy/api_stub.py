"""An HTTP API over a real socket, whose answers a test chooses."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from rdsiam.api import http

ARN = "arn:aws:rds:eu-west-1:123456789012:db:orders"
HOST = "orders.c9akciq32abc.eu-west-1.rds.amazonaws.com"
ENDPOINT = {"name": "writer", "kind": "writer", "host": HOST, "port": 5432}
LISTED = {
    "identifier": "orders", "arn": ARN, "engine": "postgres", "users": ["app"], "host": HOST, "port": 5432,
    "endpoints": [ENDPOINT],
}  # fmt: skip
TOKEN = {
    "token": "token-of-app", "host": HOST, "port": 5432, "user": "app", "engine": "postgres", "database": ARN,
    "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T00:15:00Z", "ca_url": "https://example.com/ca.pem",
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """An answer of the API.

    :ivar delay: seconds before it is sent.
    """

    status: int = 200
    body: Any = None
    delay: float = 0


def problem(code: str, detail: str = "", **further: str) -> Answer:
    """Return an answer as the API gives it."""
    answer = http.problem(code, detail, "request-1")
    return Answer(answer["statusCode"], json.loads(answer["body"]) | further)


def gateway(status: int, message: str) -> Answer:
    """Return an answer of API Gateway itself."""
    return Answer(status, {"message": message})


@dataclass
class ApiStub:
    """Answers requests: the first answers of a path once each, the last one for ever.

    :ivar requests: method and path of each request.
    :ivar bodies: of the requests for tokens.
    :ivar connections: number of connections.
    """

    url: str = ""
    answers: dict[str, list[Answer]] = field(
        default_factory=lambda: {
            "/databases": [Answer(body={"databases": [LISTED]})],
            "/tokens": [Answer(body=TOKEN)],
        }
    )
    requests: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str) -> Answer:
        """Return the next answer for a path."""
        with self.lock:
            self.requests.append(path)
            answers = self.answers[path]
            return answers.pop(0) if len(answers) > 1 else answers[0]

    def count(self, path: str) -> int:
        """Return the number of requests for a path."""
        return self.requests.count(path)


@contextmanager
def served(on_request: Callable[[], None] = lambda: None) -> Iterator[ApiStub]:
    """Serve an API on a port of loopback."""
    stub = ApiStub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer is one packet

        def setup(self) -> None:
            super().setup()
            stub.connections += 1

        def do_GET(self) -> None:
            on_request()
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if self.path == "/tokens":
                stub.bodies.append(json.loads(body))
            answer = stub.answer(self.path)
            time.sleep(answer.delay)
            data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            try:
                self.send_response(answer.status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                self.close_connection = True

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
