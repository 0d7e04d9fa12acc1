"""Settings of a tenant, on its database or for a role, have no effect on rdsiam's sessions."""

from dataclasses import replace
from typing import Any

import pytest

from rdsiam.engines.connection import WORK, Limits
from rdsiam.engines.logins import MANAGER, Password, Token
from rdsiam.engines.postgres.connection import connect_postgres, postgres_options
from rdsiam.engines.protocols import DesiredState
from rdsiam.errors import ConnectionFailed
from tests.integration.place import MASTER, MASTER_PASSWORD, Place, user
from tests.kinds import MYSQL_FAMILY

HOSTILE = (
    "createrole_self_grant = 'set, inherit'",
    "default_transaction_read_only = on",
    "default_transaction_isolation = 'serializable'",
    "idle_session_timeout = 1",
    "idle_in_transaction_session_timeout = 1",
    "transaction_timeout = 1",
    "statement_timeout = 1",
    "lock_timeout = 1",
    "search_path = 'planted'",
    "client_min_messages = error",
    "exit_on_error = on",
    "role = 'tenant'",
)


@pytest.fixture(scope="module", params=["postgres", "postgres-vanilla"])  # of the newest, which has all settings
def place(make_place, request) -> Place:
    """Return a server with a tenant's database, whose name comes before all others."""
    place: Place = make_place(request.param)
    with place.as_master("postgres") as master:
        master.run("CREATE ROLE tenant LOGIN CREATEDB PASSWORD 'tenant'")
    with place.login(Password("tenant", "tenant"), "postgres") as tenant:
        tenant.run("CREATE DATABASE a_tenants")
        for setting in HOSTILE:
            tenant.run(f"ALTER DATABASE a_tenants SET {setting}")
    return place


@pytest.fixture(scope="module")
def desired(place) -> DesiredState:
    declared = (user("app", ("a_tenants", "owner"), ("shop", "readonly")), user("reader", ("a_tenants", "readonly")))
    return place.converge(DesiredState(declared, {}))[1]


def test_a_first_onboarding_succeeds_whatever_a_tenant_set_on_its_database(place, desired):
    assert place.converge(desired)[0] == []
    place.as_user("app", "shop").__exit__()
    with place.as_master("postgres") as master:
        caught = master.run(
            f"SELECT 1 FROM pg_auth_members WHERE member = '{MASTER}'::regrole AND inherit_option "
            "AND roleid IN ('app'::regrole, 'reader'::regrole, 'rdsiam_manager'::regrole)"
        )
    assert caught == []


def test_settings_of_a_role_decide_nothing_either(place):
    with place.as_rdsadmin("postgres") as rdsadmin:
        for setting in HOSTILE:
            rdsadmin.run(f"ALTER ROLE {MASTER} SET {setting}")
    try:
        host, port = place.database.endpoint
        master: Any = connect_postgres(host, port, "a_tenants", Password(MASTER, MASTER_PASSWORD), WORK, "18.1")
        shown = {
            setting.split(" = ")[0]: master.execute(f"SHOW {setting.split(' = ')[0]}").fetchone()[0]
            for setting in HOSTILE
        }
        master.close()
    finally:
        with place.as_rdsadmin("postgres") as rdsadmin:
            rdsadmin.run(f"ALTER ROLE {MASTER} RESET ALL")

    assert shown == {
        "createrole_self_grant": "",
        "default_transaction_read_only": "off",
        "default_transaction_isolation": "read committed",
        "idle_session_timeout": "0",
        "idle_in_transaction_session_timeout": "15min",
        "transaction_timeout": "0",
        "statement_timeout": "30s",
        "lock_timeout": "10s",
        "search_path": "pg_catalog",
        "client_min_messages": "notice",
        "exit_on_error": "off",
        "role": "none",
    }


def test_a_run_that_concerns_no_tenant_never_enters_its_database(place, desired):
    """Also if the tenant has closed the database to everybody."""
    with place.login(Password("tenant", "tenant"), "postgres") as tenant:
        tenant.run("CREATE DATABASE a_closed")
        tenant.run("ALTER DATABASE a_closed CONNECTION LIMIT 0")
        tenant.run("REVOKE CONNECT ON DATABASE a_closed FROM PUBLIC")

    _, desired = place.converge(replace(desired, users=(*desired.users, user("elsewhere", ("shop", "readonly")))))

    assert place.converge(desired)[0] == []
    with pytest.raises(ConnectionFailed):
        place.login(Token(MANAGER, f"token-of-{MANAGER}"), "a_closed")


@pytest.mark.parametrize(
    ("version", "newest"),
    [("", None), ("13.20", None), ("14.17", "idle_session_timeout"), ("16.4", "createrole_self_grant")],
)
def test_only_settings_that_the_version_knows_are_given(version, newest):
    options = postgres_options(Limits(), version)

    later = ["idle_session_timeout", "createrole_self_grant", "transaction_timeout"]
    given = [name for name in later if f"-c {name}=" in options]
    assert given == (later[: later.index(newest) + 1] if newest else [])


@pytest.mark.parametrize("kind", MYSQL_FAMILY)
def test_parameters_of_a_mysql_server_decide_nothing_about_what_is_read(make_place, kind):
    place = make_place(kind)
    with place.as_master() as master:
        for number in range(3):
            master.run(f"CREATE USER 'one{number}'@'%' IDENTIFIED BY 'x'")
    expected = set(place.accounts())
    hostile = {
        "sql_select_limit": "1",
        "sql_mode": "'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
        "sql_quote_show_create": "0",
        "wait_timeout": "1",
    }
    with place.as_rdsadmin() as rdsadmin:
        before = {name: rdsadmin.run(f"SELECT @@GLOBAL.{name}")[0][0] for name in hostile}
        for name, value in hostile.items():
            rdsadmin.run(f"SET GLOBAL {name} = {value}")
    try:
        with place.as_master() as session:
            shown = session.run("SELECT @@sql_mode, @@sql_quote_show_create, @@wait_timeout")
        assert set(place.accounts()) == expected
    finally:
        with place.as_rdsadmin() as rdsadmin:
            for name, value in before.items():
                rdsadmin.run(f"SET GLOBAL {name} = {value!r}")
    assert shown == [("STRICT_ALL_TABLES", 1, 900)]
