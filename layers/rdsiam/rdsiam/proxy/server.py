"""The proxy: its listeners, a new configuration while it runs, and its end."""

import asyncio
import errno
import logging
import random
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from rdsiam.errors import ListenFailed, ProxySettingsInvalid, RdsiamError
from rdsiam.proxy import sockets
from rdsiam.proxy.acceptor import Acceptor
from rdsiam.proxy.connections import Gate, Service
from rdsiam.proxy.contracts import Engine, EngineName, Listener, Upstream, UpstreamFailed
from rdsiam.proxy.metrics import Labels, Metrics, Samples
from rdsiam.proxy.peer import Peer
from rdsiam.proxy.settings import Protection, Settings, address, check, protection

__all__ = ["Factory", "Listening", "Server"]

logger = logging.getLogger(__name__)

#: Port that an engine's clients use if they are given none.
_PORTS: Mapping[EngineName, int] = {"postgres": 5432, "mysql": 3306}
_SOCKET_NAME = re.compile(r"\.s\.PGSQL\.[1-9][0-9]{0,4}")
#: Seconds between two looks for connections that have become idle while the proxy drains.
_LOOK = 0.1
#: Seconds for a client to take its last bytes when the drain is over.
_LAST_BYTES = 4.0
#: Seconds between two looks for databases that were missing at the start.
_FIND = 30.0

_Upstreams: TypeAlias = dict[Listener, tuple[Upstream, EngineName, frozenset[str]]]
_Missing: TypeAlias = dict[Listener, UpstreamFailed]


@dataclass(frozen=True)
class Factory:
    """Makes the parts of a listener.

    :ivar upstream: for a listener and its new connections per second; raises UpstreamFailed.
    """

    upstream: Callable[[Listener, int], Awaitable[Upstream]]
    engine: Callable[[EngineName], Engine]


@dataclass(frozen=True)
class Listening:
    """A listener that accepts connections: with its port, and with what it was asked for.

    :ivar users: users that the caller may be; empty if unknown.
    """

    requested: Listener
    service: Service
    engine: EngineName
    users: frozenset[str]
    sockets: Sequence[socket.socket]
    acceptors: Sequence[Acceptor]

    @property
    def listener(self) -> Listener:
        """The listener, with its port."""
        return self.service.listener

    def stop(self) -> None:
        """Accept no more connections; those that are open stay."""
        for acceptor in self.acceptors:
            acceptor.close()


class Server:
    """All listeners of a process."""

    def __init__(self, settings: Settings, factory: Factory) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.listening: list[Listening] = []
        self._factory = factory
        self._gate = Gate(settings.max_connections, settings.login_timeout)
        self._former: list[Service] = []
        self._changing = asyncio.Lock()
        #: Listeners whose databases can't be looked up, and why.
        self.missing: _Missing = {}

    @property
    def draining(self) -> bool:
        """Tell whether the proxy waits for its last connections."""
        return self._gate.draining

    @property
    def open(self) -> int:
        """Number of connections, with those that log in."""
        return self._gate.open

    async def start(self) -> None:
        """Look the databases up, and listen; databases that can't be looked up are logged and `missing`.

        :raises UpstreamFailed: no database can be looked up; or no API says when access ends, to cut.
        :raises ListenFailed: a port or path can't be had.
        :raises ProxySettingsInvalid: a file with a secret or a key can't be used.
        """
        await self._change(self.settings, lambda _: True)

    async def change(self, settings: Settings) -> None:
        """Change to other settings; open connections stay. After an error everything is as before.

        :raises Exception: as `start` does; also if one database can't be looked up that was not missing before.
        """
        await self._change(settings, self.missing.__contains__)

    async def find_missing(self) -> None:
        """Look for missing databases from time to time, and listen for those that are found; runs until cancelled."""
        while True:
            await asyncio.sleep(_FIND)
            before = set(self.missing)
            if not before or self.draining:
                continue
            try:
                await self._change(self.settings, before.__contains__)
            except (RdsiamError, UpstreamFailed) as error:
                logger.error("a missing database can't be served", extra={"reason": str(error)})
            except Exception as error:  # the next look may succeed
                extra = {"error": type(error).__name__}
                logger.error("a missing database can't be served", extra=extra, exc_info=error)
            new = [listening for listening in self.listening if listening.requested in before]
            for listening in new:
                logger.info("listening", extra={"listeners": [listening.service.labels["listener"]]})

    async def _change(self, settings: Settings, may_miss: Callable[[Listener], bool]) -> None:
        check(settings)
        shield = protection(settings)
        room = sockets.allow(settings.max_connections)
        async with self._changing:
            upstreams, missing = await self._look_up(settings, may_miss)
            if self.draining:
                return
            for listener in missing.keys() - self.missing.keys():
                extra = {
                    "database": listener.database,
                    "code": missing[listener].code,
                    "reason": str(missing[listener]),
                }
                logger.error("a database is missing; it is looked up again", extra=extra)
            self._replace([each for each in settings.listeners if each in upstreams], upstreams, shield)
            self.missing = missing
            self.settings = settings
            self._gate.limit, self._gate.login_timeout = room, settings.login_timeout
            limited = room < settings.max_connections
            self._gate.raised_by = "the limit of open files (ulimit -n)" if limited else "max_connections"

    async def _look_up(self, settings: Settings, may_miss: Callable[[Listener], bool]) -> tuple[_Upstreams, _Missing]:
        """Return what is known about the databases of listeners, and why the others can't be known.

        :raises UpstreamFailed: nothing is known, or something is missing that may not be.
        """
        former = {listening.requested: listening for listening in self.listening}
        same_limits = settings.connections_per_second == self.settings.connections_per_second
        upstreams: _Upstreams = {}
        missing: _Missing = {}
        for listener in settings.listeners:
            known = former.get(listener)
            if known is not None and same_limits:
                upstreams[listener] = known.service.upstream, known.engine, known.users
            else:
                try:
                    upstream = await self._factory.upstream(listener, settings.connections_per_second)
                    upstreams[listener] = upstream, await upstream.engine(), await upstream.users()
                except UpstreamFailed as failure:
                    if not may_miss(listener):
                        raise
                    missing[listener] = failure
                    continue
            _check_name(listener, upstreams[listener][1])
            if settings.cut:
                await upstreams[listener][0].ended(())  # raises if it can never be known
        if not upstreams:
            raise next(iter(missing.values()))
        return upstreams, missing

    def _replace(self, listeners: Sequence[Listener], upstreams: _Upstreams, shield: Protection) -> None:
        """Listen for these listeners, and no longer for others."""
        bound = self._bind(listeners, {listener: engine for listener, (_, engine, _) in upstreams.items()})
        listening = []
        for requested in listeners:
            upstream, name, users = upstreams[requested]
            own, before = bound[requested]
            # Requests to cancel come to the same place, whatever has changed.
            same = before is not None and before.engine == name
            engine = before.service.engine if before is not None and same else self._factory.engine(name)
            actual = requested if requested.socket is not None else replace(requested, port=own[0].getsockname()[1])
            service = Service(actual, upstream, engine, shield, self._gate, self.metrics)
            acceptors = [Acceptor(each, partial(Peer, service.accept)) for each in own]
            listening.append(Listening(requested, service, name, users, own, acceptors))
        for old in self.listening:
            old.stop()
            self._former.append(old.service)
        used = {own.fileno() for each in listening for own in each.sockets}
        for old in self.listening:
            for each in old.sockets:
                if each.fileno() not in used:
                    sockets.remove(each)
        self._former = [service for service in self._former if service.busy]
        self.listening = listening

    def _bind(
        self, listeners: Sequence[Listener], engines: Mapping[Listener, EngineName]
    ) -> dict[Listener, tuple[Sequence[socket.socket], Listening | None]]:
        """Return the sockets of listeners: new ones, or those of the listener that had the same place before."""
        former = list(self.listening)
        taken = {listener.port for listener in listeners if listener.port}
        bound: dict[Listener, tuple[Sequence[socket.socket], Listening | None]] = {}
        for listener in listeners:
            place = _place(listener)
            before = next((old for old in former if place in (_place(old.requested), _place(old.listener))), None)
            if before is not None:
                former.remove(before)
                bound[listener] = before.sockets, before
        # A listener may get one address more, or less, at its port.
        free = {each.getsockname()[:2]: each for old in former for each in old.sockets if old.listener.socket is None}
        new: list[socket.socket] = []
        try:
            for listener in listeners:
                if listener in bound:
                    continue
                port = listener.port
                if port is None:
                    port = _PORTS[engines[listener]]
                    while port in taken:
                        port += 1
                    taken.add(port)
                try:
                    own = sockets.bind(listener.host, port, listener.socket, free)
                except ListenFailed as error:
                    if error.number == errno.EADDRINUSE and port in (address[1] for address in free):
                        remedy = "this proxy listens there itself, at another address: restart it for this change"
                        raise ListenFailed(error.problem, remedy, error.number) from None
                    raise
                new += [each for each in own if each not in free.values()]
                bound[listener] = own, next((old for old in former if not set(own).isdisjoint(old.sockets)), None)
        except BaseException:
            for each in new:
                sockets.remove(each)
            raise
        return bound

    async def drain(self) -> bool:
        """Accept nothing more, and wait for open connections as long as the settings say; then end them.

        Logins end soon: they may wait for a token, and none succeeds any longer. Requests to cancel get a moment.
        A client gets some seconds more for the bytes that were on their way.

        :return: whether all ended by themselves, or were idle.
        """
        self._gate.draining = True
        self._close()
        services = self._services()
        waiting = asyncio.ensure_future(asyncio.gather(*(service.finished() for service in services)))
        loop = asyncio.get_running_loop()
        end = loop.time() + self.settings.drain_timeout
        while not waiting.done() and loop.time() < end:
            for service in services:
                service.end_idle()
            await asyncio.wait([waiting], timeout=min(_LOOK, max(end - loop.time(), 0)))
            for service in services:
                service.end_logins()
        complete = waiting.done()
        for service in services:
            service.end_all()
        await asyncio.wait([waiting], timeout=_LAST_BYTES)
        if not waiting.done():  # a client reads its last answer slowly, or not at all
            self.abort()
        await waiting
        return complete

    def abort(self) -> None:
        """End everything at once."""
        self._gate.draining = True
        self._close()
        for service in self._services():
            service.abort()

    async def cut_ended(self) -> None:
        """End connections of users whose access has ended, from time to time; runs until it is cancelled."""
        while True:
            # Not all proxies of a fleet ask at the same time.
            await asyncio.sleep(self.settings.cut_interval * random.uniform(0.8, 1.2))  # noqa: S311
            if not self.settings.cut:
                continue
            for service in self._services():
                try:
                    await service.cut()
                except UpstreamFailed as failure:
                    extra = {**service.labels, "code": failure.code, "reason": str(failure)}
                    logger.warning("whether access has ended can't be known", extra=extra)
                except Exception as error:  # other connections have to be cut all the same
                    extra = {**service.labels, "error": type(error).__name__}
                    logger.error("connections can't be cut", extra=extra, exc_info=error)

    def samples(self) -> Samples:
        """Return the present state, for metrics."""
        opened: Counter[Labels] = Counter()
        moved: dict[Labels, tuple[int, int]] = {}
        for service in self._services():
            labels = tuple(service.labels.items())
            opened[labels] += len(service.connections)
            sent, received = moved.get(labels, (0, 0))
            for connection in service.connections:
                sent += connection.client.forwarded
                received += connection.opened.upstream.forwarded
            moved[labels] = sent, received
        return Samples(opened, moved, self.draining)

    def _services(self) -> list[Service]:
        return [*self._former, *(listening.service for listening in self.listening)]

    def _close(self) -> None:
        for listening in self.listening:
            listening.stop()
            for each in listening.sockets:
                if each.fileno() != -1:
                    sockets.remove(each)


def _check_name(listener: Listener, engine: EngineName) -> None:
    """Check that PostgreSQL's clients can name a unix socket: they know its folder and a number.

    :raises ProxySettingsInvalid: they can't.
    """
    path = listener.socket
    if path is not None and engine == "postgres" and not _SOCKET_NAME.fullmatch(path.name):
        problem = "clients of PostgreSQL find no socket of that name; end it with /.s.PGSQL.5432, or another number"
        raise ProxySettingsInvalid([f"{path}: {problem}"])


def _place(listener: Listener) -> str:
    """Return what a listener has to have for itself: an automatic port is one of its database."""
    if listener.socket is None and not listener.port:
        return f"{address(listener)} {listener.database} {listener.endpoint} {listener.user}"
    return address(listener)
