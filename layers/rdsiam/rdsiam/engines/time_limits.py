"""Time limits of what has none: sessions whose drivers wait as long as bytes arrive, and the system's resolver.

Both need a thread beside the one that waits. Starting one takes a tenth of a millisecond of CPU, which the audit of a
database would pay twice, so they are reused.
"""

import heapq
import itertools
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rdsiam.errors import ConnectionFailed


@contextmanager
def cut_off(connection: Any, seconds: float) -> Iterator[threading.Event]:
    """Shut down a socket, or the socket of a session, after `seconds`, from another thread.

    Time limits of drivers restart with every byte that arrives; this one does not. Code that waits for the server then
    gets a lost connection.

    :return: an event that is set when the time is up.
    """
    # A descriptor of its own, since the driver may wrap or close its socket meanwhile.
    twin = socket.socket(fileno=os.dup(_descriptor(connection)))
    late = threading.Event()

    def shut() -> None:
        late.set()
        with suppress(OSError):  # the server was first
            twin.shutdown(socket.SHUT_RDWR)

    alarm = _alarms.set(time.monotonic() + max(0, seconds), shut)
    try:
        yield late
    finally:
        alarm.cancel()
        twin.close()


def addresses(host: str, port: int, seconds: float) -> list[str]:
    """Return the addresses of a host. Drivers report an unknown name and a port that doesn't answer alike.

    The system's resolver takes as long as it is configured to; it goes on in its thread.

    :raises ConnectionFailed: the name has no address, or none was known after `seconds`.
    """
    resolved: queue.SimpleQueue[list[str] | OSError | UnicodeError] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: not a host name
            resolved.put(error)
        else:
            resolved.put(list(dict.fromkeys(str(answer[4][0]) for answer in answers)))

    _threads.run(resolve)
    try:
        result = resolved.get(timeout=max(0, seconds))
    except queue.Empty:
        raise ConnectionFailed(host, port, "name", f"the name was not resolved within {seconds:g} s") from None
    if not isinstance(result, list):
        raise ConnectionFailed(host, port, "name", str(result))
    return result


def _descriptor(connection: Any) -> int:
    # PyMySQL offers no public access to its socket.
    owner: Any = getattr(connection, "_sock", connection)
    return int(owner.fileno())


class Alarm:
    """A call at a set time."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call
        self._lock = threading.Lock()

    @property
    def cancelled(self) -> bool:
        """Whether the call has been made or cancelled."""
        return self._call is None

    def cancel(self) -> None:
        """Cancel the call. If it is being made, return after it."""
        with self._lock:
            self._call = None

    def ring(self) -> None:
        """Make the call, once, unless it was cancelled."""
        with self._lock:
            if self._call is not None:
                self._call()
                self._call = None


class Alarms:
    """Alarms of a process, which one thread rings. Their calls must be short and raise nothing."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, Alarm]] = []
        self._numbers = itertools.count()
        self._started = False

    def set(self, at: float, call: Callable[[], None]) -> Alarm:
        """Set an alarm.

        :param at: by `time.monotonic`.
        """
        alarm = Alarm(call)
        with self._changed:
            heapq.heappush(self._waiting, (at, next(self._numbers), alarm))
            if not self._started:
                self._started = True
                threading.Thread(target=self._ring, name="time-limits", daemon=True).start()
            elif self._waiting[0][2] is alarm:
                self._changed.notify()
        return alarm

    def _ring(self) -> None:
        while True:
            self._next().ring()

    def _next(self) -> Alarm:
        """Wait for the next alarm that isn't cancelled, and return it at its time."""
        with self._changed:
            while True:
                while self._waiting and self._waiting[0][2].cancelled:
                    heapq.heappop(self._waiting)
                seconds = self._waiting[0][0] - time.monotonic() if self._waiting else None
                if seconds is not None and seconds <= 0:
                    return heapq.heappop(self._waiting)[2]
                self._changed.wait(seconds)


class Threads:
    """Threads for calls that may hang: an idle one is reused, and a new one starts if none is idle."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)

    def run(self, call: Callable[[], None]) -> None:
        """Make the call, which must raise nothing, in a thread that doesn't keep the process from ending."""
        self._calls.put(call)
        if not self._idle.acquire(blocking=False):
            threading.Thread(target=self._work, name="resolver", daemon=True).start()

    def _work(self) -> None:
        while True:
            self._calls.get()()
            self._idle.release()


def _renew() -> None:
    """Begin anew: a process that was forked has none of the threads."""
    global _alarms, _threads
    _alarms, _threads = Alarms(), Threads()


_alarms, _threads = Alarms(), Threads()
os.register_at_fork(after_in_child=_renew)
