"""An upstream in memory, whose servers are scripts, for tests of a login's bytes in either protocol."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from localcloud.core.certificates import Authority
from rdsiam.proxy.contracts import Token, UpstreamFailed
from rdsiam.proxy.peer import Peer, PeerClosed
from tests.proxy_upstream import PartialUpstream
from tests.unit.proxy.pipes import Cut, connect, whole

HOST = "orders.c9akciq32abc.eu-central-1.rds.amazonaws.com"
TOKEN = "orders:5432/?Action=connect&DBUser=app&X-Amz-Signature=0123456789abcdef"


@cache
def contexts(name: str = HOST) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the TLS contexts of a server with a name, and of its clients."""
    with TemporaryDirectory() as directory:
        authority = Authority(Path(directory))
        certificate = authority.issue(Path(directory), [name])
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate.certificate, certificate.key)
        return server, ssl.create_default_context(cadata=authority.pem)


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Upstream(PartialUpstream):
    """An upstream whose servers are scripts.

    :ivar make_token: returns the token of a user, or raises.
    :ivar tokens: number of tokens that were asked for.
    :ivar addresses: the addresses that were connected to.
    """

    script: Script
    make_token: Callable[[str], Awaitable[str]] | None = None
    cut: Cut = whole
    sentence: str = ""
    name: str = HOST
    tokens: int = 0
    addresses: list[tuple[str, int] | None] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    async def token(self, user: str) -> Token:
        self.tokens += 1
        text = TOKEN if self.make_token is None else await self.make_token(user)
        return Token(text, self.name, 5432, user)

    async def connect(self, address: tuple[str, int] | None = None) -> Peer:
        self.addresses.append(address)
        peer, there = connect(self.cut, address or ("192.0.2.1", 5432 + len(self.addresses)))
        self.peers.append(there)

        async def serve() -> None:
            try:
                await self.script(there)
            except (PeerClosed, OSError):
                there.close()

        self.tasks.append(asyncio.get_running_loop().create_task(serve()))
        return peer

    async def start_tls(self, peer: Peer) -> None:
        try:
            await peer.start_tls(contexts()[1], self.name)
        except OSError as failure:
            raise UpstreamFailed(f"TLS: {failure}", "tls") from None

    def explain(self, text: str) -> str:
        return f"{text} (rdsiam: {self.sentence})" if self.sentence else text
