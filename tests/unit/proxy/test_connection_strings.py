"""Printed lines: each names the listener in a form that clients parse."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from psycopg.conninfo import conninfo_to_dict

from rdsiam.proxy.connection_strings import lines
from rdsiam.proxy.contracts import Listener

ODD = "a b@c:d/e?f#g%h'i\"j"


def test_lines_of_postgresql():
    found = lines(Listener("orders", port=5433), "postgres", "app", "shop", tls=False)
    assert found.all == [
        "postgresql://app@127.0.0.1:5433/shop",
        "jdbc:postgresql://127.0.0.1:5433/shop?user=app",
        "psql postgresql://app@127.0.0.1:5433/shop",
    ]


def test_lines_of_mysql():
    found = lines(Listener("billing", port=3307), "mysql", "app", "shop", tls=False)
    assert found.all == [
        "mysql://app@127.0.0.1:3307/shop",
        "jdbc:mysql://127.0.0.1:3307/shop?user=app",
        "mysql --protocol=tcp --host=127.0.0.1 --port=3307 --user=app shop",
    ]


def test_lines_of_unix_sockets():
    path = Path("/run/my proxy/.s.PGSQL.6000")
    found = lines(Listener("orders", socket=path), "postgres", "app", None, tls=False)
    assert conninfo_to_dict(found.url) == {
        "user": "app",
        "host": "/run/my proxy",
        "port": "6000",
        "dbname": "postgres",
    }
    assert lines(Listener("billing", socket=path), "mysql", "app", None, tls=False).all == [
        "mysql '--socket=/run/my proxy/.s.PGSQL.6000' --user=app"
    ]


@pytest.mark.parametrize(("host", "printed"), [("localhost", "127.0.0.1"), ("::1", "::1"), ("10.0.0.5", "10.0.0.5")])
@pytest.mark.parametrize("name", ["shop", ODD])
@pytest.mark.parametrize("user", ["app", ODD])
def test_a_client_reads_what_was_meant(host, printed, name, user):
    url = lines(Listener("orders", host=host, port=5432), "postgres", user, name, tls=True).url
    assert conninfo_to_dict(url) == {
        "user": user,
        "host": printed,
        "port": "5432",
        "dbname": name,
        "sslmode": "require",
    }
    place = urlsplit(lines(Listener("billing", host=host, port=3306), "mysql", user, name, tls=True).url)
    found = (place.hostname, place.port, unquote(place.username or ""), unquote(place.path[1:]))
    assert found == (printed, 3306, user, name)


def test_an_unknown_user_is_a_placeholder():
    assert "USER@" in lines(Listener("orders", port=5432), "postgres", None, None, tls=False).url
