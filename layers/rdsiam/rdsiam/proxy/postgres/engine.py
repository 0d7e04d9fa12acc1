"""PostgreSQL's protocol in the proxy: logins, and requests to cancel."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from rdsiam.proxy import tasks
from rdsiam.proxy.contracts import Client, ClientRefused, Opened, Token, Upstream, UpstreamFailed
from rdsiam.proxy.peer import Peer, PeerClosed
from rdsiam.proxy.postgres.backends import Backends
from rdsiam.proxy.postgres.client_login import Refusal, admit, read_startup
from rdsiam.proxy.postgres.messages import Malformed, Startup, fatal
from rdsiam.proxy.postgres.server_login import ServerLogin, ServerRefused, verify

_T = TypeVar("_T")
#: Code of rdsiam → SQLSTATE. All others are failures of the connection.
_SQLSTATES = {
    "access-ended": "57P01",
    "expired-credentials": "28000",
    "login": "28000",
    "login-timeout": "57014",
    "no-answer": "57P03",
    "not-allowed": "28000",
    "reason-required": "28000",
    "shutting-down": "57P01",
    "too-many-connections": "53300",
    "too-many-new-connections": "53300",
    "try-again": "57P03",
    "unavailable": "57P03",
    "user-revoked": "28000",
}
_CONNECTION_FAILURE = "08006"
#: ReadyForQuery outside of a transaction: the last bytes of an answer.
_READY = b"Z\0\0\0\x05I"
#: Types of messages that a server sends without being asked.
_ASIDE = b"ANS"


class PostgresEngine:
    """PostgreSQL's protocol at one listener: see `rdsiam.proxy.contracts.Engine`."""

    def __init__(self) -> None:
        self._backends = Backends()

    async def login(self, client: Client, upstream: Upstream) -> Opened | None:
        """Take a client's login, log in upstream, and tell the client; or pass a request to cancel on."""
        try:
            first = await read_startup(client)
            if isinstance(first, Startup):
                user = await admit(client, first)
                return await _while_connected(client.peer, self._log_in(client.peer, upstream, first, user))
            try:
                if first is not None:
                    await self._backends.cancel(first, upstream)
            finally:
                client.peer.close()  # only now, as a client that cancels waits for it; without an answer, as a server
            return None
        except Refusal as refusal:
            _end_with(client.peer, b"" if refusal.sqlstate is None else fatal(str(refusal), refusal.sqlstate))
            raise ClientRefused(str(refusal)) from None
        except ServerRefused as refused:
            _end_with(client.peer, refused.response)
            raise
        except UpstreamFailed as failure:
            _end_with(client.peer, self.failed(str(failure), failure.code))
            raise

    def failed(self, message: str, code: str) -> bytes:
        """Return an error before or instead of a login, in the protocol."""
        return fatal(message, _SQLSTATES.get(code, _CONNECTION_FAILURE))

    async def _log_in(self, client: Peer, upstream: Upstream, startup: Startup, user: str) -> Opened:
        try:
            packet = startup.packet(user)
        except Malformed as malformed:
            raise Refusal(str(malformed), malformed.sqlstate) from None
        server = await upstream.connect()
        # A token takes a while if the API is asked for it; in the meantime the connection becomes a verified one.
        token = asyncio.ensure_future(upstream.token(user))
        work = self._log_in_at(server, ServerLogin(upstream, server, client, user, token, startup.replicates), packet)
        return await _unless_failed(token, work)

    async def _log_in_at(self, server: Peer, login: ServerLogin, packet: bytes) -> Opened:
        address = login.upstream.address_of(server)
        forget: list[Callable[[], None]] = []

        def closed() -> None:
            for function in forget:
                function()

        try:
            await verify(login.upstream, server)
            await login.run(packet, lambda key_data: forget.append(self._backends.add(key_data, address)))
        except BaseException:
            closed()
            server.abort()
            raise
        return Opened(
            server,
            login.user,
            closed=closed,
            idle=lambda: login.client.silent or server.tail.endswith(_READY),
            # A client that replicates speaks while its server does, so nobody knows where a message ends.
            answered=lambda: not login.replicates and server.tail[-6:-1] in (b"", _READY[:-1]),
            aside=lambda data: server.tail.endswith(_READY) and _is_aside(data),
        )


async def _while_connected(peer: Peer, work: Coroutine[Any, Any, _T]) -> _T:
    """Return the result of work, which ends as soon as the client has gone.

    A client that has sent a statement already may have closed this direction only, and wait for the answer.

    :raises PeerClosed: the client has gone.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(peer.ended())
    try:
        futures: set[asyncio.Future[Any]] = {task, gone}
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and not peer.buffered:
            raise PeerClosed
        return await task
    finally:
        await tasks.end(gone)
        await tasks.end(task)


async def _unless_failed(token: "asyncio.Future[Token]", work: Coroutine[Any, Any, _T]) -> _T:
    """Return the result of work, which ends as soon as its token is denied."""
    task = asyncio.ensure_future(work)
    try:
        futures: set[asyncio.Future[Any]] = {task, token}
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        if token.done():
            token.result()
        return await task
    finally:
        await tasks.end(task)
        await tasks.end(token)


def _is_aside(data: bytes) -> bool:
    """Tell whether bytes are whole messages that a server sends between two statements: NOTIFY, notices, settings."""
    start, end = 0, len(data)
    while start + 5 <= end and data[start] in _ASIDE:
        start += 1 + int.from_bytes(data[start + 1 : start + 5], "big")
    return start == end


def _end_with(peer: Peer, response: bytes) -> None:
    """Send a client's last message, if it is still there, and close its connection."""
    with contextlib.suppress(PeerClosed):
        peer.write(response)
    peer.close()
