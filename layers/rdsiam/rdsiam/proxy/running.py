"""A run of the proxy: signals, health, and the exit."""

import asyncio
import logging
import signal
from collections.abc import Callable
from enum import Enum
from typing import Any

from rdsiam.errors import RdsiamError
from rdsiam.proxy import tasks
from rdsiam.proxy.contracts import UpstreamFailed
from rdsiam.proxy.health_port import HealthPort
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
    loop.set_exception_handler(_log_unexpected)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    port = HealthPort(server)
    serving = asyncio.ensure_future(_serve(server, port, started))
    background: list[asyncio.Task[None]] = []
    try:
        if await _ended_before(serving, signals):
            return End.AT_ONCE
        background += [asyncio.ensure_future(work) for work in (server.cut_ended(), server.find_missing())]
        while (number := await signals.get()) == signal.SIGHUP:
            notify(RELOADING)
            reloading = asyncio.ensure_future(_reload(server, port, load))
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
        port.close()


def _log_unexpected(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that nothing has caught by its kind and place only: asyncio's text has bytes of clients."""
    error = context.get("exception")
    kind = type(error).__name__ if error is not None else ""
    logger.error("unexpected error", extra={"error": kind}, exc_info=error)


async def _serve(server: Server, port: HealthPort, started: Callable[[], None]) -> None:
    """Start everything."""
    await port.change(server.settings, server.start)
    started()
    notify(READY)
    names = [listening.service.labels["listener"] for listening in server.listening]
    logger.info("listening", extra={"listeners": names})


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


async def _reload(server: Server, port: HealthPort, load: Callable[[], Settings | None]) -> bool:
    """Change to new settings, and tell whether there are any; wrong ones are logged, and the old ones stay."""
    try:
        settings = load()
        if settings is None:
            return False
        await port.change(settings, lambda: server.change(settings))
    except (RdsiamError, UpstreamFailed, OSError) as error:
        logger.error("the new configuration can't be used; the old one stays", extra={"reason": str(error)})
        return True
    names = [listening.service.labels["listener"] for listening in server.listening]
    logger.info("the configuration was read again", extra={"listeners": names})
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
