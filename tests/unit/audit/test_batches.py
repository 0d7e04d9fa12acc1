"""Batches of an audit: their results, databases that are slow or hang, and batches that fail."""

import json
import threading
import time
from itertools import chain
from typing import Any

from rdsiam.audit import batch
from rdsiam.audit.collect import SECOND
from rdsiam.audit.store import MOST_PARTS
from rdsiam.aws.rds import Database
from rdsiam.engines.connection import Limits
from rdsiam.engines.facts import ServerFacts, Unreadable
from tests.unit.audit.world import World, facts


def test_a_batch_that_fails_is_repeated_and_keeps_its_results(world):
    world.dying = lambda number, attempt: number == 1 and attempt == 1
    assert world.audit()["unreachable"] == 0
    assert world.attempts == {0: 1, 1: 2, 2: 1}


def test_databases_of_a_batch_that_fails_twice_are_unknown_and_the_rest_is_reported(world):
    world.dying = lambda number, _: number == 1
    answer = world.audit()
    assert (answer["databases"], answer["audited"], answer["unreachable"]) == (45, 25, 20)
    assert world.attempts == {0: 1, 1: 2, 2: 1}
    unknown = [one for one in world.report(answer)["databases"] if one["read"] == "unknown"]
    assert {one["stage"] for one in unknown} == {"time"}
    assert all("failed twice" in one["cause"] for one in unknown)


def test_a_database_that_hangs_delays_no_other_and_its_late_result_is_ignored(world):
    released, hung = threading.Event(), threading.Event()

    def read(one: Database) -> ServerFacts:
        if one.identifier == "db-007":
            hung.set()
            released.wait(10)
        return facts("legacy")

    world.reading, world.seconds = read, 1.0
    answer = world.audit()
    assert hung.is_set()
    assert (answer["audited"], answer["unreachable"]) == (44, 1)
    key = f"audits/{answer['id']}/databases/db-007.json"
    before = world.bucket.objects[key]
    assert json.loads(before)["db-007"]["database"]["stage"] == "time"
    released.set()
    time.sleep(0.2)
    assert world.bucket.objects[key] == before


def stored(world: World) -> list[list[str]]:
    """Return the resource ids of the databases in each object with results."""
    names = [key.rpartition("/")[2] for key in list(world.bucket.objects) if "/databases/" in key]
    return [name.removesuffix(".json").split(".") for name in names]


def test_results_are_stored_ten_at_a_time(world):
    world.audit()
    objects = stored(world)
    assert sorted(chain(*objects)) == [f"db-{number:03}" for number in range(45)]
    assert max(map(len, objects)) == MOST_PARTS == 10


def test_results_are_stored_while_another_database_hangs(world):
    """So a function that ends suddenly loses few of them."""
    others = {f"db-{number:03}" for number in range(20)} - {"db-007"}
    seen = threading.Event()

    def read(one: Database) -> ServerFacts:
        if one.identifier == "db-007":
            for _ in range(200):
                if others <= set(chain(*stored(world))):
                    seen.set()
                    break
                time.sleep(0.05)
        return facts("legacy")

    world.reading = read
    assert world.audit()["unreachable"] == 0
    assert seen.is_set()


def slow_at_first(world: World, *identifiers: str, at_last: ServerFacts | Unreadable, patch: Any) -> None:
    """Let databases take longer than the first attempt allows, and answer like this at the second."""
    patch.setattr(batch, "FIRST", Limits(connect=0.05, statement=0.05))

    def read(one: Database) -> ServerFacts | Unreadable:
        if one.identifier not in identifiers:
            return facts("legacy")
        if world.read.count(one.identifier) > 1:
            return at_last
        time.sleep(0.1)
        return Unreadable("port", "timeout expired")

    world.reading = read


def test_slow_databases_are_tried_again_after_all_others_in_batches_of_their_own(world, monkeypatch):
    slow = [f"db-{number:03}" for number in range(0, 45, 2)]
    slow_at_first(world, *slow, at_last=facts("legacy"), patch=monkeypatch)
    answer = world.audit()
    assert (answer["databases"], answer["audited"], answer["unreachable"]) == (45, 45, 0)
    assert sorted(world.read) == sorted([*(f"db-{number:03}" for number in range(45)), *slow])
    assert sorted(world.read[-len(slow) :]) == slow
    assert sorted(world.slow) == [3, 4], "23 databases in batches of 20"
    assert set(world.limits[-len(slow) :]) == {SECOND}


def test_a_database_that_hangs_twice_is_unknown_with_the_last_cause(world, monkeypatch):
    slow_at_first(world, "db-007", "db-031", at_last=Unreadable("tls", "no answer"), patch=monkeypatch)
    answer = world.audit()
    assert (answer["audited"], answer["unreachable"]) == (43, 2)
    unknown = [one for one in world.report(answer)["databases"] if one["read"] == "unknown"]
    assert {(one["identifier"], one["stage"], one["cause"]) for one in unknown} == {
        ("db-007", "tls", "no answer"),
        ("db-031", "tls", "no answer"),
    }


def test_a_database_that_refuses_at_once_is_not_tried_again(world):
    world.reading = lambda one: Unreadable("login", "no such role") if one.identifier == "db-007" else facts("legacy")
    assert world.audit()["unreachable"] == 1
    assert len(world.read) == 45
    assert world.slow == []


def test_slow_databases_whose_batch_fails_twice_are_unknown_and_the_rest_is_reported(world, monkeypatch):
    slow_at_first(world, "db-007", at_last=facts("legacy"), patch=monkeypatch)
    world.dying = lambda number, _: number == 3
    answer = world.audit()
    assert (answer["audited"], answer["unreachable"]) == (44, 1)
    assert world.slow == [3, 3]


def test_a_batch_of_slow_databases_that_is_repeated_reads_none_with_a_result(world, monkeypatch):
    slow = ("db-000", "db-022", "db-044")
    slow_at_first(world, *slow, at_last=facts("legacy"), patch=monkeypatch)
    answer = world.audit()
    world.read.clear()
    event = {"audit": answer["id"], "batch": 3, "slow": True}
    assert world._batch(event, None) == {"audited": 0, "unknown": 0, "slow": 0}
    assert world.read == []


def test_databases_that_wait_for_a_thread_until_the_time_of_their_batch_is_over_are_read_later(world, monkeypatch):
    monkeypatch.setattr(batch, "THREADS", 1)
    released = threading.Event()

    def read(one: Database) -> ServerFacts | Unreadable:
        if one.identifier == "db-000" and world.read.count("db-000") == 1:
            released.wait(10)
        return facts("legacy")

    world.reading, world.seconds = read, 1.0
    answer = world.audit()
    released.set()
    assert (answer["audited"], answer["unreachable"]) == (45, 0)
    assert len(world.read) == 46


def test_a_database_on_which_rdsiam_fails_is_unknown_with_the_error_as_cause(world):
    def read(one: Database) -> ServerFacts:
        if one.identifier == "db-007":
            raise KeyError("secret-value")
        return facts("legacy")

    world.reading = read
    answer = world.audit()
    (unknown,) = [one for one in world.report(answer)["databases"] if one["read"] == "unknown"]
    assert unknown["identifier"] == "db-007"
    assert "KeyError" in unknown["cause"]
    assert "secret-value" not in unknown["cause"]


def test_a_repeated_batch_reads_no_database_with_a_result(world):
    answer = world.audit()
    world.read.clear()
    assert world._batch({"audit": answer["id"], "batch": 0}, None) == {"audited": 0, "unknown": 0, "slow": 0}
    assert world.read == []
