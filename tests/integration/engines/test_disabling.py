"""A user that is declared no longer can't log in, its sessions end, and it is kept; both engines, real servers."""

import itertools
import time
from dataclasses import dataclass, replace

import psycopg
import pymysql
import pytest

from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.engines.protocols import Sessions, Wanted
from rdsiam.errors import ConnectionFailed, Refused
from tests.integration.place import Client, Place, user

NUMBERS = itertools.count()
ENDED = (psycopg.OperationalError, pymysql.MySQLError)


@pytest.fixture(scope="module", params=["postgres", "mariadb"])
def place(make_place, request) -> Place:
    place: Place = make_place(request.param)
    return place


@dataclass(frozen=True)
class Pair:
    """Two users that are made and ours, of names that no other test has."""

    stays: str
    leaves: str
    wanted: Wanted

    @property
    def without(self) -> Wanted:
        """Return the same, with one of them declared no longer."""
        return replace(self.wanted, users=self.wanted.users[:1])


@pytest.fixture
def ours(place) -> Pair:
    number = next(NUMBERS)
    users = (user(f"stays{number}", ("shop", "readwrite")), user(f"leaves{number}", ("shop", "readonly")))
    _, wanted = place.converge(Wanted(users, dict.fromkeys(place.known, "created")))
    names = {each.name for each in users}
    place.known |= set(wanted.accounts) - names
    return Pair(users[0].name, users[1].name, wanted)


def ends(client: Client) -> bool:
    """Return whether the session is ended within a few seconds: servers do it on their own time."""
    for _ in range(100):
        try:
            client.run("SELECT 1")
        except ENDED:
            return True
        time.sleep(0.05)
    return False


def test_a_user_that_is_declared_no_longer_is_disabled_and_kept(place, ours):
    session, other = place.as_user(ours.leaves), place.as_user(ours.stays)
    statements, after = place.converge(ours.without)
    assert [(s.kind, s.target, s.authority) for s in statements] == [
        ("disable-user", ours.leaves, "manager"),
        ("end-sessions", ours.leaves, "manager"),
    ]
    assert "master" not in place.opened
    assert ends(session)
    other.run("SELECT 1")
    other.__exit__()
    with pytest.raises(ConnectionFailed):
        place.as_user(ours.leaves)
    assert after.accounts[ours.leaves] == "created"
    again, _ = place.converge(after)
    assert again == []


def test_declared_again_it_is_enabled_with_what_it_had(place, ours):
    _, without = place.converge(ours.without)
    statements, after = place.converge(replace(without, users=ours.wanted.users))
    assert [(s.kind, s.target) for s in statements] == [("enable-user", ours.leaves)]
    place.as_user(ours.leaves).__exit__()
    assert place.converge(after)[0] == []


def test_sessions_that_a_killed_run_left_are_ended_by_the_next(place, ours):
    session = place.as_user(ours.leaves)
    found_statements, _ = place.converge(ours.without, apply=False)
    disable = next(s for s in found_statements if s.kind == "disable-user")
    with place.as_master() as master:
        master.run(disable.statement)
    statements, _ = place.converge(ours.without)
    assert [s.kind for s in statements] == ["end-sessions"]
    assert ends(session)


def test_users_of_somebody_else_stay_as_they_are(place, ours):
    with place.as_master() as master:
        master.run(
            "CREATE ROLE foreigner LOGIN PASSWORD 'Password-1'"
            if place.database.engine == "postgres"
            else "CREATE USER foreigner@'%' IDENTIFIED BY 'Password-1'"
        )
        statements, _ = place.converge(ours.wanted)
        assert statements == []
        master.run("DROP USER foreigner")


def test_what_is_gone_is_ours_no_more(place, ours):
    """Somebody may make one of that name again: it is not ours then."""
    with place.as_master() as master:
        master.run(f"DROP USER {ours.leaves}")
        statements, after = place.converge(ours.without)
        assert statements == []
        assert ours.leaves not in after.accounts


def test_all_that_are_ours_and_can_log_in_are_counted(place, ours):
    def enabled(wanted: Wanted) -> frozenset[str]:
        sessions = Sessions(place.connect, "manager")
        try:
            return place.engine.enabled(place.engine.inspect(sessions, place.database, wanted), wanted)
        finally:
            sessions.close()

    assert enabled(ours.wanted) == {ours.stays, ours.leaves}
    _, without = place.converge(ours.without)
    assert enabled(without) == {ours.stays}


def test_a_copy_is_taken_over_without_the_master(place, ours):
    """What a restored copy looks like: everything is there, and the inventory knows nothing of it."""
    copy = Wanted(ours.wanted.users, {})
    sessions = Sessions(place.connect, "manager")
    place.opened = []
    try:
        found = place.engine.inspect(sessions, place.database, copy)
        taken = place.engine.inherited_ownership(found, copy)
        assert {MANAGER, AUDITOR, ours.stays, ours.leaves} <= set(taken)
        assert place.engine.difference(found, replace(copy, accounts=taken)) == []
    finally:
        sessions.close()
    assert set(place.opened) == {"manager"}


def test_users_of_a_copy_that_have_a_password_are_not_taken_over(place, ours):
    postgres = place.database.engine == "postgres"
    with place.as_master() as master:
        master.run(
            "CREATE ROLE theirs LOGIN PASSWORD 'Password-1'"
            if postgres
            else "CREATE USER theirs@'%' IDENTIFIED BY 'Password-1'"
        )
    copy = Wanted((*ours.wanted.users, user("theirs", ("shop", "readonly"))), {})
    sessions = Sessions(place.connect, "manager")
    try:
        found = place.engine.inspect(sessions, place.database, copy)
        taken = place.engine.inherited_ownership(found, copy)
        assert "theirs" not in taken
        with pytest.raises(Refused, match="adopt: true"):
            place.engine.difference(found, replace(copy, accounts=taken))
    finally:
        sessions.close()
