"""Time limits: sessions are cut off in time and not later, and a resolver that hangs holds no other up."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from rdsiam.engines.time_limits import Alarms, Threads, addresses, cut_off
from rdsiam.errors import ConnectionFailed

LONG = 60


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield two connected sockets, the second of which is silent."""
    near, far = socket.socketpair()
    with near, far:
        near.settimeout(LONG)
        yield near, far


def test_a_silent_server_is_cut_off_when_the_time_is_up(pair):
    with cut_off(pair[0], 0.05) as late:
        assert pair[0].recv(1) == b""
        assert late.is_set()


def test_a_server_that_sends_a_byte_now_and_then_is_cut_off_as_well(pair):
    near, far = pair

    def trickle() -> None:
        try:
            while True:
                far.sendall(b".")
                time.sleep(0.01)
        except OSError:
            return

    thread = threading.Thread(target=trickle)
    with cut_off(near, 0.1):
        thread.start()
        while near.recv(1):
            pass
    thread.join(LONG)
    assert not thread.is_alive()


def test_a_session_that_ends_in_time_stays_open(pair):
    near, far = pair
    with cut_off(near, 0.05) as late:
        pass
    time.sleep(0.1)
    assert not late.is_set()
    far.sendall(b"x")
    assert near.recv(1) == b"x"


def test_the_time_is_up_at_once_if_none_is_left(pair):
    with cut_off(pair[0], -1):
        assert pair[0].recv(1) == b""


def test_alarms_ring_in_the_order_of_their_times_whenever_they_were_set():
    alarms, now, last = Alarms(), time.monotonic(), threading.Event()
    rung: list[int] = []
    for number in (4, 1, 3, 2):
        alarms.set(now + number / 50, partial(rung.append, number))
    alarms.set(now + 5 / 50, last.set)
    assert last.wait(LONG)
    assert rung == [1, 2, 3, 4]


def test_a_cancelled_alarm_never_rings_and_delays_no_other():
    alarms, rung, later = Alarms(), threading.Event(), threading.Event()
    first = alarms.set(time.monotonic() + 0.05, rung.set)
    alarms.set(time.monotonic() + 0.1, later.set)
    first.cancel()
    assert later.wait(LONG)
    assert not rung.is_set()


def test_an_alarm_that_is_ringing_is_over_when_it_has_been_cancelled():
    alarms, ringing, rung = Alarms(), threading.Event(), []

    def ring() -> None:
        ringing.set()
        time.sleep(0.05)
        rung.append(True)

    alarm = alarms.set(time.monotonic(), ring)
    assert ringing.wait(LONG)
    alarm.cancel()
    assert rung


def test_many_alarms_need_one_thread():
    alarms, before = Alarms(), threading.active_count()
    for alarm in [alarms.set(time.monotonic() + LONG, lambda: None) for _ in range(100)]:
        alarm.cancel()
    assert threading.active_count() <= before + 1


def test_calls_one_after_the_other_share_threads():
    threads = Threads()
    used: set[threading.Thread] = set()
    for _ in range(20):
        done = threading.Event()

        def call(done: threading.Event = done) -> None:
            used.add(threading.current_thread())
            done.set()

        threads.run(call)
        assert done.wait(LONG)
        time.sleep(0.005)  # until the thread is idle again
    assert len(used) < 20


def test_a_call_that_hangs_holds_no_other_up():
    threads, released, done = Threads(), threading.Event(), threading.Event()

    def hang() -> None:
        released.wait(LONG)

    for _ in range(10):
        threads.run(hang)
    threads.run(done.set)
    assert done.wait(LONG)
    released.set()


def test_a_name_is_resolved_once_for_each_of_its_addresses(monkeypatch):
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (ip, 1)) for ip in ("::1", "1.2.3.4", "::1")]
    )
    assert addresses("db.example", 5432, LONG) == ["::1", "1.2.3.4"]


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 64 + ".example", "."])
def test_what_has_no_address_fails_at_the_name(host):
    with pytest.raises(ConnectionFailed) as caught:
        addresses(host, 5432, LONG)
    assert caught.value.stage == "name"


def test_a_resolver_that_hangs_is_left_alone(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(LONG) and [])
    with pytest.raises(ConnectionFailed, match=r"not resolved within 0\.01 s"):
        addresses("db.example", 5432, 0.01)
    released.set()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_process_has_threads_of_its_own(pair):
    with cut_off(pair[0], LONG):
        pass
    assert addresses("localhost", 5432, LONG)
    child = os.fork()
    if child == 0:
        resolved = bool(addresses("localhost", 5432, LONG))
        with cut_off(pair[0], 0.01):
            os._exit(0 if resolved and pair[0].recv(1) == b"" else 1)
    assert os.waitpid(child, 0)[1] == 0
