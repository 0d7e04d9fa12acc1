"""The part of an upstream that is the same for most tests of the proxy."""

from collections.abc import Collection, Mapping

from rdsiam.proxy.contracts import EngineName
from rdsiam.proxy.peer import Peer


class PartialUpstream:
    """An upstream of PostgreSQL without a list of users, at which access never ends."""

    async def engine(self) -> EngineName:
        """Return the protocol."""
        return "postgres"

    async def users(self) -> frozenset[str]:
        """Return no users."""
        return frozenset()

    async def ended(self, users: Collection[str]) -> Mapping[str, str]:  # noqa: ARG002  access lasts
        """Return no users."""
        return {}

    def address_of(self, peer: Peer) -> tuple[str, int]:
        """Return the address of a connection."""
        host, port = peer.transport.get_extra_info("peername")[:2]
        return host, port
