"""Connections in memory between two peers, cut into pieces as a test likes."""

import asyncio
from collections.abc import Callable
from typing import Any

from rdsiam.proxy.peer import Peer

#: Returns the number of bytes that arrive next, of those that wait: at least one.
Cut = Callable[[int], int]
_HIGH, _LOW = 256 * 1024, 64 * 1024


class Pipe(asyncio.Transport):
    """One end of a connection. What is written arrives at the other end, piece by piece, while that end reads.

    :ivar largest: the most bytes that ever waited for the other end.
    :cvar deliveries: counts what arrives anywhere, so that a test notices that nothing more does.
    """

    deliveries = 0

    def __init__(self, protocol: Peer, cut: Cut, address: tuple[str, int]) -> None:
        super().__init__({"peername": address})
        self.protocol = protocol
        self.other: Pipe
        self.largest = 0
        self._loop = asyncio.get_running_loop()
        self._cut = cut
        self._inbox = bytearray()
        self._ended = False  # nothing more comes into the inbox
        self._end_told = False
        self._paused = False
        self._closing = False
        self._closed = False
        self._scheduled = False
        self._other_waits = False

    def write(self, data: Any) -> None:
        if self._closing or self.other._ended or self.other._closed:
            return
        self.other._inbox += data
        self.largest = max(self.largest, len(self.other._inbox))
        if len(self.other._inbox) > _HIGH and not self.other._other_waits:
            self.other._other_waits = True
            self.protocol.pause_writing()
        self.other._schedule()

    def write_eof(self) -> None:
        self.other._ended = True
        self.other._schedule()

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._schedule()

    def is_reading(self) -> bool:
        return not self._paused

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return len(self.other._inbox)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.write_eof()
            self._loop.call_soon(self._lose)

    def abort(self) -> None:
        self.close()

    def _lose(self) -> None:
        if not self._closed:
            self._closed = True
            self.protocol.connection_lost(None)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if self._paused or self._closing:
            return
        if self._inbox:
            room = self.protocol.get_buffer(-1)
            count = min(self._cut(len(self._inbox)), len(room), len(self._inbox))
            room[:count] = self._inbox[:count]
            del self._inbox[:count]
            if self._other_waits and len(self._inbox) < _LOW:
                self._other_waits = False
                self.other.protocol.resume_writing()
            Pipe.deliveries += 1
            self.protocol.buffer_updated(count)
            self._schedule()
        elif self._ended and not self._end_told:
            self._end_told = True
            Pipe.deliveries += 1
            self.protocol.eof_received()


def whole(count: int) -> int:
    """Cut nothing."""
    return count


def connect(cut: Cut = whole, address: tuple[str, int] = ("192.0.2.1", 5432)) -> tuple[Peer, Peer]:
    """Return two peers that are connected with each other.

    :param address: of the second one, as the first one sees it.
    """
    first, second = Peer(), Peer()
    here, there = Pipe(first, cut, address), Pipe(second, cut, ("127.0.0.1", 1))
    here.other, there.other = there, here
    first.connection_made(here)
    second.connection_made(there)
    return first, second
