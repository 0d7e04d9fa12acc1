"""One login with hostile bytes, and what has to hold for each: see `check`."""

import asyncio
import contextlib
import random
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from rdsiam.proxy.contracts import Client, Listener
from rdsiam.proxy.peer import PeerClosed
from rdsiam.proxy.postgres import server_login
from rdsiam.proxy.postgres.engine import PostgresEngine
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
from tests.unit.proxy.postgres.in_memory import SSL_REQUEST, TOKEN, Upstream, contexts

#: Types of messages, and bytes that are at a limit.
_VALUES = (0, 1, 3, 0x7F, 0x80, 0xFF, *b"RSKZENvp")


def _set_length(changed: bytearray, at: int, randomness: random.Random) -> None:
    changed[at : at + 4] = randomness.choice((0, 4, 8, 9, 2**31 - 1, 2**31, 2**32 - 1)).to_bytes(4, "big")


@dataclass
class Case:
    """Bytes of a client and of a server, each in turns.

    :ivar client: what a client sends at first, and after each answer.
    :ivar before: what a server sends instead of `S`; None: it begins with TLS, verified.
    :ivar server: what it sends inside of TLS after the startup packet, and after each further message.
    :ivar pieces: number of bytes that arrive at once at most; their number is random, but the same in each run.
    """

    client: list[bytes]
    server: list[bytes]
    before: bytes | None = None
    secret: bytes | None = None
    pieces: int = 10_000

    @property
    def cut(self) -> Cut:
        return cut_up_to(self.pieces)

    def to_json(self) -> dict[str, Any]:
        return {
            "client": [turn.hex() for turn in self.client],
            "server": [turn.hex() for turn in self.server],
            "before": None if self.before is None else self.before.hex(),
            "secret": None if self.secret is None else self.secret.hex(),
            "pieces": self.pieces,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Case":
        client, server = ([bytes.fromhex(turn) for turn in data[key]] for key in ("client", "server"))
        before, secret = (None if data[key] is None else bytes.fromhex(data[key]) for key in ("before", "secret"))
        return cls(client, server, before, secret, data["pieces"])

    def mutated(self, number: int) -> "Case":
        """Return this case with some of its turns changed, cut into pieces of random lengths."""
        randomness = random.Random(number)  # noqa: S311

        def change(turn: bytes, share: float = 0.6) -> bytes:
            return mutate(turn, randomness, _VALUES, [_set_length]) if randomness.random() < share else turn

        return replace(
            self,
            client=[change(turn) for turn in self.client],
            server=[change(turn) for turn in self.server],
            before=None if self.before is None else change(self.before, 1),
            pieces=randomness.choice((1, 3, 17, 10_000)),
        )


class _WithoutTls(Upstream):
    """An upstream whose TLS is left out, since a handshake takes ten times as long as all else."""

    async def start_tls(self, peer):
        pass


async def run_case(case: Case, tls: bool = True) -> Outcome:
    """Run a login until it has ended; if nothing more arrives anywhere, the server leaves, then the client."""
    with contextlib.ExitStack() as stack:
        if not tls:
            stack.enter_context(mock.patch.object(server_login, "_require_verified"))
        return await _run(case, Upstream if tls else _WithoutTls)


async def _run(case: Case, kind: type[Upstream]) -> Outcome:
    outcome = Outcome()

    async def serve(peer):
        outcome.plain += await peer.read(8)
        if case.before is not None:
            peer.write(case.before)
            await drain(peer, outcome.plain)
            return
        peer.write(b"S")
        if kind is Upstream:
            await peer.start_tls(contexts()[0])
        else:
            await peer.peek(1)  # what comes together with S is refused
        for turn in case.server:
            outcome.inside += await peer.read(max(peer.buffered, 1))
            peer.write(turn)
        await drain(peer, outcome.inside)

    async def send(peer):
        with contextlib.suppress(PeerClosed):
            for turn in case.client:
                peer.write(turn)
                outcome.answer += await peer.read(max(peer.buffered, 1))
        await drain(peer, outcome.answer)

    upstream, engine = kind(serve, cut=case.cut), PostgresEngine()
    peer, proxy = connect(case.cut)
    sending = asyncio.ensure_future(send(peer))
    login = asyncio.ensure_future(engine.login(Client(proxy, Listener("orders"), case.secret), upstream))
    await until_quiet(login)
    await end_in_turn(login, (*upstream.peers, peer))
    assert login.done(), "a login goes on after client and server have left"
    opened = await outcome.take(login)
    pipes = open_pipes((peer, *upstream.peers))
    if opened is not None:
        opened.closed()
        opened.upstream.close()
    proxy.close()
    assert len(engine._backends) == 0
    await asyncio.wait_for(asyncio.gather(sending, *upstream.tasks), 20)
    check_waiting(pipes)
    return outcome


def check(case: Case, outcome: Outcome) -> None:
    """Check that a login ended in the protocol, and that only a verified server got the token, once, when asked."""
    token = TOKEN.encode()
    assert token not in outcome.plain
    plain = bytes(outcome.plain)
    assert plain[: len(SSL_REQUEST)] in (b"", SSL_REQUEST)
    assert plain[len(SSL_REQUEST) :][:1] in (b"", b"\x16", b"\x15")  # a handshake, or an alert
    assert b"user\0" not in plain
    assert token not in outcome.answer
    assert outcome.inside.count(token) <= 1
    if outcome.inside.count(token):
        assert any(b"R\0\0\0\x08\0\0\0\x03" in turn for turn in case.server)
    if outcome.result == "opened":
        assert b"R\0\0\0\x08\0\0\0\0" in outcome.answer
        assert b"Z" in outcome.answer
    if outcome.result == "failed" and not outcome.answer.startswith((b"N", b"S")):
        assert b"E" in outcome.answer or not outcome.answer
