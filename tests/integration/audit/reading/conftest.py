"""Servers that the audit reads."""

from collections.abc import Callable
from functools import cache

import pytest

from rdsiam.engines.protocols import DesiredState
from tests import kinds
from tests.integration.place import Place, user
from tests.kinds import MYSQL_FAMILY

ONE = (user("declared", ("shop", "readwrite")),)


@pytest.fixture(scope="module")
def postgres_of(make_place) -> Callable[[str], tuple[Place, DesiredState]]:
    """Return the server of a kind of PostgreSQL, which all tests share."""

    @cache
    def make(kind: str) -> tuple[Place, DesiredState]:
        place: Place = make_place(kind)
        return place, place.converge(DesiredState(ONE, {}))[1]

    return make


@pytest.fixture(params=kinds.POSTGRES)
def postgres(request, postgres_of) -> tuple[Place, DesiredState]:
    made: tuple[Place, DesiredState] = postgres_of(request.param)
    return made


@pytest.fixture(scope="module")
def mariadb(make_place) -> tuple[Place, DesiredState]:
    place = make_place("mariadb")
    return place, place.converge(DesiredState(ONE, {}))[1]


@pytest.fixture(scope="module")
def mysql(make_place) -> tuple[Place, DesiredState]:
    place = make_place("mysql")
    with place.as_rdsadmin() as admin:
        for plugin in ("auth_socket", "mysql_no_login"):
            admin.run(f"INSTALL PLUGIN {plugin} SONAME '{plugin}.so'")
    return place, place.converge(DesiredState(ONE, {}))[1]


@pytest.fixture(params=MYSQL_FAMILY)
def family(request) -> tuple[Place, DesiredState]:
    """Return a server of MariaDB, and one of MySQL."""
    made: tuple[Place, DesiredState] = request.getfixturevalue(request.param)
    return made


@pytest.fixture(params=[*kinds.POSTGRES, *MYSQL_FAMILY])
def place(request, postgres_of) -> Place:
    of_postgres = request.param.startswith("postgres")
    made: Place = (postgres_of(request.param) if of_postgres else request.getfixturevalue(request.param))[0]
    return made
