"""The endpoint of a cluster leads to servers in turn, passes over dead ones, and listens only while there is one."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from localcloud.core import processes
from localcloud.databases.servers.forwarder import Forwarder

ADDRESS = "127.0.0.2"


class Server:
    """A server that greets each client with its own port, and then repeats what it receives."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.socket = ("127.0.0.1", int(self._socket.getsockname()[1]))
        self.port = self.socket[1]
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        for each in (self._socket, *self._clients):
            with contextlib.suppress(OSError):  # the other side was first
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self._clients.append(client)
            client.sendall(f"{self.port}\n".encode())
            threading.Thread(target=self._repeat, args=(client,), daemon=True).start()

    def _repeat(self, client: socket.socket) -> None:
        try:
            while data := client.recv(1000):
                client.sendall(data)
        except OSError:
            return


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    made = [Server() for _ in range(3)]
    yield made
    for server in made:
        server.stop()


@pytest.fixture
def endpoint() -> Iterator[tuple[Forwarder, int]]:
    port = processes.free_port()
    forwarder = Forwarder((ADDRESS, port))
    yield forwarder, port
    forwarder.stop()


def connect(port: int) -> socket.socket:
    return socket.create_connection((ADDRESS, port), timeout=5)


def greeting(port: int) -> int:
    with connect(port) as client:
        return int(client.makefile().readline())


def test_connections_go_to_the_servers_in_turn(servers, endpoint):
    forwarder, port = endpoint
    forwarder.lead_to([server.socket for server in servers])
    first = [greeting(port) for _ in servers]
    assert sorted(first) == sorted(server.port for server in servers)
    assert [greeting(port) for _ in servers] == first


def test_a_server_that_is_down_is_passed_over(servers, endpoint):
    forwarder, port = endpoint
    forwarder.lead_to([("127.0.0.1", processes.free_port()), servers[0].socket])
    assert {greeting(port) for _ in range(4)} == {servers[0].port}


def test_without_a_server_nobody_listens_and_a_client_is_cut_off_if_none_is_up(endpoint):
    forwarder, port = endpoint
    with pytest.raises(ConnectionRefusedError):
        connect(port)
    forwarder.lead_to([("127.0.0.1", processes.free_port())])
    with connect(port) as client:
        assert closed(client)
    forwarder.lead_to([])
    with pytest.raises(ConnectionRefusedError):
        connect(port)


def test_connections_stay_with_their_server_until_it_ends_or_the_endpoint_does(servers, endpoint):
    forwarder, port = endpoint
    forwarder.lead_to([servers[0].socket])
    client = connect(port)
    lines = client.makefile()
    assert int(lines.readline()) == servers[0].port
    forwarder.lead_to([servers[1].socket])
    assert greeting(port) == servers[1].port
    client.sendall(b"still here\n")
    assert lines.readline() == "still here\n"
    servers[0].stop()
    assert closed(client)
    with connect(port) as other:
        assert int(other.makefile().readline()) == servers[1].port
        forwarder.stop()
        assert closed(other)


def closed(client: socket.socket) -> bool:
    """Return whether the other side has closed the connection."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
