"""An engine of the proxy behind a listener of a few lines: it has no limits, logs or metrics."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rdsiam.proxy.contracts import Client, ClientRefused, Engine, Listener, Token, UpstreamFailed
from rdsiam.proxy.peer import Peer, PeerClosed
from rdsiam.proxy.postgres.engine import PostgresEngine
from tests.proxy_upstream import PartialUpstream


@dataclass
class StubUpstream(PartialUpstream):
    """A server with TLS, whose tokens a function makes.

    :ivar addresses: where connections by name lead, in turn; the certificate's name stays.
    :ivar connected: the addresses of all connections that were made.
    """

    host: str
    authority: str | Path
    addresses: list[tuple[str, int]]
    make_token: Callable[[str], str] = "token-of-{}".format
    sentence: str = ""
    connected: list[tuple[str, int]] = field(default_factory=list)
    _turn: int = 0

    async def token(self, user: str) -> Token:
        return Token(self.make_token(user), self.host, self.addresses[0][1], user)

    async def connect(self, address: tuple[str, int] | None = None) -> Peer:
        if address is None:
            address = self.addresses[self._turn % len(self.addresses)]
            self._turn += 1
        self.connected.append(address)
        try:
            _, peer = await asyncio.get_running_loop().create_connection(Peer, *address)
        except OSError as error:
            raise UpstreamFailed(f"no connection: {error}", "port") from None
        return peer

    async def start_tls(self, peer: Peer) -> None:
        context = ssl.create_default_context(cafile=self.authority)
        try:
            await peer.start_tls(context, self.host)
        except OSError as error:
            raise UpstreamFailed(f"TLS: {error}", "tls") from None

    def explain(self, message: str) -> str:
        return f"{message} (rdsiam: {self.sentence})" if self.sentence else message


@dataclass
class Proxy:
    """A running proxy.

    :ivar refusals: the messages of clients that were refused, and of logins that failed upstream.
    """

    engine: Engine
    upstream: StubUpstream
    listener: Listener
    port: int = 0
    refusals: list[str] = field(default_factory=list)


@contextlib.contextmanager
def running_proxy(
    upstream: StubUpstream,
    *,
    engine: Engine | None = None,
    user: str | None = None,
    users: frozenset[str] = frozenset(),
    secret: bytes | None = None,
    tls: ssl.SSLContext | None = None,
    tls_required: bool = False,
    path: Path | None = None,
) -> Iterator[Proxy]:
    """Run a proxy at a free port of loopback, or at a unix socket, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    proxy = Proxy(engine or PostgresEngine(), upstream, Listener("orders", user=user, users=users, socket=path))
    tasks: set[asyncio.Task[None]] = set()

    async def serve(peer: Peer) -> None:
        opened = None
        try:
            client = Client(peer, proxy.listener, secret, tls, tls_required)
            opened = await proxy.engine.login(client, upstream)
            if opened is not None:
                peer.forward_to(opened.upstream, opened.inspect, ends_other=True)
                opened.upstream.forward_to(peer, ends_other=True)
                await peer.closed()
                await opened.upstream.closed()
                opened.closed()
        except (ClientRefused, UpstreamFailed) as refusal:
            proxy.refusals.append(str(refusal))
        except PeerClosed:
            pass  # the client has gone
        finally:
            for each in [peer, *([opened.upstream] if opened is not None else [])]:
                each.close()
                await each.closed()

    def accept(peer: Peer) -> None:
        task = loop.create_task(serve(peer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def start() -> asyncio.Server:
        if path is not None:
            return await loop.create_unix_server(lambda: Peer(accept), path)
        return await loop.create_server(lambda: Peer(accept), "127.0.0.1", 0)

    async def stop() -> None:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    if path is None:
        proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
