"""docs/applications.md as it is printed, against real servers: its pools outlive the tokens that they began with."""

import ast
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import django
import mysql.connector
import psycopg
import pymysql
import pytest
import sqlalchemy
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from sqlalchemy.ext.asyncio import AsyncEngine

from rdsiam import pool
from tests.documented import PAGES, ROOT, Block, blocks_of
from tests.integration.vending.token_servers import HERE, USER, has_mysqlclient
from tests.kinds import MYSQL_EXHAUSTIVE

PAGE = ROOT / "docs" / "applications.md"
HOSTS = {"orders": ("postgres", 5432), "billing": ("mariadb", 3306)}
QUERIES = {
    "postgres": "SELECT current_user, pg_backend_pid()",
    "mysql": "SELECT substring_index(current_user(), '@', 1), connection_id()",
}


def blocks() -> dict[str, list[Block]]:
    """Return the page's blocks that are run, by the heading that they are below."""
    text = PAGE.read_text().splitlines()
    headings = {number: line[3:] for number, line in enumerate(text, 1) if line.startswith("## ")}
    found: dict[str, list[Block]] = {}
    for block in blocks_of(PAGE):
        if block.mark == "run":
            above = [heading for number, heading in headings.items() if number < block.line]
            found.setdefault(above[-1] if above else "", []).append(block)
    return found


def as_written(servers, wait, kind: str, heading: str, number: int, replaced: tuple[str, str] = ("", "")) -> Any:
    """Run the first block of the page and one below a heading; return what they define.

    Host, port and user become those of a server of the tests, and `replaced` one word of the block.
    """
    block = blocks()[heading][number].text
    assert replaced[0] in block
    namespace: dict[str, Any] = {}
    for text in (blocks()[""][0].text, block.replace(*replaced)):
        for host, (_, port) in HOSTS.items():
            text = text.replace(f"{host}.c9akciq32.eu-central-1.rds.amazonaws.com", HERE)
            text = text.replace(str(port), str(servers.port(kind)))
        text = text.replace("app_service", USER)
        code = compile(text, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, namespace)  # noqa: S307  the documentation's own text
        wait(result)
    return SimpleNamespace(**namespace)


class Application:
    """The definitions of a block, used in the way of its library.

    :ivar open: opens, or takes from the pool, a connection; may return an awaitable.
    :ivar query: runs a query and returns its row; may return an awaitable.
    """

    def __init__(self, defined: Any) -> None:
        self._defined = defined

    def start(self) -> Any:
        """Wait until all connections are open that the library opens by itself."""

    def lose(self) -> Any:
        """Lose a connection, if the library opens another only then."""

    def open(self) -> Any:
        return self._defined.connect()

    def query(self, connection: Any, text: str) -> Any:
        cursor = connection.cursor()
        cursor.execute(text)
        return cursor.fetchone()

    def close(self, connections: list[Any]) -> Any:
        for connection in connections:
            connection.close()


class PsycopgPool(Application):
    def start(self):
        return self._defined.pool.wait()

    def open(self):
        return self._defined.pool.getconn(timeout=20)

    def query(self, connection, text):
        return connection.execute(text).fetchone()

    def close(self, connections):
        for connection in connections:
            self._defined.pool.putconn(connection)
        self._defined.pool.close()


class AsyncPsycopgPool(PsycopgPool):
    async def query(self, connection, text):
        return await (await connection.execute(text)).fetchone()

    async def close(self, connections):
        for connection in connections:
            await self._defined.pool.putconn(connection)
        await self._defined.pool.close()


class Psycopg2Pool(Application):
    def open(self):
        return self._defined.pool.getconn()

    def close(self, _):
        self._defined.pool.closeall()


class AsyncpgPool(Application):
    def open(self):
        return self._defined.pool.acquire()

    async def query(self, connection, text):
        return tuple(await connection.fetchrow(text))

    async def close(self, connections):
        for connection in connections:
            await self._defined.pool.release(connection)
        await self._defined.pool.close()


class ConnectorPool(Application):
    """A pool that opens all of its connections at first: a later one is one that was lost."""

    def open(self):
        return self._defined.pool.get_connection()

    def lose(self):
        connection = self._defined.pool.get_connection()
        connection.disconnect()
        with contextlib.suppress(mysql.connector.Error):
            connection.close()


class AiomysqlPool(Application):
    def open(self):
        return self._defined.pool.acquire()

    async def query(self, connection, text):
        async with connection.cursor() as cursor:
            await cursor.execute(text)
            return await cursor.fetchone()

    async def close(self, _):
        self._defined.pool.terminate()
        await self._defined.pool.wait_closed()


class Engine(Application):
    def open(self):
        assert "X-Amz" not in str(self._defined.engine.url) + repr(self._defined.engine)
        return self._defined.engine.connect()

    def query(self, connection, text):
        return tuple(connection.execute(sqlalchemy.text(text)).one())

    def close(self, connections):
        super().close(connections)
        self._defined.engine.dispose()


class AsyncEngineOf(Application):
    def open(self):
        assert isinstance(self._defined.engine, AsyncEngine)
        return self._defined.engine.connect().start()

    async def query(self, connection, text):
        return tuple((await connection.execute(sqlalchemy.text(text))).one())

    async def close(self, connections):
        for connection in connections:
            await connection.close()
        await self._defined.engine.dispose()


class Django(Application):
    def open(self):
        return django_handler(self._defined.DATABASES).create_connection("default")


def django_handler(databases: dict[str, Any]) -> Any:
    """Return Django's handler of connections with these settings, without settings of its own."""
    if not django_settings.configured:
        django_settings.configure()
        django.setup()
    from django.db.utils import ConnectionHandler

    return ConnectionHandler(databases)


POSTGRES = [
    ("psycopg 3", 0, PsycopgPool, ("", "")),
    ("psycopg 3", 1, AsyncPsycopgPool, ("", "")),
    ("psycopg2", 0, Psycopg2Pool, ("", "")),
    ("asyncpg", 0, AsyncpgPool, ("", "")),
    ("SQLAlchemy", 0, Engine, ("", "")),
    ("SQLAlchemy", 0, Engine, ("+psycopg", "+psycopg2")),
    ("SQLAlchemy", 1, AsyncEngineOf, ("", "")),
    ("SQLAlchemy", 1, AsyncEngineOf, ("+asyncpg", "+psycopg")),
    ("Django", 0, Django, ("", "")),
]
MYSQL = [
    ("PyMySQL", 0, Application, ("", "")),
    ("mysqlclient", 0, Application, ("", "")),
    ("mysql-connector-python", 0, ConnectorPool, ("", "")),
    ("aiomysql", 0, AiomysqlPool, ("", "")),
    ("asyncmy", 0, AiomysqlPool, ("", "")),
    ("SQLAlchemy", 0, Engine, ("postgresql+psycopg", "mysql+pymysql")),
    ("SQLAlchemy", 0, Engine, ("postgresql+psycopg", "mysql+mysqldb")),
    ("SQLAlchemy", 0, Engine, ("postgresql+psycopg", "mysql+mysqlconnector")),
    ("SQLAlchemy", 1, AsyncEngineOf, ("postgresql+asyncpg", "mysql+aiomysql")),
    ("SQLAlchemy", 1, AsyncEngineOf, ("postgresql+asyncpg", "mysql+asyncmy")),
    ("Django", 1, Django, ("", "")),
]
NEED_MYSQLCLIENT = ("mysqlclient", "mysql+mysqldb", "Django-mysql")


def _case(kind: str, heading: str, number: int, application: type, replaced: tuple[str, str], *marks: Any) -> Any:
    family = "postgres" if kind == "postgres" else "mysql"
    words = [heading, replaced[1].removeprefix("+"), *(["async"] if "Async" in application.__name__ else []), kind]
    needed = {heading, replaced[1], f"{heading}-{family}"} & set(NEED_MYSQLCLIENT)
    name = "-".join(word.replace(" ", "") for word in words if word)
    return pytest.param(kind, heading, number, application, replaced, id=name,
                        marks=[*marks, *([has_mysqlclient] if needed else [])])  # fmt: skip


CASES = [
    *(_case("postgres", *case) for case in POSTGRES),
    *(_case("mariadb", *case) for case in MYSQL),
    *(_case("mysql", *case, *MYSQL_EXHAUSTIVE.marks) for case in MYSQL),
]


@pytest.mark.parametrize(("kind", "heading", "number", "application", "replaced"), CASES)
def test_a_line_of_the_documentation_keeps_logging_in(
    servers, clock, wait, kind, heading, number, application, replaced
):
    query = QUERIES["postgres" if kind == "postgres" else "mysql"]
    used = application(as_written(servers, wait, kind, heading, number, replaced))
    wait(used.start())
    opened = [wait(used.open())]
    user, session = wait(used.query(opened[0], query))
    assert user == USER
    clock.later(minutes=16)
    wait(used.lose())
    logins = servers.logins
    while servers.logins == logins:  # a pool may have opened some connections before
        opened.append(wait(used.open()))
        user, other_session = wait(used.query(opened[-1], query))
        assert user == USER
        assert other_session != session
    assert wait(used.query(opened[0], query)) == (USER, session), "an open connection outlives its token"
    wait(used.close(opened))


@pytest.mark.parametrize(("driver", "kind"), [("psycopg", "postgres"), ("pymysql", "mariadb")])
def test_a_kept_token_would_be_refused(servers, clock, driver, kind):
    """Show what the tests above would meet in a pool that kept its first token."""
    ways: dict[str, tuple[Callable[..., Any], dict[str, str]]] = {
        "psycopg": (psycopg.connect, {"dbname": "shop"}),
        "pymysql": (pymysql.connect, {}),
    }
    connect, options = ways[driver]
    kept = getattr(pool.Login("localhost", servers.port(kind), USER), driver)() | options
    connect(**kept).close()
    clock.later(minutes=16)
    with pytest.raises(Exception, match=r"PAM authentication failed|Access denied"):
        connect(**kept)


def test_every_block_of_python_is_run():
    run = {(heading, number) for heading, number, *_ in POSTGRES + MYSQL} | {("", 0)}
    assert run == {(heading, number) for heading, found in blocks().items() for number in range(len(found))}
    elsewhere = [b.name for page in PAGES if page != PAGE for b in blocks_of(page) if b.is_python and b.mark == "run"]
    assert elsewhere == []


# --- dbshell ---


@pytest.mark.parametrize(
    ("kind", "number", "more"),
    [
        ("postgres", 0, {}),
        ("postgres", 0, {"sslmode": "disable", "sslrootcert": "/no/such/file"}),
        ("mariadb", 1, {}),
        (
            "mariadb",
            1,
            {"ssl": {"ca": "/no/such/file"}, "ssl_mode": "DISABLED", "host": "elsewhere", "charset": "utf8mb4"},
        ),
        pytest.param("mysql", 1, {}, marks=MYSQL_EXHAUSTIVE.marks),
    ],
)
def test_dbshell_is_logged_in(servers, clock, wait, capfd, monkeypatch, tmp_path, kind, number, more):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".my.cnf").write_text("[client]\npassword=another\nuser=me\n")
    databases = as_written(servers, wait, kind, "Django", number).DATABASES
    databases["default"]["OPTIONS"] = more
    query = ["-XAtc", "SELECT current_user"] if kind == "postgres" else ["-Ne", "SELECT user()"]
    connection = django_handler(databases).create_connection("default")
    connection.client.runshell(query)
    assert capfd.readouterr().out.startswith(USER)
    command, environment = connection.client.settings_to_cmd_args_env(connection.settings_dict, [])
    assert not any("X-Amz" in word for word in command)
    assert sum("X-Amz" in value for value in environment.values()) == 1


PROJECT = """
import sys
import django
{first}
from django.conf import settings
settings.configure(DATABASES={databases})
django.setup()
from django.core.management import call_command
from django.db import connection
{script}
"""
BY_PYMYSQL = "import pymysql\npymysql.install_as_MySQLdb()"
WHO = """
cursor = connection.cursor()
cursor.execute('SELECT user()')
print(connection.Database.__name__, cursor.fetchone())
"""


@pytest.mark.parametrize(
    ("kind", "first", "script", "expected"),
    [
        ("postgres", "", "call_command('dbshell', '--', '-XAtc', 'SELECT current_user')", "app\n"),
        pytest.param(
            "mariadb", "", "call_command('dbshell', '--', '-Ne', 'SELECT user()')", "app@", marks=has_mysqlclient
        ),
        pytest.param("mariadb", "", WHO, "MySQLdb ('app@", marks=has_mysqlclient),
        ("mariadb", BY_PYMYSQL, WHO, "pymysql ('app@"),
        pytest.param(
            "mariadb", BY_PYMYSQL, "call_command('dbshell', '--', '-Ne', 'SELECT user()')", "app@",
            marks=pytest.mark.exhaustive,
        ),
    ],
)  # fmt: skip
def test_a_project_of_django_is_logged_in(servers, clock, wait, kind, first, script, expected):
    databases = as_written(servers, wait, kind, "Django", 0 if kind == "postgres" else 1).DATABASES
    program = PROJECT.format(first=first, databases=databases, script=script)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "layers" / "rdsiam")},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(expected)


def test_django_refuses_a_password(servers, clock, wait):
    databases = as_written(servers, wait, "postgres", "Django", 0).DATABASES
    databases["default"]["PASSWORD"] = "secret"
    with pytest.raises(ImproperlyConfigured):
        django_handler(databases).create_connection("default").get_connection_params()


def test_djangos_own_pool_gives_each_connection_a_token(servers, clock, wait):
    databases = as_written(servers, wait, "postgres", "Django", 0).DATABASES
    databases["default"] |= {"CONN_MAX_AGE": 0, "OPTIONS": {"pool": {"min_size": 1, "max_size": 3}}}
    handler = django_handler(databases)
    opened = [handler.create_connection("default")]
    opened[0].pool.open(wait=True)
    try:
        session = Django(None).query(opened[0], QUERIES["postgres"])
        clock.later(minutes=16)
        logins = servers.logins
        while servers.logins == logins:
            opened.append(handler.create_connection("default"))
            assert Django(None).query(opened[-1], QUERIES["postgres"])[0] == USER
        assert Django(None).query(opened[0], QUERIES["postgres"]) == session
        assert "X-Amz" not in repr(opened[0].pool)
    finally:
        for connection in opened:
            connection.close()
        opened[0].close_pool()


def test_an_older_pool_of_psycopg_is_refused(servers, clock, wait, monkeypatch):
    monkeypatch.setattr("rdsiam.django.postgresql.base.version", lambda _: "3.2.6")
    databases = as_written(servers, wait, "postgres", "Django", 0).DATABASES
    databases["default"] |= {"CONN_MAX_AGE": 0, "OPTIONS": {"pool": True}}
    connection = django_handler(databases).create_connection("default")
    with pytest.raises(ImproperlyConfigured, match=r"psycopg_pool 3\.3"):
        connection.ensure_connection()
    connection._connection_pools.clear()
