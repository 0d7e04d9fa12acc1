"""Python's drivers as an application uses them that knows host, port and user: no token, no password, no TLS.

`python -m tests.integration.proxy.python_clients CLIENT DSN` prints what a client saw, in the same words as the
programs in `programs/`. It is a process of its own, as psycopg2 lets no other thread run while it cancels a query.
"""

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import aiomysql
import asyncmy
import asyncpg
import mysql.connector
import psycopg
import psycopg2
import pymysql

type Outcome = dict[str, str]

ROWS, LENGTH = 20_000, 500
#: What all clients see, but for the codes of errors.
EXPECTED = {
    "user": "app",
    "prepared": "1,ä,null",
    "transaction": "0,2",
    "large": f"{ROWS},{ROWS * LENGTH}",
    "after": "app",
    "again": "app",
}
CODES = {
    "postgres": {"error": "42P01", "cancelled": "57014"},
    "mysql": {"error": "1146", "cancelled": "1317"},
}
#: Queries of the protocol's engines, with the driver's placeholders.
WHO = {"postgres": "SELECT session_user", "mysql": "SELECT substring_index(user(), '@', 1)"}
THREE = {
    "postgres": "SELECT {}::int, {}::text, {}::text",
    "mysql": "SELECT CAST({} AS SIGNED), CAST({} AS CHAR), CAST({} AS CHAR)",
}
SLEEP = {"postgres": "SELECT pg_sleep(60)", "mysql": "SELECT i FROM big WHERE SLEEP(60)"}
CHANGES = (
    ("BEGIN", "INSERT INTO t VALUES (1)", "ROLLBACK"),
    ("BEGIN", "INSERT INTO t VALUES (1), (2)", "COMMIT"),
)


def expected(kind: str) -> Outcome:
    """Return the outcome of every client of an engine."""
    return EXPECTED | CODES[kind]


def lines_of(output: str) -> Outcome:
    """Return the outcome that a program printed."""
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def _joined(values: Any) -> str:
    return ",".join("null" if value is None else str(value) for value in values)


def _code(error: Any) -> str:
    """Return SQLSTATE or number of a driver's error."""
    number = getattr(error, "errno", None) or error.args[0]  # of MySQL's drivers, whose errors may have both
    return str(number if isinstance(number, int) else getattr(error, "sqlstate", None) or error.pgcode)


# --- Drivers of DB-API ---


class Psycopg:
    """psycopg 3, which prepares a statement on the server from the fifth time on, or at once if asked."""

    kind, mark = "postgres", "%s"

    def connect(self, dsn: str) -> Any:
        return psycopg.connect(dsn, autocommit=True)

    def canceller(self, connection: Any, _: str) -> Callable[[], None]:
        """Return the function that another thread calls to end the connection's query."""
        cancel: Callable[[], None] = connection.cancel_safe
        return cancel

    def prepared(self, cursor: Any, query: str) -> None:
        cursor.execute(query, (1, "ä", None), prepare=True)


class Psycopg2(Psycopg):
    """psycopg 2: libpq, without statements that the server prepares."""

    def connect(self, dsn: str) -> Any:
        connection = psycopg2.connect(dsn)
        connection.autocommit = True
        return connection

    def canceller(self, connection: Any, _: str) -> Callable[[], None]:
        cancel: Callable[[], None] = connection.cancel
        return cancel

    def prepared(self, cursor: Any, query: str) -> None:
        cursor.execute("PREPARE three AS " + query % ("$1", "$2", "$3"))
        cursor.execute("EXECUTE three (%s, %s, %s)", (1, "ä", None))


class PyMysql:
    """PyMySQL; its queries are ended by another connection, as every client of MySQL does."""

    kind, mark = "mysql", "%s"

    def connect(self, dsn: str) -> Any:
        return pymysql.connect(**parameters(dsn), autocommit=True)

    def number(self, connection: Any) -> int:
        """Return the connection's number, as the server's greeting told it."""
        return int(connection.thread_id())

    def canceller(self, connection: Any, dsn: str) -> Callable[[], None]:
        number = self.number(connection)

        def cancel() -> None:
            other = self.connect(dsn)
            other.cursor().execute(f"KILL QUERY {number}")
            other.close()

        return cancel

    def prepared(self, cursor: Any, query: str) -> None:
        cursor.execute("SET @a = 1, @b = 'ä', @c = NULL")
        cursor.execute(f"PREPARE three FROM '{query.replace('%s', '?')}'")
        cursor.execute("EXECUTE three USING @a, @b, @c")


class Connector(PyMysql):
    """Oracle's driver, in Python alone."""

    def connect(self, dsn: str) -> Any:
        return mysql.connector.connect(**parameters(dsn), autocommit=True, use_pure=True)

    def number(self, connection: Any) -> int:
        return int(connection.connection_id)


class Mysqlclient(PyMysql):
    """mysqlclient, on MariaDB's C library."""

    def connect(self, dsn: str) -> Any:
        import MySQLdb

        return MySQLdb.connect(**parameters(dsn), autocommit=True)


def parameters(dsn: str) -> dict[str, Any]:
    """Return the keyword arguments that drivers of MySQL take in place of a URL."""
    place, _, database = dsn.removeprefix("mysql://").partition("/")
    user, _, address = place.rpartition("@")
    user, _, password = user.partition(":")
    host, _, port = address.partition(":")
    secret = {"password": password} if password else {}
    return {"host": host, "port": int(port), "user": user, "database": database, **secret}


SYNCHRONOUS: Mapping[str, Any] = {
    "psycopg": Psycopg(),
    "psycopg2": Psycopg2(),
    "pymysql": PyMysql(),
    "connector": Connector(),
    "mysqlclient": Mysqlclient(),
}


def use_synchronous(driver: Any, dsn: str) -> Outcome:
    """Use a driver of DB-API."""
    outcome: Outcome = {}
    kind = driver.kind
    connection = driver.connect(dsn)
    cursor = connection.cursor()

    def one(text: str) -> Any:
        cursor.execute(text)
        return cursor.fetchone()[0]

    outcome["user"] = one(WHO[kind])
    driver.prepared(cursor, THREE[kind].format(*[driver.mark] * 3))
    outcome["prepared"] = _joined(cursor.fetchone())
    cursor.execute("CREATE TEMPORARY TABLE t (i int)")
    counts = []
    for statements in CHANGES:
        for statement in statements:
            cursor.execute(statement)
        counts.append(one("SELECT count(*) FROM t"))
    outcome["transaction"] = _joined(counts)
    cursor.execute("SELECT i, t FROM big ORDER BY i")
    rows = cursor.fetchall()
    outcome["large"] = _joined((len(rows), sum(len(row[1]) for row in rows)))
    outcome["error"] = _failing(lambda: one("SELECT * FROM nowhere"))
    timer = threading.Timer(0.3, driver.canceller(connection, dsn))
    timer.start()
    outcome["cancelled"] = _failing(lambda: cursor.execute(SLEEP[kind]) or cursor.fetchall())
    timer.join()
    outcome["after"] = one(WHO[kind])
    connection.close()
    connection = driver.connect(dsn)
    cursor = connection.cursor()
    outcome["again"] = one(WHO[kind])
    connection.close()
    return outcome


def _failing(act: Callable[[], object]) -> str:
    try:
        act()
    except Exception as error:
        return _code(error)
    return "none"


# --- Asynchronous drivers ---


async def use_asyncpg(dsn: str) -> Outcome:
    """Use asyncpg, which prepares every statement, and cancels one that is given up."""
    connection = await asyncpg.connect(dsn)
    outcome = {"user": await connection.fetchval(WHO["postgres"])}
    three = await connection.prepare(THREE["postgres"].format("$1", "$2", "$3"))
    outcome["prepared"] = _joined(await three.fetchrow(1, "ä", None))
    await connection.execute("CREATE TEMPORARY TABLE t (i int)")
    counts = []
    for statements in CHANGES:
        for statement in statements:
            await connection.execute(statement)
        counts.append(await connection.fetchval("SELECT count(*) FROM t"))
    outcome["transaction"] = _joined(counts)
    rows = await connection.fetch("SELECT i, t FROM big ORDER BY i")
    outcome["large"] = _joined((len(rows), sum(len(row["t"]) for row in rows)))
    outcome["error"] = await _failing_later(connection.fetch("SELECT * FROM nowhere"))
    try:
        await asyncio.wait_for(connection.fetch(SLEEP["postgres"]), 0.3)
    except TimeoutError:
        outcome["cancelled"] = "57014"  # the client's own timeout: the next query shows that the server has ended it
    outcome["after"] = await asyncio.wait_for(connection.fetchval(WHO["postgres"]), 10)
    await connection.close()
    pool = await asyncpg.create_pool(dsn, min_size=3, max_size=3)
    outcome["again"] = await pool.fetchval(WHO["postgres"])
    await pool.close()
    return outcome


async def use_psycopg(dsn: str) -> Outcome:
    """Use psycopg 3 with asyncio, which cancels a query whose task is cancelled."""
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)

    async def one(text: str) -> Any:
        row = await (await connection.execute(text)).fetchone()
        assert row is not None
        return row[0]

    outcome = {"user": await one(WHO["postgres"])}
    cursor = await connection.execute(THREE["postgres"].format(*["%s"] * 3), (1, "ä", None), prepare=True)
    outcome["prepared"] = _joined(await cursor.fetchone())
    await connection.execute("CREATE TEMPORARY TABLE t (i int)")
    counts = []
    for statements in CHANGES:
        for statement in statements:
            await connection.execute(statement)
        counts.append(await one("SELECT count(*) FROM t"))
    outcome["transaction"] = _joined(counts)
    rows = await (await connection.execute("SELECT i, t FROM big ORDER BY i")).fetchall()
    outcome["large"] = _joined((len(rows), sum(len(row[1]) for row in rows)))
    outcome["error"] = await _failing_later(one("SELECT * FROM nowhere"))
    try:
        await asyncio.wait_for(one(SLEEP["postgres"]), 0.3)
    except TimeoutError:
        outcome["cancelled"] = "57014"
    outcome["after"] = await asyncio.wait_for(one(WHO["postgres"]), 10)
    await connection.close()
    connection = await psycopg.AsyncConnection.connect(dsn)
    outcome["again"] = await one(WHO["postgres"])
    await connection.close()
    return outcome


async def _of_mysql(driver: Any, options: dict[str, Any], dsn: str) -> Outcome:
    """Use a driver of MySQL for asyncio: both have the same interface."""
    given = {{"database": "db"}.get(name, name): value for name, value in parameters(dsn).items()} | options

    async def open_() -> Any:
        return await driver.connect(**given)

    async def cursor_of(connection: Any) -> Any:
        return await connection.cursor() if driver is aiomysql else connection.cursor()

    connection = await open_()
    cursor = await cursor_of(connection)

    async def one(text: str) -> Any:
        await cursor.execute(text)
        return (await cursor.fetchone())[0]

    outcome = {"user": await one(WHO["mysql"])}
    await cursor.execute(THREE["mysql"].format(*["%s"] * 3), (1, "ä", None))
    outcome["prepared"] = _joined(await cursor.fetchone())
    await cursor.execute("CREATE TEMPORARY TABLE t (i int)")
    counts = []
    for statements in CHANGES:
        for statement in statements:
            await cursor.execute(statement)
        counts.append(await one("SELECT count(*) FROM t"))
    outcome["transaction"] = _joined(counts)
    await cursor.execute("SELECT i, t FROM big ORDER BY i")
    rows = await cursor.fetchall()
    outcome["large"] = _joined((len(rows), sum(len(row[1]) for row in rows)))
    outcome["error"] = await _failing_later(one("SELECT * FROM nowhere"))
    running = asyncio.create_task(_failing_later(one(SLEEP["mysql"])))
    await asyncio.sleep(0.3)
    other = await open_()
    await (await cursor_of(other)).execute(f"KILL QUERY {connection.thread_id()}")
    await other.ensure_closed()
    outcome["cancelled"] = await running
    outcome["after"] = await one(WHO["mysql"])
    await connection.ensure_closed()
    connection = await open_()
    cursor = await cursor_of(connection)
    outcome["again"] = await one(WHO["mysql"])
    await connection.ensure_closed()
    return outcome


async def _failing_later(work: Coroutine[Any, Any, object]) -> str:
    try:
        await work
    except Exception as error:
        return _code(error)
    return "none"


ASYNCHRONOUS: Mapping[str, tuple[str, Callable[[str], Coroutine[Any, Any, Outcome]]]] = {
    "asyncpg": ("postgres", use_asyncpg),
    "psycopg-async": ("postgres", use_psycopg),
    "aiomysql": ("mysql", lambda dsn: _of_mysql(aiomysql, {"autocommit": True}, dsn)),
    "asyncmy": ("mysql", lambda dsn: _of_mysql(asyncmy, {"autocommit": True}, dsn)),
}
#: All drivers of Python by the engine that they speak to.
CLIENTS = {
    kind: [
        *(name for name, driver in SYNCHRONOUS.items() if driver.kind == kind),
        *(name for name, (engine, _) in ASYNCHRONOUS.items() if engine == kind),
    ]
    for kind in ("postgres", "mysql")
}


def use(client: str, dsn: str) -> Outcome:
    """Use a client by its name."""
    if client in SYNCHRONOUS:
        return use_synchronous(SYNCHRONOUS[client], dsn)
    return asyncio.run(ASYNCHRONOUS[client][1](dsn))


if __name__ == "__main__":
    for _name, _value in use(*sys.argv[1:]).items():
        print(f"{_name}={_value}")  # noqa: T201
