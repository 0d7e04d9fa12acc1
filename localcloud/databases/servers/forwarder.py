"""An endpoint that leads to other servers' ports: to the writer of a cluster, or to its readers in turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from localcloud.databases.servers.relay import CHUNK, Streams, hang_up, relay

_TARGET = "127.0.0.1"


class Forwarder:
    """Listens at `port` of some of this machine's addresses while it has a server to lead to.

    As on AWS, where an endpoint is a name, connections stay with the server that they were opened to.
    """

    def __init__(self, addresses: Sequence[str], port: int) -> None:
        self._addresses = tuple(addresses)
        self._port = port
        #: The ports that new connections are led to.
        self.targets: tuple[int, ...] = ()
        self._turn = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._servers: list[asyncio.Server] = []
        self._clients: set[asyncio.Task[None]] = set()

    def lead_to(self, ports: Sequence[int]) -> None:
        """Lead new connections to these ports in turn; listen no longer if there is none.

        :raises OSError: the own port is taken.
        """
        self.targets = tuple(ports)
        if ports and not self._servers:
            loop = self._loop or self._start()
            asyncio.run_coroutine_threadsafe(self._listen(), loop).result()
        elif not ports and self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()

    def stop(self) -> None:
        """Close every connection and end the thread."""
        if self._loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._cut_off(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None

    def _start(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"endpoint-{self._port}", daemon=True)
        self._thread.start()
        return self._loop

    async def _listen(self) -> None:
        for address in self._addresses:
            server = await asyncio.start_server(self._accept, address, self._port, limit=CHUNK, backlog=512)
            self._servers.append(server)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers = []

    async def _cut_off(self) -> None:
        await self._close()
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve((reader, writer)))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, client: Streams) -> None:
        upstream = await self._connect()
        if upstream is None:
            client[1].transport.abort()
            return
        try:
            await relay(client, upstream)
        finally:
            await hang_up(0.1, client[1], upstream[1])

    async def _connect(self) -> Streams | None:
        """Connect to the next server; a server that does not answer is passed over."""
        targets = self.targets
        self._turn += 1
        for number in range(len(targets)):
            try:
                port = targets[(self._turn + number) % len(targets)]
                return await asyncio.open_connection(_TARGET, port, limit=CHUNK)
            except OSError:
                continue
        return None
