"""A cache in which concurrent threads load each value once."""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar, overload

_LOCKS = 64
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SingleFlightCache(Generic[Key, Value]):
    """Keeps values while they are valid. Thread-safe: of several threads that miss a key, one loads it for all.

    :param is_valid: tells whether a kept value may still be used.
    :param size: maximum number of entries; the oldest is evicted.
    """

    def __init__(self, is_valid: Callable[[Value], bool], size: int = 2000) -> None:
        self._is_valid = is_valid
        self._size = size
        self._values: dict[Key, Value] = {}
        self._lock = threading.Lock()
        # Fewer locks than keys: two keys that share a lock sometimes wait for each other, which is harmless.
        self._loading = tuple(threading.Lock() for _ in range(_LOCKS))

    @overload
    def get(self, key: Key, load: Callable[[], Value]) -> Value: ...
    @overload
    def get(self, key: Key, load: Callable[[], Value | None]) -> Value | None: ...
    def get(self, key: Key, load: Callable[[], Value | None]) -> Value | None:
        """Return the kept value of `key`, or else the value that `load` returns.

        Errors of `load` are raised. None is returned but not kept, so that the next caller loads again.
        """
        with self._loading[hash(key) % _LOCKS]:
            with self._lock:
                value = self._values.get(key)
            if value is not None and self._is_valid(value):
                return value
            value = load()
            with self._lock:
                self._values.pop(key, None)
                if value is not None:
                    while len(self._values) >= self._size:
                        del self._values[next(iter(self._values))]
                    self._values[key] = value
            return value
