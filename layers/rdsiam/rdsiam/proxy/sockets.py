"""Sockets that the proxy listens on: loopback addresses, others, and unix sockets that only their owner can use."""

import errno
import fcntl
import ipaddress
import logging
import os
import resource
import socket
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from rdsiam.core.counts import counted
from rdsiam.errors import ListenFailed

__all__ = ["allow", "bind", "is_loopback", "keep_alive", "remove"]

logger = logging.getLogger(__name__)

_BACKLOG = 1024
#: Open files beside connections: standard streams, listeners, those of the API's clients and of refused clients.
_FILES = 400
#: Seconds without bytes before a connection is probed, between probes, and the number of probes that may be lost.
_KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
#: Seconds in which other proxies have replaced their sockets in a folder.
_LOCK = 0.5
#: Bytes of the path of a unix socket, without the zero at its end.
_LONGEST_PATH = 107 if sys.platform == "linux" else 103
#: Errors of a machine without IPv6.
_NO_ADDRESS = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine only; a name is none, but for localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(
    host: str, port: int, path: Path | None, former: Mapping[tuple[str, int], socket.socket] = MappingProxyType({})
) -> list[socket.socket]:
    """Return listening sockets: of the unix socket if there is a path, else of the address.

    `localhost` is 127.0.0.1 and, if the machine has it, ::1, at one port.

    :param port: 0: any that is free.
    :param former: sockets of this process by their addresses, which are used again.
    :raises ListenFailed: the address is in use, or not this machine's.
    """
    if path is not None:
        return [_unix(path)]
    if host != "localhost":
        return [former.get((host, port)) or _tcp(host, port)]
    first = former.get(("127.0.0.1", port)) or _tcp("127.0.0.1", port)
    port = first.getsockname()[1]
    try:
        return [first, former.get(("::1", port)) or _tcp("::1", port)]
    except ListenFailed as error:
        if error.number in _NO_ADDRESS:
            return [first]
        if first not in former.values():
            first.close()
        raise


def keep_alive(connection: socket.socket) -> None:
    """Let the system notice a peer that has disappeared, and send every write at once."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if (number := getattr(socket, name, None)) is not None:  # macOS has other names
            connection.setsockopt(socket.IPPROTO_TCP, number, value)


def allow(connections: int) -> int:
    """Raise this process's limit of open files as far as it may, for a number of clients and their databases.

    :return: connections that the limit has room for: all, or fewer.
    """
    needed = 2 * connections + _FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most >= needed:
        return connections
    room = max((most - min(_FILES, most // 3)) // 2, 1)
    logger.warning(
        "the system's limit of open files is too low for max_connections",
        extra={"reason": f"ulimit -n is {hard}, needed are {needed}; there is room for {counted(room, 'connection')}"},
    )
    return room


def remove(listening: socket.socket) -> None:
    """Close a listening socket; the file of a unix socket is removed if it is still this one's and that is possible."""
    if listening.family == socket.AF_UNIX:
        path = Path(listening.getsockname())
        try:
            with _locked(path):
                listening.close()
                # A file that another process has put there since then accepts connections.
                if _is_stale(path):
                    path.unlink(missing_ok=True)
        except (OSError, ListenFailed) as error:
            logger.warning("the file of a unix socket can't be removed", extra={"reason": f"{path}: {error}"})
    listening.close()


def _tcp(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICHOST
        )[0]
    except OSError:
        raise ListenFailed(f"{host}: not an IP address", "give the address of an interface, or localhost") from None
    where = f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
    try:
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _failed(where, error) from None
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise _failed(where, error) from None
    return listening


def _unix(path: Path) -> socket.socket:
    if (length := len(os.fsencode(path))) > _LONGEST_PATH:
        problem = f"{path}: too long for a unix socket: {length} bytes, at most {_LONGEST_PATH}"
        raise ListenFailed(problem, "choose a shorter path")
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.setblocking(False)
        with _locked(path):
            if _is_stale(path):
                path.unlink()
            listening.bind(str(path))
            path.chmod(0o600)  # nobody connects before listen
            listening.listen(_BACKLOG)
    except (OSError, ListenFailed) as error:
        listening.close()
        if isinstance(error, ListenFailed):
            raise
        raise _failed(str(path), error) from None
    return listening


def _is_stale(path: Path) -> bool:
    """Tell whether a path is a socket that no process listens on.

    :raises ListenFailed: it is another kind of file.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise ListenFailed(f"{path} exists and is no socket", "name another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            return False  # its queue is full
    return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other proxies from replacing a socket in this folder at the same time.

    :raises ListenFailed: another program keeps the lock, as everyone can who may read the folder.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        until = time.monotonic() + _LOCK
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise ListenFailed(
                        f"{path.parent} is locked by another program", "choose a folder of your own"
                    ) from None
            time.sleep(0.01)
        yield
    finally:
        os.close(folder)


def _failed(where: str, error: OSError) -> ListenFailed:
    remedy = {
        errno.EADDRINUSE: "another program listens there: stop it, or choose another port or path",
        errno.EADDRNOTAVAIL: "choose an address of this machine",
        errno.EACCES: "choose a port from 1024 on, or a folder that you may write to",
        errno.ENOENT: "make the folder first",
    }.get(error.errno or 0, "choose another address or path")
    return ListenFailed(f"{where}: {error.strerror or error}", remedy, error.errno or 0)
