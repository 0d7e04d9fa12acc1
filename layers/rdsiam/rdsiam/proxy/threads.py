"""Threads for calls that may hang: the end of the process doesn't wait for them."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

__all__ = ["Threads"]

_T = TypeVar("_T")
_Work: TypeAlias = Callable[[], None]


class Threads(Executor):
    """Up to a number of threads, each begun when no other is free.

    A ThreadPoolExecutor waits for its threads when the process ends, which then takes as long as the slowest answer of
    AWS; and one that has an error to report would seem to hang.

    :param name: of the threads, with a number.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._work: SimpleQueue[_Work] = SimpleQueue()
        self._lock = threading.Lock()
        self._begun = 0
        self._pending = 0

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> "Future[_T]":
        """Call a function in one of the threads."""
        future: Future[_T] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    result = fn(*args, **kwargs)
                except BaseException as error:  # the future's owner raises it
                    future.set_exception(error)
                else:
                    future.set_result(result)

        with self._lock:
            self._pending += 1
            if self._pending > self._begun and self._begun < self._most:
                self._begun += 1
                threading.Thread(target=self._run, name=f"{self._name}-{self._begun}", daemon=True).start()
        self._work.put(work)
        return future

    def _run(self) -> None:
        while True:
            self._work.get()()
            with self._lock:
                self._pending -= 1
