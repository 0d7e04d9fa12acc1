"""One database as the proxy reaches it: tokens, verified TLS, limits, and the users whose access has ended."""

import asyncio
import random
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from rdsiam.core.counts import counted
from rdsiam.proxy import network
from rdsiam.proxy.contracts import EngineName, Token, UpstreamFailed
from rdsiam.proxy.peer import Peer
from rdsiam.proxy.rate import QueueFull, Rate
from rdsiam.proxy.sentences import explained, failed
from rdsiam.proxy.token_sources import Access, Target, TokenSource, UpstreamBusy

__all__ = ["DatabaseUpstream", "Limits", "Workers"]

_T = TypeVar("_T")
#: Seconds until an endpoint that can't be reached is looked up once more.
_LOOK = 30.0
#: Seconds before a throttled call is repeated: a random part of this, doubled for each try up to the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 4.0


@dataclass(frozen=True)
class Limits:
    """Limits of one upstream; times in seconds.

    :ivar per_second: new connections in any second.
    :ivar queue: longest wait of a new connection for its turn.
    :ivar name: for resolving the endpoint's name.
    :ivar connect: for a connection, over all addresses.
    :ivar tls: for the handshake.
    :ivar token: for a token, with all repetitions.
    """

    per_second: int = 50
    queue: float = 5.0
    name: float = 5.0
    connect: float = 5.0
    tls: float = 10.0
    token: float = 15.0


@dataclass(frozen=True)
class Workers:
    """Threads for blocking calls, shared by all upstreams.

    :ivar calls: for the API and AWS.
    :ivar names: for the system's resolver, which may hang.
    """

    calls: Executor
    names: Executor


class DatabaseUpstream:
    """The database of one listener.

    :param access: decisions of the API for `ended`; None if there is no API.
    """

    def __init__(
        self, source: TokenSource, access: Access | None, workers: Workers, limits: Limits, trust: network.Trust
    ) -> None:
        self._source = source
        self._access = access
        self._workers = workers
        self._limits = limits
        self._trust = trust
        self._names = network.Names(workers.names)
        self._rate = Rate(limits.per_second, limits.queue)
        self._target: Target | None = None
        self._next_look = 0.0

    async def engine(self) -> EngineName:
        """Return the protocol that the database speaks."""
        return (await self._known()).engine

    async def users(self) -> frozenset[str]:
        """Return the users that the caller may be; empty if no API is asked."""
        return (await self._known()).users

    async def token(self, user: str) -> Token:
        """Return a fresh token for the endpoint that `connect` leads to."""
        target = await self._known()
        token = self._source.ready(target, user)
        if token is None:
            token = await self._repeated(lambda: self._source.token(target, user))
        if (token.host, token.port) != (target.host, target.port):
            # The connection leads to the endpoint as it was; the next one will lead to the new one.
            self._target = replace(target, host=token.host, port=token.port)
            moved = f"{target.name}: the endpoint has changed from {target.host} to {token.host}:{token.port}"
            raise failed(moved, "connect again", "endpoint-changed")
        return token

    async def connect(self, address: network.Address | None = None) -> Peer:
        """Open a TCP connection to the endpoint, in its turn; to an address without a turn.

        An endpoint that can't be reached may have moved: its port was changed, or its database made anew.
        """
        target = await self._known()
        if address is not None:
            return await network.connect([address], target.host, self._limits.connect)
        try:
            await self._rate.turn()
        except QueueFull:
            problem = f"{target.name}: more than {counted(self._limits.per_second, 'new connection')} per second"
            remedy = "try again, keep connections in a pool, or raise the proxy's limit of new connections"
            raise failed(problem, remedy, "too-many-new-connections") from None
        try:
            return await self._reach(target)
        except UpstreamFailed as failure:
            return await self._reach(await self._moved(target, failure))

    def address_of(self, peer: Peer) -> network.Address:
        """Return the IP address and port that an upstream connection leads to."""
        address = peer.transport.get_extra_info("peername")
        return str(address[0]), int(address[1])

    async def start_tls(self, peer: Peer) -> None:
        """Change an upstream connection to TLS, verified for the endpoint's name."""
        target = await self._known()
        await network.start_tls(peer, self._trust.context(target.host), target.host, self._limits.tls)

    def explain(self, message: str) -> str:
        """Return a server's error message with the sentence that doctor would add."""
        return explained(message, self._target.name if self._target is not None else "DATABASE")

    async def ended(self, users: Collection[str]) -> Mapping[str, str]:
        """Return those of these users that the caller may no longer be, each with the reason."""
        access = self._access
        if access is None:
            raise failed("whether access has ended can't be known", "name the API with --api-url", "no-api")
        if not users:
            return {}
        reasons: dict[str, str] = {}
        try:
            listed = await self._call(access.users)
            for user in sorted(set(users) - listed):
                # The list is cheap and may be incomplete; the decision about a login is not.
                denial = await self._call(partial(access.ended, user))
                if denial is not None:
                    reasons[user] = str(denial)
        except UpstreamFailed:
            pass  # no answer ends nothing; those that were decided are
        return reasons

    async def _reach(self, target: Target) -> Peer:
        addresses = await self._names.addresses(target.host, target.port, self._limits.name)
        return await network.connect(addresses, target.host, self._limits.connect)

    async def _moved(self, target: Target, failure: UpstreamFailed) -> Target:
        """Return the endpoint that takes the place of one that can't be reached.

        :raises UpstreamFailed: the failure, if it is still the same one or nobody knows; or the reason why there is
            none any longer.
        """
        loop = asyncio.get_running_loop()
        if self._target is target:
            if loop.time() < self._next_look:
                raise failure
            self._next_look = loop.time() + _LOOK
            try:
                found = await self._repeated(self._source.target)
            except UpstreamFailed as unknown:
                if isinstance(unknown, UpstreamBusy) or unknown.code == "no-answer":
                    raise failure from None
                raise
            if found.engine != target.engine or (found.host, found.port) == (target.host, target.port):
                raise failure
            self._target = found
        return await self._known()

    async def _known(self) -> Target:
        if self._target is None:
            self._target = await self._repeated(self._source.target)
        return self._target

    async def _repeated(self, call: Callable[[], _T]) -> _T:
        """Return the result of a blocking call, which is repeated while it is throttled.

        :raises UpstreamFailed: as the call does; or it had no answer within the time for a token.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.token
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._call(call, deadline - loop.time())
            except UpstreamBusy:
                wait = random.uniform(pause / 2, pause)  # noqa: S311  it spreads calls, and hides nothing
                if loop.time() + wait >= deadline:
                    raise
            await asyncio.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _call(self, call: Callable[[], _T], seconds: float | None = None) -> _T:
        """Return the result of a blocking call, which runs in one of the threads."""
        seconds = self._limits.token if seconds is None else seconds
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(loop.run_in_executor(self._workers.calls, call), seconds)
        except TimeoutError:
            problem = f"no token within {self._limits.token:g} s"
            raise failed(problem, "see whether the API and AWS answer: rdsiam doctor", "no-answer") from None
