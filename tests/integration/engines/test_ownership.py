"""An account that rdsiam has made stays its own, whatever fails after that; one that it has not made is not its own."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rdsiam.engines.logins import MANAGER
from rdsiam.engines.mysql import disabling
from rdsiam.engines.mysql.catalog import PLUGIN
from rdsiam.engines.registry import ENGINES
from rdsiam.engines.statements import Statement, StatementFailed
from rdsiam.errors import Refused
from tests.integration.engines.world import World
from tests.integration.place import Place
from tests.kinds import MYSQL_FAMILY, POSTGRES

# test_rights.py and test_rights_by_hand.py show what such an administrator may do.
pytestmark = pytest.mark.exhaustive_on("vanilla")

NUMBERS = itertools.count()
#: Where the statement stands that fails: beside the roles, or later in a database; the same on MySQL and MariaDB.
PLACES = {"in the server": None, "in a database": "shop"}


@pytest.fixture(scope="module", params=[*POSTGRES, *MYSQL_FAMILY])
def place(make_place, request) -> Place:
    made: Place = make_place(request.param)
    World(made).onboard()
    return made


@pytest.fixture
def world(place) -> World:
    """Return a database of rdsiam's with one user."""
    made = World(place, place.known)
    made.declare({"name": "first", "privileges": "readonly", "on": ["shop"]})
    made.onboard()
    place.known |= set(made.inventory.record.accounts)
    return made


def exists(place: Place, name: str) -> bool:
    with place.as_master() as master:
        catalog = (
            "SELECT rolname FROM pg_roles" if place.database.family == "postgres" else "SELECT user FROM mysql.user"
        )
        return (name,) in master.run(catalog)


def can_log_in(place: Place, name: str) -> bool:
    with place.as_master() as master:
        if place.database.family == "postgres":
            return bool(master.run(f"SELECT 1 FROM pg_roles WHERE rolname = '{name}' AND rolcanlogin"))
        return exists(place, name) and "ACCOUNT LOCK" not in master.run(f"SHOW CREATE USER {name}@'%'")[0][0]


def fails_once(monkeypatch, place: Place, where: str | None, at: Callable[[list[Statement]], int]) -> None:
    """Have one more GRANT among the statements of the next run, which fails."""
    engine = ENGINES[place.database.family]
    difference = type(engine).difference

    def with_a_grant_that_fails(self: Any, found: Any, desired: Any) -> list[Statement]:
        monkeypatch.setattr(type(engine), "difference", difference)
        statements = difference(self, found, desired)
        grant = Statement("grant", newcomer(desired), "GRANT nothing TO nobody_of_that_name", database=where)
        statements.insert(at(statements), grant)
        return statements

    monkeypatch.setattr(type(engine), "difference", with_a_grant_that_fails)


def expect_failure(world: World, place: Place, where: str | None) -> None:
    """Onboard: a privilege that can't be granted is named, and fails a run on PostgreSQL only beside the roles."""
    if where is None and place.database.family == "postgres":
        with pytest.raises(StatementFailed, match="nobody_of_that_name"):
            world.onboard()
        return
    [part] = world.onboard().missing
    assert "nobody_of_that_name" in part.reason
    # On PostgreSQL the statement names a role that is not there: it may have been dropped meanwhile.
    assert part.retry == (place.database.family == "postgres")


def newcomer(desired: Any) -> str:
    return next(user.name for user in desired.users if user.name != "first")


@pytest.mark.parametrize("where", PLACES.values(), ids=PLACES)
def test_a_grant_that_fails_after_a_user_was_made_leaves_it_managed(place, world, monkeypatch, where):
    name = f"newcomer{next(NUMBERS)}"
    first = {"name": "first", "privileges": "readonly", "on": ["shop"]}
    world.declare(first, {"name": name, "privileges": "readonly", "on": ["shop"]})
    fails_once(monkeypatch, place, where, len)
    expect_failure(world, place, where)
    assert (name in world.inventory.record.accounts) == exists(place, name)

    again = world.onboard()
    assert again.refusal is None, "what rdsiam has made is not somebody else's"
    assert can_log_in(place, name)
    world.declare(first)
    world.onboard()
    assert not can_log_in(place, name), "and it is disabled when it is declared no longer"
    place.known |= set(world.inventory.record.accounts)


@pytest.mark.parametrize("where", PLACES.values(), ids=PLACES)
def test_taken_out_before_it_is_repeated_the_user_is_disabled(place, world, monkeypatch, where):
    name = f"newcomer{next(NUMBERS)}"
    first = {"name": "first", "privileges": "readonly", "on": ["shop"]}
    world.declare(first, {"name": name, "privileges": "readonly", "on": ["shop"]})
    fails_once(monkeypatch, place, where, len)
    expect_failure(world, place, where)
    world.declare(first)
    world.onboard()
    assert not can_log_in(place, name)
    place.known |= set(world.inventory.record.accounts)


@pytest.mark.parametrize("place", POSTGRES, indirect=True)
def test_a_group_whose_grants_fail_stays_managed(place, world, monkeypatch):
    world.declare({"name": "first", "privileges": "readwrite", "on": ["shop"]})
    fails_once(monkeypatch, place, "shop", len)
    monkeypatch.setattr("tests.integration.engines.test_ownership.newcomer", lambda _: "shop_readwrite")
    expect_failure(world, place, "shop")
    assert "shop_readwrite" in world.inventory.record.accounts
    assert world.onboard().refusal is None
    place.known |= set(world.inventory.record.accounts)


def test_killed_between_the_user_and_its_grants_it_stays_managed(place, world, monkeypatch):
    class Killed(BaseException):
        pass

    name = f"newcomer{next(NUMBERS)}"
    first = {"name": "first", "privileges": "readonly", "on": ["shop"]}
    world.declare(first, {"name": name, "privileges": "readonly", "on": ["shop"]})
    engine = ENGINES[place.database.family]
    apply = type(engine).apply

    def part_of_it(self: Any, sessions: Any, found: Any, statements: list[Statement], desired: Any) -> None:
        made = next(number for number, each in enumerate(statements) if each.target == name) + 1
        apply(self, sessions, found, statements[:made], desired)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(type(engine), "apply", part_of_it)
        with pytest.raises(Killed):
            world.onboard()
    assert exists(place, name)
    world.declare(first)
    world.onboard()
    assert not can_log_in(place, name)
    place.known |= set(world.inventory.record.accounts)


def test_a_refusal_after_a_part_was_made_names_that_part(place, world, monkeypatch):
    """On PostgreSQL the master's statements are committed before the manager's are checked for lock-outs."""
    name = f"newcomer{next(NUMBERS)}"
    first = {"name": "first", "privileges": "readonly", "on": ["shop"]}
    world.declare(first, {"name": name, "privileges": "readonly", "on": ["shop"]})
    engine = ENGINES[place.database.family]
    apply = type(engine).apply

    def part_of_it(self: Any, sessions: Any, snapshot: Any, statements: list[Statement], desired: Any) -> None:
        last = max(number for number, each in enumerate(statements) if each.kind == "create-user") + 1
        apply(self, sessions, snapshot, statements[:last], desired)
        raise Refused("a user would be locked out", "revoke its membership", "refused")

    with monkeypatch.context() as patch:
        patch.setattr(type(engine), "apply", part_of_it)
        result = world.onboard()
    assert str(result.refusal) == "a user would be locked out; revoke its membership"
    assert ("create-user", name) in {(change.kind, change.target) for change in result.changes}
    assert result.users.applied is None
    again = world.onboard()
    assert again.refusal is None
    assert not {change.statement for change in again.changes} & {change.statement for change in result.changes}
    assert can_log_in(place, name)
    place.known |= set(world.inventory.record.accounts)


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)
def test_a_user_whose_creation_was_not_answered_stays_managed(place, world, monkeypatch):
    """MySQL makes it all the same: it waited for a global lock, say, for longer than rdsiam waited for it."""
    name = f"newcomer{next(NUMBERS)}"
    first = {"name": "first", "privileges": "readonly", "on": ["shop"]}
    world.declare(first, {"name": name, "privileges": "readonly", "on": ["shop"]})
    run = disabling.run

    def unanswered(session: Any, statement: Statement) -> None:
        if statement.kind == "create-user":
            raise StatementFailed("the server", statement, "2013", "Lost connection to server during query (timed out)")
        run(session, statement)

    with monkeypatch.context() as patch:
        patch.setattr(disabling, "run", unanswered)
        with pytest.raises(StatementFailed):
            world.onboard()
    with place.as_master() as master:  # the server comes to it now
        master.run(f"CREATE USER {name} IDENTIFIED WITH {PLUGIN} AS 'RDS' REQUIRE SSL")
    world.declare(first)
    world.onboard()
    assert not can_log_in(place, name)
    place.known |= set(world.inventory.record.accounts)


def test_a_revoked_user_of_a_copy_or_of_a_promoted_replica_is_taken_over_and_locked(place, world):
    """Its record has no accounts yet: a replica's are its source's."""
    name = f"newcomer{next(NUMBERS)}"
    users = [{"name": each, "privileges": "readonly", "on": ["shop"]} for each in ("first", name)]
    world.declare(*users)
    world.onboard()
    place.known |= set(world.inventory.record.accounts)
    world.inventory.record = replace(world.inventory.record, accounts={}, revoked={name: "key leaked"})
    assert world.onboard().refusal is None
    assert not can_log_in(place, name)
    assert can_log_in(place, "first")
    assert world.inventory.record.accounts[name] == "created"


def test_a_user_that_somebody_else_makes_first_is_theirs(place, world):
    name = f"newcomer{next(NUMBERS)}"
    postgres = place.database.family == "postgres"

    def make() -> None:
        world.inventory.before_recording = lambda: None
        with place.as_master() as master:
            password = "LOGIN PASSWORD 'Password-1'" if postgres else "IDENTIFIED BY 'Password-1'"
            master.run(f"CREATE {'ROLE' if postgres else 'USER'} {name} {password}")

    world.declare(
        {"name": "first", "privileges": "readonly", "on": ["shop"]},
        {"name": name, "privileges": "readonly", "on": ["shop"]},
    )
    world.inventory.before_recording = make
    with pytest.raises(StatementFailed, match=name):
        world.onboard()
    assert name not in world.inventory.record.accounts
    assert MANAGER in world.inventory.record.accounts
    assert "adopt: true" in str(world.onboard().refusal)
