"""One side of a proxied connection: bytes are read exactly during the login, and forwarded afterwards."""

import asyncio
import ssl
import threading
from collections.abc import Callable

from rdsiam.proxy.tls import Tls

__all__ = ["LIMIT", "LINGER", "TAIL", "Peer", "PeerClosed"]

#: Bytes that a peer buffers at most during a login; then it is not read until they are taken.
LIMIT = 256 * 1024
#: Bytes that wait for a slow peer before the other side is no longer read, and until it is read again.
_HIGH, _LOW = 256 * 1024, 64 * 1024
#: Seconds in which a closed peer has to take some of what was written to it.
LINGER = 30.0
#: Bytes of a tail: more than an ordinary packet has that ends an answer.
TAIL = 64
#: Bytes that are read at once.
_CHUNK = 256 * 1024


class _Room(threading.local):
    """Room for the bytes that are being read: one for each event loop, since they are copied before the next read."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_CHUNK))


_room = _Room()


class PeerClosed(Exception):
    """The other end closed the connection, or it was closed here, before the bytes that were asked for."""


class Peer(asyncio.BufferedProtocol):
    """A TCP or unix connection, with or without TLS.

    During the login, `read` and `write` are used. `forward_to` then connects it to the other side: from then on its
    bytes go there, and it is no longer read while the other side is slow.

    :param on_connection: is called with the peer as soon as a server has accepted it.
    :ivar forwarded: number of bytes of this peer that went to the other side.
    :ivar tail: the last bytes that were forwarded, but for those aside; empty once the other side has sent more.
    """

    def __init__(self, on_connection: Callable[["Peer"], None] | None = None) -> None:
        self._on_connection = on_connection
        self._transport: asyncio.Transport | None = None
        self._tls: Tls | None = None
        self._received = bytearray()
        self._more = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = False
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._other: Peer | None = None
        self._ends_other = False
        self._inspect: Callable[[bytes], bytes] | None = None
        self._aside: Callable[[bytes], bool] | None = None
        self._handshake = False
        self._linger: asyncio.TimerHandle | None = None
        self.forwarded = 0
        self.tail = b""

    # Reading and writing during a login.

    @property
    def transport(self) -> asyncio.Transport:
        """The transport of the connection; bytes are written by `write`.

        :raises PeerClosed: it is not connected.
        """
        if self._transport is None:
            raise PeerClosed
        return self._transport

    @property
    def tls(self) -> ssl.SSLObject | None:
        """TLS of the connection; None without."""
        return self._tls.object if self._tls is not None else None

    @property
    def buffered(self) -> int:
        """The number of bytes that were received and not read."""
        return len(self._received)

    async def peek(self, count: int) -> bytes:
        """Return the next `count` bytes, and leave them to be read.

        :raises PeerClosed: fewer came.
        """
        while len(self._received) < count:
            if self._ended:
                raise PeerClosed
            self._more.clear()
            self._set_reading(True)
            await self._more.wait()
        return bytes(self._received[:count])

    async def read(self, count: int) -> bytes:
        """Return the next `count` bytes.

        :raises PeerClosed: fewer came.
        """
        data = await self.peek(count)
        del self._received[:count]
        return data

    def write(self, data: bytes) -> None:
        """Send bytes; they are buffered as far as needed."""
        if not self.transport.is_closing():
            self.transport.write(data if self._tls is None else self._tls.encrypt(data))

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was written."""
        await self._writable.wait()

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str | None = None) -> None:
        """Change to TLS: as client if a server's name is given, else as server.

        Bytes that were received and not read belong to the handshake, so nobody can put any before it.

        :raises PeerClosed: the connection was closed during the handshake.
        :raises OSError: the handshake failed (`ssl.SSLError`, `ssl.SSLCertVerificationError`).
        """
        tls = Tls(context, server_hostname)
        self._handshake = True
        try:
            while True:
                tls.feed(self._received)
                self._received.clear()
                try:
                    done = tls.handshake()
                finally:
                    if (data := tls.take()) and not self.transport.is_closing():
                        self.transport.write(data)
                if done:
                    break
                if self._ended:
                    raise PeerClosed
                self._more.clear()
                self._set_reading(True)
                await self._more.wait()
        finally:
            self._handshake = False
        self._tls = tls
        self._received += self._decrypt(b"")
        if tls.ended:
            self._note_end()

    def close(self) -> None:
        """Close the connection after what was written has been sent, and read nothing more."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._tls is not None and (data := self._tls.shut_down()):
            self._transport.write(data)
        self._transport.close()
        self._wait_for_taking(None)

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    async def closed(self) -> None:
        """Wait until the connection is closed."""
        await asyncio.shield(self._closed)

    async def ended(self) -> None:
        """Wait until the other end sends nothing more: it has closed the connection, or this direction of it."""
        while not self._ended:
            self._more.clear()
            await self._more.wait()

    # After a login.

    def forward_to(
        self,
        other: "Peer",
        inspect: Callable[[bytes], bytes] | None = None,
        ends_other: bool = False,
        aside: Callable[[bytes], bool] | None = None,
    ) -> None:
        """Send what comes from this peer, from now on and not yet read, to the other one.

        :param inspect: gets the bytes of each read and returns those to forward; it may answer or close itself.
        :param ends_other: the other one is closed at the end of this one's bytes. Else it gets their end, and may
            still send.
        :param aside: tells of the bytes of each read whether they leave `tail` as it is.
        """
        self._aside = aside
        self._inspect = inspect
        self._ends_other = ends_other
        self._other = other
        data, self._received = bytes(self._received), bytearray()
        if data:
            self._forward(data)
        if self._ended:
            self._end_other()
        else:
            self._set_reading(other._writable.is_set())

    @property
    def silent(self) -> bool:
        """Tell whether nothing was forwarded from this peer yet."""
        return self.forwarded == 0

    def end(self) -> None:
        """Tell the other end that nothing more is sent; it may still send."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._tls is not None and (data := self._tls.shut_down()):
            transport.write(data)
        transport.write_eof()

    def _forward(self, data: bytes) -> None:
        other = self._other
        assert other is not None
        if self._inspect is not None:
            data = self._inspect(data)
        transport = other._transport
        if not data or transport is None or transport.is_closing():
            return
        self.forwarded += len(data)
        if self._aside is None or not self._aside(data):
            self.tail = data[-TAIL:]
        other.tail = b""
        transport.write(data if other._tls is None else other._tls.encrypt(data))

    def _end_other(self) -> None:
        other = self._other
        assert other is not None
        if self._ends_other or self._transport is None:
            other.close()
        else:
            other.end()

    def _set_reading(self, reading: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self._ended:
            return
        if reading:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _decrypt(self, data: bytes | memoryview) -> bytes:
        tls = self._tls
        assert tls is not None
        tls.feed(data)
        data = tls.decrypt(_room.view)
        if (answer := tls.take()) and not self.transport.is_closing():
            self.transport.write(answer)
        return data

    def _take(self, data: bytes | memoryview) -> None:
        if self._tls is not None:
            try:
                data = self._decrypt(data)
            except ssl.SSLError:
                self.abort()
                return
        if self._other is not None:
            if data:
                self._forward(bytes(data))
        else:
            self._received += data
            if len(self._received) >= LIMIT:
                self._set_reading(False)
            self._more.set()
        if self._tls is not None and self._tls.ended:
            self._note_end()

    def _note_end(self) -> None:
        if self._ended:
            return
        self._set_reading(False)
        self._ended = True
        self._more.set()
        if self._other is not None:
            self._end_other()

    def _wait_for_taking(self, left: int | None) -> None:
        """Abort if the peer has taken nothing for too long of what was written before it was closed."""
        transport = self._transport
        if transport is None:
            return
        size = transport.get_write_buffer_size()
        if size == left:
            transport.abort()
            return
        self._linger = asyncio.get_running_loop().call_later(LINGER, self._wait_for_taking, size)

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport of a new connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(_HIGH, _LOW)
        if self._on_connection is not None:
            self._on_connection(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  the room is large enough
        """Return room for the next bytes."""
        return _room.view

    def buffer_updated(self, nbytes: int) -> None:
        """Buffer or forward bytes."""
        data = _room.view[:nbytes]
        if self._handshake:
            self._received += data
            if len(self._received) >= LIMIT:
                self._set_reading(False)
            self._more.set()
        else:
            self._take(data)

    def eof_received(self) -> bool:
        """Note the end of the peer's bytes; the peer may still be written to."""
        self._note_end()
        return True

    def connection_lost(self, _: Exception | None) -> None:
        """Wake everything that waits for this peer."""
        self._ended = True
        self._transport = None
        if self._linger is not None:
            self._linger.cancel()
        self._more.set()
        self._writable.set()
        if not self._closed.done():
            self._closed.set_result(None)
        # Peers that know each other would keep the memory of TLS until garbage is collected, which seldom happens.
        other, self._other, self._inspect, self._aside = self._other, None, None, None
        if other is not None:
            other.close()

    def pause_writing(self) -> None:
        """Let the other side wait: this peer is slow."""
        self._writable.clear()
        if self._other is not None:
            self._other._set_reading(False)

    def resume_writing(self) -> None:
        """Go on reading the other side."""
        self._writable.set()
        if self._other is not None:
            self._other._set_reading(True)
