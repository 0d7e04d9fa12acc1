"""The cache of vending: concurrent threads load a value once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rdsiam.vending.cache import SingleFlightCache


def test_a_kept_value_is_not_loaded_again():
    cache = SingleFlightCache[str, int](lambda _: True)
    assert cache.get("a", lambda: 1) == 1
    assert cache.get("a", lambda: pytest.fail("loaded again")) == 1


def test_an_invalid_value_is_loaded_again():
    cache = SingleFlightCache[str, int](lambda value: value > 1)
    assert cache.get("a", lambda: 1) == 1
    assert cache.get("a", lambda: 2) == 2
    assert cache.get("a", lambda: pytest.fail("loaded again")) == 2


def test_none_and_errors_are_not_kept():
    def fail():
        raise RuntimeError("not now")

    cache = SingleFlightCache[str, int](lambda _: True)
    assert cache.get("a", lambda: None) is None
    with pytest.raises(RuntimeError, match="not now"):
        cache.get("a", fail)
    assert cache.get("a", lambda: 3) == 3


def test_the_oldest_entry_is_evicted():
    cache = SingleFlightCache[int, int](lambda _: True, size=2)
    for key in (1, 2, 3):
        cache.get(key, lambda: 0)
    assert cache.get(2, lambda: 1) == 0
    assert cache.get(1, lambda: 1) == 1


def test_of_many_threads_one_loads_a_value_for_all():
    asked = []
    others_wait = threading.Event()

    def ask():
        asked.append(threading.get_ident())
        others_wait.wait(0.2)
        return len(asked)

    cache = SingleFlightCache[str, int](lambda _: True)
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: cache.get("a", ask), range(20)))
    assert (len(asked), set(found)) == (1, {1})


def test_loading_one_key_delays_no_other():
    cache = SingleFlightCache[int, int](lambda _: True)
    begun, done = threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert done.wait(10)
        return 1

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.get, 1, slow)
        assert begun.wait(10)
        assert cache.get(2, lambda: 2) == 2
        done.set()
        assert waiting.result(10) == 1
