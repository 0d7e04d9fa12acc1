"""Grants of rdsiam to an adopted user of MySQL or MariaDB are revoked once they are no longer declared; others stay.

Each account of a user has privileges of its own, from before or by its owner.
"""

from collections.abc import Iterator

import pytest

from rdsiam.access.users import Grant
from tests.integration.engines import mysql_databases
from tests.integration.engines.test_mysql_databases import differing
from tests.integration.engines.world import Onboarded, World
from tests.integration.place import Place
from tests.kinds import MYSQL, needs_mysql

NO_PARTIAL_EXHAUSTIVE = pytest.param("mysql-no-partial", marks=[needs_mysql, pytest.mark.exhaustive])
PASSWORD = "Of-old-Password-1"
ODD = ("my_app", "100%", 'quo"te', "back`tick", "a.b", "ünï_cödé")


@pytest.fixture(scope="module", params=["mariadb", MYSQL, NO_PARTIAL_EXHAUSTIVE])
def place(request, make_place) -> Place:
    made: Place = make_place(request.param)
    with made.as_rdsadmin("mysql") as admin:
        for schema in ODD:
            admin.run(f"CREATE SCHEMA {quoted(schema)}")
    return made


@pytest.fixture
def world(place) -> Iterator[World]:
    """Return a server with the manager, and a user with two accounts that have different privileges."""
    made = World(place, place.known)
    made.declare(app("readonly", "shop", name="other", adopt=False))
    made.onboard()
    with place.as_rdsadmin("mysql") as admin:
        for account in ("app@'%'", "app@'10.0.%'"):
            admin.run(f"CREATE USER {account} IDENTIFIED BY '{PASSWORD}'")
        admin.run("GRANT INSERT, CREATE ON shop.* TO app@'%'")
        admin.run("GRANT SELECT ON shop.* TO app@'10.0.%'")
        admin.run("CREATE TABLE IF NOT EXISTS shop.own (id int)")
        admin.run("GRANT DELETE ON shop.own TO app@'%'")
    yield made
    place.known |= set(made.inventory.record.accounts) - {"app"}
    with place.as_rdsadmin("mysql") as admin:
        admin.run("DROP USER app@'%', app@'10.0.%'")


def app(level: object, *on: str, name: str = "app", adopt: bool = True) -> dict[str, object]:
    return {"name": name, "privileges": level, "on": list(on)} | ({"adopt": True} if adopt else {})


def quoted(schema: str) -> str:
    return "`" + schema.replace("`", "``") + "`"


def converge(world: World, *users: dict[str, object]) -> Onboarded:
    world.declare(*users, app("readonly", "shop", name="other", adopt=False))
    onboarded = world.onboard()
    assert onboarded.refusal is None
    assert onboarded.missing == ()
    assert world.onboard().changes == ()
    return onboarded


def held(place: Place) -> dict[tuple[str, str], set[str]]:
    """Return (host pattern, schema as granted) → privileges of the user."""
    query = (
        "SELECT GRANTEE, TABLE_SCHEMA, PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES "
        "WHERE GRANTEE LIKE '''app''@%'"
    )
    result: dict[tuple[str, str], set[str]] = {}
    with place.as_rdsadmin("mysql") as admin:
        for grantee, schema, privilege in admin.run(query):
            result.setdefault((grantee.partition("@")[2].strip("'"), schema), set()).add(privilege)
    return result


def test_a_lower_level_takes_back_what_was_granted_and_leaves_what_was_there(place, world):
    before = held(place)
    first = converge(world, app("readwrite", "shop"))
    assert {"SELECT", "INSERT", "DELETE", "CREATE"} <= held(place)["%", "shop"]
    lower = converge(world, app("readonly", "shop"))
    assert {change.kind for change in lower.changes} == {"revoke"}
    assert held(place) == {
        ("%", "shop"): {"INSERT", "CREATE", "SELECT", "SHOW VIEW"},
        ("10.0.%", "shop"): {"SELECT", "SHOW VIEW"},
    }
    converge(world, app("readonly", "my_app"))
    assert {key: found for key, found in held(place).items() if key[1] == "shop"} == before
    assert first.changes


@pytest.mark.parametrize("schema", ODD)
def test_a_schema_of_any_name_that_is_taken_out_is_closed_again(place, world, schema):
    before = mysql_databases.dump(place)
    converge(world, app("readonly", "shop"))
    narrow = mysql_databases.dump(place)
    converge(world, app("owner", "shop", schema))
    assert differing(narrow, mysql_databases.dump(place))
    converge(world, app("readonly", "shop"))
    assert differing(narrow, mysql_databases.dump(place)) == set()
    assert differing(before, narrow)


def test_of_all_schemas_those_that_are_left_out_later_are_closed(place, world):
    before = held(place)
    converge(world, app("readwrite", "*"))
    assert len({schema for _, schema in held(place)}) == 1 + len(ODD)
    converge(world, app(["SELECT"], "shop"))
    assert {schema for _, schema in held(place)} == {"shop"}
    assert held(place) == {key: found | {"SELECT"} for key, found in before.items()}


def test_what_its_owner_grants_later_stays_and_what_it_revokes_is_not_missed(place, world):
    converge(world, app("readonly", "shop"))
    with place.as_rdsadmin("mysql") as admin:
        admin.run("GRANT UPDATE ON shop.* TO app@'%'")
        admin.run("REVOKE SHOW VIEW ON shop.* FROM app@'10.0.%'")
    restored = world.onboard()
    assert [change.statement.partition(" ON ")[0] for change in restored.changes] == ["GRANT SHOW VIEW"]
    converge(world, app("readonly", "my_app"))
    assert held(place)["%", "shop"] == {"INSERT", "CREATE", "UPDATE"}
    assert held(place)["10.0.%", "shop"] == {"SELECT"}


def test_a_user_that_leaves_keeps_its_record_and_loses_what_was_granted_when_it_returns_with_less(place, world):
    converge(world, app("readwrite", "shop"))
    converge(world)
    assert "DELETE" in held(place)["%", "shop"], "it is locked, and keeps its grants"
    converge(world, app("readonly", "shop"))
    assert "DELETE" not in held(place)["%", "shop"]


def test_grants_are_recorded_before_they_are_made_and_until_they_are_revoked(place, world):
    recorded: list[dict[str, tuple[Grant, ...]]] = []
    world.inventory.before_recording = lambda: recorded.append(dict(world.inventory.record.granted))
    converge(world, app("readonly", "shop"))
    [before] = recorded
    assert before["app@%"] == (Grant("shop", ("SELECT", "SHOW VIEW")),)
    assert before["app@10.0.%"] == (Grant("shop", ("SHOW VIEW",)),)
    converge(world, app("readonly", "my_app"))
    assert {grant.on for grants in world.inventory.record.granted.values() for grant in grants} == {"my_app"}
    assert "other@%" not in world.inventory.record.granted, "a created user needs no record"


def test_a_user_that_changes_only_how_it_logs_in_needs_no_record(place, world):
    world.declare({"name": "app", "replaces": "app"}, app("readonly", "shop", name="other", adopt=False))
    before = held(place)
    assert world.onboard().missing == ()
    assert held(place) == before
    assert world.inventory.record.granted == {}
