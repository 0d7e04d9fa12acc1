"""Collecting the facts of one database: failed connections, and the text of failures."""

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.audit import collect
from rdsiam.engines.connection import Limits
from rdsiam.engines.facts import Unreadable
from rdsiam.engines.logins import Token
from rdsiam.engines.registry import ENGINES
from rdsiam.errors import ConnectionFailed
from tests.unit.databases import ORDERS

LIMITS = Limits(connect=5, statement=10)


class Logins:
    def auditor(self, _: Any) -> Token:
        return Token("rdsiam_auditor", "a-token")


class Session(socket.socket):
    """A session is an open socket."""


class Facts:
    pass


class Server:
    """Fails at the given stages, one after the other, then answers."""

    def __init__(self, *stages: Any) -> None:
        self.stages = list(stages)
        self.attempts = 0

    def connect(self, *_: Any) -> Session:
        self.attempts += 1
        if self.stages:
            raise ConnectionFailed("db.example", 5432, self.stages.pop(0), "no answer")
        return Session()

    def audit(self, *_: Any) -> Facts:
        return Facts()


@pytest.fixture
def read(monkeypatch):
    def of(server, **options):
        monkeypatch.setitem(ENGINES, ORDERS.family, server)
        return collect.read(ORDERS, Logins(), LIMITS, **options)

    return of


@pytest.mark.parametrize("stage", ["name", "port", "tls", "login"])
def test_a_failed_connection_is_unknown_with_its_stage_and_not_tried_again(read, stage):
    server = Server(stage)
    result = read(server)
    assert isinstance(result, Unreadable)
    assert (result.stage, server.attempts) == (stage, 1)


def test_a_database_that_answers_is_read_by_one_connection(read):
    server = Server()
    assert isinstance(read(server), Facts)
    assert server.attempts == 1


@given(st.text(max_size=1000))
def test_a_cause_is_one_short_printable_line_without_the_token(text):
    token = Token("rdsiam_auditor", "canary-token")
    cause = collect._plain(f"{text}{token.secret}\n{text}", token)
    assert cause.isprintable()
    assert len(cause) <= 300
    assert "canary" not in cause
