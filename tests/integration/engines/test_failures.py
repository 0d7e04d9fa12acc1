"""A statement that fails leaves the rest done and all else as it was; the answer has the server's error, and the next
run does what is missing.
"""

import difflib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from rdsiam.core.changes import Unreached
from rdsiam.engines.mysql import connection, engine
from rdsiam.engines.postgres import connection as postgres_connection
from rdsiam.engines.postgres import database_privileges, execution, failures
from rdsiam.engines.protocols import Sessions
from rdsiam.engines.statements import StatementFailed
from tests.integration.engines.test_real_schemas import dump
from tests.integration.engines.world import Onboarded, World
from tests.integration.place import Client, Place
from tests.kinds import MYSQL, OLDER_EXHAUSTIVE

READER = {"name": "reader", "privileges": "readonly", "on": ["shop"]}
#: An event trigger's function that writes each command into a table.
LOGGING = "BEGIN INSERT INTO {} (who, what) VALUES (current_user, tg_tag); END"


@pytest.fixture
def short_waits(monkeypatch) -> None:
    """Let rdsiam wait for locks for a moment."""
    monkeypatch.setattr(execution, "_BRIEF_WAIT", "SET LOCAL lock_timeout = '200ms'")
    monkeypatch.setitem(postgres_connection._POSTGRES_SETTINGS[0], "lock_timeout", "500ms")
    monkeypatch.setattr(engine, "_LONGEST_STATEMENT", 1)
    settings = connection._MYSQL_SETTINGS.replace("lock_wait_timeout = 10", "lock_wait_timeout = 1")
    assert settings != connection._MYSQL_SETTINGS
    monkeypatch.setattr(connection, "_MYSQL_SETTINGS", settings)


@pytest.fixture(scope="module", params=["postgres", OLDER_EXHAUSTIVE])
def postgres(request, make_place) -> Place:
    place: Place = make_place(request.param)
    with place.as_master("postgres") as master:
        master.run("CREATE ROLE witness")
    return place


@pytest.fixture
def world(postgres) -> Iterator[World]:
    """Return a server with the manager and two tables."""
    made = World(postgres, postgres.known)
    made.onboard()
    with postgres.as_rdsadmin() as admin:
        admin.run("CREATE TABLE orders (id int); CREATE TABLE items (id int)")
        admin.run("ALTER TABLE orders OWNER TO boss; ALTER TABLE items OWNER TO boss")
    made.declare(READER)
    yield made
    with postgres.as_rdsadmin() as admin:
        admin.run("DROP EVENT TRIGGER IF EXISTS ddl; DROP SCHEMA IF EXISTS log CASCADE")
        admin.run("DROP FUNCTION IF EXISTS public.log_ddl")
        admin.run("DROP TABLE IF EXISTS orders, items, entries")
        for [group] in admin.run("SELECT rolname FROM pg_roles WHERE rolname ~ '^shop_'"):
            admin.run(f"DROP OWNED BY {group} CASCADE")
    postgres.known |= set(made.inventory.record.accounts)


def converge(world: World) -> Onboarded:
    return world.onboard()


def reads(place: Place, table: str) -> bool:
    with place.as_rdsadmin() as admin:
        return bool(admin.run(f"SELECT has_table_privilege('shop_readonly', '{table}', 'SELECT')")[0][0])


def only(denied: tuple[Unreached, ...]) -> Unreached:
    assert len({part.reason for part in denied}) == 1, denied
    return denied[0]


def waiting(admin: Client) -> list[int]:
    """Return the backends of rdsiam's sessions that wait for a lock."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'rdsiam' AND wait_event_type = 'Lock'"
    return [row[0] for row in admin.run(query)]


def end_waiting(admin: Client) -> None:
    for pid in waiting(admin):
        admin.run(f"SELECT pg_terminate_backend({pid})")


@contextmanager
def meanwhile(place: Place, *steps: Callable[[Client], Any]) -> Iterator[None]:
    """Run the steps in a thread of their own as soon as a session of rdsiam waits for a lock."""

    def run() -> None:
        with place.as_rdsadmin() as admin:
            limit = time.monotonic() + 60
            while not waiting(admin) and time.monotonic() < limit:
                time.sleep(0.02)
            for step in steps:
                step(admin)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_table_that_a_migration_holds_is_named_and_the_rest_is_done(postgres, world, short_waits):
    with postgres.as_master() as migration:
        migration.run("BEGIN; ALTER TABLE orders ADD COLUMN note text")
        first = converge(world)
        migration.run("COMMIT")

    part = only(first.missing)
    assert (part.what, part.retry) == ("shop_readonly in shop", True)
    assert '"orders"' in part.reason
    assert "55P03 canceling statement due to lock timeout" in part.reason
    assert "end the session that holds the lock" in part.remedy
    assert first.refusal is None
    again = converge(world)
    assert again.missing == ()
    assert [change.kind for change in again.changes] == ["grant"]
    assert reads(postgres, "orders")
    assert reads(postgres, "items")
    assert converge(world).changes == ()


def test_other_databases_are_done_while_a_table_is_held_in_one(postgres, world, short_waits):
    with postgres.as_master("postgres") as master:
        master.run("CREATE DATABASE other")
    try:
        world.declare(READER | {"on": ["other", "shop"]})
        with postgres.as_master() as migration:
            migration.run("BEGIN; ALTER TABLE orders ADD COLUMN note text; ALTER TABLE items ADD COLUMN note text")
            first = converge(world)
            migration.run("ROLLBACK")
        assert {part.what for part in first.missing} == {"shop_readonly in shop"}
        assert {change.target for change in first.changes} >= {"other_readonly", "reader"}
        assert converge(world).missing == ()
        assert reads(postgres, "orders")
    finally:
        postgres.known |= set(world.inventory.record.accounts)
        with postgres.as_rdsadmin("postgres") as admin:
            admin.run("DROP DATABASE other WITH (FORCE)" if postgres.version > 13 else "DROP DATABASE other")


def test_a_change_of_the_same_table_that_ends_meanwhile_is_no_failure(postgres, world):
    """The server answers "tuple concurrently updated", or waits, depending on its version."""
    with postgres.as_master() as migration:
        migration.run("BEGIN; ALTER TABLE orders ADD COLUMN note text")
        with meanwhile(postgres, lambda _: migration.run("COMMIT")):
            result = converge(world)
    assert result.missing == ()
    assert reads(postgres, "orders")


def test_a_deadlock_ends_no_transaction_of_an_owner(postgres, world):
    with postgres.as_master() as migration:
        migration.run("BEGIN; ALTER TABLE orders ADD COLUMN note text")

        def second_half(_: Client) -> None:
            migration.run("ALTER TABLE items ADD COLUMN note text")
            migration.run("COMMIT")

        with meanwhile(postgres, second_half):
            converge(world)
    assert converge(world).missing == ()
    with postgres.as_master() as master:
        assert master.run("SELECT note FROM items") == [], "the migration is done"
    assert reads(postgres, "orders")
    assert reads(postgres, "items")


@pytest.mark.parametrize(
    ("another", "held", "declared", "kind"),
    [
        ("ann", "ALTER ROLE held PASSWORD 'New-Password-1'", {"connections": 5}, "limit-connections"),
        ("ben", "ALTER ROLE held VALID UNTIL 'infinity'", {"connections": 7}, "limit-connections"),
        ("cleo", "REVOKE shop_readonly FROM held GRANTED BY rdsiam_manager", {"privileges": "readwrite"}, "revoke"),
    ],
    ids=["its password", "its validity", "its membership"],
)
def test_a_user_whose_row_somebody_holds_is_named_and_the_other_users_are_made(
    postgres, world, another, held, declared, kind, short_waits
):
    if postgres.version < 16:
        held = held.removesuffix(" GRANTED BY rdsiam_manager")
    user = {"name": "held", "privileges": "readonly", "on": ["shop"]}
    world.declare(READER, user)
    converge(world)
    with postgres.as_rdsadmin() as holder:
        holder.run(f"BEGIN; {held}")
        world.declare(READER, user | declared, READER | {"name": another, "privileges": "readwrite"})
        first = converge(world)
        holder.run("ROLLBACK")
    [part] = first.missing
    assert (part.what, part.retry) == ("role held", True)
    assert "55P03" in part.reason
    assert "end the session that holds the lock" in part.remedy
    assert {("create-user", another), ("grant", another)} <= {(each.kind, each.target) for each in first.changes}
    again = converge(world)
    assert again.missing == ()
    assert [(change.kind, change.target) for change in again.changes] == [(kind, "held")]
    assert [proof.user for proof in world.users().prove()] == sorted([another, "held", "reader"])


def test_a_login_that_can_not_be_locked_is_named_stays_managed_and_keeps_no_other_user_waiting(postgres, world):
    """As long as a prepared transaction, or a session of RDS's own, holds the user's row."""
    leaver = READER | {"name": "leaver"}
    world.declare(READER, leaver)
    converge(world)
    with postgres.as_rdsadmin() as holder:
        holder.run("BEGIN; ALTER ROLE leaver VALID UNTIL 'infinity'")
        world.declare(READER, READER | {"name": "newcomer"})
        first = converge(world)
        holder.run("ROLLBACK")
    assert [(part.what, part.retry) for part in first.missing] == [("role leaver", True)]
    made = {(each.kind, each.target) for each in first.changes}
    assert ("create-user", "newcomer") in made
    assert ("disable-user", "leaver") not in made
    assert "leaver" in world.inventory.record.accounts
    again = converge(world)
    assert again.missing == ()
    assert ("disable-user", "leaver") in {(each.kind, each.target) for each in again.changes}
    assert postgres.accounts().get("leaver") is None


@pytest.mark.parametrize(
    ("made", "gone"),
    [
        ("CREATE TABLE passing (id int); ALTER TABLE passing OWNER TO boss", "DROP TABLE passing"),
        ("CREATE TABLE passing (id int); ALTER TABLE passing OWNER TO boss", "ALTER TABLE passing RENAME TO passed"),
        ("CREATE SCHEMA passing; ALTER SCHEMA passing OWNER TO boss", "DROP SCHEMA passing CASCADE"),
        (
            "CREATE FUNCTION passing() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION passing OWNER TO witness",
            "DROP FUNCTION passing()",
        ),
        (
            "CREATE ROLE passing; CREATE TABLE of_passing (id int); ALTER TABLE of_passing OWNER TO passing",
            "REASSIGN OWNED BY passing TO boss; DROP ROLE passing",
        ),
    ],
    ids=["dropped table", "renamed table", "dropped schema", "dropped function", "dropped owner"],
)
def test_what_is_dropped_after_it_was_read_is_no_failure_of_the_next_attempt(postgres, world, monkeypatch, made, gone):
    """Jobs that load data drop and rename tables all the time, and one statement is about a hundred of them."""
    world.declare(READER, {"name": "caller", "privileges": ["EXECUTE", "SELECT"], "on": ["shop"]})
    change = execution.change_database
    with postgres.as_rdsadmin() as admin:
        admin.run(made)

        def vanish(*arguments: Any) -> Any:
            nonlocal gone
            if gone and arguments[1] == "shop":
                admin.run(gone)
                gone = ""
            return change(*arguments)

        monkeypatch.setattr(database_privileges, "change_database", vanish)
        first = converge(world)
        assert first.refusal is None
        assert first.missing
        assert all(part.retry for part in first.missing), first.missing
        again = converge(world)
        assert again.missing == ()
        assert reads(postgres, "orders")
        assert converge(world).changes == ()
        for statement in ("TABLE IF EXISTS passed, of_passing", "OWNED BY caller"):
            admin.run(f"DROP {statement}")


def test_a_lost_connection_is_named_and_the_next_attempt_does_the_rest(postgres, world):
    with postgres.as_master() as migration:
        migration.run("BEGIN; ALTER TABLE orders ADD COLUMN note text")
        with meanwhile(postgres, end_waiting):
            lost = converge(world)
        migration.run("ROLLBACK")
    part = only(lost.missing)
    assert (part.what, part.retry) == ("database shop", True)
    assert re.search("57P01|connection has been closed", part.reason)
    assert {"reader", "shop_readonly"} <= set(world.inventory.record.accounts)
    again = converge(world)
    assert again.refusal is None
    assert again.missing == ()
    assert reads(postgres, "orders")


def test_a_connection_that_is_lost_while_users_are_made_leaves_what_was_recorded(postgres, world, monkeypatch):
    """The server may have created them before it was lost."""
    name = f"newcomer_{postgres.database.identifier}"
    world.declare(READER, {"name": name, "privileges": "readonly", "on": ["shop"]})
    commit = execution._commit

    def lose(session: Any, database: str, statements: Any) -> None:
        commit(session, database, statements)
        raise failures.failed(session, database, statements[-1], psycopg.OperationalError("the connection is lost"))

    with monkeypatch.context() as patch:
        patch.setattr(execution, "_commit", lose)
        with pytest.raises(StatementFailed, match="the connection is lost"):
            converge(world)
    assert name in world.inventory.record.accounts
    with monkeypatch.context() as patch:  # nor can the server be asked
        patch.setattr(Sessions, "another", lambda *_: 1 / 0)
        patch.setattr(execution, "_commit", lose)
        world.declare(READER, {"name": f"{name}_2", "privileges": "readonly", "on": ["shop"]})
        with pytest.raises(StatementFailed):
            converge(world)
    assert {name, f"{name}_2"} <= set(world.inventory.record.accounts)
    assert converge(world).refusal is None
    with postgres.as_rdsadmin() as admin:
        assert admin.run(f"SELECT rolcanlogin FROM pg_roles WHERE rolname LIKE '{name}%' ORDER BY rolname") == [
            (False,), (True,)
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "table", "written", "answer"),
    [
        pytest.param(
            "public", "public.entries", "entries", '"entries" does not exist', id="a table without its schema"
        ),
        pytest.param("public", "log.entries", "log.entries", "permission denied for schema log", id="a closed schema"),
        pytest.param("log", "log.entries", "entries", '"entries" does not exist', id="a schema of its own"),
    ],
)
def test_an_event_trigger_that_fails_is_named_and_its_remedy_works(postgres, world, schema, table, written, answer):
    before = with_event_trigger(postgres, schema, table, LOGGING.format(written))
    # The manager itself sets the default privileges of the group of owners.
    world.declare(READER, {"name": "maker", "privileges": "owner", "on": ["shop"]}, exclude_schemas=["log"])
    first = converge(world)

    part = only(first.missing)
    assert part.what == "privileges in shop"
    assert not part.retry
    assert part.reason.startswith("the event trigger ddl fails on rdsiam's statements: ")
    assert answer in part.reason
    assert f'{schema}.log_ddl() SECURITY DEFINER SET search_path = "{schema}", pg_temp' in part.remedy
    named = {change.target for change in first.changes} | {"shop_owner", "shop_readonly"}
    differing = [line for line in difflib.ndiff(before, dump(postgres)) if line.startswith(("+ ", "- "))]
    assert [line for line in differing if not any(name in line for name in named)] == []
    statement = part.remedy.partition("run: ")[2].partition(" (")[0]
    with postgres.as_rdsadmin() as admin:
        admin.run(statement)
    again = converge(world)
    assert again.missing == ()
    assert reads(postgres, "orders")
    with postgres.as_rdsadmin() as admin:
        assert ("ALTER DEFAULT PRIVILEGES",) in admin.run(f"SELECT DISTINCT what FROM {table}")


def test_an_event_trigger_that_forbids_changes_is_named_with_the_statements_that_stop_it(postgres, world):
    with_event_trigger(postgres, "public", "public.entries", "BEGIN RAISE EXCEPTION 'frozen until Monday'; END")
    part = only(converge(world).missing)
    assert "frozen until Monday" in part.reason
    assert not part.retry
    assert 'run before that: ALTER EVENT TRIGGER "ddl" DISABLE' in part.remedy
    with postgres.as_rdsadmin() as admin:
        admin.run('ALTER EVENT TRIGGER "ddl" DISABLE')
    assert converge(world).missing == ()


def with_event_trigger(place: Place, schema: str, table: str, body: str) -> list[str]:
    """Make an event trigger, whose function and table rdsadmin owns, and return the dump after that."""
    with place.as_rdsadmin() as admin:
        admin.run(f"CREATE SCHEMA log; CREATE TABLE {table} (at timestamptz DEFAULT now(), who name, what text)")
        admin.run(f"CREATE FUNCTION {schema}.log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ {body} $$")
        admin.run(f"CREATE EVENT TRIGGER ddl ON ddl_command_end EXECUTE FUNCTION {schema}.log_ddl()")
    return dump(place)


@pytest.fixture(scope="module", params=["mariadb", MYSQL])
def mysql(request, make_place) -> Place:
    place: Place = make_place(request.param)
    World(place).onboard()
    return place


@pytest.fixture
def mysql_world(mysql) -> Iterator[World]:
    made = World(mysql, mysql.known)
    made.declare(READER)
    made.onboard()
    yield made
    mysql.known |= set(made.inventory.record.accounts)


def test_privileges_that_a_backup_keeps_from_being_changed_are_named_and_changed_later(mysql, mysql_world, short_waits):
    mysql_world.declare(READER | {"on": ["shop", "later"]})
    with mysql.as_rdsadmin("mysql") as backup:
        backup.run("FLUSH TABLES WITH READ LOCK")
        first = converge(mysql_world)
        backup.run("UNLOCK TABLES")
    part = only(first.missing)
    assert (part.what, part.retry) == ("user reader", True)
    assert re.search("1205 Lock wait timeout exceeded|1969 Query .* interrupted", part.reason), part
    again = converge(mysql_world)
    assert again.missing == ()
    assert [change.kind for change in again.changes] == ["grant"]
    assert converge(mysql_world).changes == ()


def test_a_session_that_is_killed_fails_the_step_and_the_next_one_does_the_rest(mysql, mysql_world):
    mysql_world.declare({"name": f"newcomer_{mysql.database.engine}", "privileges": "readonly", "on": ["shop"]}, READER)

    def kill() -> None:
        with mysql.as_rdsadmin("mysql") as admin:
            limit = time.monotonic() + 60
            query = (
                "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'rdsiam_manager' AND INFO LIKE 'CREATE%'"
            )
            while not (found := admin.run(query)) and time.monotonic() < limit:
                time.sleep(0.02)
            for [number] in found:
                admin.run(f"KILL {number}")

    with mysql.as_rdsadmin("mysql") as backup:
        backup.run("FLUSH TABLES WITH READ LOCK")
        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(StatementFailed) as lost:
            converge(mysql_world)
        thread.join()
        backup.run("UNLOCK TABLES")
    assert lost.value.kind == "lost"
    again = converge(mysql_world)
    assert again.refusal is None
    assert again.missing == ()
    mysql.known |= set(mysql_world.inventory.record.accounts)
