"""TLS of one connection without its socket: bytes go in and come out.

asyncio's own TLS holds 256 KB for each connection and can't close one direction alone.
"""

import ssl
from contextlib import suppress

__all__ = ["Tls"]

#: Bytes of one record; more are never decrypted at once.
_RECORD = 16 * 1024


class Tls:
    """TLS over a stream: as client if a server's name is given, else as server.

    :param server_hostname: the name that the server's certificate must have.
    """

    def __init__(self, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        self._shut_down = False
        #: The other end has said that it sends nothing more.
        self.ended = False

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes that were received."""
        self._incoming.write(data)

    def take(self) -> bytes:
        """Return the bytes to send."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def handshake(self) -> bool:
        """Go on with the handshake; tell whether it is done.

        :raises ssl.SSLError: it failed; what there is to send names the reason to the other end.
        """
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def decrypt(self, into: memoryview) -> bytes:
        """Return everything that can be decrypted of what was received.

        :param into: room to work in.
        :raises ssl.SSLError: the bytes were changed on their way, or are no TLS.
        """
        parts: list[bytes] = []
        filled, size = 0, len(into)
        while not self.ended:
            if size - filled < _RECORD:
                parts.append(bytes(into[:filled]))
                filled = 0
            try:
                # Into a buffer, it returns a number; typeshed says otherwise.
                count: object = self.object.read(_RECORD, into[filled : filled + _RECORD])
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                count = 0
            assert isinstance(count, int)
            self.ended = count == 0
            filled += count
            if not self._incoming.pending and not self.object.pending():
                break  # another read would only raise SSLWantReadError
        last = bytes(into[:filled])
        return b"".join([*parts, last]) if parts else last

    def encrypt(self, data: bytes) -> bytes:
        """Return the bytes to send for these."""
        if data:
            self.object.write(data)
        return self._outgoing.read()

    def shut_down(self) -> bytes:
        """Return the bytes that tell the other end that nothing more is sent; it may go on sending."""
        if not self._shut_down:
            self._shut_down = True
            # An error if the other end has not said the same yet, or the handshake is not done.
            with suppress(ssl.SSLError, ValueError):
                self.object.unwrap()
        return self.take()
