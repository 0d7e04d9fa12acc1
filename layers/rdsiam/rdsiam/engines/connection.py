"""Connections to databases, without a driver: their time limits, and how they fail."""

import socket
import time
from dataclasses import dataclass

from rdsiam.engines.time_limits import addresses
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
