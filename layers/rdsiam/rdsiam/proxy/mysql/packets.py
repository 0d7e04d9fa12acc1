"""Packets of the protocol of MySQL and MariaDB during a login, and the fields in them."""

import struct
from typing import Final

from rdsiam.proxy.peer import Peer

__all__ = ["CONTINUED", "Fields", "Malformed", "Packets", "error", "length_encoded", "message_of"]

#: The length of a packet that the next one continues.
CONTINUED: Final = 0xFFFFFF
#: Bytes that a packet of a login has at most; those of real clients have a few hundred, with all their attributes.
_LONGEST: Final = 64 * 1024


class Malformed(Exception):
    """Bytes that aren't the protocol. The message has none of them."""


class Packets:
    """The packets that are exchanged with a client or a server until its login has ended.

    :param peer: the connection.
    :ivar sequence: number of the next packet, in either direction.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.sequence = 0

    async def read(self) -> bytes:
        """Return the payload of the next packet.

        :raises Malformed: it is too long, or out of order.
        :raises PeerClosed: the connection was closed.
        """
        header = await self.peer.read(4)
        length = int.from_bytes(header[:3], "little")
        expected, self.sequence = self.sequence, (header[3] + 1) % 256  # of an error, too
        if header[3] != expected:
            raise Malformed("a packet is out of order")
        if length > _LONGEST:
            raise Malformed("a packet is too long for a login")
        return await self.peer.read(length)

    def write(self, payload: bytes) -> None:
        """Send a packet.

        :raises PeerClosed: the connection was closed.
        """
        self.peer.write(len(payload).to_bytes(3, "little") + bytes((self.sequence,)) + payload)
        self.sequence = (self.sequence + 1) % 256


class Fields:
    """The fields of a packet, read one after the other.

    Each method raises `Malformed` if the packet ends before.
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def __bool__(self) -> bool:
        """Tell whether bytes are left."""
        return self._at < len(self._payload)

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        end = self._at + count
        if end > len(self._payload):
            raise Malformed("a packet is too short")
        self._at, start = end, self._at
        return self._payload[start:end]

    def number(self, size: int) -> int:
        """Return a number of that many bytes."""
        return int.from_bytes(self.take(size), "little")

    def text(self) -> bytes:
        """Return the bytes up to the next zero."""
        end = self._payload.find(0, self._at)
        if end < 0:
            raise Malformed("a packet is too short")
        result = self.take(end - self._at)
        self._at += 1
        return result

    def last_text(self) -> bytes:
        """Return the bytes up to the next zero, or the end: some programs leave the zero out in the last field."""
        return self.text() if 0 in self._payload[self._at :] else self.rest()

    def length_encoded(self) -> bytes:
        """Return the bytes that follow their own length."""
        first = self.number(1)
        if first < 0xFB:
            return self.take(first)
        size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first)
        if size is None:
            raise Malformed("a length is malformed")
        return self.take(self.number(size))

    def rest(self) -> bytes:
        """Return the bytes that are left."""
        return self.take(len(self._payload) - self._at)


def length_encoded(data: bytes) -> bytes:
    """Return bytes with their length before them."""
    if len(data) < 0xFB:
        return bytes((len(data),)) + data
    return b"\xfc" + struct.pack("<H", len(data)) + data


def error(number: int, state: str, message: str) -> bytes:
    """Return the payload of an error.

    :param state: five characters of SQLSTATE; empty before the greeting, where clients expect none.
    """
    marked = f"#{state}" if state else ""
    return b"\xff" + struct.pack("<H", number) + f"{marked}{message}".encode(errors="replace")


def message_of(payload: bytes) -> tuple[int, str, str]:
    """Return number, SQLSTATE and message of an error; SQLSTATE is empty if the server sends none.

    :raises Malformed: it is no error.
    """
    fields = Fields(payload)
    if fields.number(1) != 0xFF:
        raise Malformed("an answer is no error")
    number = fields.number(2)
    text = fields.rest().decode(errors="replace")
    if text[:1] == "#" and text[1:6].isascii() and text[1:6].isalnum() and len(text) >= 6:
        return number, text[1:6], text[6:]
    return number, "", text
