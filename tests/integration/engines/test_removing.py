"""A user who resists is removed all the same: its sessions end, it is locked, and nobody waits for it; both engines."""

import itertools
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

import psycopg
import pymysql
import pytest

from rdsiam.core.changes import Change
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.mysql import disabling
from rdsiam.engines.protocols import DesiredState
from rdsiam.errors import ConnectionFailed
from tests.integration.account import until
from tests.integration.place import Client, Place, user
from tests.kinds import MYSQL, MYSQL_FAMILY, POSTGRES, SINCE_16

# test_rights.py and test_rights_by_hand.py show what such an administrator may do.
pytestmark = pytest.mark.exhaustive_on("vanilla")

ENDED = (psycopg.OperationalError, pymysql.MySQLError)
#: The slowest server takes less; waiting for a lock that a user holds would take longer.
SOON = 15


@pytest.fixture(scope="module", params=[*POSTGRES, *MYSQL_FAMILY])
def place(make_place, request) -> Place:
    place: Place = make_place(request.param)
    return place


NUMBERS = itertools.count()
#: Sessions of a user that has logged in.
SESSIONS_OF = {
    "postgres": "SELECT pid FROM pg_stat_activity WHERE usename = '{}'",
    "mysql": "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = '{}' AND COMMAND NOT IN ('Connect', 'Killed')",
}


@pytest.fixture
def leaver(place) -> str:
    """Return a managed user that no other test has."""
    name = f"leaver{next(NUMBERS)}"
    _, desired = place.converge(declaring(place, name))
    place.known |= set(desired.accounts)
    return name


def declaring(place: Place, name: str, connections: int | None = None) -> DesiredState:
    """Return that one user is declared, with rights that let it make an event or set its own password."""
    level = "readonly" if place.database.family == "postgres" else "owner"
    one = user(name, ("shop", level), connections=connections)
    return DesiredState((one,), dict.fromkeys(place.known, "created"))


def ended(client: Client) -> bool:
    try:
        client.run("SELECT 1")
    except ENDED:
        return True
    return False


def change_user(client: Client, name: str) -> None:
    """Make a session another user's by COM_CHANGE_USER, for which PyMySQL has no function."""
    session = client._session
    token = f"token-of-{name}".encode() + b"\0"
    parts = (name.encode(), b"\0", bytes([len(token)]), token, b"shop\0", struct.pack("<H", 45))
    session._execute_command(17, b"".join((*parts, b"mysql_clear_password\0", b"\0")))
    session._read_packet()


def begin_change_of_user(client: Client, name: str) -> None:
    """Send COM_CHANGE_USER with a plugin that the server doesn't have, and nothing in answer to what it asks."""
    parts = (name.encode(), b"\0\0shop\0", struct.pack("<H", 45), b"no_such_plugin\0\0")
    client._session._execute_command(17, b"".join(parts))


def kinds(changes: tuple[Change, ...]) -> list[str]:
    return sorted({change.kind for change in changes})


def test_a_user_is_locked_and_its_sessions_end_once(place, leaver):
    session = place.as_user(leaver)
    planned = place.remove(leaver, apply=False)
    session.run("SELECT 1")
    removal = place.remove(leaver)
    assert removal.unreached == ()
    assert set(removal.changes) == set(planned.changes)
    assert kinds(removal.changes) == ["disable-user", "end-sessions"]
    assert place.opened == ["manager"]
    assert ended(session)
    with pytest.raises(ConnectionFailed):
        place.as_user(leaver)
    assert place.remove(leaver).changes == ()


def test_a_user_that_has_the_lock_of_another_run_delays_nothing(place, leaver):
    session = place.as_user(leaver)
    taken = "pg_advisory_lock(125775758582125)" if place.database.family == "postgres" else "GET_LOCK('rdsiam', 1)"
    session.run(f"SELECT {taken}")
    began = time.monotonic()
    assert place.remove(leaver).unreached == ()
    assert time.monotonic() - began < SOON
    assert ended(session)


@pytest.mark.parametrize("place", POSTGRES, indirect=True)
def test_a_user_that_holds_its_own_row_is_locked(place, leaver):
    sessions = [place.as_user(leaver) for _ in range(3)]
    sessions[0].run("BEGIN")
    sessions[0].run(f"ALTER ROLE {leaver} PASSWORD 'whatever'")
    began = time.monotonic()
    removal = place.remove(leaver)
    assert removal.unreached == ()
    assert time.monotonic() - began < SOON
    assert all(ended(session) for session in sessions)
    with pytest.raises(ConnectionFailed):
        place.as_user(leaver)


@pytest.mark.parametrize("place", POSTGRES, indirect=True)
def test_onboarding_locks_a_user_that_holds_its_own_row(place, leaver):
    session = place.as_user(leaver)
    session.run("BEGIN")
    session.run(f"ALTER ROLE {leaver} PASSWORD 'whatever'")
    statements, _ = place.converge(DesiredState((), dict.fromkeys(place.known, "created")))
    assert ("disable-user", leaver) in [(each.kind, each.target) for each in statements]
    assert ended(session)


@pytest.mark.parametrize("place", POSTGRES, indirect=True)
def test_a_user_whose_row_is_held_in_the_session_of_another_one_is_locked(place):
    """A function that runs as its definer may change the definer's password, whoever calls it."""
    users = (user("schemer", ("shop", "owner")), user("mate", ("shop", "readonly")), user("bystander"))
    _, desired = place.converge(DesiredState(users, dict.fromkeys(place.known, "created")))
    place.known |= set(desired.accounts)
    with place.as_user("schemer") as session:
        session.run("SET ROLE NONE")
        session.run(
            "CREATE FUNCTION hold() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS "
            "$$ BEGIN ALTER ROLE schemer PASSWORD NULL; END $$"
        )
    mate, bystander = place.as_user("mate"), place.as_user("bystander")
    mate.run("BEGIN")
    mate.run("SELECT hold()")
    removal = place.remove("schemer")
    assert removal.unreached == ()
    assert any("pg_locks" in change.statement for change in removal.changes), "the answer says so"
    assert ended(mate)
    bystander.run("SELECT 1")
    with pytest.raises(ConnectionFailed):
        place.as_user("schemer")
    with place.as_master() as master:
        master.run("DROP FUNCTION hold()")


@pytest.mark.parametrize("place", POSTGRES, indirect=True)
def test_a_user_whose_row_others_change_all_the_time_is_locked(place):
    """Then there is no lock to wait for, but each ALTER ROLE fails: "tuple concurrently updated"."""
    users = (user("plotter", ("shop", "owner")), user("helper", ("shop", "readonly")))
    _, desired = place.converge(DesiredState(users, dict.fromkeys(place.known, "created")))
    place.known |= set(desired.accounts)
    with place.as_user("plotter") as session:
        session.run("SET ROLE NONE")
        session.run(
            "CREATE FUNCTION churn() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS "
            "$$ BEGIN ALTER ROLE plotter PASSWORD NULL; END $$"
        )
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            try:
                with place.as_user("helper") as client:
                    while not stop.is_set():
                        with suppress(psycopg.errors.InternalError_):
                            client.run("SELECT churn()")
            except (ConnectionFailed, psycopg.Error):
                time.sleep(0.01)

    threads = [threading.Thread(target=churn) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(1)
        removal = place.remove("plotter")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert removal.unreached == ()
    with pytest.raises(ConnectionFailed):
        place.as_user("plotter")
    with place.as_master() as master:
        master.run("DROP FUNCTION churn()")


def test_a_user_that_comes_back_as_often_as_it_can_is_locked(place, leaver):
    stop = threading.Event()
    logins: list[float] = []

    def come_back() -> None:
        while not stop.is_set():
            try:
                client = place.as_user(leaver)
                if place.database.family == "postgres":
                    client.run("BEGIN")
                    client.run(f"ALTER ROLE {leaver} PASSWORD 'whatever'")
                logins.append(time.monotonic())
            except (ConnectionFailed, *ENDED, psycopg.errors.InternalError_):  # tuple concurrently updated
                time.sleep(0.01)

    threads = [threading.Thread(target=come_back) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(logins) >= 3, 30)
        removal = place.remove(leaver)
        done = time.monotonic()
        time.sleep(0.5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert removal.unreached == ()
    assert max(logins) < done


class Login:
    """A login of a user in a thread of its own, whose token the server checks until `go_on`."""

    def __init__(self, place: Place, user: str) -> None:
        self._place, self._user = place, user
        self._begun, self._allowed = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._verify = place.server._verify

    def __enter__(self) -> "Login":
        self._place.server._verify = self._check
        self._client = self._pool.submit(self._place.as_user, self._user)
        assert self._begun.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self._place.server._verify = self._verify
        self._pool.shutdown()

    def go_on(self) -> None:
        """Let the server go on with the login."""
        self._allowed.set()

    def is_in(self) -> bool:
        """Return whether the login has succeeded and the session works."""
        try:
            return not ended(self._client.result(20))
        except (ConnectionFailed, *ENDED):
            return False

    def _check(self, user: str, token: str, encrypted: bool) -> None:
        if user == self._user:
            self._begun.set()
            self._allowed.wait(20)
        self._verify(user, token, encrypted)


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)
def test_a_login_that_had_begun_when_the_user_was_locked_does_not_succeed_later(place, leaver):
    """The server reads first whether the user is locked, and then checks the token, which takes RDS a while."""
    with Login(place, leaver) as login:
        removal = place.remove(leaver)
        assert removal.unreached == ()
        login.go_on()
        assert not login.is_in()
    assert place.remove(leaver).unreached == ()


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)
def test_a_login_that_succeeds_while_the_user_is_removed_has_its_session_ended(place, leaver):
    with Login(place, leaver) as login:
        threading.Timer(0.6, login.go_on).start()
        assert place.remove(leaver).unreached == ()
        assert not login.is_in()


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)
def test_a_session_that_changes_to_the_user_when_it_is_locked_ends(place, leaver):
    """It is another user's until the token is checked."""
    users = (user(leaver, ("shop", "owner")), user("changer", ("shop", "readonly")))
    _, desired = place.converge(DesiredState(users, dict.fromkeys(place.known, "created")))
    place.known |= set(desired.accounts)
    client = place.as_user("changer")
    begun, allowed = threading.Event(), threading.Event()
    verify = place.server._verify

    def check(name: str, token: str, encrypted: bool) -> None:
        if name == leaver:
            begun.set()
            allowed.wait(20)
        verify(name, token, encrypted)

    place.server._verify = check
    with ThreadPoolExecutor(1) as pool:
        try:
            change = pool.submit(change_user, client, leaver)
            assert begun.wait(10)
            removal = place.remove(leaver)
            allowed.set()
            with suppress(*ENDED):
                change.result(20)
        finally:
            allowed.set()
            place.server._verify = verify
    assert removal.unreached == ()
    with suppress(*ENDED):
        assert client.run("SELECT CURRENT_USER()") == [("changer@%",)]


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)
@pytest.mark.parametrize("staying", [False, True], ids=["user", "another-user"])
def test_sessions_that_never_finish_a_change_of_the_user_delay_no_removal(place, leaver, staying):
    """MySQL lets readers of the process list wait for them, for longer than rdsiam waits for an answer."""
    users = (user(leaver, ("shop", "owner")), user("changer", ("shop", "readonly")))
    _, desired = place.converge(DesiredState(users, dict.fromkeys(place.known, "created")))
    place.known |= set(desired.accounts)
    clients = [place.as_user("changer" if staying else leaver) for _ in range(3)]
    idle = place.as_user(leaver)
    stop = threading.Event()

    def take_turns() -> None:
        for client in clients:
            with suppress(*ENDED):
                client.run("SET SESSION net_read_timeout = 600")
                begin_change_of_user(client, leaver)
            stop.wait(0.7)

    thread = threading.Thread(target=take_turns)
    thread.start()
    try:
        time.sleep(0.3)
        began = time.monotonic()
        removal = place.remove(leaver)
        took = time.monotonic() - began
    finally:
        stop.set()
        thread.join()
        for client in clients:
            client._session._force_close()
    assert removal.unreached == ()
    assert took < SOON
    assert ended(idle)
    with pytest.raises(ConnectionFailed):
        place.as_user(leaver)


@pytest.mark.exhaustive  # takes 30 s, which rdsiam waits for an answer
@pytest.mark.parametrize("place", [MYSQL], indirect=True)
def test_without_performance_schema_the_user_is_locked_and_what_delays_the_process_list_is_named(
    place, leaver, monkeypatch
):
    monkeypatch.setattr(disabling, "_HAS_AT_ONCE", "SELECT 1 FROM DUAL WHERE FALSE")
    client = place.as_user(leaver)
    client.run("SET SESSION net_read_timeout = 600")
    begin_change_of_user(client, leaver)
    try:
        removal = place.remove(leaver)
    finally:
        client._session._force_close()
    assert kinds(removal.changes) == ["disable-user"]
    assert [each.what for each in removal.unreached] == [place.database.arn]
    assert "PROCESSLIST" in removal.unreached[0].reason
    assert "performance_schema" in removal.unreached[0].remedy
    with pytest.raises(ConnectionFailed):
        place.as_user(leaver)
    until(lambda: place.remove(leaver).unreached == (), 20)


@pytest.mark.parametrize("place", POSTGRES, indirect=True)
def test_a_login_that_waits_for_a_lock_on_the_database_is_ended(place, leaver):
    """PostgreSQL has read by then that the user may log in, and tells nobody yet whose session it will be."""
    place.converge(declaring(place, leaver))
    with ThreadPoolExecutor(1) as pool, place.as_rdsadmin("postgres") as rdsadmin:
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'object' AND NOT granted"
        until(lambda: not rdsadmin.run("SELECT 1 FROM pg_stat_activity WHERE datname = 'shop'"), 10)
        rdsadmin.run("BEGIN")
        rdsadmin.run("ALTER DATABASE shop RENAME TO closed")
        try:
            login = pool.submit(place.as_user, leaver)
            until(lambda: rdsadmin.run(waiting), 10)
            removal = place.remove(leaver)
        finally:
            rdsadmin.run("ROLLBACK")
        assert removal.unreached == ()
        with suppress(ConnectionFailed):
            assert ended(login.result(20))


def test_logins_that_begin_after_the_lock_are_no_sessions_however_many_there_are(place, leaver):
    """A busy server takes its time to refuse them, so that some are always in progress."""
    stop = threading.Event()
    verify = place.server._verify

    def slowly(name: str, token: str, encrypted: bool) -> None:
        if name == leaver:
            time.sleep(0.3)
        verify(name, token, encrypted)

    def try_again() -> None:
        while not stop.is_set():
            with suppress(ConnectionFailed, *ENDED):
                place.as_user(leaver)

    place.server._verify = slowly
    threads = [threading.Thread(target=try_again) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(1)
        removal = place.remove(leaver)
        with place.as_master() as master:
            time.sleep(1)
            sessions = master.run(SESSIONS_OF[place.database.family].format(leaver))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        place.server._verify = verify
    assert removal.unreached == ()
    assert sessions == []


@contextmanager
def all_connections(connect: Callable[[], Client]) -> Iterator[str]:
    """Take connections until the server refuses one more, and say how it did."""
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(connect())
            except ConnectionFailed as refused:
                yield str(refused)
                return


@pytest.mark.parametrize("place", SINCE_16, indirect=True)
def test_a_user_that_has_all_connections_is_removed_by_the_master(place, leaver):
    with all_connections(lambda: place.as_user(leaver)) as refusal:
        assert "remaining connection slots" in refusal
        removal = place.remove(leaver)
        assert removal.unreached == ()
        assert place.opened == ["manager", "master"]
        assert {change.to_json()["authority"] for change in removal.changes} == {"master"}
        with pytest.raises(ConnectionFailed):
            place.as_user(leaver)
    assert place.remove(leaver).changes == ()
    assert place.opened == ["manager"]


@pytest.mark.parametrize("place", POSTGRES, indirect=True)
def test_a_user_that_has_all_locks_is_named_and_removed_once_they_are_free(place, leaver):
    """Nobody can log in meanwhile: PostgreSQL keeps no lock for anybody, and a reboot is the way out."""
    with place.as_user(leaver) as session:
        for number in range(8):
            with pytest.raises(psycopg.errors.OutOfMemory):
                session.run(f"SELECT pg_advisory_lock({number}, key) FROM generate_series(1, 1000000) AS key")
        removal = place.remove(leaver)
        assert place.opened == ["manager", "master"]
        assert [(each.what, each.retry) for each in removal.unreached] == [(place.database.arn, True)]
        assert "all locks" in removal.unreached[0].reason
        assert "reboot" in removal.unreached[0].remedy
    until(lambda: place.remove(leaver).unreached == (), 10)
    with pytest.raises(ConnectionFailed):
        place.as_user(leaver)


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)
def test_no_user_that_rdsiam_makes_can_have_all_connections(place, leaver):
    with all_connections(lambda: place.as_user(leaver)) as refusal:
        assert "max_user_connections" in refusal
        place.as_master().__exit__()
        assert place.remove(leaver).unreached == ()
        assert place.opened == ["manager"]


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)
def test_a_removal_without_a_free_connection_is_named_with_the_remedy(place, leaver):
    """On MySQL and MariaDB nothing is kept free for the master: what access.yaml allows to one may be all there is."""
    place.converge(declaring(place, leaver, connections=100_000))
    with all_connections(lambda: place.as_user(leaver)) as refusal:
        assert "Too many connections" in refusal
        removal = place.remove(leaver)
        assert removal.changes == ()
        assert [(each.what, each.retry) for each in removal.unreached] == [(place.database.arn, True)]
        assert "all connections are taken" in removal.unreached[0].reason
        assert "max_connections" in removal.unreached[0].remedy
    assert place.remove(leaver).unreached == ()


@pytest.mark.parametrize("place", POSTGRES, indirect=True)
def test_the_manager_ends_sessions_by_a_privilege_of_its_own(place, leaver):
    """A temporary membership could not be granted on a replica."""
    with place.as_master() as master:
        member = "SELECT pg_has_role('rdsiam_manager', 'pg_signal_backend', 'USAGE')"
        assert master.run(member) == [(True,)]
        master.run(f"REVOKE pg_signal_backend FROM {MANAGER}")
        statements, _ = place.converge(declaring(place, leaver))
        assert [(each.statement, each.authority) for each in statements] == [
            ('GRANT "pg_signal_backend" TO "rdsiam_manager"', "master")
        ]
        assert master.run(member) == [(True,)]


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)
def test_a_user_whose_events_take_too_long_to_read_is_locked_all_the_same(place, leaver, monkeypatch):
    session = place.as_user(leaver)
    monkeypatch.setattr(disabling, "_EVENTS", "SELECT 1 FROM no_such_schema.too_slow")
    removal = place.remove(leaver)
    assert kinds(removal.changes) == ["disable-user", "end-sessions"]
    assert [each.what for each in removal.unreached] == [place.database.arn]
    assert ended(session)


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)
def test_an_event_that_is_running_ends_with_its_user(place, leaver):
    with place.as_rdsadmin() as rdsadmin:
        rdsadmin.run("SET GLOBAL event_scheduler = ON")
    with place.as_user(leaver) as session, place.as_master() as master:
        session.run("CREATE TABLE endless (at TIMESTAMP DEFAULT NOW())")
        session.run(
            "CREATE EVENT endless ON SCHEDULE AT NOW() DO BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; "
            "WHILE TRUE DO INSERT INTO endless VALUES (); DO SLEEP(0.1); END WHILE; END"
        )
        until(lambda: master.run("SELECT COUNT(*) FROM endless")[0][0] > 0, 10)
        assert place.remove(leaver).unreached == ()
        before = master.run("SELECT COUNT(*) FROM endless")
        time.sleep(0.5)
        assert master.run("SELECT COUNT(*) FROM endless") == before
        master.run("DROP EVENT IF EXISTS endless")
        master.run("DROP TABLE endless")


@pytest.mark.parametrize("place", [MYSQL], indirect=True)
@pytest.mark.parametrize("changing", [False, True], ids=["", "change-of-user"])
def test_an_event_that_runs_on_though_it_is_disabled_and_its_user_locked_ends(place, leaver, changing):
    with place.as_rdsadmin() as rdsadmin:
        rdsadmin.run("SET GLOBAL event_scheduler = ON")
    runs = "SELECT 1 FROM performance_schema.threads WHERE NAME = 'thread/sql/event_worker'"
    with place.as_user(leaver) as session:
        session.run("CREATE EVENT sleeper ON SCHEDULE AT NOW() ON COMPLETION PRESERVE DO DO SLEEP(60)")
    with place.as_master() as master, ExitStack() as stack:
        until(lambda: master.run(runs), 10)
        master.run("ALTER EVENT sleeper DISABLE")
        master.run(f"ALTER USER {leaver} ACCOUNT LOCK")
        if changing:
            place.converge(
                DesiredState((user("changer", ("shop", "readonly")),), dict.fromkeys(place.known, "created"))
            )
            place.known.add("changer")
            client = stack.enter_context(place.as_user("changer"))
            stack.callback(client._session._force_close)
            begin_change_of_user(client, leaver)
        removal = place.remove(leaver)
        assert removal.unreached == ()
        assert kinds(removal.changes) == ["end-sessions"]
        until(lambda: not master.run(runs), 5)
        master.run("DROP EVENT sleeper")


@pytest.mark.parametrize("place", MYSQL_FAMILY, indirect=True)
def test_events_of_a_locked_user_no_longer_run_and_whoever_enables_one_owns_it(place, leaver):
    with place.as_rdsadmin() as rdsadmin:
        rdsadmin.run("SET GLOBAL event_scheduler = ON")
    with place.as_user(leaver) as session, place.as_master() as master:
        session.run("CREATE TABLE ticks (who VARCHAR(80))")
        session.run("CREATE EVENT left_behind ON SCHEDULE EVERY 1 SECOND DO INSERT INTO ticks VALUES (CURRENT_USER())")
        master.run("CREATE EVENT of_master ON SCHEDULE EVERY 1 DAY DO SELECT 1")
        removal = place.remove(leaver)
        stopped = [each for each in removal.changes if each.kind == "disable-event"]
        assert [(each.target, each.statement, each.reversible) for each in stopped] == [
            (leaver, "ALTER EVENT `shop`.`left_behind` DISABLE", False)
        ]
        before = master.run("SELECT COUNT(*) FROM ticks")
        time.sleep(2.5)
        assert master.run("SELECT COUNT(*) FROM ticks") == before
        events = "SELECT EVENT_NAME, STATUS, DEFINER FROM information_schema.EVENTS ORDER BY 1"
        assert master.run(events) == [
            ("left_behind", "DISABLED", "rdsiam_manager@%"),
            ("of_master", "ENABLED", "boss@%"),
        ]
        # It never runs as the manager: whoever enables it becomes its definer.
        place.converge(declaring(place, leaver))
        assert ("left_behind", "DISABLED", "rdsiam_manager@%") in master.run(events)
        with place.as_user(leaver) as again:
            again.run("ALTER EVENT left_behind ENABLE")
        assert ("left_behind", "ENABLED", f"{leaver}@%") in master.run(events)
        master.run("DROP EVENT left_behind")
        master.run("DROP EVENT of_master")
        master.run("DROP TABLE ticks")


def test_a_limit_of_connections_is_as_declared_and_by_default_leaves_room(place, leaver):
    def limit() -> int:
        read = (
            f"SELECT rolconnlimit FROM pg_roles WHERE rolname = '{leaver}'"
            if place.database.family == "postgres"
            else f"SELECT max_user_connections FROM mysql.user WHERE User = '{leaver}'"
        )
        with place.as_master() as master:
            return int(master.run(read)[0][0])

    by_default = -1 if place.database.family == "postgres" else 135  # of 150
    desired = declaring(place, leaver, connections=2)
    assert limit() == by_default
    statements, _ = place.converge(desired)
    assert [(each.kind, each.authority) for each in statements] == [("limit-connections", "manager")]
    assert limit() == 2
    with place.as_user(leaver), place.as_user(leaver), pytest.raises(ConnectionFailed, match=r"too many|max_user"):
        place.as_user(leaver)
    assert place.converge(desired)[0] == []
    place.converge(declaring(place, leaver))
    assert limit() == by_default


def test_the_limit_of_a_user_that_was_adopted_stays_unless_one_is_declared(place):
    postgres = place.database.family == "postgres"
    with place.as_master() as master:
        master.run(
            "CREATE ROLE limited LOGIN PASSWORD 'Password-1' CONNECTION LIMIT 7"
            if postgres
            else "CREATE USER limited@'%' IDENTIFIED BY 'Password-1' WITH MAX_USER_CONNECTIONS 7"
        )
    adopted = user("limited", ("shop", "readonly"), adopt=True)
    accounts: dict[str, Any] = dict.fromkeys(place.known, "created")
    statements, desired = place.converge(DesiredState((adopted,), accounts))
    assert "limit-connections" not in {each.kind for each in statements}
    declared = replace(desired, users=(replace(adopted, connections=9),))
    assert [each.kind for each in place.converge(declared)[0]] == ["limit-connections"]
    assert place.converge(declared)[0] == []
    place.remove("limited")
