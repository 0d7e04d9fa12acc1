"""Names of RDS's endpoints, in AWS's form, each at an address of its own of this machine.

AWS: one part of all names, such as `c9akciq32abc`, is an account's in a region; here it is a cloud's.
"""

from __future__ import annotations

import errno
import logging
import re
import secrets
import socket
import string
import threading

from localcloud.core import processes
from localcloud.core.hosts import AddressRange, HostsFile

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
_CHARACTERS = string.ascii_lowercase + string.digits


class Names:
    """The names of a cloud's endpoints, which programs of this machine find until `close`."""

    def __init__(self) -> None:
        #: The part of the names that is this cloud's.
        self.identifier = "c" + "".join(secrets.choice(_CHARACTERS) for _ in range(11))
        self._range = AddressRange()
        self._file = HostsFile()
        self._hosts: dict[str, str] = {}
        self._lock = threading.Lock()
        self._file.write(self._range.number, {})  # which takes out the names of clouds that were killed

    def close(self) -> None:
        """Take the names away, and give the addresses back."""
        with self._lock:
            self._hosts.clear()
            self._file.write(self._range.number, {})
            self._range.close()

    def instance(self, identifier: str, region: str) -> str:
        """Return the name of an instance."""
        return f"{identifier}.{self.identifier}.{region}.rds.amazonaws.com"

    def other(self, kind: str, identifier: str, region: str) -> str:
        """Return the name of another endpoint.

        :param kind: cluster, cluster-ro, cluster-custom or proxy.
        """
        return f"{identifier}.{kind}-{self.identifier}.{region}.rds.amazonaws.com"

    def add(self, host: str) -> str:
        """Give a name an address of its own, and return that."""
        _check(host)
        with self._lock:
            address = self._range.address()
            self._hosts[address] = host
            self._file.write(self._range.number, self._hosts)
        return address

    def rename(self, address: str, host: str) -> None:
        """Give an address another name."""
        _check(host)
        with self._lock:
            self._hosts[address] = host
            self._file.write(self._range.number, self._hosts)

    def remove(self, address: str) -> None:
        """Take the name of an address away."""
        with self._lock:
            self._hosts.pop(address, None)
            self._file.write(self._range.number, self._hosts)

    def host_of(self, address: str) -> str:
        """Return the name of an address."""
        return self._hosts[address]


def _check(host: str) -> None:
    """Check that a name is one, before it becomes a line of a file that all programs of this machine read."""
    if _NAME.fullmatch(host) is None:
        raise ValueError(f"{host!r} is no name of a host")


def port_at(address: str, port: int) -> int:
    """Return the port, or a free one if another program has it at all addresses of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen()
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            other = processes.free_port()
            logger.warning("port %s is another program's: a database listens at port %s instead", port, other)
            return other
    return port
