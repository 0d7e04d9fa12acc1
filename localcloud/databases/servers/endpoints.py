"""Databases without a server of their own, so that a fleet of a thousand can be measured on one machine."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

from localcloud.databases.servers.postgres import PostgresServer
from localcloud.databases.servers.server import ServerFailed, Verify


class _NoServer:
    """What an endpoint has in common with a server: its address, and nothing that could be changed."""

    host = "localhost"

    def __init__(self, port: int) -> None:
        self.port = port

    def set_iam(self, enabled: bool) -> None:
        """Leave it: the server behind has it switched on or off for all."""

    def set_master_password(self, password: str) -> None:
        """Leave it: the server's master is another database's."""

    def set_parameters(self, values: Mapping[str, str]) -> None:
        """Leave them: they are the server's."""

    def copy_to(self, directory: Path) -> None:
        """Refuse: there are no data."""
        raise ServerFailed(f"port {self.port} has no data of its own for {directory}")

    def promote(self) -> None:
        """Refuse: it follows nobody."""
        raise ServerFailed(f"port {self.port} follows no other server")


class SharedEndpoint(_NoServer):
    """One more endpoint of a PostgreSQL server that is another database's, with tokens of its own."""

    def __init__(self, port: int, server: PostgresServer, verify: Verify) -> None:
        super().__init__(port)
        self._server = server
        self._verify = verify

    def start(self) -> None:
        """Answer."""
        self._server.listen(self.port, self._verify)

    def stop(self) -> None:
        """Answer no more."""
        self._server.close(self.port)


class SilentEndpoint(_NoServer):
    """Accepts connections and never says a word, like a database that hangs."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Let the system accept: as long as nobody does, clients wait."""
        self._socket = socket.create_server((self.host, self.port), backlog=128)

    def stop(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
