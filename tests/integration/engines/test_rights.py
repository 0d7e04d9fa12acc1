"""Rights of the master and the manager, on each version of PostgreSQL and with both kinds of administrators."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rdsiam.access.users import DeclaredUser
from rdsiam.aws.secrets.client import SecretsManager
from rdsiam.engines.logins import MANAGER, Logins, Password
from rdsiam.engines.postgres import effect
from rdsiam.engines.postgres.connection import PostgresSession
from rdsiam.engines.postgres.migration import PostgresMigrator
from rdsiam.engines.postgres.rotation import PostgresRotator
from rdsiam.engines.postgres.snapshot import Snapshot
from rdsiam.engines.protocols import DesiredState, Sessions
from rdsiam.engines.statements import Statement
from rdsiam.errors import Refused
from tests.integration.place import DENIED, MASTER, MASTER_PASSWORD, Place, user
from tests.kinds import BEFORE_16, POSTGRES, SINCE_16

ADMINISTERS = "GRANT {o} TO boss WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"
NUMBERS = itertools.count()
_MANAGED = r"('rdsiam_manager', 'rdsiam_auditor', 'reader', 'writer', 'maker')"
#: Every membership, without those of the roles that rdsiam manages.
OTHERS_MEMBERSHIPS = rf"""
SELECT g.rolname, m.rolname, b.rolname, to_jsonb(a) - 'oid' FROM pg_auth_members a
JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member JOIN pg_roles b ON b.oid = a.grantor
WHERE m.rolname NOT IN {_MANAGED} AND m.rolname NOT LIKE '%\_iam'
AND g.rolname NOT IN {_MANAGED} AND g.rolname NOT LIKE '%\_iam' AND g.rolname NOT LIKE 'shop\_%' ORDER BY 1, 2, 3
"""
THREE = (user("reader", ("shop", "readonly")), user("writer", ("shop", "readwrite")), user("maker", ("shop", "owner")))


@pytest.fixture(scope="module")
def place(request, make_place) -> Place:
    place: Place = make_place(request.param)
    with place.as_master() as master:
        master.run("CREATE TABLE of_master (id int)")
    place.known |= set(place.converge(DesiredState(THREE, {}))[1].accounts)
    return place


@pytest.fixture
def desired(place) -> DesiredState:
    """Return the state with three users, as it is between all tests."""
    return DesiredState(THREE, dict.fromkeys(place.known, "created"))


on_all = pytest.mark.parametrize("place", POSTGRES, indirect=True)
on_newer = pytest.mark.parametrize("place", SINCE_16, indirect=True)
on_vanilla = pytest.mark.parametrize("place", ["postgres-vanilla"], indirect=True)


def may_write(place: Place, name: str) -> bool:
    with place.as_user(name) as session:
        try:
            session.run("INSERT INTO of_master VALUES (1)")
        except DENIED:
            return False
    return True


# --- memberships that somebody else granted ---


@on_all
@pytest.mark.parametrize("by", ["rdsadmin", MASTER, "another administrator"])
def test_a_membership_that_another_role_granted_ends_or_is_named_and_is_never_said_to_have_ended(place, desired, by):
    newer = place.version >= 16
    with place.as_rdsadmin() as admin:
        if by == "another administrator":
            admin.run("CREATE ROLE another LOGIN CREATEROLE PASSWORD 'another-Password-1'")
        if newer and by != "rdsadmin":
            admin.run(f"GRANT shop_readwrite TO {by.split()[0]} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
        if by == "rdsadmin":
            admin.run("GRANT shop_readwrite TO reader")
    if by == MASTER:
        with place.as_master() as master:
            master.run("GRANT shop_readwrite TO reader")
    elif by != "rdsadmin":
        with place.login(Password("another", "another-Password-1")) as another:
            another.run("GRANT shop_readwrite TO reader")
    assert may_write(place, "reader")
    try:
        statements, _ = place.converge(desired)
        assert [s.statement for s in statements if s.kind == "revoke"] != []
        ended = place.denied == []
        assert may_write(place, "reader") is not ended
        assert ended == (not newer or by == MASTER or (by == "rdsadmin" and place.administrator == "rds"))
        if not ended:
            (part,) = place.denied
            assert part.what == "reader in shop_readwrite"
            assert by.split()[0] in part.reason
            assert not part.retry
            place.converge(desired)
            assert place.denied == [part]
            with place.as_rdsadmin() as admin:
                admin.run(part.remedy.partition(" run: ")[2])
        assert place.converge(desired)[0] == []
        assert not may_write(place, "reader")
    finally:
        with place.as_rdsadmin() as admin:
            for name in (MASTER, "another"):
                if admin.run(f"SELECT 1 FROM pg_roles WHERE rolname = '{name}'"):
                    admin.run(f"REVOKE shop_readwrite FROM {name} CASCADE")
            admin.run("DROP ROLE IF EXISTS another")


@on_newer
def test_a_statement_of_a_rotation_or_a_removal_that_had_no_effect_fails(place, desired):
    session = place.connect("manager", "postgres")
    with place.as_rdsadmin() as admin:
        admin.run("CREATE ROLE team; GRANT team TO reader; GRANT team TO rdsiam_manager WITH ADMIN TRUE")
    try:
        with pytest.raises(effect.NoEffect, match='"reader" has not been granted membership in role "team"'):
            effect.execute(session, "REVOKE team FROM reader")
        session.rollback()
    finally:
        session.close()
        with place.as_rdsadmin() as admin:
            admin.run("DROP ROLE team")


@on_all
def test_a_privilege_that_was_not_granted_fails_and_a_session_that_is_gone_does_not(place, desired):
    with place.as_rdsadmin() as admin:
        admin.run("CREATE TABLE of_rdsadmin (id int); GRANT SELECT ON of_rdsadmin TO boss")
    session: PostgresSession = place.connect("master", "shop")
    try:
        with pytest.raises(effect.NoEffect):
            effect.execute(session, "GRANT SELECT ON public.of_rdsadmin TO reader")
        session.rollback()
        effect.execute(session, "SELECT pg_terminate_backend(2147483)")  # a warning: there is no such session
    finally:
        session.close()
        with place.as_rdsadmin() as admin:
            admin.run("DROP TABLE of_rdsadmin")


# --- owners that somebody has to act for ---


@pytest.fixture
def owner(place) -> Iterator[str]:
    """Return a user that RDS itself made, so that no administrator has ADMIN OPTION on it, and that owns a table."""
    name = f"owner{next(NUMBERS)}"
    with place.as_rdsadmin() as admin:
        admin.run(f"CREATE ROLE {name} LOGIN PASSWORD 'owner-Password-1'")
        admin.run(f"GRANT CREATE, USAGE ON SCHEMA public TO {name}")
    with place.login(Password(name, "owner-Password-1")) as session:
        session.run(f"CREATE TABLE of_{name} (id int)")
    yield name
    with place.as_rdsadmin() as admin:
        admin.run(f"DROP OWNED BY {name}; DROP ROLE {name}")


def reads(place: Place, table: str) -> bool:
    with place.as_user("reader") as session:
        try:
            session.run(f"SELECT * FROM {table}")
        except DENIED:
            return False
    return True


@on_all
def test_tables_of_an_owner_are_granted_by_whoever_the_server_lets_act_for_it(place, desired, owner):
    with place.as_rdsadmin() as admin:
        before = admin.run(OTHERS_MEMBERSHIPS)
    statements, _ = place.converge(desired, apply=False)
    place.converge(desired)
    authority = "manager" if place.version < 16 else "master"
    assert {s.authority for s in statements} == {authority}
    if place.version < 16 or place.administrator == "rds":
        assert place.denied == []
        assert reads(place, f"of_{owner}")
        assert place.converge(desired)[0] == []
    else:
        assert [part.what for part in place.denied][:1] == [f"objects of {owner} in shop"]
    with place.as_rdsadmin() as admin:
        assert admin.run(OTHERS_MEMBERSHIPS) == before


@on_vanilla
def test_one_owner_that_nobody_administers_is_named_and_the_rest_is_done(place, desired, owner):
    """The owner is an IAM user: the remedy that is printed must not make the master one."""
    newcomer = f"new{next(NUMBERS)}_iam"
    with place.as_rdsadmin() as admin:
        admin.run(f"GRANT rds_iam TO {owner}")
    with place.as_master() as master:
        master.run(f"CREATE TABLE later_{owner} (id int)")
    planned, _ = place.converge(desired, apply=False)
    assert all(s.denied for s in planned if owner in s.statement)
    users = (*THREE, user(newcomer, ("shop", "readonly")))
    statements, after = place.converge(replace(desired, users=users))
    assert any(s.kind == "create-user" for s in statements)
    with place.as_user(newcomer) as session:
        session.run(f"SELECT * FROM later_{owner}")
        with pytest.raises(DENIED):
            session.run(f"SELECT * FROM of_{owner}")
    remedies = {part.remedy for part in place.denied}
    assert len(remedies) == 1
    statement = remedies.pop().partition(" run: ")[2].partition(";")[0]
    assert statement == f'GRANT "{owner}" TO "boss" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE'
    with place.as_rdsadmin() as admin:
        admin.run(statement)
    again, _ = place.converge(after)
    assert place.denied == []
    assert all(owner in s.statement for s in again)
    assert reads(place, f"of_{owner}")
    assert place.converge(after)[0] == []
    place.as_master().__exit__()
    assert not place.audit()[MASTER].iam
    place.converge(replace(after, users=THREE))
    place.known.add(newcomer)


@on_all
def test_objects_of_a_superuser_are_named_also_in_a_plan(place, desired, owner):
    with place.as_rdsadmin() as admin:
        admin.run(f"ALTER ROLE {owner} SUPERUSER")
    planned, _ = place.converge(desired, apply=False)
    assert planned
    assert [s for s in planned if not s.doubtful] == []
    place.converge(desired)
    assert {part.what for part in place.denied} == {f"objects of {owner} in shop"}
    remedy = place.denied[0].remedy.partition("run as a superuser: ")[2]
    assert remedy == f'REASSIGN OWNED BY "{owner}" TO "boss"'
    with place.as_rdsadmin() as admin:
        admin.run(remedy)
    place.converge(desired)
    assert reads(place, f"of_{owner}")
    assert place.converge(desired)[0] == []
    with place.as_master() as master:
        master.run(f"DROP TABLE of_{owner}")


@on_newer
def test_objects_of_a_role_that_the_master_inherits_from_need_no_other_right(place, desired, owner):
    with place.as_rdsadmin() as admin:
        admin.run(f"CREATE ROLE between; GRANT {owner} TO between; GRANT between TO boss")
    try:
        statements, _ = place.converge(desired)
        assert statements
        assert not any("INHERIT" in s.statement for s in statements)
        assert place.denied == []
        assert reads(place, f"of_{owner}")
    finally:
        with place.as_rdsadmin() as admin:
            admin.run("DROP ROLE between")


@on_newer
def test_without_the_masters_secret_owners_that_need_the_master_are_named_and_the_rest_is_done(place, desired, owner):
    newcomer = user(f"new{next(NUMBERS)}_iam", ("shop", "readonly"))
    wanted = replace(desired, users=(*THREE, newcomer))

    def connect(authority: str, name: str | None) -> PostgresSession:
        if authority == "master":
            raise Refused("there is no master secret", "let RDS manage the password", "master-secret")
        session: PostgresSession = place.connect(authority, name)
        return session

    sessions = Sessions(connect, "manager")
    try:
        snapshot = place.engine.inspect(sessions, place.database, wanted)
        statements = place.engine.difference(snapshot, wanted)
        assert place.engine.apply(sessions, snapshot, statements, wanted) == ()
        names = place.engine.databases(snapshot, wanted)
        snapshot = place.engine.inspect(sessions, place.database, wanted)
        results = list(place.engine.converge_databases(sessions, snapshot, wanted, names, lambda: None))
    finally:
        sessions.close()
    missing = [part for result in results for part in result.missing]
    assert {part.what for part in missing} == {f"objects of {owner} in shop"}
    assert {(part.reason, part.remedy) for part in missing} == {
        ("there is no master secret", "let RDS manage the password")
    }
    with place.as_user(newcomer.name) as session:
        session.run("SELECT * FROM of_master")
    place.known.add(newcomer.name)
    place.converge(replace(desired, accounts=dict.fromkeys(place.known, "created")))


@on_newer
@pytest.mark.parametrize(
    "held",
    [
        ADMINISTERS,
        f"{ADMINISTERS}; GRANT {{o}} TO boss WITH INHERIT FALSE, SET FALSE GRANTED BY boss",
        f"{ADMINISTERS}; GRANT {{o}} TO boss WITH INHERIT FALSE, SET TRUE GRANTED BY boss",
        "GRANT {o} TO boss WITH INHERIT FALSE, SET TRUE",
    ],
    ids=["administers", "gave itself nothing", "gave itself SET", "sets without ADMIN"],
)
def test_the_masters_own_memberships_are_as_before_by_grantor_and_option(place, desired, owner, held):
    with place.as_rdsadmin() as admin:
        admin.run(held.format(o=owner))
        before = admin.run(OTHERS_MEMBERSHIPS)
        place.converge(desired)
        assert admin.run(OTHERS_MEMBERSHIPS) == before
    without_rights = "ADMIN" not in held and place.administrator == "vanilla"
    assert (place.denied != []) == without_rights
    assert reads(place, f"of_{owner}") is not without_rights


# --- who does what ---


def migrate(place: Place, work: Callable[[PostgresMigrator, Sessions, Snapshot], list[Statement]]) -> list[Statement]:
    """Run statements of a migration as the flow does, and return them."""
    engine, sessions = place.engine, Sessions(place.connect, "manager")
    try:
        snapshot = engine.inspect(sessions, place.database, DesiredState((), {}))
        statements = work(PostgresMigrator(), sessions, snapshot)
        assert engine.apply(sessions, snapshot, statements, DesiredState((), {})) == ()
        return statements
    finally:
        sessions.close()


def authorities(statements: list[Statement]) -> set[str]:
    return {statement.authority for statement in statements}


@on_all
def test_after_the_first_run_the_manager_does_all_that_is_about_users_of_its_own(place, desired):
    second = user("second", ("shop", "readwrite"))
    state = replace(desired, users=(*THREE, second))
    steps = {
        "new user": (*THREE, second),
        "lower level": (*THREE, user("second", ("shop", "readonly"))),
        "owner": (*THREE, user("second", ("shop", "owner"))),
        "no longer owner": (*THREE, user("second", ("shop", "readonly"))),
        "limit": (*THREE, user("second", ("shop", "readonly"), connections=3)),
        "leaves": THREE,
        "returns": (*THREE, second),
        "leaves again": THREE,
    }
    for step, users in steps.items():
        statements, state = place.converge(replace(state, users=users))
        assert authorities(statements) == {"manager"}, step
        assert set(place.opened) == {"manager"}, step
        assert place.converge(state)[0] == [], step
    place.known.add("second")


@on_all
def test_a_leaver_is_locked_without_the_masters_secret(place, desired):
    leaver = user(f"leaver{next(NUMBERS)}_iam", ("shop", "readonly"))
    _, state = place.converge(replace(desired, users=(*THREE, leaver)))
    removal = place.remove(leaver.name)
    assert removal.unreached == ()
    assert set(place.opened) == {"manager"}
    with pytest.raises(Exception, match="not permitted to log in"):
        place.as_user(leaver.name)
    place.converge(replace(state, users=THREE))
    place.known.add(leaver.name)


@on_all
def test_a_migration_is_finished_and_undone(place, desired):
    """Before PostgreSQL 16 by the manager alone; since then the master locks and unlocks the user that it made."""
    app = f"app{next(NUMBERS)}"
    with place.as_master() as master:
        master.run(f"CREATE ROLE {app} LOGIN PASSWORD 'app-Password-1'; GRANT CREATE, USAGE ON SCHEMA public TO {app}")
    with place.login(Password(app, "app-Password-1")) as session:
        session.run(f"CREATE TABLE of_{app} (id int)")
    successor = DeclaredUser(f"{app}_iam", (), (), (), False, replaces=app)
    _, state = place.converge(replace(desired, users=(*THREE, successor)))
    assert place.converge(state)[0] == []
    with place.as_user(successor.name) as session:
        session.run(f"ALTER TABLE of_{app} ADD more int; CREATE TABLE by_{app} (id int)")
    expected = {"manager"} if place.version < 16 else {"master"}
    retired = migrate(place, lambda m, _, s: m.retire(s, app))
    assert authorities([s for s in retired if s.kind == "disable-user"]) == expected
    with pytest.raises(Exception, match="not permitted to log in"):
        place.login(Password(app, "app-Password-1"))
    assert authorities(migrate(place, lambda m, _, s: m.restore(s, app, ()))) == expected
    place.login(Password(app, "app-Password-1")).__exit__()

    def drop(migrator: PostgresMigrator, sessions: Sessions, snapshot: Snapshot) -> list[Statement]:
        batches = migrator.drop_successor(sessions.read("postgres"), snapshot, successor.name, app)
        return [statement for batch in batches for statement in batch]

    assert authorities(migrate(place, drop)) == {"manager"}
    assert successor.name not in place.accounts()
    with place.login(Password(app, "app-Password-1")) as session:
        session.run(f"DROP TABLE of_{app}, by_{app}")


@on_all
def test_a_user_that_was_changed_in_place_has_its_password_again(place, desired):
    app = f"app{next(NUMBERS)}"
    with place.as_master() as master:
        master.run(f"CREATE ROLE {app} LOGIN PASSWORD 'app-Password-1'")
    adopted = user(app, ("shop", "readonly"), adopt=True)
    _, state = place.converge(replace(desired, users=(*THREE, adopted)))
    migrate(place, lambda m, _, s: m.revert_in_place(s, app, state.accounts))
    place.login(Password(app, "app-Password-1")).__exit__()


@pytest.mark.parametrize("place", BEFORE_16, indirect=True)
def test_before_16_the_manager_is_as_mighty_as_the_master(place, desired):
    with place.as_user(MANAGER, "postgres") as manager:
        manager.run("BEGIN")
        manager.run(f"GRANT rds_superuser TO {MANAGER}; ALTER ROLE boss PASSWORD 'another'; GRANT boss TO reader")
        manager.run("ROLLBACK")


@on_newer
def test_from_16_on_the_manager_changes_nothing_that_it_did_not_make(place, desired):
    for statement in (
        f"GRANT rds_superuser TO {MANAGER}",
        "ALTER ROLE boss PASSWORD 'another'",
        "GRANT boss TO reader",
    ):
        with place.as_user(MANAGER, "postgres") as manager, pytest.raises(DENIED):
            manager.run(statement)


# --- rotation ---


@on_all
def test_an_administrator_alternates_users_or_the_missing_right_is_named(place, desired, owner):
    rotator = PostgresRotator()
    master: PostgresSession = place.connect("master", "postgres")
    try:
        if place.version >= 16 and place.administrator == "vanilla":
            with pytest.raises(Refused) as refused:
                rotator.inspect_other(master, owner)
            statement = refused.value.remedy.partition(" run: ")[2]
            assert statement == ADMINISTERS.format(o=f'"{owner}"').replace("boss", '"boss"')
            with place.as_rdsadmin() as admin:
                admin.run(statement)
        assert rotator.inspect_other(master, owner) == f"ALTER ROLE \"{owner}\" PASSWORD '…'"
        for name in (owner + "_clone", owner, owner + "_clone"):
            rotator.set_other_password(master, owner, name, "new-Password-1")
            place.login(Password(name, "new-Password-1")).__exit__()
        with place.login(Password(owner + "_clone", "new-Password-1")) as clone:
            assert clone.run("SELECT current_user") == [(owner,)]
    finally:
        master.close()
        with place.as_rdsadmin() as admin:
            admin.run(f"DROP ROLE IF EXISTS {owner}_clone")


@on_all
def test_an_administrator_that_may_change_no_role_is_refused_with_the_reason(place, desired, owner):
    with place.as_rdsadmin() as admin:
        admin.run(f"CREATE ROLE meek LOGIN PASSWORD 'meek-Password-1'; GRANT {owner} TO meek WITH ADMIN OPTION")
    session = place.engine.connect(place.database, Password("meek", "meek-Password-1", "scram-sha-256,md5"), "postgres")
    try:
        with pytest.raises(Refused, match="meek may not change") as refused:
            PostgresRotator().inspect_other(session, owner)
        assert refused.value.code == "rights-missing"
    finally:
        session.close()
        with place.as_rdsadmin() as admin:
            admin.run("DROP ROLE meek")


# --- the master's password ---


@on_all
@pytest.mark.parametrize("encryption", ["md5", "scram-sha-256"])
def test_the_master_logs_in_however_its_password_is_stored(place, desired, encryption):
    change = f"ALTER ROLE boss PASSWORD '{MASTER_PASSWORD}'"
    with place.as_rdsadmin() as admin:
        admin.run(f"SET password_encryption = '{encryption}'; {change}")
    database = replace(place.database, master_secret_arn="arn:aws:secretsmanager:eu-west-1:123456789012:secret:boss")
    content = json.dumps({"username": MASTER, "password": MASTER_PASSWORD})
    secrets_manager = SimpleNamespace(get_secret_value=lambda **_: {"SecretString": content})
    try:
        place.engine.connect(
            database, Logins(SecretsManager(secrets_manager), None, "").master(database), "shop"
        ).close()
    finally:
        with place.as_rdsadmin() as admin:
            admin.run(f"SET password_encryption = 'scram-sha-256'; {change}")
