"""Connections of clients: their login, with limits and a record of what became of it, and their end."""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from rdsiam.core.counts import counted
from rdsiam.proxy.contracts import (
    Client,
    ClientRefused,
    Engine,
    Listener,
    Opened,
    Upstream,
    UpstreamFailed,
)
from rdsiam.proxy.login_attempt import LoginAttempt
from rdsiam.proxy.metrics import Metrics
from rdsiam.proxy.peer import Peer, PeerClosed
from rdsiam.proxy.settings import Protection, address
from rdsiam.proxy.sockets import keep_alive

__all__ = ["Connection", "Gate", "Service"]

logger = logging.getLogger(__name__)

#: Connections beyond the limit that get an error at one time; further ones are closed without a word.
_ANSWERED = 100
#: Seconds until readiness asks for a token: after one that could be had, and after one that could not.
_CHECK, _CHECK_AGAIN = 300.0, 10.0
#: Codes of denials that concern the user only.
_OF_ONE_USER = {"not-allowed", "user-revoked", "reason-required"}
_SHUTTING_DOWN = UpstreamFailed("rdsiam proxy is shutting down; connect again", "shutting-down")


@dataclass
class Gate:
    """The limits of all listeners together.

    :ivar limit: connections at one time.
    :ivar raised_by: what to raise for more.
    :ivar login_timeout: seconds for a login.
    :ivar draining: no login succeeds any longer.
    """

    limit: int
    login_timeout: float
    raised_by: str = "max_connections"
    draining: bool = False
    open: int = 0

    def refusal(self) -> UpstreamFailed | None:
        """Return why the newest connection, which is counted already, can't be had; None if it can."""
        if self.draining:
            return _SHUTTING_DOWN
        if self.open > self.limit:
            problem = f"rdsiam proxy has {counted(self.limit, 'connection')}, its limit"
            return UpstreamFailed(f"{problem}; close some, or raise {self.raised_by}", "too-many-connections")
        return None


@dataclass(eq=False)
class Connection:
    """A client that is logged in."""

    client: Peer
    opened: Opened
    engine: Engine
    since: float = field(default_factory=time.monotonic)

    def end(self, message: str, code: str) -> None:
        """End the connection, and tell the client why, unless it is in the middle of an answer."""
        between = self.opened.idle() or self.opened.answered()
        self.opened.upstream.abort()
        if between:
            with suppress(PeerClosed):  # it has gone, and the database has not taken yet what it sent
                self.client.write(self.engine.failed(message, code))
        self.client.close()

    def abort(self) -> None:
        """End the connection at once."""
        self.client.abort()
        self.opened.upstream.abort()


class Service:
    """A listener with its database: accepts clients, logs them in, and forwards their bytes."""

    def __init__(
        self,
        listener: Listener,
        upstream: Upstream,
        engine: Engine,
        protection: Protection,
        gate: Gate,
        metrics: Metrics,
    ) -> None:
        self.listener = listener
        self.upstream = upstream
        self.engine = engine
        self.protection = protection
        self.labels: Mapping[str, str] = {
            "listener": address(listener),
            "database": listener.database,
            "endpoint": listener.endpoint or "default",
        }
        self.connections: set[Connection] = set()
        self._failure: UpstreamFailed | None = None
        self._next_check = 0.0
        self._checking: asyncio.Task[None] | None = None
        self._last_user = ""
        self._gate = gate
        self._metrics = metrics
        self._tasks: dict[asyncio.Task[None], Peer] = {}

    def accept(self, peer: Peer) -> None:
        """Take a client that has connected."""
        if self._gate.open >= self._gate.limit + _ANSWERED:
            self._metrics.ended(self.labels, "too-many-connections")
            peer.abort()
            return
        self._gate.open += 1
        task = asyncio.get_running_loop().create_task(self._serve(peer))
        self._tasks[task] = peer
        task.add_done_callback(self._done)

    @property
    def busy(self) -> bool:
        """Tell whether there is a connection, or a login."""
        return bool(self._tasks)

    async def finished(self) -> None:
        """Wait until all present connections have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def end_idle(self) -> None:
        """End connections that are between two statements, with a message."""
        for connection in list(self.connections):
            if connection.opened.idle():
                connection.end(str(_SHUTTING_DOWN), _SHUTTING_DOWN.code)

    def end_logins(self) -> None:
        """End logins, with a message. Those that end already have their time for it."""
        logged_in = {connection.client for connection in self.connections}
        for task, peer in list(self._tasks.items()):
            if peer not in logged_in and not task.cancelling():
                task.cancel()

    def end_all(self) -> None:
        """End all connections and logins: with a message, as far as they can be told."""
        self.end_logins()
        for connection in list(self.connections):
            connection.end(str(_SHUTTING_DOWN), _SHUTTING_DOWN.code)

    def abort(self) -> None:
        """End all connections and logins at once."""
        for connection in list(self.connections):
            connection.abort()
        for task, peer in list(self._tasks.items()):
            peer.abort()
            task.cancel()

    async def check(self) -> UpstreamFailed | None:
        """Return why no token can be had at present; None if one can, or if there is no user to ask for.

        A login tells it, too. Otherwise a token is asked for: every five minutes, after a failure every ten seconds.
        """
        user = self.listener.user or self._last_user
        if user and time.monotonic() >= self._next_check:
            if self._checking is None or self._checking.done():
                self._checking = asyncio.ensure_future(self._ask(user))
            await asyncio.shield(self._checking)
        return self._failure

    async def _ask(self, user: str) -> None:
        try:
            await self.upstream.token(user)
        except UpstreamFailed as failure:
            self._note(failure)
        else:
            self._note(None)

    def _note(self, failure: UpstreamFailed | None) -> None:
        """Note whether a token could be had; a user that a client has named says nothing about others."""
        if failure is not None and self.listener.user is None and failure.code in _OF_ONE_USER:
            return
        self._failure = failure
        self._next_check = time.monotonic() + (_CHECK if failure is None else _CHECK_AGAIN)

    async def cut(self) -> None:
        """End the connections of users whose access has ended.

        :raises UpstreamFailed: whether it has ended can't be known.
        """
        users = {connection.opened.user for connection in self.connections}
        if not users:
            return
        for user, reason in (await self.upstream.ended(users)).items():
            for connection in [connection for connection in self.connections if connection.opened.user == user]:
                logger.warning("connection cut", extra={**self.labels, "user": user, "reason": reason})
                connection.end(f"the connection was cut: {reason}", "access-ended")

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._gate.open -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("connection failed", extra={**self.labels, "error": type(error).__name__}, exc_info=error)

    async def _serve(self, peer: Peer) -> None:
        start = time.monotonic()
        attempt = LoginAttempt(self.upstream, self._gate.refusal(), self._note)
        # Only a login that is cancelled, or an unexpected error, leaves it as it is.
        code = "unexpected"
        try:
            keep_alive(peer.transport.get_extra_info("socket"))
            client = Client(peer, self.listener, self.protection.secret, self.protection.tls, self._tls_required)
            opened, code = await self._login(client, attempt)
            if opened is not None:
                attempt.peers.discard(opened.upstream)
                seconds = time.monotonic() - start
                self._metrics.opened(self.labels, seconds)
                logger.info(
                    "connection opened", extra={**self.labels, "user": opened.user, "seconds": round(seconds, 3)}
                )
                await self._forward(Connection(peer, opened, self.engine))
        except asyncio.CancelledError:
            code = _SHUTTING_DOWN.code if code == "unexpected" else code
            raise
        finally:
            self._metrics.ended(self.labels, code)
            attempt.abort()
            peer.close()
        await peer.closed()

    @property
    def _tls_required(self) -> bool:
        """TLS is required wherever it is offered, but for unix sockets."""
        return self.protection.tls is not None and self.listener.socket is None

    async def _login(self, client: Client, attempt: LoginAttempt) -> tuple[Opened | None, str]:
        """Return the login, or None, and the code of what became of it."""
        message = f"the login took longer than {self._gate.login_timeout:g} s; see the proxy's log"
        try:
            async with asyncio.timeout(self._gate.login_timeout):
                opened = await self.engine.login(client, attempt)
        except TimeoutError:
            code = "login-timeout"
            self._tell(client.peer, message, code)
            self._log_failure(attempt, code, message)
        except asyncio.CancelledError:
            if self._gate.draining:
                self._tell(client.peer, str(_SHUTTING_DOWN), _SHUTTING_DOWN.code)
                self._log_failure(attempt, _SHUTTING_DOWN.code, str(_SHUTTING_DOWN))
            raise
        except PeerClosed:
            code = "closed-early"
            logger.info("connection closed during the login", extra={**self.labels, "user": attempt.user})
        except ClientRefused as refusal:
            code = "client-refused"
            logger.warning("client refused", extra={**self.labels, "user": attempt.user, "reason": str(refusal)})
        except UpstreamFailed as failure:
            code = failure.code
            self._log_failure(attempt, code, str(failure))
        else:
            if opened is not None:
                self._last_user = opened.user
            return opened, "ok" if opened is not None else "cancel-request"
        return None, code

    def _tell(self, peer: Peer, message: str, code: str) -> None:
        with suppress(PeerClosed):  # nobody is there to be told
            peer.write(self.engine.failed(message, code))

    def _log_failure(self, attempt: LoginAttempt, code: str, reason: str) -> None:
        self._metrics.failed(self.labels, code)
        logger.warning("login failed", extra={**self.labels, "user": attempt.user, "code": code, "reason": reason})

    async def _forward(self, connection: Connection) -> None:
        client, opened = connection.client, connection.opened
        upstream = opened.upstream
        self.connections.add(connection)
        try:
            client.forward_to(upstream, opened.inspect)
            upstream.forward_to(client, ends_other=True, aside=opened.aside)
            await client.closed()
            await upstream.closed()
        finally:
            client.abort()
            upstream.abort()
            self.connections.discard(connection)
            opened.closed()
            self._metrics.moved(self.labels, client.forwarded, upstream.forwarded)
            moved = {"sent": client.forwarded, "received": upstream.forwarded}
            seconds = round(time.monotonic() - connection.since, 3)
            extra: dict[str, Any] = {**self.labels, "user": opened.user, "seconds": seconds, **moved}
            logger.info("connection closed", extra=extra)
