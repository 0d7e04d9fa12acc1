"""Connections to databases, without a driver: their time limits, and how they fail."""

import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from rdsiam.errors import ConnectionFailed

#: Code of a login that was abandoned because the server asks this user for a token instead of a password.
ASKS_FOR_TOKEN = "token"  # noqa: S105  a code, no password

#: Code of a login by token that was abandoned because PostgreSQL asks this user for a password instead.
ASKS_FOR_PASSWORD = "password"  # noqa: S105  a code, no password

#: Codes of a login that failed because all connections are taken: PostgreSQL's and MySQL's.
NO_SLOT = frozenset({"53300", "1040"})
#: Code of a login that failed because PostgreSQL's table of locks is full: each login needs some, also the master's.
NO_LOCKS = "53200"


@dataclass(frozen=True)
class Limits:
    """Time limits for one database, in seconds.

    :ivar connect: from the lookup of its name until the session is open, whatever arrives meanwhile.
    :ivar statement: for one statement on PostgreSQL, for one wait for an answer on MySQL and MariaDB.
    """

    connect: float = 5
    statement: float = 30


#: Limits of everything except the audit.
WORK = Limits()


@contextmanager
def cut_off(connection: Any, seconds: float) -> Iterator[threading.Event]:
    """Shut down a socket, or the socket of a session, after `seconds`, from another thread.

    Time limits of drivers restart with every byte that arrives; this one does not. Code that waits for the server then
    gets a lost connection. No thread is left behind.

    :return: an event that is set when the time is up.
    """
    # A descriptor of its own, since the driver may wrap or close its socket meanwhile.
    twin = socket.socket(fileno=os.dup(_descriptor(connection)))
    late = threading.Event()

    def shut() -> None:
        late.set()
        with suppress(OSError):  # the server was first
            twin.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0, seconds), shut)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()
        twin.close()


def _descriptor(connection: Any) -> int:
    # PyMySQL offers no public access to its socket.
    owner: Any = getattr(connection, "_sock", connection)
    return int(owner.fileno())


def addresses(host: str, port: int, seconds: float) -> list[str]:
    """Return the addresses of a host. Drivers report an unknown name and a port that doesn't answer alike.

    The system's resolver takes as long as it is configured to; it goes on in a thread that ends by itself.
    """
    resolved: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            resolved.put(error)
        else:
            resolved.put(list(dict.fromkeys(str(answer[4][0]) for answer in answers)))

    threading.Thread(target=resolve, daemon=True).start()
    try:
        result = resolved.get(timeout=seconds)
    except queue.Empty:
        raise ConnectionFailed(host, port, "name", f"the name was not resolved within {seconds:g} s") from None
    if isinstance(result, OSError):
        raise ConnectionFailed(host, port, "name", str(result))
    return result


def open_socket(host: str, port: int, end: float) -> socket.socket:
    """Open a TCP connection to the first address of `host` that accepts it."""
    problem = "the name has no address"
    for address in addresses(host, port, end - time.monotonic()):
        try:
            opened = socket.create_connection((address, port), timeout=max(0.1, end - time.monotonic()))
        except OSError as error:
            problem = str(error)
        else:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return opened
    raise ConnectionFailed(host, port, "port", problem)
