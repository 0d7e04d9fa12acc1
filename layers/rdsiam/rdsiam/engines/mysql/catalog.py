"""Parts of MySQL's and MariaDB's catalogs that onboarding and the audit both need."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import pymysql

from rdsiam.engines.mysql.connection import MysqlSession

PLUGIN = "AWSAuthenticationPlugin"
_LOCAL = frozenset({"rdsadmin", "mysql.sys", "mysql.session", "mysql.infoschema", "mariadb.sys"})
_ANYWHERE = frozenset({"rds_superuser_role", "rdsrepladmin", "rdsproxyadmin"})
#: Schemas of the server, and the one that holds the audit's procedure.
SYSTEM_SCHEMAS = frozenset({"mysql", "sys", "information_schema", "performance_schema", "innodb", "rdsiam"})

Row = TypeVar("Row", bound=tuple[Any, ...])
#: Sessions as `p`, for a query. While a session runs a routine or view with a definer, the process list shows the
#: definer as its user, on MySQL and MariaDB; `LOGIN_USER` is the user that logged in, or the definer of an event. If
#: performance_schema is off, its tables are empty, and a session that runs something may be shown as another user's.
#: MySQL calls the process list deprecated. performance_schema.processlist, its successor, is empty in that case too.
SESSIONS = (
    "information_schema.PROCESSLIST AS p LEFT JOIN performance_schema.threads AS t "
    "ON t.PROCESSLIST_ID = p.ID AND t.NAME <> 'thread/sql/event_worker'"
)
#: Its collation keeps users apart whose names differ by case or accents only, also in GROUP BY and DISTINCT.
LOGIN_USER = "CONVERT(COALESCE(t.PROCESSLIST_USER, p.USER) USING utf8mb4) COLLATE utf8mb4_bin"
#: Whether the password of an account of MariaDB, `a` of mysql.global_priv, has expired. The server asks this of every
#: account, also of those that log in by token.
EXPIRED_ON_MARIADB = """COALESCE(JSON_VALUE(a.Priv, '$.password_last_changed') = 0, 0) OR COALESCE(
                NULLIF(COALESCE(NULLIF(JSON_VALUE(a.Priv, '$.password_lifetime'), -1), @@default_password_lifetime), 0)
                * 86400 + JSON_VALUE(a.Priv, '$.password_last_changed') <= UNIX_TIMESTAMP(), 0)"""
#: The option without which MariaDB lets an account do nothing once its password would have expired, by
#: `default_password_lifetime` or by an option of its own, although it has none.
NEVER_EXPIRING = "PASSWORD EXPIRE NEVER"
#: The option that ends locking by failed logins, with which anybody could lock the account.
NEVER_LOCKING = "FAILED_LOGIN_ATTEMPTS 0 PASSWORD_LOCK_TIME 0"


def drop_factors(number: int) -> str:
    """Return the option of ALTER USER that removes this number of factors besides the first, two at most."""
    return " ".join(f"DROP {factor} FACTOR" for factor in range(2, 2 + number))


def is_system(user: str, host: str) -> bool:
    """Return whether an account is RDS's or the server's own.

    Most of these exist for the server's own machine only: an account of the same name for other hosts is a user's.
    """
    return user in _ANYWHERE or (user in _LOCAL and host == "localhost")


def server_version(session: MysqlSession) -> str:
    """Return the version from the server's greeting."""
    return str(session.get_server_info())  # type: ignore[no-untyped-call]


def is_mariadb(session: MysqlSession) -> bool:
    """Return whether the server is MariaDB, according to its greeting."""
    return "mariadb" in server_version(session).lower()


def without_roles(session: MysqlSession, found: Iterable[Row]) -> list[Row]:
    """Return the rows, which begin with user and host, that are of accounts.

    MariaDB keeps roles among the accounts, without a host, and a user may have a role's name. On MySQL a role is an
    account that can't log in.
    """
    mariadb = is_mariadb(session)
    return [row for row in found if row[1] != "" or not mariadb]


def rows(session: MysqlSession, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run a query and return all of its rows."""
    with session.cursor() as cursor:
        cursor.execute(query, parameters or None)
        return list(cursor.fetchall())


def server_answer(error: pymysql.MySQLError) -> tuple[str, str]:
    """Return the server's code and message of an error."""
    return str(error.args[0]), str(error.args[-1])
