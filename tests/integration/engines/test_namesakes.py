"""Roles and accounts with the name of a declared user: beside it, or named in the refusal."""

from dataclasses import replace

import pytest

from rdsiam.engines.protocols import DesiredState
from rdsiam.errors import Refused
from tests.integration.place import Place, user
from tests.kinds import MYSQL_FAMILY, needs_mysql


def declared(place: Place, name: str, adopt: bool = False) -> DesiredState:
    return DesiredState((user(name, ("shop", "readonly"), adopt=adopt),), dict.fromkeys(place.known, "created"))


def converge(place: Place, desired: DesiredState) -> DesiredState:
    _, desired = place.converge(desired)
    place.known |= set(desired.accounts)
    return desired


def refusal(place: Place, name: str, adopt: bool = False) -> Refused:
    with pytest.raises(Refused) as refused:
        place.converge(declared(place, name, adopt))
    assert refused.value.code == "name-taken"
    return refused.value


# --- MySQL and MariaDB ---


@pytest.fixture(scope="module")
def mariadb(make_place) -> Place:
    place: Place = make_place("mariadb")
    return place


@pytest.mark.parametrize("adopt", [False, True])
def test_on_mariadb_a_user_is_created_beside_a_role_of_its_name(mariadb, adopt):
    name = f"reporting{int(adopt)}"
    with mariadb.as_rdsadmin() as admin:
        admin.run(f"CREATE ROLE {name}")
        admin.run(f"GRANT SELECT ON shop.* TO {name}")
        admin.run(f"CREATE USER ann{int(adopt)}")
        admin.run(f"GRANT {name} TO ann{int(adopt)}")
        before = admin.run(f"SHOW GRANTS FOR {name}"), admin.run(f"SHOW GRANTS FOR ann{int(adopt)}")
    desired = converge(mariadb, declared(mariadb, name, adopt))
    assert mariadb.converge(desired)[0] == []
    with mariadb.as_user(name) as client:
        assert client.run("SELECT CURRENT_USER(), CURRENT_ROLE()")[0] == (f"{name}@%", None)
        client.run("SHOW TABLES IN shop")
    mariadb.converge(DesiredState((), desired.accounts))
    with pytest.raises(Exception, match="locked"):
        mariadb.as_user(name)
    assert mariadb.remove(name).unreached == ()
    with mariadb.as_rdsadmin() as admin:
        assert (admin.run(f"SHOW GRANTS FOR {name}"), admin.run(f"SHOW GRANTS FOR ann{int(adopt)}")) == before


def test_on_mariadb_a_successor_of_a_user_with_a_roles_name_has_the_users_rights_only(mariadb):
    with mariadb.as_rdsadmin() as admin:
        admin.run("CREATE ROLE batch")
        admin.run("GRANT SELECT, DELETE ON shop.* TO batch")
        admin.run("CREATE USER batch@'%' IDENTIFIED BY 'old-Password-1'")
        admin.run("GRANT SELECT ON shop.* TO batch@'%'")
    successor = replace(user("batch_iam"), replaces="batch")
    converge(mariadb, DesiredState((successor,), dict.fromkeys(mariadb.known, "created")))
    with mariadb.as_rdsadmin() as admin:
        text = str(admin.run("SHOW GRANTS FOR batch_iam@'%'"))
    assert "GRANT SELECT ON `shop`.*" in text
    assert "DELETE" not in text


@needs_mysql
@pytest.mark.parametrize("adopt", [False, True])
def test_on_mysql_a_role_of_the_name_is_named_with_its_members_and_never_adopted(make_place, adopt):
    place: Place = make_place("mysql")
    with place.as_rdsadmin() as admin:
        for statement in ("CREATE ROLE reporting", "CREATE USER ann", "CREATE USER bob", "GRANT reporting TO ann, bob"):
            admin.run(statement)
    refused = refusal(place, "reporting", adopt)
    assert "a role 'reporting'@'%', granted to 'ann'@'%', 'bob'@'%', exists" in str(refused)
    assert "adopt: true" not in str(refused)


@needs_mysql
def test_on_mysql_an_account_that_others_have_as_a_role_is_not_adopted_until_they_have_left(make_place):
    """MySQL grants any account as a role: its holders would have what access.yaml gives to the user alone."""
    place: Place = make_place("mysql")
    with place.as_rdsadmin() as admin:
        for statement in (
            "CREATE USER etl IDENTIFIED BY 'old-Password-1'",
            "CREATE USER night IDENTIFIED BY 'old-Password-1'",
            "CREATE USER ann IDENTIFIED BY 'old-Password-1' DEFAULT ROLE etl, night",
        ):
            admin.run(statement)
    refused = refusal(place, "etl", adopt=True)
    assert "an account 'etl'@'%', granted to 'ann'@'%', exists" in refused.problem
    remedy = refused.remedy.removeprefix("run: ").partition(";")[0]
    assert remedy == "REVOKE 'etl'@'%' FROM 'ann'@'%'"
    # It may change only how it logs in, which gives nobody anything.
    with_old_rights = replace(user("night"), replaces="night", adopt=True)
    statements, after = place.converge(DesiredState((with_old_rights,), {}))
    assert any("'night'@'%' IDENTIFIED WITH AWSAuthenticationPlugin" in each.statement for each in statements)
    place.known |= set(after.accounts)
    with place.as_rdsadmin() as admin:
        admin.run(remedy)
    converge(place, declared(place, "etl", adopt=True))
    with place.login_by_password("ann", "old-Password-1") as ann:
        assert ann.run("SELECT CURRENT_ROLE()") == [("`night`@`%`",)]
        assert "shop" not in str(ann.run("SHOW GRANTS"))


@pytest.fixture(scope="module", params=MYSQL_FAMILY)
def family(make_place, request) -> Place:
    place: Place = make_place(request.param)
    return place


@pytest.mark.parametrize("hosts", [("%",), ("10.1.%", "10.2.%"), tuple(f"10.{n}.%" for n in range(6))], ids=len)
def test_accounts_of_the_name_are_named_with_their_hosts(family, hosts):
    name = f"taken{len(hosts)}"
    with family.as_rdsadmin() as admin:
        for host in hosts:
            admin.run(f"CREATE USER {name}@'{host}' IDENTIFIED BY 'old-Password-1'")
    text = str(refusal(family, name))
    assert "an account" in text
    assert "adopt: true" in text
    for host in hosts[:4]:
        assert f"'{name}'@'{host}'" in text
    assert ("and 2 more" in text) is (len(hosts) == 6)


# --- PostgreSQL ---


@pytest.fixture(scope="module")
def postgres(make_place) -> Place:
    place: Place = make_place("postgres")
    return place


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (["CREATE ROLE {n} LOGIN PASSWORD 'old-Password-1'"], "a user, which can log in"),
        (["CREATE ROLE {n}"], "a group, without members"),
        (
            ["CREATE ROLE {n}", "CREATE ROLE {n}_a IN ROLE {n}", "CREATE ROLE {n}_b LOGIN IN ROLE {n}"],
            "a group, with the members {n}_a, {n}_b",
        ),
    ],
    ids=["user", "role", "group"],
)
def test_a_role_of_the_name_is_named_with_its_kind(postgres, made, what, request):
    name = f"taken_{request.node.callspec.id}"
    with postgres.as_rdsadmin() as admin:
        for statement in made:
            admin.run(statement.format(n=name))
    text = str(refusal(postgres, name))
    assert f"a role {name} exists that rdsiam did not make: {what.format(n=name)}" in text
    assert "adopt: true" in text


def test_a_role_in_the_place_of_the_auditor_is_named_with_its_kind(make_place):
    place: Place = make_place("postgres")
    with place.as_rdsadmin() as admin:
        admin.run("CREATE ROLE rdsiam_auditor LOGIN")
    assert "a role rdsiam_auditor exists that rdsiam did not make: a user" in str(refusal(place, "reader"))
