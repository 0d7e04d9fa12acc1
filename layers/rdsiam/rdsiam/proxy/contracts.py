"""The seams of the proxy: a listener, its upstream, and the login of one engine's protocol."""

import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from rdsiam.proxy.peer import Peer

__all__ = [
    "Client",
    "ClientRefused",
    "Engine",
    "EngineName",
    "Listener",
    "Opened",
    "Token",
    "Upstream",
    "UpstreamFailed",
]

EngineName = Literal["postgres", "mysql"]


@dataclass(frozen=True)
class Listener:
    """A port or unix socket, and the database behind it.

    :ivar database: identifier, ARN or endpoint, as every command takes it.
    :ivar endpoint: writer, reader, or the name of an instance, a custom endpoint, a proxy's endpoint. None: the one
        that `database` names, such as the host of a reader endpoint; otherwise the writer.
    :ivar user: the database user of every client; None: each client names its own, among `users`.
    :ivar users: users that clients may name; empty: any user that upstream gives a token for.
    :ivar host: address to listen on, if there is no `socket`; localhost is 127.0.0.1 and ::1.
    :ivar port: None: the engine's usual port, or the next one that this proxy doesn't use; 0: any that is free.
    :ivar socket: path of a unix socket.
    """

    database: str
    endpoint: str | None = None
    user: str | None = None
    users: frozenset[str] = frozenset()
    host: str = "localhost"
    port: int | None = None
    socket: Path | None = None


@dataclass(frozen=True)
class Token:
    """A token, and the endpoint and user that it is for."""

    text: str = field(repr=False)
    host: str
    port: int
    user: str


class UpstreamFailed(Exception):
    """No connection to the database can be had.

    The message is the sentence for the client, as doctor would say it: problem and remedy, without secrets.

    :ivar code: of rdsiam, in kebab case: not-allowed, user-revoked, expired-credentials, throttled, name, port, tls …
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class ClientRefused(Exception):
    """The proxy itself refused a client, which has been told: wrong password, no TLS, another user, hostile bytes.

    The message is for the log: it has no secret, and no bytes of the client but its user's name.
    """


class Upstream(Protocol):
    """One database as the proxy reaches it. Made once for each listener."""

    async def engine(self) -> EngineName:
        """Return the protocol that the database speaks; looked up at the start.

        :raises UpstreamFailed: the database is unknown, or not allowed.
        """

    async def users(self) -> frozenset[str]:
        """Return the users that the caller may be, as the API lists them; empty if no API is asked (`--local`).

        :raises UpstreamFailed: the database is unknown, or not allowed.
        """

    async def token(self, user: str) -> Token:
        """Return a fresh token; throttled calls are retried with jitter, within a time limit.

        :raises UpstreamFailed: denied, revoked, expired credentials, no answer.
        """

    async def connect(self, address: tuple[str, int] | None = None) -> Peer:
        """Open a TCP connection to the database's endpoint, with keepalive, within a time limit.

        A connection by name waits for its turn in the rate of new connections; call this before `token`, so that the
        certificate is verified before there is a token to send.

        :param address: an IP address and port of an earlier connection, as `address_of` returned it: a request to
            cancel has to reach the same server. None: the endpoint, by its name.
        :raises UpstreamFailed: the name doesn't resolve, or no address answers.
        """

    def address_of(self, peer: Peer) -> tuple[str, int]:
        """Return the IP address and port that an upstream connection leads to."""

    async def start_tls(self, peer: Peer) -> None:
        """Change an upstream connection to TLS: the certificate's authority and the endpoint's name are verified.

        :raises UpstreamFailed: not trusted, another name, no TLS.
        """

    def explain(self, message: str) -> str:
        """Return a server's error message with the sentence that doctor would add; without one, the message.

        The sentence is behind the message: `MESSAGE (rdsiam: SENTENCE)`.
        The result is one line of bounded length, without control characters and without tokens.
        """

    async def ended(self, users: Collection[str]) -> Mapping[str, str]:
        """Return those of these users that the caller may no longer be, each with the reason as a sentence.

        For `--cut`: asked from time to time, with the users of open connections. Access has ended only if the API
        says so: an API that doesn't answer, or can't decide, ends nothing.

        :raises UpstreamFailed: whether access has ended can't be known: `--local` without an API.
        """


@dataclass(frozen=True)
class Client:
    """A client that has connected, and what its login needs.

    :ivar secret: the password that clients have to give; None: none is asked for.
    :ivar tls: for clients that ask for TLS; None: TLS is declined.
    :ivar tls_required: clients without TLS are refused, before they give a password.
    """

    peer: Peer
    listener: Listener
    secret: bytes | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    tls_required: bool = False


@dataclass(frozen=True)
class Opened:
    """A login that has succeeded: the client has its answer, and bytes may be forwarded both ways.

    :ivar inspect: see `Peer.forward_to`, for bytes from the client; None: they go on as they are.
    :ivar closed: is called once when the connection has ended.
    :ivar idle: tells whether the client is between two statements and outside of a transaction, by the bytes that were
        forwarded last (`Peer.tail`): such a connection may be ended with `Engine.failed` while the proxy shuts down.
    :ivar answered: tells whether the server has given its last answer in whole, or nothing of it yet: then an error may
        be sent to the client. In the middle of an answer its bytes would become data: the rest of a row.
    :ivar aside: tells of the server's bytes whether they are no answer, but what it sends between two statements; then
        they don't count as forwarded last.
    """

    upstream: Peer
    user: str
    inspect: Callable[[bytes], bytes] | None = None
    closed: Callable[[], None] = lambda: None
    idle: Callable[[], bool] = lambda: False
    answered: Callable[[], bool] = lambda: False
    aside: Callable[[bytes], bool] = lambda _: False


class Engine(Protocol):
    """The protocol of one engine. Made once for each listener, so it may hold state of its connections.

    `rdsiam.proxy.postgres.engine.PostgresEngine()` and `rdsiam.proxy.mysql.engine.MySQLEngine()`.
    """

    async def login(self, client: Client, upstream: Upstream) -> Opened | None:
        """Take a client's login, log in upstream, and tell the client.

        Every error reaches the client in its protocol before this returns: `UpstreamFailed` is caught here and
        raised again, so that the server counts and logs it.

        :return: None after a request to cancel, which was passed on: there is nothing to forward.
        :raises PeerClosed: the client or the database closed the connection.
        :raises UpstreamFailed: the database, or rdsiam, refused; the client has been told.
        :raises ClientRefused: the proxy refused the client, which has been told.
        """

    def failed(self, message: str, code: str) -> bytes:
        """Return an error of the proxy's own, in the protocol: the login took too long, shutting down, access ended.

        It is sent during the login or between two answers, and the connection is closed after it.
        """
