"""One login of PostgreSQL with hostile bytes, and what has to hold for each: see `check`."""

import asyncio
import contextlib
import random
from unittest import mock

from rdsiam.proxy.peer import PeerClosed
from rdsiam.proxy.postgres import server_login
from rdsiam.proxy.postgres.engine import PostgresEngine
from tests.unit.proxy import hostile
from tests.unit.proxy.hostile import Outcome
from tests.unit.proxy.in_memory import Upstream, contexts
from tests.unit.proxy.postgres.in_memory import SSL_REQUEST

#: Types of messages, and bytes that are at a limit.
_VALUES = (0, 1, 3, 0x7F, 0x80, 0xFF, *b"RSKZENvp")


def _set_length(changed: bytearray, at: int, randomness: random.Random) -> None:
    changed[at : at + 4] = randomness.choice((0, 4, 8, 9, 2**31 - 1, 2**31, 2**32 - 1)).to_bytes(4, "big")


class Case(hostile.Case):
    """A login of PostgreSQL: `first` is what a server sends instead of `S`; None: it begins with TLS, verified."""

    values = _VALUES
    lengths = (_set_length,)
    share_of_first = 1


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
        if case.first is not None:
            peer.write(case.first)
            await hostile.drain(peer, outcome.plain)
            return
        peer.write(b"S")
        if kind is Upstream:
            await peer.start_tls(contexts()[0])
        else:
            await peer.peek(1)  # what comes together with S is refused
        for turn in case.server:
            outcome.inside += await peer.read(max(peer.buffered, 1))
            peer.write(turn)
        await hostile.drain(peer, outcome.inside)

    async def send(peer):
        with contextlib.suppress(PeerClosed):
            for turn in case.client:
                peer.write(turn)
                outcome.answer += await peer.read(max(peer.buffered, 1))
        await hostile.drain(peer, outcome.answer)

    engine = PostgresEngine()
    await hostile.run_login(case, engine, kind(serve, cut=case.cut()), send, outcome, lambda opened: opened.closed())
    assert len(engine._backends) == 0
    return outcome


def check(case: Case, outcome: Outcome) -> None:
    """Check that a login ended in the protocol, and that only a verified server got the token, once, when asked."""
    hostile.check_token(outcome, asked=any(b"R\0\0\0\x08\0\0\0\x03" in turn for turn in case.server))
    plain = bytes(outcome.plain)
    assert plain[: len(SSL_REQUEST)] in (b"", SSL_REQUEST)
    assert plain[len(SSL_REQUEST) :][:1] in (b"", b"\x16", b"\x15")  # a handshake, or an alert
    assert b"user\0" not in plain
    if outcome.result == "opened":
        assert b"R\0\0\0\x08\0\0\0\0" in outcome.answer
        assert b"Z" in outcome.answer
    if outcome.result == "failed" and not outcome.answer.startswith((b"N", b"S")):
        assert b"E" in outcome.answer or not outcome.answer


def run_and_check(runner: asyncio.Runner, case: Case, tls: bool = True) -> Outcome:
    """Run a case, check it, and return its outcome."""
    outcome = runner.run(run_case(case, tls))
    check(case, outcome)
    return outcome
