"""One side of a proxied connection: bytes are read exactly during the login, and forwarded afterwards."""

import asyncio
import ssl
from collections.abc import Callable

__all__ = ["LIMIT", "Peer", "PeerClosed"]

#: Bytes that a peer buffers at most during a login; then it is not read until they are taken.
LIMIT = 256 * 1024


class PeerClosed(Exception):
    """The other end closed the connection, or it was closed here, before the bytes that were asked for."""


class Peer(asyncio.Protocol):
    """A TCP or unix connection, with or without TLS.

    During the login, `read` and `write` are used. `forward_to` then connects it to the other side: from then on its
    bytes go there, and it is no longer read while the other side is slow.

    :param on_connection: is called with the peer as soon as a server has accepted it.
    """

    def __init__(self, on_connection: Callable[["Peer"], None] | None = None) -> None:
        self._on_connection = on_connection
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._more = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = False
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._other: Peer | None = None
        self._inspect: Callable[[bytes], bytes] | None = None

    # Reading and writing during a login.

    @property
    def transport(self) -> asyncio.Transport:
        """The transport of the connection.

        :raises PeerClosed: it is not connected.
        """
        if self._transport is None:
            raise PeerClosed
        return self._transport

    @property
    def buffered(self) -> int:
        """The number of bytes that were received and not read."""
        return len(self._received)

    async def read(self, count: int) -> bytes:
        """Return the next `count` bytes.

        :raises PeerClosed: fewer came.
        """
        while len(self._received) < count:
            if self._ended:
                raise PeerClosed
            self._more.clear()
            if len(self._received) < LIMIT or count > LIMIT:
                self._resume()
            await self._more.wait()
        data = bytes(self._received[:count])
        del self._received[:count]
        return data

    def write(self, data: bytes) -> None:
        """Send bytes; they are buffered as far as needed."""
        if not self.transport.is_closing():
            self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was written."""
        await self._writable.wait()

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str | None = None) -> None:
        """Change to TLS: as client if a server's name is given, else as server.

        :raises PeerClosed: bytes came before TLS began; another may have put them into the stream.
        :raises OSError: the handshake failed (`ssl.SSLError`, `ssl.SSLCertVerificationError`, a timeout).
        """
        if self._received:
            raise PeerClosed
        self.transport.resume_reading()
        transport = await asyncio.get_running_loop().start_tls(
            self.transport,
            self,
            context,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
        )
        if transport is None:
            raise PeerClosed
        self._transport = transport

    def close(self) -> None:
        """Close the connection after what was written has been sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    async def closed(self) -> None:
        """Wait until the connection is closed."""
        await asyncio.shield(self._closed)

    # After a login.

    def forward_to(self, other: "Peer", inspect: Callable[[bytes], bytes] | None = None) -> None:
        """Send what comes from this peer, from now on and not yet read, to the other one.

        :param inspect: gets the bytes of each read and returns those to forward; it may answer or close itself.
        """
        self._inspect = inspect
        self._other = other
        data, self._received = bytes(self._received), bytearray()
        if data:
            self._forward(data)
        if self._ended:
            other.close()
        else:
            self._resume()

    def _forward(self, data: bytes) -> None:
        other = self._other
        assert other is not None
        if self._inspect is not None:
            data = self._inspect(data)
        if data and other._transport is not None:
            other._transport.write(data)

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport of a new connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._on_connection is not None:
            self._on_connection(self)

    def data_received(self, data: bytes) -> None:
        """Buffer or forward bytes."""
        if self._other is not None:
            self._forward(data)
            return
        self._received += data
        if len(self._received) >= LIMIT:
            self.transport.pause_reading()
        self._more.set()

    def eof_received(self) -> bool:
        """Note the end of the peer's bytes."""
        self._ended = True
        self._more.set()
        if self._other is not None:
            self._other.close()
        return False

    def connection_lost(self, _: Exception | None) -> None:
        """Wake everything that waits for this peer."""
        self._ended = True
        self._transport = None
        self._more.set()
        self._writable.set()
        if not self._closed.done():
            self._closed.set_result(None)
        if self._other is not None:
            self._other.close()

    def pause_writing(self) -> None:
        """Let the other side wait: this peer is slow."""
        self._writable.clear()
        if self._other is not None and self._other._transport is not None:
            self._other._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on reading the other side."""
        self._writable.set()
        if self._other is not None:
            self._other._resume()
