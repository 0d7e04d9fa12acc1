"""docs/applications.md as it is printed, against real servers: its pools outlive the tokens that they began with."""

import ast
import asyncio
import contextlib
import inspect
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import aiomysql
import asyncmy
import asyncpg
import django
import mysql.connector
import psycopg
import psycopg2
import pymysql
import pytest
import sqlalchemy
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from sqlalchemy.ext.asyncio import AsyncEngine

from localcloud.core.certificates import Authority
from rdsiam import pool
from rdsiam.tokens import trust
from tests.documented import PAGES, ROOT, Block, blocks_of
from tests.integration.relay import Relay
from tests.integration.vending import token_servers
from tests.integration.vending.token_servers import KEYS, REGION, USER
from tests.kinds import MYSQL_EXHAUSTIVE

PAGE = ROOT / "docs" / "applications.md"
HOSTS = {"orders": ("postgres", 5432), "billing": ("mariadb", 3306)}
#: In small letters it means a socket to MySQL's library.
HERE = "LOCALHOST"
QUERIES = {
    "postgres": "SELECT current_user, pg_backend_pid()",
    "mysql": "SELECT substring_index(current_user(), '@', 1), connection_id()",
}
has_mysqlclient = pytest.mark.skipif(
    not pytest.importorskip("importlib.util").find_spec("MySQLdb"), reason="mysqlclient could not be built here"
)


@pytest.fixture(scope="module")
def servers() -> Iterator[token_servers.TokenServers]:
    with token_servers.running() as servers:
        yield servers


@pytest.fixture
def clock(monkeypatch, servers):
    """Provide one clock for the signer and the servers, and the environment of an application."""
    servers.clock.moved = timedelta()
    monkeypatch.setattr("rdsiam.signer.time", servers.clock.as_time())
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_key)
    monkeypatch.setenv("AWS_REGION", REGION)
    yield servers.clock
    servers.clock.moved = timedelta()


@pytest.fixture
def wait() -> Iterator[Callable[[Any], Any]]:
    """Provide a function that returns a value, or awaits it."""
    with asyncio.Runner() as runner:

        async def result(value: Any) -> Any:
            return await value

        yield lambda value: runner.run(result(value)) if inspect.isawaitable(value) else value


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
        self.opened: list[Any] = []
        self._defined = defined

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
        connection = self._defined.pool.get_connection()
        if self.opened:
            connection.disconnect()
            with contextlib.suppress(self._lost()):
                connection.close()
            connection = self._defined.pool.get_connection()
        self.opened.append(connection)
        return connection

    @staticmethod
    def _lost() -> type[Exception]:
        from mysql.connector.errors import Error

        return Error


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
    first = wait(used.open())
    user, session = wait(used.query(first, query))
    assert user == USER
    clock.later(minutes=16)
    second = wait(used.open())
    user, other_session = wait(used.query(second, query))
    assert user == USER
    assert other_session != session, "the second connection was opened after the first token's life"
    assert wait(used.query(first, query)) == (USER, session), "an open connection outlives its token"
    wait(used.close([first, second]))


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


def test_django_refuses_its_own_pool_and_a_password(servers, clock, wait):
    for changed in ({"OPTIONS": {"pool": True}}, {"PASSWORD": "secret"}):
        databases = as_written(servers, wait, "postgres", "Django", 0).DATABASES
        databases["default"] |= changed
        with pytest.raises(ImproperlyConfigured):
            django_handler(databases).create_connection("default").get_connection_params()


# --- a server that must get no token ---


def _mysqlclient(login: pool.Login) -> Any:
    import MySQLdb

    return MySQLdb.connect(connect_timeout=5, **login.mysqlclient())


CONNECT: dict[str, Callable[[pool.Login], Any]] = {
    "psycopg": lambda login: psycopg.connect(dbname="shop", connect_timeout=5, **login.psycopg()),
    "psycopg2": lambda login: psycopg2.connect(dbname="shop", connect_timeout=5, **login.psycopg2()),
    "asyncpg": lambda login: asyncpg.connect(database="shop", timeout=5, **login.asyncpg()),
    "pymysql": lambda login: pymysql.connect(connect_timeout=5, **login.pymysql()),
    "mysqlclient": _mysqlclient,
    "mysql-connector": lambda login: mysql.connector.connect(connection_timeout=5, **login.mysql_connector()),
    "mysql-connector-pure": lambda login: mysql.connector.connect(
        connection_timeout=5, use_pure=True, **login.mysql_connector()
    ),
    "aiomysql": lambda login: aiomysql.connect(connect_timeout=5, **login.aiomysql()),
    "asyncmy": lambda login: asyncmy.connect(connect_timeout=5, **login.asyncmy()),
}
DRIVERS = [
    pytest.param(driver, marks=has_mysqlclient) if driver == "mysqlclient" else driver for driver in sorted(CONNECT)
]
OF_POSTGRES = {"psycopg", "psycopg2", "asyncpg"}


class Listener:
    """A server that answers with fixed bytes, one part for each that it receives, and keeps what it received."""

    def __init__(self, greeting: bytes, *answers: bytes) -> None:
        self.received = b""
        self._parts = (greeting, *answers)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._socket.getsockname()[1]

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            connection.sendall(self._parts[0])
            for answer in (*self._parts[1:], b""):
                self.received += (got := connection.recv(65536))
                connection.sendall(answer if got else b"")

    def end(self) -> bytes:
        """Return what was received until the client closed the connection."""
        self._thread.join(timeout=15)
        self._socket.close()
        return self.received


def without_tls(driver: str, plugin: bytes) -> Listener:
    """Return a server that offers no TLS and asks for the password in clear text."""
    if driver in OF_POSTGRES:
        return Listener(b"", b"N", b"R\x00\x00\x00\x08\x00\x00\x00\x03")
    capabilities = 0x0008_F7DF  # all of protocol 4.1 with plugins, without SSL (0x800)
    greeting = b"\x0a8.4.0\x00" + struct.pack("<I", 7) + b"12345678\x00" + struct.pack("<H", capabilities & 0xFFFF)
    greeting += b"\x2d\x02\x00" + struct.pack("<H", capabilities >> 16) + b"\x15" + bytes(10) + b"123456789012\x00"
    greeting += plugin + b"\x00"
    switch = b"\xfemysql_clear_password\x00"
    framed = [
        struct.pack("<I", len(text))[:3] + bytes([number]) + text for number, text in ((0, greeting), (2, switch))
    ]
    return Listener(*framed)


def reasons(error: BaseException) -> str:
    """Return an error's text and its cause's, which is where aiomysql has the reason."""
    return f"{error} {error.__cause__}"


@pytest.mark.parametrize("plugin", [b"mysql_clear_password", b"mysql_native_password", b"sha256_password"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_without_tls_gets_no_token(servers, clock, wait, driver, plugin):
    if driver in OF_POSTGRES and plugin != b"mysql_clear_password":
        return
    server = without_tls(driver, plugin)
    with pytest.raises(Exception, match=r"(?i)ssl|tls|secure|rejected"):
        wait(CONNECT[driver](pool.Login(HERE, server.port, USER)))
    assert b"X-Amz" not in server.end()


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_certificate_of_another_authority_gets_no_token(servers, clock, wait, monkeypatch, tmp_path, driver):
    monkeypatch.setenv("RDSIAM_CA", str(Authority(tmp_path).path))
    trust.ca_file.cache_clear()
    kind = "postgres" if driver in OF_POSTGRES else "mariadb"
    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011  each driver has its own
            wait(CONNECT[driver](pool.Login(HERE, servers.port(kind), USER)))
    finally:
        monkeypatch.undo()
        trust.ca_file.cache_clear()
    assert "certificate" in reasons(caught.value).lower()


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_certificate_of_another_name_gets_no_token(servers, clock, wait, driver):
    relay = Relay("localhost", servers.port("postgres" if driver in OF_POSTGRES else "mariadb"), at="127.0.0.9")
    with pytest.raises(Exception) as caught:  # noqa: PT011  each driver has its own
        wait(CONNECT[driver](pool.Login("127.0.0.9", relay.port, USER)))
    assert re.search("certificate|validation|mismatch", reasons(caught.value), re.IGNORECASE)
