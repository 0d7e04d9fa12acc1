"""The login at a database server: over verified TLS, with a token, by the plugin that a token is sent by."""

import asyncio
import contextlib
import secrets
from typing import Final, Self

from rdsiam.proxy.contracts import Token, Upstream
from rdsiam.proxy.mysql.handshake import CLEARTEXT, NATIVE, PROTOCOL_41, SHA2, TLS, Greeting, Response
from rdsiam.proxy.mysql.packets import Fields, Malformed, Packets, message_of
from rdsiam.proxy.peer import Peer, PeerClosed

__all__ = ["NoTokenAsked", "ServerLogin", "ServerRefused"]

#: User of the logins that end a connection whose client went away. The server has no such user.
NOBODY: Final = "rdsiam_proxy_no_login"
_QUIT: Final = b"\x01\0\0\0\x01"
_OK, _SWITCH, _ERROR = b"\0", b"\xfe", b"\xff"
#: Packets that a server sends at most until a login has ended.
_MOST_PACKETS: Final = 8
#: Seconds for the server's last word to a login that is given up.
_LAST_WORD: Final = 3.0
#: Length of what a client answers that has a password.
_ANSWERS: Final = {NATIVE: 20, SHA2: 32}


class ServerRefused(Exception):
    """An error of the server: number, SQLSTATE and text of its packet."""

    def __init__(self, payload: bytes) -> None:
        self.number, self.state, self.text = message_of(payload)
        super().__init__(self.text)


class NoTokenAsked(Exception):
    """The server asked for something else than a token: the user isn't an IAM user, or doesn't exist."""


class ServerLogin:
    """A connection to a server until its login has ended.

    A server counts connections that end before that, and then refuses the whole host (`max_connect_errors`). So every
    connection is brought to an end that isn't counted: a login, or one that the server refuses (`give_up`).

    :ivar greeting: of the server.
    """

    def __init__(self, peer: Peer, packets: Packets, greeting: Greeting) -> None:
        self.peer = peer
        self.greeting = greeting
        self._packets = packets
        #: What TLS was asked for with: a server takes the capabilities from there.
        self._response = Response(PROTOCOL_41, 1 << 24, greeting.charset, bytes(19), 0)
        #: Whether the server waits for a response.
        self._awaited = True

    @classmethod
    async def reach(cls, upstream: Upstream, limit: float) -> Self:
        """Connect to a server, and read its greeting.

        :param limit: seconds for the greeting; the connection has a limit of its own, and may wait for its turn.
        :raises TimeoutError: no greeting came in time.
        :raises UpstreamFailed: no connection.
        :raises ServerRefused: the server sent an error in its place: too many connections, a blocked host.
        :raises Malformed: another protocol.
        :raises PeerClosed: the server closed the connection.
        """
        peer = await upstream.connect()
        try:
            packets = Packets(peer)
            async with asyncio.timeout(limit):
                payload = await packets.read()
            if payload[:1] == _ERROR:
                raise ServerRefused(payload)
            return cls(peer, packets, Greeting.parse(payload))
        except BaseException:
            peer.close()
            raise

    async def start_tls(self, upstream: Upstream, response: Response) -> None:
        """Change to verified TLS.

        :raises Malformed: the server has none.
        :raises UpstreamFailed: it can't be verified.
        """
        if not self.greeting.capabilities & TLS:
            raise Malformed("the server offers no TLS, so it gets no token")
        self._response, self._awaited = response, False
        self._packets.write(response.for_server(self.greeting, "", b"").tls_request())
        await upstream.start_tls(self.peer)
        self._awaited = True

    async def log_in(self, token: Token) -> bytes:
        """Log in with the response that TLS was started for, and return the server's answer.

        The first answer is that of a client with a password which the server doesn't know, as every client's is that
        has a token: then the server asks for the token, if the user is an IAM user.

        :raises ServerRefused: the server refused the login.
        :raises NoTokenAsked: it asked for something else; the token has not been sent.
        :raises Malformed: its answer isn't the protocol.
        :raises PeerClosed: it closed the connection.
        """
        if self.peer.tls is None:
            raise Malformed("without TLS no token is sent")
        answer = secrets.token_bytes(_ANSWERS.get(self.greeting.plugin, 0))
        self._respond(self._response.for_server(self.greeting, token.user, answer))
        asked = False
        for _ in range(_MOST_PACKETS):
            packet = await self._packets.read()
            if packet[:1] == _OK:
                return packet
            if packet[:1] == _ERROR:
                refusal = ServerRefused(packet)
                if asked or refusal.number not in (1045, 1698):
                    raise refusal
                raise NoTokenAsked from refusal
            if asked or _plugin(packet) != CLEARTEXT:
                with contextlib.suppress(PeerClosed, Malformed):
                    await self._finish(packet)
                raise NoTokenAsked
            asked = True
            self._packets.write(token.text.encode() + b"\0")
        raise Malformed("the login takes too many packets")

    async def give_up(self) -> None:
        """End a connection before its login: by a login that the server refuses, which it doesn't count as an error."""
        try:
            if self._awaited:
                response = self._response.for_server(self.greeting, NOBODY, _empty(self.greeting.plugin))
                self._respond(response if self.peer.tls is not None else response.without_tls())
                async with asyncio.timeout(_LAST_WORD):
                    await self._finish(await self._packets.read())
        except (PeerClosed, Malformed, TimeoutError):
            pass  # The server has had its chance.
        finally:
            self.peer.close()

    def quit(self) -> None:
        """End a connection after its login."""
        try:
            self.peer.write(_QUIT)
        except PeerClosed:
            return
        self.peer.close()

    def _respond(self, response: Response) -> None:
        self._awaited = False
        self._packets.write(response.payload())

    async def _finish(self, packet: bytes) -> None:
        """Answer without a password until the server's last word."""
        for _ in range(_MOST_PACKETS):
            if packet[:1] == _OK:
                self.quit()
                return
            if packet[:1] == _ERROR:
                return
            self._packets.write(_empty(_plugin(packet)))
            packet = await self._packets.read()


def _plugin(packet: bytes) -> str:
    """Return the plugin that a server changes to; empty if it doesn't."""
    if packet[:1] != _SWITCH or len(packet) == 1:
        return ""
    return Fields(packet[1:]).last_text().decode("ascii", errors="replace")


def _empty(plugin: str) -> bytes:
    """Return what a client without a password answers."""
    return b"" if plugin == NATIVE else b"\0"
