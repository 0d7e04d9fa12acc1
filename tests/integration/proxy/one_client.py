"""One connection of an application, alike for both protocols."""

from typing import Any

import psycopg
import pymysql
import pytest

from tests.integration.proxy.proxy_process import Printed, ProxyProcess
from tests.integration.proxy.python_clients import WHO, parameters
from tests.kinds import MYSQL_EXHAUSTIVE

KINDS = ["postgres", "mariadb", MYSQL_EXHAUSTIVE]
#: For what is the same in both protocols.
MOSTLY_POSTGRES = ["postgres", pytest.param("mariadb", marks=pytest.mark.exhaustive), MYSQL_EXHAUSTIVE]


class Client:
    """A connection of psycopg or PyMySQL, alike for both."""

    def __init__(self, printed: Printed, **options: Any) -> None:
        self.family = printed.engine
        if self.family == "postgres":
            self.session: Any = psycopg.connect(printed.url, autocommit=True, connect_timeout=20, **options)
        else:
            self.session = pymysql.connect(**parameters(printed.url), autocommit=True, connect_timeout=20, **options)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def one(self, statement: str = "") -> Any:
        """Return the first value of a query; of the user by default."""
        cursor = self.session.cursor()
        cursor.execute(statement or WHO[self.family])
        return cursor.fetchone()[0]


#: The errors of connections that cannot be had, or have ended.
ERRORS = (psycopg.OperationalError, pymysql.OperationalError, pymysql.InterfaceError, pymysql.InternalError)


def the_only(process: ProxyProcess) -> Printed:
    """Return the lines for the only database of a proxy."""
    (printed,) = process.databases.values()
    return printed
