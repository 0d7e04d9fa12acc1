"""Clients and pools of an application while tokens, access, databases and the proxy itself fail and come back."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import mysql.connector
import psycopg
import psycopg_pool
import pymysql
import pytest
import sqlalchemy

from localcloud.core import processes
from localcloud.core.certificates import Authority
from tests.integration.account import until
from tests.integration.proxy.one_client import ERRORS, KINDS, MOSTLY_POSTGRES, Client, the_only
from tests.integration.proxy.proxy_process import Printed
from tests.integration.proxy.python_clients import WHO, parameters
from tests.integration.proxy.token_api import DENIED, REVOKED, Refusal
from tests.integration.relay import Relay
from tests.integration.vending import token_servers

pytestmark = pytest.mark.usefixtures("all_is_well")
#: An address that the servers' certificates don't have.
NAMELESS = "127.0.0.9"

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
@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (REVOKED, "app is revoked"),
        pytest.param(DENIED, "no entry of access.yaml", marks=pytest.mark.exhaustive),
    ],
)
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
