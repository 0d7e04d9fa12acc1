"""A stub of an engine and of an upstream, and a proxy made of them over real sockets.

The engine's login is one line each way: the client sends its user, and gets `ok`, or `error: code: message`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rdsiam.proxy.contracts import Client, EngineName, Listener, Opened, Token, Upstream, UpstreamFailed
from rdsiam.proxy.peer import Peer
from rdsiam.proxy.server import Factory, Server
from rdsiam.proxy.settings import Settings
from tests.proxy_upstream import PartialUpstream

LOCAL = "127.0.0.1"


async def line(peer: Peer) -> str:
    """Read a line."""
    text = b""
    while not text.endswith(b"\n"):
        text += await peer.read(1)
    return text.decode().rstrip("\n")


@dataclass
class StubEngine:
    """An engine whose clients are idle after a line that ends with a full stop."""

    name: EngineName = "postgres"

    async def login(self, client: Client, upstream: Upstream) -> Opened | None:
        """Take the user's name, and log in upstream."""
        user = await line(client.peer)
        if user == "cancel":
            await upstream.connect((LOCAL, 1))
            return None
        if user == "crash":
            raise RuntimeError("a message with bytes of the client")
        try:
            peer = await upstream.connect()
            await upstream.token(user)
        except UpstreamFailed as failure:
            client.peer.write(self.failed(str(failure), failure.code))
            raise
        client.peer.write(b"ok\n")
        return Opened(peer, user, idle=lambda: peer.tail.endswith(b".\n"), answered=lambda: True)

    def failed(self, message: str, code: str) -> bytes:
        """Return an error."""
        return f"error: {code}: {message}\n".encode()


@dataclass
class StubUpstream(PartialUpstream):
    """A database that echoes, and decisions that a test sets.

    :ivar failing: user → the error instead of a token; "" is the error instead of the engine.
    :ivar stuck: users whose token never comes.
    """

    port: int = 0
    failing: dict[str, UpstreamFailed] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)
    over: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    knows_access: bool = True
    hangs: bool = False
    looked_up: bool = False

    async def engine(self) -> EngineName:
        """Return the engine, or fail, or never return."""
        self.looked_up = True
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if "" in self.failing:
            raise self.failing[""]
        return "postgres"

    async def token(self, user: str) -> Token:
        """Return a token, or fail, or never return."""
        self.asked.append(user)
        if user in self.stuck:
            await asyncio.get_running_loop().create_future()
        if user in self.failing:
            raise self.failing[user]
        return Token("secret", LOCAL, self.port, user)

    async def connect(self, address: tuple[str, int] | None = None) -> Peer:  # noqa: ARG002  there is one
        """Connect to the echo."""
        _, peer = await asyncio.get_running_loop().create_connection(Peer, LOCAL, self.port)
        self.peers.append(peer)
        return peer

    async def start_tls(self, peer: Peer) -> None:
        """Leave the connection as it is."""

    def explain(self, message: str) -> str:
        """Return the message."""
        return message

    async def ended(self, users: Collection[str]) -> Mapping[str, str]:
        """Return those whose access is over."""
        if not self.knows_access:
            raise UpstreamFailed("whether access has ended can't be known", "no-api")
        return {user: reason for user, reason in self.over.items() if user in users}


class Site:
    """A proxy with an echo behind it, inside of a test's event loop."""

    def __init__(
        self, settings: Settings | None = None, make: Callable[[Listener], StubUpstream] | None = None
    ) -> None:
        self.upstream = StubUpstream()
        self._make = make or (lambda _: self.upstream)
        self.server = Server(
            settings or Settings((Listener("orders", host=LOCAL, port=0),), drain_timeout=60),
            Factory(self._upstream, lambda _: StubEngine()),
        )

    async def _upstream(self, listener: Listener, _: int) -> StubUpstream:
        return self._make(listener)

    async def __aenter__(self) -> "Site":
        self._stack = AsyncExitStack()
        await self._stack.enter_async_context(self.echo())
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.abort()
        await self.server.drain()
        await self._stack.aclose()

    @asynccontextmanager
    async def echo(self) -> AsyncIterator[None]:
        """Run the database."""
        echo = await asyncio.start_server(_echo, LOCAL, 0)
        self.upstream.port = echo.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            echo.close()

    @property
    def port(self) -> int:
        """The port of the first listener."""
        return self.server.listening[0].listener.port or 0

    def with_settings(self, **changes: object) -> Settings:
        """Return the present settings with changes; the listener keeps its port."""
        return replace(self.server.settings, **changes)  # type: ignore[arg-type]

    async def client(self, user: str = "app", port: int = 0, path: Path | None = None) -> "StubClient":
        """Connect, and log in."""
        if path is not None:
            client = StubClient(*await asyncio.open_unix_connection(path))
        else:
            client = StubClient(*await asyncio.open_connection(LOCAL, port or self.port))
        client.writer.write(f"{user}\n".encode())
        client.answer = (await client.reader.readline()).decode().rstrip("\n")
        return client


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@dataclass
class StubClient:
    """A client's streams, and the answer to its login."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    answer: str = ""

    async def ask(self, text: str) -> str:
        """Send a line, and return the one that comes back."""
        self.writer.write(f"{text}\n".encode())
        return (await self.reader.readline()).decode().rstrip("\n")

    def close(self) -> None:
        """Leave."""
        self.writer.close()
