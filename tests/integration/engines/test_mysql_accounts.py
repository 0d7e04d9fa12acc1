"""Accounts of MySQL that others made: they lock themselves, need two factors, are definers; a real server."""

import itertools
from dataclasses import replace

import pymysql
import pytest

from rdsiam.engines.logins import AUDITOR, MANAGER, Password
from rdsiam.engines.migration import Observation
from rdsiam.engines.mysql import privileges
from rdsiam.engines.mysql.migration import MysqlMigrator
from rdsiam.engines.protocols import DesiredState, Sessions
from rdsiam.errors import ConnectionFailed, Refused
from rdsiam.migration.observation import has_logged_in
from rdsiam.state.migrations import QuietPeriod
from tests.integration.place import Place, user
from tests.kinds import MYSQL_FAMILY

NUMBERS = itertools.count()
PASSWORD = "old-Password-1"


@pytest.fixture(scope="module")
def place(make_place) -> Place:
    place: Place = make_place("mysql")
    _, desired = place.converge(DesiredState((), {}))
    place.known |= set(desired.accounts)
    return place


@pytest.fixture
def name() -> str:
    return f"user{next(NUMBERS)}"


def adopting(place: Place, name: str) -> DesiredState:
    return DesiredState((user(name, ("shop", "readonly"), adopt=True),), dict.fromkeys(place.known, "created"))


def refusal(place: Place, name: str, password: str) -> str | None:
    """Return the code with which the server refuses a login."""
    with pytest.raises(ConnectionFailed) as failed:
        place.engine.connect(place.database, Password(name, password), None)
    return failed.value.server_code


# --- failed logins ---


def test_an_adopted_user_is_not_locked_by_the_proof_that_it_refuses_passwords(place, name):
    with place.as_master() as master:
        master.run(
            f"CREATE USER {name} IDENTIFIED BY '{PASSWORD}' FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME UNBOUNDED"
        )
    _, desired = place.converge(adopting(place, name))
    for _ in range(3):
        assert place.engine.refuses_passwords(place.database, name, None)
    place.as_user(name).__exit__()
    assert place.converge(desired)[0] == []


def test_a_managed_user_that_strangers_can_lock_is_freed_of_that(place, name):
    _, desired = place.converge(adopting(place, name))
    with place.as_master() as master:
        master.run(f"ALTER USER {name} FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME 1")
    assert refusal(place, name, "of a stranger") == "3955"
    assert place.engine.refuses_passwords(place.database, name, None), "it refuses them, whatever it says"
    with pytest.raises(ConnectionFailed, match="blocked"):
        place.as_user(name)
    statements, desired = place.converge(desired)
    assert [(each.kind, each.target) for each in statements] == [("adopt-user", name)]
    place.as_user(name).__exit__()
    assert place.converge(desired)[0] == []


def test_a_user_with_a_password_that_works_does_not_refuse_passwords(place, name, monkeypatch):
    with place.as_master() as master:
        master.run(f"CREATE USER {name} IDENTIFIED BY '{PASSWORD}'")
    monkeypatch.setattr("rdsiam.engines.mysql.engine.secrets.token_urlsafe", lambda _: PASSWORD)
    assert not place.engine.refuses_passwords(place.database, name, None)


# --- factors ---


@pytest.mark.parametrize("factors", [2, 3])
def test_an_adopted_user_needs_no_further_factor(place, name, factors):
    second = " AND IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'" * (factors - 1)
    with place.as_master() as master:
        master.run(f"CREATE USER {name} IDENTIFIED BY '{PASSWORD}'{second}")
    statements, desired = place.converge(adopting(place, name))
    assert [each.kind for each in statements] == ["adopt-user", "adopt-user", "grant"]
    place.as_user(name).__exit__()
    assert place.converge(desired)[0] == []


# --- certificates ---


@pytest.mark.parametrize("kind", MYSQL_FAMILY)
def test_an_adopted_user_needs_no_client_certificate_and_keeps_its_cipher(make_place, kind, name):
    place = make_place(kind)
    _, desired = place.converge(DesiredState((), {}))
    with place.as_master() as master:
        cipher = f"CIPHER '{dict(master.run("SHOW STATUS LIKE 'Ssl_cipher'"))['Ssl_cipher']}'"
        requirements = ("X509", "SUBJECT '/CN=app'", f"ISSUER '/CN=ca' AND {cipher}", cipher)
        names = [f"{name}_{number}" for number in range(len(requirements))]
        for each, requirement in zip(names, requirements, strict=True):
            master.run(f"CREATE USER {each} IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE {requirement}")
    users = tuple(user(each, ("shop", "readonly"), adopt=True) for each in names)
    statements, desired = place.converge(replace(desired, users=users))
    changed = [each.target for each in statements if each.kind == "adopt-user" and "REQUIRE" in each.statement]
    assert changed == names[:3]
    for each in names[:3]:
        place.as_user(each).__exit__()
    assert place.converge(desired)[0] == []
    with place.as_rdsadmin() as admin:
        assert cipher in str(admin.run(f"SHOW CREATE USER {names[3]}"))


# --- restrictions and roles ---


@pytest.mark.parametrize(
    ("rights", "declared"),
    [
        (["GRANT SELECT ON *.* TO {u}", "REVOKE SELECT ON shop.* FROM {u}"], "readonly"),
        (["GRANT SELECT, INSERT ON *.* TO {u}", "REVOKE SELECT, INSERT ON shop.* FROM {u}"], ("SELECT",)),
        (["GRANT SELECT, UPDATE ON *.* TO {u}", "REVOKE UPDATE ON shop.* FROM {u}"], "readwrite"),
    ],
)
def test_a_declared_privilege_that_an_adopted_user_is_denied_on_one_schema_is_granted_at_once(
    place, name, rights, declared
):
    with place.as_master() as master:
        master.run(f"CREATE USER {name} IDENTIFIED BY '{PASSWORD}'")
        for statement in rights:
            master.run(statement.format(u=name))
    _, desired = place.converge(
        DesiredState((user(name, ("shop", declared), adopt=True),), dict.fromkeys(place.known, "created"))
    )
    assert place.converge(desired)[0] == []
    with place.as_master() as master:
        on_shop = [grant for [grant] in master.run(f"SHOW GRANTS FOR {name}") if "`shop`" in grant]
    given = [grant.partition(" ON ")[0] for grant in on_shop if grant.startswith("GRANT")]
    kept = [grant.partition(" ON ")[0] for grant in on_shop if grant.startswith("REVOKE")]
    assert len(given) == 1
    assert set(privileges.of(declared)) == set(given[0].removeprefix("GRANT ").split(", "))
    assert kept == (["REVOKE INSERT"] if declared == ("SELECT",) else [])


@pytest.mark.parametrize("through", ["", "_middle"], ids=["direct", "through another role"])
def test_an_administrator_by_a_role_keeps_its_password(place, name, through):
    with place.as_rdsadmin() as admin:
        admin.run(f"CREATE USER {name} IDENTIFIED BY '{PASSWORD}'")
        if through:
            admin.run(f"CREATE ROLE {name}{through}")
            admin.run(f"GRANT rds_superuser_role TO {name}{through}")
        admin.run(f"GRANT {name + through if through else 'rds_superuser_role'} TO {name}")
    sessions = Sessions(place.connect, "manager")
    try:
        snapshot = place.engine.inspect(sessions, place.database, DesiredState((), {}))
        assert MysqlMigrator().login_state(snapshot, name).keep_reason == f"{name} is an administrator"
        assert MysqlMigrator().login_state(snapshot, AUDITOR).keep_reason
        assert MysqlMigrator().login_state(snapshot, f"{name}x").keep_reason == ""
    finally:
        sessions.close()


# --- definers ---


@pytest.mark.parametrize(
    "definition",
    [
        "VIEW shop.{u}_object AS SELECT 1",
        "PROCEDURE shop.{u}_object() SELECT 1",
        "FUNCTION shop.{u}_object() RETURNS int DETERMINISTIC RETURN 1",
        "EVENT shop.{u}_object ON SCHEDULE EVERY 1 YEAR DISABLE DO SELECT 1",
        "TRIGGER shop.{u}_object BEFORE INSERT ON shop.triggering FOR EACH ROW SET @x = 1",
    ],
    ids=lambda text: text.split()[0],
)
def test_a_user_that_is_a_definer_before_it_exists_is_made_by_the_master(place, name, definition):
    with place.as_master() as master:
        master.run("CREATE TABLE IF NOT EXISTS shop.triggering (id int)")
        master.run(f"CREATE DEFINER={name}@'%' {definition.format(u=name)}")
    other = user(f"{name}_other", ("shop", "readonly"))
    desired = DesiredState((user(name, ("shop", "readonly")), other), dict.fromkeys(place.known, "created"))
    statements, desired = place.converge(desired)
    assert [(each.target, each.authority) for each in statements if each.kind == "create-user"] == [
        (name, "master"),
        (other.name, "manager"),
    ]
    assert sorted(place.opened) == ["manager", "master"]
    place.as_user(name).__exit__()
    again, _ = place.converge(desired)
    assert again == []
    assert place.opened == ["manager"]


def test_a_definer_whose_name_has_an_at_sign_is_made_by_the_master(place, name):
    name = f"{name}@example.com"
    with place.as_master() as master:
        master.run(f"CREATE DEFINER='{name}'@'%' VIEW shop.`{name}` AS SELECT 1")
    desired = DesiredState((user(name, ("shop", "readonly")),), dict.fromkeys(place.known, "created"))
    statements, desired = place.converge(desired)
    assert [each.authority for each in statements if each.kind == "create-user"] == ["master"]
    place.as_user(name).__exit__()
    assert place.converge(desired)[0] == []


def test_a_successor_that_is_a_definer_at_one_host_is_made_there_by_the_master(place, name):
    with place.as_master() as master:
        for host in ("%", "10.%"):
            master.run(f"CREATE USER {name}@'{host}' IDENTIFIED BY '{PASSWORD}'")
            master.run(f"GRANT SELECT ON shop.* TO {name}@'{host}'")
        master.run(f"CREATE DEFINER={name}_iam@'10.%' VIEW shop.{name}_view AS SELECT 1")
    successor = replace(user(f"{name}_iam"), replaces=name)
    statements, desired = place.converge(DesiredState((successor,), dict.fromkeys(place.known, "created")))
    created = [(each.statement.split("'")[3], each.authority) for each in statements if each.kind == "create-user"]
    assert created == [("%", "manager"), ("10.%", "master")]
    assert place.converge(desired)[0] == []
    assert place.opened == ["manager"]


def test_a_copy_of_a_user_that_locks_itself_is_taken_over(place, name):
    _, desired = place.converge(adopting(place, name))
    with place.as_master() as master:
        master.run(f"ALTER USER {name} FAILED_LOGIN_ATTEMPTS 5 PASSWORD_LOCK_TIME 1")
    copy = DesiredState((user(name, ("shop", "readonly")),), {})
    sessions = Sessions(place.connect, "manager")
    try:
        snapshot = place.engine.inspect(sessions, place.database, copy)
        taken = place.engine.inherited_ownership(snapshot, copy)
        assert name in taken
        statements = place.engine.difference(
            snapshot, replace(copy, accounts=taken | dict.fromkeys(place.known, "created"))
        )
    finally:
        sessions.close()
    assert ("adopt-user", name) in [(each.kind, each.target) for each in statements]
    place.converge(desired)


def test_a_definer_of_a_similar_name_needs_no_master(place, name):
    with place.as_master() as master:
        master.run(f"CREATE DEFINER={name}@'10.%' VIEW shop.{name}_view AS SELECT 1")
        master.run(f"CREATE DEFINER={name}x@'%' VIEW shop.{name}_other AS SELECT 1")
    desired = DesiredState((user(name, ("shop", "readonly")),), dict.fromkeys(place.known, "created"))
    place.converge(desired)
    assert place.opened == ["manager"]


# --- counting of statements ---


def observe(place: Place, name: str) -> Observation:
    session = place.connect("manager", None)
    try:
        return MysqlMigrator().observe(session, name, f"{name}_iam")
    finally:
        session.close()


def test_failed_logins_do_not_count_and_a_login_between_two_observations_counts(place, name):
    with place.as_master() as master:
        master.run(f"CREATE USER {name} IDENTIFIED BY '{PASSWORD}'")
    before = observe(place, name)
    assert before.statements == 0
    period = QuietPeriod(3600, "2026-01-01T00:00:00Z", statements=before.statements)
    for _ in range(3):
        assert refusal(place, name, "of a stranger") == "1045"
    with place.as_master() as master:
        master.run(f"ALTER USER {name} ACCOUNT LOCK")
        assert refusal(place, name, PASSWORD) == "3118"
        master.run(f"ALTER USER {name} ACCOUNT UNLOCK")
    assert not has_logged_in(period, observe(place, name))
    with pymysql.connect(
        host="localhost", port=place.server.address.port, user=name, password=PASSWORD, autocommit=None
    ):
        pass
    now = observe(place, name)
    assert now.clients == ()
    assert has_logged_in(period, now)
    later = replace(period, statements=now.statements)
    assert not has_logged_in(later, observe(place, name))


def test_a_session_that_is_open_is_observed(place, name):
    with place.as_master() as master:
        master.run(f"CREATE USER {name} IDENTIFIED BY '{PASSWORD}'")
        master.run(f"CREATE USER {name.upper()} IDENTIFIED BY '{PASSWORD}'")
    with place.login_by_password(name.upper(), PASSWORD):
        assert observe(place, name).clients == ()
    with place.login_by_password(name, PASSWORD):
        assert [client.sessions for client in observe(place, name).clients] == [1]


# --- back to a password ---


@pytest.mark.parametrize("kind", MYSQL_FAMILY)
def test_the_statement_that_restores_a_password_works(make_place, kind, name):
    place = make_place(kind)
    place.converge(DesiredState((), {}))
    with place.as_master() as master:
        master.run(f"CREATE USER {name} IDENTIFIED BY '{PASSWORD}'")
    in_place = replace(user(name, adopt=True), replaces=name)
    _, desired = place.converge(DesiredState((in_place,), {MANAGER: "created", AUDITOR: "created"}))
    sessions = Sessions(place.connect, "manager")
    try:
        with pytest.raises(Refused) as refused:
            MysqlMigrator().revert_in_place(place.engine.inspect(sessions, place.database, desired), name, {})
    finally:
        sessions.close()
    statement = refused.value.remedy.partition(": ")[2]
    assert statement.startswith("ALTER USER ")
    with place.as_master() as master:
        master.run(statement.replace("…", "'new-Password-1'"))
    place.login_by_password(name, "new-Password-1").__exit__()
    with pytest.raises(ConnectionFailed):
        place.as_user(name)
