"""An HTTP API that gives tokens for servers of the tests, at the time that their clock tells.

It answers as rdsiam's API does. What it decides is up to the test: `refusals` are given before any token.
"""

import json
import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from rdsiam.core import times
from rdsiam.signer import LIFETIME, TokenSigner
from tests.integration.vending.token_servers import ACCOUNT, HERE, KEYS, REGION, TokenServers

ENGINES = {"postgres": "postgres", "mariadb": "mariadb", "mysql": "mysql"}


@dataclass(frozen=True)
class Refusal:
    """An answer other than a token."""

    status: int
    code: str
    detail: str
    headers: dict[str, str] = field(default_factory=dict)


THROTTLED = Refusal(429, "throttled", "too many requests")
REVOKED = Refusal(403, "user-revoked", "app is revoked")
DENIED = Refusal(403, "not-allowed", "no entry of access.yaml allows this login")


class TokenApi:
    """A context manager: leaving it ends the API.

    :ivar users: the users that tokens are given for; others are denied.
    :ivar refusals: the next answers.
    :ivar always: the answer to every request, if it is set.
    :ivar given: how many tokens were given for each database and user.
    """

    def __init__(self, servers: TokenServers) -> None:
        self.users = ["app"]
        self.refusals: deque[Refusal] = deque()
        self.always: Refusal | None = None
        self.given: Counter[tuple[str, str]] = Counter()
        self.elsewhere: dict[str, tuple[str, int]] = {}
        self._servers = servers
        self._signer = TokenSigner(KEYS, REGION)
        api = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Write nothing."""

            def do_GET(self) -> None:
                self._answer(*api.listed())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self._answer(*api.vended(body))

            def _answer(self, status: int, content: dict[str, Any], headers: dict[str, str]) -> None:
                data = json.dumps(content).encode()
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def reset(self) -> None:
        """Give tokens again, for the server of each database."""
        self.users, self.always = ["app"], None
        self.refusals.clear()
        self.elsewhere.clear()

    def listed(self) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Answer GET /databases."""
        databases = [
            {"identifier": kind, "arn": arn_of(kind), "engine": ENGINES[kind], "users": self.users}
            | dict(zip(("host", "port"), self._endpoint(kind), strict=True))
            for kind in self._servers.kinds
        ]
        return 200, {"databases": databases}, {}

    def vended(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Answer POST /tokens."""
        refusal = self.always or (self.refusals.popleft() if self.refusals else None)
        kind, user = body["database"].rpartition(":")[2], body["user"]
        if refusal is None and (user not in self.users or kind not in ENGINES):
            refusal = DENIED
        if refusal is not None:
            return refusal.status, {"code": refusal.code, "detail": refusal.detail}, refusal.headers
        host, port = self._endpoint(kind)
        now = self._servers.clock.now()
        self.given[kind, user] += 1
        return (
            200,
            {
                "token": self._signer.token(host, port, user, now),
                "host": host,
                "port": port,
                "user": user,
                "engine": ENGINES[kind],
                "database": arn_of(kind),
                "issued_at": times.text(now),
                "expires_at": times.text(now + timedelta(seconds=LIFETIME)),
                "ca_url": "",
            },
            {},
        )

    def _endpoint(self, kind: str) -> tuple[str, int]:
        return self.elsewhere.get(kind) or (HERE, self._servers.port(kind))


def arn_of(kind: str) -> str:
    """Return the ARN of the database that a server is."""
    return f"arn:aws:rds:{REGION}:{ACCOUNT}:db:{kind}"
