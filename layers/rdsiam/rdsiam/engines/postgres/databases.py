"""The databases of a PostgreSQL server, and the reasons why nobody can work in some, as the catalogs show them."""

from dataclasses import dataclass

from rdsiam.core.changes import Unreached
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.engines.postgres.connection import PostgresSession
from rdsiam.engines.postgres.sql_text import compose

#: Databases that each server is created with and that nobody works in.
_SYSTEM = frozenset({"template0", "template1", "rdsadmin"})
#: `datconnlimit` of a database whose DROP was interrupted; nobody can connect to it, or use it in any other way.
_INVALID = -2
_AGAIN = "then onboard the database again"
_MAY_CONNECT = """EXISTS (
    SELECT FROM pg_catalog.aclexplode(COALESCE(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
    WHERE a.privilege_type = 'CONNECT' AND (a.grantee = 0 OR r.rolname = %s))"""
_DATABASES = f"""
SELECT d.datname, COALESCE(o.rolname, ''), d.datallowconn, d.datistemplate, d.datconnlimit,
       {_MAY_CONNECT}, {_MAY_CONNECT}
FROM pg_catalog.pg_database d LEFT JOIN pg_catalog.pg_roles o ON o.oid = d.datdba ORDER BY 1
"""  # noqa: S608 a constant


@dataclass(frozen=True)
class ServerDatabase:
    """A database as pg_database shows it.

    :ivar accepts: it accepts connections.
    :ivar limit: maximum number of sessions; negative numbers are words of PostgreSQL.
    :ivar manager: the manager may connect, itself or as everybody may.
    :ivar auditor: the auditor may connect.
    """

    name: str
    owner: str
    accepts: bool
    template: bool
    limit: int
    manager: bool
    auditor: bool

    @property
    def obstacle(self) -> Unreached | None:
        """The reason why nobody can work in it; None if there is none."""
        name = {"d": self.name}
        if self.limit == _INVALID:
            return obstacle(self.name, "its DROP DATABASE was interrupted", compose("run: DROP DATABASE {d}", **name))
        if self.template:
            reason = "it is a template, and what is granted in it would be granted in each database that is made of it"
            return obstacle(self.name, reason, compose("run: ALTER DATABASE {d} IS_TEMPLATE false; ", **name) + _AGAIN)
        if not self.accepts:
            allow = compose("run: ALTER DATABASE {d} ALLOW_CONNECTIONS true; ", **name)
            return obstacle(self.name, "it accepts no connections", allow + _AGAIN)
        if self.limit == 0:
            remedy = compose("run: ALTER DATABASE {d} CONNECTION LIMIT -1; ", **name) + _AGAIN
            return obstacle(self.name, "its connection limit is 0", remedy)
        return None


def obstacle(database: str, reason: str, remedy: str, retry: bool = False) -> Unreached:
    """Return a database as a part that was not done."""
    return Unreached(f"database {database}", reason, remedy, retry)


def read_databases(session: PostgresSession) -> dict[str, ServerDatabase]:
    """Read all databases but the system's, by name."""
    rows = session.execute(_DATABASES, [MANAGER, AUDITOR])
    return {row[0]: ServerDatabase(*row) for row in rows if row[0] not in _SYSTEM}


def absent(name: str, server: str) -> Unreached:
    """Return a database that access.yaml names, and that does not exist, as a part that was not done."""
    return obstacle(name, f"there is none of this name on {server}", "create it, or correct `on`")


def closed(database: ServerDatabase, master: str) -> Unreached:
    """Return a database to which its owner lets neither the manager nor everybody connect."""
    grant = compose("GRANT CONNECT ON DATABASE {d} TO {m}, {b}", d=database.name, m=MANAGER, b=master)
    return obstacle(
        database.name,
        f"{MANAGER} may not connect to it, since its owner {database.owner} has revoked CONNECT from PUBLIC",
        f"as {database.owner} run: {grant}; {_AGAIN}",
    )
