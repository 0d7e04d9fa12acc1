"""Messages of PostgreSQL, a server that answers logins, and clients of the proxy, all in memory."""

import asyncio
import ssl
import struct
from dataclasses import dataclass, field

from rdsiam.proxy.contracts import Client, Listener, Opened
from rdsiam.proxy.peer import Peer, PeerClosed
from rdsiam.proxy.postgres.engine import PostgresEngine
from tests.unit.proxy.in_memory import Upstream, contexts
from tests.unit.proxy.pipes import Cut, connect, whole

SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSSENC_REQUEST = struct.pack("!II", 8, 80877104)


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def startup(version: int = 3 << 16, **parameters: str) -> bytes:
    body = b"".join(name.encode() + b"\0" + value.encode() + b"\0" for name, value in parameters.items()) + b"\0"
    return struct.pack("!II", len(body) + 8, version) + body


def cancel_request(process: int, key: bytes) -> bytes:
    return struct.pack("!III", 12 + len(key), 80877102, process) + key


def error(code: str, text: str, **more: str) -> bytes:
    fields = {"S": "FATAL", "V": "FATAL", "C": code, "M": text, **more}
    return message(b"E", b"".join(f"{kind}{value}\0".encode() for kind, value in fields.items()) + b"\0")


AUTHENTICATION_OK = message(b"R", struct.pack("!I", 0))
ASK_CLEARTEXT = message(b"R", struct.pack("!I", 3))
KEY = b"\x01\x02\x03\x04"
KEY_DATA = message(b"K", struct.pack("!I", 4711) + KEY)
READY = message(b"Z", b"I")
LOGGED_IN = AUTHENTICATION_OK + message(b"S", b"server_version\x0018.1\0") + KEY_DATA + READY


@dataclass
class Server:
    """A server that answers a login as a test likes, and notes what it receives.

    :ivar answers: the bytes of each of its turns; the login message is read before the first, the answer to a request
        for a password before each further one.
    :ivar received: the startup packet and all password messages.
    """

    answers: list[bytes] = field(default_factory=lambda: [ASK_CLEARTEXT, LOGGED_IN])
    received: list[bytes] = field(default_factory=list)
    closes: bool = False

    async def __call__(self, peer: Peer) -> None:
        assert await peer.read(8) == SSL_REQUEST
        peer.write(b"S")
        await peer.start_tls(contexts()[0])
        await self.log_in(peer)

    async def log_in(self, peer: Peer) -> None:
        head = await peer.read(4)
        self.received.append(head + await peer.read(int.from_bytes(head, "big") - 4))
        for turn, answer in enumerate(self.answers):
            if turn:
                head = await peer.read(5)
                self.received.append(head + await peer.read(int.from_bytes(head[1:], "big") - 4))
            peer.write(answer)
        if self.closes:
            peer.close()


@dataclass
class Attempt:
    """A client's end of a connection to the proxy, and the login that runs there."""

    peer: Peer
    proxy: Peer
    login: "asyncio.Task[Opened | None]"

    async def opened(self) -> Opened:
        """Return the login, which has to succeed."""
        opened = await self.login
        assert opened is not None
        return opened

    async def message(self) -> tuple[bytes, bytes]:
        """Return type and body of the next message from the proxy."""
        head = await self.peer.read(5)
        return head[:1], await self.peer.read(int.from_bytes(head[1:], "big") - 4)

    async def messages(self) -> list[tuple[bytes, bytes]]:
        """Return all messages until the proxy closes the connection, or is ready for queries."""
        found: list[tuple[bytes, bytes]] = []
        while not found or found[-1][0] != b"Z":
            try:
                found.append(await self.message())
            except PeerClosed:
                break
        return found

    async def error(self) -> dict[str, str]:
        """Return the fields of the error that the proxy answers with."""
        kind, body = (await self.messages())[-1]
        assert kind == b"E", kind
        return {field[:1].decode(): field[1:].decode() for field in body.rstrip(b"\0").split(b"\0")}


def attempt(
    upstream: Upstream,
    engine: PostgresEngine | None = None,
    listener: Listener | None = None,
    secret: bytes | None = None,
    tls: ssl.SSLContext | None = None,
    tls_required: bool = False,
    cut: Cut = whole,
) -> Attempt:
    """Connect a client to the proxy."""
    peer, proxy = connect(cut)
    client = Client(proxy, listener or Listener("orders"), secret, tls, tls_required)
    login = (engine or PostgresEngine()).login(client, upstream)
    return Attempt(peer, proxy, asyncio.ensure_future(login))
