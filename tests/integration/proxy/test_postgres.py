"""PostgreSQL's engine of the proxy with real servers and clients that know nothing of tokens."""

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
import threading
import time

import asyncpg
import psycopg
import pytest

from localcloud.core.certificates import Authority
from localcloud.core.processes import loopback_addresses
from rdsiam.proxy.postgres.engine import PostgresEngine
from rdsiam.tokens import trust
from tests.integration.proxy.bare_proxy import StubUpstream, running_proxy

PSQL, PGBENCH, PG_RECEIVEWAL, PG_RECVLOGICAL = (
    shutil.which(program) or "" for program in ("psql", "pgbench", "pg_receivewal", "pg_recvlogical")
)
pytestmark = pytest.mark.skipif(not PSQL, reason="psql is not installed")
SECRET = "a shared secret"
_EXHAUSTIVE = [f"postgres{version}" for version in range(13, 18)]


@pytest.fixture(
    scope="module", params=["postgres", *(pytest.param(kind, marks=pytest.mark.exhaustive) for kind in _EXHAUSTIVE)]
)
def server(request, make_place):
    place = make_place(request.param)
    place.server.set_parameters({"rds.logical_replication": "1", "rds.iam_auth_for_replication": "1"})
    place.server.stop()
    place.server.start()
    place.server.set_iam(True)
    with place.as_master() as master:
        master.run("CREATE USER app; GRANT rds_iam TO app")
        master.run("CREATE USER streaming; GRANT rds_iam TO streaming")
        master.run("CREATE USER disabled NOLOGIN; GRANT rds_iam TO disabled")
        master.run("CREATE USER old PASSWORD 'correct-Password-1'")
        master.run("CREATE TABLE numbers (n int PRIMARY KEY, text text)")
        master.run("INSERT INTO numbers SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n")
        master.run("GRANT ALL ON numbers TO app")
    with place.as_rdsadmin("postgres") as rdsadmin:
        rdsadmin.run("ALTER ROLE streaming REPLICATION")
    return place


@pytest.fixture
def upstream(server):
    return StubUpstream("localhost", trust.ca_file(), [("127.0.0.1", server.database.port)])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Return TLS of the proxy, and the file of the authority that clients trust."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    files = authority.issue(tmp_path_factory.mktemp("proxy"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.key)
    return tls, authority.path


def dsn(proxy, user="app", database="shop", more=""):
    return f"host=localhost hostaddr=127.0.0.1 port={proxy.port} user={user} dbname={database} {more}"


def run(*command, **environment):
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment}
    )


def psql(proxy, *arguments, user="app", database="shop", more="", **environment):
    return run(PSQL, "-XAtq", dsn(proxy, user, database, more), *arguments, **environment)


def test_the_listener_s_user_is_everybody_s(upstream):
    with running_proxy(upstream, user="app") as proxy:
        result = psql(proxy, "-c", "SELECT current_user", user="whoever")
    assert (result.stdout, result.stderr) == ("app\n", "")


@pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer"])
@pytest.mark.parametrize("gssencmode", ["disable", "prefer"])
def test_psql_needs_no_tls_on_loopback(upstream, sslmode, gssencmode):
    with running_proxy(upstream, users=frozenset({"app"})) as proxy:
        result = psql(proxy, "-c", "SELECT current_user", more=f"sslmode={sslmode} gssencmode={gssencmode}")
    assert (result.stdout, result.stderr) == ("app\n", "")


def test_psql_that_requires_tls_says_that_there_is_none(upstream):
    with running_proxy(upstream) as proxy:
        result = psql(proxy, "-c", "SELECT 1", more="sslmode=require")
    assert "server does not support SSL, but SSL was required" in result.stderr
    assert upstream.connected == []


@pytest.mark.parametrize("sslmode", ["prefer", "require", "verify-full"])
def test_psql_has_tls_and_a_password_with_a_certificate(upstream, certificates, sslmode):
    tls, authority = certificates
    with running_proxy(upstream, secret=SECRET.encode(), tls=tls, tls_required=True) as proxy:
        more = f"sslmode={sslmode} sslrootcert={authority}"
        result = psql(proxy, "-c", "SELECT current_user", more=more, PGPASSWORD=SECRET)
        assert (result.stdout, result.stderr) == ("app\n", "")
        wrong = psql(proxy, "-c", "SELECT 1", more=more, PGPASSWORD=SECRET[1:])
        problem = "rdsiam proxy asks for its own password, and got another one"
        assert f'FATAL:  password authentication failed for user "app": {problem}' in wrong.stderr
        plain = psql(proxy, "-c", "SELECT 1", more="sslmode=disable", PGPASSWORD=SECRET)
        assert "FATAL:  this proxy takes connections with TLS only" in plain.stderr
    assert len(upstream.connected) == 1


@pytest.mark.parametrize("version", ["3.0", "3.2"])
def test_libpq_18_negotiates_tls_at_once_and_both_protocols(server, upstream, certificates, version):
    tls, authority = certificates
    with running_proxy(upstream, tls=tls, tls_required=True) as proxy:
        more = f"sslmode=verify-full sslnegotiation=direct sslrootcert={authority} max_protocol_version={version}"
        with psycopg.connect(dsn(proxy, more=more)) as session:
            assert session.pgconn.ssl_in_use
            assert session.execute("SELECT current_user").fetchone() == ("app",)
            negotiated = session.pgconn.full_protocol_version
    assert negotiated == (30002 if version == "3.2" and server.version >= 18 else 30000)


def test_parameters_of_the_client_reach_the_server(upstream):
    with running_proxy(upstream) as proxy:
        more = "application_name='x y' options='-c search_path=a,b -c statement_timeout=7s' client_encoding=latin1"
        names = ("application_name", "search_path", "statement_timeout", "client_encoding")
        result = psql(proxy, "-c", "; ".join(f"SHOW {name}" for name in names), more=more)
    assert (result.stdout, result.stderr) == ("x y\na,b\n7s\nLATIN1\n", "")


def test_a_unix_socket_serves_as_well(upstream, tmp_path):
    with running_proxy(upstream, user="app", path=tmp_path / ".s.PGSQL.5432"):
        result = run(PSQL, "-XAtq", f"host={tmp_path} dbname=shop user=whoever", "-c", "SELECT current_user")
    assert (result.stdout, result.stderr) == ("app\n", "")


def test_psql_copies_in_and_out(upstream, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_text("".join(f"{n}\t{n} ö\n" for n in range(100_000, 150_000)))
    with running_proxy(upstream) as proxy:
        result = psql(
            proxy, "-v", "ON_ERROR_STOP=1", "-c", "CREATE TEMP TABLE copied (LIKE numbers)",
            "-c", rf"\copy copied FROM '{source}'", "-c", rf"\copy copied TO '{target}'",
        )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("more", ["", "sslmode=require"], ids=["plain", "tls"])
@pytest.mark.parametrize("command", ["SELECT pg_sleep(60);", r"SELECT 1 \watch 0.2"], ids=["sleep", "watch"])
def test_ctrl_c_cancels_what_psql_waits_for(upstream, certificates, command, more):
    with running_proxy(upstream, tls=certificates[0]) as proxy:
        process = subprocess.Popen(
            [PSQL, "-XAtq", dsn(proxy, more=more)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdin and process.stdout and process.stderr  # noqa: PT018
        process.stdin.write(f"SELECT 'begun';\n{command}\n")
        process.stdin.close()
        assert process.stdout.readline() == "begun\n"
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        process.wait(20)
        errors = process.stderr.read()
        process.stdout.close()
        process.stderr.close()
    assert "server closed" not in errors
    if "sleep" in command:  # between two of \watch there is nothing to cancel
        assert errors.splitlines() == ["Cancel request sent", "ERROR:  canceling statement due to user request"]
        assert len(upstream.connected) == 2
    assert proxy.refusals == []


@pytest.mark.parametrize("version", ["3.0", "3.2"])
def test_psycopg_cancels_as_libpq_17_does(upstream, certificates, version):
    """PQcancelBlocking encrypts the request; keys of protocol 3.2 are longer."""
    engine = PostgresEngine()
    with running_proxy(upstream, engine=engine, tls=certificates[0]) as proxy:
        more = f"sslmode=require max_protocol_version={version}"
        with psycopg.connect(dsn(proxy, more=more), autocommit=True) as session:
            session.execute("SET statement_timeout = '20s'")
            timer = threading.Timer(0.5, session.cancel_safe)
            timer.start()
            with pytest.raises(psycopg.errors.QueryCanceled, match="due to user request"):
                session.execute("SELECT pg_sleep(60)")
            timer.join()
            assert session.execute("SELECT 1").fetchone() == (1,)
            assert len(engine._backends) == 1
        deadline = time.monotonic() + 10
        while len(engine._backends) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(engine._backends) == 0, "keys of ended connections are forgotten"


@pytest.mark.skipif("::1" not in loopback_addresses(), reason="the machine has one loopback address")
def test_a_request_to_cancel_goes_to_the_address_of_its_connection(upstream):
    """An endpoint with several addresses leads each connection to another one, as a cluster's reader endpoint does."""
    port = upstream.addresses[0][1]
    upstream.addresses = [("127.0.0.1", port), ("::1", port), ("127.0.0.1", port)]
    with running_proxy(upstream) as proxy:
        sessions = [psycopg.connect(dsn(proxy), autocommit=True) for _ in range(3)]
        timer = threading.Timer(0.3, sessions[1].cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            sessions[1].execute("SELECT pg_sleep(60)")
        timer.join()
        for session in sessions:
            session.close()
    assert [host for host, _ in upstream.connected] == ["127.0.0.1", "::1", "127.0.0.1", "::1"]


def test_psycopg_pipelines(upstream):
    with running_proxy(upstream) as proxy, psycopg.connect(dsn(proxy)) as session:
        with session.pipeline(), session.cursor() as cursor:
            cursor.executemany("SELECT %s::int", [(n,) for n in range(500)], returning=True)
            rows = [cursor.fetchone()]
            while cursor.nextset():
                rows.append(cursor.fetchone())
        assert rows == [(n,) for n in range(500)]


def test_psycopg_is_asynchronous(upstream):
    async def ask(proxy):
        async with await psycopg.AsyncConnection.connect(dsn(proxy), autocommit=True) as session:
            await session.execute("LISTEN here")
            await session.execute("NOTIFY here, 'hello'")
            async for notification in session.notifies(timeout=5, stop_after=1):
                assert notification.payload == "hello"
            task = asyncio.create_task(session.execute("SELECT pg_sleep(60)"))
            await asyncio.sleep(0.5)
            await session.cancel_safe()
            with pytest.raises(psycopg.errors.QueryCanceled):
                await task
            async with session.cursor().copy("COPY numbers TO STDOUT") as copy:
                return [row async for row in copy]

    with running_proxy(upstream) as proxy:
        assert len(b"".join(map(bytes, asyncio.run(ask(proxy)))).splitlines()) == 20_000


def test_asyncpg_logs_in_and_cancels(upstream):
    async def ask(port):
        connection = await asyncpg.connect(host="127.0.0.1", port=port, database="shop", user="app")
        try:
            with pytest.raises(TimeoutError):
                await connection.fetchval("SELECT pg_sleep(60)", timeout=0.5)
            return await connection.fetch("SELECT n FROM numbers ORDER BY n")
        finally:
            await connection.close()

    with running_proxy(upstream) as proxy:
        assert len(asyncio.run(ask(proxy.port))) == 20_000


@pytest.mark.skipif(not PGBENCH, reason="pgbench is not installed")
@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench_runs(upstream, tmp_path, mode):
    script = tmp_path / "script.sql"
    script.write_text("\\set n random(1, 20000)\nSELECT text FROM numbers WHERE n = :n;\n")
    with running_proxy(upstream) as proxy:
        result = run(
            PGBENCH, "-n", "-c", "4", "-j", "2", "-t", "50", "-C" if mode == "simple" else "-n", "-M", mode,
            "-f", str(script), "-h", "127.0.0.1", "-p", str(proxy.port), "-U", "app", "shop",
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "number of transactions actually processed: 200/200" in result.stdout
    assert len(upstream.connected) >= (200 if mode == "simple" else 4)


@pytest.mark.skipif(not PG_RECVLOGICAL, reason="pg_recvlogical is not installed")
def test_pg_recvlogical_streams(server, upstream, tmp_path):
    target = tmp_path / "changes"
    with running_proxy(upstream) as proxy:
        at = ["-d", dsn(proxy, user="streaming"), "-S", "stream"]
        created = run(PG_RECVLOGICAL, *at, "--create-slot", "-P", "test_decoding")
        assert created.returncode == 0, created.stderr
        psql(proxy, "-c", "UPDATE numbers SET text = 'changed' WHERE n = 7")
        position = psql(proxy, "-c", "SELECT pg_current_wal_insert_lsn()").stdout.strip()
        streamed = run(PG_RECVLOGICAL, *at, "--start", "-f", str(target), "-E", position)
        assert streamed.returncode == 0, streamed.stderr
        run(PG_RECVLOGICAL, *at, "--drop-slot")
    assert "UPDATE: n[integer]:7 text[text]:'changed'" in target.read_text()


@pytest.mark.skipif(not PG_RECEIVEWAL, reason="pg_receivewal is not installed")
def test_pg_receivewal_is_refused_in_the_server_s_words(upstream, tmp_path):
    """As on RDS, which has no physical replication for its customers."""
    with running_proxy(upstream) as proxy:
        result = run(PG_RECEIVEWAL, "-d", dsn(proxy, user="streaming"), "-D", str(tmp_path), "-n")
    assert "no pg_hba.conf entry for replication connection" in result.stderr


@pytest.mark.parametrize(
    ("user", "database", "text", "code"),
    [
        ("app", "nowhere", 'database "nowhere" does not exist', "3D000"),
        ("disabled", "shop", 'role "disabled" is not permitted to log in', "28000"),
    ],
)
def test_the_server_s_errors_reach_the_client_with_their_code_and_a_hint(upstream, user, database, text, code):
    upstream.sentence = "rdsiam onboard orders"
    with running_proxy(upstream) as proxy:
        result = psql(proxy, "-c", "SELECT 1", user=user, database=database)
        assert f"FATAL:  {text}" in result.stderr
        assert "HINT:  rdsiam onboard orders" in result.stderr
        with pytest.raises(asyncpg.PostgresError) as failed:
            asyncio.run(asyncpg.connect(host="127.0.0.1", port=proxy.port, database=database, user=user))
        assert failed.value.sqlstate == code
        assert failed.value.hint == "rdsiam onboard orders"
        assert any(text in refusal for refusal in proxy.refusals)


def test_a_refused_token_reaches_the_client_as_the_server_s_error(upstream):
    upstream.make_token = "token-of-somebody-else-than-{}".format
    with running_proxy(upstream) as proxy:
        result = psql(proxy, "-c", "SELECT 1")
    assert 'FATAL:  PAM authentication failed for user "app"' in result.stderr


@pytest.mark.parametrize("user", ["old", "nobody"], ids=["not in rds_iam", "missing"])
def test_a_user_that_the_server_asks_for_a_password_is_explained(upstream, user):
    upstream.sentence = "rdsiam onboard orders"
    with running_proxy(upstream) as proxy:
        result = psql(proxy, "-c", "SELECT 1", user=user, PGPASSWORD="correct-Password-1")
    assert f'FATAL:  the database asks for a password of user "{user}", and takes no token' in result.stderr
    assert "rdsiam onboard orders" in result.stderr
    assert result.returncode == 2


def test_a_database_that_is_away_is_an_error_in_the_protocol(upstream):
    upstream.addresses = [("127.0.0.1", 9)]
    with running_proxy(upstream) as proxy:
        result = psql(proxy, "-c", "SELECT 1")
    assert "FATAL:  no connection" in result.stderr
