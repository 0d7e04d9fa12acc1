"""Threads for calls that may hang."""

import subprocess
import sys
import threading
import time

import pytest

from rdsiam.proxy.threads import Threads


def test_results_and_errors_reach_the_caller():
    threads = Threads(2, "calls")
    assert threads.submit(divmod, 7, 2).result(5) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 1, 0).result(5)


def test_calls_share_a_limited_number_of_threads():
    threads, go = Threads(2, "calls"), threading.Event()
    names: set[str] = set()

    def call() -> None:
        names.add(threading.current_thread().name)
        go.wait(5)

    futures = [threads.submit(call) for _ in range(6)]
    while len(names) < 2:
        time.sleep(0.001)
    assert futures[5].cancel(), "it waits for a thread"
    go.set()
    for future in futures[:5]:
        future.result(5)
    assert names == {"calls-1", "calls-2"}


def test_a_thread_that_is_free_is_used_again():
    threads = Threads(8, "calls")
    names = {threads.submit(lambda: threading.current_thread().name).result(5)}
    for _ in range(3):
        time.sleep(0.01)  # a result is there a moment before its thread is free
        names.add(threads.submit(lambda: threading.current_thread().name).result(5))
    assert names == {"calls-1"}


def test_the_end_of_the_process_does_not_wait_for_a_call_that_hangs():
    script = "import time; from rdsiam.proxy.threads import Threads; Threads(1, 'x').submit(time.sleep, 60); print(1)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "1\n"
