"""An endpoint that leads to other servers: to the writer of a cluster, or to its readers in turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from localcloud.databases.servers.relay import CHUNK, Streams, hang_up, relay

#: An address of this machine, and a port.
Socket = tuple[str, int]


class Forwarder:
    """Listens at an address of this machine while it has a server to lead to.

    As on AWS, where an endpoint is a name, connections stay with the server that they were opened to.
    """

    def __init__(self, address: Socket) -> None:
        self._address = address
        #: The servers that new connections are led to.
        self.targets: tuple[Socket, ...] = ()
        self._turn = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    def lead_to(self, targets: Sequence[Socket]) -> None:
        """Lead new connections to these servers in turn; listen no longer if there is none.

        :raises OSError: the own port is taken.
        """
        self.targets = tuple(targets)
        if targets and self._server is None:
            loop = self._loop or self._start()
            asyncio.run_coroutine_threadsafe(self._listen(), loop).result()
        elif not targets and self._loop is not None:
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
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"endpoint-{self._address[0]}", daemon=True)
        self._thread.start()
        return self._loop

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, *self._address, limit=CHUNK, backlog=512)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._server = None

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
                return await asyncio.open_connection(*targets[(self._turn + number) % len(targets)], limit=CHUNK)
            except OSError:
                continue
        return None
