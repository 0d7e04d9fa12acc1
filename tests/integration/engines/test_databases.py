"""Databases of a PostgreSQL server that can't be done, in all versions: each is named, and delays no other."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from rdsiam.core.changes import Unreached
from rdsiam.engines.connection import NO_SLOT
from rdsiam.engines.logins import MANAGER, Token
from rdsiam.engines.protocols import DatabaseResult, DesiredState, Sessions
from rdsiam.errors import ConnectionFailed
from rdsiam.state.record import Ownership
from tests.integration.engines.world import World
from tests.integration.place import Place, user
from tests.kinds import POSTGRES

# An administrator's rights decide nothing here.
pytestmark = pytest.mark.exhaustive_on("vanilla", "postgres14")

EVERY = user("reader", ("*", "readonly"))
ODD = ('quo"te', "100% {}", "Ünï cödé", "select", "z" * 63)


@pytest.fixture(scope="module", params=POSTGRES)
def place(request, make_place) -> Place:
    made: Place = make_place(request.param)
    with made.as_rdsadmin() as admin:
        admin.run("CREATE ROLE tenant")
    return made


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def create(place: Place, name: str, *statements: str, owner: str = "tenant") -> None:
    with place.as_rdsadmin() as admin:
        admin.run(f"DROP DATABASE IF EXISTS {quoted(name)}")
        admin.run(f"CREATE DATABASE {quoted(name)} OWNER {owner}")
        for statement in statements:
            admin.run(statement.format(d=quoted(name)))


def drop(place: Place, *names: str) -> None:
    with place.as_rdsadmin() as admin:
        for name in names:
            admin.run(f"UPDATE pg_database SET datistemplate = false WHERE datname = '{name}'")
            admin.run(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")


def converge(place: Place, desired: DesiredState = DesiredState((EVERY,), {})) -> DesiredState:  # noqa: B008 frozen
    known: dict[str, Ownership] = {**desired.accounts, **dict.fromkeys(place.known, "created")}
    _, after = place.converge(replace(desired, accounts=known))
    place.known |= set(after.accounts)
    return after


def parts(place: Place) -> dict[str, Unreached]:
    return {part.what: part for part in place.missing}


OBSTACLES = {
    "limit 0": ("ALTER DATABASE {d} CONNECTION LIMIT 0", "CONNECTION LIMIT -1"),
    "no connections": ("ALTER DATABASE {d} ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"),
    "template": ("ALTER DATABASE {d} IS_TEMPLATE true", "IS_TEMPLATE false"),
    "closed": ("REVOKE CONNECT ON DATABASE {d} FROM PUBLIC", "GRANT CONNECT ON DATABASE"),
    "closed to all": ("REVOKE ALL ON DATABASE {d} FROM PUBLIC, tenant", "GRANT CONNECT ON DATABASE"),
    "invalid": ("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'invalid'", "DROP DATABASE"),
}


@pytest.mark.parametrize("kind", OBSTACLES)
def test_a_database_in_which_nobody_can_work_is_named_and_the_remedy_helps(place, kind):
    closing, remedy = OBSTACLES[kind]
    create(place, kind, closing)
    try:
        converge(place)
        part = parts(place)[f"database {kind}"]
        assert (remedy in part.remedy, part.retry) == (True, False)
        assert {result.name for result in place.results if not result.missing} >= {"postgres", "shop"}
        with place.as_rdsadmin() as admin:
            assert admin.run("SELECT has_database_privilege('reader', 'shop', 'CONNECT')") == [(True,)]
            assert admin.run(f"SELECT 1 FROM pg_roles WHERE rolname = '{kind}_readonly'") == []
            statement = part.remedy.partition("run: ")[2].partition(";")[0]
            admin.run("SET ROLE tenant" if "GRANT" in statement else "RESET ROLE")
            admin.run(statement)
        converge(place)
        assert f"database {kind}" not in parts(place)
        with place.as_rdsadmin() as admin:
            existing = admin.run(f"SELECT 1 FROM pg_database WHERE datname = '{kind}'")
            assert admin.run(f"SELECT 1 FROM pg_roles WHERE rolname = '{kind}_readonly'") == existing
    finally:
        drop(place, kind)


@pytest.mark.parametrize(
    "setting",
    ["default_transaction_read_only = on", "statement_timeout = 1", "search_path = nowhere", "role = tenant"],
)
def test_settings_of_a_database_are_no_obstacle(place, setting):
    create(place, "odd one")
    try:
        with place.as_rdsadmin("odd one") as admin:
            admin.run("CREATE TABLE public.t (id int); ALTER TABLE public.t OWNER TO tenant")
            admin.run(f'ALTER DATABASE "odd one" SET {setting}')
        converge(place)
        assert "database odd one" not in parts(place)
    finally:
        drop(place, "odd one")


@pytest.mark.parametrize("name", ODD)
def test_names_of_any_kind_have_a_group_and_take_it_away_again(place, name):
    create(place, name, owner="boss")
    try:
        for level, may in (("readwrite", True), ("readonly", False)):
            after = converge(place, DesiredState((user("writer", (name, level)),), {}))
            assert place.missing == []
            with place.as_rdsadmin() as admin:
                query = f"SELECT has_database_privilege('writer', '{name.replace(chr(39), '')}', 'TEMPORARY')"
                admin.run(f"REVOKE TEMPORARY ON DATABASE {quoted(name)} FROM PUBLIC")
                assert admin.run(query) == [(may,)]
            assert place.converge(after)[0] == []
    finally:
        drop(place, name)


@pytest.mark.parametrize("kind", ["a group", "a user", "a declared user", "an administrator"])
def test_a_role_with_the_name_of_a_group_keeps_its_rights_and_the_others_are_done(place, kind):
    """A tenant names its database so that its group is another role."""
    name, level = f"of {kind}", "owner"
    role = f"{name}_{level}"
    attributes = {"a group": "NOLOGIN", "a user": "LOGIN", "a declared user": "LOGIN", "an administrator": "CREATEROLE"}
    users = [user("maker", ("*", level))]
    if kind == "a declared user":
        users.append(user(role, ("shop", "readonly"), adopt=True))
    with place.as_rdsadmin() as admin:
        admin.run(f'CREATE ROLE "{role}" {attributes[kind]}')
    create(place, name)
    try:
        after = converge(place, DesiredState(tuple(users), {}))
        part = parts(place)[f"database {name}"]
        assert role in part.reason
        assert not part.retry
        with place.as_rdsadmin(name) as admin:
            assert admin.run(f"SELECT pg_has_role('maker', '{role}', 'MEMBER')") == [(False,)]
            assert admin.run(f"SELECT datacl::text LIKE '%of %' FROM pg_database WHERE datname = '{name}'") in (
                [(None,)], [(False,)],
            )  # fmt: skip
            assert admin.run("SELECT pg_has_role('maker', 'shop_owner', 'MEMBER')") == [(True,)]
            settings = admin.run("SELECT setconfig::text FROM pg_db_role_setting")
            assert not any(role in row[0] for row in settings)
        assert place.converge(after)[0] == []
    finally:
        drop(place, name)
        place.known.discard(role)
        with place.as_rdsadmin() as admin:
            admin.run(f'ALTER ROLE "{role}" RENAME TO "{kind} was"; ALTER ROLE "{kind} was" NOLOGIN')


def test_a_group_of_a_closed_database_keeps_its_members(place):
    create(place, "odd one")
    try:
        converge(place)
        with place.as_rdsadmin() as admin:
            admin.run('ALTER DATABASE "odd one" CONNECTION LIMIT 0')
        after = converge(place)
        with place.as_rdsadmin() as admin:
            assert admin.run("SELECT pg_has_role('reader', 'odd one_readonly', 'MEMBER')") == [(True,)]
        assert place.converge(after)[0] == []
    finally:
        drop(place, "odd one")


def results(
    place: Place, names: list[str], before_change: Callable[[], None], connect: Any = None
) -> list[DatabaseResult]:
    """Converge users, then the databases of that name as they were inspected."""
    desired = converge(place)
    for name in names:
        create(place, name)
    desired = replace(desired, accounts={**desired.accounts, **{f"{name}_readonly": "created" for name in names}})
    sessions = Sessions(connect or place.connect, "manager")
    try:
        snapshot = place.engine.inspect(sessions, place.database, desired)
        place.engine.apply(sessions, snapshot, place.engine.difference(snapshot, desired), desired)
        place.known |= {f"{name}_readonly" for name in names}
        snapshot = place.engine.inspect(sessions, place.database, desired)
        order = [*names, "shop"]
        return list(place.engine.converge_databases(sessions, snapshot, desired, order, before_change))
    finally:
        sessions.close()


def test_a_database_that_is_dropped_between_inspection_and_change_is_not_missed(place):
    dropped: list[str] = []

    def drop_it() -> None:
        if not dropped:
            dropped.append("a1")
            drop(place, "a1", "a2")

    a1, a2, shop = results(place, ["a1", "a2"], drop_it)
    assert dropped
    assert [(each.name, each.missing) for each in (a1, a2, shop)] == [("a1", ()), ("a2", ()), ("shop", ())]
    assert shop.finished


def test_a_database_whose_connections_are_all_taken_is_tried_again(place):
    with place.as_rdsadmin() as admin:

        def fill() -> None:
            admin.run('ALTER DATABASE "a2" CONNECTION LIMIT 1')

        def connect(authority: str, name: str | None) -> Any:
            if name == "a2":
                fill()
                held.append(place.as_master("a2"))
            return place.connect(authority, name)

        held: list[Any] = []
        try:
            a2, shop = results(place, ["a2"], lambda: None, connect)
        finally:
            for client in held:
                client.__exit__()
            drop(place, "a2")
    (part,) = a2.missing
    assert part.retry
    assert "all connections are taken" in part.reason
    assert shop.missing == ()


def test_a_session_that_somebody_ends_is_no_reason_to_end_the_run(place):
    def connect(authority: str, name: str | None) -> Any:
        session = place.connect(authority, name)
        if name == "a3" and authority == "master":
            with place.as_rdsadmin() as admin:
                admin.run(f"SELECT pg_terminate_backend({session.info.backend_pid})")
        return session

    try:
        a3, shop = results(place, ["a3"], lambda: None, connect)
    finally:
        drop(place, "a3")
    (part,) = a3.missing
    assert part.retry, part
    assert shop.missing == ()


def test_sessions_are_few_and_end_with_their_database(place):
    names = [f"b{number}" for number in range(6)]
    for name in names:
        create(place, name, owner="boss")
    most: list[int] = []

    def connect(authority: str, name: str | None) -> Any:
        session = place.connect(authority, name)
        with place.as_rdsadmin() as admin:
            most.append(admin.run("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rdsiam'")[0][0])
        return session

    try:
        desired = converge(place)
        sessions = Sessions(connect, "manager")
        snapshot = place.engine.inspect(sessions, place.database, desired)
        for result in place.engine.converge_databases(sessions, snapshot, desired, names, lambda: None):
            drop(place, result.name)
        sessions.close()
    finally:
        drop(place, *names)
    assert 1 <= max(most) <= 4


def test_users_and_privileges_through_onboardings_own_steps(place):
    """A named database that can't be done leaves users, other databases, and the record of what was granted."""
    world = World(place, place.known)
    lists = {"name": "lister", "privileges": ["SELECT"], "on": ["a4", "shop"]}
    create(place, "a4", owner="boss")
    try:
        world.declare(lists)
        assert world.onboard().missing == ()
        with place.as_rdsadmin() as admin:
            admin.run("ALTER DATABASE a4 CONNECTION LIMIT 0")
        world.declare(lists | {"on": ["shop"]})
        assert world.onboard().refusal is None
        (part,) = world.onboard().missing
        assert part.what == "database a4"
        assert {grant.on for grant in world.inventory.record.granted["lister"]} == {"a4", "shop"}
        with place.as_rdsadmin() as admin:
            admin.run("ALTER DATABASE a4 CONNECTION LIMIT -1")
        assert world.onboard().missing == ()
        assert {grant.on for grant in world.inventory.record.granted["lister"]} == {"shop"}
        assert world.onboard().changes == ()
        assert world.inventory.record.examined is not None
        assert world.inventory.record.examined.databases == ("postgres", "shop")
    finally:
        place.known |= set(world.inventory.record.accounts)
        drop(place, "a4")


ENTRY = {
    "its limit is 0": ("ALTER DATABASE postgres CONNECTION LIMIT 0", "ALTER DATABASE postgres CONNECTION LIMIT -1"),
    "it is closed": (
        "ALTER DATABASE postgres ALLOW_CONNECTIONS false",
        "ALTER DATABASE postgres ALLOW_CONNECTIONS true",
    ),
    "it is gone": ("ALTER DATABASE postgres RENAME TO renamed", "ALTER DATABASE renamed RENAME TO postgres"),
    "it is invalid": (
        "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'postgres'",
        "UPDATE pg_database SET datconnlimit = -1 WHERE datname = 'postgres'",
    ),
}


@pytest.fixture
def closed_entry(request, place) -> Iterator[str]:
    """Let nobody connect to the database in which rdsiam begins; return the statement that the owner runs then."""
    close, reopen = ENTRY[request.param]
    with place.as_rdsadmin() as admin:
        admin.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'postgres'")
        admin.run(close)
        yield reopen
        admin.run(reopen)


@pytest.mark.parametrize("closed_entry", ENTRY, indirect=True)
def test_a_server_whose_own_database_nobody_can_enter_is_worked_on_from_that_it_was_made_with(place, closed_entry):
    after = converge(place, DesiredState((EVERY, user("app", ("shop", "readwrite"))), {}))
    named = parts(place)
    assert set(named) <= {"database postgres"}
    assert all(not part.retry and part.remedy for part in named.values())
    assert closed_entry.startswith("ALTER DATABASE renamed") or named
    assert place.converge(after)[0] == []
    assert place.audit()["app"].login
    place.engine.prove_login(place.database, Token("app", "token-of-app"), None)
    assert place.remove("app").unreached == ()
    assert not place.audit()["app"].login


def test_what_another_database_holds_is_never_taken_for_that_of_a_database_that_opens_meanwhile(place):
    after = converge(place)
    close, reopen = ENTRY["its limit is 0"]
    sessions = Sessions(place.connect, "manager")
    with place.as_rdsadmin() as admin:
        admin.run(close)
        sessions.read("postgres")
        admin.run(reopen)
    try:
        snapshot = place.engine.inspect(sessions, place.database, after)
        results = list(place.engine.converge_databases(sessions, snapshot, after, ["postgres"], lambda: None))
    finally:
        sessions.close()
    assert [(result.statements, [part.what for part in result.missing]) for result in results] == [
        ((), ["database postgres"])
    ]


def test_a_server_whose_own_database_has_no_session_left_for_now_is_tried_again(place):
    converge(place)
    with place.as_rdsadmin() as admin, place.as_master("postgres"):
        admin.run("ALTER DATABASE postgres CONNECTION LIMIT 1")
        try:
            with pytest.raises(ConnectionFailed) as failed:
                place.connect("manager", None)
        finally:
            admin.run("ALTER DATABASE postgres CONNECTION LIMIT -1")
    assert failed.value.server_code in NO_SLOT


def test_without_another_database_the_answer_of_the_server_is_the_reason(place):
    database = replace(place.database, default_database=None)
    with place.as_rdsadmin() as admin:
        admin.run("ALTER DATABASE postgres CONNECTION LIMIT 0")
        try:
            with pytest.raises(ConnectionFailed, match="too many connections for database"):
                place.engine.connect(database, Token(MANAGER, f"token-of-{MANAGER}"), None)
        finally:
            admin.run("ALTER DATABASE postgres CONNECTION LIMIT -1")
