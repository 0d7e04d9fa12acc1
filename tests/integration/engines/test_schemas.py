"""Schemas on real PostgreSQL servers: levels open all but the excluded ones, `schemas` limits a user to some."""

import json
from collections.abc import Iterable
from dataclasses import replace

import psycopg
import pytest

from rdsiam.access.users import DeclaredUser, Grant
from rdsiam.engines.protocols import DesiredState
from rdsiam.engines.registry import REMEDIATIONS
from rdsiam.onboarding.privileges import Batch
from rdsiam.state.escalations import Examined
from rdsiam.state.record import Record
from tests.integration.engines.world import World
from tests.integration.place import DENIED, Client, Place
from tests.kinds import POSTGRES

# test_real_schemas.py has such an administrator's schemas.
pytestmark = pytest.mark.exhaustive_on("vanilla", "postgres14")

#: Names as people and tools make them; the last has 63 bytes.
ODD = ('We "quote"', "select", "100% {}", "ünïcode", "x" * 63)
SCHEMAS = ("app", "crm", "private", *ODD)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.fixture(scope="module", params=POSTGRES)
def place(request, make_place) -> Place:
    """Return a server whose database has a table, a sequence and functions of two owners in each schema."""
    place: Place = make_place(request.param)
    with place.as_master() as master:
        master.run("CREATE DATABASE stock")
        master.run("CREATE ROLE vendor NOLOGIN")
        master.run("GRANT vendor TO boss")
        for name in SCHEMAS:
            master.run(f"CREATE SCHEMA {quoted(name)}; GRANT ALL ON SCHEMA {quoted(name)} TO vendor")
            fill(master, name, "t")
            master.run("SET ROLE vendor")
            fill(master, name, "of_vendor")
            master.run("RESET ROLE")
        master.run("CREATE TABLE public.t (id int)")
    return place


def fill(client: Client, schema: str, name: str) -> None:
    """Make a table, a sequence, a function and a procedure that PUBLIC may not call."""
    s = quoted(schema)
    client.run(f"CREATE TABLE {s}.{name} (id serial PRIMARY KEY, v int)")
    client.run(f"INSERT INTO {s}.{name} (v) VALUES (7)")
    client.run(f"CREATE FUNCTION {s}.f_{name}(a int, b text DEFAULT '') RETURNS int LANGUAGE sql AS 'SELECT 7'")
    client.run(f"CREATE PROCEDURE {s}.p_{name}(INOUT a int) LANGUAGE plpgsql AS 'BEGIN a := 7; END'")
    client.run(f"REVOKE EXECUTE ON ROUTINE {s}.f_{name}, {s}.p_{name} FROM PUBLIC")


def user(name: str, *grants: Grant, excluded: Iterable[str] = (), adopt: bool = False) -> DeclaredUser:
    return DeclaredUser(name, grants, (), (), adopt, excluded_schemas=tuple(sorted(excluded)))


def converge(place: Place, *users: DeclaredUser) -> DesiredState:
    """Onboard twice: the second run has nothing to do."""
    state = STATES.setdefault(place.database.arn, DesiredState((), {}))
    _, after = place.converge(replace(state, users=users))
    STATES[place.database.arn] = after
    assert [one.statement for one in place.converge(after)[0]] == []
    return after


#: Server → the state after the last run, with all that the inventory would hold.
STATES: dict[str, DesiredState] = {}


def readable(place: Place, name: str, action: str = "SELECT") -> set[str]:
    """Return the schemas in which a user may do that to all tables, as the server says by doing it."""
    statement = {"SELECT": "SELECT v FROM {}", "INSERT": "INSERT INTO {} (v) VALUES (1)"}[action]
    result = set()
    with place.as_user(name) as client:
        for schema in SCHEMAS:
            done = set()
            for table in ("t", "of_vendor"):
                try:
                    client.run(statement.format(f"{quoted(schema)}.{table}"))
                    done.add(table)
                except psycopg.errors.InsufficientPrivilege:
                    pass
            assert len(done) != 1, f"{name} may {action} only {done} in {schema}"
            result |= {schema} if done else set()
    return result


def examined(place: Place, desired: DesiredState) -> Examined:
    place.converge(desired, apply=False)
    return place.examined


@pytest.mark.parametrize("level", ["readonly", "readwrite", "owner"])
def test_a_level_opens_all_schemas_but_the_excluded_ones(place, level):
    after = converge(place, user("ann", Grant("shop", level), excluded=("private", ODD[0], "no such")))

    assert readable(place, "ann") == {*SCHEMAS} - {"private", ODD[0]}
    (opened,) = examined(place, after).schemas.opened
    assert (opened.database, set(opened.schemas)) == ("shop", {*SCHEMAS, "public"} - {"private", ODD[0]})
    assert opened.count == len(opened.schemas)


@pytest.mark.parametrize("level", ["readonly", "readwrite", "owner"])
def test_a_schema_that_is_excluded_later_is_closed_and_one_that_no_longer_is_opens(place, level):
    converge(place, user("ann", Grant("shop", level)))
    assert readable(place, "ann") == {*SCHEMAS}

    converge(place, user("ann", Grant("shop", level), excluded=("private", *ODD)))
    assert readable(place, "ann") == {"app", "crm"}

    converge(place, user("ann", Grant("shop", level), excluded=("app",)))
    assert readable(place, "ann") == {*SCHEMAS} - {"app"}


def test_later_tables_of_an_excluded_schema_stay_closed_even_if_everybody_may_use_the_schema(place):
    converge(place, user("ann", Grant("shop", "readonly")))
    converge(place, user("ann", Grant("shop", "readonly"), excluded=("public",)))
    with place.as_master() as master, place.as_user("ann") as ann:
        master.run("CREATE TABLE IF NOT EXISTS public.later (id int); CREATE TABLE IF NOT EXISTS app.later (id int)")
        ann.run("SELECT * FROM app.later")
        for table in ("later", "t"):
            with pytest.raises(DENIED):
                ann.run(f"SELECT * FROM public.{table}")


def test_with_exclusions_a_new_schema_opens_with_the_next_run(place):
    declared = user("ann", Grant("shop", "readonly"), excluded=("private", "hidden"))
    converge(place, declared)
    with place.as_master() as master, place.as_user("ann") as ann:
        master.run("CREATE SCHEMA fresh; CREATE TABLE fresh.t (id int)")
        master.run("CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int)")
        try:
            with pytest.raises(DENIED):
                ann.run("SELECT * FROM fresh.t")
            converge(place, declared)
            ann.run("SELECT * FROM fresh.t")
            with pytest.raises(DENIED):
                ann.run("SELECT * FROM hidden.t")
        finally:
            master.run("DROP SCHEMA fresh, hidden CASCADE")


def test_a_user_limited_to_schemas_reads_those_and_nothing_else_also_later_tables(place):
    converge(place, user("bob", Grant("shop", "readonly", ("app", *ODD))))

    assert readable(place, "bob") == {"app", *ODD}
    assert readable(place, "bob", "INSERT") == set()
    with place.as_master() as master, place.as_user("bob") as bob:
        for number, schema in enumerate(("app", *ODD, "crm")):
            master.run(f"CREATE TABLE {quoted(schema)}.later{number} (id int)")
            if schema != "crm":
                bob.run(f"SELECT * FROM {quoted(schema)}.later{number}")
                continue
            with pytest.raises(DENIED):
                bob.run(f"SELECT * FROM {quoted(schema)}.later{number}")


def test_a_user_limited_to_other_schemas_loses_the_former_ones(place):
    converge(place, user("bob", Grant("shop", "readwrite", ("app", "private", ODD[0]))))
    assert readable(place, "bob", "INSERT") == {"app", "private", ODD[0]}

    converge(place, user("bob", Grant("shop", "readwrite", ("app",)), Grant("shop", "readonly", ("crm",))))

    assert readable(place, "bob", "INSERT") == {"app"}
    assert readable(place, "bob") == {"app", "crm"}
    with place.as_master() as master, place.as_user("bob") as bob:
        master.run("CREATE TABLE private.after_bob (id int); GRANT SELECT ON private.after_bob TO PUBLIC")
        with pytest.raises(DENIED):
            bob.run("SELECT * FROM private.after_bob")


def test_a_user_whose_limit_moves_to_another_database_loses_all_of_the_former(place):
    converge(place, user("bob", Grant("shop", "readonly", ("app",))))

    converge(place, user("bob", Grant("stock", "readonly", ("public",))))

    assert readable(place, "bob") == set()
    with place.as_master() as master:
        for catalog, acl in (("pg_default_acl", "defaclacl"), ("pg_namespace", "nspacl"), ("pg_class", "relacl")):
            query = f"SELECT 1 FROM {catalog}, aclexplode({acl}) a WHERE a.grantee = 'bob'::regrole"
            assert master.run(query) == [], catalog


@pytest.mark.parametrize("before", [Grant("shop", "readwrite", ("app",)), Grant("shop", ("SELECT", "UPDATE"))])
def test_a_user_that_gets_a_level_loses_what_it_had_itself(place, before):
    converge(place, user("bob", before))
    converge(place, user("bob", Grant("shop", "readonly")))

    assert readable(place, "bob") == {*SCHEMAS}
    assert readable(place, "bob", "INSERT") == set()
    with place.as_master() as master:
        query = "SELECT 1 FROM pg_class, aclexplode(relacl) a WHERE a.grantee = 'bob'::regrole"
        assert master.run(query) == []

    converge(place, user("bob", before))
    assert readable(place, "bob") == (set(before.schemas) if before.schemas else {*SCHEMAS})


def test_a_named_schema_is_open_even_if_it_is_excluded(place):
    converge(
        place,
        user("ann", Grant("shop", "readonly"), excluded=("private",)),
        user("dpo", Grant("shop", "readonly"), Grant("shop", "readonly", ("private",)), excluded=("private",)),
    )

    assert readable(place, "ann") == {*SCHEMAS} - {"private"}
    assert readable(place, "dpo") == {*SCHEMAS}


def test_grants_of_others_stay(place):
    converge(place, user("eve", Grant("shop", ("SELECT",), ("app", "private"))))
    with place.as_master() as master:
        master.run("GRANT USAGE ON SCHEMA crm TO eve; GRANT SELECT, UPDATE ON crm.t TO eve")
        master.run("ALTER DEFAULT PRIVILEGES IN SCHEMA crm GRANT SELECT ON TABLES TO eve")
        master.run("GRANT UPDATE ON private.t TO eve")
        converge(place, user("eve", Grant("shop", ("SELECT",), ("app",))))

        assert master.run("SELECT has_table_privilege('eve', 'crm.t', 'SELECT, UPDATE')") == [(True,)]
        assert master.run("SELECT has_table_privilege('eve', 'private.t', 'SELECT')") == [(False,)]
        assert master.run("SELECT has_table_privilege('eve', 'private.t', 'UPDATE')") == [(True,)]
        query = "SELECT n.nspname FROM pg_default_acl JOIN pg_namespace n ON n.oid = defaclnamespace, "
        query += "aclexplode(defaclacl) a WHERE a.grantee = 'eve'::regrole AND defaclrole = 'boss'::regrole"
        assert master.run(query + " AND defaclobjtype = 'r' ORDER BY 1") == [("app",), ("crm",)]


def test_execute_is_granted_by_lists_only_on_functions_and_procedures_of_now_and_later(place):
    converge(
        place,
        user("ann", Grant("shop", "owner")),
        user("exe", Grant("shop", ("EXECUTE",), ("app", ODD[0]))),
        user("all", Grant("shop", ("EXECUTE", "SELECT"))),
    )
    with place.as_master() as master:
        master.run("SET ROLE vendor")
        for schema in ("app", "crm"):
            master.run(f"CREATE FUNCTION {schema}.later(int) RETURNS int LANGUAGE sql AS 'SELECT 7'")
            master.run(f"REVOKE EXECUTE ON FUNCTION {schema}.later FROM PUBLIC")
    calls = {
        schema: [f"SELECT {quoted(schema)}.f_{name}(1)" for name in ("t", "of_vendor")]
        + [f"CALL {quoted(schema)}.p_{name}(1)" for name in ("t", "of_vendor")]
        for schema in SCHEMAS
    }
    calls["app"].append("SELECT app.later(1)")
    calls["crm"].append("SELECT crm.later(1)")
    for name, may in (("ann", set()), ("exe", {"app", ODD[0]}), ("all", {*SCHEMAS})):
        with place.as_user(name) as client:
            for schema, statements in calls.items():
                for statement in statements:
                    if schema in may:
                        assert client.run(statement) == [(7,)]
                        continue
                    with pytest.raises(DENIED):
                        client.run(statement)

    converge(place, user("ann", Grant("shop", "owner")), user("exe", Grant("shop", ("SELECT",), ("app",))))
    with place.as_user("exe") as client:
        for statement in (*calls["app"], *calls[ODD[0]]):
            with pytest.raises(DENIED):
                client.run(statement)


def test_execute_gives_no_function_that_runs_as_an_administrator(place):
    """Neither at once, nor if the function is changed later, nor by default privileges."""
    escalate = "LANGUAGE plpgsql {} AS $$ BEGIN EXECUTE 'GRANT rds_superuser TO exe'; RETURN 1; END $$"
    with place.as_master() as master:
        for name, how in (("now", "SECURITY DEFINER"), ("turned", "")):
            master.run(f"CREATE FUNCTION app.{name}() RETURNS int {escalate.format(how)}")
            master.run(f"REVOKE EXECUTE ON FUNCTION app.{name} FROM PUBLIC")
        converge(place, user("exe", Grant("shop", ("EXECUTE",))))
        master.run("ALTER FUNCTION app.turned SECURITY DEFINER")
        master.run(f"CREATE FUNCTION app.after() RETURNS int {escalate.format('SECURITY DEFINER')}")
        master.run("REVOKE EXECUTE ON FUNCTION app.after FROM PUBLIC")
        converge(place, user("exe", Grant("shop", ("EXECUTE",))))
    for name in ("now", "turned", "after"):
        with place.as_user("exe") as client, pytest.raises(DENIED):
            client.run(f"SELECT app.{name}()")


def test_an_excluded_schema_that_the_owners_own_is_named_and_closed_to_the_others(place):
    users = (user("maker", Grant("shop", "owner")), user("ann", Grant("shop", "readonly")))
    converge(place, *users)
    with place.as_user("maker") as maker:
        maker.run("CREATE SCHEMA made; CREATE TABLE made.t (id int)")
        try:
            converge(place, *users)
            after = converge(place, *(replace(each, excluded_schemas=("made",)) for each in users))
            place.converge(after, apply=False)
            (part,) = place.missing
            assert (part.what, part.retry) == ("excluded schema made in shop", False)
            with place.as_user("ann") as ann, pytest.raises(DENIED):
                ann.run("SELECT * FROM made.t")
        finally:
            maker.run("DROP SCHEMA made CASCADE")


#: Functions whose arguments are hard to write.
KINDS_OF_FUNCTIONS = """
CREATE SCHEMA "S {}%s";
CREATE TYPE "S {}%s"."Ty,pe (" AS (a int);
CREATE TYPE "S {}%s"."char" AS ENUM ('a');
CREATE AGGREGATE "S {}%s".ordered(int ORDER BY int) (SFUNC = int4larger, STYPE = int, INITCOND = '0');
CREATE AGGREGATE "S {}%s".star(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0');
CREATE FUNCTION "S {}%s".f("char"[], "S {}%s"."char", "S {}%s"."Ty,pe ("[], VARIADIC text[]) RETURNS SETOF int
    LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION "S {}%s".f() RETURNS TABLE (a int, b text) LANGUAGE sql AS $$ SELECT 1, 'x' $$;
CREATE FUNCTION "S {}%s".g(OUT a int, INOUT b int, c numeric(10, 2) DEFAULT 1) LANGUAGE sql AS 'SELECT 1, 2';
CREATE FUNCTION "S {}%s".h(bit varying, char, time with time zone, interval day to second) RETURNS int
    LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION "S {}%s".t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE PROCEDURE "S {}%s".p() LANGUAGE plpgsql AS 'BEGIN END';
CREATE PROCEDURE "S {}%s".p(int, VARIADIC int[]) LANGUAGE plpgsql AS 'BEGIN END';
CREATE PROCEDURE "S {}%s".q(INOUT a int) LANGUAGE plpgsql AS 'BEGIN END';
"""
#: Only the modes of their arguments tell them apart; procedures have OUT since 14.
AMBIGUOUS = """
CREATE PROCEDURE "S {}%s".q(int, int) LANGUAGE plpgsql AS 'BEGIN END';
CREATE PROCEDURE "S {}%s".q(text, OUT b int) LANGUAGE plpgsql AS 'BEGIN b := 1; END';
CREATE PROCEDURE "S {}%s".q(text, int) LANGUAGE plpgsql AS 'BEGIN END';
"""


def test_functions_of_all_kinds_are_granted_and_revoked(place):
    functions = "SELECT count(*) FROM pg_proc WHERE pronamespace = '\"S {}%s\"'::regnamespace"
    granted = (
        "SELECT count(*) FROM pg_proc, aclexplode(proacl) WHERE pronamespace = '\"S {}%s\"'::regnamespace "
        "AND grantee = 'exe'::regrole"
    )
    with place.as_master() as master:
        master.run(KINDS_OF_FUNCTIONS + (AMBIGUOUS if place.version >= 14 else ""))
        try:
            converge(place, user("exe", Grant("shop", ("EXECUTE",))))
            assert master.run(granted) == master.run(functions)
            converge(place, user("exe", Grant("shop", ("SELECT",))))
            assert master.run(granted) == [(0,)]
        finally:
            master.run('DROP SCHEMA "S {}%s" CASCADE')


def test_maintain_is_a_listed_privilege_from_17_on_and_an_older_server_names_it_and_does_the_rest(place):
    mia = user("mia", Grant("shop", ("MAINTAIN",), ("app",)), Grant("shop", ("MAINTAIN", "SELECT"), ("crm",)))
    after = converge(place, mia, user("bob", Grant("shop", "readonly", ("app",))))
    assert readable(place, "bob") == {"app"}
    with place.as_user("mia") as client:
        client.run("SELECT * FROM crm.t")
    place.converge(after, apply=False)
    parts = place.missing
    if place.version < 17:
        (part,) = parts
        assert (part.what, part.retry) == ("MAINTAIN of mia", False)
        assert f"from PostgreSQL 17 on (the server has {place.version})" in part.reason
        return
    assert parts == []
    converge(place, user("mia", Grant("shop", ("MAINTAIN",), ("app",))))
    with place.as_user("mia") as mia:
        mia.run("VACUUM app.t")
        mia.run("REINDEX TABLE app.of_vendor")
        with pytest.raises(DENIED):
            mia.run("REINDEX TABLE crm.t")
        with pytest.raises(DENIED):
            mia.run("SELECT * FROM app.t")


def test_an_adopted_user_keeps_what_it_had_before(place):
    with place.as_master() as master:
        master.run("CREATE ROLE legacy LOGIN; GRANT USAGE ON SCHEMA crm TO legacy; GRANT SELECT ON crm.t TO legacy")
        converge(place, user("legacy", Grant("shop", "readonly", ("app", "private")), adopt=True))
        converge(place, user("legacy", Grant("shop", "readonly", ("app",)), adopt=True))
        for table, may in (("app.t", True), ("private.t", False), ("crm.t", True)):
            assert master.run(f"SELECT has_table_privilege('legacy', '{table}', 'SELECT')") == [(may,)]
        assert master.run("SELECT has_schema_privilege('legacy', 'private', 'USAGE')") == [(False,)]


def test_a_schema_that_does_not_exist_is_named_and_the_rest_is_done(place):
    declared = user("bob", Grant("shop", "readonly", ("app", "nowhere")))
    after = converge(place, declared)

    assert readable(place, "bob") == {"app"}
    place.converge(after, apply=False)
    (part,) = place.missing
    assert (part.what, part.retry) == ("schema nowhere in shop", False)
    assert "bob" in part.reason


def test_a_schema_in_which_everybody_may_create_is_found_and_closed_by_the_remediation(place):
    """Up to 14 it is so from the start, and stays so when the server is upgraded."""
    declared = user("ann", Grant("shop", "readonly"))
    after = converge(place, declared)
    with place.as_master() as master, place.as_user("ann") as ann:
        assert [one.schema for one in examined(place, after).schemas.public if one.database == "shop"] == (
            ["public"] if place.version < 15 else []
        )
        master.run(f"GRANT CREATE ON SCHEMA public, {quoted(ODD[0])} TO PUBLIC")
        ann.run("CREATE TABLE public.mine (id int)")
        found = [one for one in examined(place, after).schemas.public if one.database == "shop"]
        assert [one.schema for one in found] == [ODD[0], "public"]
        for one in found:
            master.run(REMEDIATIONS["postgres"].close_schema(one.schema))

        assert [one for one in examined(place, after).schemas.public if one.database == "shop"] == []
        for schema in ("public", ODD[0]):
            with pytest.raises(DENIED):
                ann.run(f"CREATE TABLE {quoted(schema)}.another (id int)")


def world_of(place: Place) -> World:
    """Return onboarding's own work on the database, with an inventory that knows what the tests before have made."""
    converge(place)
    world = World(place)
    state = STATES[place.database.arn]
    world.inventory.record = replace(world.inventory.record, accounts=dict(state.accounts), granted=dict(state.granted))
    return world


def on_schemas(name: str, *schemas: str, **more: object) -> dict[str, object]:
    return {"name": name, "privileges": "readonly", "on": [{"database": "shop", "schemas": list(schemas)}], **more}


def finish(place: Place, world: World) -> None:
    """Let later tests know of the accounts and grants of a world."""
    record = world.inventory.record
    STATES[place.database.arn] = DesiredState((), record.accounts, granted=record.granted)


def test_grants_are_recorded_before_they_are_made_and_until_they_are_revoked(place, monkeypatch):
    world = world_of(place)
    both = (Grant("shop", "readonly", ("app",)), Grant("shop", "readonly", ("crm",)))
    world.declare(on_schemas("gail", "app"))
    world.onboard()
    assert world.inventory.record.granted["gail"] == both[:1]
    world.declare(on_schemas("gail", "crm"))

    def killed(*_: object) -> None:
        assert set(world.inventory.record.granted["gail"]) == set(both)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(place.engine), "converge_databases", killed)
        with pytest.raises(KeyboardInterrupt):
            world.onboard()
    assert readable(place, "gail") == {"app"}

    world.onboard()

    assert readable(place, "gail") == {"crm"}
    assert world.inventory.record.granted["gail"] == both[1:]
    finish(place, world)


def test_a_user_that_is_no_longer_declared_keeps_its_record_until_it_returns(place):
    world = world_of(place)
    world.declare(on_schemas("gus", "app", "private"), on_schemas("stays", "crm"))
    world.onboard()
    world.declare(on_schemas("stays", "crm"))
    world.onboard()
    world.declare(on_schemas("gus", "app"), on_schemas("stays", "crm"))

    world.onboard()

    assert readable(place, "gus") == {"app"}
    finish(place, world)


def test_a_copy_begins_with_the_grants_that_are_recorded_for_its_source(place):
    world = world_of(place)
    world.declare(on_schemas("cora", "app", "private"))
    world.onboard()
    source = world.inventory.record
    world.inventory.record = Record("db-COPY")
    world.inventory.sources = {place.database.resource_id: source}
    world.database = replace(world.database, resource_id="db-COPY")
    world.declare(on_schemas("cora", "app"))

    assert world.onboard().refusal is None

    assert readable(place, "cora") == {"app"}
    assert world.inventory.record.granted["cora"] == (Grant("shop", "readonly", ("app",)),)
    # The tests that follow know the server as the source again.
    world.database, world.inventory.record = place.database, source
    world.onboard()
    finish(place, world)


def test_a_plan_lists_schemas_and_a_missing_one_is_named_by_plan_and_run(place):
    world = world_of(place)
    all_but_one = {"name": "ann", "privileges": "readonly", "on": ["shop"]}
    world.declare(all_but_one, on_schemas("leo", "app", "nowhere"), exclude_schemas=["private"])

    for apply in (False, True):
        result = world.onboard(apply)
        assert result.refusal is None
        assert Batch.from_json(json.loads(json.dumps(result.batch.to_json()))).schemas == result.batch.schemas
        assert [(one.database, set(one.schemas)) for one in result.batch.schemas] == [
            ("shop", {*SCHEMAS, "public"} - {"private"})
        ]
        assert [part.what for part in result.missing] == ["schema nowhere in shop"]
    finish(place, world)
