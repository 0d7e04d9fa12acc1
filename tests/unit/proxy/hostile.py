"""Hostile bytes for logins of either protocol: mutations, the end of a login, and the cases that fuzzing keeps."""

import asyncio
import json
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from rdsiam.proxy.contracts import ClientRefused, Opened, UpstreamFailed
from rdsiam.proxy.peer import LIMIT, Peer, PeerClosed
from tests.unit.proxy.pipes import Cut, Pipe

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


class Case(Protocol):
    """Bytes of a client and of a server."""

    def mutated(self, number: int) -> Self:
        """Return this case with some of its turns changed, cut into pieces of random lengths."""

    def to_json(self) -> dict[str, Any]:
        """Return the case as JSON."""


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


def cut_up_to(most: int) -> Cut:
    """Return a cut into pieces of random lengths, which are the same in each run."""
    randomness = random.Random(most)  # noqa: S311
    return lambda _: randomness.randint(1, most)


async def until_quiet(login: "asyncio.Future[Opened | None]") -> None:
    """Wait until a login has ended, or nothing has arrived anywhere for a while."""
    quiet, before = 0, -1
    while not login.done() and quiet < 30:
        quiet, before = (quiet + 1 if Pipe.deliveries == before else 0), Pipe.deliveries
        await asyncio.sleep(0)


async def end_in_turn(login: "asyncio.Future[Opened | None]", peers: Iterable[Peer]) -> None:
    """Let peers leave one after the other, and wait after each until nothing more arrives anywhere."""
    for peer in peers:
        peer.end()
        await until_quiet(login)


async def drain(peer: Peer, into: bytearray) -> None:
    """Read everything until the other end closes."""
    while True:
        try:
            into += await peer.read(max(peer.buffered, 1))
        except PeerClosed:
            return


def open_pipes(peers: Iterable[Peer]) -> list[Pipe]:
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


def check_waiting(pipes: Iterable[Pipe]) -> None:
    """Check that neither side ever made the proxy hold more than its limits."""
    assert all(pipe.largest <= _MOST for pipe in pipes)


def turns_up_to[T: Sequence[bytes]](turns: T, end: int) -> list[bytes]:
    """Return the first bytes of turns."""
    result = []
    for turn in turns:
        result.append(turn[:end])
        end = max(0, end - len(turn))
    return result


Change = Callable[[bytearray, int, random.Random], None]


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
