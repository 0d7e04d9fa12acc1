"""Names of schemas in grants of MySQL and MariaDB: literal or patterns, with case or without; real servers."""

import itertools
from dataclasses import replace

import pytest

from rdsiam.access.users import DeclaredUser
from rdsiam.audit import collect
from rdsiam.aws.rds import Database
from rdsiam.engines.facts import AccountFacts, ServerFacts
from rdsiam.engines.logins import AUDITOR, Token
from rdsiam.engines.mysql.remediation import MysqlRemediationSql
from rdsiam.engines.mysql.snapshot import Snapshot
from rdsiam.engines.protocols import DesiredState, Sessions
from rdsiam.engines.remediation import Privileges
from rdsiam.errors import Refused
from tests.integration.place import DENIED, MASTER, Place, user

NUMBERS = itertools.count()
SERVERS = ["mariadb", "mysql", pytest.param("mysql-no-partial", marks=pytest.mark.exhaustive)]
LOWER = ["mariadb-lower", "mysql-lower"]


@pytest.fixture(params=SERVERS)
def place(request, places) -> Place:
    return places(request.param)


@pytest.fixture(params=LOWER)
def lower(request, places) -> Place:
    return places(request.param)


@pytest.fixture(scope="module")
def places(make_place):
    made: dict[str, Place] = {}

    def place(kind: str) -> Place:
        if kind not in made:
            made[kind] = make_place(kind)
            _, desired = made[kind].converge(DesiredState((), {}))
            made[kind].known |= set(desired.accounts)
        return made[kind]

    return place


class Auditor:
    def auditor(self, database: Database) -> Token:  # noqa: ARG002
        return Token(AUDITOR, f"token-of-{AUDITOR}")


def facts(place: Place) -> ServerFacts:
    found = collect.read(place.database, Auditor())
    assert isinstance(found, ServerFacts)
    return found


def account(found: ServerFacts, name: str) -> AccountFacts:
    return next(each for each in found.accounts if each.name == name)


def audit(place: Place, declared: DeclaredUser) -> tuple[Privileges, Privileges]:
    """Return the privileges that a user lacks and has beyond its declaration, as the audit sees them."""
    found = facts(place)
    return MysqlRemediationSql().differences(account(found, declared.name), declared, found.databases, [declared.name])


def declare(place: Place, one: DeclaredUser) -> DesiredState:
    return DesiredState((one,), dict.fromkeys(place.known, "created"))


def make_schemas(place: Place, *names: str) -> None:
    with place.as_master() as master:
        for name in names:
            quoted = "`" + name.replace("`", "``") + "`"
            master.run(f"CREATE DATABASE IF NOT EXISTS {quoted}")
            master.run(f"CREATE TABLE IF NOT EXISTS {quoted}.things (id int)")


NAMES = [("my_app", "myXapp"), ("per%cent", "per-many-cent"), ("%", "shop"), ("back\\slash", "backslash"),
         ("a\\_b", "a_b"), ("Mixed_Case", "MixedXCase"), ("tick`_tick", "tick`Xtick")]  # fmt: skip


@pytest.mark.parametrize(("name", "similar"), NAMES)
def test_a_grant_on_a_schema_covers_that_schema_alone_and_onboarding_and_audit_agree(place, name, similar):
    make_schemas(place, name, similar)
    declared = user(f"odd{next(NUMBERS)}", (name, "readonly"))
    statements, desired = place.converge(declare(place, declared))
    assert [each.kind for each in statements] == ["create-user", "grant"]
    with place.as_user(declared.name, name) as client:
        client.run("SELECT * FROM things")
        with pytest.raises(DENIED):
            client.run("SELECT * FROM `" + similar.replace("`", "``") + "`.things")
    assert audit(place, declared) == ([], [])
    assert place.converge(desired)[0] == []
    assert place.opened == ["manager"]


LONG = ["tenant_6f9619ff_8b86_d011_b42d_00c04fc964ff_production_eu_west_1", "a" * 61 + "_%_", "per%" * 16]


@pytest.mark.parametrize("name", LONG)
def test_a_name_that_is_too_long_for_a_pattern_is_named_and_the_rest_is_done(place, name):
    make_schemas(place, name, "my_app")
    declared = user(f"odd{next(NUMBERS)}", (name, "readonly"), ("my_app", "readonly"))
    desired = declare(place, declared)
    snapshot = inspect(place, desired)
    _, desired = place.converge(desired)
    missing = [part.what for part in place.engine.incomplete(snapshot)]
    with place.as_user(declared.name, "information_schema") as client:
        client.run("SELECT * FROM my_app.things")
        if snapshot.schema_names.literal:
            client.run(f"SELECT * FROM `{name}`.things")
        else:
            with pytest.raises(DENIED):
                client.run(f"SELECT * FROM `{name}`.things")
    assert missing == ([] if snapshot.schema_names.literal else [f"schema {name}"])
    lacking, surplus = audit(place, declared)
    assert ([on for on, _ in lacking], surplus) == ([] if snapshot.schema_names.literal else [name], [])
    if lacking:
        with pytest.raises(Refused, match="too long"):
            MysqlRemediationSql().grant(account(facts(place), declared.name), *lacking[0])
    assert place.converge(desired)[0] == []


def inspect(place: Place, desired: DesiredState) -> Snapshot:
    sessions = Sessions(place.connect, "manager")
    try:
        snapshot = place.engine.inspect(sessions, place.database, desired)
        assert isinstance(snapshot, Snapshot)
        return snapshot
    finally:
        sessions.close()


@pytest.mark.parametrize(
    "grant",
    [
        "GRANT SELECT ON shop.* TO {u} WITH GRANT OPTION",
        "GRANT USAGE ON shop.* TO {u} WITH GRANT OPTION",
        "GRANT USAGE ON `other-one`.* TO {u} WITH GRANT OPTION",
        "GRANT EXECUTE, DROP ON `other-one`.* TO {u} WITH GRANT OPTION",
    ],
)
def test_the_right_to_pass_on_privileges_is_revoked_and_then_gone(place, grant):
    make_schemas(place, "other-one")
    declared = user(f"odd{next(NUMBERS)}", ("shop", "readonly"))
    _, desired = place.converge(declare(place, declared))
    with place.as_master() as master:
        before = sorted(master.run(f"SHOW GRANTS FOR {declared.name}"))
        master.run(grant.format(u=declared.name))
    [(on, privileges)] = audit(place, declared)[1]
    assert "GRANT OPTION" in privileges
    statements, desired = place.converge(desired)
    assert [(each.kind, f"`{on}`.*" in each.statement) for each in statements] == [("revoke", True)]
    assert audit(place, declared) == ([], [])
    assert place.converge(desired)[0] == []
    with place.as_master() as master:
        assert sorted(master.run(f"SHOW GRANTS FOR {declared.name}")) == before


def test_a_grant_of_the_other_spelling_is_revoked(place):
    r"""A server changes its mode, or an earlier version granted `my\_app` where that is a schema's name."""
    make_schemas(place, "my_app", "myXapp")
    literal = facts(place).accounts[0].schema_names.literal
    declared = user(f"odd{next(NUMBERS)}", ("my_app", "readonly"))
    _, desired = place.converge(declare(place, declared))
    left_over = r"my\_app" if literal else "my_app"
    with place.as_master() as master:
        master.run(f"GRANT SELECT, INSERT ON `{left_over}`.* TO {declared.name}")
        lacking, surplus = audit(place, declared)
        assert lacking == []
        assert surplus == [(left_over, ("INSERT", "SELECT") if literal else ("INSERT",))]
        statements, desired = place.converge(desired)
        assert [(each.kind, f"`{left_over}`.*" in each.statement) for each in statements] == [("revoke", True)]
        grants = str(master.run(f"SHOW GRANTS FOR {declared.name}")).replace("\\\\", "\\")
    assert f"`{left_over}`" not in grants
    assert audit(place, declared) == ([], [])
    assert place.converge(desired)[0] == []


@pytest.mark.parametrize("name", ["my_app", "per%cent", "shop"])
def test_the_statements_of_the_audit_give_and_take_exactly_what_it_found(place, name):
    make_schemas(place, name)
    declared = user(f"odd{next(NUMBERS)}", (name, "readonly"))
    _, desired = place.converge(declare(place, declared))
    sql, names = MysqlRemediationSql(), facts(place).accounts[0].schema_names
    with place.as_master() as master:
        master.run(f"REVOKE SELECT ON `{names.pattern(name)}`.* FROM {declared.name}")
        [(on, privileges)] = audit(place, declared)[0]
        for text in sql.grant(account(facts(place), declared.name), on, privileges):
            master.run(text)
        assert audit(place, declared) == ([], [])
        master.run(f"GRANT DROP ON `{names.pattern(name)}`.* TO {declared.name}")
        [(on, privileges)] = audit(place, declared)[1]
        if names.literal or name == "shop":
            for text in sql.revoke(account(facts(place), declared.name), on, privileges):
                master.run(text)
            assert audit(place, declared) == ([], [])
    place.converge(desired)
    assert audit(place, declared) == ([], [])


def test_a_schema_declared_with_capitals_stays_reachable_if_names_have_no_case(lower):
    make_schemas(lower, "MyApp")
    declared = user(f"odd{next(NUMBERS)}", ("MyApp", "readwrite"), ("*", "readonly"))
    _, desired = lower.converge(declare(lower, declared))
    for _ in range(3):
        with lower.as_user(declared.name, "MyApp") as client:
            client.run("INSERT INTO things VALUES (1)")
        assert audit(lower, declared) == ([], [])
        statements, desired = lower.converge(desired)
        assert statements == []


@pytest.mark.parametrize("name", ["ΟΔΟΣ", "İstanbul", "ÄÖÜ_Größe", "ЗАКАЗЫ"])
def test_names_are_made_lower_case_as_the_server_does_it(lower, name):
    make_schemas(lower, name)
    declared = user(f"odd{next(NUMBERS)}", (name, "readonly"))
    _, desired = lower.converge(declare(lower, declared))
    with lower.as_user(declared.name, name) as client:
        client.run("SELECT * FROM things")
    assert audit(lower, declared) == ([], [])
    assert lower.converge(desired)[0] == []


def test_a_lower_level_revokes_if_names_have_no_case(lower):
    make_schemas(lower, "Other_App")
    declared = user(f"odd{next(NUMBERS)}", ("Other_App", "readwrite"))
    _, desired = lower.converge(declare(lower, declared))
    fewer = replace(desired, users=(user(declared.name, ("OTHER_APP", "readonly")),))
    lacking, surplus = audit(lower, fewer.users[0])
    assert (lacking, [on for on, _ in surplus]) == ([], ["other_app"])
    _, desired = lower.converge(fewer)
    with lower.as_user(declared.name, "Other_App") as client:
        client.run("SELECT * FROM things")
        with pytest.raises(DENIED):
            client.run("INSERT INTO things VALUES (1)")
    assert lower.converge(desired)[0] == []


@pytest.mark.parametrize("kind", ["mariadb", "mysql-no-partial", "mysql", "mysql-lower"])
def test_a_grant_that_covers_mysql_makes_an_administrator_as_the_server_reads_it(places, kind):
    place = places(kind)
    with place.as_rdsadmin() as admin:
        admin.run("CREATE USER IF NOT EXISTS covering IDENTIFIED BY 'a-Password-1'")
        admin.run("GRANT UPDATE ON `mysq_`.* TO covering")
    names = facts(place).accounts[0].schema_names
    assert account(facts(place), "covering").administrator is not names.literal
    with place.login_by_password("covering", "a-Password-1") as client:
        if names.literal:
            with pytest.raises(DENIED):
                client.run("UPDATE mysql.db SET Db = 'none' LIMIT 0")
        else:
            client.run("UPDATE mysql.db SET Db = 'none' LIMIT 0")
    assert account(facts(place), MASTER).administrator
