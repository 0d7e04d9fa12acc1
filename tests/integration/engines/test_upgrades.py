"""Databases that were onboarded on an older PostgreSQL and upgraded to 16 or later, where other rights are needed.

An upgrade leaves the manager without ADMIN OPTION on what it created, and every membership as granted by rdsadmin.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from rdsiam.access.users import DeclaredUser
from rdsiam.engines.facts import ServerFacts
from rdsiam.engines.logins import AUDITOR, MANAGER, Password, Token
from rdsiam.engines.postgres.migration import PostgresMigrator
from rdsiam.engines.postgres.remediation import PostgresRemediationSql
from rdsiam.engines.postgres.snapshot import Snapshot
from rdsiam.engines.protocols import DesiredState, Sessions
from rdsiam.engines.statements import Statement
from rdsiam.errors import Refused
from tests.integration.place import DENIED, MASTER, Place, user

MEMBERSHIPS = """
SELECT g.rolname, m.rolname, b.rolname, admin_option, inherit_option, set_option FROM pg_auth_members a
JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member JOIN pg_roles b ON b.oid = a.grantor
"""
READER, WRITER, MAKER = (
    user("reader", ("shop", "readonly")),
    user("writer", ("shop", "readwrite")),
    user("maker", ("shop", "owner")),
)
SUCCESSOR = DeclaredUser("app_iam", (), (), (), False, replaces="app")
APP = Password("app", "App-Password-1")


@dataclass
class Upgraded:
    """An upgraded server, with the state that was onboarded before."""

    place: Place
    desired: DesiredState

    def facts(self) -> ServerFacts:
        session = self.place.engine.connect(self.place.database, Token(AUDITOR, f"token-of-{AUDITOR}"), None)
        try:
            return self.place.engine.audit(session, self.place.database)
        finally:
            session.close()

    def unadministered(self) -> set[str]:
        """Return what the finding `manager-without-admin` names."""
        created = {name for name, ownership in self.desired.accounts.items() if ownership == "created"}
        return created & self.facts().unadministered - {MANAGER}

    def converge(self, *users: DeclaredUser) -> list[Statement]:
        """Converge, and do as rdsadmin what only that may do: memberships of before the upgrade are its grants."""
        statements, self.desired = self.place.converge(replace(self.desired, users=users))
        assert self.place.denied == [] or self.place.administrator == "vanilla"
        with self.place.as_rdsadmin() as admin:
            for part in self.place.denied:
                admin.run(part.remedy.removeprefix("as rdsadmin run: "))
        if self.place.denied:
            self.place.converge(self.desired)
        assert self.place.denied == []
        return statements


def upgrade(place: Place, version: str) -> Upgraded:
    """Onboard a server, and upgrade it."""
    with place.as_master() as master:
        master.run("CREATE TABLE of_master (id int)")
        master.run("CREATE ROLE app LOGIN PASSWORD 'App-Password-1'; GRANT CREATE, USAGE ON SCHEMA public TO app")
    with place.login(APP) as app:
        app.run("CREATE TABLE of_app (id int)")
    _, desired = place.converge(DesiredState((READER, WRITER, MAKER, SUCCESSOR), {}))
    with place.as_user("maker") as maker:
        maker.run("CREATE TABLE of_maker (id int)")
    assert place.converge(desired)[0] == []
    place.server.upgrade(version)
    place.database = replace(place.database, engine_version=version)
    assert place.version == int(version.partition(".")[0])
    return Upgraded(place, desired)


@pytest.fixture(scope="module")
def recovering(make_place) -> Upgraded:
    """15 to 18, where the master may do as RDS's."""
    return upgrade(make_place("postgres15"), "18.1")


@pytest.fixture(scope="module")
def helpless(make_place) -> Upgraded:
    """13 to 16, where the master has no right on what the manager created."""
    return upgrade(make_place("postgres13"), "16.1")


def test_the_audit_finds_that_the_manager_can_not_change_what_it_created(recovering):
    expected = {"reader", "writer", "maker", "app_iam", AUDITOR, "shop_readonly", "shop_readwrite", "shop_owner"}
    assert recovering.unadministered() == expected
    # What the finding prints works as the master, which the next test leaves to onboarding.
    manager = recovering.place.audit()[MANAGER]
    with recovering.place.as_master("postgres") as master:
        master.run("BEGIN")
        for name in sorted(expected):
            for statement in PostgresRemediationSql().administer(name, manager):
                master.run(statement)
        administered = {group for group, member, _, admin, *_ in master.run(MEMBERSHIPS) if admin and member == MANAGER}
        owner = [row[4] for row in master.run(MEMBERSHIPS) if row[:2] == ("shop_owner", MANAGER)]
        master.run("ROLLBACK")
    assert administered >= expected
    assert owner == [True], "the manager still acts for the group"


def test_the_first_run_after_an_upgrade_restores_the_managers_rights_and_nothing_else(recovering):
    place = recovering.place
    named = recovering.unadministered()
    with place.as_rdsadmin() as admin:
        before = admin.run(MEMBERSHIPS)
        statements = recovering.converge(*recovering.desired.users)
        after = admin.run(MEMBERSHIPS)
    assert {s.target for s in statements} == {MANAGER}
    assert {(s.kind, s.authority) for s in statements} == {("grant", "master")}
    assert len(statements) == len(named)
    changed = {tuple(row) for row in after} - {tuple(row) for row in before}
    assert {(group, member) for group, member, *_ in changed} == {(name, MANAGER) for name in named}
    assert recovering.unadministered() == set()
    assert not {name for name, account in place.audit().items() if account.iam} & {MASTER, "app"}
    assert recovering.converge(*recovering.desired.users) == []
    assert set(place.opened) == {"manager"}


def test_without_a_right_of_the_master_the_statement_is_named_and_nothing_is_changed(helpless):
    place = helpless.place
    with place.as_rdsadmin() as admin:
        before = admin.run(MEMBERSHIPS)
        with pytest.raises(Refused) as refused:
            helpless.converge(*helpless.desired.users, user("newcomer", ("shop", "readonly")))
        assert admin.run(MEMBERSHIPS) == before
        assert "newcomer" not in place.accounts()
        assert refused.value.code == "rights-missing"
        first = refused.value.remedy.partition(" run: ")[2]
        assert first == f'GRANT "app_iam" TO "{MANAGER}" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE'
        # All of them, as the finding has them.
        manager = place.audit()[MANAGER]
        for name in sorted(helpless.unadministered()):
            for statement in PostgresRemediationSql().administer(name, manager):
                admin.run(statement)
    assert helpless.unadministered() == set()
    assert helpless.converge(*helpless.desired.users) == []


@pytest.fixture(params=["15 to 18", pytest.param("13 to 16", marks=pytest.mark.exhaustive)])
def upgraded(request) -> Upgraded:
    made: Upgraded = request.getfixturevalue({"15 to 18": "recovering", "13 to 16": "helpless"}[request.param])
    if made.unadministered():
        if request.param == "13 to 16":
            test_without_a_right_of_the_master_the_statement_is_named_and_nothing_is_changed(made)
        else:
            made.converge(*made.desired.users)
    return made


def refused_to(place: Place, name: str, statement: str) -> bool:
    with place.as_user(name) as session:
        try:
            session.run(statement)
        except DENIED:
            return True
    return False


def test_an_upgraded_database_is_changed_like_any_other(upgraded):
    place = upgraded.place
    second = user("second", ("shop", "readonly"))
    assert "create-user" in {s.kind for s in upgraded.converge(READER, WRITER, MAKER, SUCCESSOR, second)}
    for table in ("of_master", "of_app", "of_maker"):
        assert not refused_to(place, "second", f"SELECT * FROM {table}")
    assert not refused_to(place, "writer", "INSERT INTO of_master VALUES (1)")
    upgraded.converge(READER, user("writer", ("shop", "readonly")), MAKER, SUCCESSOR, second)
    assert refused_to(place, "writer", "INSERT INTO of_master VALUES (1)")
    upgraded.converge(READER, user("writer", ("shop", "readonly")), user("maker", ("shop", "readonly")), SUCCESSOR)
    assert refused_to(place, "maker", "ALTER TABLE of_maker ADD COLUMN more int")
    for leaver in ("second", "reader"):
        if leaver == "reader":
            upgraded.converge(user("writer", ("shop", "readonly")), user("maker", ("shop", "readonly")), SUCCESSOR)
        with pytest.raises(Exception, match="not permitted to log in"):
            place.as_user(leaver)
    assert upgraded.converge(*upgraded.desired.users) == []
    with place.as_master() as master:
        master.run("CREATE TABLE after_the_upgrade (id int)")
    assert not refused_to(place, "writer", "SELECT * FROM after_the_upgrade")


def migrate(place: Place, work: Callable[[PostgresMigrator, Sessions, Snapshot], list[Statement]]) -> None:
    sessions = Sessions(place.connect, "manager")
    try:
        snapshot = place.engine.inspect(sessions, place.database, DesiredState((), {}))
        statements = work(PostgresMigrator(), sessions, snapshot)
        assert place.engine.apply(sessions, snapshot, statements, DesiredState((), {})) == ()
    finally:
        sessions.close()


def test_a_migration_that_began_before_the_upgrade_is_undone_after_it(upgraded):
    place = upgraded.place
    with place.as_user("app_iam") as session:
        session.run("CREATE TABLE by_successor (id int)")

    def drop(migrator: PostgresMigrator, sessions: Sessions, snapshot: Snapshot) -> list[Statement]:
        batches = migrator.drop_successor(sessions.read("postgres"), snapshot, "app_iam", "app")
        return [statement for batch in batches for statement in batch]

    migrate(place, drop)
    assert "app_iam" not in place.accounts()
    with place.login(APP) as app:
        app.run("DROP TABLE of_app, by_successor")
