"""One login of MySQL with hostile bytes, and what has to hold for each: see `check`."""

import asyncio
import contextlib
import random
from dataclasses import dataclass, replace
from typing import Any

from rdsiam.proxy.contracts import Client, Listener
from rdsiam.proxy.mysql.engine import MySQLEngine
from rdsiam.proxy.peer import Peer, PeerClosed
from rdsiam.proxy.sentences import one_line
from tests.unit.proxy.hostile import (
    Outcome,
    check_waiting,
    cut_up_to,
    drain,
    end_in_turn,
    mutate,
    open_pipes,
    until_quiet,
)
from tests.unit.proxy.pipes import Cut, connect
from tests.unit.proxy.postgres.in_memory import TOKEN, Upstream, contexts

_TLS_REQUEST = 36
_TLS = 1 << 11
#: First bytes of lengths and of packets, and others that are at a limit.
_VALUES = (0, 1, 2, 0x7F, 0x80, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF)


def _set_length(changed: bytearray, _: int, randomness: random.Random) -> None:
    changed[:3] = randomness.choice((0, 1, 31, 32, 0xFFFF, 0x10001, 0xFFFFFF)).to_bytes(3, "little")


def _correct_length(changed: bytearray, _: int, __: random.Random) -> None:
    changed[:3] = max(len(changed) - 4, 0).to_bytes(3, "little")


@dataclass(frozen=True)
class Case:
    """Bytes of a client and of a server, each in turns.

    :ivar client: what a client sends after the greeting, and after each further packet.
    :ivar greeting: what a server sends first.
    :ivar server: what it sends after the response to the greeting, and after each further packet.
    :ivar pieces: number of bytes that arrive at once at most; their number is random, but the same in each run.
    """

    client: tuple[bytes, ...]
    greeting: bytes
    server: tuple[bytes, ...]
    secret: bytes | None = None
    pieces: int = 10_000

    @property
    def cut(self) -> Cut:
        return cut_up_to(self.pieces)

    def to_json(self) -> dict[str, Any]:
        return {
            "client": [turn.hex() for turn in self.client],
            "greeting": self.greeting.hex(),
            "server": [turn.hex() for turn in self.server],
            "secret": None if self.secret is None else self.secret.hex(),
            "pieces": self.pieces,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Case":
        client, server = (tuple(bytes.fromhex(turn) for turn in data[key]) for key in ("client", "server"))
        secret = None if data["secret"] is None else bytes.fromhex(data["secret"])
        return cls(client, bytes.fromhex(data["greeting"]), server, secret, data["pieces"])

    def mutated(self, number: int) -> "Case":
        """Return this case with some of its turns changed, cut into pieces of random lengths."""
        randomness = random.Random(number)  # noqa: S311

        def change(turn: bytes, share: float = 0.6) -> bytes:
            return (
                mutate(turn, randomness, _VALUES, (_set_length, _correct_length))
                if randomness.random() < share
                else turn
            )

        return replace(
            self,
            client=tuple(map(change, self.client)),
            greeting=change(self.greeting, 0.3),
            server=tuple(map(change, self.server)),
            pieces=randomness.choice((1, 3, 17, 10_000)),
        )


class CleanUpstream(Upstream):
    """Messages are cleaned, as `Upstream.explain` promises."""

    def explain(self, message: str) -> str:
        return one_line(message)


async def run_case(case: Case) -> Outcome:
    """Run a login until it has ended; if nothing more arrives anywhere, the server leaves, then the client."""
    outcome = Outcome()

    async def serve(peer: Peer) -> None:
        peer.write(case.greeting)
        outcome.plain += await peer.read(_TLS_REQUEST)
        received = outcome.plain
        if received[0] == 32 and int.from_bytes(received[4:8], "little") & _TLS:
            await peer.start_tls(contexts()[0])
            received = outcome.inside
            received += await peer.read(max(peer.buffered, 1))
        for turn in case.server:
            peer.write(turn)
            received += await peer.read(max(peer.buffered, 1))
        await drain(peer, received)

    async def send(peer: Peer) -> None:
        with contextlib.suppress(PeerClosed):
            for turn in case.client:
                outcome.answer += await peer.read(max(peer.buffered, 1))
                peer.write(turn)
        await drain(peer, outcome.answer)

    upstream, engine = CleanUpstream(serve, cut=case.cut), MySQLEngine()
    peer, proxy = connect(case.cut)
    sending = asyncio.ensure_future(send(peer))
    login = asyncio.ensure_future(engine.login(Client(proxy, Listener("orders"), case.secret), upstream))
    await until_quiet(login)
    await end_in_turn(login, (*upstream.peers, peer))
    opened = await asyncio.wait_for(outcome.take(login), 1)
    pipes = open_pipes((peer, *upstream.peers))
    if opened is not None:
        assert opened.inspect is not None
        opened.inspect(b"".join(case.client))
        opened.upstream.close()
    proxy.close()
    await asyncio.wait_for(asyncio.gather(sending, *upstream.tasks), 20)
    check_waiting(pipes)
    return outcome


def packets(data: bytes) -> list[bytes]:
    """Return the payloads of whole packets."""
    result, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 3], "little")
        assert at + 4 + length <= len(data), "half a packet"
        result.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return result


def check(case: Case, outcome: Outcome) -> None:
    """Check that a login ended in the protocol, and that only a verified server got the token, once, when asked."""
    token = TOKEN.encode()
    assert token not in outcome.plain
    assert token not in outcome.answer
    assert outcome.inside.count(token) <= 1
    if outcome.inside.count(token):
        assert any(b"mysql_clear_password" in turn for turn in case.server)
    got = packets(bytes(outcome.answer))
    if outcome.result == "opened":
        assert outcome.inside
        assert got[-1][:1] == b"\0"
    if outcome.result in ("failed", "refused"):
        assert [payload[:1] for payload in got].count(b"\xff") == (1 if got else 0)
        assert not got or got[-1][:1] == b"\xff"
        assert outcome.reason
        assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in outcome.reason)
