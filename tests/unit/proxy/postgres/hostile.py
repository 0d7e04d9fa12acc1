"""One login with hostile bytes, and what has to hold for each: see `check`."""

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from rdsiam.proxy.contracts import Client, ClientRefused, Listener, UpstreamFailed
from rdsiam.proxy.peer import LIMIT, PeerClosed
from rdsiam.proxy.postgres import server_login
from rdsiam.proxy.postgres.engine import PostgresEngine
from tests.unit.proxy.pipes import Cut, Pipe, connect
from tests.unit.proxy.postgres.in_memory import SSL_REQUEST, TOKEN, Upstream, contexts

#: Bytes that wait at most in one direction: what a peer buffers, what it reads at once, and the longest message.
_MOST = 2 * LIMIT + 256 * 1024


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
        randomness = random.Random(self.pieces)  # noqa: S311
        return lambda _: randomness.randint(1, self.pieces)

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


@dataclass
class Outcome:
    """The end of a case.

    :ivar result: opened, cancelled, refused, failed, closed.
    :ivar reason: the message of a refusal or failure.
    :ivar answer: everything that the client got.
    :ivar plain: everything that the server got without TLS.
    :ivar inside: everything that the server got inside of TLS.
    """

    result: str = ""
    reason: str = ""
    answer: bytearray = field(default_factory=bytearray)
    plain: bytearray = field(default_factory=bytearray)
    inside: bytearray = field(default_factory=bytearray)


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
            await _drain(peer, outcome.plain)
            return
        peer.write(b"S")
        if kind is Upstream:
            await peer.start_tls(contexts()[0])
        else:
            await peer.peek(1)  # what comes together with S is refused
        for turn in case.server:
            outcome.inside += await peer.read(max(peer.buffered, 1))
            peer.write(turn)
        await _drain(peer, outcome.inside)

    async def send(peer):
        with contextlib.suppress(PeerClosed):
            for turn in case.client:
                peer.write(turn)
                outcome.answer += await peer.read(max(peer.buffered, 1))
        await _drain(peer, outcome.answer)

    upstream, engine = kind(serve, cut=case.cut), PostgresEngine()
    peer, proxy = connect(case.cut)
    sending = asyncio.ensure_future(send(peer))
    login = asyncio.ensure_future(engine.login(Client(proxy, Listener("orders"), case.secret), upstream))
    await until_quiet(login)
    for end in (*upstream.peers, peer):
        end.end()
        await until_quiet(login)
    assert login.done(), "a login goes on after client and server have left"
    opened = None
    try:
        opened = login.result()
        outcome.result = "cancelled" if opened is None else "opened"
    except ClientRefused as refusal:
        outcome.result, outcome.reason = "refused", str(refusal)
    except UpstreamFailed as failure:
        outcome.result, outcome.reason = "failed", str(failure)
    except PeerClosed:
        outcome.result = "closed"
    pipes = [end.transport for end in (peer, *upstream.peers) if end._transport is not None]
    if opened is not None:
        opened.closed()
        opened.upstream.close()
    proxy.close()
    assert len(engine._backends) == 0
    await asyncio.wait_for(asyncio.gather(sending, *upstream.tasks), 20)
    assert all(isinstance(pipe, Pipe) and pipe.largest <= _MOST for pipe in pipes)
    return outcome


async def until_quiet(login):
    """Wait until a login has ended, or nothing has arrived anywhere for a while."""
    quiet, before = 0, -1
    while not login.done() and quiet < 30:
        quiet, before = (quiet + 1 if Pipe.deliveries == before else 0), Pipe.deliveries
        await asyncio.sleep(0)


async def _drain(peer, into):
    while True:
        try:
            into += await peer.read(max(peer.buffered, 1))
        except PeerClosed:
            return


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


def mutate(data: bytes, randomness: random.Random) -> bytes:
    """Return bytes with a few changes of the kind that parsers fail at."""
    changed = bytearray(data)
    for _ in range(randomness.choice((1, 1, 2, 4))):
        at = randomness.randrange(len(changed) + 1)
        match randomness.randrange(7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << randomness.randrange(8)
            case 1 if at < len(changed):
                changed[at] = randomness.choice((0, 1, 3, 0x7F, 0x80, 0xFF, *b"RSKZENvp"))
            case 2:
                del changed[at : at + randomness.randrange(1, 9)]
            case 3:
                changed[at:at] = randomness.randbytes(randomness.randrange(1, 9))
            case 4:
                changed[at : at + 4] = randomness.choice((0, 4, 8, 9, 2**31 - 1, 2**31, 2**32 - 1)).to_bytes(4, "big")
            case 5:
                part = changed[at : at + randomness.randrange(1, 40)]
                changed[at:at] = part * randomness.choice((1, 2, 50))
            case _:
                del changed[at:]
    return bytes(changed)
