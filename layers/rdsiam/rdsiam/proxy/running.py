"""A run of the proxy: signals, health, and the exit."""

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from enum import Enum
from http import HTTPStatus
from typing import Any

from rdsiam.errors import RdsiamError
from rdsiam.proxy import health, metrics, sockets, tasks
from rdsiam.proxy.contracts import UpstreamFailed
from rdsiam.proxy.notify import READY, RELOADING, STOPPING, notify
from rdsiam.proxy.server import Server
from rdsiam.proxy.settings import Settings

__all__ = ["End", "run"]

logger = logging.getLogger(__name__)


class End(Enum):
    """The way in which a run has ended."""

    #: All connections had ended, or were idle.
    COMPLETE = "complete"
    #: Connections were ended at the time limit.
    CUT = "cut"
    #: A second signal has ended everything at once.
    AT_ONCE = "at once"


async def run(server: Server, load: Callable[[], Settings | None], started: Callable[[], None]) -> End:
    """Listen until SIGTERM or SIGINT, then drain.

    :param load: reads the settings again at SIGHUP; None if they are in no file, or the terminal has gone: SIGHUP is
        then the end, too.
    :param started: is called once everything listens.
    :raises Exception: as `Server.start` does.
    """
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    serving = asyncio.ensure_future(_serve(server, started))
    background: list[asyncio.Task[None]] = []
    try:
        if await _ended_before(serving, signals):
            return End.AT_ONCE
        background += [asyncio.ensure_future(work) for work in (server.cut_ended(), server.find_missing())]
        while (number := await signals.get()) == signal.SIGHUP:
            notify(RELOADING)
            reloading = asyncio.ensure_future(_reload(server, load))
            if second := await _ended_before(reloading, signals):
                number = second
                break
            if not reloading.result():
                break
            notify(READY)
        return await _drain(server, number, signals)
    finally:
        for task in background:
            await tasks.end(task)
        if not serving.cancelled() and serving.done() and serving.exception() is None:
            for pages in serving.result():
                pages.close()


async def _serve(server: Server, started: Callable[[], None]) -> list[asyncio.Server]:
    """Start everything, and return the servers of the health port."""
    settings = server.settings
    listening: list[socket.socket] = []
    if settings.health_port is not None:
        listening = sockets.bind(settings.health_host, settings.health_port, None)
    try:
        await server.start()
    except BaseException:
        for each in listening:
            each.close()
        raise
    pages: dict[str, Callable[[], Awaitable[health.Answer]]] = {
        "/healthz": _live,
        "/readyz": _Ready(server),
        "/metrics": _Metrics(server),
    }
    serving = [await health.serve(each, pages) for each in listening]
    started()
    notify(READY)
    names = [listening.service.labels["listener"] for listening in server.listening]
    logger.info("listening", extra={"listeners": names})
    return serving


async def _ended_before(task: "asyncio.Task[Any]", signals: "asyncio.Queue[signal.Signals]") -> signal.Signals | None:
    """Wait for a task, and return None; a signal to end cancels the task, and is returned."""
    again = False
    while not task.done():
        getting = asyncio.ensure_future(signals.get())
        await asyncio.wait([task, getting], return_when=asyncio.FIRST_COMPLETED)
        if not getting.done():
            getting.cancel()
        elif (number := getting.result()) == signal.SIGHUP:
            again = True
        elif task.done():
            signals.put_nowait(number)
        else:
            task.cancel()
            await asyncio.wait([task])
            return number
    task.result()
    if again:
        signals.put_nowait(signal.SIGHUP)
    return None


async def _reload(server: Server, load: Callable[[], Settings | None]) -> bool:
    """Change to new settings, and tell whether there are any; wrong ones are logged, and the old ones stay."""
    before = server.settings
    try:
        settings = load()
        if settings is None:
            return False
        await server.change(settings)
    except (RdsiamError, UpstreamFailed, OSError) as error:
        logger.error("the new configuration can't be used; the old one stays", extra={"reason": str(error)})
        return True
    names = [listening.service.labels["listener"] for listening in server.listening]
    logger.info("the configuration was read again", extra={"listeners": names})
    if (before.health_host, before.health_port) != (server.settings.health_host, server.settings.health_port):
        logger.warning("the health port stays as it is until a restart")
    return True


async def _drain(server: Server, number: signal.Signals, signals: "asyncio.Queue[signal.Signals]") -> End:
    notify(STOPPING)
    extra = {"signal": number.name, "connections": server.open}
    hint = "; a second signal ends open connections at once" if server.open else ""
    logger.info("shutting down%s", hint, extra=extra)
    draining = asyncio.ensure_future(server.drain())
    while True:
        second = asyncio.ensure_future(signals.get())
        await asyncio.wait([draining, second], return_when=asyncio.FIRST_COMPLETED)
        if draining.done():
            second.cancel()
            return End.COMPLETE if draining.result() else End.CUT
        if second.result() != signal.SIGHUP:
            server.abort()
            await draining
            return End.AT_ONCE


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
