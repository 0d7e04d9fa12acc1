"""Hostile bytes in every state of MySQL's login: every split, every end, and mutations of both sides.

`FUZZ_SECONDS=600 pytest tests/unit/proxy/mysql/test_hostile_bytes.py -k fuzzing` goes on for that long, and keeps in
`corpus.json` a case for each outcome that none of it has: those that fail, and those with another message.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rdsiam.proxy.mysql import engine
from rdsiam.proxy.mysql.commands import Commands
from tests.unit.proxy.hostile import Corpus, Outcome, kind_of, turns_up_to
from tests.unit.proxy.mysql.fakes import MARIADB_GREETING, OK, SCRAMBLE, greeting, packet, response
from tests.unit.proxy.mysql.hostile import Case, run_and_check

CORPUS = Corpus(Path(__file__).with_name("corpus.json"), Case.from_json)
GREETING = packet(greeting())
LOGIN = packet(response(), 1)
ASK = packet(b"\xfemysql_clear_password\0", 3)
DONE = packet(OK, 5)
DENIED = packet(b"\xff\x15\x04#28000Access denied", 5)
NATIVE = response(answer=b"x" * 20, plugin=b"mysql_native_password")
#: Logins from which mutations begin: name → case.
SEEDS = {
    "login": Case((LOGIN,), (ASK, DONE), GREETING),
    "mariadb": Case((packet(NATIVE, 1),), (ASK, DONE), packet(MARIADB_GREETING)),
    "switch": Case((packet(NATIVE, 1), packet(b"y" * 20, 3)), (ASK, DONE), GREETING),
    "secret": Case((LOGIN,), (packet(DENIED[4:], 2),), GREETING, secret=b"secret"),
    "error": Case((LOGIN,), (ASK, DENIED), GREETING),
    "first error": Case((LOGIN,), (), packet(b"\xff\x10\x04Too many connections")),
    "another plugin": Case((LOGIN,), (packet(b"\xfesha256_password\0" + SCRAMBLE, 3), DENIED), GREETING),
    "full authentication": Case((LOGIN,), (packet(b"\x01\x04", 3), DENIED), GREETING),
    "no tls": Case((LOGIN,), (packet(DENIED[4:], 2),), packet(greeting(capabilities=0xDFFFF7FF))),
    "tls request": Case((packet(response(capabilities=0x19FFAE8D)[:32], 1),), (packet(DENIED[4:], 2),), GREETING),
    "old": Case((packet(b"\x05\0\0\0\x80root\0pass", 1),), (packet(DENIED[4:], 2),), GREETING),
}
RESULTS = dict.fromkeys(SEEDS, "failed") | dict.fromkeys(("login", "mariadb", "switch"), "opened")
RESULTS |= dict.fromkeys(("secret", "tls request", "old"), "refused")


@pytest.fixture(scope="module", autouse=True)
def hurry() -> Iterator[None]:
    """Let nothing wait for a health check."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_LOOK", 0)
        yield


@pytest.fixture(scope="module")
def run(runner: asyncio.Runner) -> Callable[[Case], str]:
    """Return a function that runs a case, checks it, and returns its result."""
    return lambda case: run_and_check(runner, case).result


def signature(outcome: Outcome) -> str:
    """Return the kind of an outcome."""
    return kind_of(outcome, "the database" in outcome.reason, r"""[0-9]+|"[^"]*"|'.*'|(?<=doctor orders ).*""")


@pytest.mark.parametrize("name", SEEDS)
def test_each_login_ends_as_it_does_however_its_bytes_are_split(run, name):
    for size in (1, 2, 3, 5, 7, 64):
        assert run(replace(SEEDS[name], pieces=size)) == RESULTS[name]


@pytest.mark.parametrize("name", ["login", "mariadb", "switch", "secret"])
def test_a_client_that_ends_after_any_byte_gets_no_login(run, name):
    seed = SEEDS[name]
    for end in range(sum(map(len, seed.client))):
        assert run(replace(seed, client=turns_up_to(seed.client, end))) in {"closed", "refused"}


@pytest.mark.parametrize("name", ["login", "mariadb", "error", "another plugin", "full authentication"])
def test_a_server_that_ends_after_any_byte_is_a_failure(run, name):
    seed = SEEDS[name]
    assert seed.first is not None
    for end in range(len(seed.first)):
        assert run(replace(seed, first=seed.first[:end], server=())) == "failed"
    for end in range(sum(map(len, seed.server))):
        assert run(replace(seed, server=turns_up_to(seed.server, end))) == "failed"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(sorted(SEEDS)), number=st.integers(0, 2**32))
def test_changed_bytes_of_both_sides_end_in_the_protocol(run, name, number):
    run(SEEDS[name].mutated(number))


@settings(max_examples=200, deadline=None)
@given(client=st.lists(st.binary(max_size=64), max_size=3), server=st.lists(st.binary(max_size=64), max_size=3))
def test_any_bytes_end_in_the_protocol(run, client, server):
    run(Case(tuple(client), tuple(server), GREETING))
    run(Case((LOGIN,), (), b"".join(server)))
    run(Case((LOGIN,), (ASK, *server), GREETING))


@pytest.mark.parametrize("kind", sorted(CORPUS.cases))
def test_cases_that_fuzzing_found(runner, kind):
    assert signature(run_and_check(runner, CORPUS.cases[kind])) == kind


def fuzz_commands(randomness: random.Random) -> None:
    """Pass random packets on in random pieces, and compare with all of them at once."""
    change = b"\x11bob\0\x14" + b"s" * 20 + b"shop\0"
    payloads = (b"", b"\x03SELECT 1", b"\x0e", change, change[:9], randomness.randbytes(9), b"\x11")
    data = b"".join(
        packet(randomness.choice(payloads), randomness.choice((0, 0, 0, 1, 2, 255)))
        for _ in range(randomness.randrange(9))
    )
    whole, pieces, passed = Commands(False, lambda: True).inspect(data), Commands(False, lambda: True), b""
    at = 0
    while at < len(data):
        size = randomness.choice((1, 2, 3, 9, 50))
        passed += pieces.inspect(data[at : at + size])
        at += size
    assert passed == whole, data


def test_fuzzing(runner):
    def try_case(case: Case, randomness: random.Random) -> str:
        fuzz_commands(randomness)
        return signature(run_and_check(runner, case))

    CORPUS.fuzz(SEEDS.values(), try_case)
