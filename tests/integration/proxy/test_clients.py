"""Clients that know nothing of tokens log in through `rdsiam proxy`, with the lines that it prints."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mysql.connector
import pytest

from tests import node_packages
from tests.integration.proxy.python_clients import CLIENTS, LENGTH, ROWS, expected, lines_of, parameters
from tests.integration.vending.token_servers import has_mysqlclient
from tests.kinds import MYSQL_EXHAUSTIVE, needs_mysql
from tests.mysql_client import write_mysql_client

PROGRAMS = Path(__file__).with_name("programs")
ROOT = Path(__file__).parents[3]
JARS = {"postgres": "postgresql.jar", "mysql": "mariadb-java-client.jar"}
KINDS = ["postgres", "mariadb", MYSQL_EXHAUSTIVE]
WHO = "SELECT substring_index(user(), '@', 1)"
NO_JAVA = (
    "the Java compiler or the drivers of Debian's libpostgresql-jdbc-java and libmariadb-java are missing; "
    "scripts/setup --with-java installs them"
)


def family(kind: str) -> str:
    """Return the protocol of a kind of server."""
    return "postgres" if kind == "postgres" else "mysql"


def run(*command: str, limit: float = 90, **environment: str) -> str:
    """Run a client without any settings of a user, and return what it printed."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def interrupted(command: str, limit: float = 30) -> str:
    """Run a client, press Ctrl-C after a while, and return what it printed, errors too."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    with subprocess.Popen(
        ["/bin/sh", "-c", f"exec {command}"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as client:
        time.sleep(1)
        client.send_signal(signal.SIGINT)
        try:
            output, _ = client.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            client.kill()
            raise
    return output


def _case(kind: str, client: str) -> Any:
    marks = [
        *([has_mysqlclient] if client == "mysqlclient" else []),
        *(MYSQL_EXHAUSTIVE.marks if kind == "mysql" else []),
    ]
    if client not in {"psycopg", "asyncpg", "pymysql", "connector"}:
        marks.append(pytest.mark.exhaustive)
    return pytest.param(kind, client, marks=marks)


CASES = [_case(kind, client) for kind in ("postgres", "mariadb", "mysql") for client in CLIENTS[family(kind)]]


@pytest.mark.parametrize(("kind", "client"), CASES)
def test_a_driver_of_python_works(printed, kind, client):
    module = "tests.integration.proxy.python_clients"
    output = run(sys.executable, "-m", module, client, printed(kind).url)
    assert lines_of(output) == expected(family(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_drivers_of_node_work(printed, kind):
    program = {"postgres": "pg_client.mjs", "mysql": "mysql2_client.mjs"}[family(kind)]
    done = node_packages.run(PROGRAMS / program, printed(kind).url)
    assert done.returncode == 0, done.stderr
    assert lines_of(done.stdout) == expected(family(kind)) | {"pool": "app,app,app"}


@pytest.mark.exhaustive  # `make test-all` installs Java
@pytest.mark.parametrize("kind", KINDS)
def test_jdbc_works(printed, kind):
    jar = Path("/usr/share/java", JARS[family(kind)])
    if shutil.which("javac") is None or not jar.exists():
        pytest.skip(NO_JAVA)
    program = str(PROGRAMS / "JdbcClient.java")
    output = run("java", "-XX:TieredStopAtLevel=1", "-cp", str(jar), program, printed(kind).jdbc)
    assert lines_of(output) == expected(family(kind)) | {"valid": "true"}


# --- psql and pgbench ---


def test_psql_works_by_the_printed_line(printed):
    script = "SELECT session_user; BEGIN; CREATE TABLE t (i int); ROLLBACK; SELECT count(*), sum(length(t)) FROM big"
    output = run("/bin/sh", "-c", f'{printed("postgres").command} -XAtq -c "{script}"')
    assert output.split() == ["app", f"{ROWS}|{ROWS * LENGTH}"]


def test_psql_works_by_environment_and_by_keywords(printed):
    lines = printed("postgres")
    place = {"PGHOST": lines.host, "PGPORT": str(lines.port)}
    query = ["psql", "-XAtc", "SELECT session_user, current_database()"]
    assert run(*query, **place, PGUSER="app", PGDATABASE="shop") == "app|shop\n"
    keywords = f"host={lines.host} port={lines.port} user=app dbname=shop connect_timeout=5 application_name=tool"
    assert run(*query, keywords) == "app|shop\n"


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_psql_works_in_modes_without_required_tls(printed, mode):
    assert run("psql", f"{printed('postgres').url}?sslmode={mode}", "-XAtc", "SELECT 1") == "1\n"


def test_an_error_names_the_place_in_the_query(printed):
    script = f'! {printed("postgres").command} -Xc "SELECT nothing FROM big" 2>&1'
    assert run("/bin/sh", "-c", script).splitlines()[0] == 'ERROR:  column "nothing" does not exist'


def test_interrupting_psql_cancels_its_query(printed):
    began = time.monotonic()
    output = interrupted(f'{printed("postgres").command} -X -c "SELECT pg_sleep(60)"')
    assert "canceling statement due to user request" in output
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("protocol", [pytest.param("simple", marks=pytest.mark.exhaustive), "extended", "prepared"])
def test_pgbench_runs(printed, protocol):
    url = printed("postgres").url
    run("pgbench", "-i", "-q", "-s", "1", url)
    output = run("pgbench", "-c", "4", "-j", "2", "-t", "25", "-M", protocol, "-n", url)
    assert "number of transactions actually processed: 100/100" in output
    assert "number of failed transactions: 0" in output


def test_pgbench_connects_for_each_transaction(printed):
    url = printed("postgres").url
    run("pgbench", "-i", "-q", "-s", "1", url)
    output = run("pgbench", "-S", "-C", "-c", "2", "-t", "10", "-n", url)
    assert "number of transactions actually processed: 20/20" in output


def test_copy_goes_both_ways(printed, tmp_path):
    url, file = printed("postgres").url, tmp_path / "rows"
    run("psql", url, "-Xqc", f"\\copy big TO '{file}'")
    assert file.stat().st_size > ROWS * LENGTH
    script = f"CREATE TEMPORARY TABLE copied (LIKE big);\n\\copy copied FROM '{file}'\nSELECT count(*) FROM copied;\n"
    (tmp_path / "script.sql").write_text(script)
    assert run("psql", url, "-v", "ON_ERROR_STOP=1", "-XAtqf", str(tmp_path / "script.sql")).split()[-1] == str(ROWS)


# --- The clients of MariaDB and MySQL ---


@pytest.mark.parametrize("kind", ["mariadb", MYSQL_EXHAUSTIVE])
def test_mariadbs_client_works_by_the_printed_line(printed, kind):
    output = run("/bin/sh", "-c", f'{printed(kind).command} -N -e "{WHO}; SELECT count(*), sum(length(t)) FROM big"')
    assert output.split() == ["app", str(ROWS), str(ROWS * LENGTH)]


@pytest.mark.parametrize("kind", ["mariadb", MYSQL_EXHAUSTIVE])
def test_interrupting_mariadbs_client_ends_its_query(printed, kind):
    began = time.monotonic()
    output = interrupted(f'{printed(kind).command} -e "SELECT i FROM big WHERE SLEEP(60)"')
    assert "Query execution was interrupted" in output or "aborted" in output.lower(), output
    assert time.monotonic() - began < 30


@needs_mysql
@pytest.mark.parametrize("kind", ["mariadb", MYSQL_EXHAUSTIVE])
def test_mysqls_own_client_works_by_the_printed_line(printed, kind, tmp_path):
    path = f"{write_mysql_client(tmp_path)}:{os.environ['PATH']}"
    lines = printed(kind)
    assert "MariaDB" not in run("mysql", "--version", PATH=path)
    assert run("/bin/sh", "-c", f'{lines.command} -N -e "{WHO}"', PATH=path) == "app\n"
    began = time.monotonic()
    output = interrupted(f'env PATH="{path}" {lines.command} -e "SELECT i FROM big WHERE SLEEP(60)"')
    assert "^C -- query aborted" in output, output
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("kind", [MYSQL_EXHAUSTIVE])
def test_a_dump_is_taken(printed, kind, tmp_path):
    lines = printed(kind)
    output = run(
        "mysqldump", "--protocol=tcp", f"--host={lines.host}", f"--port={lines.port}", "--user=app", "--no-data",
        "--skip-lock-tables", "--no-tablespaces", "shop", "big",
        PATH=f"{write_mysql_client(tmp_path)}:{os.environ['PATH']}",
    )  # fmt: skip
    assert "CREATE TABLE `big`" in output


@pytest.mark.parametrize("kind", ["mariadb", MYSQL_EXHAUSTIVE])
def test_a_client_that_compresses_unasked_hears_it(printed, kind):
    """mysql-connector-python compresses if it is asked to, whatever the server offers; others do without."""
    place = parameters(printed(kind).url)
    with pytest.raises(mysql.connector.Error, match="switch compression off"):
        mysql.connector.connect(**place, use_pure=True, compress=True, connection_timeout=10)
    command = f'{printed(kind).command} --compress -N -e "{WHO}"'
    assert run("/bin/sh", "-c", command) == "app\n"


# --- Frameworks ---

#: A project of one file, as a new one is: its settings name no password, and its views keep their connections.
PROJECT = """
import sys
import django
import pymysql
pymysql.install_as_MySQLdb()
from django.conf import settings
engine, host, port = sys.argv[1:]
default = {"ENGINE": f"django.db.backends.{engine}", "NAME": "shop", "USER": "app", "HOST": host, "PORT": int(port)}
settings.configure(DATABASES={"default": default | {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}}, USE_TZ=True,
                   INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"])
django.setup()
from django.contrib.auth.models import Group
from django.core import signals
from django.core.management import call_command
from django.db import connection, transaction
call_command("migrate", verbosity=0)
sessions = []
for number in range(3):
    signals.request_started.send(object)
    with transaction.atomic():
        Group.objects.create(name=f"group {number}")
    signals.request_finished.send(object)
    sessions.append(connection.connection)
print(Group.objects.filter(name__startswith="group").count(), len({id(session) for session in sessions}))
call_command("flush", interactive=False, verbosity=0)
print(Group.objects.count())
"""


@pytest.mark.parametrize("kind", [pytest.param("postgres", marks=pytest.mark.exhaustive), "mariadb", MYSQL_EXHAUSTIVE])
def test_django_works_and_keeps_its_connection(printed, kind):
    lines = printed(kind)
    engine = {"postgres": "postgresql", "mysql": "mysql"}[family(kind)]
    output = run(sys.executable, "-c", PROJECT, engine, "127.0.0.1", str(lines.port))
    assert output.split() == ["3", "1", "0"]


POOLS = {
    "postgres": ["postgresql+psycopg", "postgresql+psycopg2", "postgresql+asyncpg"],
    "mysql": ["mysql+pymysql", "mysql+mysqlconnector", "mysql+aiomysql", "mysql+asyncmy"],
}


@pytest.mark.parametrize(
    ("kind", "driver"),
    [
        pytest.param(kind, driver, marks=[pytest.mark.exhaustive] if number or kind == "mariadb" else [])
        for kind in ("postgres", "mariadb")
        for number, driver in enumerate(POOLS[family(kind)])
    ],
)
def test_pools_of_sqlalchemy_work(printed, kind, driver):
    url = printed(kind).url.replace(printed(kind).url.partition(":")[0], driver, 1)
    script = """
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
url, query, asynchronous = sys.argv[1:]
if asynchronous == "True":
    async def main():
        engine = create_async_engine(url, pool_size=4)
        async def one(_):
            async with engine.connect() as connection:
                return (await connection.execute(text(query))).scalar()
        users = await asyncio.gather(*map(one, range(20)))
        await engine.dispose()
        return users
    users = asyncio.run(main())
else:
    engine = create_engine(url, pool_size=4, pool_pre_ping=True)
    def one(_):
        with engine.begin() as connection:
            return connection.execute(text(query)).scalar()
    with ThreadPoolExecutor(4) as threads:
        users = list(threads.map(one, range(20)))
    engine.dispose()
print(set(users))
"""
    asynchronous = driver.endswith(("asyncpg", "aiomysql", "asyncmy"))
    who = "SELECT session_user" if family(kind) == "postgres" else WHO
    assert run(sys.executable, "-c", script, url, who, str(asynchronous)) == "{'app'}\n"
