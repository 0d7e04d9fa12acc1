"""The unix socket at which the authentication plugin of MariaDB and MySQL asks whether a token is valid."""

from __future__ import annotations

import logging
import socket
import socketserver
import struct
import threading
from pathlib import Path
from typing import cast

from localcloud.core import processes
from localcloud.databases.servers.server import MAX_TOKEN, Verify
from localcloud.databases.token_verifier import LoginRefused

logger = logging.getLogger(__name__)

_LIMIT = 10.0  # seconds for a question to arrive
_MAX_USER = 1024  # bytes; names have at most 80 characters


class VerifierSocket:
    """Listens at `path`, and answers each question of the plugin in a thread; the C source describes the protocol.

    Only encrypted connections come here: MySQL's plugin refuses others, and the accounts of MariaDB are REQUIRE SSL.
    """

    def __init__(self, path: Path, verify: Verify) -> None:
        path.unlink(missing_ok=True)
        self.path = path
        self._server = _Server(str(path), _Question)
        self._server.verify = verify
        processes.give_to_nobody(path)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="plugin-verifier", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.path.unlink(missing_ok=True)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    verify: Verify

    def handle_error(self, *_: object) -> None:
        # socketserver would print a traceback, with what the client sent.
        logger.warning("a question of the authentication plugin was cut off")


class _Question(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        connection: socket.socket = self.request
        connection.settimeout(_LIMIT)
        user_length, token_length = struct.unpack("!II", _read(connection, 8))
        if user_length <= _MAX_USER and token_length <= MAX_TOKEN:
            text = _read(connection, user_length + token_length)
            if _is_good(cast("_Server", self.server).verify, text[:user_length], text[user_length:]):
                connection.sendall(b"OK\n")
                return
        connection.sendall(b"NO\n")


def _is_good(verify: Verify, user: bytes, token: bytes) -> bool:
    try:
        verify(user.decode(), token.decode("ascii"), True)
    except (LoginRefused, UnicodeDecodeError):
        return False
    except Exception as error:
        # A token that can't be judged is refused. The error's text is left out: it might quote the token.
        logger.error("a login was not judged: %s", type(error).__name__)
        return False
    return True


def _read(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length:
        chunk = connection.recv(length - len(received))
        if not chunk:
            raise EOFError
        received += chunk
    return received
