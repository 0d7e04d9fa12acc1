"""Databases in which rdsiam has made nothing are seen to be copies if the manager of their source logs in."""

from types import SimpleNamespace
from typing import Any, Literal

import pytest

from rdsiam.access.selection import Attributes
from rdsiam.errors import ConnectionFailed
from rdsiam.onboarding import comparison
from rdsiam.onboarding.comparison import Comparer
from rdsiam.onboarding.options import DEFAULT_OPTIONS
from rdsiam.state.record import Record
from tests.unit.databases import ORDERS

SEEN = Record(ORDERS.resource_id, arn=ORDERS.arn, first_seen=Attributes.of(ORDERS))


def comparer(record: Record | None) -> Comparer:
    services: Any = SimpleNamespace(inventory=SimpleNamespace(of=lambda _: record), logins=None)
    return Comparer(services, ORDERS.arn, DEFAULT_OPTIONS)


def answers(monkeypatch: pytest.MonkeyPatch, stage: Literal["port", "login"] | None) -> list[str]:
    """Let the server accept the manager, or fail at a stage; return the logins that are tried."""
    tried: list[str] = []

    def connect(authority: str, *_: Any) -> Any:
        tried.append(authority)
        if stage is not None:
            raise ConnectionFailed("orders", 5432, stage, "no")
        return SimpleNamespace(close=lambda: tried.append("closed"))

    monkeypatch.setattr(comparison, "connect_as", connect)
    return tried


@pytest.mark.parametrize("record", [SEEN, None], ids=["seen under another name", "never seen"])
def test_a_database_with_the_manager_of_its_source_is_a_copy(monkeypatch, record):
    tried = answers(monkeypatch, None)
    assert comparer(record).may_be_copy(ORDERS)
    assert tried == ["manager", "closed"]


def test_a_database_that_refuses_the_manager_is_no_copy_and_is_not_opened_as_master(monkeypatch):
    tried = answers(monkeypatch, "login")
    assert not comparer(SEEN).may_be_copy(ORDERS)
    assert tried == ["manager"]


def test_a_database_that_can_not_be_reached_may_be_a_copy_and_is_tried_again(monkeypatch):
    """A switchover restarts it; if it passed for none, its users would wait for a confirmation."""
    answers(monkeypatch, "port")
    with pytest.raises(ConnectionFailed):
        comparer(SEEN).may_be_copy(ORDERS)


def test_a_database_whose_attributes_are_recorded_is_not_opened_for_this(monkeypatch):
    tried = answers(monkeypatch, None)
    assert not comparer(Record(ORDERS.resource_id, recorded=Attributes.of(ORDERS))).may_be_copy(ORDERS)
    assert tried == []
