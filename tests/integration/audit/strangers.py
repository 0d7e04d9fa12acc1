"""Servers that are no databases: silent, trickling, closing, and one that takes a login and then trickles."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

from localcloud.databases.servers.postgres import PostgresServer

Behaviour = Callable[[socket.socket, threading.Event], None]


class Stranger:
    """A TCP server on localhost that behaves in one way until it is closed."""

    def __init__(self, behave: Behaviour) -> None:
        self._behave = behave
        self._over = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._serve, name="stranger", daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self._listening.close()

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                accepted, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=[accepted], name="stranger", daemon=True).start()

    def _talk(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            self._behave(accepted, self._over)


def silent(_: socket.socket, over: threading.Event) -> None:
    over.wait()


def closing(connection: socket.socket, over: threading.Event) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def talking(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def greeting_slowly(connection: socket.socket, over: threading.Event) -> None:
    """Begin MySQL's greeting, of 16 MB, a byte at a time."""
    connection.sendall(b"\xff\xff\xff\x00\x0a")
    _trickle(connection, over)


def encrypting_slowly(connection: socket.socket, over: threading.Event) -> None:
    """Agree to encrypt, as PostgreSQL does, and begin a TLS record, a byte at a time."""
    connection.recv(8)
    connection.sendall(b"S\x16\x03\x03\x3f\xff")
    _trickle(connection, over)


def answering_slowly(context: ssl.SSLContext) -> Behaviour:
    """Take a login as PostgreSQL does, and answer the first query with a row description, a byte at a time."""

    def behave(connection: socket.socket, over: threading.Event) -> None:
        encrypted = _login(connection, context)
        encrypted.sendall(_message(b"R", struct.pack("!i", 0)) + _message(b"Z", b"I"))
        encrypted.recv(4096)
        encrypted.sendall(b"T" + struct.pack("!i", 1 << 24))
        _trickle(encrypted, over)

    return behave


def repeating_the_password(context: ssl.SSLContext) -> Behaviour:
    """Refuse a login, as PostgreSQL does, with an error that holds the password and a line feed."""

    def behave(connection: socket.socket, over: threading.Event) -> None:
        encrypted = _login(connection, context)
        text = b"SFATAL\0C28000\0Mno good:\n\x1b[31m" + b" ".join(_passwords[-1:]) + b"\0\0"
        encrypted.sendall(_message(b"E", text))

    return behave


_passwords: list[bytes] = []


def _login(connection: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    connection.recv(8)
    connection.sendall(b"S")
    encrypted = context.wrap_socket(connection, server_side=True)
    encrypted.recv(4096)
    encrypted.sendall(_message(b"R", struct.pack("!i", 3)))
    _passwords.append(encrypted.recv(65536)[5:-1])
    return encrypted


def _message(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("!i", len(content) + 4) + content


def _trickle(connection: socket.socket, over: threading.Event) -> None:
    while not over.wait(0.05):
        connection.sendall(b"\x00")


def context_of(server: PostgresServer) -> ssl.SSLContext:
    """Return the TLS context of a server, to be it."""
    directory = server._directory / "tls"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    return context
