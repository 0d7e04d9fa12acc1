"""Databases that the audit can't read: each ends at its stage, in time, without a secret, and leaves nothing."""

import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rdsiam.audit import collect
from rdsiam.engines.connection import Limits
from rdsiam.engines.facts import Unreadable
from rdsiam.engines.logins import AUDITOR
from tests.integration.audit import strangers
from tests.integration.audit.reading.tokens import Tokens, dialect
from tests.integration.place import Place

# Time is measured outside the server: versions and administrators are the same.
pytestmark = pytest.mark.exhaustive_on("vanilla", "postgres14")

SHORT = Limits(connect=1, statement=1)


def test_without_iam_or_an_endpoint_or_while_it_is_stopped_nothing_is_tried(place):
    tokens = Tokens()
    cases = {
        "iam": replace(place.database, iam_enabled=False),
        "state": replace(place.database, status="stopped"),
    }
    for stage, database in {**cases, "no host": replace(place.database, host=None, status="creating")}.items():
        found = collect.read(database, tokens)
        assert isinstance(found, Unreadable)
        assert found.stage == stage or (stage, found.stage) == ("no host", "state")
    assert tokens.asked == 0


def test_a_refused_login_says_so_without_the_token(place):
    found = collect.read(place.database, Tokens("canary-token"))
    assert isinstance(found, Unreadable)
    assert found.stage == "login"
    assert "canary" not in repr(found)


def test_a_database_that_was_never_onboarded_is_unknown(family):
    place, desired = family
    with place.as_master() as master:
        master.run(f"REVOKE EXECUTE ON PROCEDURE rdsiam.audit FROM {AUDITOR}@'%'")
    found = collect.read(place.database, Tokens())
    assert isinstance(found, Unreadable)
    assert found.stage == "query"
    assert "EXECUTE" in found.cause.upper()
    place.converge(desired)


def test_a_certificate_for_another_name_is_refused(place, monkeypatch):
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: real("localhost" if host == "db.example.com" else host, *a, **k)
    )
    found = collect.read(replace(place.database, host="db.example.com"), Tokens())
    assert isinstance(found, Unreadable)
    assert found.stage == "tls"


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name != "stranger"}


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    ("behave", "stages"),
    [
        (strangers.silent, {"port"}),
        (strangers.closing, {"port"}),
        (strangers.talking, {"port", "tls", "query", "login"}),
        (strangers.greeting_slowly, {"port", "tls"}),
        (strangers.encrypting_slowly, {"port", "tls"}),
    ],
    ids=["silent", "closing", "no database", "slow greeting", "slow encryption"],
)
def test_a_server_that_does_not_answer_ends_at_its_stage_and_leaves_nothing(
    place, make_stranger, behave, stages, eventually
):
    stranger = make_stranger(behave)
    before, opened = threads(), descriptors()
    database = replace(place.database, host="127.0.0.1", port=stranger.port)
    started = time.monotonic()
    found = collect.read(database, Tokens(), SHORT, total=6)
    assert isinstance(found, Unreadable)
    assert found.stage in stages
    assert time.monotonic() - started < 30  # the strangers go on for ever
    assert stranger.connections == 1, "it is tried once more after all others"
    eventually(lambda: threads() <= before)
    eventually(lambda: descriptors() <= opened + stranger.connections)  # its own ends may be open still


def test_a_server_that_takes_the_login_and_then_trickles_is_cut_off(postgres, make_stranger, eventually):
    place, _ = postgres
    stranger = make_stranger(strangers.answering_slowly(strangers.context_of(place.server)))
    before = threads()
    found = collect.read(replace(place.database, port=stranger.port, host="127.0.0.1"), Tokens(), SHORT, total=2)
    assert found == Unreadable("time", "it was not read within 2 s")
    eventually(lambda: threads() <= before)


def test_a_server_that_repeats_the_token_is_not_quoted(postgres, make_stranger):
    place, _ = postgres
    stranger = make_stranger(strangers.repeating_the_password(strangers.context_of(place.server)))
    found = collect.read(replace(place.database, port=stranger.port, host="127.0.0.1"), Tokens("canary-token"))
    assert isinstance(found, Unreadable)
    assert found.stage == "login"
    assert "no good: [31m***" in found.cause
    assert "canary" not in repr(found)
    assert found.cause.isprintable()


def lock_of(place: Place) -> tuple[list[str], str]:
    """Return the statements that lock what the audit reads, and the statement that unlocks it."""
    if place.database.family == "postgres":
        return ["BEGIN", "LOCK TABLE pg_catalog.pg_shdepend IN ACCESS EXCLUSIVE MODE"], "ROLLBACK"
    return [f"LOCK TABLES {dialect(place).users} WRITE"], "UNLOCK TABLES"


@pytest.mark.parametrize(("limits", "total", "stage"), [(Limits(5, 1), 60, "query"), (Limits(5, 30), 2, "time")])
def test_a_query_that_hangs_ends_by_the_limit_of_a_statement_or_of_all(place, limits, total, stage):
    lock, unlock = lock_of(place)
    with place.as_rdsadmin() as admin:
        for statement in lock:
            admin.run(statement)
        found = collect.read(place.database, Tokens(), limits, total)
        admin.run(unlock)
    assert isinstance(found, Unreadable)
    assert found.stage == stage


def test_a_name_that_is_not_resolved_in_time_ends_at_its_stage(place, monkeypatch):
    resolving = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: resolving.wait() and [])
    found = collect.read(place.database, Tokens(), SHORT)
    resolving.set()
    assert isinstance(found, Unreadable)
    assert found.stage == "name"


def test_a_port_that_nobody_listens_on_and_a_name_that_does_not_exist(place):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for stage, database in {
        "port": replace(place.database, host="127.0.0.1", port=port),
        "name": replace(place.database, host="no-such-host.invalid"),
    }.items():
        found = collect.read(database, Tokens())
        assert isinstance(found, Unreadable)
        assert found.stage == stage


def test_a_password_of_the_auditor_is_never_offered(postgres):
    """The audit has tokens only: a server that asks by another method gets nothing."""
    place, _ = postgres
    with place.as_rdsadmin() as admin:
        admin.run(f"ALTER ROLE {AUDITOR} PASSWORD 'a-Password-1'")
        admin.run(f"REVOKE rds_iam FROM {AUDITOR}")
    found = collect.read(place.database, Tokens("a-Password-1"))
    with place.as_rdsadmin() as admin:
        admin.run(f"GRANT rds_iam TO {AUDITOR}")
    assert isinstance(found, Unreadable)
    assert found.stage == "login"
    place.connect("master", None).close()
