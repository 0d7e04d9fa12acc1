"""A cache in which threads that want the same thing at once ask for it once."""

import threading
from collections.abc import Callable, Hashable
from typing import overload

_LOCKS = 64


class Once[Key: Hashable, Value]:
    """Keeps values as long as they are good; any number of threads may share it.

    :param is_good: tells whether a kept value may still be used.
    :param size: so many are kept at most; then the oldest goes.
    """

    def __init__(self, is_good: Callable[[Value], bool], size: int = 2000) -> None:
        self._is_good = is_good
        self._size = size
        self._known: dict[Key, Value] = {}
        self._lock = threading.Lock()
        # Few for all keys: two keys of one lock wait for each other at times, which does no harm.
        self._asking = tuple(threading.Lock() for _ in range(_LOCKS))

    @overload
    def get(self, key: Key, ask: Callable[[], Value]) -> Value: ...
    @overload
    def get(self, key: Key, ask: Callable[[], Value | None]) -> Value | None: ...
    def get(self, key: Key, ask: Callable[[], Value | None]) -> Value | None:
        """Return what is kept for `key`, or else what `ask` returns.

        What it raises is raised, and None is returned but not kept: the next one asks again.
        """
        with self._asking[hash(key) % _LOCKS]:
            with self._lock:
                known = self._known.get(key)
            if known is not None and self._is_good(known):
                return known
            found = ask()
            with self._lock:
                self._known.pop(key, None)
                if found is not None:
                    while len(self._known) >= self._size:
                        del self._known[next(iter(self._known))]
                    self._known[key] = found
            return found
