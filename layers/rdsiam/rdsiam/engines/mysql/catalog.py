"""What onboarding and the audit both know of MySQL and MariaDB: the plugin, and which accounts are the system's."""

from collections.abc import Sequence
from typing import Any

PLUGIN = "AWSAuthenticationPlugin"
_LOCAL = frozenset({"rdsadmin", "mysql.sys", "mysql.session", "mysql.infoschema", "mariadb.sys"})
_ANYWHERE = frozenset({"rds_superuser_role", "rdsrepladmin", "rdsproxyadmin"})
#: Schemas of the server, and the one that rdsiam keeps the audit's procedure in.
SYSTEM_SCHEMAS = frozenset({"mysql", "sys", "information_schema", "performance_schema", "innodb", "rdsiam"})


def is_system(user: str, host: str) -> bool:
    """Return whether an account is RDS's or the server's own.

    Most of them exist for the server's own machine only: a namesake that comes from elsewhere is somebody's.
    """
    return user in _ANYWHERE or (user in _LOCAL and host == "localhost")


def is_mariadb(session: Any) -> bool:
    """Return whether the server said so when it greeted us."""
    return "mariadb" in session.get_server_info().lower()


def rows(session: Any, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run a query and return all of its rows."""
    with session.cursor() as cursor:
        cursor.execute(query, parameters or None)
        return list(cursor.fetchall())
