"""Removals from servers that fail in every way, without a database."""

import json
import logging
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rdsiam.aws.rds import Database
from rdsiam.core import log_keys
from rdsiam.core.changes import Change, Unreached
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.engines.protocols import NO_FAILURES
from rdsiam.engines.statements import EndLogin, QueryFailed, Statement, StatementFailed
from rdsiam.errors import ConnectionFailed, DatabaseNotFound, DatabaseNotReady, Refused, Unsupported
from rdsiam.onboarding import removal as removal_module
from rdsiam.onboarding.removal import DatabaseRemoval
from rdsiam.onboarding.server_removal import Removal, Server
from rdsiam.state.record import Applied, Record
from tests.unit.databases import ORDERS

LOCK = Statement("disable-user", "app", 'ALTER ROLE "app" NOLOGIN')
END = Statement("end-sessions", "app", "SELECT pg_terminate_backend(…)", False)
COPY = replace(ORDERS, arn=ORDERS.arn + "-copy", identifier="orders-copy", resource_id="db-TWO", replica_of="orders")


def no_login(problem: str, code: str | None = None) -> ConnectionFailed:
    return ConnectionFailed("orders.example", 5432, "login", problem, code)


@dataclass
class Servers:
    """Servers and their sessions, in place of engine, session and logins.

    :ivar locked: the user can no longer log in there.
    :ivar comes_back: how often the user opens another session when its sessions have ended.
    """

    locked: dict[str, bool] = field(default_factory=dict)
    busy: dict[str, bool] = field(default_factory=dict)
    comes_back: int = 0
    manager_error: Exception | None = None
    master_error: Exception | None = None
    failure: Exception | None = None
    done: list[tuple[str, str, str]] = field(default_factory=list)
    replays: bool = True
    failed: set[str] = field(default_factory=set)
    stopping_error: Exception | None = None
    #: The logins in progress at each reading; those of the last one from then on.
    logging_in: list[set[int]] = field(default_factory=lambda: [set()])
    end_of_login: Exception | None = None
    #: Statements that an engine runs before it reads sessions.
    first: list[Statement] = field(default_factory=list)
    unreadable: Exception | None = None

    # --- logins ---

    def manager(self, database: Database) -> str:  # noqa: ARG002
        return "manager"

    def master(self, database: Database) -> str:
        if self.master_error:
            raise self.master_error
        return f"master of {database.identifier}"

    # --- engine ---

    def connect(self, database: Database, login: str, name: str | None) -> Any:
        assert name is None
        if login == "manager" and self.manager_error:
            raise self.manager_error
        return SimpleNamespace(where=database.identifier, login=login, close=lambda: None)

    def first_statements(self, session: Any, users: Collection[str]) -> list[Statement]:
        assert list(users) == ["app"]
        return [] if self.locked.get(session.where) else self.first

    def lock_statements(self, session: Any, users: Collection[str], failures: Any = NO_FAILURES) -> list[Statement]:
        assert list(users) == ["app"]
        self.failed |= set(failures)
        if self.unreadable:
            raise self.unreadable
        if not self.locked.get(session.where):
            return [LOCK, END]
        return self.end_session_statements(session, users)

    def stop_statements(self, session: Any, users: Collection[str]) -> list[Statement]:
        assert list(users) == ["app"]
        if self.stopping_error and self.locked.get(session.where):
            raise self.stopping_error
        return []

    def end_session_statements(self, session: Any, users: Collection[str]) -> list[Statement]:
        assert list(users) == ["app"]
        return [END] if self.busy.get(session.where) else []

    def unfinished_logins(self, session: Any, users: Collection[str]) -> frozenset[int]:
        assert session.where == "orders-copy" or self.locked.get("orders"), "what begins before the lock matters"
        assert set(users) == {"app"}
        return frozenset(self.logging_in.pop(0) if len(self.logging_in) > 1 else self.logging_in[0])

    def end_login_statements(self, session: Any, user: str, connections: Collection[int]) -> list[EndLogin]:  # noqa: ARG002
        return [EndLogin("end-sessions", user, f"KILL {each}", connection=each) for each in sorted(connections)]

    def execute(self, session: Any, statement: Statement) -> None:
        if isinstance(statement, EndLogin):
            self.done.append((session.where, session.login, statement.statement))
            if self.end_of_login:
                raise self.end_of_login
            return
        if statement.kind == "disable-user" and self.failure:
            raise self.failure
        self.done.append((session.where, session.login, statement.kind))
        if statement.kind == "disable-user":
            self.locked[session.where] = True
            self.locked |= {"orders-copy": True} if self.replays else {}
        else:
            self.busy[session.where] = self.comes_back > 0
            self.comes_back -= 1


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("rdsiam.onboarding.server_removal.time.sleep", lambda _: None)
    monkeypatch.setattr("rdsiam.onboarding.server_removal.cut_off", lambda *_: nullcontext(Event()))


def remove(servers: Servers, apply: bool = True) -> Removal:
    return Server(servers, servers, ORDERS, ORDERS).remove(["app"], apply)  # type: ignore[arg-type]


def test_a_removal_is_the_same_after_a_checkpoint():
    removal = Removal(
        (
            Change("disable-user", "app", 'ALTER ROLE "app" NOLOGIN', authority="master"),
            Change("end-sessions", "app", "SELECT", False),
        ),
        (Unreached("arn:aws:rds:eu-west-1:123456789012:db:replica", "it is rebooting", "run this again"),),
    )
    assert Removal.from_json(json.loads(json.dumps(removal.to_json()))) == removal


def test_sessions_end_before_and_after_a_user_is_locked():
    servers = Servers(busy={"orders": True})
    assert remove(servers) == Removal((END, LOCK))
    assert [kind for _, _, kind in servers.done] == ["end-sessions", "disable-user", "end-sessions"]
    assert remove(servers) == Removal()


def test_a_plan_changes_nothing():
    servers = Servers()
    assert remove(servers, apply=False) == Removal((LOCK, END))
    assert servers.done == []


def test_sessions_that_a_user_opens_again_end_again_and_are_named_if_they_do_not_stop():
    assert remove(Servers(comes_back=4)).unreached == ()
    left = remove(Servers(comes_back=1000))
    assert {change.kind for change in left.changes} == {"disable-user", "end-sessions"}
    assert [(each.what, each.retry) for each in left.unreached] == [(f"app on {ORDERS.arn}", True)]
    assert "as fast as they end" in left.unreached[0].reason


@pytest.fixture
def late(monkeypatch):
    """Logins have no time to end by themselves."""
    monkeypatch.setattr("rdsiam.onboarding.server_removal._LONGEST_LOGIN", -1.0)


def test_a_login_that_began_before_the_lock_is_waited_for_and_its_session_ends():
    servers = Servers(logging_in=[{7}, {7, 8}, {8}])
    servers.execute = becomes_a_session(servers)  # type: ignore[method-assign]
    assert remove(servers).unreached == ()
    assert [kind for _, _, kind in servers.done] == ["end-sessions", "disable-user", "end-sessions", "end-sessions"]
    assert not servers.busy["orders"]


def becomes_a_session(servers: Servers) -> Any:
    """Return `execute` of a server at which a login succeeds once, after the user's sessions have ended."""
    execute, ends = servers.execute, iter([False, True])

    def and_become(session: Any, statement: Statement) -> None:
        execute(session, statement)
        if statement.kind == "end-sessions" and next(ends, False):
            servers.busy[session.where] = True

    return and_become


def test_a_login_that_began_before_the_lock_is_ended_if_it_takes_too_long(late):
    servers = Servers(logging_in=[{7, 8}, {8, 9}, {8, 9}, {9}])
    removal = remove(servers)
    assert removal.unreached == ()
    assert [kind for _, _, kind in servers.done] == ["end-sessions", "disable-user", "end-sessions", "KILL 8", "KILL 8"]
    assert "KILL 8" in {change.statement for change in removal.changes}


def test_a_login_that_began_after_the_lock_is_nobodys_session(late):
    servers = Servers(logging_in=[set(), {1}, {2}])
    assert remove(servers).unreached == ()
    assert [kind for _, _, kind in servers.done] == ["end-sessions", "disable-user", "end-sessions"]


def test_a_login_that_does_not_end_is_named(late):
    (left,) = remove(Servers(logging_in=[{7}])).unreached
    assert (left.what, left.retry) == (f"app on {ORDERS.arn}", True)
    assert left.reason == "a login that began before the user was locked has not ended"


def test_a_login_that_the_server_does_not_end_since_it_has_no_user_yet_is_refused_later(late):
    denied = StatementFailed("the server", END, "42501", "permission denied to terminate process")
    servers = Servers(logging_in=[{7}], end_of_login=denied)
    assert remove(servers).unreached == ()
    assert [kind for _, _, kind in servers.done].count("KILL 7") == 1


def test_a_held_lock_is_named_after_sessions_have_ended():
    servers = Servers(busy={"orders": True}, failure=StatementFailed("the server", LOCK, "55P03", "lock timeout"))
    left = remove(servers)
    assert left.changes == (END,)
    assert not servers.busy["orders"]
    assert servers.failed == {"app"}, "so that whoever holds it can be found"
    assert "55P03 lock timeout" in left.unreached[0].reason
    assert "pg_prepared_xacts" in left.unreached[0].remedy
    assert left.unreached[0].retry


def test_the_master_acts_if_the_manager_gets_no_connection():
    servers = Servers(manager_error=no_login("remaining connection slots are reserved", "53300"))
    done = remove(servers)
    assert done.unreached == ()
    assert {change.to_json()["authority"] for change in done.changes} == {"master"}
    assert {login for _, login, _ in servers.done} == {"master of orders"}


def test_a_user_is_locked_even_if_no_session_can_be_read():
    waits = QueryFailed("2013", "reading information_schema.PROCESSLIST took too long")
    servers = Servers(first=[LOCK, END], unreadable=waits)
    left = remove(servers)
    assert left.changes == (LOCK, END)
    assert "reboot" in left.unreached[0].remedy
    assert "'Change user'" in left.unreached[0].remedy


def test_a_server_that_hangs_when_sessions_end_is_read_no_more():
    hangs = StatementFailed(ORDERS.arn, LOCK, "2013", "timed out", "lost")
    servers = Servers(first=[LOCK], failure=hangs)
    left = remove(servers)
    assert (left.changes, [each.reason for each in left.unreached]) == ((), [str(hangs)])


def test_a_user_is_locked_even_if_its_scheduled_events_can_not_be_read():
    servers = Servers(busy={"orders": True}, stopping_error=QueryFailed("2013", "timed out"))
    left = remove(servers)
    assert servers.locked["orders"]
    assert not servers.busy["orders"]
    assert left.changes == (END, LOCK)
    assert [(each.what, each.reason) for each in left.unreached] == [(ORDERS.arn, "2013 timed out")]


@pytest.mark.parametrize(
    ("error", "reason", "retry"),
    [
        (no_login("Too many connections", "1040"), "all connections are taken", True),
        (Refused("it has no master secret in Secrets Manager"), "no master secret", False),
    ],
)
def test_a_server_that_accepts_neither_manager_nor_master_is_named(error, reason, retry):
    servers = Servers(manager_error=no_login("Too many connections", "1040"), master_error=error)
    left = remove(servers)
    assert left.changes == ()
    assert [(each.what, each.retry) for each in left.unreached] == [(ORDERS.arn, retry)]
    assert reason in left.unreached[0].reason


def test_a_server_that_does_not_answer_is_named_without_a_login_as_master():
    servers = Servers(manager_error=ConnectionFailed("orders.example", 5432, "port", "timed out"))
    servers.master_error = AssertionError("nobody asks for the master's password")
    assert "timed out" in remove(servers).unreached[0].reason


@dataclass
class Rds:
    """The databases that Describe returns."""

    known: dict[str, Database | Exception]

    def describe(self, arn: str) -> Database:
        found = self.known[arn]
        if isinstance(found, Exception):
            raise found
        return found

    replica = describe


def removal_from(monkeypatch, servers: Servers, arn: str, *described: Database, **errors: Exception) -> DatabaseRemoval:
    monkeypatch.setattr(removal_module, "ENGINES", {"postgres": servers})
    known: dict[str, Database | Exception] = {one.arn: one for one in described}
    known |= {f"{ORDERS.arn}-{name}": error for name, error in errors.items()}
    record = Record(ORDERS.resource_id, accounts=dict.fromkeys(("app", MANAGER, AUDITOR), "created"))
    onboarded = replace(record, resource_id=COPY.resource_id, accounts={}, applied=Applied("v1", "f", 1, ("app",)))
    records = {ORDERS.arn: record, COPY.arn: onboarded}
    inventory = SimpleNamespace(of=lambda database: records.get(database.arn))
    file = SimpleNamespace(declared=lambda _: ())
    services = SimpleNamespace(
        databases=Rds(known),
        inventory=inventory,
        logins=servers,
        access=SimpleNamespace(current=lambda: SimpleNamespace(file=file)),
    )
    return DatabaseRemoval(services, arn)


def test_a_promoted_replica_that_is_not_onboarded_is_named(monkeypatch):
    """Its accounts exist, but no record says that they are managed."""
    promoted = replace(COPY, replica_of=None)
    servers = Servers()
    left = removal_from(monkeypatch, servers, COPY.arn, promoted).remove(["app"], apply=True)
    assert [(each.what, each.retry) for each in left.unreached] == [(COPY.arn, True)]
    assert servers.done == []


def test_sessions_end_on_a_replica_after_it_has_replayed_the_lock(monkeypatch):
    source = replace(ORDERS, replicas=("orders-copy",))
    servers = Servers(busy={"orders-copy": True})
    done = removal_from(monkeypatch, servers, ORDERS.arn, source, COPY).remove(["app"], apply=True)
    assert done.unreached == ()
    assert [(each.kind, each.target) for each in done.changes] == [
        ("end-sessions", "app"),
        ("disable-user", "app"),
        ("end-sessions", "app on orders-copy"),
    ]


def test_a_log_line_about_a_replica_names_the_replica(monkeypatch, caplog):
    source = replace(ORDERS, replicas=("orders-copy",))
    servers = Servers(busy={"orders-copy": True})
    caplog.set_level(logging.INFO, "rdsiam")
    caplog.handler.addFilter(log_keys.AddKeys())
    removal_from(monkeypatch, servers, ORDERS.arn, source, COPY).remove(["app"], apply=True)
    lines = {(vars(line)["database"], line.args[1]) for line in caplog.records if line.args[0] in {LOCK.kind, END.kind}}
    assert lines == {(ORDERS.arn, ORDERS.arn), (COPY.arn, COPY.arn)}


def test_a_replica_that_lags_is_named(monkeypatch):
    source = replace(ORDERS, replicas=("orders-copy",))
    servers = Servers(busy={"orders-copy": True}, replays=False)
    left = removal_from(monkeypatch, servers, ORDERS.arn, source, COPY).remove(["app"], apply=True)
    assert not servers.busy["orders-copy"]
    assert [each.what for each in left.unreached] == [f"app on {COPY.arn}"]
    assert "not replayed" in left.unreached[0].reason


CLUSTER = replace(
    ORDERS,
    arn="arn:aws:rds:eu-west-1:123456789012:cluster:orders",
    engine="aurora-postgresql",
    resource_id="cluster-ONE",
    kind="cluster",
)


def reader(name: str, **changed: Any) -> Database:
    """Return a reader of the cluster, as `Databases.replica` does."""
    arn = f"arn:aws:rds:eu-west-1:123456789012:db:{name}"
    return replace(CLUSTER, arn=arn, identifier=name, kind="instance", replica_of="orders", **changed)


def removal_from_cluster(
    monkeypatch, servers: Servers, replicas: list[tuple[str, ...]], *known: Database
) -> DatabaseRemoval:
    """Return the removal from a cluster that each Describe returns with the next of these lists of readers."""
    removal = removal_from(monkeypatch, servers, CLUSTER.arn, *known)
    described = iter(replicas)
    databases = removal._services.databases
    databases.known[CLUSTER.arn] = replace(CLUSTER, iam_enabled=all(one.iam_enabled for one in known))  # type: ignore[attr-defined]
    monkeypatch.setattr(
        databases,
        "describe",
        lambda arn: replace(databases.known[arn], replicas=next(described)),  # type: ignore[attr-defined]
    )
    record = Record(CLUSTER.resource_id, accounts=dict.fromkeys(("app", MANAGER), "created"))
    removal._services.inventory.of = lambda database: record if database.arn == CLUSTER.arn else None  # type: ignore[method-assign]
    return removal


def test_a_reader_that_joins_and_a_reader_that_takes_over_meanwhile_are_visited(monkeypatch):
    servers = Servers(locked=dict.fromkeys(("one", "two", "three"), True), busy={"two": True, "three": True})
    members = [reader(name) for name in ("one", "two", "three")]
    removal = removal_from_cluster(monkeypatch, servers, [("one", "two"), ("one", "three")], *members)
    done = removal.remove(["app"], apply=True)
    assert done.unreached == ()
    ended = {change.target for change in done.changes if change.kind == "end-sessions"}
    assert ended == {"app", "app on two", "app on three"}


def test_readers_of_a_cluster_are_visited_if_iam_authentication_is_off(monkeypatch):
    """They have no record of their own: sessions that were opened before live on."""
    servers = Servers(locked={"orders": True, "one": True}, busy={"one": True})
    servers.manager_error = no_login("PAM authentication failed")
    removal = removal_from_cluster(monkeypatch, servers, [("one",)] * 2, reader("one", iam_enabled=False))
    assert removal.remove(["app"], apply=True).unreached == ()
    assert servers.done == [("one", "master of orders", "end-sessions")]


def test_a_reader_that_cannot_be_described_is_named_after_the_user_is_locked(monkeypatch):
    error = ClientError({"Error": {"Code": "Throttling", "Message": "slower"}}, "DescribeDBInstances")
    servers = Servers(locked={"two": True}, busy={"two": True})
    removal = removal_from_cluster(monkeypatch, servers, [("one", "two")] * 2, reader("two"))
    removal._services.databases.known[reader("one").arn] = error  # type: ignore[attr-defined]
    left = removal.remove(["app"], apply=True)
    assert [(each.what, each.retry) for each in left.unreached] == [(reader("one").arn, True)]
    assert servers.locked["orders"]
    assert not servers.busy["two"]


def test_a_server_that_hangs_is_named_as_such(monkeypatch):
    late = Event()
    late.set()
    monkeypatch.setattr("rdsiam.onboarding.server_removal.cut_off", lambda *_: nullcontext(late))
    left = remove(Servers(busy={"orders": True}))
    assert [(each.what, each.retry) for each in left.unreached] == [(ORDERS.arn, True)]
    assert "did not answer" in left.unreached[0].reason


def test_on_the_arn_of_a_replica_sessions_end_and_no_user_is_locked(monkeypatch):
    servers = Servers(busy={"orders-copy": True})
    done = removal_from(monkeypatch, servers, COPY.arn, ORDERS, COPY).remove(["app"], apply=True)
    assert done == Removal((replace(END, target="app on orders-copy"),))
    assert [where for where, _, _ in servers.done] == ["orders-copy"]


def test_the_master_of_the_source_opens_a_replica(monkeypatch):
    servers = Servers(busy={"orders-copy": True}, manager_error=no_login("too many clients already", "53300"))
    removal_from(monkeypatch, servers, COPY.arn, ORDERS, COPY).remove(["app"], apply=True)
    assert {login for _, login, _ in servers.done} == {"master of orders"}


def test_the_master_ends_sessions_on_a_replica_whose_iam_authentication_is_off(monkeypatch):
    source = replace(ORDERS, replicas=("orders-copy", "orders-plain"))
    off = replace(COPY, iam_enabled=False)
    plain = replace(off, arn=ORDERS.arn + "-plain", identifier="orders-plain", resource_id="db-THREE")
    servers = Servers(locked={"orders": True, "orders-copy": True}, busy={"orders-copy": True})
    servers.manager_error = no_login("PAM authentication failed")
    done = removal_from(monkeypatch, servers, ORDERS.arn, source, off, plain).remove(["app"], apply=True)
    assert done.unreached == ()
    assert servers.done == [("orders-copy", "master of orders", "end-sessions")]


def test_replicas_of_replicas_are_reached_and_replicas_out_of_reach_are_named(monkeypatch):
    far = "arn:aws:rds:us-east-1:123456789012:db:orders-far"
    source = replace(ORDERS, replicas=(far, "orders-busy", "orders-copy", "orders-gone"))
    second = replace(COPY, arn=ORDERS.arn + "-second", identifier="orders-second", replica_of="orders-copy")
    copy = replace(COPY, replicas=("orders-second",))
    servers = Servers(locked={"orders-second": True}, busy={"orders-second": True})
    removal = removal_from(
        monkeypatch,
        servers,
        ORDERS.arn,
        source,
        copy,
        second,
        busy=DatabaseNotReady("it is rebooting"),
        gone=DatabaseNotFound("it does not exist"),
    )
    removal._services.databases.known[far] = Unsupported(f"{far} is of another account or region")  # type: ignore[attr-defined]
    left = removal.remove(["app"], apply=True)
    assert ("orders-second", "manager", "end-sessions") in servers.done
    assert [(each.what, each.retry) for each in left.unreached] == [(far, False), (f"{ORDERS.arn}-busy", True)]


def test_users_of_the_service_and_users_that_are_not_managed_are_left_alone(monkeypatch):
    servers = Servers()
    removal = removal_from(monkeypatch, servers, ORDERS.arn, ORDERS)
    assert removal.remove([MANAGER, AUDITOR, "boss"], apply=True) == Removal()
    assert servers.done == []
