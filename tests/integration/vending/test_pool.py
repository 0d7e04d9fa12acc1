"""Pools that stay open longer than a token lives, against real servers; the clock of both sides is moved."""

import asyncio
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import django
import psycopg
import pymysql
import pytest
import sqlalchemy
from botocore.credentials import RefreshableCredentials
from django.conf import settings
from sqlalchemy.ext.asyncio import create_async_engine

from localcloud.core import processes
from localcloud.core.certificates import Authority
from localcloud.core.sigv4 import Credential
from localcloud.databases.servers.mariadb import MariadbServer
from localcloud.databases.servers.postgres import PostgresServer
from localcloud.databases.token_verifier import TokenVerifier
from rdsiam import pool
from rdsiam.engines.logins import Password
from rdsiam.engines.mysql.connection import connect_mysql
from rdsiam.engines.postgres.connection import connect_postgres
from rdsiam.errors import InvalidRequest
from rdsiam.signer import Credentials
from rdsiam.tokens import trust
from tests.ground import folder_for_servers

REGION, ACCOUNT = "eu-west-1", "123456789012"
KEYS = Credentials("AKIDEXAMPLE", "the-secret-key")


class Clock:
    """The present, moved at will."""

    def __init__(self) -> None:
        self.moved = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.moved

    def later(self, **how: int) -> None:
        self.moved += timedelta(**how)


@pytest.fixture
def clock(monkeypatch, servers):
    """One clock for the signer and the servers."""
    clock = servers["clock"]
    clock.moved = timedelta()
    moved = SimpleNamespace(time=lambda: time.time() + clock.moved.total_seconds(), gmtime=time.gmtime)
    monkeypatch.setattr("rdsiam.signer.time", moved)
    yield clock
    clock.moved = timedelta()


@pytest.fixture(scope="module")
def servers() -> Iterator[dict]:
    """Return a PostgreSQL and a MariaDB server that judge tokens as RDS does, at the time that `clock` tells."""
    root = folder_for_servers()
    processes.remove_when_we_end(root)
    authority, clock, started = Authority(root / "ca"), Clock(), []
    os.environ["RDSIAM_CA"] = str(authority.path)
    trust.ca_file.cache_clear()
    signer = Credential(KEYS.access_key, KEYS.secret_key, f"arn:aws:iam::{ACCOUNT}:user/app", ACCOUNT)
    known = {signer.access_key: signer}
    verifier = TokenVerifier(known.get, lambda *_: True, REGION, clock.now)
    found: dict = {"clock": clock}
    for kind, server_of in (("postgres", PostgresServer), ("mariadb", MariadbServer)):
        port = processes.free_port()

        def verify(user: str, token: str, tls: bool, port: int = port) -> None:
            verifier.verify(token, [("localhost", port)], user, "db-X", ACCOUNT, tls)

        server = server_of(root / kind, port, "boss", "correct horse", "shop", authority, verify)
        server.start()
        started.append(server)
        server.set_iam(True)
        found[kind] = port
    boss = Password("boss", "correct horse")
    with connect_postgres("localhost", found["postgres"], "shop", boss) as master:
        master.execute("CREATE ROLE app LOGIN")
        master.execute("GRANT rds_iam TO app")
    with connect_mysql("localhost", found["mariadb"], boss) as session:
        session.cursor().execute("CREATE USER app IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL")
        session.cursor().execute("GRANT SELECT ON shop.* TO app")
    yield found
    for server in started:
        server.stop()
    shutil.rmtree(root)
    del os.environ["RDSIAM_CA"]
    trust.ca_file.cache_clear()


def login(servers, kind: str) -> pool.Login:
    return pool.Login("localhost", servers[kind], "app", REGION, lambda: KEYS)


def refused(servers, kind: str, arguments: dict) -> bool:
    """Whether an old token is refused, which is what a pool would meet that had kept it."""
    try:
        (psycopg.connect(dbname="shop", **arguments) if kind == "postgres" else pymysql.connect(**arguments)).close()
    except (psycopg.OperationalError, pymysql.OperationalError) as error:
        return "PAM authentication failed" in str(error) or "Access denied" in str(error)
    return False


def test_a_kept_token_would_be_refused(servers, clock):
    for kind in ("postgres", "mariadb"):
        kept = getattr(login(servers, kind), "psycopg" if kind == "postgres" else "pymysql")()
        assert not refused(servers, kind, kept)
        clock.later(minutes=16)
        assert refused(servers, kind, kept)


@pytest.mark.parametrize(("driver", "kind"), [("postgresql+psycopg", "postgres"), ("mysql+pymysql", "mariadb")])
def test_sqlalchemy_opens_new_connections_after_the_first_token_has_ended(servers, clock, driver, kind):
    engine = pool.sqlalchemy_engine(login(servers, kind), driver, "shop", pool_size=2)
    query = sqlalchemy.text("SELECT current_user")
    with engine.connect() as first:
        assert first.execute(query).scalar().startswith("app")
        clock.later(minutes=16)
        with engine.connect() as second:
            assert second.execute(query).scalar().startswith("app")
        assert first.execute(query).scalar().startswith("app"), "an open connection outlives its token"
        assert engine.pool.checkedin() == 1
    engine.dispose()
    assert "X-Amz" not in str(engine.url) + repr(engine)


def test_an_async_engine_opens_new_connections_with_new_tokens(servers, clock):
    async def run() -> list[str]:
        engine = create_async_engine(f"postgresql+psycopg://localhost:{servers['postgres']}/shop")
        pool.use_tokens(engine, login(servers, "postgres"))
        query, users = sqlalchemy.text("SELECT current_user"), []
        async with engine.connect() as first:
            users.append((await first.execute(query)).scalar())
            clock.later(minutes=16)
            async with engine.connect() as second:
                users.append((await second.execute(query)).scalar())
        await engine.dispose()
        return users

    assert asyncio.run(run()) == ["app", "app"]


def test_a_login_is_bound_to_one_engine(servers):
    with pytest.raises(InvalidRequest):
        pool.use_tokens(sqlalchemy.Engine, login(servers, "postgres"))
    with pytest.raises(InvalidRequest):
        pool.use_tokens(sqlalchemy.create_engine("sqlite://"), login(servers, "postgres"))


def test_psycopg_pool_opens_new_connections_after_the_first_token_has_ended(servers, clock):
    with pool.psycopg_pool(login(servers, "postgres"), "shop", min_size=1, max_size=2) as opened:  # noqa: SIM117
        with opened.connection() as first:
            clock.later(minutes=16)
            with opened.connection(timeout=20) as second:
                assert second.execute("SELECT current_user").fetchone() == ("app",)
                assert first.info.backend_pid != second.info.backend_pid
            assert first.execute("SELECT 1").fetchone() == (1,)


def test_an_async_psycopg_pool_opens_new_connections_with_new_tokens(servers, clock):
    async def run() -> tuple[object, bool]:
        async with pool.async_psycopg_pool(login(servers, "postgres"), "shop", min_size=1, max_size=2) as opened:  # noqa: SIM117
            async with opened.connection() as first:
                clock.later(minutes=16)
                async with opened.connection(timeout=20) as second:
                    user = await (await second.execute("SELECT current_user")).fetchone()
                    return user, first.info.backend_pid != second.info.backend_pid

    assert asyncio.run(run()) == (("app",), True)


def test_pymysql_connections_each_have_their_own_token(servers, clock):
    connect = pool.pymysql_connect(login(servers, "mariadb"), "shop")
    first = connect()
    clock.later(minutes=16)
    with connect() as second, second.cursor() as cursor:
        cursor.execute("SELECT current_user()")
        assert cursor.fetchone() == ("app@%",)
    first.close()


def test_django_reconnects_after_the_first_token_has_ended(servers, clock, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_key)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    database = {
        "ENGINE": "rdsiam.django.postgresql",
        "NAME": "shop",
        "HOST": "localhost",
        "PORT": servers["postgres"],
        "USER": "app",
        "OPTIONS": {"rdsiam_region": REGION},
    }
    with suppress(RuntimeError):
        settings.configure(DATABASES={"default": database})
    django.setup()
    from django.core.exceptions import ImproperlyConfigured
    from django.db import connections

    for _ in range(2):
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT current_user")
            assert cursor.fetchone() == ("app",)
        connections["default"].close()
        clock.later(minutes=16)
    with pytest.raises(ImproperlyConfigured):
        connections.create_connection("default").__class__(
            connections["default"].settings_dict | {"OPTIONS": {"pool": True}}
        ).get_connection_params()


def test_without_tls_that_verifies_there_is_no_connection(servers, clock, monkeypatch, tmp_path):
    monkeypatch.setenv("RDSIAM_CA", str(Authority(tmp_path).path))
    trust.ca_file.cache_clear()
    try:
        with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
            psycopg.connect(dbname="shop", **login(servers, "postgres").psycopg())
        with pytest.raises(pymysql.OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
            pool.pymysql_connect(login(servers, "mariadb"))()
    finally:
        monkeypatch.undo()
        trust.ca_file.cache_clear()


# --- credentials ---


@pytest.mark.parametrize(("minutes", "renewed"), [(16, 0), (14, 1)])
def test_credentials_are_reused_and_renewed_before_a_token_would_outlive_them(monkeypatch, minutes, renewed):
    calls = []

    def refresh() -> dict[str, str]:
        calls.append(1)
        end = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        return {"access_key": "new", "secret_key": "s", "token": "t", "expiry_time": end}

    end = datetime.now(UTC) + timedelta(minutes=minutes)
    found = RefreshableCredentials("old", "s", "t", end, refresh, "test")
    looked: list[int] = []

    def look(_: Any) -> RefreshableCredentials:
        looked.append(1)
        return found

    monkeypatch.setattr("botocore.session.Session.get_credentials", look)
    one = pool.Login("db.x.eu-west-1.rds.amazonaws.com", 5432, "app")
    tokens = [one.token() for _ in range(3)]
    assert (len(looked), len(calls)) == (1, renewed)
    assert all(("Credential=new%2F" in token) is bool(renewed) for token in tokens)


def test_a_login_without_credentials_says_so(monkeypatch):
    monkeypatch.setattr("botocore.session.Session.get_credentials", lambda _: None)
    with pytest.raises(pool.NoCredentials):
        pool.Login("db.x.eu-west-1.rds.amazonaws.com", 5432, "app").token()


def test_a_host_without_a_region_in_its_name_needs_a_region():
    with pytest.raises(InvalidRequest):
        pool.Login("db.example.com", 5432, "app")


def test_a_login_shows_no_secret(servers):
    one = login(servers, "postgres")
    one.token()
    assert KEYS.secret_key not in repr(one)
    assert "X-Amz" not in repr(one)
