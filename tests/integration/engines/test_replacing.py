"""A user that replaces another one may do all that the other may; both engines, real servers."""

import itertools
from dataclasses import replace

import pytest

from rdsiam.access.users import DeclaredUser
from rdsiam.engines.logins import Password
from rdsiam.engines.protocols import DesiredState
from rdsiam.errors import Refused
from tests.integration.place import DENIED, Place, user
from tests.kinds import MYSQL, MYSQL_FAMILY, MYSQL_NO_PARTIAL, POSTGRES, VANILLA

# test_rights.py and test_rights_by_hand.py show what such an administrator may do.
pytestmark = pytest.mark.exhaustive_on("vanilla")

NUMBERS = itertools.count()
PASSWORD = "Password-1"


@pytest.fixture(scope="module", params=[*POSTGRES, *MYSQL_FAMILY])
def place(make_place, request) -> Place:
    place: Place = make_place(request.param)
    _, desired = place.converge(DesiredState((user("first", ("shop", "readonly")),), {}))
    place.known |= set(desired.accounts) - {"first"}
    return place


@pytest.fixture(scope="module")
def postgres(place) -> bool:
    return place.database.engine == "postgres"


@pytest.fixture
def app(place, postgres) -> str:
    """Return a user with a password that owns a table, as applications have it."""
    name = f"app{next(NUMBERS)}"
    with place.as_master() as master:
        if postgres:
            master.run(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
            master.run(f"GRANT CREATE, USAGE ON SCHEMA public TO {name}")
        else:
            master.run(f"CREATE USER {name}@'%' IDENTIFIED BY '{PASSWORD}'")
            master.run(f"GRANT SELECT, INSERT, CREATE, ALTER, DROP, INDEX ON shop.* TO {name}@'%'")
    with as_app(place, name) as session:
        session.run(f"CREATE TABLE of_{name} (id int)")
    return name


def as_app(place: Place, name: str):
    return place.login(Password(name, PASSWORD))


def successor(name: str, of: str | None = None) -> DeclaredUser:
    return DeclaredUser(name, (), (), (), adopt=name == of, replaces=of)


def desired(place: Place, *users: DeclaredUser) -> DesiredState:
    return DesiredState(users, dict.fromkeys(place.known, "created"))


def test_a_successor_has_the_rights_of_its_predecessor_which_owns_its_objects(place, app):
    new = f"{app}_iam"
    _, after = place.converge(desired(place, successor(new, app)))
    with place.as_user(new) as session, as_app(place, app) as old:
        session.run(f"INSERT INTO of_{app} VALUES (1)")
        session.run(f"ALTER TABLE of_{app} ADD COLUMN more int")
        session.run(f"CREATE TABLE by_{app} (id int)")
        old.run(f"ALTER TABLE by_{app} ADD COLUMN more int")
        session.run(f"DROP TABLE by_{app}")
    statements, _ = place.converge(after)
    assert statements == []
    assert "master" not in place.opened


def test_a_successor_gets_what_its_predecessor_gets_later(place, app, postgres):
    new = f"{app}_iam"
    with place.as_master() as master:
        master.run(f"CREATE TABLE later_{app} (id int)")
        if not postgres:
            master.run("CREATE DATABASE IF NOT EXISTS stock")
        _, after = place.converge(desired(place, successor(new, app)))
        if postgres:
            master.run(f"GRANT SELECT ON later_{app} TO {app}")
        else:
            master.run(f"GRANT SELECT (id) ON shop.later_{app} TO {app}@'%'")
            master.run(f"GRANT UPDATE ON stock.* TO {app}@'%'")
    statements, after = place.converge(after)
    assert [s.kind for s in statements] == ([] if postgres else ["grant", "grant"])
    with place.as_user(new) as session:
        session.run(f"SELECT id FROM later_{app}")
    if not postgres:
        with place.as_master() as master:
            master.run(f"REVOKE UPDATE ON stock.* FROM {app}@'%'")
        assert [s.kind for s in place.converge(after)[0]] == ["revoke"]
    assert place.converge(after)[0] == []


def test_the_other_keeps_its_password(place, app):
    place.converge(desired(place, successor(f"{app}_iam", app)))
    as_app(place, app).__exit__()


@pytest.mark.parametrize("place", POSTGRES, indirect=True)  # accounts of MySQL have no settings
def test_settings_of_the_predecessor_apply_to_the_successor(place, app, postgres):
    with place.as_master() as master:
        master.run(f'ALTER ROLE {app} SET search_path TO "$user", \'odd, "name\', public')
        master.run(f"ALTER ROLE {app} IN DATABASE shop SET statement_timeout TO '7min'")
    _, after = place.converge(desired(place, successor(f"{app}_iam", app)))
    assert place.converge(after)[0] == []
    with place.as_rdsadmin() as admin:
        settings = f"SELECT setconfig FROM pg_db_role_setting WHERE setrole = '{app}'::regrole ORDER BY setdatabase"
        of_app = admin.run(settings)
        of_successor = admin.run(settings.replace(app, f"{app}_iam"))
    assert of_successor == [([*of_app[0][0], f"role={app}"],), *of_app[1:]] or of_successor == [
        ([f"role={app}", *of_app[0][0]],),
        *of_app[1:],
    ]


@pytest.mark.parametrize("place", POSTGRES, indirect=True)  # accounts of MySQL act as nobody else
@pytest.mark.parametrize("reset", ["RESET ALL", "DISCARD ALL", "RESET ROLE", "SET SESSION AUTHORIZATION DEFAULT"])
def test_resets_by_pools_leave_the_successor_acting_as_its_predecessor(place, app, postgres, reset):
    new = f"{app}_iam"
    place.converge(desired(place, successor(new, app)))
    with place.as_user(new) as session:
        session.run(reset)
        assert session.run("SELECT current_user") == [(app,)]


@pytest.mark.parametrize("place", POSTGRES, indirect=True)  # MySQL's difference of rights covers it
def test_a_successor_with_privileges_of_its_own_leaves_its_predecessor(place, app, postgres):
    new = f"{app}_iam"
    _, after = place.converge(desired(place, successor(new, app)))
    _, after = place.converge(replace(after, users=(user(new, ("shop", "readonly")),)))
    with place.as_user(new) as session:
        assert session.run("SELECT current_user")[0][0] == new
        with pytest.raises(DENIED):
            session.run(f"ALTER TABLE of_{app} ADD COLUMN more int")
    assert place.converge(after)[0] == []


def test_a_user_that_is_changed_in_place_keeps_its_rights(place, app):
    _, after = place.converge(desired(place, successor(app, app)))
    with place.as_user(app) as session:
        session.run(f"ALTER TABLE of_{app} ADD COLUMN more int")
    assert after.accounts[app] == "adopted"
    assert place.converge(after)[0] == []


def test_a_user_that_is_not_there_is_refused(place):
    with pytest.raises(Refused, match=r"no (role|account) nobody"):
        place.converge(desired(place, successor("somebody", "nobody")))


def test_an_administrators_rights_are_given_to_nobody(place, app, postgres):
    with place.as_master() as master:
        master.run(f"ALTER ROLE {app} CREATEROLE" if postgres else f"GRANT PROCESS ON *.* TO {app}@'%'")
    with pytest.raises(Refused, match=r"administrator|on everything"):
        place.converge(desired(place, successor(f"{app}_iam", app)))


@pytest.mark.parametrize("place", VANILLA, indirect=True)  # where only ADMIN OPTION counts
def test_a_predecessor_that_only_another_administrator_may_pass_on_is_named_with_the_remedy(place, postgres):
    name = f"app{next(NUMBERS)}"
    with place.as_rdsadmin() as admin:
        admin.run(f"CREATE ROLE {name} LOGIN")
    _, after = place.converge(desired(place, successor(f"{name}_iam", name)))
    (part,) = place.denied
    assert part.what == f"{name}_iam, which replaces {name}"
    remedy = f'GRANT "{name}" TO "boss" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE'
    assert remedy in part.remedy
    with place.as_rdsadmin() as admin:
        admin.run(remedy)
    place.converge(after)
    assert place.denied == []
    assert place.converge(after)[0] == []


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)  # MySQL's grants
@pytest.mark.parametrize(
    ("grant", "held"),
    [
        ("GRANT SELECT ON shop.* TO {u} WITH GRANT OPTION", "GRANT OPTION on shop"),
        ("GRANT SELECT ON mysql.* TO {u}", "server's own schemas"),
        ("GRANT SELECT ON mysql.user TO {u}", "server's own schemas"),
        ("GRANT SELECT (id) ON shop.granted TO {u} WITH GRANT OPTION", "GRANT OPTION on shop"),
        ("GRANT USAGE ON shop.* TO {u} WITH GRANT OPTION", "GRANT OPTION on shop"),
        ("GRANT passed TO {u} WITH ADMIN OPTION", "ADMIN OPTION on the role passed"),
    ],
)
def test_rights_that_access_yaml_gives_nobody_are_refused(place, grant, held):
    assert held in refusal_of_a_successor(place, grant)


@pytest.mark.parametrize("place", ["mariadb", MYSQL_NO_PARTIAL], indirect=True)
def test_rights_on_a_pattern_that_covers_the_servers_schemas_are_refused(place):
    assert "server's own schemas" in refusal_of_a_successor(place, "GRANT SELECT ON `%`.* TO {u}")


def refusal_of_a_successor(place: Place, grant: str) -> str:
    """Return the refusal to replace a user who has a grant."""
    name = f"app{next(NUMBERS)}"
    with place.as_rdsadmin("mysql") as admin:
        admin.run("CREATE TABLE IF NOT EXISTS shop.granted (id int)")
        admin.run("CREATE ROLE IF NOT EXISTS passed")
        admin.run(f"CREATE USER {name}@'%' IDENTIFIED BY '{PASSWORD}'")
        admin.run(grant.format(u=f"{name}@'%'"))
    with pytest.raises(Refused) as refused:
        place.converge(desired(place, successor(f"{name}_iam", name)))
    return str(refused.value)


DROPPED = {
    "table": (["GRANT SELECT, INSERT ON shop.{t} TO {u}"], "DROP TABLE shop.{t}"),
    "renamed table": (["GRANT SELECT ON shop.{t} TO {u}", "GRANT UPDATE (b) ON shop.{t} TO {u}"],
                      "RENAME TABLE shop.{t} TO shop.{t}_now"),
    "column": (["GRANT SELECT (a, B) ON shop.{t} TO {u}"], "ALTER TABLE shop.{t} DROP COLUMN b"),
    "schema": (["GRANT SELECT ON gone_{t}.t TO {u}", "GRANT UPDATE (a) ON gone_{t}.t TO {u}",
                "GRANT EXECUTE ON FUNCTION gone_{t}.f TO {u}"], "DROP DATABASE gone_{t}"),
}  # fmt: skip


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)  # which keep privileges on what is dropped
@pytest.mark.parametrize("case", DROPPED)
def test_privileges_on_what_was_dropped_are_in_nobodys_way(place, app, case):
    grants, drop = DROPPED[case]
    table = f"t_{app}"
    with place.as_master() as master:
        master.run(f"CREATE TABLE shop.{table} (a int, b int)")
        master.run(f"CREATE DATABASE gone_{table}")
        master.run(f"CREATE TABLE gone_{table}.t (a int)")
        master.run(f"CREATE FUNCTION gone_{table}.f() RETURNS int DETERMINISTIC RETURN 1")
        for grant in (*grants, f"GRANT CREATE, INDEX ON shop.{table}_future TO {{u}}"):
            master.run(grant.format(t=table, u=app))
        master.run(drop.format(t=table))
    _, after = place.converge(desired(place, successor(f"{app}_iam", app)))
    assert place.converge(after)[0] == []
    with place.as_user(f"{app}_iam") as session:
        session.run(f"CREATE TABLE {table}_future (id int)")
        session.run(f"CREATE INDEX id ON {table}_future (id)")
        if case == "column":
            session.run(f"SELECT a FROM {table}")
    with place.as_master() as master:
        master.run(f"CREATE TABLE IF NOT EXISTS shop.{table} (a int)")
    later, after = place.converge(after)
    assert {each.kind for each in later} == ({"grant"} if "table" in case else set())
    assert place.converge(after)[0] == []


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)  # MySQL drops it
def test_a_default_role_that_was_dropped_is_left_out(place, app):
    with place.as_rdsadmin("mysql") as admin:
        admin.run("CREATE ROLE dropped")
        admin.run(f"GRANT dropped TO {app}")
        admin.run(f"SET DEFAULT ROLE dropped FOR {app}")
        admin.run("DROP ROLE dropped")
    _, after = place.converge(desired(place, successor(f"{app}_iam", app)))
    place.as_user(f"{app}_iam").__exit__()
    assert place.converge(after)[0] == []


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)  # whose information_schema ignores case and accents
@pytest.mark.parametrize("namesake", [str.upper, lambda name: name.replace("a", "ä")], ids=["case", "accent"])
def test_a_successor_gets_no_rights_of_a_user_with_a_similar_name(place, app, namesake):
    other = namesake(app)
    with place.as_master() as master:
        master.run("CREATE DATABASE IF NOT EXISTS stock")
        master.run(f"CREATE USER '{other}' IDENTIFIED BY '{PASSWORD}'")
        master.run(f"GRANT DELETE ON shop.* TO '{other}'")
        master.run(f"GRANT UPDATE ON stock.* TO '{other}'")
        master.run(f"GRANT UPDATE (id) ON shop.of_{app} TO '{other}'")
    _, after = place.converge(desired(place, successor(f"{app}_iam", app)))
    with place.as_user(f"{app}_iam") as session:
        for statement in (f"DELETE FROM of_{app}", f"UPDATE of_{app} SET id = 1", "UPDATE stock.things SET id = 1"):
            with pytest.raises(DENIED, match="denied"):
                session.run(statement)
    assert place.converge(after)[0] == []


@pytest.mark.parametrize("place", [MYSQL], indirect=True)
def test_with_partial_revokes_a_percent_sign_is_the_name_of_a_schema(place, app):
    with place.as_master() as master:
        master.run(f"GRANT UPDATE ON `%`.* TO {app}@'%'")
    _, after = place.converge(desired(place, successor(f"{app}_iam", app)))
    assert place.converge(after)[0] == []
    with place.as_master() as master:
        assert any("ON `%`.*" in grant for (grant,) in master.run(f"SHOW GRANTS FOR {app}_iam"))


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)  # MySQL's accounts
def test_every_host_pattern_routine_and_role_is_applied(place, postgres):
    name = f"app{next(NUMBERS)}"
    new = f"{name}_iam"
    with place.as_master() as master:
        for host in ("%", "10.%"):
            master.run(f"CREATE USER {name}@'{host}' IDENTIFIED BY '{PASSWORD}'")
        master.run(f"GRANT SELECT ON shop.* TO {name}@'%'")
        master.run(f"GRANT INSERT, DELETE ON shop.* TO {name}@'10.%'")
        master.run("CREATE PROCEDURE IF NOT EXISTS shop.nothing() SELECT 1")
        master.run(f"GRANT EXECUTE ON PROCEDURE shop.nothing TO {name}@'%'")
        master.run("CREATE ROLE IF NOT EXISTS clerks")
        master.run("GRANT UPDATE ON shop.* TO clerks")
        master.run(f"GRANT clerks TO {name}@'%'")
    with place.as_rdsadmin("mysql") as admin:
        admin.run(f"SET DEFAULT ROLE clerks {'FOR' if place.database.engine == 'mariadb' else 'TO'} {name}@'%'")
    _, after = place.converge(desired(place, successor(new, name)))
    assert place.converge(after)[0] == []
    with place.as_rdsadmin("mysql") as admin:
        for host in ("%", "10.%"):
            old = [row[0] for row in admin.run(f"SHOW GRANTS FOR {name}@'{host}'") if "USAGE" not in row[0]]
            now = [row[0] for row in admin.run(f"SHOW GRANTS FOR {new}@'{host}'") if "USAGE" not in row[0]]
            assert now == [line.replace(f"`{name}`", f"`{new}`") for line in old]
    _, gone = place.converge(replace(after, users=()))
    assert place.converge(gone)[0] == []
