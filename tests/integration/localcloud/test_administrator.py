"""The administrator of PostgreSQL: what RDS's rule gives the members of rds_superuser, and what it doesn't."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from rdsiam.engines.logins import Password
from tests.integration.place import MASTER, MASTER_PASSWORD, Client, Place

MEMBERSHIPS = """SELECT r.rolname, m.rolname, g.rolname, admin_option, inherit_option, set_option FROM pg_auth_members a
JOIN pg_roles r ON r.oid = roleid JOIN pg_roles m ON m.oid = member JOIN pg_roles g ON g.oid = grantor
WHERE '{role}' IN (r.rolname, m.rolname) ORDER BY 1, 2"""


@pytest.fixture(scope="module")
def rds(make_place: Callable[[str], Place]) -> Place:
    place = make_place("postgres")
    assert place.administrator == "rds", "is a C compiler missing?"
    with place.as_rdsadmin() as rdsadmin:
        for statement in (
            "CREATE ROLE replicator REPLICATION LOGIN",
            "CREATE ROLE bypasser BYPASSRLS",
            "CREATE ROLE runner IN ROLE pg_execute_server_program",
            "CREATE ROLE behind IN ROLE runner",
            "CREATE ROLE deputy IN ROLE rdsadmin LOGIN",
        ):
            rdsadmin.run(statement)
    return place


@contextmanager
def undone(client: Client) -> Iterator[Client]:
    client.run("BEGIN")
    try:
        yield client
    finally:
        client.run("ROLLBACK")


def refused(client: Client, statement: str) -> str:
    with undone(client), pytest.raises(psycopg.errors.InsufficientPrivilege) as refusal:
        client.run(statement)
    return str(refusal.value)


def test_the_master_creates_grants_and_drops_roles_without_being_a_member(rds: Place) -> None:
    with rds.as_master() as master, undone(master):
        master.run("CREATE ROLE app LOGIN PASSWORD 'App-Password-1'")
        master.run("CREATE ROLE team")
        assert master.run(MEMBERSHIPS.format(role="app")) == []
        master.run("GRANT team TO app")
        master.run("GRANT rds_iam TO app")
        assert master.run(MEMBERSHIPS.format(role="app")) == [
            ("rds_iam", "app", "rdsadmin", False, True, True),
            ("team", "app", "rdsadmin", False, True, True),
        ]
        master.run("ALTER ROLE app SET search_path = team")
        master.run("ALTER ROLE app IN DATABASE postgres SET role TO team")
        master.run("ALTER ROLE app RENAME TO app2")
        master.run("COMMENT ON ROLE app2 IS 'renamed'")
        master.run("ALTER ROLE app2 NOLOGIN CONNECTION LIMIT 3")
        master.run("REVOKE team FROM app2")
        master.run("DROP ROLE app2, team")
        assert master.run("SELECT 1 FROM pg_roles WHERE rolname IN ('app', 'app2', 'team')") == []


def test_the_master_is_in_rds_superuser_without_admin_option(rds: Place) -> None:
    with rds.as_master() as master:
        assert master.run(MEMBERSHIPS.format(role=MASTER)) == [
            ("rds_superuser", MASTER, "rdsadmin", False, True, True),
        ]


def test_a_member_of_rds_superuser_without_createrole_creates_roles_too(rds: Place) -> None:
    with rds.as_master() as master:
        master.run("CREATE ROLE second LOGIN PASSWORD 'Second-Password-1'")
        master.run("GRANT rds_superuser TO second")
        with rds.login(Password("second", "Second-Password-1")) as second, undone(second):
            second.run("CREATE ROLE third")
            second.run("GRANT third TO second")
        master.run("DROP ROLE second")


def test_current_user_is_the_caller_and_not_rdsadmin(rds: Place) -> None:
    with rds.as_master() as master, undone(master):
        master.run("CREATE ROLE app")
        master.run("GRANT app TO CURRENT_USER")
        assert [row[:3] for row in master.run(MEMBERSHIPS.format(role="app"))] == [("app", MASTER, "rdsadmin")]
        master.run("CREATE ROLE app3 ROLE SESSION_USER")
        assert [row[:3] for row in master.run(MEMBERSHIPS.format(role="app3"))] == [("app3", MASTER, "rdsadmin")]


def test_a_statement_that_is_prepared_or_in_a_function_means_the_user_who_runs_it(rds: Place) -> None:
    with rds.as_master() as master, undone(master):
        master.run("CREATE ROLE team")
        master.run("CREATE ROLE other IN ROLE rds_superuser")
        master.run("GRANT other TO CURRENT_USER")
        master.run(
            "CREATE FUNCTION join_team() RETURNS void LANGUAGE plpgsql AS 'BEGIN GRANT team TO CURRENT_USER; END'"
        )
        master.run("SELECT join_team()")
        master.run("SET ROLE other")
        master.run("SELECT join_team()")
        members = [row[1] for row in master.run(MEMBERSHIPS.format(role="team"))]
        assert members == [MASTER, "other"]


def test_the_rule_holds_for_one_statement_only(rds: Place) -> None:
    with rds.as_master() as master:
        with undone(master), pytest.raises(psycopg.errors.DuplicateObject):
            master.run(f"CREATE ROLE {MASTER}")
        assert master.run("SELECT current_user, session_user") == [(MASTER, MASTER)]
        refused(master, "SELECT * FROM pg_authid")


ESCALATIONS = [
    "CREATE ROLE x SUPERUSER",
    "CREATE ROLE x REPLICATION",
    "CREATE ROLE x BYPASSRLS",
    "CREATE ROLE x IN ROLE rdsadmin",
    "CREATE ROLE x IN ROLE deputy",
    "CREATE ROLE x IN ROLE pg_execute_server_program",
    "ALTER ROLE boss SUPERUSER",
    "ALTER ROLE boss BYPASSRLS",
    "ALTER ROLE boss REPLICATION",
    "ALTER ROLE rdsadmin PASSWORD 'x'",
    "ALTER ROLE rdsadmin SET search_path TO x",
    "ALTER ROLE rdsadmin RENAME TO x",
    "ALTER ROLE deputy PASSWORD 'x'",
    "ALTER ROLE replicator PASSWORD 'x'",
    "ALTER ROLE behind LOGIN PASSWORD 'x'",
    "DROP ROLE rdsadmin",
    "DROP ROLE deputy",
    "DROP ROLE rds_superuser",
    "ALTER ROLE rds_superuser LOGIN",
    "ALTER ROLE rds_iam RENAME TO x",
    "GRANT rdsadmin TO boss",
    "GRANT rdsadmin TO CURRENT_USER",
    "GRANT deputy TO boss",
    "GRANT bypasser TO boss",
    "GRANT replicator TO boss",
    "GRANT runner TO boss",
    "GRANT behind TO boss",
    "GRANT pg_execute_server_program TO boss",
    "GRANT pg_read_server_files TO boss",
    "GRANT pg_write_server_files TO rds_superuser",
    "GRANT rds_iam TO boss GRANTED BY rdsadmin",
    "SET ROLE rdsadmin",
    "SET SESSION AUTHORIZATION rdsadmin",
    "ALTER ROLE boss SET session_preload_libraries = '/tmp/x.so'",
    "ALTER ROLE boss SET log_statement = 'all'",
    "ALTER ROLE boss SET app.placeholder = 'x'",
    "ALTER ROLE ALL SET search_path = x",
    "SELECT rolpassword FROM pg_authid",
    "SELECT passwd FROM pg_shadow",
    "COPY pg_authid TO STDOUT",
    "CREATE VIEW hashes AS SELECT rolpassword FROM pg_authid; SELECT * FROM hashes",
    "UPDATE pg_authid SET rolsuper = true",
    "COPY (SELECT 1) TO PROGRAM 'id'",
    "SELECT pg_read_file('/etc/passwd')",
    "CREATE FUNCTION x() RETURNS int LANGUAGE c AS '/tmp/x.so'",
    "LOAD '/tmp/x.so'",
]


@pytest.mark.parametrize("statement", ESCALATIONS)
def test_the_master_gets_no_more_than_ordinary_roles_have(rds: Place, statement: str) -> None:
    with rds.as_master() as master:
        refused(master, statement)


def test_the_master_changes_no_setting_of_the_server(rds: Place) -> None:
    with rds.as_master() as master, pytest.raises(psycopg.errors.InsufficientPrivilege):
        master.run("ALTER SYSTEM SET shared_preload_libraries = ''")


def test_the_master_takes_nothing_from_rds_superuser(rds: Place) -> None:
    with rds.as_master() as master, undone(master):
        before = master.run(MEMBERSHIPS.format(role="rds_superuser"))
        master.run("REVOKE pg_monitor FROM rds_superuser")  # PostgreSQL warns: the grant is rdsadmin's
        assert master.run(MEMBERSHIPS.format(role="rds_superuser")) == before


def test_the_master_reads_all_tables_as_pg_read_all_data_does(rds: Place) -> None:
    with rds.as_rdsadmin("postgres") as rdsadmin, rds.as_master("postgres") as master:
        rdsadmin.run("CREATE TABLE of_rdsadmin (id int)")
        assert master.run("SELECT * FROM of_rdsadmin") == []
        assert master.run("SELECT rolpassword FROM pg_roles WHERE rolname = 'rdsadmin'") == [("********",)]
        rdsadmin.run("DROP TABLE of_rdsadmin")


@pytest.mark.parametrize(
    "statement", ["GRANT pg_monitor TO app", "GRANT rds_superuser TO app", "GRANT rds_replication TO app"]
)
def test_the_master_passes_on_what_rds_superuser_administers(rds: Place, statement: str) -> None:
    with rds.as_master() as master, undone(master):
        master.run("CREATE ROLE app")
        master.run(statement)


def test_a_role_outside_rds_superuser_needs_admin_option(rds: Place) -> None:
    with rds.as_master() as master:
        master.run("CREATE ROLE plain LOGIN CREATEROLE PASSWORD 'Plain-Password-1'")
        master.run("CREATE ROLE team")
        try:
            with rds.login(Password("plain", "Plain-Password-1")) as plain:
                assert "ADMIN" in refused(plain, "GRANT team TO plain")
                refused(plain, "GRANT rds_iam TO plain")
                with undone(plain):
                    plain.run("CREATE ROLE own")
                    assert plain.run(MEMBERSHIPS.format(role="own")) == [
                        ("own", "plain", "rdsadmin", True, False, False)
                    ]
        finally:
            master.run("DROP ROLE plain, team")


def test_a_role_that_leaves_rds_superuser_loses_the_rule(rds: Place) -> None:
    with rds.as_master() as master, undone(master):
        master.run("CREATE ROLE team")
        master.run("CREATE ROLE app")
        master.run("REVOKE rds_superuser FROM CURRENT_USER")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            master.run("GRANT team TO app")


def test_vanilla_postgresql_makes_a_creator_a_member(make_place: Callable[[str], Place]) -> None:
    place = make_place("postgres-vanilla")
    assert place.administrator == "vanilla"
    with place.as_master() as master, undone(master):
        master.run("CREATE ROLE app")
        assert master.run(MEMBERSHIPS.format(role="app")) == [("app", MASTER, "rdsadmin", True, False, False)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            master.run("GRANT pg_read_server_files TO app")


def test_passwords_of_both_kinds_log_in(rds: Place) -> None:
    with rds.as_rdsadmin() as rdsadmin:
        stored = f"SELECT left(rolpassword, 3) FROM pg_authid WHERE rolname = '{MASTER}'"
        assert rdsadmin.run(stored) == [("SCR",)]
        rds.server.set_parameters({"password_encryption": "md5"})
        try:
            rds.server.set_master_password(MASTER_PASSWORD)
            assert rdsadmin.run(stored) == [("md5",)]
            with rds.login(Password(MASTER, MASTER_PASSWORD, "scram-sha-256,md5")) as by_md5:
                assert by_md5.run("SELECT 1") == [(1,)]
        finally:
            rds.server.set_parameters({"password_encryption": "scram-sha-256"})
            rds.server.set_master_password(MASTER_PASSWORD)
    with rds.as_master() as master:
        assert master.run("SELECT 1") == [(1,)]
