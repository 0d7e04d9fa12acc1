"""Messages of PostgreSQL's protocol 3 that a login consists of: read from hostile bytes, and written."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from rdsiam.proxy.peer import Peer

#: Length of the longest startup packet, as in PostgreSQL's server.
MAX_STARTUP = 10_000
#: Length of the longest message of a database during a login; a notice or a parameter may be long.
MAX_MESSAGE = 128 * 1024
#: Length of the longest user name; a server cuts longer names off, and so would log in another user.
MAX_USER = 63
#: Lengths of a key to cancel by: 4 up to protocol 3.0, at most 256 since 3.2.
KEY_LENGTHS = range(4, 257)

CANCEL_REQUEST, SSL_REQUEST, GSSENC_REQUEST = 80877102, 80877103, 80877104
ASK_FOR_TLS = struct.pack("!II", 8, SSL_REQUEST)
ASK_FOR_PASSWORD = b"R" + struct.pack("!II", 8, 3)


class Malformed(Exception):
    """Bytes that are no message of the protocol.

    :ivar sqlstate: of the answer; None: no answer, since the sender doesn't speak the protocol at all.
    """

    def __init__(self, message: str, sqlstate: str | None = "08P01") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


@dataclass(frozen=True)
class Startup:
    """A StartupMessage.

    :ivar version: of the protocol, with the major version in the upper 16 bits.
    :ivar parameters: names and values in the client's order, as it sent them.
    """

    version: int
    parameters: tuple[tuple[bytes, bytes], ...] = field(repr=False)

    @property
    def user(self) -> bytes:
        """The user that the client names; empty if it names none. A server takes the last of several, as this does."""
        return dict(self.parameters).get(b"user", b"")

    @property
    def replicates(self) -> bool:
        """Tell whether the client names a kind of replication, be it none."""
        return b"replication" in dict(self.parameters)

    def packet(self, user: str) -> bytes:
        """Return the message with another user, and all else as the client sent it.

        :raises Malformed: it is longer than servers take.
        """
        others = [(name, value) for name, value in self.parameters if name != b"user"]
        pairs = b"".join(name + b"\0" + value + b"\0" for name, value in [(b"user", user.encode()), *others])
        length = len(pairs) + 9
        if length > MAX_STARTUP:
            raise Malformed("invalid length of startup packet")
        return struct.pack("!II", length, self.version) + pairs + b"\0"


@dataclass(frozen=True)
class CancelRequest:
    """A request to cancel what another connection is doing."""

    process: int
    key: bytes = field(repr=False)

    @property
    def packet(self) -> bytes:
        """The request as it is sent to a server."""
        return struct.pack("!III", 12 + len(self.key), CANCEL_REQUEST, self.process) + self.key


@dataclass(frozen=True)
class Message:
    """A message of a server: its type, and what follows the length."""

    kind: bytes
    body: bytes = field(repr=False)

    @property
    def packet(self) -> bytes:
        """The message as it is sent."""
        return self.kind + struct.pack("!I", len(self.body) + 4) + self.body


async def read_startup_packet(peer: Peer) -> tuple[int, bytes]:
    """Return the code of a client's next packet, and what follows: a request, or a version of the protocol.

    :raises Malformed: its length is not one that a server takes.
    """
    length, code = struct.unpack("!II", await peer.read(8))
    if not 8 <= length <= MAX_STARTUP:
        raise Malformed("the first bytes are not PostgreSQL's protocol", sqlstate=None)
    return code, await peer.read(length - 8)


async def read_message(peer: Peer, limit: int = MAX_MESSAGE) -> Message:
    """Return the next message.

    :raises Malformed: its length is impossible, or above the limit.
    """
    kind, length = struct.unpack("!cI", await peer.read(5))
    if not 4 <= length <= limit:
        raise Malformed(f"a message of {length} bytes during the login")
    return Message(kind, await peer.read(length - 4))


def parse_startup(version: int, body: bytes) -> Startup:
    """Return a StartupMessage of protocol 3, of any minor version.

    :raises Malformed: another protocol, or a layout that servers refuse.
    """
    if version >> 16 != 3:
        raise Malformed(
            f"unsupported frontend protocol {version >> 16}.{version & 0xFFFF}: the proxy supports protocol 3",
            sqlstate="0A000",
        )
    if body == b"\0":
        return Startup(version, ())
    fields = body.split(b"\0")
    # Names and values alternate; after the last value, an empty name and the end of the packet.
    names, values = fields[:-2:2], fields[1:-2:2]
    if fields[-2:] != [b"", b""] or len(names) != len(values) or b"" in names:
        raise Malformed("invalid startup packet layout: expected terminator as last byte")
    return Startup(version, tuple(zip(names, values, strict=True)))


def parse_cancel_request(body: bytes) -> CancelRequest | None:
    """Return a request to cancel; None if it is malformed: a server answers none of them."""
    if len(body) - 4 not in KEY_LENGTHS:
        return None
    return CancelRequest(int.from_bytes(body[:4], "big"), body[4:])


def parse_error(body: bytes) -> list[tuple[bytes, bytes]]:
    """Return the fields of an ErrorResponse in their order.

    :raises Malformed: it is no ErrorResponse.
    """
    if not body.endswith(b"\0\0"):
        raise Malformed("an error response without end")
    fields = body[:-2].split(b"\0")
    if b"" in fields:
        raise Malformed("an error response with an empty field")
    return [(text[:1], text[1:]) for text in fields]


def error_response(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return an ErrorResponse."""
    return Message(b"E", b"".join(kind + text + b"\0" for kind, text in fields) + b"\0").packet


def fatal(message: str, sqlstate: str) -> bytes:
    """Return an ErrorResponse that ends a connection."""
    texts = ((b"S", "FATAL"), (b"V", "FATAL"), (b"C", sqlstate), (b"M", message))
    return error_response((kind, text.replace("\0", "").encode(errors="replace")) for kind, text in texts)


def password_message(text: str) -> bytes:
    """Return the answer to a request for a password.

    :raises UnicodeEncodeError: it has other characters than a token has.
    """
    return Message(b"p", text.encode("ascii") + b"\0").packet
