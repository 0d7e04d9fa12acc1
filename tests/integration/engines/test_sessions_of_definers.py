"""While a session runs a routine with a definer, MySQL shows the definer as its user: sessions of users that log in."""

import threading
import time

import pytest

from rdsiam.engines.logins import Password
from rdsiam.engines.protocols import DesiredState
from tests.integration.account import until
from tests.integration.place import Client, Place
from tests.kinds import needs_mysql

pytestmark = needs_mysql
PASSWORD = "Password-1"


@pytest.fixture(scope="module")
def place(make_place) -> Place:
    place: Place = make_place("mysql")
    place.converge(DesiredState((), {}))
    with place.as_master() as master:
        for user in ("definer", "caller"):
            master.run(f"CREATE USER {user}@'%' IDENTIFIED BY '{PASSWORD}'")
            master.run(f"GRANT ALL ON shop.* TO {user}@'%'")
    with place.login(Password("definer", PASSWORD)) as definer:
        definer.run("CREATE PROCEDURE wait() SELECT SLEEP(20)")
    return place


class Calling:
    """A session of `caller` that runs the procedure of `definer`."""

    def __init__(self, place: Place) -> None:
        self._client: Client = place.login(Password("caller", PASSWORD))
        self.ended: list[object] = []
        self._thread = threading.Thread(target=self._call)
        self._thread.start()
        with place.as_master() as master:
            query = "SELECT USER FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'"
            until(lambda: master.run(query), 10)
            assert master.run(query) == [("definer",)], "the server shows the session as the definer's"

    def _call(self) -> None:
        try:
            self.ended.append(self._client.run("CALL wait()"))
        except Exception as error:
            self.ended.append(error)

    def close(self, place: Place) -> None:
        with place.as_rdsadmin() as admin:
            for (session,) in admin.run("SELECT ID FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'"):
                admin.run(f"KILL {session}")
        self._thread.join(20)


def test_the_end_of_the_definer_leaves_the_sessions_of_others(place):
    calling = Calling(place)
    try:
        removal = place.remove("definer")
        time.sleep(0.5)
        assert removal.unreached == ()
        assert calling.ended == []
    finally:
        calling.close(place)


def test_a_user_that_runs_another_definers_routine_is_removed(place):
    calling = Calling(place)
    try:
        removal = place.remove("caller")
        assert removal.unreached == ()
        until(lambda: calling.ended, 10)
        assert isinstance(calling.ended[0], Exception)
    finally:
        calling.close(place)
