"""The upstream of one login."""

from collections.abc import Callable, Collection, Mapping

from rdsiam.proxy.contracts import EngineName, Token, Upstream, UpstreamFailed
from rdsiam.proxy.peer import Peer

__all__ = ["LoginAttempt"]


class LoginAttempt:
    """The upstream for one login: remembers what has to be closed if it fails, and the user for the log.

    :param refusal: is raised instead of a connection or a token; the client gets it as any other failure.
    :param note: gets why there was no token, or None if there was one.
    """

    def __init__(
        self, upstream: Upstream, refusal: UpstreamFailed | None, note: Callable[[UpstreamFailed | None], None]
    ) -> None:
        self._upstream = upstream
        self._refusal = refusal
        self._note = note
        self.peers: set[Peer] = set()
        self.user = ""

    def abort(self) -> None:
        """Close the upstream connections of a login that failed."""
        for peer in self.peers:
            peer.abort()

    async def engine(self) -> EngineName:
        return await self._upstream.engine()

    async def users(self) -> frozenset[str]:
        self._check()
        return await self._upstream.users()

    async def token(self, user: str) -> Token:
        self.user = user
        self._check()
        try:
            token = await self._upstream.token(user)
        except UpstreamFailed as failure:
            self._note(failure)
            raise
        self._note(None)
        return token

    async def connect(self, address: tuple[str, int] | None = None) -> Peer:
        if address is None:
            self._check()
        peer = await self._upstream.connect(address)
        self.peers.add(peer)
        return peer

    def address_of(self, peer: Peer) -> tuple[str, int]:
        return self._upstream.address_of(peer)

    async def start_tls(self, peer: Peer) -> None:
        await self._upstream.start_tls(peer)

    def explain(self, message: str) -> str:
        return self._upstream.explain(message)

    async def ended(self, users: Collection[str]) -> Mapping[str, str]:
        return await self._upstream.ended(users)

    def _check(self) -> None:
        if self._refusal is not None:
            raise self._refusal
