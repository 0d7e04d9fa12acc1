"""Sessions of a run: no more than the maximum at once, closed with their database."""

import pytest

from rdsiam.engines.protocols import Sessions


class Opened:
    """Sessions that count themselves."""

    def __init__(self) -> None:
        self.open: list[tuple[str, str | None]] = []
        self.most = 0

    def connect(self, authority: str, name: str | None) -> "One":
        self.open.append((authority, name))
        self.most = max(self.most, len(self.open))
        return One(self, (authority, name))


class One:
    def __init__(self, opened: Opened, key: tuple[str, str | None]) -> None:
        self._opened = opened
        self._key = key

    def close(self) -> None:
        self._opened.open.remove(self._key)


@pytest.mark.parametrize("most", [3, 4, 16])
def test_no_more_than_the_maximum_are_open_at_once(most):
    opened = Opened()
    sessions = Sessions(opened.connect, "manager", most)
    for number in range(40):
        sessions.read("postgres")
        sessions.read(f"tenant_{number}")
        sessions.get("master", f"tenant_{number}")
        sessions.another("master", "postgres").close()
    assert opened.most <= most
    first = sessions.read("postgres")
    sessions.read("another")
    sessions.read("postgres")
    sessions.read("one more")
    assert sessions.read("postgres") is first, "the session that is used again and again stays"
    sessions.close()
    assert opened.open == []


def test_leaving_a_database_closes_its_sessions_alone():
    opened = Opened()
    sessions = Sessions(opened.connect, "manager")
    sessions.read("shop")
    sessions.get("master", "shop")
    first = sessions.read("postgres")
    sessions.leave("shop")
    assert opened.open == [("manager", "postgres")]
    assert sessions.read("postgres") is first
    assert sessions.used_master
