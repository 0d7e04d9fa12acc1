"""Logins of an application's clients: a shared password, unix sockets, users; and no secret is written anywhere."""

import asyncio
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import asyncpg
import mysql.connector
import psycopg
import pymysql
import pytest

from localcloud.core import processes
from tests.integration.proxy.one_client import ERRORS, KINDS, Client, the_only
from tests.integration.proxy.python_clients import WHO, parameters
from tests.integration.proxy.token_api import DENIED
from tests.integration.vending import token_servers
from tests.kinds import MYSQL_EXHAUSTIVE, needs_mysql
from tests.mysql_client import write_mysql_client

pytestmark = pytest.mark.usefixtures("all_is_well")
SECRET = "correct-horse-battery"


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
