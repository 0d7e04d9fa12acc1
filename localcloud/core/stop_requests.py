"""SIGTERM and SIGINT as requests to stop: none is lost, and the end that they ask for has a time limit."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

logger = logging.getLogger(__name__)

#: Seconds from the first signal to the end of the process.
LIMIT = 30.0
#: Seconds in which several signals are one request: a shell signals the whole job, and its `make` passes that on.
_ONE_REQUEST = 1.0
#: Seconds for the sentence that says why; a terminal may take none.
_SAYING = 2.0
_NUMBERS = (signal.SIGTERM, signal.SIGINT)
_PACKAGE = Path(__file__).resolve().parent.parent


class Stopped(Exception):
    """The process was asked to stop before all had started."""


class StopRequests:
    """The requests of this process, from now on; made by the main thread, once.

    The interpreter itself writes each signal to a socket, which a thread reads. A handler in Python would run between
    any two instructions of the main thread: if that has just taken the lock that the handler needs too, both wait for
    ever. The second request, or the time limit, ends the process at once; the reaper cleans up.

    :param limit: seconds from the first request to the end of the process.
    """

    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit
        self._asked = threading.Event()
        self._main = threading.get_ident()
        self._signals, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in _NUMBERS:
            signal.signal(number, _do_nothing)
        threading.Thread(target=self._read, daemon=True, name="signals").start()

    @property
    def asked(self) -> bool:
        """Whether the process was asked to stop."""
        return self._asked.is_set()

    def check(self) -> None:
        """Go on unless the process was asked to stop.

        :raises Stopped: it was.
        """
        if self.asked:
            raise Stopped("stopped before all had started")

    def wait(self) -> None:
        """Wait until the process is asked to stop."""
        self._asked.wait()

    def _read(self) -> None:
        self._receive(None)
        began = time.monotonic()
        self._asked.set()
        while (left := began + self._limit - time.monotonic()) > 0:
            if self._receive(left) and time.monotonic() > began + _ONE_REQUEST:
                os._exit(130)
        self._give_up()

    def _receive(self, seconds: float | None) -> bool:
        """Wait for a request; False if the time is up."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            try:
                self._signals.settimeout(None if deadline is None else max(deadline - time.monotonic(), 0.001))
                if not set(self._signals.recv(64)).isdisjoint(_NUMBERS):
                    return True
            except TimeoutError:
                return False

    def _give_up(self) -> NoReturn:
        said = threading.Thread(target=self._say, daemon=True)
        said.start()
        said.join(_SAYING)
        os._exit(1)

    def _say(self) -> None:
        logger.error("did not end within %.0f s and is killed: %s", self._limit, self._waiting())

    def _waiting(self) -> str:
        """Return what the process waits for: the place in localcloud's code, or threads that have not ended."""
        frame: FrameType | None = sys._current_frames().get(self._main)
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(_PACKAGE) and path.name != "__main__.py":
                return f"it waits in {frame.f_code.co_qualname}, {path.relative_to(_PACKAGE.parent)}:{frame.f_lineno}"
            frame = frame.f_back
        names = sorted(each.name for each in threading.enumerate() if not each.daemon and each.ident != self._main)
        return f"it waits for the threads {', '.join(names)}" if names else "it waits for something outside localcloud"


def _do_nothing(_: int, __: object) -> None:
    """Replace the signal's default, which ends the process."""
