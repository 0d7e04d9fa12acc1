"""The health port of a proxy: what its pages say, and its place, which a new configuration may change."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TypeAlias

from rdsiam.proxy import health, metrics, sockets
from rdsiam.proxy.acceptor import Acceptor
from rdsiam.proxy.server import Server
from rdsiam.proxy.settings import Settings

__all__ = ["HealthPort"]

#: Host and port; None: there is no health port.
_Place: TypeAlias = tuple[str, int] | None


class HealthPort:
    """Serves health and metrics of a proxy."""

    def __init__(self, server: Server) -> None:
        self._pages: Mapping[str, Callable[[], Awaitable[health.Answer]]] = {
            "/healthz": _live,
            "/readyz": _Ready(server),
            "/metrics": _Metrics(server),
        }
        self._place: _Place = None
        self._serving: list[Acceptor] = []

    async def change(self, settings: Settings, work: Callable[[], Awaitable[None]]) -> None:
        """Do some work, and then serve at the port of these settings; after an error all is as before.

        :raises ListenFailed: the port can't be had; the work was not begun.
        :raises Exception: as the work does.
        """
        former = self._place
        place = None if settings.health_port is None else (settings.health_host, settings.health_port)
        if place == former:
            await work()
            return
        # Two addresses of one port may exclude each other.
        gives_way = former is not None and place is not None and former[1] == place[1]
        if gives_way:
            self.close()
        new: Sequence[socket.socket] = ()
        try:
            new = _bind(place)
            await work()
        except BaseException:
            for each in new:
                each.close()
            if gives_way:
                self._serve(_bind(former))
            raise
        self.close()
        self._serve(new)
        self._place = place

    def close(self) -> None:
        """Accept no more requests."""
        for acceptor in self._serving:
            acceptor.close()
        self._serving = []

    def _serve(self, listening: Sequence[socket.socket]) -> None:
        self._serving = [health.serve(each, self._pages) for each in listening]
        for each in listening:
            each.close()


def _bind(place: _Place) -> Sequence[socket.socket]:
    return () if place is None else sockets.bind(*place, None)


async def _live() -> health.Answer:
    return health.Answer(HTTPStatus.OK, "ok\n")


class _Ready:
    """Tells whether new connections can be expected to succeed."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def __call__(self) -> health.Answer:
        if self._server.draining:
            return health.Answer(HTTPStatus.SERVICE_UNAVAILABLE, "draining\n")
        failures = await asyncio.gather(*(listening.service.check() for listening in self._server.listening))
        lines = [
            f"{listening.service.labels['listener']} {listening.listener.database}: {failure} [{failure.code}]\n"
            for listening, failure in zip(self._server.listening, failures, strict=True)
            if failure is not None
        ]
        lines += [f"{asked.database}: {failure} [{failure.code}]\n" for asked, failure in self._server.missing.items()]
        if lines:
            return health.Answer(HTTPStatus.SERVICE_UNAVAILABLE, "".join(lines))
        return health.Answer(HTTPStatus.OK, "ready\n")


class _Metrics:
    """The metrics of a server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def __call__(self) -> health.Answer:
        text = self._server.metrics.text(self._server.samples())
        return health.Answer(HTTPStatus.OK, text, metrics.CONTENT_TYPE)
