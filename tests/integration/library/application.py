"""An application with one pool for each driver, run by a Python that the tests themselves may not run on.

Its arguments are the port of a server and the names of SQLAlchemy's drivers, or of a backend of Django. It opens a
connection of each, waits for a line from the test, which has moved the server's clock by then, and opens another one.
"""

import asyncio
import faulthandler
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

from rdsiam import signer
from rdsiam.pool import Login, sqlalchemy_engine, use_tokens

HOST, USER, DATABASE = "LOCALHOST", "app", "shop"
ASYNCHRONOUS = ("asyncpg", "aiomysql", "asyncmy")


def synchronous(login: Login, driver: str) -> Iterator[None]:
    """Open a connection of an engine, and another one."""
    from sqlalchemy import text

    engine = sqlalchemy_engine(login, driver, DATABASE, pool_size=2)
    first = engine.connect()
    first.execute(text("SELECT 1"))
    yield
    with engine.connect() as second:
        second.execute(text("SELECT 1"))
    first.execute(text("SELECT 1"))
    first.close()
    engine.dispose()


def asynchronous(login: Login, driver: str) -> Iterator[None]:
    """Open a connection of an engine whose driver is asynchronous, and another one."""
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(f"{driver}:///{DATABASE}", pool_size=2)
    use_tokens(engine, login)
    with asyncio.Runner() as runner:
        first = runner.run(_connect(engine))
        yield
        second = runner.run(_connect(engine))
        runner.run(first.execute(text("SELECT 1")))
        for connection in (first, second):
            runner.run(connection.close())
        runner.run(engine.dispose())


async def _connect(engine):
    from sqlalchemy import text

    connection = await engine.connect()
    await connection.execute(text("SELECT 1"))
    return connection


def with_django(login: Login, engine: str) -> Iterator[None]:
    """Open a connection of Django's, and another one."""
    import django
    from django.conf import settings

    default = {"ENGINE": engine, "NAME": DATABASE, "HOST": login.host, "PORT": login.port, "USER": login.user}
    settings.configure(DATABASES={"default": default})
    django.setup()
    from django.db import connection

    for _ in range(2):
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        connection.close()
        yield


def main(port: str, *drivers: str) -> None:
    """Run the application, and name the drivers of each connection that was opened."""
    login = Login(HOST, int(port), USER, "eu-west-1")
    faulthandler.dump_traceback_later(60, exit=True)
    running = {}
    for driver in drivers:
        way = asynchronous if driver.endswith(ASYNCHRONOUS) else synchronous
        running[driver] = (with_django if driver.startswith("rdsiam.django") else way)(login, driver)
        next(running[driver])
    _say("opened", *drivers)
    minutes = int(sys.stdin.readline())
    vars(signer)["time"] = SimpleNamespace(time=lambda: time.time() + 60 * minutes, gmtime=time.gmtime)
    for driver, steps in running.items():
        next(steps, None)
        _say("opened again", driver)


def _say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
