"""Hostile bytes in every state of PostgreSQL's login: every split, every end, and mutations of both sides.

`FUZZ_SECONDS=600 pytest -s tests/unit/proxy/postgres/test_hostile_bytes.py -k fuzzing` goes on for that long, and keeps
a case in `corpus.json` for each outcome that none of it has: those that fail, and those with another message.
"""

import asyncio
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rdsiam.proxy.peer import LIMIT, PeerClosed
from tests.unit.proxy.hostile import Corpus, Outcome, kind_of, turns_up_to, until_quiet
from tests.unit.proxy.in_memory import Upstream, contexts
from tests.unit.proxy.postgres.hostile import Case, run_and_check
from tests.unit.proxy.postgres.in_memory import (
    ASK_CLEARTEXT,
    AUTHENTICATION_OK,
    GSSENC_REQUEST,
    KEY_DATA,
    LOGGED_IN,
    SSL_REQUEST,
    attempt,
    cancel_request,
    error,
    message,
    startup,
)

CORPUS = Corpus(Path(__file__).with_name("corpus.json"), Case.from_json)
LOGIN = startup(user="app", database="shop", options="-c a=b")
PASSWORD = message(b"p", b"secret\0")
NOTICE = message(b"N", b"SNOTICE\0C00000\0Mhello\0\0")
SASL = message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0")
NEGOTIATE = message(b"v", struct.pack("!II", 0, 1) + b"_pq_.x\0")
#: Logins from which mutations begin: name → case.
SEEDS = {
    "login": Case((LOGIN,), (ASK_CLEARTEXT, LOGGED_IN)),
    "secret": Case((LOGIN, PASSWORD), (ASK_CLEARTEXT, LOGGED_IN), secret=b"secret"),
    "requests": Case((SSL_REQUEST, GSSENC_REQUEST, LOGIN), (NEGOTIATE + ASK_CLEARTEXT, NOTICE + LOGGED_IN)),
    "cancel": Case((cancel_request(4711, b"\1\2\3\4"),), ()),
    "error": Case((LOGIN,), (ASK_CLEARTEXT, error("28000", "no", H="hint"))),
    "late error": Case((LOGIN,), (ASK_CLEARTEXT, AUTHENTICATION_OK + KEY_DATA + error("3D000", "no database"))),
    "sasl": Case((LOGIN,), (SASL,)),
    "no tls": Case((LOGIN,), (), first=b"N"),
    "stuffed": Case((LOGIN,), (), first=b"S" + ASK_CLEARTEXT),
}
RESULTS = {
    "login": "opened", "secret": "opened", "requests": "opened", "cancel": "cancelled", "error": "failed",
    "late error": "failed", "sasl": "failed", "no tls": "failed", "stuffed": "failed",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(runner: asyncio.Runner) -> Callable[[Case], str]:
    """Return a function that runs a case, checks it, and returns its result."""
    return lambda case: run_and_check(runner, case).result


def signature(outcome: Outcome) -> str:
    """Return the kind of an outcome."""
    explained = outcome.reason.startswith(("the database", "unencrypted"))
    return kind_of(outcome, explained, r"""[0-9]+|"[^"]*"|b['"].*['"]""")


@pytest.mark.parametrize("name", SEEDS)
def test_each_login_ends_as_it_does_however_its_bytes_are_split(run, name):
    seed = SEEDS[name]
    for size in (1, 2, 3, 5, 7, 64):
        assert run(replace(seed, pieces=size)) == RESULTS[name]


@pytest.mark.parametrize("name", ["login", "secret", "requests"])
def test_a_client_that_ends_after_any_byte_gets_no_login(run, name):
    seed = SEEDS[name]
    for end in range(sum(map(len, seed.client))):
        assert run(replace(seed, client=turns_up_to(seed.client, end))) in {"closed", "refused"}


@pytest.mark.parametrize("name", ["login", "error", "late error"])
def test_a_server_that_ends_after_any_byte_is_a_failure(run, name):
    seed = SEEDS[name]
    for end in range(sum(map(len, seed.server))):
        assert run(replace(seed, server=turns_up_to(seed.server, end))) == "failed"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(sorted(SEEDS)), number=st.integers(0, 2**32))
def test_changed_bytes_of_both_sides_end_in_the_protocol(run, name, number):
    run(SEEDS[name].mutated(number))


@settings(max_examples=50, deadline=None)
@given(client=st.lists(st.binary(max_size=64), max_size=3), server=st.lists(st.binary(max_size=64), max_size=3))
def test_any_bytes_end_in_the_protocol(run, client, server):
    run(Case(tuple(client), tuple(server)))
    run(Case((LOGIN,), tuple(server)))
    run(Case((LOGIN,), (ASK_CLEARTEXT, AUTHENTICATION_OK, *server)))


@pytest.mark.parametrize("kind", sorted(CORPUS.cases))
def test_cases_that_fuzzing_found(runner, kind):
    assert signature(run_and_check(runner, CORPUS.cases[kind])) == kind


def test_fuzzing(runner):
    def try_case(case: Case, randomness: random.Random) -> str:
        return signature(run_and_check(runner, case, tls=case.first is not None or randomness.random() < 0.1))

    CORPUS.fuzz(SEEDS.values(), try_case)


def test_a_server_that_talks_without_end_is_not_read_while_its_client_is_slow(runner):
    sent = []

    async def script(peer):
        await peer.read(8)
        peer.write(b"S")
        await peer.start_tls(contexts()[0])
        await peer.read(1)
        for _ in range(400):
            peer.write(message(b"N", b"x" * 100_000))
            sent.append(100_000)
            await peer.drain()

    async def main():
        client = attempt(Upstream(script))
        client.peer.write(LOGIN)
        await until_quiet(client.login)
        waiting = sum(sent)
        read = 0
        while read < 30_000_000:
            read += len((await client.message())[1])
        client.peer.close()
        with pytest.raises(PeerClosed):
            await client.login
        return waiting

    assert runner.run(main()) < 3_000_000


@pytest.mark.parametrize(
    "first", [LOGIN, SSL_REQUEST + LOGIN, struct.pack("!II", 10_000, 3 << 16)], ids=["startup", "tls", "layout"]
)
def test_a_client_that_talks_without_end_is_not_read_further(runner, first):
    async def silent(peer):
        await peer.ended()

    async def main():
        client = attempt(Upstream(silent))
        client.peer.write(first)
        sent = 0
        while client.peer._writable.is_set() and not client.login.done() and sent < 40_000_000:
            client.peer.write(b"\1" * 100_000)
            sent += 100_000
            await asyncio.sleep(0)
        most = client.proxy.buffered
        # The time limit of the login is the listener's.
        client.login.cancel()
        await asyncio.wait([client.login])
        return sent, most

    sent, most = runner.run(main())
    assert sent < 3_000_000
    assert most <= 2 * LIMIT
