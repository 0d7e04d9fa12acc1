"""Hostile bytes for logins of either protocol: cases and their mutations, a login, and the cases that fuzzing keeps."""

import asyncio
import json
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from rdsiam.proxy.contracts import Client, ClientRefused, Engine, Listener, Opened, UpstreamFailed
from rdsiam.proxy.peer import LIMIT, Peer, PeerClosed
from tests.unit.proxy.in_memory import TOKEN, Upstream
from tests.unit.proxy.pipes import Cut, Pipe, connect

#: Bytes that wait at most in one direction: what a peer buffers, what it reads at once, and the longest message.
_MOST = 2 * LIMIT + 256 * 1024


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

    async def take(self, login: "asyncio.Future[Opened | None]") -> Opened | None:
        """Wait for a login, note its result, and return it."""
        opened = None
        try:
            opened = await login
        except ClientRefused as refusal:
            self.result, self.reason = "refused", str(refusal)
        except UpstreamFailed as failure:
            self.result, self.reason = "failed", str(failure)
        except PeerClosed:
            self.result = "closed"
        else:
            self.result = "cancelled" if opened is None else "opened"
        return opened


Change = Callable[[bytearray, int, random.Random], None]


@dataclass(frozen=True)
class Case:
    """Bytes of a client and of a server, each in turns. Each protocol has a class of its own, with how they change.

    :ivar client: what a client sends in each of its turns.
    :ivar server: what a server sends inside of TLS in each of its turns.
    :ivar first: what a server sends before TLS: see the protocol's class.
    :ivar secret: the shared secret that the proxy asks the client for; None: it asks for none.
    :ivar pieces: number of bytes that arrive at once at most; their number is random, but the same in each run.
    :cvar values: bytes that mean something in the protocol.
    :cvar lengths: changes of the protocol's lengths.
    :cvar share_of_first: how often a mutation changes `first`.
    """

    client: tuple[bytes, ...]
    server: tuple[bytes, ...]
    first: bytes | None = None
    secret: bytes | None = None
    pieces: int = 10_000
    values: ClassVar[Sequence[int]]
    lengths: ClassVar[Sequence[Change]]
    share_of_first: ClassVar[float]

    def cut(self) -> Cut:
        """Return a cut into pieces of random lengths, which are the same in each run."""
        randomness = random.Random(self.pieces)  # noqa: S311
        return lambda _: randomness.randint(1, self.pieces)

    def mutated(self, number: int) -> Self:
        """Return this case with some of its turns changed, cut into pieces of random lengths."""
        randomness = random.Random(number)  # noqa: S311

        def change(turn: bytes, share: float = 0.6) -> bytes:
            return mutate(turn, randomness, self.values, self.lengths) if randomness.random() < share else turn

        return replace(
            self,
            client=tuple(map(change, self.client)),
            server=tuple(map(change, self.server)),
            first=None if self.first is None else change(self.first, self.share_of_first),
            pieces=randomness.choice((1, 3, 17, 10_000)),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the case as JSON."""
        return {
            "client": [turn.hex() for turn in self.client],
            "server": [turn.hex() for turn in self.server],
            "first": None if self.first is None else self.first.hex(),
            "secret": None if self.secret is None else self.secret.hex(),
            "pieces": self.pieces,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the case of `to_json`."""
        client, server = (tuple(bytes.fromhex(turn) for turn in data[key]) for key in ("client", "server"))
        first, secret = (None if data[key] is None else bytes.fromhex(data[key]) for key in ("first", "secret"))
        return cls(client, server, first, secret, data["pieces"])


class Corpus[C: Case]:
    """The cases that fuzzing has kept in a file: one for each kind of outcome.

    :param parse: makes a case of its JSON.
    """

    def __init__(self, path: Path, parse: Callable[[dict[str, Any]], C]) -> None:
        self._path = path
        self.cases = {kind: parse(data) for kind, data in json.loads(path.read_text()).items()}

    def fuzz(self, seeds: Iterable[C], try_case: Callable[[C, random.Random], str]) -> None:
        """Try mutated cases for a second, or for `FUZZ_SECONDS`; then the file gets those of new kinds.

        :param try_case: runs and checks a case, and returns the kind of its outcome.
        """
        seconds = float(os.environ.get("FUZZ_SECONDS", "0"))
        randomness, end, count = random.Random(), time.monotonic() + (seconds or 1), 0  # noqa: S311
        cases = dict(self.cases)
        known = [*seeds, *cases.values()]
        try:
            while time.monotonic() < end:
                case = randomness.choice(known).mutated(randomness.randrange(2**48))
                try:
                    kind = try_case(case, randomness)
                except BaseException:
                    cases["unexpected: "] = case
                    raise
                if cases.setdefault(kind, case) is case:
                    known.append(case)
                count += 1
        finally:
            print(f"{count} cases, {len(cases)} kinds")  # noqa: T201
            if seconds:
                text = json.dumps({kind: case.to_json() for kind, case in sorted(cases.items())}, indent=1)
                self._path.write_text(text + "\n")


async def until_quiet(login: "asyncio.Future[Opened | None]") -> None:
    """Wait until a login has ended, or nothing has arrived anywhere for a while."""
    quiet, before = 0, -1
    while not login.done() and quiet < 30:
        quiet, before = (quiet + 1 if Pipe.deliveries == before else 0), Pipe.deliveries
        await asyncio.sleep(0)


async def run_login(
    case: Case,
    engine: Engine,
    upstream: Upstream,
    send: Callable[[Peer], Awaitable[None]],
    outcome: Outcome,
    opened_well: Callable[[Opened], None],
    patience: float = 0,
) -> None:
    """Run a login until it has ended; if nothing more arrives anywhere, the server leaves, then the client.

    :param send: is the client, and ends when the proxy has closed the connection.
    :param outcome: gets the result.
    :param opened_well: is called with a login that has succeeded.
    :param patience: seconds that the login may take after both have left.
    """
    peer, proxy = connect(case.cut())
    sending = asyncio.ensure_future(send(peer))
    login = asyncio.ensure_future(engine.login(Client(proxy, Listener("orders"), case.secret), upstream))
    await until_quiet(login)
    for leaving in (*upstream.peers, peer):
        leaving.end()
        await until_quiet(login)
    if patience:
        await asyncio.wait([login], timeout=patience)
    assert login.done(), "a login goes on after client and server have left"
    opened = await outcome.take(login)
    pipes = _open_pipes((peer, *upstream.peers))
    if opened is not None:
        opened_well(opened)
        opened.upstream.close()
    proxy.close()
    await asyncio.wait_for(asyncio.gather(sending, *upstream.tasks), 20)
    # Neither side ever made the proxy hold more than its limits.
    assert all(pipe.largest <= _MOST for pipe in pipes)


async def drain(peer: Peer, into: bytearray) -> None:
    """Read everything until the other end closes."""
    while True:
        try:
            into += await peer.read(max(peer.buffered, 1))
        except PeerClosed:
            return


def _open_pipes(peers: Iterable[Peer]) -> list[Pipe]:
    """Return the pipes of peers that are connected."""
    pipes = []
    for peer in peers:
        try:
            transport = peer.transport
        except PeerClosed:
            continue
        assert isinstance(transport, Pipe)
        pipes.append(transport)
    return pipes


def check_token(outcome: Outcome, asked: bool) -> None:
    """Check that nobody got the token but a server inside of TLS, and it once.

    :param asked: whether the server asked for it.
    """
    token = TOKEN.encode()
    assert token not in outcome.plain
    assert token not in outcome.answer
    assert outcome.inside.count(token) <= int(asked)


def kind_of(outcome: Outcome, explained: bool, varying: str) -> str:
    """Return the kind of an outcome: its result and message, without what differs from case to case.

    :param explained: whether a failure has a sentence of the proxy's own.
    :param varying: a pattern of what differs.
    """
    reason = outcome.reason if explained or outcome.result != "failed" else "an error of the server, or of TLS"
    return f"{outcome.result}: {re.sub(varying, '…', reason)}"


def turns_up_to(turns: Sequence[bytes], end: int) -> tuple[bytes, ...]:
    """Return the first bytes of turns."""
    result = []
    for turn in turns:
        result.append(turn[:end])
        end = max(0, end - len(turn))
    return tuple(result)


def mutate(data: bytes, randomness: random.Random, values: Sequence[int], lengths: Sequence[Change]) -> bytes:
    """Return bytes with a few changes of the kind that parsers fail at.

    :param values: bytes that mean something in the protocol.
    :param lengths: changes of the protocol's lengths.
    """
    changed = bytearray(data)
    for _ in range(randomness.choice((1, 1, 2, 4))):
        at = randomness.randrange(len(changed) + 1)
        match randomness.randrange(6 + len(lengths)):
            case 0 if at < len(changed):
                changed[at] ^= 1 << randomness.randrange(8)
            case 1 if at < len(changed):
                changed[at] = randomness.choice(values)
            case 2:
                del changed[at : at + randomness.randrange(1, 9)]
            case 3:
                changed[at:at] = randomness.randbytes(randomness.randrange(1, 9))
            case 4:
                part = changed[at : at + randomness.randrange(1, 40)]
                changed[at:at] = part * randomness.choice((1, 2, 50))
            case kind if kind >= 6:
                lengths[kind - 6](changed, at, randomness)
            case _:
                del changed[at:]
    return bytes(changed)
