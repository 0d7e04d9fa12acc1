"""Groups of the names that rdsiam gives exist: taken over if access.yaml says so, left alone otherwise."""

import difflib
from collections.abc import Iterator
from typing import Any

import pytest

from rdsiam.engines.logins import AUDITOR, MANAGER
from tests.integration.engines.test_real_schemas import dump
from tests.integration.engines.world import World
from tests.integration.place import Place
from tests.kinds import OLDER_EXHAUSTIVE

READER = {"name": "reader", "privileges": "readonly", "on": ["shop"]}
MAKER = {"name": "maker", "privileges": "owner", "on": ["shop"]}
GROUPS = ("shop_readonly", "shop_readwrite", "shop_owner")


@pytest.fixture(scope="module", params=["postgres", "postgres-vanilla", OLDER_EXHAUSTIVE])
def place(request, make_place) -> Place:
    made: Place = make_place(request.param)
    World(made).onboard()
    with made.as_master() as master:
        master.run("CREATE TABLE orders (id int)")
    return made


@pytest.fixture
def world(place) -> Iterator[World]:
    """Return a server with a group and two members that others made; afterwards the groups are gone."""
    with place.as_master() as master:
        master.run("CREATE ROLE shop_readonly NOLOGIN")
        master.run("CREATE ROLE ann LOGIN PASSWORD 'of-old-1' IN ROLE shop_readonly")
        master.run("CREATE ROLE \"b'o\nb\" LOGIN PASSWORD 'of-old-1' IN ROLE shop_readonly")
    made = World(place, place.known)
    yield made
    place.known |= {name for name in made.inventory.record.accounts if not name.startswith(("shop_", "own_shop_"))}
    with place.as_rdsadmin() as admin:
        for [name] in admin.run(
            "SELECT rolname FROM pg_roles WHERE rolname ~ '^((own_)?shop|postgres)_(readonly|readwrite|owner)$' OR "
            "rolname IN ('ann', 'b''o' || chr(10) || 'b', 'parent')"
        ):
            quoted = '"' + name.replace('"', '""') + '"'
            admin.run(f"REASSIGN OWNED BY {quoted} TO boss; DROP OWNED BY {quoted}")
            admin.run(f"DROP ROLE {quoted}")


def reads(place: Place, name: str) -> bool:
    with place.as_rdsadmin() as admin:
        return bool(admin.run(f"SELECT has_table_privilege('{name}', 'orders', 'SELECT')")[0][0])


def unexplained(before: list[str], after: list[str], *names: str) -> list[str]:
    """Return the lines of a dump that differ and have none of the names, nor those of the service."""
    differing = [line for line in difflib.ndiff(before, after) if line.startswith(("+ ", "- "))]
    return [line for line in differing if not any(name in line for name in (*names, MANAGER, AUDITOR))]


def test_a_refusal_says_what_exists_and_both_ways(place, world):
    before = dump(place)
    world.declare(READER)
    refusal = world.onboard().refusal
    assert refusal is not None
    assert refusal.code == "name-taken"
    assert 'a role shop_readonly exists that rdsiam did not make: a group, with the members ann, "b\'o\\nb"' in str(
        refusal
    )
    assert (
        "write `adopt_groups: true` in the entry to take it over (its members get readonly on shop)" in refusal.remedy
    )
    assert "give rdsiam's groups other names with `group_prefix`" in refusal.remedy
    assert dump(place) == before


def test_a_group_is_adopted_with_its_members_and_the_plan_names_what_they_get(place, world):
    before = dump(place)
    world.declare(READER, MAKER, adopt_groups=True)
    [planned] = [change for change in world.onboard(apply=False).changes if change.kind == "adopt-group"]
    assert planned.target == "shop_readonly"
    assert 'with the members ann, "b\'o\\nb": members get readonly on shop' in planned.statement
    assert "\n" not in planned.statement
    assert dump(place) == before

    done = world.onboard()
    assert (done.refusal, done.missing) == (None, ())
    assert world.inventory.record.accounts["shop_readonly"] == "adopted"
    assert world.inventory.record.accounts["shop_owner"] == "created"
    assert reads(place, "ann")
    assert reads(place, "reader")
    assert unexplained(before, dump(place), "reader", "maker", *GROUPS) == []
    assert world.onboard().changes == ()
    # The entry no longer says so: a group that was taken over stays managed.
    world.declare(READER, MAKER)
    assert world.onboard().changes == ()
    world.declare(MAKER)
    world.onboard()
    assert reads(place, "ann"), "members that were there stay"


def test_a_prefix_leaves_groups_of_others_alone(place, world):
    before = dump(place)
    world.declare(READER, MAKER, group_prefix="own_")
    done = world.onboard()
    assert (done.refusal, done.missing) == (None, ())
    assert {"own_shop_readonly", "own_shop_owner"} <= set(world.inventory.record.accounts)
    assert reads(place, "reader")
    assert not reads(place, "ann")
    assert unexplained(before, dump(place), "reader", "maker", *(f"own_{group}" for group in GROUPS)) == []
    assert world.onboard().changes == ()
    with place.as_user("maker") as maker:
        assert maker.run("SELECT current_user") == [("own_shop_owner",)]
        maker.run("CREATE TABLE of_maker (id int)")
    assert not place.as_user("reader").run("SELECT * FROM of_maker")
    with place.as_user("maker") as maker:
        maker.run("DROP TABLE of_maker")


def test_another_prefix_moves_users_to_other_groups(place, world):
    world.declare(READER, MAKER, group_prefix="own_")
    world.onboard()
    world.declare(READER, MAKER, adopt_groups=True)
    done = world.onboard()
    assert (done.refusal, done.missing) == (None, ())
    with place.as_rdsadmin() as admin:
        members = admin.run(
            "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = 'reader'::regrole "
            "AND roleid::regrole::text LIKE '%shop%'"
        )
    assert members == [("shop_readonly",)]
    with place.as_user("maker") as maker:
        assert maker.run("SELECT current_user") == [("shop_owner",)]
    assert world.onboard().changes == ()


@pytest.mark.parametrize(
    ("excess", "reason"),
    [
        ("ALTER ROLE shop_readonly LOGIN", "it can log in"),
        ("ALTER ROLE shop_readonly CREATEROLE", "it creates roles"),
        ("ALTER ROLE shop_readonly CREATEDB", "it creates databases"),
        ("ALTER ROLE shop_readonly BYPASSRLS", "it bypasses row security"),
        ("ALTER ROLE shop_readonly REPLICATION", "it replicates"),
        ("ALTER ROLE shop_readonly SUPERUSER", "it is a superuser"),
        ("GRANT pg_read_server_files TO shop_readonly", "it is a member of pg_read_server_files"),
        ("GRANT rds_iam TO shop_readonly", "it is a member of rds_iam"),
        (
            "CREATE ROLE parent CREATEROLE; GRANT parent TO shop_readonly",
            "it is a member of parent, which creates roles",
        ),
        (
            "CREATE ROLE parent; GRANT pg_monitor TO parent; GRANT parent TO shop_readonly",
            "it is a member of pg_monitor",
        ),
        ("ALTER TABLE public.orders OWNER TO shop_readonly", "it owns objects"),
        (
            "CREATE ROLE parent; ALTER TABLE public.orders OWNER TO parent; GRANT parent TO shop_readonly",
            "it is a member of parent, which owns objects",
        ),
        ("CREATE ROLE shop_readwrite; GRANT shop_readwrite TO shop_readonly", "the group of another database or of a"),
        ("CREATE ROLE postgres_readonly; GRANT postgres_readonly TO shop_readonly", "of another database or of a"),
    ],
)
@pytest.mark.exhaustive_on("vanilla")
def test_a_group_with_more_rights_than_privileges_is_not_taken_over(place, world, excess, reason):
    with place.as_rdsadmin() as admin:
        admin.run(excess)
    before = dump(place)
    world.declare(READER, adopt_groups=True)
    refusal = world.onboard().refusal
    assert refusal is not None
    assert refusal.code == "rights-not-grantable"
    assert reason in refusal.problem
    assert "group_prefix" in refusal.remedy
    assert "shop_readonly" not in world.inventory.record.accounts
    assert dump(place) == before
    with place.as_rdsadmin() as admin:
        admin.run("ALTER TABLE public.orders OWNER TO boss; ALTER ROLE shop_readonly NOSUPERUSER")


def test_a_group_with_a_weaker_one_above_it_is_taken_over_and_whoever_lets_others_in_is_named(place, world):
    with place.as_master() as master:
        master.run("CREATE ROLE shop_readwrite; GRANT shop_readonly TO shop_readwrite")
        master.run("GRANT shop_readwrite TO ann WITH ADMIN OPTION")
    writer = {"name": "writer", "privileges": "readwrite", "on": ["shop"]}
    world.declare(writer)
    assert "a group, with the members ann (ann may add others)" in str(world.onboard().refusal)
    world.declare(READER, writer, adopt_groups=True)
    planned = {
        change.target: change.statement for change in world.onboard(apply=False).changes if change.kind == "adopt-group"
    }
    assert "with the members ann (ann may add others): members get readwrite on shop" in planned["shop_readwrite"]
    assert "may add others" not in planned["shop_readonly"]
    done = world.onboard()
    assert (done.refusal, done.missing) == (None, ())
    assert world.onboard().changes == ()


def test_the_name_of_a_tenants_database_ends_no_comment(place, world):
    """Whoever may create databases chooses their names, and a comment of SQL ends with its line."""
    name = 'own_shop\nALTER ROLE ann CREATEROLE; --"'
    quoted = '"' + name.replace('"', '""') + '"'
    group = quoted[:-1] + '_readonly"'
    with place.as_master() as master:
        master.run(f"CREATE DATABASE {quoted}")
        master.run(f"CREATE ROLE {group}")
    world.declare({"name": "reader", "privileges": "readonly", "on": ["*"]}, adopt_groups=True)
    try:
        done = world.onboard()
        assert done.refusal is None
        statements = [change.statement for change in done.changes if change.kind == "adopt-group"]
        assert len(statements) == 2
        assert all("\n" not in statement.partition("-- ")[2] for statement in statements)
        assert '"own_shop\\nALTER ROLE ann CREATEROLE' in "".join(statements)
        with place.as_rdsadmin() as admin:
            assert admin.run("SELECT rolcreaterole FROM pg_roles WHERE rolname = 'ann'") == [(False,)]
    finally:
        with place.as_rdsadmin() as admin:
            admin.run(f"DROP DATABASE {quoted} WITH (FORCE)")
            admin.run(f"DROP ROLE {group}")
        with place.as_rdsadmin("postgres") as admin:
            admin.run("DROP OWNED BY postgres_readonly")


def test_a_user_that_changes_only_how_it_logs_in_stays_a_member(place, world):
    world.declare(READER, {"name": "ann", "replaces": "ann"}, adopt_groups=True)
    with place.as_rdsadmin() as admin:
        admin.run("GRANT ann TO rdsiam_manager" + (" WITH ADMIN TRUE, INHERIT FALSE" if place.version > 15 else ""))
    before = memberships(place)
    assert world.onboard().refusal is None
    assert [edge for edge in before if edge not in memberships(place)] == []
    assert world.onboard().changes == ()


def memberships(place: Place) -> list[Any]:
    with place.as_rdsadmin() as admin:
        return admin.run(
            "SELECT roleid::regrole::text, member::regrole::text, grantor::regrole::text, to_jsonb(m)::text "
            "FROM pg_auth_members m WHERE member = 'ann'::regrole ORDER BY 1, 2, 3"
        )
