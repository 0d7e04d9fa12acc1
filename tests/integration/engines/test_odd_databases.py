"""Databases whose owners hold rdsiam up, or make it stumble, by what they may set themselves.

Encodings, functions of event triggers that are slow, long-winded or refuse logins, sessions that are all taken. Each
database is done or named; no other one and no user waits for it.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from rdsiam.core.changes import Unreached
from rdsiam.doctor.known_errors import explain
from rdsiam.engines.connection import Limits
from rdsiam.engines.logins import Token
from rdsiam.engines.messages import one_line
from rdsiam.engines.mysql import connection
from rdsiam.engines.mysql import engine as mysql_engine
from rdsiam.engines.postgres import execution
from rdsiam.errors import ConnectionFailed
from tests.integration.engines.world import Onboarded, World
from tests.integration.place import Place
from tests.kinds import MYSQL, OLDER_EXHAUSTIVE

READER = {"name": "reader", "privileges": "readonly", "on": ["*"]}
ENCODINGS = {
    "of no encoding": "ENCODING 'SQL_ASCII' LOCALE 'C'",
    "of latin": "ENCODING 'LATIN1' LOCALE 'C'",
    "of japan": "ENCODING 'EUC_JP' LOCALE 'C'",
    "set to none": "",
    "set to latin": "",
}


@pytest.fixture(scope="module", params=["postgres", OLDER_EXHAUSTIVE])
def place(request, make_place) -> Place:
    made: Place = make_place(request.param)
    with made.as_rdsadmin() as admin:
        admin.run("CREATE TABLE orders (id int); ALTER TABLE orders OWNER TO boss")
    return made


@pytest.fixture
def world(place) -> Iterator[World]:
    made = World(place, place.known)
    made.declare(READER)
    yield made
    place.known |= set(made.inventory.record.accounts)


@contextmanager
def database(place: Place, name: str, *statements: str, options: str = "") -> Iterator[None]:
    """Create a database of the master with a table, and drop it in the end."""
    with place.as_rdsadmin("postgres") as admin:
        admin.run(f'CREATE DATABASE "{name}" OWNER boss TEMPLATE template0 {options}')
    try:
        run_in(place, name, "CREATE TABLE orders (id int)", "ALTER TABLE orders OWNER TO boss", *statements)
        yield
    finally:
        with place.as_rdsadmin("postgres") as admin:
            admin.run(f'DROP DATABASE "{name}" WITH (FORCE)')


def run_in(place: Place, name: str, *statements: str) -> list[tuple[object, ...]]:
    """Run statements as RDS's superuser, in the encoding of this test, and return the rows of the last one."""
    password = (place.server._directory / "password").read_text()
    with psycopg.connect(
        host=place.server._sockets,  # type: ignore[arg-type]
        user="rdsadmin",
        password=password,
        dbname=name,
        client_encoding="utf-8",
        autocommit=True,
    ) as session:
        for statement in statements:
            cursor = session.execute(statement)
        return cursor.fetchall() if cursor.description else []


def reads(place: Place, name: str, table: str = "orders") -> bool:
    return bool(run_in(place, name, f"SELECT has_table_privilege('reader', '{table}', 'SELECT')")[0][0])


def parts(onboarded: Onboarded) -> dict[str, Unreached]:
    assert onboarded.refusal is None
    return {part.what: part for part in onboarded.missing}


def event_trigger(body: str, event: str = "ddl_command_end") -> tuple[str, str]:
    return (
        f"CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN {body}; END $$",
        f"CREATE EVENT TRIGGER odd ON {event} EXECUTE FUNCTION f()",
    )


def test_a_database_of_any_encoding_and_with_any_setting_of_it_is_done(place, world):
    table = {name: "café" if "latin" in name else "日本" for name in ENCODINGS}
    with ExitStack() as stack:
        for name, options in ENCODINGS.items():
            create = (f'CREATE TABLE "{table[name]}" (id int)', f'ALTER TABLE "{table[name]}" OWNER TO boss')
            stack.enter_context(database(place, name, *create, options=options))
        run_in(place, "set to none", "ALTER DATABASE \"set to none\" SET client_encoding TO 'SQL_ASCII'")
        run_in(place, "set to latin", "ALTER DATABASE \"set to latin\" SET client_encoding TO 'LATIN1'")
        assert parts(world.onboard()) == {}
        for name in ENCODINGS:
            assert reads(place, name)
            assert reads(place, name, f'"{table[name]}"')
        assert reads(place, "shop")
        assert world.onboard().changes == ()


def test_a_database_with_names_that_its_encoding_does_not_have_is_named_and_the_others_are_done(place, world):
    latin = b'CREATE TABLE "caf\xe9" (id int)'
    with (
        database(place, "Юра", options="ENCODING 'LATIN1' LOCALE 'C'"),
        database(place, "ascii", options="ENCODING 'SQL_ASCII' LOCALE 'C'"),
    ):
        password = (place.server._directory / "password").read_text()
        with psycopg.connect(
            host=place.server._sockets, user="rdsadmin", password=password, dbname="ascii", autocommit=True
        ) as session:
            session.execute(latin)
            session.execute(latin.replace(b"CREATE", b"ALTER").replace(b"(id int)", b"OWNER TO boss"))
            session.execute(b'CREATE ROLE "Ren\xe9"; ALTER ROLE "Ren\xe9" SET odd.name TO \'\xe9\'')
            session.execute(b"ALTER DATABASE ascii SET odd.name TO 'default\xe9'")
            session.execute(b"ALTER DATABASE ascii SET default_transaction_read_only TO on")
        named = parts(world.onboard())
        assert set(named) == {"database Юра", "database ascii"}
        assert "encoding" in named["database Юра"].reason
        assert "invalid byte sequence" in named["database ascii"].reason
        assert "rename" in named["database ascii"].remedy
        assert not any(part.retry for part in named.values())
        with psycopg.connect(
            host=place.server._sockets, user="rdsadmin", password=password, dbname="ascii", autocommit=True
        ) as session:
            session.execute("SET default_transaction_read_only TO off")
            session.execute(b'DROP ROLE "Ren\xe9"')
    assert reads(place, "shop")


def test_a_database_whose_statements_are_slow_delays_no_other(place, world, monkeypatch):
    monkeypatch.setattr(execution, "_BRIEF_RUN", "SET LOCAL statement_timeout = '300ms'")
    monkeypatch.setattr(execution, "_SECONDS_OF_DATABASE", 1.0)
    with database(place, "a slow one", *event_trigger("PERFORM pg_catalog.pg_sleep(2)")):
        start = time.monotonic()
        first = world.onboard()
        assert time.monotonic() - start < 8
        assert {part.what.rpartition(" in ")[2] for part in first.missing} == {"a slow one"}
        assert all(part.retry for part in first.missing)
        assert any("57014" in part.reason for part in first.missing)
        assert any("not tried" in part.reason for part in first.missing)
        assert reads(place, "shop")
        run_in(place, "a slow one", "DROP EVENT TRIGGER odd")
        assert parts(world.onboard()) == {}
        assert reads(place, "a slow one")


def test_a_transaction_that_takes_too_long_is_continued_statement_by_statement(place, world, monkeypatch):
    monkeypatch.setattr(execution, "_SECONDS_OF_DATABASE", 2.0)
    with database(place, "a slow one", *event_trigger("PERFORM pg_catalog.pg_sleep(0.4)")):
        first = world.onboard()
        assert first.missing
        assert all(part.retry for part in first.missing)
        assert any(change.target == "a slow one_readonly" for change in first.changes), "some were made"
        for _ in range(4):
            again = world.onboard()
            if not again.missing:
                break
        assert again.missing == ()
        assert reads(place, "a slow one")


@pytest.mark.parametrize(
    "message", ["repeat('x', 300000)", "E'\\x1b[2Jno\\n\\t' || repeat(E'\\r', 9000)", "'%s {} ' || repeat('é', 5000)"]
)
def test_an_error_of_an_owners_function_is_shortened_to_one_printable_line(place, world, message):
    with database(place, "a loud one", *event_trigger(f"RAISE EXCEPTION USING MESSAGE = {message}")):
        [part] = world.onboard().missing
    assert part.what == "privileges in a loud one"
    assert len(part.reason) < 1_500
    assert part.reason.isprintable()
    assert "PL/pgSQL function" in part.reason, "the end, which says where it failed, stays"
    assert reads(place, "shop")


def test_a_long_answer_keeps_its_beginning_and_its_end():
    line = one_line("begin " + "x" * 5_000 + "\n\x1b[31m end")
    assert line.startswith("begin ")
    assert line.endswith("[31m end")
    assert len(line) <= 1_000
    assert one_line(" two\n lines\t") == "two lines"


def test_a_warning_of_an_owners_function_does_not_count_as_the_servers(place, world):
    with database(place, "a warning one", *event_trigger("RAISE WARNING 'careful' USING ERRCODE = '01007'")):
        assert parts(world.onboard()) == {}
        assert reads(place, "a warning one")


#: Event triggers for logins exist from PostgreSQL 17 on.
on_18 = pytest.mark.parametrize("place", ["postgres"], indirect=True)


@on_18
@pytest.mark.parametrize("body", ["RAISE EXCEPTION 'not you'", "INSERT INTO logins VALUES (1)"])
def test_a_database_that_refuses_logins_by_an_event_trigger_is_named_and_its_users_are_proved(place, world, body):
    world.declare(READER, {"name": "named", "privileges": "readonly", "on": ["refusing"]})
    with database(place, "refusing", *event_trigger(body, "login")):
        named = parts(world.onboard())
        assert set(named) == {"database refusing"}
        assert "event trigger for logins" in named["database refusing"].reason
        assert '"rdsiam_manager"' in named["database refusing"].remedy
        assert not named["database refusing"].retry
        assert [proof.user for proof in world.users().prove()] == ["named", "reader"]
    assert reads(place, "shop")
    world.declare(READER)


@on_18
def test_a_database_that_holds_logins_up_delays_no_other(place, world, monkeypatch):
    world.onboard()
    world.declare(READER, {"name": "named", "privileges": "readonly", "on": ["holding"]})
    engine_connect = type(place.engine).connect
    brief = Limits(connect=2)
    monkeypatch.setattr(
        type(place.engine),
        "connect",
        lambda self, database, login, name, limits=brief: engine_connect(self, database, login, name, limits),
    )
    with database(place, "holding", *event_trigger("PERFORM pg_catalog.pg_sleep(20)", "login")):
        named = parts(world.onboard())
        assert set(named) == {"database holding"}
        assert named["database holding"].retry
        assert [proof.user for proof in world.users().prove()] == ["named", "reader"]
    assert reads(place, "shop")
    world.declare(READER)


def test_a_user_whose_sessions_are_all_taken_has_proved_its_login(place, world):
    world.declare(READER | {"connections": 1})
    assert parts(world.onboard()) == {}
    with place.as_user("reader"):
        place.engine.prove_login(place.database, Token("reader", "token-of-reader"), "shop")
        with pytest.raises(ConnectionFailed):
            place.engine.prove_login(place.database, Token("reader", "a wrong token"), "shop")
    world.declare(READER)


@pytest.fixture(scope="module", params=["mariadb", MYSQL])
def mysql(request, make_place) -> Place:
    made: Place = make_place(request.param)
    return made


def test_on_mysql_a_user_whose_sessions_are_all_taken_has_proved_its_login(mysql):
    world = World(mysql, mysql.known)
    world.declare(READER | {"on": ["shop"], "connections": 1})
    assert parts(world.onboard()) == {}
    mysql.known |= set(world.inventory.record.accounts)
    with mysql.as_user("reader"):
        mysql.engine.prove_login(mysql.database, Token("reader", "token-of-reader"), None)
        with pytest.raises(ConnectionFailed):
            mysql.engine.prove_login(mysql.database, Token("reader", "a wrong token"), None)


def test_on_mysql_a_lock_of_a_backup_takes_no_more_time_than_an_invocation_has(mysql, monkeypatch):
    monkeypatch.setattr(mysql_engine, "_SECONDS", 1.5)
    monkeypatch.setattr(mysql_engine, "_LONGEST_STATEMENT", 1)
    settings = connection._MYSQL_SETTINGS.replace("lock_wait_timeout = 10", "lock_wait_timeout = 1")
    monkeypatch.setattr(connection, "_MYSQL_SETTINGS", settings)
    world = World(mysql, mysql.known)
    world.declare(READER)
    world.onboard()
    mysql.known |= set(world.inventory.record.accounts)
    with mysql.as_rdsadmin("mysql") as admin:
        for number in range(6):
            admin.run(f"CREATE SCHEMA tenant_{number}")
    with mysql.as_rdsadmin("mysql") as backup:
        backup.run("FLUSH TABLES WITH READ LOCK")
        start = time.monotonic()
        held = world.onboard()
        assert time.monotonic() - start < 6
        backup.run("UNLOCK TABLES")
    assert {part.what for part in held.missing} == {"user reader"}
    assert all(part.retry for part in held.missing)
    assert {"not tried" in part.reason for part in held.missing} == {True, False}
    done = world.onboard()
    assert done.missing == ()
    assert len(done.changes) == 6


def test_on_mysql_a_statement_that_ends_each_new_session_is_named_with_what_helps(mysql):
    world = World(mysql, mysql.known)
    world.declare(READER)
    world.onboard()
    mysql.known |= set(world.inventory.record.accounts)
    with mysql.as_rdsadmin() as admin:
        admin.run("SET GLOBAL init_connect = 'INSERT INTO no_such.log VALUES (1)'")
        [part] = mysql.remove("reader").unreached
        admin.run("SET GLOBAL init_connect = ''")
    assert part.retry
    assert "init_connect command failed" in part.reason
    assert "init_connect" in part.remedy
    assert explain(part.reason)[0].cause.startswith("the parameter init_connect")
    assert mysql.remove("reader").unreached == ()


def test_on_mysql_a_server_that_takes_no_changes_is_named_with_the_parameter(mysql):
    world = World(mysql, mysql.known)
    world.declare(READER)
    world.onboard()
    mysql.known |= set(world.inventory.record.accounts)
    with mysql.as_rdsadmin() as admin:
        admin.run("SET GLOBAL read_only = 1")
        [part] = mysql.remove("reader").unreached
        admin.run("SET GLOBAL read_only = 0")
    assert part.retry
    assert "1290" in part.reason
    assert "set read_only to 0" in part.remedy
    assert mysql.remove("reader").unreached == ()
