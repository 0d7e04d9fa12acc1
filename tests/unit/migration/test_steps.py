"""States of a migration in every order, with other executions and undos in between; DynamoDB is moto's."""

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

from rdsiam.access.fields import takes_tokens
from rdsiam.access.model import parse
from rdsiam.access.selection import select
from rdsiam.access.store import Versioned
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.core.changes import Change
from rdsiam.core.times import text
from rdsiam.engines.migration import LoginState, Observation, ObservedClient
from rdsiam.errors import ConnectionFailed
from rdsiam.events.migrate import MigrateRequest
from rdsiam.migration import execution, steps
from rdsiam.migration.flow import status
from rdsiam.migration.results import Beginning, Watched
from rdsiam.migration.secret_retirement import UsersSecrets
from rdsiam.migration.steps import Migrating
from rdsiam.migration.successor import lines_to_add
from rdsiam.migration.undo import Undoing
from rdsiam.state.migrations import Migration, Migrations, QuietPeriod, RetainedSecret, Superseded
from tests.examples import at_most
from tests.unit.databases import database
from tests.unit.inventories import create_inventory

ORDERS = database("orders")
DECLARED = "version: 1\ndatabases:\n  - match: {identifier: orders}\n    users: [{name: app_iam, replaces: app}]\n"
NOT_DECLARED = "version: 1\ndatabases:\n  - match: {identifier: orders}\n    users: [{name: x, replaces: y}]\n"


@dataclass
class Server:
    """State of the database and of Secrets Manager."""

    open: bool = True
    successor: bool = True
    secret: bool = True
    sessions: int = 0
    exists: bool | Exception = True


class FakeUser:
    """A `MigratingUser` of this server."""

    server = Server()

    def __init__(self, *_: Any) -> None:
        pass

    def login_state(self) -> LoginState:
        if isinstance(self.server.exists, Exception):
            raise self.server.exists
        return LoginState(self.server.exists, self.server.open, False)

    def observe(self) -> Observation:
        seen = (ObservedClient("orders", "10.0.0.1", None, self.server.sessions),) if self.server.sessions else ()
        return Observation(seen, None)

    def retire(self, ready: Any) -> list[Change]:
        ready(LoginState(True, self.server.open, False))
        self.server.open = False
        return [Change("disable-user", "app", "NOLOGIN")]

    def restore(self, _: Any, apply: bool) -> list[Change]:
        self.server.open = self.server.open or apply
        return []

    def blind_spots(self) -> str:
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

    def restore(self, _: RetainedSecret) -> None:
        self._server.secret = True


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("dynamodb", "eu-west-1")
        create_inventory(client)
        yield client


class World:
    """The services of a migration."""

    def __init__(self, dynamodb: Any, patch: pytest.MonkeyPatch) -> None:
        dynamodb.delete_item(TableName="inventory", Key={"database": {"S": ORDERS.arn}})
        self.server = FakeUser.server = Server()
        self.migrations = Migrations(dynamodb, "inventory")
        self.file = DECLARED
        #: The inventory's record; None if the database was never onboarded.
        self.record: Any = None
        #: A newer version, which waits for confirmation; empty if none does.
        self.newer = ""
        patch.setattr(execution, "MigratingUser", FakeUser)
        patch.setattr(steps, "Users", lambda *_: SimpleNamespace(prove=lambda _: self.server.successor))

    def run(self, execution: str, undo: bool = False, **options: Any) -> Any:
        services: Any = SimpleNamespace(
            databases=SimpleNamespace(describe=lambda _: ORDERS),
            access=SimpleNamespace(
                current=lambda: Versioned(parse(self.file), "1"),
                waiting=lambda: Versioned(parse(self.newer), "2") if self.newer else None,
            ),
            migrations=self.migrations,
            inventory=SimpleNamespace(get=lambda _: self.record),
            secrets=FakeSecrets(self.server),
        )
        kind = Undoing if undo else Migrating
        run = kind(services, MigrateRequest(ORDERS.arn, "app", undo=undo, watch=1, **options), execution)
        run.continue_from(Beginning(ORDERS.arn, "app_iam"))
        return run

    def migration(self) -> Migration | None:
        return self.migrations.of(ORDERS.arn).get("app")

    def pass_time(self) -> None:
        """Let the quiet period be over."""
        migration = self.migration()
        if migration and migration.watch:
            earlier = text(datetime.now(UTC) - timedelta(seconds=5))
            self.migrations.save(ORDERS.arn, replace(migration, watch=replace(migration.watch, quiet_since=earlier)))


@pytest.fixture
def world(dynamodb, monkeypatch) -> World:
    return World(dynamodb, monkeypatch)


FORWARD = ("record_pairing", "prove", "begin_watching", "observe", "retire", "retire_secret", "release_lease")
BACK = ("take_over", "restore", "restore_secret", "remove")
STEPS = st.one_of(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(FORWARD)),
    st.tuples(st.just("u"), st.sampled_from(BACK)),
    st.tuples(st.just("-"), st.sampled_from(["declare", "undeclare", "log in", "log out", "time"])),
)


def one_step(world: World, who: str, what: str) -> None:
    """Run a step of one of three executions, or an event. An execution without the lease does nothing."""
    if what in {"declare", "undeclare"}:
        world.file = DECLARED if what == "declare" else NOT_DECLARED
    elif what in {"log in", "log out"}:
        world.server.sessions = int(what == "log in" and world.server.open)
    elif what == "time":
        world.pass_time()
    else:
        run = world.run(who, undo=who == "u")
        arguments: Any = {"record_pairing": ((),), "observe": (0,)}.get(what, ())
        try:
            getattr(run, what)(*arguments)
        except (Superseded, AssertionError):
            assert what not in {"take_over", "record_pairing"}


@settings(max_examples=at_most(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=40))
def test_in_any_order_nobody_is_locked_out_and_an_undo_restores_the_beginning(dynamodb, monkeypatch, steps):
    world = World(dynamodb, monkeypatch)
    for who, what in steps:
        was_open, sessions, declared = world.server.open, world.server.sessions, world.file == DECLARED
        one_step(world, who, what)
        assert world.server.open or world.server.successor, "one of both users can always log in"
        if was_open and not world.server.open:
            assert what == "retire"
            assert not sessions
            assert declared
        migration = world.migration()
        if not world.server.open or not world.server.secret:
            assert migration is not None, "an undo can restore it"
    # From every state two undos, the second without the declaration, restore the beginning.
    for file in (DECLARED, NOT_DECLARED):
        world.file = file
        run = world.run("last", undo=True)
        if run.take_over():
            run.restore()
            run.restore_secret()
            run.remove()
    assert world.migration() is None
    assert (world.server.open, world.server.secret) == (True, True)


def forward(world: World, who: str, *steps: str) -> None:
    for step in steps:
        if step == "retire":
            world.pass_time()
        one_step(world, who, step)


def test_states_are_reached_in_order_and_recorded_with_their_changes(world):
    forward(world, "a", *FORWARD)
    migration = world.migration()
    assert migration is not None
    assert [one["state"] for one in migration.history] == ["paired", "proven", "watching", "retired"]
    assert migration.history[-1]["done"][0] == "NOLOGIN"
    assert migration.history[-1]["done"][-1].startswith("aws secretsmanager delete-secret")
    assert (migration.execution, migration.lease, migration.secret) == ("", 0, RetainedSecret("arn:secret", True))


def test_of_two_executions_at_the_same_time_one_works_and_the_other_learns_it(world):
    forward(world, "a", "record_pairing")
    assert "at work" in world.run("b").record_pairing(()).refusal.problem
    assert "at work" in world.run("b").begin().running
    with pytest.raises(Superseded):
        world.run("b").prove()


def test_another_execution_continues_after_the_lease_of_a_killed_one_has_expired(world):
    forward(world, "a", "record_pairing", "prove")
    migration = world.migration()
    assert migration is not None
    world.migrations.save(ORDERS.arn, replace(migration, lease=1))
    assert world.run("b").record_pairing(()).refusal is None
    assert world.migration().state == "proven"


def test_a_user_that_is_logged_in_at_the_end_of_the_period_is_watched_again(world):
    forward(world, "a", "record_pairing", "prove", "begin_watching")
    world.pass_time()
    world.server.sessions = 2
    assert world.run("a").retire().watch_again
    assert world.server.open


def test_a_fourth_user_within_a_day_waits_unless_that_is_confirmed(world):
    for number in range(3):
        done = Migration(f"user{number}", "x", ORDERS.resource_id).at("retired", text(datetime.now(UTC)), [])
        world.migrations.save(ORDERS.arn, done)
    forward(world, "a", "record_pairing", "prove", "begin_watching")
    world.pass_time()
    assert world.run("a").observe(0) == Watched()
    assert "user0, user1, user2" in world.migration().watch.held
    world.pass_time()
    assert world.run("a", confirm=True).observe(0).over


def test_an_undo_in_between_restores_the_secret(world):
    forward(world, "a", "record_pairing", "prove", "begin_watching", "retire")
    run, undo = world.run("a"), world.run("u", undo=True)
    retire = FakeSecrets.retire

    def overtaken(secrets: FakeSecrets, secret: RetainedSecret) -> None:
        assert undo.take_over()
        retire(secrets, secret)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeSecrets, "retire", overtaken)
        with pytest.raises(Superseded):
            run.retire_secret()
    assert world.server.secret


@pytest.mark.parametrize("before", ["none", "undone", "of another database"])
def test_an_undo_without_a_migration_changes_nothing_and_says_so(world, before):
    if before != "none":
        forward(world, "a", "record_pairing", "prove")
    if before == "undone":
        world.file = NOT_DECLARED
        run = world.run("u", undo=True)
        assert run.take_over()
        run.restore()
        run.remove()
    elif before == "of another database":
        migration = world.migration()
        assert migration is not None
        world.migrations.save(ORDERS.arn, replace(migration, resource_id="db-GONE"))
    for plan in (False, True):
        run = world.run("last", undo=True, plan=plan)
        assert run.begin().refusal is None
        planned = run.plan_undo()
        assert (planned.refusal, planned.changes) == (None, ())
        assert planned.reason.problem == f"there is no migration of app on {ORDERS.arn}"
    assert not world.run("last", undo=True).take_over()


def test_observations_that_keep_failing_raise_their_error(world, monkeypatch):
    forward(world, "a", "record_pairing", "prove", "begin_watching")
    monkeypatch.setattr(FakeUser, "observe", lambda _: 1 / 0)
    assert world.run("a").observe(0) == Watched(failures=1)
    with pytest.raises(ZeroDivisionError):
        world.run("a").observe(20)


def test_a_saved_migration_is_read_as_it_was_and_shown_as_json(world):
    watch = QuietPeriod(5, "2026-11-25T00:00:00Z", 3, None, None, ({"application": "é", "sessions": 1},), 7, "held")
    migration = Migration("a.b-c", "a.b-c_iam", "r", watch=watch, locked=("10.%",), secret=RetainedSecret("arn", False))
    saved = world.migrations.save(ORDERS.arn, migration.at("watching", "2026-11-25T00:00:00Z", ["x" * 9999] * 99))
    assert world.migrations.of(ORDERS.arn) == {"a.b-c": saved}
    assert dict(world.migrations.all()) == {ORDERS.arn: {"a.b-c": saved}}
    services: Any = SimpleNamespace(migrations=world.migrations)
    answer = status(services, None)
    assert answer["states"] == {"paired": 0, "proven": 0, "watching": 1, "retired": 0}
    assert answer["migrations"][0]["until"] == "2026-11-25T00:00:05Z"
    assert len(json.dumps(answer)) < 1000
    assert len(json.dumps(status(services, ORDERS.arn))) < 20_000
    with pytest.raises(Superseded):
        world.migrations.save(ORDERS.arn, migration)
    world.migrations.forget(ORDERS.arn, saved)
    with pytest.raises(Superseded):
        world.migrations.forget(ORDERS.arn, saved)


@pytest.mark.parametrize(
    "user", ["app", "svc@corp", "batch user", "o'brien", '50% "off"', "Jürgen", "报表", "42", "-", "a\\b"]
)
@pytest.mark.parametrize("in_place", [False, True])
def test_the_lines_to_add_declare_a_successor_of_a_user_of_any_name(user, in_place):
    problem, remedy = lines_to_add(ORDERS, user, in_place)
    [declared] = parse(f"version: 1\ndatabases:\n{remedy.partition(':\n')[2]}").declared(select(ORDERS, None))
    assert declared.replaces == user
    possible = in_place and takes_tokens(user)
    assert (declared.name == user) == possible
    assert ("can't take tokens itself" in problem) == (in_place and not possible)


@pytest.mark.parametrize(("user", "code"), [("boss", "user-is-administrator"), ("app", "successor-not-declared")])
def test_the_master_gets_no_advice_to_declare_a_successor(world, user, code):
    world.file = NOT_DECLARED
    run = world.run("a")
    run.request = replace(run.request, user=user)
    refusal = run.begin().refusal
    assert refusal.code == code
    assert ("replaces" in refusal.remedy) is (code == "successor-not-declared")


@pytest.mark.parametrize(
    ("newer", "code"), [("", "successor-not-declared"), (DECLARED, "needs-confirmation")], ids=["none", "newer"]
)
def test_a_successor_that_a_waiting_version_declares_needs_its_confirmation(world, newer, code):
    world.file, world.newer = NOT_DECLARED, newer
    refusal = world.run("a").begin().refusal
    assert refusal.code == code
    assert ("rdsiam access publish FILE --confirm" in refusal.remedy) is bool(newer)


@pytest.mark.parametrize(
    ("exists", "onboarded", "code"),
    [
        (False, True, "user-missing"),
        (False, False, "successor-not-declared"),  # nobody knows before the database is onboarded
        (True, True, "successor-not-declared"),
        (ConnectionFailed("orders", 5432, "port", "timeout"), True, "successor-not-declared"),
    ],
    ids=["misspelled", "not onboarded", "there", "unreachable"],
)
def test_a_misspelled_user_gets_no_lines_to_declare_its_successor(world, exists, onboarded, code):
    world.file, world.server.exists = NOT_DECLARED, exists
    world.record = SimpleNamespace(finished=True, is_of=lambda _: False) if onboarded else None
    refusal = world.run("a").begin().refusal
    assert refusal.code == code
    assert ("there is no user app" in refusal.problem) is (code == "user-missing")
