"""One login of MySQL with hostile bytes, and what has to hold for each: see `check`."""

import asyncio
import contextlib
import random

from rdsiam.proxy.contracts import Opened
from rdsiam.proxy.mysql.engine import MySQLEngine
from rdsiam.proxy.peer import Peer, PeerClosed
from rdsiam.proxy.sentences import one_line
from tests.unit.proxy import hostile
from tests.unit.proxy.hostile import Outcome
from tests.unit.proxy.in_memory import Upstream, contexts

_TLS_REQUEST = 36
_TLS = 1 << 11
#: First bytes of lengths and of packets, and others that are at a limit.
_VALUES = (0, 1, 2, 0x7F, 0x80, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF)


def _set_length(changed: bytearray, _: int, randomness: random.Random) -> None:
    changed[:3] = randomness.choice((0, 1, 31, 32, 0xFFFF, 0x10001, 0xFFFFFF)).to_bytes(3, "little")


def _correct_length(changed: bytearray, _: int, __: random.Random) -> None:
    changed[:3] = max(len(changed) - 4, 0).to_bytes(3, "little")


class Case(hostile.Case):
    """A login of MySQL: `first` is the server's greeting, after which the client has its first turn."""

    values = _VALUES
    lengths = (_set_length, _correct_length)
    share_of_first = 0.3


class CleanUpstream(Upstream):
    """Messages are cleaned, as `Upstream.explain` promises."""

    def explain(self, message: str) -> str:
        return one_line(message)


async def run_case(case: Case) -> Outcome:
    """Run a login until it has ended; if nothing more arrives anywhere, the server leaves, then the client."""
    outcome = Outcome()

    async def serve(peer: Peer) -> None:
        assert case.first is not None
        peer.write(case.first)
        outcome.plain += await peer.read(_TLS_REQUEST)
        received = outcome.plain
        if received[0] == 32 and int.from_bytes(received[4:8], "little") & _TLS:
            await peer.start_tls(contexts()[0])
            received = outcome.inside
            received += await peer.read(max(peer.buffered, 1))
        for turn in case.server:
            peer.write(turn)
            received += await peer.read(max(peer.buffered, 1))
        await hostile.drain(peer, received)

    async def send(peer: Peer) -> None:
        with contextlib.suppress(PeerClosed):
            for turn in case.client:
                outcome.answer += await peer.read(max(peer.buffered, 1))
                peer.write(turn)
        await hostile.drain(peer, outcome.answer)

    def inspect(opened: Opened) -> None:
        assert opened.inspect is not None
        opened.inspect(b"".join(case.client))

    upstream = CleanUpstream(serve, cut=case.cut())
    await hostile.run_login(case, MySQLEngine(), upstream, send, outcome, inspect, patience=1)
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
    hostile.check_token(outcome, asked=any(b"mysql_clear_password" in turn for turn in case.server))
    got = packets(bytes(outcome.answer))
    if outcome.result == "opened":
        assert outcome.inside
        assert got[-1][:1] == b"\0"
    if outcome.result in ("failed", "refused"):
        assert [payload[:1] for payload in got].count(b"\xff") == (1 if got else 0)
        assert not got or got[-1][:1] == b"\xff"
        assert outcome.reason
        assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in outcome.reason)


def run_and_check(runner: asyncio.Runner, case: Case) -> Outcome:
    """Run a case, check it, and return its outcome."""
    outcome = runner.run(run_case(case))
    check(case, outcome)
    return outcome
