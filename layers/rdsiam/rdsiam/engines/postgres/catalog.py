"""What onboarding and the audit both need of PostgreSQL: who is a member of what, and what is the system's."""

from typing import Any

from psycopg.adapt import Transformer
from psycopg.types.string import TextLoader

from rdsiam.engines.postgres.lockout import Membership

_SYSTEM = frozenset({"rdsadmin", "rdsrepladmin", "rdstopmgr", "rdsproxyadmin"})
#: What the names of all that is the system's begin with; much else does too.
SYSTEM_PREFIXES = ("pg_", "rds")
#: Which rows of pg_database are somebody's.
USERS_DATABASES = "datallowconn AND NOT datistemplate AND datname <> 'rdsadmin'"
_MEMBERSHIPS = """
SELECT g.rolname, m.rolname, a.admin_option, {inherit}, {set}
FROM pg_catalog.pg_auth_members a
JOIN pg_catalog.pg_roles g ON g.oid = a.roleid JOIN pg_catalog.pg_roles m ON m.oid = a.member
ORDER BY 1, 2
"""


def is_system(name: str, login: bool) -> bool:
    """Return whether a role is RDS's or PostgreSQL's own.

    None of RDS's groups, `rds_…`, can log in: one that can is somebody's, whatever its name.
    """
    return name in _SYSTEM or name.startswith("pg_") or (not login and name.startswith("rds_"))


def rows(session: Any, query: str) -> list[tuple[Any, ...]]:
    """Run a query and return its rows, names decoded by psycopg itself, which takes a third of the time.

    Where a name is no UTF-8, which a database of another encoding allows, the same rows are read the session's own way.
    """
    cursor = session.cursor()
    cursor.adapters.register_loader("name", TextLoader)
    cursor.execute(query)
    try:
        found: list[tuple[Any, ...]] = cursor.fetchall()
    except UnicodeDecodeError:
        transformer = Transformer.from_context(session)
        transformer.set_pgresult(cursor.pgresult)
        found = transformer.load_rows(0, cursor.rowcount, tuple)
    return found


def memberships(session: Any) -> tuple[Membership, ...]:
    """Read who is a member of what, sorted."""
    modern = session.info.server_version >= 160000
    columns = {"inherit": "a.inherit_option", "set": "a.set_option"} if modern else {"inherit": "true", "set": "true"}
    return tuple(map(Membership._make, rows(session, _MEMBERSHIPS.format(**columns))))
