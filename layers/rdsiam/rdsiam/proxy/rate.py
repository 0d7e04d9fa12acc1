"""A cap on new connections in any second: first come, first served."""

import asyncio
from collections import deque

__all__ = ["QueueFull", "Rate"]


#: A timer of the event loop may be early by this, in seconds.
_RESOLUTION = 1e-6


class QueueFull(Exception):
    """The turn would come too late."""


class Rate:
    """Lets at most `per_second` callers pass within any second; the others wait in the order of their calls.

    :param longest_wait: seconds; a caller who would have to wait longer is refused at once.
    """

    def __init__(self, per_second: int, longest_wait: float) -> None:
        self._per_second = per_second
        self._longest_wait = longest_wait
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
            self._passed.append(_now())
            return
        if self._next_turn() - _now() > self._longest_wait:
            raise QueueFull
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._schedule()
        try:
            await future
        except asyncio.CancelledError:
            if future in self._waiting:
                self._waiting.remove(future)
            raise

    def _next_turn(self) -> float:
        """Return the time at which a new caller would pass: a second after the one that is `per_second` before it."""
        rounds, position = divmod(len(self._waiting), self._per_second)
        return self._passed[position] + 1 + rounds if position < len(self._passed) else _now() + rounds

    def _free(self) -> bool:
        """Tell whether another caller may pass now."""
        now = _now() + _RESOLUTION
        while self._passed and self._passed[0] + 1 <= now:
            self._passed.popleft()
        return len(self._passed) < self._per_second

    def _schedule(self) -> None:
        if self._timer is None and self._waiting:
            at = self._passed[0] + 1 if self._passed else _now()
            self._timer = asyncio.get_running_loop().call_at(at, self._admit)

    def _admit(self) -> None:
        self._timer = None
        while self._waiting and self._free():
            future = self._waiting.popleft()
            if not future.done():
                self._passed.append(_now())
                future.set_result(None)
        self._schedule()


def _now() -> float:
    return asyncio.get_running_loop().time()
