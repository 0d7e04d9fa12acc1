"""A user that is declared no longer can't log in, its sessions end, and it is kept; both engines, real servers."""

import itertools
import time
from dataclasses import dataclass, replace

import psycopg
import pymysql
import pytest

from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.engines.protocols import DesiredState, Sessions
from rdsiam.errors import ConnectionFailed, Refused
from tests.integration.place import Client, Place, user
from tests.kinds import MYSQL_FAMILY, POSTGRES

# test_rights.py and test_rights_by_hand.py show what such an administrator may do.
pytestmark = pytest.mark.exhaustive_on("vanilla")

NUMBERS = itertools.count()
ENDED = (psycopg.OperationalError, pymysql.MySQLError)


@pytest.fixture(scope="module", params=[*POSTGRES, *MYSQL_FAMILY])
def place(make_place, request) -> Place:
    place: Place = make_place(request.param)
    return place


@dataclass(frozen=True)
class Pair:
    """Two managed users, of names that no other test has."""

    stays: str
    leaves: str
    desired: DesiredState

    @property
    def without(self) -> DesiredState:
        """Return the same, with one of them declared no longer."""
        return replace(self.desired, users=self.desired.users[:1])


@pytest.fixture
def managed(place) -> Pair:
    number = next(NUMBERS)
    users = (user(f"stays{number}", ("shop", "readwrite")), user(f"leaves{number}", ("shop", "readonly")))
    _, desired = place.converge(DesiredState(users, dict.fromkeys(place.known, "created")))
    names = {each.name for each in users}
    place.known |= set(desired.accounts) - names
    return Pair(users[0].name, users[1].name, desired)


def ends(client: Client) -> bool:
    """Return whether the session is ended within a few seconds: servers do it on their own time."""
    for _ in range(100):
        try:
            client.run("SELECT 1")
        except ENDED:
            return True
        time.sleep(0.05)
    return False


def test_a_user_that_is_declared_no_longer_is_disabled_and_kept(place, managed):
    session, other = place.as_user(managed.leaves), place.as_user(managed.stays)
    statements, after = place.converge(managed.without)
    assert [(s.kind, s.target, s.authority) for s in statements] == [
        ("disable-user", managed.leaves, "manager"),
        ("end-sessions", managed.leaves, "manager"),
    ]
    assert "master" not in place.opened
    assert ends(session)
    other.run("SELECT 1")
    other.__exit__()
    with pytest.raises(ConnectionFailed):
        place.as_user(managed.leaves)
    assert after.accounts[managed.leaves] == "created"
    again, _ = place.converge(after)
    assert again == []


def test_a_user_that_is_declared_again_is_enabled_with_its_rights(place, managed):
    _, without = place.converge(managed.without)
    statements, after = place.converge(replace(without, users=managed.desired.users))
    assert [(s.kind, s.target) for s in statements] == [("enable-user", managed.leaves)]
    place.as_user(managed.leaves).__exit__()
    assert place.converge(after)[0] == []


def test_sessions_that_a_killed_run_left_are_ended_by_the_next(place, managed):
    session = place.as_user(managed.leaves)
    found_statements, _ = place.converge(managed.without, apply=False)
    disable = next(s for s in found_statements if s.kind == "disable-user")
    with place.as_master() as master:
        master.run(disable.statement)
    statements, _ = place.converge(managed.without)
    assert [s.kind for s in statements] == ["end-sessions"]
    assert ends(session)


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)  # MySQL's events
@pytest.mark.parametrize(
    ("charset", "name", "text"),
    [
        ("latin1", "nightly", "café"),
        ("cp1251", "заказы", "привет"),
        ("utf8mb4", "söder", "🙂 café"),
        ("sjis", "表`x", "ソ"),
    ],
)
@pytest.mark.parametrize("removal", [False, True], ids=["onboarding", "removal"])
def test_an_event_in_another_character_set_keeps_its_text(place, managed, charset, name, text, removal):
    leaves, event = managed.leaves, name.replace("`", "``")
    with place.as_rdsadmin() as admin:
        admin._session.set_character_set(charset)
        admin.run(f"CREATE TABLE IF NOT EXISTS texts_{charset} (t varchar(40) CHARACTER SET utf8mb4)")
        admin.run("SET sql_mode = 'ANSI_QUOTES'")
        admin.run(
            f"CREATE DEFINER={leaves}@'%' EVENT `{event}` ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01 00:00:00' "
            f"ON COMPLETION PRESERVE COMMENT '{text}' DO INSERT INTO \"texts_{charset}\" VALUES ('{text}')"
        )
    with place.as_rdsadmin() as admin:
        [before] = admin.run(f"SHOW CREATE EVENT `{event}`")
    if removal:
        assert "disable-event" in {each.kind for each in place.remove(leaves).changes}
    else:
        assert "disable-event" in {each.kind for each in place.converge(managed.without)[0]}
    with place.as_rdsadmin() as admin:
        [after] = admin.run(f"SHOW CREATE EVENT `{event}`")
        expected = str(before).replace(f"`{leaves}`@", f"`{MANAGER}`@").replace(" ENABLE ", " DISABLE ")
        assert str(after) == expected
        assert text in expected
        admin.run(f"DROP EVENT `{event}`")


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)  # MySQL's events
@pytest.mark.parametrize("charset", ["ascii", "koi8r", "dec8"])  # Python has no dec8
def test_an_event_that_its_character_set_can_not_name_is_disabled_too(place, managed, charset):
    with place.as_rdsadmin() as admin:
        admin.run("CREATE DATABASE IF NOT EXISTS `söder`")
        admin.run("USE `söder`")
        admin.run(f"SET character_set_client = {charset}")
        admin.run(
            f"CREATE DEFINER={managed.leaves}@'%' EVENT {managed.leaves} ON SCHEDULE EVERY 1 DAY "
            "STARTS '2037-01-01 00:00:00' DO SELECT 'text'"
        )
    assert [each.kind for each in place.remove(managed.leaves).changes].count("disable-event") == 1
    _, after = place.converge(managed.without)
    assert place.converge(after)[0] == []
    with place.as_rdsadmin() as admin:
        query = "SELECT STATUS, EVENT_DEFINITION FROM information_schema.EVENTS WHERE EVENT_NAME ="
        assert admin.run(f"{query} '{managed.leaves}'") == [("DISABLED", "SELECT 'text'")]
        admin.run("DROP DATABASE `söder`")


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)  # PostgreSQL compares names by their bytes
@pytest.mark.parametrize("namesake", [str.upper, lambda name: name.replace("ea", "éa")], ids=["case", "accent"])
def test_a_session_of_a_similar_name_hides_none_of_a_user_that_leaves(place, managed, namesake):
    other = namesake(managed.leaves)
    with place.as_master() as master:
        master.run(f"CREATE USER '{other}' IDENTIFIED BY 'Password-1'")
        others = [place.login_by_password(other, "Password-1") for _ in range(2)]
        session = place.as_user(managed.leaves)
        others += [place.login_by_password(other, "Password-1") for _ in range(2)]
        master.run(f"ALTER USER {managed.leaves} ACCOUNT LOCK")
        assert {name: place.audit()[f"{name}@%"].sessions for name in (other, managed.leaves)} == {
            other: 4,
            managed.leaves: 1,
        }
        statements, _ = place.converge(managed.without)
        assert [(each.kind, each.target) for each in statements] == [("end-sessions", managed.leaves)]
        assert ends(session)
        for each in others:
            each.run("SELECT 1")
            each.__exit__()
        master.run(f"DROP USER '{other}'")


def test_users_of_somebody_else_stay_as_they_are(place, managed):
    with place.as_master() as master:
        master.run(
            "CREATE ROLE foreigner LOGIN PASSWORD 'Password-1'"
            if place.database.engine == "postgres"
            else "CREATE USER foreigner@'%' IDENTIFIED BY 'Password-1'"
        )
        statements, _ = place.converge(managed.desired)
        assert statements == []
        master.run("DROP USER foreigner")


def test_ownership_of_accounts_that_are_gone_is_released(place, managed):
    """Somebody may make a user of that name again: it is not managed then."""
    with place.as_master() as master:
        master.run(f"DROP USER {managed.leaves}")
        statements, after = place.converge(managed.without)
        assert statements == []
        assert managed.leaves not in after.accounts


def test_all_managed_users_that_can_log_in_are_counted(place, managed):
    def enabled(desired: DesiredState) -> frozenset[str]:
        sessions = Sessions(place.connect, "manager")
        try:
            return place.engine.enabled_users(place.engine.inspect(sessions, place.database, desired), desired)
        finally:
            sessions.close()

    assert enabled(managed.desired) == {managed.stays, managed.leaves}
    _, without = place.converge(managed.without)
    assert enabled(without) == {managed.stays}


def test_a_copy_is_taken_over_without_the_master(place, managed):
    """Make a server look like a restored copy: everything is there, and the inventory knows nothing of it."""
    copy = DesiredState(managed.desired.users, {})
    sessions = Sessions(place.connect, "manager")
    place.opened = []
    try:
        found = place.engine.inspect(sessions, place.database, copy)
        taken = place.engine.inherited_ownership(found, copy)
        assert {MANAGER, AUDITOR, managed.stays, managed.leaves} <= set(taken)
        assert place.engine.difference(found, replace(copy, accounts=taken)) == []
    finally:
        sessions.close()
    assert set(place.opened) == {"manager"}


def test_users_of_a_copy_that_have_a_password_are_not_taken_over(place, managed):
    postgres = place.database.engine == "postgres"
    with place.as_master() as master:
        master.run(
            "CREATE ROLE theirs LOGIN PASSWORD 'Password-1'"
            if postgres
            else "CREATE USER theirs@'%' IDENTIFIED BY 'Password-1'"
        )
    copy = DesiredState((*managed.desired.users, user("theirs", ("shop", "readonly"))), {})
    sessions = Sessions(place.connect, "manager")
    try:
        found = place.engine.inspect(sessions, place.database, copy)
        taken = place.engine.inherited_ownership(found, copy)
        assert "theirs" not in taken
        with pytest.raises(Refused, match="adopt: true"):
            place.engine.difference(found, replace(copy, accounts=taken))
    finally:
        sessions.close()
