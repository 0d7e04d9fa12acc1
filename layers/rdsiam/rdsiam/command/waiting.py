"""Reports an endpoint that has not answered for some seconds, so that nobody waits without knowing for what."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from rdsiam.command.output import progress

#: Seconds to connect; and seconds without an answer, after which the endpoint is reported.
SECONDS = 3.0


@contextmanager
def report(endpoint: str) -> Iterator[None]:
    """Report the endpoint if the block has not ended after some seconds."""
    timer = _timer(endpoint)
    try:
        yield
    finally:
        timer.cancel()


class Watch:
    """Reports endpoints of AWS that don't answer, each once. Thread-safe."""

    def __init__(self, events: Any) -> None:
        """Watch the calls of all clients that get their events from this emitter of botocore."""
        self._timers: dict[int, threading.Timer] = {}
        self._reported: set[str] = set()
        events.register("before-send", self._begin)
        events.register("response-received", self._end)

    def _begin(self, request: Any, **_: Any) -> None:
        host = urlsplit(request.url).netloc
        if host not in self._reported:
            self._timers[threading.get_ident()] = _timer(host, self._reported)

    def _end(self, **_: Any) -> None:
        timer = self._timers.pop(threading.get_ident(), None)
        if timer is not None:
            timer.cancel()


def _timer(endpoint: str, reported: set[str] | None = None) -> threading.Timer:
    def say() -> None:
        if reported is not None:
            reported.add(endpoint)
        progress(f"{endpoint} has not answered for {SECONDS:g} s; still waiting …")

    timer = threading.Timer(SECONDS, say)
    timer.daemon = True
    timer.start()
    return timer
