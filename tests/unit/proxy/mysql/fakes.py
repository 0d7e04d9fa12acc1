"""A database server that speaks as a test tells it, and clients of MySQL's protocol made of bytes."""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from rdsiam.proxy.contracts import Client, ClientRefused, EngineName, Listener, Opened, Token, UpstreamFailed
from rdsiam.proxy.mysql.engine import MySQLEngine
from rdsiam.proxy.peer import Peer, PeerClosed
from tests.proxy_upstream import PartialUpstream

TOKEN = "orders.example:3306/?Action=connect&DBUser=app&X-Amz-Signature=" + "f" * 900
SCRAMBLE = bytes(range(1, 21))
#: As MySQL 8.4 and MariaDB 10.11 greet.
MYSQL_CAPABILITIES = 0xDFFFFFFF
MARIADB_CAPABILITIES = 0x81BFFFFE
OK = b"\0\0\0\x02\0\0\0"


def packet(payload: bytes, sequence: int = 0) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes((sequence,)) + payload


def greeting(
    version: bytes = b"8.4.3",
    connection: int = 77,
    capabilities: int = MYSQL_CAPABILITIES,
    further: int = 0,
    plugin: bytes = b"caching_sha2_password",
) -> bytes:
    return b"".join((
        b"\x0a", version, b"\0", struct.pack("<I", connection), SCRAMBLE[:8], b"\0",
        struct.pack("<HBHHB", capabilities & 0xFFFF, 255, 2, capabilities >> 16, 21), bytes(6),
        struct.pack("<I", further), SCRAMBLE[8:], b"\0", plugin, b"\0",
    ))  # fmt: skip


MARIADB_GREETING = greeting(
    b"5.5.5-10.11.8-MariaDB", capabilities=MARIADB_CAPABILITIES, further=0x1D, plugin=b"mysql_native_password"
)


def response(
    user: bytes = b"app",
    answer: bytes = b"x" * 32,
    capabilities: int = 0x19FFA68D,
    database: bytes = b"shop",
    plugin: bytes = b"caching_sha2_password",
    attributes: bytes = b"\x04name\x05value",
    further: int = 0,
) -> bytes:
    """Return a client's response; by default with a schema, a plugin, a long answer and attributes."""
    return b"".join((
        struct.pack("<IIB19xI", capabilities, 1 << 24, 255, further), user, b"\0", bytes((len(answer),)), answer,
        database + b"\0" if capabilities & 8 else b"", plugin + b"\0" if capabilities & 1 << 19 else b"",
        bytes((len(attributes),)) + attributes if capabilities & 1 << 20 else b"",
    ))  # fmt: skip


@dataclass
class Wire:
    """The packets of a connection, as a test reads and writes them.

    :ivar ordered: whether the numbers of packets that are read must be right; not so after bytes of a test's own.
    """

    peer: Peer
    sequence: int = 0
    ordered: bool = True

    async def read(self) -> bytes:
        header = await self.peer.read(4)
        assert not self.ordered or header[3] == self.sequence % 256, "out of order"
        self.sequence += 1
        return await self.peer.read(int.from_bytes(header[:3], "little"))

    def write(self, payload: bytes) -> None:
        self.peer.write(packet(payload, self.sequence % 256))
        self.sequence += 1

    def write_bytes(self, data: bytes) -> None:
        self.ordered = False
        self.peer.write(data)


Script = Callable[["Server", Wire], Awaitable[None]]


@dataclass
class Server(PartialUpstream):
    """A server with TLS whose sessions follow a script, and the upstream that leads to it.

    :ivar seen: the packets that came over TLS, as far as the script reads them.
    :ivar plain: the bytes that came without TLS.
    :ivar problems: errors of the script.
    """

    contexts: tuple[ssl.SSLContext, ssl.SSLContext]
    script: Script
    seen: list[bytes] = field(default_factory=list)
    plain: bytearray = field(default_factory=bytearray)
    problems: list[BaseException] = field(default_factory=list)
    tokens: int = 0
    connections: int = 0
    port: int = 0
    denial: UpstreamFailed | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def accept(self, peer: Peer) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, peer: Peer) -> None:
        self.connections += 1
        try:
            await self.script(self, Wire(peer))
        except (PeerClosed, ssl.SSLError):
            pass
        except Exception as problem:
            self.problems.append(problem)
        finally:
            peer.close()

    async def to_tls(self, wire: Wire) -> bytes:
        """Read the request for TLS, and change to it."""
        request = await wire.read()
        self.plain += request
        await wire.peer.start_tls(self.contexts[1])
        return request

    async def engine(self) -> EngineName:
        return "mysql"

    async def token(self, user: str) -> Token:
        self.tokens += 1
        if self.denial is not None:
            raise self.denial
        return Token(TOKEN, "db.example", self.port, user)

    async def connect(self, address: tuple[str, int] | None = None) -> Peer:
        _, peer = await asyncio.get_running_loop().create_connection(Peer, *(address or ("127.0.0.1", self.port)))
        return peer

    async def start_tls(self, peer: Peer) -> None:
        try:
            await peer.start_tls(self.contexts[0], "db.example")
        except OSError as error:
            raise UpstreamFailed(f"the certificate isn't trusted: {type(error).__name__}", "tls") from None

    def explain(self, message: str) -> str:
        return f"{message} (rdsiam: a sentence of doctor)"


@dataclass
class Session:
    """A client's connection through the engine.

    :ivar login: ends with the login; its result or its error.
    """

    wire: Wire
    login: asyncio.Task[Opened | None]


@contextlib.asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    listener = await asyncio.get_running_loop().create_server(lambda: Peer(server.accept), "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


async def enter(
    server: Server,
    *,
    user: str | None = None,
    users: frozenset[str] = frozenset(),
    secret: bytes | None = None,
    tls: ssl.SSLContext | None = None,
    tls_required: bool = False,
    engine: MySQLEngine | None = None,
) -> Session:
    """Connect a client to the engine, whose upstream is a server."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[Peer] = loop.create_future()
    front = await loop.create_server(lambda: Peer(accepted.set_result), "127.0.0.1", 0)
    _, there = await loop.create_connection(Peer, *front.sockets[0].getsockname())
    peer = await accepted
    front.close()
    client = Client(peer, Listener("orders", user=user, users=users), secret, tls, tls_required)

    async def login() -> Opened | None:
        try:
            opened = await (engine or MySQLEngine()).login(client, server)
        except (ClientRefused, UpstreamFailed, PeerClosed):
            peer.close()
            raise
        if opened is not None:
            peer.forward_to(opened.upstream, opened.inspect)
            opened.upstream.forward_to(peer, ends_other=True)
        return opened

    return Session(Wire(there), loop.create_task(login()))
