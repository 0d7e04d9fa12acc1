"""Pools of the installed library on the oldest Python: connections that are opened after a token's life log in.

The tests of docs/applications.md show each driver on our Python.
"""

import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.library.environments import OLDEST, Environment, build, install
from tests.integration.vending import token_servers
from tests.integration.vending.token_servers import KEYS

pytestmark = pytest.mark.exhaustive

APPLICATION = Path(__file__).with_name("application.py")
EXTRAS = ("mysql", "postgres", "sqlalchemy")
PACKAGES = ("aiomysql", "asyncmy", "asyncpg", "django", "mysql-connector-python", "psycopg2-binary")
DRIVERS = {
    "postgres": ("postgresql+psycopg", "postgresql+psycopg2", "postgresql+asyncpg", "rdsiam.django.postgresql"),
    "mariadb": ("mysql+pymysql", "mysql+mysqlconnector", "mysql+aiomysql", "mysql+asyncmy"),
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("drivers")
    return install(build(folder), folder / "env", OLDEST, EXTRAS, PACKAGES)


@pytest.fixture(scope="module")
def servers() -> Iterator[token_servers.TokenServers]:
    with token_servers.running() as servers:
        yield servers


@pytest.mark.parametrize("kind", DRIVERS)
def test_new_connections_log_in_after_a_tokens_life(servers, environment, kind):
    drivers, minutes = DRIVERS[kind], 16
    servers.clock.moved = timedelta()
    with subprocess.Popen(
        [environment.folder / "bin" / "python", APPLICATION, str(servers.port(kind)), *drivers],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(environment.folder),
            "AWS_ACCESS_KEY_ID": KEYS.access_key,
            "AWS_SECRET_ACCESS_KEY": KEYS.secret_key,
            "AWS_CONFIG_FILE": "/nowhere",
            "AWS_REGION": token_servers.REGION,
            "RDSIAM_CA": servers.ca,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as application:
        assert application.stdout is not None
        opened = application.stdout.readline()
        before = servers.logins
        servers.clock.later(minutes=minutes)
        rest, errors = application.communicate(f"{minutes}\n", timeout=60)
    assert opened == f"opened {' '.join(drivers)}\n", errors
    assert rest.splitlines() == [f"opened again {driver}" for driver in drivers], errors
    assert application.returncode == 0, errors
    assert servers.logins == before + len(drivers)
