"""A tunnel to a server."""

import contextlib
import socket
import threading


class Relay:
    """A tunnel: what arrives at a port of its own goes on to another.

    :ivar port: its own, on `at`.
    """

    def __init__(self, host: str, port: int, at: str = "127.0.0.1") -> None:
        self._goal = (host, port)
        self._listener = socket.create_server((at, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection(self._goal)
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, goal: socket.socket) -> None:
        with contextlib.suppress(OSError):  # either side may have ended first
            while data := source.recv(65536):
                goal.sendall(data)
            goal.shutdown(socket.SHUT_WR)
