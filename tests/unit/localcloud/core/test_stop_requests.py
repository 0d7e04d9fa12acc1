"""Signals that ask a process to stop, at every moment; each test has a process of its own."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

BEGIN = """
import logging, signal, sys, threading, time
logging.basicConfig(format="%(message)s")
from localcloud.core.stop_requests import Stopped, StopRequests
"""


@contextmanager
def running(program: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program until it has printed a line; it is killed in the end."""
    command = [sys.executable, "-c", BEGIN + program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n", process.communicate()
            yield process
        finally:
            process.kill()


def test_a_signal_is_heard_while_the_main_thread_has_the_lock_that_it_waits_with():
    """A handler that takes this lock would wait for the thread that it interrupts."""
    program = """
requests = StopRequests()
print("up", flush=True)
with requests._asked._cond:
    signal.raise_signal(signal.SIGTERM)
    time.sleep(0.2)
requests.wait()
"""
    with running(program) as process:
        assert process.wait(20) == 0


def test_signals_one_behind_the_other_are_one_request():
    """A shell signals all processes of a job, and `make` passes its signal on to the process that has it already."""
    with running('requests = StopRequests(); print("up", flush=True); requests.wait(); time.sleep(0.5)') as process:
        for _ in range(20):
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_later_signal_ends_the_process_at_once_whatever_the_main_thread_does():
    program = 'requests = StopRequests(); print("up", flush=True); requests.wait(); print("stopping", flush=True)\n'
    with running(program + "time.sleep(60)") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert process.stdout.readline() == "stopping\n"
        time.sleep(1.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def test_an_end_that_takes_too_long_is_cut_off_and_says_what_it_waits_for():
    program = """
from localcloud.databases.servers.server import wait_until
class Hanging:
    def poll(self): return None
requests = StopRequests(limit=0.3)
print("up", flush=True)
requests.wait()
wait_until(lambda: False, Hanging(), None)
"""
    with running(program) as process:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert said.startswith("did not end within 0 s and is killed: it waits in wait_until, localcloud/"), said


def test_a_thread_that_does_not_end_is_named_and_cut_off():
    program = """
requests = StopRequests(limit=1)
threading.Thread(target=time.sleep, args=(60,), name="a database").start()
print("up", flush=True)
requests.wait()
"""
    with running(program) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert said == "did not end within 1 s and is killed: it waits for the threads a database\n"


def test_a_start_stops_at_its_next_step():
    program = """
requests = StopRequests()
requests.check()
print("up", flush=True)
try:
    while True:
        requests.check()
        time.sleep(0.01)
except Stopped:
    sys.exit(7)
"""
    with running(program) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 7
