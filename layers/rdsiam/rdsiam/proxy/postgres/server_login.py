"""The database's side of a login: verified TLS, the token, and the messages until it is ready for queries."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from rdsiam.proxy.contracts import Token, Upstream, UpstreamFailed
from rdsiam.proxy.peer import Peer, PeerClosed
from rdsiam.proxy.postgres.messages import (
    ASK_FOR_TLS,
    Malformed,
    Message,
    error_response,
    parse_error,
    password_message,
    read_message,
)

#: Bytes of the database's answer that are held back at most before the client has taken them.
_CHUNK = 32 * 1024
#: Begins doctor's sentence in what `Upstream.explain` returns.
_SENTENCE = " (rdsiam: "
_OK, _CLEARTEXT = 0, 3
#: Methods of authentication that ask for anything but a token, by their number in the protocol.
_METHODS = {2: "Kerberos", 5: "MD5", 7: "GSSAPI", 9: "SSPI", 10: "SASL"}
#: Types of the messages before the login has succeeded, and from then until the database is ready for queries.
_BEFORE_LOGIN, _AFTER_LOGIN = frozenset({b"R", b"E", b"N", b"v"}), frozenset({b"S", b"K", b"E", b"N", b"v", b"Z"})


class ServerRefused(UpstreamFailed):
    """The database answered with an error.

    :ivar response: the ErrorResponse for the client: the database's, with doctor's sentence as hint.
    """

    def __init__(self, message: str, response: bytes) -> None:
        super().__init__(message, "login")
        self.response = response


async def open_verified(upstream: Upstream, address: tuple[str, int] | None = None) -> Peer:
    """Return a connection to the database whose certificate has been verified.

    :param address: of a certain server behind the endpoint; None: any.
    :raises UpstreamFailed: it can't be reached, has no TLS, or can't be trusted.
    """
    peer = await upstream.connect(address)
    await verify(upstream, peer)
    return peer


async def verify(upstream: Upstream, peer: Peer) -> None:
    """Change a connection to the database to TLS, and verify its certificate; close it otherwise.

    :raises UpstreamFailed: it has no TLS, or can't be trusted.
    """
    try:
        peer.write(ASK_FOR_TLS)
        answer = await peer.read(1)
        if answer != b"S":
            # An error is not quoted: anybody between proxy and database could have written it (CVE-2024-10977).
            raise UpstreamFailed("the database declines TLS, without which no token is sent to it", "tls")
        if peer.buffered:
            # Anybody between proxy and database could have put them there (CVE-2021-23222).
            raise UpstreamFailed("unencrypted bytes came after the database's answer to the request for TLS", "tls")
        await upstream.start_tls(peer)
        _require_verified(peer)
    except PeerClosed:
        peer.abort()
        raise UpstreamFailed("the database closed the connection before TLS began", "tls") from None
    except BaseException:
        peer.abort()
        raise


def _require_verified(peer: Peer) -> None:
    """Check once more what the token's secrecy depends on: TLS, with authority and name verified."""
    context = None if peer.tls is None else peer.tls.context
    if context is None or context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        raise UpstreamFailed("the database's certificate was not verified, so no token is sent to it", "tls")


@dataclass
class ServerLogin:
    """A login at the database on behalf of a client.

    :param server: its connection, as `open_verified` returns it.
    :param client: gets the database's answers.
    :param token: is awaited as soon as the database asks for it, and in any case before the client is logged in.
    :param replicates: the client may ask for a stream of changes.
    """

    upstream: Upstream
    server: Peer
    client: Peer
    user: str
    token: "asyncio.Future[Token]" = field(repr=False)
    replicates: bool = False
    _answer: bytearray = field(default_factory=bytearray, repr=False)
    _token_sent: bool = False

    async def run(self, packet: bytes, key_data: Callable[[Message], None]) -> None:
        """Log in, until the client has been told that the database is ready for queries.

        :param packet: the StartupMessage.
        :param key_data: is called with the database's BackendKeyData, of which a login has at most one.
        :raises ServerRefused: the database answered with an error.
        :raises UpstreamFailed: it asks for a password, breaks the protocol, or closed the connection.
        :raises PeerClosed: the client closed the connection.
        """
        self.server.write(packet)
        allowed = _BEFORE_LOGIN
        while True:
            message = await self._next()
            if message.kind not in allowed:
                raise self._violation(f"a message of type {message.kind!r}")
            if message.kind == b"E":
                raise self._refused(message)
            if message.kind == b"R":
                if not await self._authenticate(message):
                    continue
                allowed = _AFTER_LOGIN
            elif message.kind == b"K":
                try:
                    key_data(message)
                except Malformed as malformed:
                    raise self._violation(str(malformed)) from None
                allowed = _AFTER_LOGIN - {b"K"}
            self._answer += message.packet
            if message.kind == b"Z":
                self._flush()
                return

    async def _next(self) -> Message:
        """Return the database's next message; the client gets the earlier ones before this waits."""
        if self.server.buffered < 5 or len(self._answer) > _CHUNK:
            self._flush()
            await self.client.drain()
        try:
            return await read_message(self.server)
        except Malformed as malformed:
            raise self._violation(str(malformed)) from None
        except PeerClosed:
            raise UpstreamFailed("the database closed the connection during the login", "login") from None

    def _flush(self) -> None:
        if self._answer:
            self.client.write(bytes(self._answer))
            self._answer.clear()

    async def _authenticate(self, message: Message) -> bool:
        """Answer a request for authentication, and return whether there is nothing further to answer."""
        method = int.from_bytes(message.body[:4], "big")
        if len(message.body) < 4 or (method in {_OK, _CLEARTEXT} and len(message.body) > 4):
            raise self._violation("a malformed request for authentication")
        if method == _OK:
            await self.token  # a user without a token may not connect, even if the database lets everybody in
            return True
        if method != _CLEARTEXT:
            await self.token  # a denial is the better reason: a server asks unknown users for a password
            raise self._wants_password(method)
        if self._token_sent:
            raise self._violation("a second request for the token")
        token = await self.token
        self._token_sent = True
        self.server.write(password_message(token.text))
        return False

    def _wants_password(self, method: int) -> UpstreamFailed:
        name = _METHODS.get(method, "unknown")
        problem = (
            f'the database asks for a password of user "{self.user}", and takes no token: authentication method '
            f"{method} ({name}) is not supported"
        )
        return UpstreamFailed(self.upstream.explain(problem), "login")

    def _violation(self, problem: str) -> UpstreamFailed:
        return UpstreamFailed(f"the database breaks PostgreSQL's protocol: {problem}", "login")

    def _refused(self, message: Message) -> ServerRefused:
        """Return the database's error with doctor's sentence, and without the token, if the error should quote it."""
        try:
            fields = parse_error(self._without_token(message.body))
        except Malformed as malformed:
            raise self._violation(str(malformed)) from None
        explained = self.upstream.explain(dict(fields).get(b"M", b"").decode(errors="replace"))
        _, known, sentence = explained.rpartition(_SENTENCE)
        if known:
            hints = [value for kind, value in fields if kind == b"H"]
            fields = [(kind, value) for kind, value in fields if kind != b"H"]
            fields.append((b"H", b"\n".join([*hints, sentence.removesuffix(")").encode()])))
        return ServerRefused(explained, bytes(self._answer) + error_response(fields))

    def _without_token(self, body: bytes) -> bytes:
        if not self._token_sent:
            return body
        return body.replace(self.token.result().text.encode("ascii"), b"(token)")
