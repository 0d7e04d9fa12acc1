"""Expired passwords are what a rotation replaces, and what onboarding ends."""

from collections.abc import Callable

import pytest

from rdsiam.engines.logins import AUDITOR, MANAGER, Password
from rdsiam.engines.mysql.rotation import MysqlRotator
from rdsiam.engines.protocols import DesiredState
from rdsiam.errors import ConnectionFailed, Refused
from rdsiam.events.rotate import STEPS
from tests.integration.place import Place, user
from tests.integration.rotation.rotating import Rotating
from tests.kinds import MYSQL_FAMILY, needs_mysql

LIFETIME = {
    "mariadb": """UPDATE mysql.global_priv SET Priv = JSON_SET(Priv, '$.password_last_changed', 86400,
        '$.password_lifetime', 1) WHERE User = '{u}'""",
    "mysql": "UPDATE mysql.user SET password_last_changed = '2020-01-01', password_lifetime = 1 WHERE User = '{u}'",
}


@pytest.fixture(scope="module", params=MYSQL_FAMILY)
def place(make_place, request) -> Place:
    place: Place = make_place(request.param)
    return place


@pytest.fixture(scope="module")
def mysql(make_place) -> Place:
    place: Place = make_place("mysql")
    return place


def run(place: Place, *statements: str) -> None:
    with place.as_rdsadmin() as admin:
        for statement in statements:
            admin.run(statement)


def by_hand(place: Place, name: str) -> None:
    with place.as_master() as master:
        hosts = [row[0] for row in master.run(f"SELECT Host FROM mysql.user WHERE User = '{name}'")]
        for host in hosts:
            master.run(f"ALTER USER {name}@'{host}' PASSWORD EXPIRE")


def by_its_lifetime(place: Place, name: str) -> None:
    run(place, LIFETIME[place.database.engine].format(u=name), "FLUSH PRIVILEGES")


def for_clients_that_can_not_change_it(place: Place, name: str) -> None:
    by_hand(place, name)
    run(place, "SET GLOBAL disconnect_on_expired_password = ON" if place.database.engine == "mariadb" else "SELECT 1")


@pytest.mark.parametrize("expire", [by_hand, by_its_lifetime, for_clients_that_can_not_change_it])
@pytest.mark.parametrize("hosts", [("%",), ("%", "10.1.%")], ids=["an account", "two accounts"])
def test_a_rotation_gives_a_user_whose_password_has_expired_another(place, make_rotating, expire, hosts):
    rotating = make_rotating(place)
    old = rotating.value(rotating.labelled("AWSCURRENT"))
    for host in hosts[1:]:
        run(place, f"CREATE USER {rotating.user}@'{host}' IDENTIFIED BY '{old.password}'")
    expire(place, rotating.user)
    rotating.converge(attempts=1)
    new = rotating.value(rotating.labelled("AWSCURRENT"))
    assert new.password != old.password
    with place.login_by_password(rotating.user, new.password) as client:
        assert len(client.run("SELECT 1")) == 1
    assert not rotating.logs_in(old)


@pytest.mark.parametrize("expire", [by_hand, by_its_lifetime])
def test_a_turn_of_two_users_ends_the_expiry_of_both(place, make_rotating, expire):
    rotating = make_rotating(place, True)
    for _ in range(3):
        expire(place, rotating.user)
        rotating.converge(attempts=1)
        current = rotating.value(rotating.labelled("AWSCURRENT"))
        assert rotating.logs_in(current)


def test_a_password_that_expires_before_it_is_proved_is_not_proved(place, make_rotating):
    rotating = make_rotating(place)
    token = rotating.begin()
    for step in STEPS[:2]:
        rotating.invoke(step, token)
    by_hand(place, rotating.user)
    assert "has expired" in str(rotating.invoke("testSecret", token))
    assert rotating.labelled("AWSCURRENT") != token


def test_an_administrator_whose_password_has_expired_is_named(place):
    run(place, "CREATE USER keeper@'%' IDENTIFIED BY 'old-Password-1'", "ALTER USER keeper@'%' PASSWORD EXPIRE")
    engine = MysqlRotator()
    session = engine.connect(place.database, Password("keeper", "old-Password-1"), None)
    try:
        with pytest.raises(Refused, match="has expired"):
            engine.set_other_password(session, "app", "app_clone", "new-Password-1")
        with pytest.raises(Refused, match="has expired"):
            engine.inspect_other(session, "app")
    finally:
        session.close()


RULES = {
    "needs the current password": "PASSWORD REQUIRE CURRENT",
    "may use no password twice": "PASSWORD HISTORY 5",
    "needs both": "PASSWORD HISTORY 5 PASSWORD REQUIRE CURRENT",
}


@needs_mysql
@pytest.mark.parametrize("rule", RULES)
def test_rules_of_an_account_of_mysql_hold_while_its_password_is_replaced(mysql, make_rotating, rule):
    rotating: Rotating = make_rotating(mysql)
    run(mysql, f"ALTER USER {rotating.user} {RULES[rule]}")
    with_history(mysql, rotating)
    by_hand(mysql, rotating.user)
    rotating.converge(attempts=1)
    assert rotating.logs_in(rotating.value(rotating.labelled("AWSCURRENT")))


def with_history(mysql: Place, rotating: Rotating) -> None:
    """Let the server remember the present password, as it does when it is set under the rule."""
    current, user = rotating.value(rotating.labelled("AWSCURRENT")), rotating.user
    assert current
    run(
        mysql,
        f"ALTER USER {user} IDENTIFIED BY 'Another-password-1'",
        f"DELETE FROM mysql.password_history WHERE User = '{user}'",
        f"ALTER USER {user} IDENTIFIED BY '{current.password}'",
    )


@pytest.mark.parametrize("expire", [by_hand, by_its_lifetime])
def test_an_adopted_user_whose_password_has_expired_logs_in_by_token(place, expire: Callable[[Place, str], None]):
    name = f"adopted_{expire.__name__}"[:30]
    run(place, f"CREATE USER {name}@'%' IDENTIFIED BY 'old-Password-1'")
    expire(place, name)
    adopted = user(name, ("shop", "readonly"), adopt=True)
    _, desired = place.converge(DesiredState((adopted,), dict.fromkeys(place.known, "created")))
    place.known |= set(desired.accounts)
    with place.as_user(name) as client:
        assert len(client.run("SELECT 1")) == 1


# --- logins by token ---

#: MariaDB asks every account for the age of its password, also those that have none.
SERVICE = (MANAGER, AUDITOR)


def grow_old(place: Place, *names: str) -> None:
    """Let passwords be older than the server lets them become."""
    listed = ", ".join(f"'{name}'" for name in names)
    aged = "UPDATE mysql.global_priv SET Priv = JSON_SET(Priv, '$.password_last_changed', 86400)"
    run(place, f"{aged} WHERE User IN ({listed})", "FLUSH PRIVILEGES", "SET GLOBAL default_password_lifetime = 1")


def made_before(place: Place, *names: str) -> None:
    """Let accounts expire as the server's parameter has it, as CREATE USER makes them."""
    for name in names:
        run(place, f"ALTER USER {name}@'%' PASSWORD EXPIRE DEFAULT")


@pytest.fixture
def mariadb(make_place) -> Place:
    place: Place = make_place("mariadb")
    run(place, "CREATE USER old@'%' IDENTIFIED BY 'old-Password-1' PASSWORD EXPIRE INTERVAL 1 DAY")
    run(place, "CREATE USER stranger@'%' IDENTIFIED BY 'old-Password-1' PASSWORD EXPIRE INTERVAL 30 DAY")
    return place


USERS = (user("app", ("shop", "readonly")), user("old", ("shop", "readonly"), adopt=True))


def works(place: Place, name: str) -> None:
    with place.as_user(name, "information_schema") as client:
        assert len(client.run("SELECT 1")) == 1


def test_users_by_token_and_rdsiams_own_never_expire_whatever_the_servers_rule_for_passwords_is(mariadb):
    _, desired = mariadb.converge(DesiredState(USERS, {}))
    grow_old(mariadb, *SERVICE, "app", "old")
    for name in (*SERVICE, "app", "old"):
        works(mariadb, name)
    assert mariadb.converge(desired)[0] == []
    assert "master" not in mariadb.opened
    assert mariadb.audit()["app@%"].iam
    with mariadb.as_rdsadmin() as admin:
        assert "EXPIRE INTERVAL 30 DAY" in admin.run("SHOW CREATE USER stranger@'%'")[0][0]


def test_accounts_that_can_expire_are_freed_of_that_by_the_manager_alone(mariadb):
    _, desired = mariadb.converge(DesiredState(USERS, {}))
    run(mariadb, "ALTER USER app@'%' REQUIRE CIPHER 'TLS_AES_256_GCM_SHA384'")
    made_before(mariadb, *SERVICE, "app", "old")
    statements, _ = mariadb.converge(desired)
    assert {each.target for each in statements} == {*SERVICE, "app", "old"}
    assert "master" not in mariadb.opened
    assert mariadb.converge(desired)[0] == []
    with mariadb.as_rdsadmin() as admin:
        assert "REQUIRE CIPHER" in admin.run("SHOW CREATE USER app@'%'")[0][0]


@pytest.mark.parametrize("ends", ["OFF", "ON"], ids=["may set a password", "may not even connect"])
def test_a_manager_that_has_expired_is_freed_by_the_master_and_all_others_with_it(mariadb, ends):
    _, desired = mariadb.converge(DesiredState(USERS, {}))
    made_before(mariadb, *SERVICE, "app", "old")
    run(mariadb, f"SET GLOBAL disconnect_on_expired_password = {ends}")
    grow_old(mariadb, *SERVICE, "app", "old")
    assert mariadb.remove("app").unreached == ()
    with pytest.raises(ConnectionFailed) as failed:
        mariadb.connect("manager", None)
    assert failed.value.stage == "login"
    mariadb.converge(desired, reader="master")
    for name in (*SERVICE, "app", "old"):
        works(mariadb, name)


# --- PostgreSQL ---


@pytest.fixture(scope="module")
def postgres(make_place) -> Place:
    place: Place = make_place("postgres")
    return place


def test_a_turn_ends_a_valid_until_that_has_passed_and_leaves_one_that_has_not(postgres, make_rotating):
    rotating = make_rotating(postgres, True)
    base = rotating.user
    run(postgres, f"ALTER ROLE {base} VALID UNTIL '2020-01-01'")
    for _ in range(2):
        rotating.converge(attempts=1)
        current = rotating.value(rotating.labelled("AWSCURRENT"))
        assert rotating.logs_in(current)
        run(postgres, f"ALTER ROLE {base}_clone VALID UNTIL '2020-01-01'")
    run(postgres, f"ALTER ROLE {base}_clone VALID UNTIL '2999-01-01'")
    rotating.converge(attempts=1)
    with postgres.as_rdsadmin() as admin:
        ends = admin.run(f"SELECT rolvaliduntil < '3000-01-01' FROM pg_roles WHERE rolname = '{base}_clone'")
    assert ends == [(True,)]


def test_a_single_user_whose_valid_until_has_passed_gets_the_statement_that_ends_it(postgres, make_rotating):
    rotating = make_rotating(postgres)
    run(postgres, f"ALTER ROLE {rotating.user} VALID UNTIL '2020-01-01'")
    token = rotating.begin()
    rotating.invoke("createSecret", token)
    assert "VALID UNTIL" in str(rotating.invoke("setSecret", token))
    run(postgres, f"ALTER ROLE {rotating.user} VALID UNTIL 'infinity'")
    rotating.converge(attempts=1)


def test_a_user_that_logs_in_by_token_needs_no_valid_until(postgres):
    """PostgreSQL's VALID UNTIL is the password's, and a token is none."""
    run(postgres, "CREATE ROLE ended LOGIN PASSWORD 'old-Password-1' VALID UNTIL '2020-01-01'")
    adopted = user("ended", ("shop", "readonly"), adopt=True)
    postgres.converge(DesiredState((adopted,), dict.fromkeys(postgres.known, "created")))
    with postgres.as_user("ended") as client:
        assert client.run("SELECT current_user") == [("ended",)]
