"""PostgreSQL's engine of the proxy with real servers and clients that know nothing of tokens."""

import asyncio
import shutil
import subprocess

import asyncpg
import psycopg
import pytest

from rdsiam.tokens import trust
from tests.integration.proxy.postgres_proxy import StubUpstream, running_proxy
from tests.kinds import POSTGRES

PSQL = shutil.which("psql") or "psql"


@pytest.fixture(scope="module", params=POSTGRES)
def server(request, make_place):
    place = make_place(request.param)
    with place.as_master() as master:
        master.run("CREATE USER app; GRANT rds_iam TO app; GRANT CONNECT ON DATABASE shop TO app")
    return place


@pytest.fixture
def upstream(server):
    return StubUpstream("localhost", trust.ca_file(), [("127.0.0.1", server.database.port)])


def psql(dsn, *arguments, **options):
    return subprocess.run(
        [PSQL, "-XAtq", dsn, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_psql_logs_in_without_a_password(upstream):
    with running_proxy(upstream, user="app") as proxy:
        result = psql(f"host=127.0.0.1 port={proxy.port} dbname=shop user=whoever", "-c", "SELECT current_user")
    assert (result.stdout, result.stderr) == ("app\n", "")


def test_psycopg_logs_in(upstream):
    with (
        running_proxy(upstream, user="app") as proxy,
        psycopg.connect(port=proxy.port, host="127.0.0.1", dbname="shop") as c,
    ):
        assert c.execute("SELECT current_user").fetchone() == ("app",)


def test_asyncpg_logs_in(upstream):
    async def ask(port):
        connection = await asyncpg.connect(host="127.0.0.1", port=port, database="shop", user="app")
        try:
            return await connection.fetchval("SELECT current_user")
        finally:
            await connection.close()

    with running_proxy(upstream) as proxy:
        assert asyncio.run(ask(proxy.port)) == "app"
