"""A server's greeting and a client's response to it: read, changed for the other side, and written."""

import struct
from dataclasses import dataclass, field, replace
from typing import Final, Self

from rdsiam.proxy.mysql.packets import Fields, Malformed, length_encoded

__all__ = [
    "CLEARTEXT",
    "COMPRESSION",
    "LOCAL_FILES",
    "NATIVE",
    "PROTOCOL_41",
    "QUERY_ATTRIBUTES",
    "SHA2",
    "TLS",
    "Greeting",
    "Response",
]

#: Plugins of authentication: two of passwords, and the one that a token is sent by.
NATIVE: Final = "mysql_native_password"
SHA2: Final = "caching_sha2_password"
CLEARTEXT: Final = "mysql_clear_password"

# Capabilities.
#: Set by MySQL and its clients; without it, MariaDB has further capabilities.
_MYSQL: Final = 1
_WITH_DATABASE: Final = 1 << 3
COMPRESSION: Final = 1 << 5
LOCAL_FILES: Final = 1 << 7
PROTOCOL_41: Final = 1 << 9
TLS: Final = 1 << 11
_SCRAMBLE: Final = 1 << 15
_PLUGINS: Final = 1 << 19
_ATTRIBUTES: Final = 1 << 20
_LONG_ANSWER: Final = 1 << 21
_ZSTD: Final = 1 << 26
QUERY_ATTRIBUTES: Final = 1 << 27
_FACTORS: Final = 1 << 28
_VERIFY: Final = 1 << 30
#: What neither side may use: the proxy follows packets, logs in by itself, and has a TLS of its own on either side.
_NOT_PASSED: Final = TLS | COMPRESSION | _ZSTD | _FACTORS | _VERIFY
_NEEDED: Final = PROTOCOL_41 | _SCRAMBLE | _PLUGINS
#: MariaDB's: several commands in one packet, which no server offers today.
_SEVERAL_COMMANDS: Final = 1 << 1

_VERSION: Final = 10
_SCRAMBLE_LENGTH: Final = 20
_TLS_REQUEST_LENGTH: Final = 32


@dataclass(frozen=True)
class Greeting:
    """A server's first packet.

    :ivar connection: the server's number of the connection, which KILL takes.
    :ivar further: MariaDB's further capabilities.
    :ivar scramble: 20 random bytes, none of them zero.
    :ivar plugin: the plugin that the server begins with.
    """

    version: bytes
    connection: int
    capabilities: int
    further: int
    charset: int
    status: int
    scramble: bytes = field(repr=False)
    plugin: str

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Read a greeting.

        :raises Malformed: it is no greeting, or the server is older than MySQL 5.5.
        """
        fields = Fields(payload)
        if fields.number(1) != _VERSION:
            raise Malformed("the greeting is not of MySQL's protocol 10")
        version = fields.text()
        connection = fields.number(4)
        scramble = fields.take(8)
        fields.number(1)
        capabilities = fields.number(2)
        charset = fields.number(1)
        status = fields.number(2)
        capabilities |= fields.number(2) << 16
        length = fields.number(1)
        fields.take(6)
        further = fields.number(4)
        if capabilities & _NEEDED != _NEEDED:
            raise Malformed("the server is older than MySQL 5.5")
        scramble += fields.take(max(13, length - 8))[: _SCRAMBLE_LENGTH - 8]
        plugin = fields.last_text().decode("ascii", errors="replace")
        if capabilities & _MYSQL:
            further = 0
        return cls(version, connection, capabilities, further, charset, status, scramble, plugin)

    @property
    def mariadb(self) -> bool:
        """Whether the server is MariaDB."""
        return not self.capabilities & _MYSQL

    def for_client(self, scramble: bytes, tls: bool) -> Self:
        """Return the greeting that the proxy gives to a client: without what it can't pass on, and its own scramble."""
        return replace(
            self,
            capabilities=self.capabilities & ~_NOT_PASSED | (TLS if tls else 0) | _LONG_ANSWER,
            further=self.further & ~_SEVERAL_COMMANDS,
            scramble=scramble,
            plugin=NATIVE if self.mariadb else SHA2,
        )

    def payload(self) -> bytes:
        """Return the greeting as bytes."""
        return b"".join((
            bytes((_VERSION,)), self.version, b"\0", struct.pack("<I", self.connection), self.scramble[:8], b"\0",
            struct.pack("<HBH", self.capabilities & 0xFFFF, self.charset, self.status),
            struct.pack("<HB", self.capabilities >> 16, _SCRAMBLE_LENGTH + 1), bytes(6),
            struct.pack("<I", self.further), self.scramble[8:], b"\0", self.plugin.encode(), b"\0",
        ))  # fmt: skip


@dataclass(frozen=True)
class Response:
    """A client's response to a greeting.

    :ivar largest: the largest packet that the client takes.
    :ivar reserved: 19 bytes without a meaning.
    :ivar further: MariaDB's further capabilities.
    :ivar answer: what the client's plugin says.
    :ivar plugin: empty if the client names none.
    :ivar attributes: of the connection, as bytes.
    """

    capabilities: int
    largest: int
    charset: int
    reserved: bytes
    further: int
    user: bytes = b""
    answer: bytes = field(default=b"", repr=False)
    database: bytes = b""
    plugin: str = ""
    attributes: bytes = b""

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Read a response; a request for TLS has nothing but its beginning.

        :raises Malformed: it is no response.
        """
        fields = Fields(payload)
        if not int.from_bytes(payload[:2], "little") & PROTOCOL_41:
            # Clients of MySQL 4.0 and older: two bytes of capabilities, and no more of what is asked for here.
            return cls(fields.number(2), 0, 0, b"", 0)
        capabilities, largest, charset = fields.number(4), fields.number(4), fields.number(1)
        start = cls(capabilities, largest, charset, fields.take(19), fields.number(4))
        if start.asks_for_tls and len(payload) == _TLS_REQUEST_LENGTH:
            return start
        user = fields.text()
        if capabilities & _LONG_ANSWER:
            answer = fields.length_encoded()
        elif capabilities & _SCRAMBLE:
            answer = fields.take(fields.number(1))
        else:
            answer = fields.text()
        database = fields.last_text() if capabilities & _WITH_DATABASE and fields else b""
        plugin = fields.last_text() if capabilities & _PLUGINS and fields else b""
        attributes = fields.length_encoded() if capabilities & _ATTRIBUTES and fields else b""
        return replace(
            start,
            user=user,
            answer=answer,
            database=database,
            plugin=plugin.decode("ascii", errors="replace"),
            attributes=attributes,
        )

    @property
    def old(self) -> bool:
        """Whether the client is older than MySQL 4.1, whose protocol is another."""
        return not self.capabilities & PROTOCOL_41 or not self.capabilities & _SCRAMBLE

    @property
    def asks_for_tls(self) -> bool:
        """Whether TLS comes next."""
        return bool(self.capabilities & TLS)

    def for_server(self, greeting: Greeting, user: str, answer: bytes) -> Self:
        """Return the response that the proxy gives to a server: the client's, with another user and answer.

        The client's capabilities stay, since they decide the form of all that follows the login.
        """
        capabilities = self.capabilities & greeting.capabilities & ~(_NOT_PASSED | _LONG_ANSWER | _WITH_DATABASE)
        capabilities |= self.capabilities & _MYSQL | _NEEDED | TLS
        if self.database:
            capabilities |= _WITH_DATABASE
        further = 0 if self.capabilities & _MYSQL else self.further & greeting.further & ~_SEVERAL_COMMANDS
        return replace(
            self,
            capabilities=capabilities,
            further=further,
            user=user.encode(),
            answer=answer,
            plugin=greeting.plugin,
        )

    def without_tls(self) -> Self:
        """Return the same response over a connection without TLS."""
        return replace(self, capabilities=self.capabilities & ~TLS)

    def payload(self) -> bytes:
        """Return the response as bytes."""
        database = self.database + b"\0" if self.capabilities & _WITH_DATABASE else b""
        attributes = length_encoded(self.attributes) if self.capabilities & _ATTRIBUTES else b""
        return b"".join((
            self.tls_request(), self.user, b"\0", bytes((len(self.answer),)), self.answer, database,
            self.plugin.encode(), b"\0", attributes,
        ))  # fmt: skip

    def tls_request(self) -> bytes:
        """Return the beginning of the response as bytes: the request for TLS that goes before it."""
        return (
            struct.pack("<IIB", self.capabilities, self.largest, self.charset)
            + self.reserved
            + struct.pack("<I", self.further)
        )
