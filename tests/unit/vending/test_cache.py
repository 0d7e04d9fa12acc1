"""Once: threads that want the same at once ask for it once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rdsiam.vending.cache import Once


def test_what_is_kept_is_not_asked_for_again():
    once = Once[str, int](lambda _: True)
    assert once.get("a", lambda: 1) == 1
    assert once.get("a", lambda: pytest.fail("asked again")) == 1


def test_what_is_good_no_more_is_asked_for_again():
    once = Once[str, int](lambda value: value > 1)
    assert once.get("a", lambda: 1) == 1
    assert once.get("a", lambda: 2) == 2
    assert once.get("a", lambda: pytest.fail("asked again")) == 2


def test_nothing_and_errors_are_not_kept():
    def fail():
        raise RuntimeError("not now")

    once = Once[str, int](lambda _: True)
    assert once.get("a", lambda: None) is None
    with pytest.raises(RuntimeError, match="not now"):
        once.get("a", fail)
    assert once.get("a", lambda: 3) == 3


def test_the_oldest_goes_first():
    once = Once[int, int](lambda _: True, size=2)
    for key in (1, 2, 3):
        once.get(key, lambda: 0)
    assert once.get(2, lambda: 1) == 0
    assert once.get(1, lambda: 1) == 1


def test_of_many_at_once_one_asks_and_all_get_its_answer():
    asked = []
    others_wait = threading.Event()

    def ask():
        asked.append(threading.get_ident())
        others_wait.wait(0.2)
        return len(asked)

    once = Once[str, int](lambda _: True)
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: once.get("a", ask), range(20)))
    assert (len(asked), set(found)) == (1, {1})


def test_one_that_is_asked_for_does_not_keep_others_waiting():
    once = Once[int, int](lambda _: True)
    begun, done = threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert done.wait(10)
        return 1

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(once.get, 1, slow)
        assert begun.wait(10)
        assert once.get(2, lambda: 2) == 2
        done.set()
        assert waiting.result(10) == 1
