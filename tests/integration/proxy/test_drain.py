"""A proxy that shuts down: clients between two statements are ended, those in a transaction may finish it."""

import signal
import time
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pymysql
import pytest

from tests.integration.proxy.proxy_process import Printed

ENDED = (psycopg.OperationalError, pymysql.err.OperationalError)
KINDS = [
    "postgres",
    "mariadb",
    pytest.param("mysql", marks=pytest.mark.exhaustive),
]


class Session:
    """A connection that is in a transaction, or not."""

    def __init__(self, printed: Printed, autocommit: bool) -> None:
        self._connection: Any
        if printed.engine == "postgres":
            self._connection = psycopg.connect(printed.url, autocommit=autocommit)
        else:
            place = urlsplit(printed.url)
            self._connection = pymysql.connect(
                host=place.hostname, port=place.port or 0, user="app", database="shop", autocommit=autocommit
            )

    def query(self) -> object:
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT t FROM big ORDER BY i LIMIT 1")
            return cursor.fetchall()

    def query_until_it_ends(self) -> None:
        """Query until the connection ends; a statement may come before the proxy has noted the signal."""
        while True:
            self.query()

    def commit(self) -> None:
        self._connection.commit()

    def close(self) -> None:
        self._connection.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_transaction_may_finish_and_idle_clients_are_ended(start_proxy, large_table, kind):
    large_table(kind)
    process = start_proxy(f"{kind}:0", "-u", "app", "-d", "shop", "--drain-timeout", "60")
    printed = process.databases[kind]
    fresh, idle, busy = Session(printed, True), Session(printed, True), Session(printed, False)
    rows = idle.query()
    assert busy.query() == rows
    process.send(signal.SIGTERM)
    for session in (fresh, idle):
        with pytest.raises(ENDED):
            session.query_until_it_ends()
    with pytest.raises(ENDED):
        Session(printed, True)
    assert busy.query() == rows
    busy.commit()
    assert process.wait() == 0
    with pytest.raises(ENDED):
        busy.query()
    for session in (fresh, idle, busy):
        session.close()


def test_a_client_that_listens_for_notifications_is_idle(start_proxy, large_table):
    large_table("postgres")
    process = start_proxy("postgres:0", "-u", "app", "-d", "shop", "--drain-timeout", "60")
    url = process.databases["postgres"].url
    with psycopg.connect(url, autocommit=True) as listening, psycopg.connect(url, autocommit=True) as other:
        listening.execute("LISTEN jobs")
        other.execute("NOTIFY jobs, 'first'")
        assert [notification.payload for notification in listening.notifies(timeout=20, stop_after=1)] == ["first"]
        began = time.monotonic()
        process.send(signal.SIGTERM)
        assert process.wait() == 0
        assert time.monotonic() - began < 20
