"""Databases without a server of their own, so that a fleet of a thousand can be measured on one machine."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from localcloud.databases.servers.postgres import PostgresServer
from localcloud.databases.servers.server import ServerAddress, ServerFailed, Verify


class _NoServer:
    """An endpoint's common part with a server: the address, without data or settings."""

    product = "no server of its own"

    def __init__(self, address: ServerAddress) -> None:
        self.address = address

    def set_iam(self, enabled: bool) -> None:
        """Do nothing: the server behind has IAM authentication on or off for all endpoints."""

    def set_master_password(self, password: str) -> None:
        """Do nothing: the server's master is another database's."""

    def set_parameters(self, values: Mapping[str, str]) -> None:
        """Do nothing: the parameters are the server's."""

    def copy_to(self, directory: Path) -> None:
        """Refuse, as there are no data."""
        raise ServerFailed(f"{self.address.host} has no data of its own for {directory}")

    def upgrade(self, version: str) -> None:
        """Do nothing: the server's version is another database's."""

    def renew(self) -> None:
        """Refuse, as there are no data."""
        raise ServerFailed(f"{self.address.host} has no data of its own")

    def promote(self) -> None:
        """Refuse, as the endpoint follows no server."""
        raise ServerFailed(f"{self.address.host} follows no other server")

    def take_over(self) -> None:
        """Refuse, as the endpoint follows no server."""
        self.promote()

    def follow(self, source: Self) -> None:
        """Refuse, as there are no data."""
        raise ServerFailed(f"{self.address.host} has no data of its own, and can't follow {source.address.host}")


class SharedEndpoint(_NoServer):
    """One more endpoint of a PostgreSQL server that is another database's, with tokens of its own."""

    def __init__(self, address: ServerAddress, server: PostgresServer, verify: Verify) -> None:
        super().__init__(address)
        self._server = server
        self._verify = verify

    def start(self) -> None:
        """Listen."""
        self._server.listen(self.address, self._verify)

    def stop(self) -> None:
        """Stop listening."""
        self._server.close(self.address)


class SilentEndpoint(_NoServer):
    """An endpoint that accepts connections and never answers, like a database that hangs."""

    def __init__(self, address: ServerAddress) -> None:
        super().__init__(address)
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Listen without accepting: the system takes connections, and clients wait."""
        self._socket = socket.create_server(self.address.socket, backlog=128)

    def stop(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
