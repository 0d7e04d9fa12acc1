"""Onboarding of databases that people had before: the declared access, and nothing else differs; real servers."""

import re
from dataclasses import replace

import pytest

from rdsiam.audit import collect
from rdsiam.engines.facts import ServerFacts
from rdsiam.engines.logins import AUDITOR, MANAGER, Password, Token
from rdsiam.engines.mysql.remediation import MysqlRemediationSql
from rdsiam.engines.protocols import DesiredState
from rdsiam.engines.statements import Statement
from tests.integration.engines import mysql_databases
from tests.integration.engines.mysql_databases import PASSWORD, SCHEMAS, dump
from tests.integration.place import DENIED, Client, Place, user
from tests.kinds import MYSQL, MYSQL_NO_PARTIAL

pytestmark = pytest.mark.exhaustive_on("partial")
#: User → schemas that it reads, and that it writes.
READS = {
    "everywhere": set(SCHEMAS),
    "app_reader": {"my_app"},
    "sales": {"Sales%2024", "tick`ed"},
    "mixed": {"Mixed_Case", "söder"},
    "maker": {"shop", "my_app"},
    "ghost": {"empty_one", "a-b c"},
    "inserter": {"a-b c"},
}
WRITES = {"sales": {"tick`ed"}, "mixed": {"söder"}, "maker": {"shop"}, "inserter": {"a-b c"}}
DECLARED = (
    user("everywhere", ("*", "readonly")),
    user("app_reader", ("my_app", "readonly")),
    user("sales", ("Sales%2024", "readonly"), ("tick`ed", "readwrite")),
    user("mixed", ("Mixed_Case", "readonly"), ("söder", ("INSERT", "SELECT"))),
    user("maker", ("shop", "owner"), ("my_app", "readonly")),
    user("ghost", ("empty_one", "readonly"), ("a-b c", "readonly")),
    user("inserter", ("a-b c", ("INSERT", "SELECT"))),
    user("adopted", ("my_app", "readonly"), adopt=True),
)


class Auditor:
    def auditor(self, _: object) -> Token:
        return Token(AUDITOR, f"token-of-{AUDITOR}")


class Onboarded:
    """A server before and after it was onboarded."""

    def __init__(self, place: Place) -> None:
        self.place = place
        mysql_databases.make(place)
        self.before = dump(place)
        self.statements, self.desired = place.converge(DesiredState(DECLARED, {}))
        self.opened = sorted(place.opened)
        self.after = dump(place)


@pytest.fixture(scope="module", params=["mariadb", MYSQL, MYSQL_NO_PARTIAL])
def onboarded(request, make_place) -> Onboarded:
    return Onboarded(make_place(request.param))


@pytest.fixture
def place(onboarded) -> Place:
    return onboarded.place


def differing(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def unexplained(names: set[str], statements: list[Statement]) -> set[str]:
    """Return what differs though no statement is about it: accounts by their name, rights also by their schema."""
    rest = set()
    for name in names:
        kind, _, text = name.partition(" ")
        about = [each for each in statements if f"'{each.target}'@'" in text]
        if kind == "grant":
            on = text.partition(" ")[2]
            # On MySQL whoever grants global privileges passes on the restrictions of their own.
            made = [each for each in about if each.kind.startswith("create")]
            inherited = made if on == "*.*" or (f"'{MANAGER}'" in text and on in {"`mysql`.*", "`sys`.*"}) else []
            about = [each for each in about if f" ON {on} " in each.statement] or inherited
        elif kind in {"schema", "procedure"}:
            about = [each for each in statements if "`rdsiam`" in each.statement and "rdsiam" in text]
        if not about:
            rest.add(name)
    return rest


def access(client: Client, statement: str) -> bool:
    try:
        client.run(statement)
    except DENIED as error:
        if error.args[0] in {1044, 1142, 1370}:
            return False
        raise
    return True


def quoted(schema: str) -> str:
    return "`" + schema.replace("`", "``") + "`"


def test_nothing_differs_but_what_the_changes_list(onboarded):
    names = differing(onboarded.before, onboarded.after)
    assert names
    assert unexplained(names, onboarded.statements) == set()
    assert {each.target for each in onboarded.statements} == {MANAGER, AUDITOR, *(each.name for each in DECLARED)}
    created = {each.target for each in onboarded.statements if each.kind.startswith("create")}
    assert created == {MANAGER, AUDITOR, *(each.name for each in DECLARED)} - {"adopted"}
    for name in onboarded.before:
        assert name in onboarded.after, "nothing was dropped"


def test_onboarding_needs_two_connections_and_again_one(onboarded, place):
    assert onboarded.opened == ["manager", "master"]
    again, _ = place.converge(onboarded.desired)
    assert again == []
    assert place.opened == ["manager"]
    assert differing(onboarded.after, dump(place)) == set()


@pytest.mark.parametrize("name", READS)
def test_a_user_reads_and_writes_what_is_declared_and_nothing_else(place, onboarded, name):
    with place.as_user(name, "information_schema") as client:
        reads = {
            each for each in SCHEMAS if each != "empty_one" and access(client, f"SELECT * FROM {quoted(each)}.things")
        }
        writes = {
            each
            for each in SCHEMAS
            if each != "empty_one" and access(client, f"INSERT INTO {quoted(each)}.things SELECT 1")
        }
        seen = {row[0] for row in client.run("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")} & set(SCHEMAS)
        assert not access(client, "SELECT * FROM mysql.user")
        assert not access(client, "CALL rdsiam.audit()")
    assert reads == READS[name] - {"empty_one"}
    assert writes == WRITES.get(name, set())
    assert seen == READS[name]


def test_views_routines_and_triggers_work_as_before_and_for_declared_users(place, onboarded):
    with place.as_user("maker") as maker:
        maker.run("INSERT INTO customer (id, name, email, secret) VALUES (1, 'Ann', 'a@b', 'x')")
        maker.run("INSERT INTO invoice VALUES (1, 1, 9.5)")
        assert maker.run("SELECT name FROM open_invoice") == [("Ann",)]
        assert str(maker.run("SELECT total(1)")[0][0]) == "9.50"
        maker.run("CALL note('by maker')")
        assert len(maker.run("SELECT * FROM log")) == 2, "of the trigger and of the procedure"
    with place.as_user("everywhere") as reader:
        assert reader.run("SELECT name FROM open_invoice") == [("Ann",)]
        assert reader.run("SELECT email FROM customer_mail") == [("a@b",)]
        assert not access(reader, "CALL note('by reader')")
    with place.login_by_password("legacy", PASSWORD, "shop") as legacy:
        assert legacy.run("SELECT name FROM open_invoice") == [("Ann",)]
        legacy.run("CALL note('by legacy')")


def test_users_of_others_keep_their_passwords_and_their_rights(place, onboarded):
    with place.login_by_password("app", PASSWORD, "shop") as app:
        app.run("SELECT id, name FROM customer")
        app.run("SELECT total(1)")
        assert not access(app, "DELETE FROM customer")
        assert app.run("SELECT CURRENT_ROLE()")[0][0] in {"clerk", "`clerk`@`%`"}
    for name, text in onboarded.before.items():
        if not re.match(r"(user|grant) 'adopted'", name):
            assert onboarded.after[name] == text


def test_an_adopted_user_keeps_its_grants_and_roles_and_logs_in_by_token(place, onboarded):
    with place.as_user("adopted", "my_app") as adopted:
        adopted.run("SELECT v FROM settings")
        adopted.run("CALL shop.note('by adopted')")
        adopted.run("SET ROLE chief")
        adopted.run("INSERT INTO `Sales%2024`.deal VALUES (1, 2)")
    grants = [text for name, text in onboarded.after.items() if name.startswith("grant 'adopted'")]
    assert any("chief" in text for text in grants)
    assert any("(`v`)" in text.replace("(v)", "(`v`)") for text in grants)


def test_the_audit_finds_nothing_to_give_or_take(place, onboarded):
    found = collect.read(place.database, Auditor())
    assert isinstance(found, ServerFacts)
    accounts = {account.name: account for account in found.accounts}
    created = [name for name, how in onboarded.desired.accounts.items() if how == "created"]
    for declared in DECLARED:
        account = accounts[declared.name]
        assert MysqlRemediationSql().differences(account, declared, found.databases, created) == ([], [])
        assert (account.iam, account.tls, account.password, account.administrator) == (True, True, False, False)


def test_a_lower_level_a_leaver_and_a_new_user_change_themselves_only(place, onboarded):
    before = dump(place)
    changed = (
        *(each for each in DECLARED if each.name not in {"maker", "sales"}),
        user("maker", ("shop", "readonly")),
        user("new_one", ("Sales%2024", "readonly")),
    )
    statements, desired = place.converge(replace(onboarded.desired, users=changed))
    assert place.opened == ["manager"]
    names = differing(before, dump(place))
    assert unexplained(names, statements) == set()
    assert {name.split("'")[1] for name in names} == {"maker", "sales", "new_one"}
    with place.as_user("maker") as maker:
        maker.run("SELECT * FROM customer")
        assert not access(maker, "INSERT INTO log (text) VALUES ('late')")
        assert not access(maker, "SELECT * FROM my_app.settings")
    assert place.converge(desired)[0] == []
    place.converge(replace(desired, users=DECLARED))
    after = dump(place)
    assert {name for name in differing(before, after) if "'new_one'" not in name} == set()


def test_a_declared_successor_gets_what_its_predecessor_has(place, onboarded):
    successor = replace(user("legacy_iam"), replaces="legacy")
    statements, desired = place.converge(replace(onboarded.desired, users=(*DECLARED, successor)))
    assert {each.target for each in statements if each.target != "new_one"} == {"legacy_iam"}
    after = dump(place)
    own = {
        name: text.replace("legacy_iam", "legacy")
        for name, text in after.items()
        if name.startswith("grant 'legacy_iam'")
    }
    assert sorted(own.values()) == sorted(text for name, text in after.items() if name.startswith("grant 'legacy'@"))
    with place.as_user("legacy_iam") as session:
        session.run("INSERT INTO log (text) VALUES ('by the successor')")
    assert place.converge(desired)[0] == []


def test_no_password_logs_in_as_a_declared_user(place, onboarded):
    for declared in DECLARED:
        assert place.engine.refuses_passwords(place.database, declared.name, None)
    with pytest.raises(Exception, match=r"1045|denied"):
        place.engine.connect(place.database, Password("adopted", PASSWORD), None)
