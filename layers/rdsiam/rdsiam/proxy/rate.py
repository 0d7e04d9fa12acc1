"""A cap on new connections in any second: first come, first served."""

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["QueueFull", "Rate"]


class QueueFull(Exception):
    """The turn would come too late."""


class Rate:
    """Lets at most `per_second` callers pass within any second; the others wait in the order of their calls.

    :param longest_wait: seconds after which a caller gives up; a caller who would have to wait longer gives up at once.
    :param now: a monotonic clock; the event loop's by default.
    """

    def __init__(self, per_second: int, longest_wait: float, now: Callable[[], float] | None = None) -> None:
        self._per_second = per_second
        self._longest_wait = longest_wait
        self._now = now
        self._passed: deque[float] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """The number of callers that wait."""
        return len(self._waiting)

    async def turn(self) -> None:
        """Wait for the caller's turn.

        :raises QueueFull: it would come too late.
        """
        if not self._waiting and self._free():
            self._passed.append(self._time())
            return
        if len(self._waiting) // self._per_second >= self._longest_wait:
            raise QueueFull
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._schedule()
        try:
            async with asyncio.timeout(self._longest_wait):
                await future
        except TimeoutError:
            raise QueueFull from None
        finally:
            if not future.done() or future.cancelled():
                self._leave(future)

    def _leave(self, future: "asyncio.Future[None]") -> None:
        if future in self._waiting:
            self._waiting.remove(future)

    def _time(self) -> float:
        return self._now() if self._now is not None else asyncio.get_running_loop().time()

    def _free(self) -> bool:
        """Tell whether another caller may pass now."""
        earliest = self._time() - 1
        while self._passed and self._passed[0] <= earliest:
            self._passed.popleft()
        return len(self._passed) < self._per_second

    def _schedule(self) -> None:
        if self._timer is None and self._waiting:
            delay = max(0.0, self._passed[0] + 1 - self._time()) if self._passed else 0.0
            self._timer = asyncio.get_running_loop().call_later(delay, self._admit)

    def _admit(self) -> None:
        self._timer = None
        while self._waiting and self._free():
            future = self._waiting.popleft()
            if not future.done():
                self._passed.append(self._time())
                future.set_result(None)
        self._schedule()
