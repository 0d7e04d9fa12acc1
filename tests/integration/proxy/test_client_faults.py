"""Clients and pools of an application while databases, tokens, access and the proxy itself fail and come back."""

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import asyncpg
import mysql.connector
import psycopg
import psycopg_pool
import pymysql
import pytest
import sqlalchemy

from localcloud.core import processes
from localcloud.core.certificates import Authority
from tests.integration.account import until
from tests.integration.proxy.proxy_process import Printed, ProxyProcess
from tests.integration.proxy.python_clients import WHO, parameters
from tests.integration.proxy.token_api import DENIED, REVOKED, Refusal
from tests.integration.relay import Relay
from tests.integration.vending import token_servers
from tests.kinds import MYSQL_EXHAUSTIVE, needs_mysql
from tests.mysql_client import write_mysql_client

KINDS = ["postgres", "mariadb", MYSQL_EXHAUSTIVE]
#: For what is the same in both protocols.
MOSTLY_POSTGRES = ["postgres", pytest.param("mariadb", marks=pytest.mark.exhaustive), MYSQL_EXHAUSTIVE]
#: An address that the servers' certificates don't have.
NAMELESS = "127.0.0.9"
SECRET = "correct-horse-battery"


def family(kind: str) -> str:
    """Return the protocol of a kind of server."""
    return "postgres" if kind == "postgres" else "mysql"


class Client:
    """A connection of psycopg or PyMySQL, alike for both."""

    def __init__(self, printed: Printed, **options: Any) -> None:
        self.family = printed.engine
        if self.family == "postgres":
            self.session: Any = psycopg.connect(printed.url, autocommit=True, connect_timeout=20, **options)
        else:
            self.session = pymysql.connect(**parameters(printed.url), autocommit=True, connect_timeout=20, **options)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def one(self, statement: str = "") -> Any:
        """Return the first value of a query; of the user by default."""
        cursor = self.session.cursor()
        cursor.execute(statement or WHO[self.family])
        return cursor.fetchone()[0]


#: The errors of connections that cannot be had, or have ended.
ERRORS = (psycopg.OperationalError, pymysql.OperationalError, pymysql.InterfaceError, pymysql.InternalError)


@pytest.fixture(autouse=True)
def all_is_well(api, servers) -> Iterator[None]:
    """Let the API give tokens, and the clock be right, when a test begins."""
    api.reset()
    servers.clock.moved *= 0
    return iter([None])


@pytest.fixture
def proxy(start_proxy, large_table, request) -> Iterator[Callable[..., ProxyProcess]]:
    """Start a proxy of its own for a test, and end it with the test."""
    started: list[ProxyProcess] = []

    def start(kind: str, *arguments: str, **environment: str) -> ProxyProcess:
        large_table(kind)
        place = () if "--config" in arguments else (kind,) if {"--socket", "--port"} & {*arguments} else (f"{kind}:0",)
        user = () if "-u" in arguments or "--config" in arguments else ("-u", "app")
        started.append(start_proxy(*place, *user, "-d", "shop", *arguments, **environment))
        return started[-1]

    yield start
    for process in started:
        process.__exit__(None, None, None)


def the_only(process: ProxyProcess) -> Printed:
    """Return the lines for the only database of a proxy."""
    (printed,) = process.databases.values()
    return printed


# --- The shared password, sockets, users ---


@pytest.fixture
def password_file(tmp_path) -> Path:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    return file


@pytest.mark.parametrize("kind", KINDS)
def test_a_shared_password_is_asked_for(proxy, password_file, kind):
    printed = the_only(proxy(kind, "--require-password-file", str(password_file)))
    assert SECRET not in f"{printed}"
    with Client(printed, password=SECRET) as client:
        assert client.one() == "app"
    for wrong in ("", "wrong", f"{SECRET} ", SECRET[:-1]):
        with pytest.raises(ERRORS, match=r"password|Access denied"):
            Client(printed, password=wrong)


def test_a_shared_password_reaches_clients_of_postgresql_in_every_way(proxy, password_file, tmp_path):
    printed = the_only(proxy("postgres", "--require-password-file", str(password_file)))
    query = ["psql", printed.url, "-XAtc", "SELECT session_user"]
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"{printed.url.partition('@')[2].partition('/')[0]}:shop:app:{SECRET}\n")
    passfile.chmod(0o600)
    for given in ({"PGPASSWORD": SECRET}, {"PGPASSFILE": str(passfile)}):
        done = subprocess.run(query, env=os.environ | given, capture_output=True, text=True, check=False)
        assert done.stdout == "app\n", done.stderr
    done = subprocess.run([*query, "-w"], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no password supplied" in done.stderr
    url = printed.url.replace("app@", f"app:{SECRET}@")

    async def by_asyncpg() -> Any:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval("SELECT session_user")
        finally:
            await connection.close()

    assert asyncio.run(by_asyncpg()) == "app"


@pytest.mark.parametrize("kind", ["mariadb", MYSQL_EXHAUSTIVE])
def test_a_shared_password_reaches_clients_of_mysql_in_every_way(proxy, password_file, kind):
    printed = the_only(proxy(kind, "--require-password-file", str(password_file)))
    with mysql.connector.connect(**parameters(printed.url), password=SECRET, use_pure=True) as connection:
        cursor = connection.cursor()
        cursor.execute(WHO["mysql"])
        assert cursor.fetchone() == ("app",)
    command = f'{printed.command} -N -e "{WHO["mysql"]}"'
    for secret, code in ((SECRET, 0), ("wrong", 1)):
        environment = os.environ | {"MYSQL_PWD": secret}
        done = subprocess.run(["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert ("app" in done.stdout) == (code == 0)


@needs_mysql
@pytest.mark.parametrize("kind", ["mariadb", MYSQL_EXHAUSTIVE])
def test_a_shared_password_reaches_mysqls_own_client(proxy, password_file, tmp_path, kind):
    printed = the_only(proxy(kind, "--require-password-file", str(password_file)))
    path = f"{write_mysql_client(tmp_path)}:{os.environ['PATH']}"
    command = f'{printed.command} -N -e "{WHO["mysql"]}"'
    outcome = []
    for secret in (SECRET, "wrong", ""):
        environment = {"PATH": path, "MYSQL_PWD": secret, "HOME": str(tmp_path)}
        done = subprocess.run(["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
        outcome.append((done.returncode, done.stdout, "Access denied" in done.stderr))
    assert outcome == [(0, "app\n", False), (1, "", True), (1, "", True)]


def test_psql_comes_by_a_unix_socket(proxy, tmp_path):
    process = proxy("postgres", "--socket", str(tmp_path / ".s.PGSQL.5432"))
    command = f'{the_only(process).command} -XAtc "SELECT session_user"'
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "app\n", done.stderr
    with psycopg.connect(host=str(tmp_path), user="app", dbname="shop") as session:
        assert session.execute("SELECT session_user").fetchone() == ("app",)


def test_clients_of_mysql_come_by_a_unix_socket(proxy, tmp_path):
    path = tmp_path / "mysql.sock"
    process = proxy("mariadb", "--socket", str(path))
    command = f'{the_only(process).command} -N -e "{WHO["mysql"]}"'
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "app\n", done.stderr
    session = pymysql.connect(unix_socket=str(path), user="app", database="shop")
    with session, session.cursor() as cursor:
        cursor.execute(WHO["mysql"])
        assert cursor.fetchone() == ("app",)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fixed_user_is_every_client_s(proxy, api, kind):
    printed = the_only(proxy(kind))
    for name in ("boss", "app2", "root"):
        with Client(replace(printed, url=printed.url.replace("app@", f"{name}@"))) as client:
            assert client.one() == "app"
    assert {user for _, user in api.given} == {"app"}


@pytest.mark.parametrize("kind", KINDS)
def test_clients_name_the_users_that_are_allowed_and_no_others(proxy, api, kind, tmp_path):
    (tmp_path / "proxy.toml").write_text(f'[[database]]\nname = "{kind}"\nusers = ["app"]\nport = 0\n')
    printed = the_only(proxy(kind, "--config", str(tmp_path / "proxy.toml")))
    url = printed.url.replace("USER", "app")
    with Client(replace(printed, url=url)) as client:
        assert client.one() == "app"
    for name in ("boss", "app2", "APP"):
        with pytest.raises(ERRORS, match=name):
            Client(replace(printed, url=url.replace("app@", f"{name}@")))
    assert {user for _, user in api.given} == {"app"}


# --- Tokens ---


def pools(printed: Printed) -> dict[str, tuple[Callable[[], Any], Callable[[Any], None]]]:
    """Return pools of applications: a function that takes a connection, and one that ends the pool."""
    if printed.engine == "postgres":
        url = printed.url.replace("postgresql:", "postgresql+psycopg:")
        pool = psycopg_pool.ConnectionPool(printed.url, min_size=1, max_size=8, open=True)
        engine = sqlalchemy.create_engine(url, pool_size=1, max_overflow=8)
        return {
            "psycopg_pool": (pool.getconn, lambda _: pool.close()),
            "sqlalchemy": (lambda: engine.connect().connection, lambda _: engine.dispose()),
        }
    engine = sqlalchemy.create_engine(printed.url.replace("mysql:", "mysql+pymysql:"), pool_size=1, max_overflow=8)
    connector = mysql.connector.pooling.MySQLConnectionPool(
        pool_name=f"pool{printed.port}", pool_size=3, use_pure=True, **parameters(printed.url)
    )
    return {
        "sqlalchemy": (lambda: engine.connect().connection, lambda _: engine.dispose()),
        "connector": (connector.get_connection, lambda _: None),
    }


def who(connection: Any, family: str) -> str:
    """Return the user of a pool's connection."""
    cursor = connection.cursor()
    cursor.execute(WHO[family])
    (user,) = cursor.fetchone()
    return str(user)


@pytest.mark.parametrize("kind", MOSTLY_POSTGRES)
def test_pools_open_connections_after_a_tokens_life(proxy, servers, api, kind):
    printed = the_only(proxy(kind))
    for take, end in pools(printed).values():
        taken = [take()]
        assert who(taken[0], printed.engine) == "app"
        for minutes in (16, 24 * 60):
            servers.clock.later(minutes=minutes)
            before = servers.logins
            while servers.logins == before and len(taken) < 3:  # a pool may have opened some before
                taken.append(take())
                assert who(taken[-1], printed.engine) == "app"
            assert who(taken[0], printed.engine) == "app", "an open connection outlives its token"
        for connection in taken:
            connection.close()
        end(None)


def test_every_connection_has_a_token_of_its_own(proxy, servers, api):
    printed = the_only(proxy("postgres"))
    before, given = servers.logins, api.given["postgres", "app"]
    for _ in range(5):
        with Client(printed) as client:
            assert client.one() == "app"
    assert servers.logins - before == 5
    assert api.given["postgres", "app"] - given == 5


@pytest.mark.parametrize("kind", MOSTLY_POSTGRES)
def test_a_throttled_api_is_asked_again(proxy, api, kind):
    printed = the_only(proxy(kind))
    api.refusals.extend([Refusal(429, "", "Too Many Requests")] * 2)
    with Client(printed) as client:
        assert client.one() == "app"
    assert not api.refusals


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("refusal", "words"), [(REVOKED, "app is revoked"), (DENIED, "no entry of access.yaml")])
def test_a_denial_reaches_the_client_in_words(proxy, api, kind, refusal, words):
    printed = the_only(proxy(kind))
    with Client(printed) as open_before:
        api.always = refusal
        with pytest.raises(ERRORS, match=words):
            Client(printed)
        assert open_before.one() == "app", "without --cut an open connection stays"
    api.always = None
    with Client(printed) as client:
        assert client.one() == "app"


@pytest.mark.parametrize("kind", MOSTLY_POSTGRES)
def test_open_connections_are_cut_when_access_ends(proxy, api, kind):
    printed = the_only(proxy(kind, "--cut", "--cut-interval", "1"))
    client = Client(printed)
    api.always, api.users = REVOKED, []
    error = None

    def ended() -> bool:
        nonlocal error
        try:
            client.one()
        except ERRORS as caught:
            error = caught
        return error is not None

    until(ended, 20)
    api.reset()
    with Client(printed) as again:
        assert again.one() == "app"


# --- The database ---


@pytest.mark.parametrize("kind", MOSTLY_POSTGRES)
def test_a_database_that_restarts_is_reached_again(proxy, servers, kind):
    printed = the_only(proxy(kind))
    scheme = {"postgres": ("postgresql:", "postgresql+psycopg:"), "mysql": ("mysql:", "mysql+pymysql:")}
    engine = sqlalchemy.create_engine(printed.url.replace(*scheme[printed.engine]), pool_size=2, pool_pre_ping=True)
    client = Client(printed)
    with engine.connect() as pooled:
        assert pooled.execute(sqlalchemy.text(WHO[printed.engine])).scalar() == "app"
    server = servers.server(kind)
    server.stop()
    try:
        with pytest.raises((*ERRORS, pymysql.Error, psycopg.Error)):
            client.one()
        with pytest.raises(ERRORS, match="no connection"):
            Client(printed)
    finally:
        server.start()
    with engine.connect() as pooled:
        assert pooled.execute(sqlalchemy.text(WHO[printed.engine])).scalar() == "app"
    engine.dispose()


@pytest.mark.parametrize("kind", MOSTLY_POSTGRES)
def test_a_name_that_leads_elsewhere_gets_no_token(proxy, servers, api, kind):
    """The endpoint's name resolves to another machine, which has a certificate of its own."""
    with token_servers.running() as others:
        assert others.port(kind) != servers.port(kind)
        os.environ["RDSIAM_CA"] = servers.ca  # which `running` has set
        api.elsewhere[kind] = (token_servers.HERE, others.port(kind))
        process = proxy(kind)
        with pytest.raises(ERRORS, match="not trusted"):
            Client(the_only(process))
        assert others.logins == 0
        os.environ["RDSIAM_CA"] = others.ca
    os.environ["RDSIAM_CA"] = servers.ca
    assert "X-Amz" not in process.log


@pytest.mark.parametrize("kind", MOSTLY_POSTGRES)
def test_a_certificate_of_another_name_gets_no_token(proxy, servers, api, kind):
    relay = Relay("localhost", servers.port(kind), at=NAMELESS)
    api.elsewhere[kind] = (NAMELESS, relay.port)
    before = servers.logins
    with pytest.raises(ERRORS, match="another name"):
        Client(the_only(proxy(kind)))
    assert servers.logins == before


@pytest.mark.parametrize("kind", MOSTLY_POSTGRES)
def test_a_wrong_authority_is_explained(proxy, servers, kind, tmp_path):
    wrong = Authority(tmp_path / "ca").path
    before = servers.logins
    with pytest.raises(ERRORS, match=r"not trusted.*RDSIAM_CA"):
        Client(the_only(proxy(kind, RDSIAM_CA=str(wrong))))
    assert servers.logins == before


# --- The proxy ---


@pytest.mark.parametrize("kind", MOSTLY_POSTGRES)
def test_a_killed_proxy_is_started_again_at_its_port(proxy, kind):
    port = str(processes.free_port())
    first = proxy(kind, "--port", port)
    client = Client(the_only(first))
    first.send(signal.SIGKILL)
    first.wait()
    with pytest.raises((*ERRORS, pymysql.Error)):
        client.one()
    with pytest.raises(ERRORS):
        Client(the_only(first))
    second = proxy(kind, "--port", port)
    assert the_only(second) == the_only(first)
    with Client(the_only(second)) as again:
        assert again.one() == "app"


def test_a_killed_proxy_leaves_a_socket_that_the_next_one_takes(proxy, tmp_path):
    path = tmp_path / ".s.PGSQL.5432"
    first = proxy("postgres", "--socket", str(path))
    first.send(signal.SIGKILL)
    first.wait()
    assert path.exists()
    proxy("postgres", "--socket", str(path))
    with psycopg.connect(host=str(tmp_path), user="app", dbname="shop") as session:
        assert session.execute("SELECT session_user").fetchone() == ("app",)


@pytest.mark.parametrize("kind", MOSTLY_POSTGRES)
def test_a_running_query_ends_before_the_proxy_does(proxy, kind):
    process = proxy(kind)
    printed = the_only(process)
    client, idle = Client(printed), Client(printed)
    answers: list[Any] = []
    sleep = {"postgres": "SELECT 7 FROM pg_sleep(2)", "mysql": "SELECT 7 + SLEEP(2)"}[printed.engine]
    running = threading.Thread(target=lambda: answers.append(client.one(sleep)))
    running.start()
    time.sleep(0.5)
    process.send(signal.SIGTERM)
    with pytest.raises((*ERRORS, pymysql.Error)):
        until(lambda: idle.one() is None, 3)
    with pytest.raises(ERRORS):
        Client(printed)
    running.join()
    assert answers == [7]
    assert process.wait() == 0


@pytest.mark.parametrize("kind", MOSTLY_POSTGRES)
def test_a_query_that_takes_too_long_is_cut_at_the_end(proxy, kind):
    process = proxy(kind, "--drain-timeout", "1")
    printed = the_only(process)
    client = Client(printed)
    errors: list[BaseException] = []

    def query() -> None:
        try:
            client.one({"postgres": "SELECT pg_sleep(60)", "mysql": "SELECT SLEEP(60)"}[printed.engine])
        except Exception as error:
            errors.append(error)

    running = threading.Thread(target=query)
    running.start()
    time.sleep(0.5)
    process.send(signal.SIGTERM)
    assert process.wait() == 7
    running.join()
    assert len(errors) == 1
    # A client of MySQL takes an error that answers nothing for the end of its connection, as when a server shuts down.
    assert {"postgres": "shutting down", "mysql": "Lost connection"}[printed.engine] in str(errors[0])


def test_another_configuration_is_read_while_clients_work(proxy, large_table, tmp_path):
    large_table("mariadb")
    configuration = tmp_path / "proxy.toml"
    first, second = processes.free_port(), processes.free_port()
    database = '[[database]]\nname = "{}"\nuser = "app"\nport = {}\n'
    configuration.write_text(database.format("postgres", first))
    process = proxy("postgres", "--config", str(configuration))
    client = Client(the_only(process))
    configuration.write_text("nonsense")
    process.send(signal.SIGHUP)
    until(lambda: "the old one stays" in process.log, 5)
    with Client(the_only(process)) as unchanged:
        assert unchanged.one() == "app"
    configuration.write_text(database.format("mariadb", second))
    process.send(signal.SIGHUP)
    until(lambda: "read again" in process.log, 5)
    added = Printed("mysql", f"mysql://app@127.0.0.1:{second}/shop", "", "")
    with Client(added) as other:
        assert other.one() == "app"
    assert client.one() == "app", "open connections stay"
    with pytest.raises(ERRORS):
        Client(the_only(process))


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_writes_no_secret_anywhere(proxy, api, password_file, kind, tmp_path):
    health = processes.free_port()
    process = proxy(kind, "--require-password-file", str(password_file), "--health-port", str(health))
    printed = the_only(process)
    with Client(printed, password=SECRET) as client:
        client.one()
        with pytest.raises(ERRORS):
            Client(printed, password="another-secret-of-a-client")
        api.always = DENIED
        with pytest.raises(ERRORS):
            Client(printed, password=SECRET)
        with urlopen(f"http://127.0.0.1:{health}/metrics", timeout=10) as page:
            metrics = page.read().decode()
    written = process.log + metrics + str(process.databases)
    for secret in (SECRET, "another-secret-of-a-client", token_servers.KEYS.secret_key, "X-Amz-Signature"):
        assert secret not in written
    assert [event["user"] for event in process.events() if event["message"] == "connection opened"] == ["app"]
