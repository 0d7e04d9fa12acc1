"""A migration's states in every order, with other executions and undos in between; DynamoDB is moto's."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from rdsiam.access.model import parse
from rdsiam.access.store import Versioned
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.core.changes import Change
from rdsiam.core.times import text
from rdsiam.engines.migration import LoginState, Observation, ObservedClient
from rdsiam.events.migrate import MigrateRequest
from rdsiam.migration import steps
from rdsiam.migration.flow import status
from rdsiam.migration.secret_retirement import UsersSecrets
from rdsiam.migration.steps import Migrating
from rdsiam.migration.undo import Undoing
from rdsiam.state.migrations import Migration, Migrations, RetainedSecret, Superseded, Watch
from tests.examples import at_most
from tests.unit.databases import database

ORDERS = database("orders")
DECLARED = "version: 1\ndatabases:\n  - match: {identifier: orders}\n    users: [{name: app_iam, replaces: app}]\n"
NOT_DECLARED = "version: 1\ndatabases:\n  - match: {identifier: orders}\n    users: [{name: x, replaces: y}]\n"


@dataclass
class Server:
    """What there is in the database and in Secrets Manager."""

    open: bool = True
    successor: bool = True
    secret: bool = True
    sessions: int = 0


class FakeUser:
    """A MigratingUser of the server above."""

    server = Server()

    def __init__(self, *_: Any) -> None:
        pass

    def look(self) -> Observation:
        seen = (ObservedClient("orders", "10.0.0.1", None, self.server.sessions),) if self.server.sessions else ()
        return Observation(seen, None)

    def retire(self, ready: Any) -> list[Change]:
        ready(LoginState(True, self.server.open, False))
        self.server.open = False
        return [Change("disable-user", "app", "NOLOGIN")]

    def restore(self, _: Any, apply: bool) -> list[Change]:
        self.server.open = self.server.open or apply
        return []

    def blind(self) -> str:
        return "short logins"

    def remove(self, apply: bool, **_: bool) -> list[Change]:
        self.server.successor = self.server.successor and not apply
        return []


class FakeSecrets:
    """MigratingSecrets with one secret."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def of(self, *_: Any) -> Any:
        return UsersSecrets(SecretFacts("arn:secret", "app", "app", rotation_enabled=True), ("arn:other",))

    def retire(self, _: RetainedSecret) -> None:
        self._server.secret = False

    def restore(self, _: RetainedSecret) -> str:
        self._server.secret = True
        return ""


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("dynamodb", "eu-west-1")
        client.create_table(
            TableName="inventory",
            AttributeDefinitions=[{"AttributeName": "database", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "database", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield client


class World:
    """All that a migration works with."""

    def __init__(self, dynamodb: Any, patch: pytest.MonkeyPatch) -> None:
        dynamodb.delete_item(TableName="inventory", Key={"database": {"S": ORDERS.arn}})
        self.server = FakeUser.server = Server()
        self.migrations = Migrations(dynamodb, "inventory")
        self.file = DECLARED
        patch.setattr(steps, "MigratingUser", FakeUser)
        patch.setattr(steps, "Users", lambda *_: SimpleNamespace(prove=lambda _: self.server.successor))

    def run(self, execution: str, undo: bool = False, **options: Any) -> Any:
        services: Any = SimpleNamespace(
            databases=SimpleNamespace(describe=lambda _: ORDERS),
            access=SimpleNamespace(current=lambda: Versioned(parse(self.file), "1")),
            migrations=self.migrations,
            inventory=SimpleNamespace(get=lambda _: None),
            secrets=FakeSecrets(self.server),
        )
        kind = Undoing if undo else Migrating
        run = kind(services, MigrateRequest(ORDERS.arn, "app", undo=undo, watch=1, **options), execution)
        run.settle({"database": ORDERS.arn, "successor": "app_iam"})
        return run

    def kept(self) -> Migration | None:
        return self.migrations.of(ORDERS.arn).get("app")

    def pass_time(self) -> None:
        """Let the watching's time be over."""
        kept = self.kept()
        if kept and kept.watch:
            earlier = text(datetime.now(UTC) - timedelta(seconds=5))
            self.migrations.save(ORDERS.arn, replace(kept, watch=replace(kept.watch, quiet_since=earlier)))


@pytest.fixture
def world(dynamodb, monkeypatch) -> World:
    return World(dynamodb, monkeypatch)


FORWARD = ("paired", "prove", "begin_watching", "watch", "retire", "retire_secret", "let_go")
BACK = ("take_over", "restore", "restore_secret", "remove")
STEPS = st.one_of(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(FORWARD)),
    st.tuples(st.just("u"), st.sampled_from(BACK)),
    st.tuples(st.just("-"), st.sampled_from(["declare", "undeclare", "log in", "log out", "time"])),
)


def one_step(world: World, who: str, what: str) -> None:
    """Run a step of one of three executions, or let something happen. Who has no lease does nothing."""
    if what in {"declare", "undeclare"}:
        world.file = DECLARED if what == "declare" else NOT_DECLARED
    elif what in {"log in", "log out"}:
        world.server.sessions = int(what == "log in" and world.server.open)
    elif what == "time":
        world.pass_time()
    else:
        run = world.run(who, undo=who == "u")
        arguments = {"paired": ([],), "watch": (0,)}.get(what, ())
        try:
            getattr(run, what)(*arguments)
        except (Superseded, AssertionError):
            assert what not in {"take_over", "paired"}


@settings(max_examples=at_most(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=40))
def test_in_whatever_order_nobody_is_locked_out_and_an_undo_ends_where_it_began(dynamodb, monkeypatch, steps):
    world = World(dynamodb, monkeypatch)
    for who, what in steps:
        was_open, sessions, declared = world.server.open, world.server.sessions, world.file == DECLARED
        one_step(world, who, what)
        assert world.server.open or world.server.successor, "somebody can always log in"
        if was_open and not world.server.open:
            assert what == "retire"
            assert not sessions
            assert declared
        kept = world.kept()
        if not world.server.open or not world.server.secret:
            assert kept is not None, "what was taken away can be given back"
    # Whatever it came to: two undos, the second without the declaration, leave what there was.
    for file in (DECLARED, NOT_DECLARED):
        world.file = file
        run = world.run("last", undo=True)
        if run.take_over():
            run.restore()
            run.restore_secret()
            run.remove()
    assert world.kept() is None
    assert (world.server.open, world.server.secret) == (True, True)


def forward(world: World, who: str, *steps: str) -> None:
    for step in steps:
        if step == "retire":
            world.pass_time()
        one_step(world, who, step)


def test_its_states_are_reached_in_their_order_and_told(world):
    forward(world, "a", *FORWARD)
    kept = world.kept()
    assert kept is not None
    assert [one["state"] for one in kept.history] == ["paired", "proven", "watching", "retired"]
    assert kept.history[-1]["done"][0] == "NOLOGIN"
    assert kept.history[-1]["done"][-1].startswith("aws secretsmanager delete-secret")
    assert (kept.execution, kept.lease, kept.secret) == ("", 0, RetainedSecret("arn:secret", True))


def test_of_two_at_once_one_works_and_the_other_is_told(world):
    forward(world, "a", "paired")
    assert "at work" in world.run("b").paired([])
    assert "at work" in world.run("b").begin()["running"]
    with pytest.raises(Superseded):
        world.run("b").prove()


def test_an_execution_that_died_is_applied_by_another_when_its_lease_is_over(world):
    forward(world, "a", "paired", "prove")
    kept = world.kept()
    assert kept is not None
    world.migrations.save(ORDERS.arn, replace(kept, lease=1))
    assert world.run("b").paired([]) == ""
    assert world.kept().state == "proven"


def test_who_is_logged_in_when_the_time_is_over_is_watched_again(world):
    forward(world, "a", "paired", "prove", "begin_watching")
    world.pass_time()
    world.server.sessions = 2
    assert world.run("a").retire()["again"]
    assert world.server.open


def test_a_fourth_user_within_a_day_waits_unless_that_is_meant(world):
    for number in range(3):
        done = Migration(f"user{number}", "x", ORDERS.resource_id).at("retired", text(datetime.now(UTC)), [])
        world.migrations.save(ORDERS.arn, done)
    forward(world, "a", "paired", "prove", "begin_watching")
    world.pass_time()
    assert world.run("a").watch(0) == {"over": False, "failed": 0}
    assert "user0, user1, user2" in world.kept().watch.held
    world.pass_time()
    assert world.run("a", confirm=True).watch(0)["over"]


def test_an_undo_in_between_gets_the_secret_back(world):
    forward(world, "a", "paired", "prove", "begin_watching", "retire")
    run, undo = world.run("a"), world.run("u", undo=True)
    retire = FakeSecrets.retire

    def overtaken(secrets: FakeSecrets, kept: RetainedSecret) -> None:
        assert undo.take_over()
        retire(secrets, kept)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeSecrets, "retire", overtaken)
        with pytest.raises(Superseded):
            run.retire_secret()
    assert world.server.secret


def test_looks_that_fail_again_and_again_are_an_error_at_last(world, monkeypatch):
    forward(world, "a", "paired", "prove", "begin_watching")
    monkeypatch.setattr(FakeUser, "look", lambda _: 1 / 0)
    assert world.run("a").watch(0) == {"over": False, "failed": 1}
    with pytest.raises(ZeroDivisionError):
        world.run("a").watch(20)


def test_what_is_kept_is_given_back_as_it_was_and_shown_as_json(world):
    watch = Watch(5, "2026-11-25T00:00:00Z", 3, None, None, ({"application": "é", "sessions": 1},), 7, "held")
    kept = Migration("a.b-c", "a.b-c_iam", "r", watch=watch, locked=("10.%",), secret=RetainedSecret("arn", False))
    saved = world.migrations.save(ORDERS.arn, kept.at("watching", "2026-11-25T00:00:00Z", ["x" * 9999] * 99))
    assert world.migrations.of(ORDERS.arn) == {"a.b-c": saved}
    assert dict(world.migrations.all()) == {ORDERS.arn: {"a.b-c": saved}}
    services: Any = SimpleNamespace(migrations=world.migrations)
    told = status(services, None)
    assert told["states"] == {"paired": 0, "proven": 0, "watching": 1, "retired": 0}
    assert told["migrations"][0]["until"] == "2026-11-25T00:00:05Z"
    assert len(json.dumps(told)) < 1000
    assert len(json.dumps(status(services, ORDERS.arn))) < 20_000
    with pytest.raises(Superseded):
        world.migrations.save(ORDERS.arn, kept)
    world.migrations.forget(ORDERS.arn, saved)
    with pytest.raises(Superseded):
        world.migrations.forget(ORDERS.arn, saved)
