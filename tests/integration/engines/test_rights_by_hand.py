"""Rights that administrators, owners and users gave or took by hand on real PostgreSQL servers.

Users get what is declared all the same, and what rdsiam can't take back is named, with a statement that does.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product

import psycopg
import pytest

from rdsiam.access.users import DeclaredUser, Grant
from rdsiam.core.changes import Unreached
from rdsiam.engines.logins import AUDITOR, MANAGER, Token
from rdsiam.engines.protocols import DesiredState
from tests.integration.engines.world import World
from tests.integration.place import Client, Place
from tests.kinds import BEFORE_16, NOT_VANILLA, POSTGRES, SINCE_16

READ, WRITE = "SELECT * FROM app.t", "INSERT INTO app.t VALUES (1)"


@pytest.fixture(scope="module", params=POSTGRES)
def place(request, make_place) -> Place:
    place: Place = make_place(request.param)
    with place.as_master() as master:
        for schema in ("app", "crm", "private"):
            master.run(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (id int)")
    return place


def user(name: str, *grants: Grant, excluded: Iterable[str] = (), adopt: bool = False) -> DeclaredUser:
    return DeclaredUser(name, grants, (), (), adopt, excluded_schemas=tuple(excluded))


#: Server → the state after the last run.
STATES: dict[str, DesiredState] = {}


def converge(place: Place, *users: DeclaredUser) -> tuple[Unreached, ...]:
    """Onboard, and return the parts that were not done; without any, a second run has nothing to do."""
    state = STATES.setdefault(place.database.arn, DesiredState((), {}))
    _, after = place.converge(replace(state, users=users))
    STATES[place.database.arn] = after
    parts = (*dict.fromkeys(place.denied), *place.incomplete)
    assert parts or [one.statement for one in place.converge(after)[0]] == []
    return parts


def may(place: Place, name: str, statement: str) -> bool:
    with place.as_user(name) as client:
        try:
            client.run(statement)
        except psycopg.errors.InsufficientPrivilege:
            return False
    return True


@contextmanager
def acting_as(place: Place, role: str) -> Iterator[Client]:
    with place.as_rdsadmin() as client:
        client.run(f"SET SESSION AUTHORIZATION {role}")
        yield client


def follow(place: Place, part: Unreached) -> None:
    """Run the statement of a remedy as the role that it names."""
    assert not part.retry
    by, _, statement = part.remedy.partition(" run: ")
    role = by.rpartition("as ")[2]
    with acting_as(place, {"the owner of the schemas": "other", "an administrator": "rdsadmin"}.get(role, role)) as it:
        it.run(statement.partition("; then ")[0].partition(" (")[0])


# --- members that don't have the rights of their groups ---


def test_an_adopted_user_without_inheritance_has_the_rights_of_its_level_or_is_named(place):
    with place.as_master() as master:
        master.run("CREATE ROLE legacy LOGIN NOINHERIT")
    legacy = user("legacy", Grant("shop", "readonly"), adopt=True)
    parts = converge(place, legacy)
    if place.version < 16:
        (part,) = parts
        assert (part.what, "shop_readonly only after SET ROLE" in part.reason) == ("privileges of legacy", True)
        assert not may(place, "legacy", READ)
        follow(place, part)
    assert not converge(place, legacy)
    assert may(place, "legacy", READ)


def test_an_owner_without_inheritance_acts_as_the_group_and_needs_none(place):
    with place.as_master() as master:
        master.run("CREATE ROLE builder LOGIN NOINHERIT")
    assert not converge(place, user("builder", Grant("shop", "owner"), adopt=True))
    assert may(place, "builder", "CREATE TABLE app.built (id int)")
    assert owner_of(place, "app.built") == "shop_owner"


def owner_of(place: Place, table: str) -> str:
    with place.as_master() as master:
        ((owner,),) = master.run(f"SELECT relowner::regrole::text FROM pg_class WHERE oid = '{table}'::regclass")
    return str(owner)


@pytest.mark.parametrize("option", ["INHERIT", "SET"])
@pytest.mark.parametrize("place", SINCE_16, indirect=True)
def test_an_option_that_was_taken_from_a_membership_is_given_again(place, option):
    bill = user("bill", Grant("shop", "owner"))
    assert not converge(place, bill)
    with place.as_rdsadmin() as admin:
        admin.run(f"GRANT shop_owner TO bill WITH {option} FALSE GRANTED BY rdsiam_manager")
    assert not converge(place, bill)
    assert may(place, "bill", f"CREATE TABLE app.by_bill_{option} (id int)")
    assert owner_of(place, f"app.by_bill_{option}") == "shop_owner"


# --- users of rdsiam itself ---


LOST = {
    "dropped": "DROP OWNED BY {u} CASCADE; DROP ROLE {u}",
    "without login": "ALTER ROLE {u} NOLOGIN",
    "without rds_iam": "REVOKE rds_iam FROM {u} GRANTED BY {g} CASCADE",
    "without sessions": "ALTER ROLE {u} CONNECTION LIMIT 0",
}


@pytest.mark.parametrize(
    ("account", "lost"),
    [(AUDITOR, "dropped"), *product((MANAGER, AUDITOR), [each for each in LOST if each != "dropped"])],
)
def test_what_the_manager_and_the_auditor_need_is_restored_by_the_next_run(place, account, lost):
    assert_restored(place, account, lost)


# On the others nobody else administers the users that the manager has made: test_rights.py has the refusal.
@pytest.mark.parametrize("place", NOT_VANILLA, indirect=True)
def test_a_manager_that_was_dropped_is_restored_by_the_next_run(place):
    assert_restored(place, MANAGER, "dropped")


def assert_restored(place: Place, account: str, lost: str) -> None:
    """Take something from the manager or the auditor, and check that the next run gives it back."""
    world, ann = World(place), {"name": "ann", "privileges": "owner", "on": ["shop"]}
    world.inventory.record = replace(
        world.inventory.record,
        accounts={**STATES.setdefault(place.database.arn, DesiredState((), {})).accounts, "ann": "created"},
    )
    world.declare(ann)
    world.users().converge(apply=True)
    with place.as_rdsadmin("postgres") as admin:
        ((grantor,),) = admin.run(
            "SELECT grantor::regrole::text FROM pg_auth_members "
            f"WHERE roleid = 'rds_iam'::regrole AND member = '{account}'::regrole"
        )
        if lost == "dropped":
            for database in ("shop", "postgres"):
                with place.as_rdsadmin(database) as client:
                    client.run(f"DROP OWNED BY {account} CASCADE")
        admin.run(LOST[lost].format(u=account, g=grantor))

    result = world.users().converge(apply=True)
    assert (result.refusal, result.denied) == (None, ())
    assert result.changes
    assert world.users().converge(apply=True).changes == ()
    place.engine.connect(place.database, Token(account, f"token-of-{account}"), None).close()
    assert may(place, "ann", "CREATE TABLE app.by_ann (id int); DROP TABLE app.by_ann")
    assert place.audit()["ann"].iam
    STATES[place.database.arn] = DesiredState((), world.inventory.record.accounts)


# --- groups that somebody changed ---


@pytest.mark.parametrize("change", ["GRANT rds_iam TO shop_readwrite", "ALTER ROLE shop_readwrite LOGIN"])
@pytest.mark.parametrize("undeclared", [True, False], ids=["nobody else", "another member"])
def test_a_member_leaves_a_group_that_somebody_made_an_iam_user_or_gave_a_login(place, change, undeclared):
    others = [] if undeclared else [user("wanda", Grant("shop", "readwrite"))]
    converge(place, user("eve", Grant("shop", "readwrite")), *others)
    assert may(place, "eve", WRITE)
    with place.as_rdsadmin() as admin:
        admin.run(change)
        try:
            converge(place, user("eve", Grant("shop", "readonly")), *others)
            assert not may(place, "eve", WRITE)
            assert may(place, "eve", READ)
            assert undeclared or may(place, "wanda", WRITE)
        finally:
            admin.run("REVOKE rds_iam FROM shop_readwrite; ALTER ROLE shop_readwrite NOLOGIN")


@pytest.mark.parametrize("attribute", ["LOGIN", "CREATEROLE", "CREATEDB", "BYPASSRLS"])
def test_a_group_loses_an_attribute_that_its_members_could_use_or_it_is_named(place, attribute):
    declared = user("gil", Grant("shop", "readonly"))
    converge(place, declared)
    with place.as_rdsadmin() as admin:
        admin.run(f"ALTER ROLE shop_readonly {attribute}")
        parts = converge(place, declared)
        if attribute == "BYPASSRLS" or (attribute == "CREATEDB" and place.version > 15):
            (part,) = parts  # only roles that have it can take it
            assert part.remedy.endswith(f'run: ALTER ROLE "shop_readonly" NO{attribute}')
            admin.run(f"ALTER ROLE shop_readonly NO{attribute}")
            parts = converge(place, declared)
        assert not parts
        query = (
            "SELECT rolcanlogin, rolcreaterole, rolcreatedb, rolbypassrls FROM pg_roles WHERE rolname = 'shop_readonly'"
        )
        assert admin.run(query) == [(False, False, False, False)]
        assert may(place, "gil", READ)


# --- rights that were passed on ---


@pytest.mark.parametrize("place", SINCE_16, indirect=True)
@pytest.mark.parametrize("administrator", ["rdsadmin", "boss", "rdsiam_manager"])
def test_a_membership_that_was_passed_on_is_named_and_the_rest_is_done(place, administrator):
    fay, level = f"fay_{administrator}", "readwrite"
    converge(place, user(fay, Grant("shop", level)))
    with place.as_rdsadmin() as admin:
        admin.run("DROP ROLE IF EXISTS pal; CREATE ROLE pal LOGIN")
        if administrator == "boss":
            admin.run("GRANT shop_readwrite TO boss WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
        admin.run(f"GRANT shop_readwrite TO {fay} WITH ADMIN OPTION GRANTED BY {administrator}")
        with place.as_user(fay) as session:
            session.run("GRANT shop_readwrite TO pal")
        before = admin.run("SELECT roleid, member, grantor FROM pg_auth_members WHERE member = 'pal'::regrole")
        lowered = user(fay, Grant("shop", "readonly"))
        parts = converge(place, lowered, user("fred", Grant("shop", "readonly")))
        assert may(place, "fred", READ)
        assert admin.run("SELECT roleid, member, grantor FROM pg_auth_members WHERE member = 'pal'::regrole") == before
        (part,) = [one for one in parts if one.what == f"{fay} in shop_readwrite"]
        if "has made others members" in part.reason:
            follow(place, part)
        else:  # vanilla: nobody but RDS itself ends what it granted
            assert (place.administrator, administrator) == ("vanilla", "rdsadmin")
            admin.run(f"REVOKE shop_readwrite FROM {fay} CASCADE")
        assert not [one for one in converge(place, lowered) if one.what == part.what]
        assert not may(place, fay, WRITE)
        admin.run("REVOKE shop_readwrite FROM boss")


def test_a_privilege_that_was_passed_on_is_named_and_the_rest_is_done(place):
    with place.as_rdsadmin() as admin:
        admin.run("DROP ROLE IF EXISTS pal; CREATE ROLE pal LOGIN; CREATE ROLE vendor NOLOGIN")
        for owner in ("boss", "vendor"):
            admin.run(f"CREATE TABLE app.of_{owner} (id int); ALTER TABLE app.of_{owner} OWNER TO {owner}")
        admin.run("GRANT USAGE ON SCHEMA app TO vendor, pal; GRANT vendor TO boss WITH ADMIN OPTION")
    converge(place, user("gil", Grant("shop", ("SELECT",), ("app",))))
    with place.as_rdsadmin() as admin:
        for owner in ("boss", "vendor"):
            admin.run(f"SET SESSION AUTHORIZATION {owner}; GRANT SELECT ON app.of_{owner} TO gil WITH GRANT OPTION")
            admin.run(
                f"SET SESSION AUTHORIZATION gil; GRANT SELECT ON app.of_{owner} TO pal; RESET SESSION AUTHORIZATION"
            )
    moved = user("gil", Grant("shop", ("SELECT",), ("crm",)))
    parts = converge(place, moved)
    assert may(place, "gil", "SELECT * FROM crm.t")
    assert {part.what for part in parts} == {"privileges of gil in shop"}
    for part in parts:
        follow(place, part)
    assert not converge(place, moved)
    with place.as_rdsadmin() as admin:
        for owner in ("boss", "vendor"):
            assert admin.run(f"SELECT has_table_privilege('gil', 'app.of_{owner}', 'SELECT')") == [(False,)]
        admin.run("DROP OWNED BY vendor, pal; DROP ROLE vendor")


# --- owners that rdsiam can't act for, or not in a schema ---


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
def test_the_remedy_for_an_owner_that_is_a_member_of_the_master_works(place, indirect):
    with place.as_rdsadmin() as admin:
        admin.run("CREATE ROLE team; GRANT boss TO team; CREATE ROLE ops LOGIN")
        admin.run(f"GRANT {'team' if indirect else 'boss'} TO ops")
        admin.run(
            "CREATE TABLE app.of_ops (id int); ALTER TABLE app.of_ops OWNER TO ops; GRANT USAGE ON SCHEMA app TO ops"
        )
        try:
            cid = user("cid", Grant("shop", "readonly"))
            (what, remedy), *others = {(part.what, part.remedy) for part in converge(place, cid)}
            assert (what, others) == ("objects of ops in shop", [])
            assert remedy.startswith("ops is a member of boss; ")
            assert ('run: REVOKE "boss" FROM "ops"' in remedy) is not indirect
            admin.run(f"REVOKE {'team' if indirect else 'boss'} FROM ops")
            assert not converge(place, cid)
            assert may(place, "cid", "SELECT * FROM app.of_ops")
        finally:
            admin.run("DROP OWNED BY ops; DROP ROLE ops; REVOKE boss FROM team; DROP ROLE team")


@pytest.mark.parametrize("owner", ["etl", "boss"])
def test_objects_in_a_schema_that_their_owner_may_not_use_are_named_and_the_owners_others_are_done(place, owner):
    with place.as_rdsadmin() as admin:
        admin.run("CREATE ROLE other NOLOGIN; CREATE SCHEMA locked AUTHORIZATION other; CREATE ROLE etl NOLOGIN")
        admin.run(
            "GRANT USAGE ON SCHEMA app TO etl; REVOKE pg_read_all_data, pg_write_all_data FROM rds_superuser"
            if place.version >= 14
            else "GRANT USAGE ON SCHEMA app TO etl"
        )
        if place.version >= 16:
            admin.run("GRANT etl, other TO boss WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
        for schema in ("locked", "app"):
            admin.run(f"CREATE TABLE {schema}.lone (id int); ALTER TABLE {schema}.lone OWNER TO {owner}")
        try:
            dan = user("dan", Grant("shop", "readonly"))
            parts = converge(place, dan)
            assert may(place, "dan", "SELECT * FROM app.lone")
            (part,) = parts
            assert part.what == f"objects of {owner} in shop"
            follow(place, part)
            assert not converge(place, dan)
            assert may(place, "dan", "SELECT * FROM locked.lone")
        finally:
            admin.run("DROP SCHEMA locked CASCADE; DROP TABLE app.lone; DROP OWNED BY etl, other; DROP ROLE etl, other")
            if place.version >= 14:
                admin.run("GRANT pg_read_all_data, pg_write_all_data TO rds_superuser WITH ADMIN OPTION")


@pytest.mark.parametrize("place", BEFORE_16, indirect=True)  # from 16 on the master acts, which may use all schemas
def test_functions_whose_types_are_in_a_schema_that_their_owner_may_not_use_are_named_alone(place):
    with place.as_rdsadmin() as admin:
        admin.run("CREATE ROLE maker; CREATE ROLE other; CREATE SCHEMA types AUTHORIZATION other")
        admin.run("GRANT USAGE ON SCHEMA app TO maker; CREATE TYPE types.pair AS (a int, b int)")
        for arguments in ("types.pair[]", "int"):
            admin.run(f"CREATE FUNCTION app.f({arguments}) RETURNS int LANGUAGE sql AS 'SELECT 1'")
            admin.run(f"ALTER FUNCTION app.f({arguments}) OWNER TO maker")
            admin.run(f"REVOKE ALL ON FUNCTION app.f({arguments}) FROM PUBLIC")
        try:
            exe = user("exe", Grant("shop", ("EXECUTE",), ("app",)))
            (part,) = converge(place, exe)
            assert "maker may not use the schema types: " in part.reason
            assert may(place, "exe", "SELECT app.f(1)")
            follow(place, part)
            assert not converge(place, exe)
            assert admin.run(
                "SELECT bool_and(has_function_privilege('exe', oid, 'EXECUTE')) FROM pg_proc "
                "WHERE pronamespace = 'app'::regnamespace"
            ) == [(True,)]
        finally:
            admin.run("DROP SCHEMA types CASCADE; DROP OWNED BY maker, other; DROP ROLE maker, other")


@pytest.mark.parametrize("level", ["readonly", "owner"])
def test_databases_whose_names_are_reserved_for_roles_have_groups_too(place, level):
    with place.as_master() as master:
        for name in ("pg_stats", "rds_reports"):
            master.run(f"CREATE DATABASE {name}")
            with place.as_master(name) as client:
                client.run("CREATE TABLE of_master (id int)")
        try:
            nina = user(f"nina_{level}", *(Grant(name, level) for name in ("pg_stats", "rds_reports", "shop")))
            assert not converge(place, nina)
            for name in ("pg_stats", "rds_reports"):
                with place.as_user(nina.name, name) as client:
                    client.run("SELECT * FROM public.of_master")
            assert may(place, nina.name, READ)
        finally:
            for name in ("pg_stats", "rds_reports"):
                master.run(f"DROP DATABASE {name}")


def test_later_tables_of_a_users_role_whose_name_looks_like_one_of_rds_are_open_at_once(place):
    with place.as_rdsadmin() as admin:
        admin.run("CREATE ROLE rds_reports LOGIN; GRANT USAGE, CREATE ON SCHEMA app TO rds_reports")
        if place.version >= 16:
            admin.run("GRANT rds_reports TO boss WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
        try:
            with acting_as(place, "rds_reports") as owner:
                owner.run("CREATE TABLE app.report (id int)")
                assert not converge(place, user("rita", Grant("shop", "readonly")))
                owner.run("CREATE TABLE app.later_report (id int)")
            for table in ("report", "later_report"):
                assert may(place, "rita", f"SELECT * FROM app.{table}")
        finally:
            admin.run("DROP OWNED BY rds_reports; DROP ROLE rds_reports")


def test_an_excluded_schema_that_another_role_opened_is_named(place):
    with place.as_rdsadmin() as admin:
        admin.run("CREATE ROLE dba LOGIN")
    with place.as_master() as master:
        master.run(
            "GRANT USAGE ON SCHEMA private TO dba WITH GRANT OPTION; GRANT SELECT ON private.t TO dba WITH GRANT OPTION"
        )
    jim = user("jim", Grant("shop", "readonly"), excluded=("private",))
    assert not converge(place, jim)
    with acting_as(place, "dba") as dba:
        dba.run("GRANT USAGE ON SCHEMA private TO shop_readonly; GRANT SELECT ON private.t TO shop_readonly")
    assert may(place, "jim", "SELECT * FROM private.t")
    (part,) = converge(place, jim)
    assert (part.what, part.reason) == ("excluded schema private in shop", "dba opened it to shop_readonly")
    follow(place, part)
    assert not converge(place, jim)
    assert not may(place, "jim", "SELECT * FROM private.t")
