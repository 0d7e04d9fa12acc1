"""Keys of log lines: those of the invocation in every thread, nearer ones first, none of an earlier invocation."""

import logging
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from rdsiam.core import log_keys


class Collect(logging.Handler):
    """Keeps the records with the keys that they got."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(log_keys.AddKeys())
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)


@pytest.fixture
def collect():
    handler = Collect()
    logger = logging.getLogger("rdsiam")
    logger.addHandler(handler)
    level, logger.level = logger.level, logging.INFO
    yield handler
    logger.level = level
    logger.removeHandler(handler)


def keys(record: logging.LogRecord) -> dict[str, Any]:
    names = ("database", "user", "execution", "secret", "audit")
    return {name: vars(record)[name] for name in names if name in vars(record)}


def log(**extra: str) -> None:
    logging.getLogger("rdsiam.test").info("a line", extra=extra)


def test_the_nearest_key_counts(collect):
    with log_keys.invocation(database="a", user="app"):
        log()
        with log_keys.about(database="b"):
            log()
            log(database="c")
        log()
        log_keys.add(audit="1", user="")
        log()
    assert [keys(record) for record in collect.records] == [
        {"database": "a", "user": "app"},
        {"database": "b", "user": "app"},
        {"database": "c", "user": "app"},
        {"database": "a", "user": "app"},
        {"database": "a", "user": "app", "audit": "1"},
    ]


def test_another_thread_has_the_keys_of_the_invocation_and_its_own(collect):
    def work(database: str) -> None:
        with log_keys.about(database=database):
            log()

    with log_keys.invocation(execution="e"):
        threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(keys(record)["database"] for record in collect.records) == ["a", "b"]
    assert {keys(record)["execution"] for record in collect.records} == {"e"}


def test_an_invocation_has_no_keys_of_an_earlier_one(collect):
    with log_keys.invocation(database="a", user="app"):
        log_keys.add(secret="s")
    with log_keys.invocation(database="b"):
        log()
    assert keys(collect.records[-1]) == {"database": "b"}


def test_a_failed_invocation_is_a_line_and_raises(collect):
    with pytest.raises(ValueError, match="no"), log_keys.invocation(database="a"):
        raise ValueError("no")
    assert collect.records[-1].getMessage() == "invocation failed: ValueError: no"
    assert collect.records[-1].levelno == logging.ERROR
    assert keys(collect.records[-1]) == {"database": "a"}


def test_a_suspended_execution_is_no_failure(collect):
    class Suspended(BaseException):
        pass

    with pytest.raises(Suspended), log_keys.invocation():
        raise Suspended
    assert collect.records == []


@dataclass
class Request:
    database: str | None = None
    user: str = ""
    users: tuple[str, ...] = ()
    secret: str = ""


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Request("a", "app"), {"database": "a", "user": "app"}),
        (Request("a", users=("b", "c")), {"database": "a", "user": "b, c"}),
        (Request(secret="arn"), {"secret": "arn"}),
        (Request(), {}),
        ({"database": "a", "user": "unchecked"}, {}),
        (None, {}),
    ],
)
def test_keys_of_a_request(collect, request_, expected):
    with log_keys.invocation():
        log_keys.add_request(request_)
        log()
    assert keys(collect.records[-1]) == expected


def test_a_value_is_cut(collect):
    with log_keys.invocation(database="x" * 100_000):
        log()
    assert len(keys(collect.records[-1])["database"]) == 300
