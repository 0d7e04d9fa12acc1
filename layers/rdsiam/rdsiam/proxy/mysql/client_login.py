"""The login of a client: its response to the greeting, and its password if the proxy asks for it."""

import contextlib
import hashlib
import hmac
import secrets
from typing import Final

from rdsiam.proxy.contracts import Client, ClientRefused
from rdsiam.proxy.mysql.charsets import is_known_of_clients, is_readable
from rdsiam.proxy.mysql.handshake import NATIVE, PROTOCOL_41, SHA2, Greeting, Response
from rdsiam.proxy.mysql.packets import Malformed, Packets, error
from rdsiam.proxy.peer import PeerClosed

__all__ = ["ClientLogin"]

_FAST_ANSWER: Final = b"\x01\x03"
_SWITCH: Final = b"\xfe"
#: What a client says instead of a scramble if it has no password.
_NO_PASSWORD: Final = (b"", b"\0")
_LONGEST_USER: Final = 80


class ClientLogin:
    """The login of one client, from the greeting that it gets to the answer.

    :ivar response: of the client.
    :ivar user: database user of the connection.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._packets = Packets(client.peer)
        self._greeted = False
        self._old = False
        self.response = Response(PROTOCOL_41, 0, 0, b"", 0)
        self.user = ""

    async def take(self, server: Greeting) -> None:
        """Greet the client, read its response, and check its password and its user.

        :param server: the greeting of the server.
        :raises ClientRefused: the proxy refused the client, which has been told.
        :raises PeerClosed: the client closed the connection.
        """
        scramble = bytes(1 + secrets.randbelow(255) for _ in range(20))
        greeting = server.for_client(scramble, self._client.tls is not None)
        self._packets.write(greeting.payload())
        self._greeted = True
        try:
            await self._take_response()
            await self._check_password(greeting)
        except Malformed as problem:
            raise self.refuse(1043, "08S01", f"Bad handshake: {problem}") from None
        user = self._choose_user()
        self._check_names(user)
        self.user = user

    def accept(self, answer: bytes) -> None:
        """Pass the server's answer to the login on.

        :raises PeerClosed: the client closed the connection.
        """
        self._packets.write(answer)

    def fail(self, number: int, state: str, message: str) -> None:
        """Tell the client an error, if it is still there."""
        with contextlib.suppress(PeerClosed):
            self._packets.write(error(number, state if self._greeted and not self._old else "", message))

    def refuse(self, number: int, state: str, message: str) -> ClientRefused:
        """Tell the client an error, and return it for the log."""
        self.fail(number, state, message)
        return ClientRefused(message)

    async def _take_response(self) -> None:
        self.response = Response.parse(await self._packets.read())
        if self.response.old:
            self._old = True
            raise self.refuse(
                1251, "", "Client does not support the authentication protocol of MySQL 4.1 and later; upgrade it"
            )
        if self.response.asks_for_tls:
            await self._start_tls()
        elif self._client.tls_required:
            raise self.refuse(3159, "HY000", "Connections using insecure transport are prohibited by rdsiam proxy")

    async def _start_tls(self) -> None:
        if self._client.tls is None:
            raise Malformed("TLS wasn't offered")
        try:
            await self._client.peer.start_tls(self._client.tls)
        except OSError as problem:
            self._client.peer.abort()
            raise ClientRefused(f"TLS with the client failed: {type(problem).__name__}") from None
        self.response = Response.parse(await self._packets.read())
        if self.response.old or not self.response.asks_for_tls:
            raise Malformed("another response came after TLS began")

    async def _check_password(self, greeting: Greeting) -> None:
        """Let the client authenticate itself by its own plugin, if that is one of two, else by the greeting's."""
        plugin, answer = self.response.plugin or NATIVE, self.response.answer
        if plugin != greeting.plugin and self.response.plugin:
            plugin = plugin if plugin in (NATIVE, SHA2) else greeting.plugin
            self._packets.write(_SWITCH + plugin.encode() + b"\0" + greeting.scramble + b"\0")
            answer = await self._packets.read()
        secret = self._client.secret
        if secret is not None and not hmac.compare_digest(answer, _scramble(plugin, secret, greeting.scramble)):
            raise self.refuse(
                1045, "28000", f"Access denied for user {self._named()}: rdsiam proxy asks for its own password, and "
                f"{'got none' if answer in _NO_PASSWORD else 'got another one'}"
            )  # fmt: skip
        if plugin == SHA2 and answer not in _NO_PASSWORD:
            self._packets.write(_FAST_ANSWER)

    def _choose_user(self) -> str:
        listener = self._client.listener
        if listener.user is not None:
            return listener.user
        try:
            user = self.response.user.decode()
        except UnicodeDecodeError:
            user = ""
        if not user or len(user) > _LONGEST_USER or not user.isprintable():
            raise self.refuse(
                1045, "28000", "Access denied: name a database user, as rdsiam proxy has no fixed one here"
            )
        if listener.users and user not in listener.users:
            raise self.refuse(1045, "28000", f"Access denied for user {self._named()}: rdsiam proxy lets others log in")
        return user

    def _check_names(self, user: str) -> None:
        """Check that the server can read the login, as a client could block the proxy's host otherwise."""
        charset = self.response.charset
        if not is_known_of_clients(charset):
            raise self.refuse(1231, "42000", "Variable 'character_set_client' can't be set to ucs2, utf16 or utf32")
        if not is_readable(user.encode(), charset) or not is_readable(self.response.database, charset):
            raise self.refuse(
                1300, "HY000", "Invalid name in the login: connect with utf8mb4, or choose the schema after it (USE)"
            )

    def _named(self) -> str:
        """Return the client's user for a message: without control characters, and not too long."""
        return repr(self.response.user[:_LONGEST_USER].decode(errors="replace"))


def _scramble(plugin: str, secret: bytes, scramble: bytes) -> bytes:
    """Return what a client with a password answers."""
    if plugin == NATIVE:
        first = hashlib.sha1(secret).digest()  # noqa: S324  the protocol's
        mask = hashlib.sha1(scramble + hashlib.sha1(first).digest()).digest()  # noqa: S324
    else:
        first = hashlib.sha256(secret).digest()
        mask = hashlib.sha256(hashlib.sha256(first).digest() + scramble).digest()
    return bytes(a ^ b for a, b in zip(first, mask, strict=True))
