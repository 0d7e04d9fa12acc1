"""Accepts connections, also while the process has no file left to open: then it waits, and says so once."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable

__all__ = ["Acceptor"]

logger = logging.getLogger(__name__)

#: Connections that are accepted before the event loop goes on with others.
_AT_ONCE = 64
#: Seconds until another try after the system could give no connection, and until that is logged again.
_PAUSE, _SILENCE = 0.5, 60.0


class Acceptor:
    """Accepts the connections of a listening socket until it is closed.

    A server of asyncio would log a traceback for each of a hundred tries in every second without a free file.

    :param listening: stays open when this is closed.
    :param protocol: makes the protocol of a connection.
    :raises OSError: the process has no file left to open.
    """

    def __init__(self, listening: socket.socket, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        self._socket = listening.dup()
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._silent_until = 0.0
        self._loop.add_reader(self._socket, self._accept)

    def close(self) -> None:
        """Accept no more connections; those that were accepted stay."""
        if self._socket.fileno() == -1:
            return
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._socket.accept()
            except ConnectionAbortedError:
                continue
            except BlockingIOError:
                return
            except OSError as error:
                self._wait(error)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._open(connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        await self._loop.connect_accepted_socket(self._protocol, connection)

    def _wait(self, error: OSError) -> None:
        """Try again later; the clients wait meanwhile, in the queue of the socket."""
        if self._loop.time() >= self._silent_until:
            self._silent_until = self._loop.time() + _SILENCE
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            logger.error("clients wait, as no further connection can be accepted", extra={"reason": reason})
        self._loop.remove_reader(self._socket)
        self._pause = self._loop.call_later(_PAUSE, self._loop.add_reader, self._socket, self._accept)
