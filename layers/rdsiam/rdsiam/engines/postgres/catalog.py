"""Parts of PostgreSQL's catalogs that onboarding and the audit both need: memberships, and what is the system's."""

from typing import Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.types.string import TextLoader

from rdsiam.engines.postgres.connection import PostgresSession
from rdsiam.engines.postgres.lockout import Membership
from rdsiam.state.layout import Layout

#: Since this version, roles are administered and inherited by options of each membership.
MEMBERSHIP_OPTIONS = 160000
_SYSTEM = frozenset({"rdsadmin", "rdsrepladmin", "rdstopmgr", "rdsproxyadmin"})
#: Values of a parameter of RDS that is switched on, as the server shows them.
SWITCHED_ON = frozenset({"1", "on"})
#: Prefixes of all names of the system; other names may begin with them too.
SYSTEM_PREFIXES = ("pg_", "rds")
#: Selects the rows of pg_database that are not the system's, and that are neither templates nor invalid.
USERS_DATABASES = "datallowconn AND NOT datistemplate AND datconnlimit <> -2 AND datname <> 'rdsadmin'"
_FINGERPRINT = """(SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
    COALESCE(pg_catalog.string_agg(x.line, ' ' ORDER BY x.line), ''), 'UTF8')), 'hex') FROM ({lines}) AS x)"""
#: Catalogs that the whole server shares, so that one session sees the schemas and owners of all databases: what belongs
#: to the server itself is not in pg_shdepend.
_OWNED = "FROM pg_catalog.pg_shdepend s WHERE s.deptype = 'o' AND s.classid = ANY (ARRAY[{catalogs}])"
_SCHEMAS = _OWNED.format(catalogs="'pg_catalog.pg_namespace'::pg_catalog.regclass")
_OBJECTS = _OWNED.format(
    catalogs=", ".join(f"'pg_catalog.{name}'::pg_catalog.regclass" for name in ("pg_class", "pg_proc", "pg_namespace"))
)
#: A database that accepts no sessions, or nothing but reading: onboarding leaves it out until its owner changes that.
_CLOSED = """d.datconnlimit = 0 OR EXISTS (
    SELECT FROM pg_catalog.pg_db_role_setting r CROSS JOIN LATERAL pg_catalog.unnest(r.setconfig) AS c(setting)
    WHERE r.setdatabase = d.oid AND r.setrole = 0 AND c.setting LIKE 'default\\_transaction\\_read\\_only=%'
        AND c.setting <> 'default_transaction_read_only=off')"""
#: Two fingerprints: databases and schemas, each with its owner; owners of objects, by database.
LAYOUT = ", ".join((
    _FINGERPRINT.format(lines=f"""
        SELECT pg_catalog.concat_ws(':', d.oid, d.datdba, {_CLOSED}) AS line
        FROM pg_catalog.pg_database d WHERE {USERS_DATABASES}
        UNION ALL SELECT pg_catalog.concat_ws(':', s.dbid, s.objid, s.refobjid) {_SCHEMAS}"""),  # noqa: S608 constants
    _FINGERPRINT.format(lines=f"SELECT DISTINCT pg_catalog.concat_ws(':', s.dbid, s.refobjid) AS line {_OBJECTS}"),
))  # fmt: skip
_MEMBERSHIPS = """
SELECT g.rolname, m.rolname, a.admin_option, {inherit}, {set}
FROM pg_catalog.pg_auth_members a
JOIN pg_catalog.pg_roles g ON g.oid = a.roleid JOIN pg_catalog.pg_roles m ON m.oid = a.member
ORDER BY 1, 2
"""
#: The same with the grantor. Before PostgreSQL 16 it may be a role that was dropped since.
_GRANTED = """
SELECT g.rolname, m.rolname, a.admin_option, {inherit}, {set}, COALESCE(b.rolname, '')
FROM pg_catalog.pg_auth_members a
JOIN pg_catalog.pg_roles g ON g.oid = a.roleid JOIN pg_catalog.pg_roles m ON m.oid = a.member
LEFT JOIN pg_catalog.pg_roles b ON b.oid = a.grantor
ORDER BY 1, 2, 6
"""


def is_system(name: str, login: bool) -> bool:
    """Return whether a role is RDS's or PostgreSQL's own.

    RDS's groups, `rds_…`, can't log in: a role of such a name that can is a user's.
    """
    return name in _SYSTEM or name.startswith("pg_") or (not login and name.startswith("rds_"))


def rows(session: PostgresSession, query: str) -> list[tuple[Any, ...]]:
    """Run a query and return its rows, names decoded by psycopg itself, which takes a third of the time.

    If a name is not UTF-8, which a database of another encoding allows, the rows are decoded as the session does.
    """
    return row_sets(session, query)[0]


def row_sets(session: PostgresSession, *queries: str) -> list[list[tuple[Any, ...]]]:
    """Run queries one after the other in one round trip, and return the rows of each; see `rows`."""
    cursor = session.cursor()
    cursor.adapters.register_loader("name", TextLoader)
    cursor.execute(";".join(queries))
    sets = [_fetch_all(session, cursor)]
    while cursor.nextset():
        sets.append(_fetch_all(session, cursor))
    return sets


def _fetch_all(session: PostgresSession, cursor: psycopg.Cursor[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    try:
        return cursor.fetchall()
    except UnicodeDecodeError:
        transformer = Transformer.from_context(session)
        transformer.set_pgresult(cursor.pgresult)
        return transformer.load_rows(0, cursor.rowcount, tuple)


def first_row(session: PostgresSession, query: str, parameters: list[str] | None = None) -> tuple[Any, ...]:
    """Run a query that always returns a row, and return its first row."""
    row = session.execute(query, parameters).fetchone()
    assert row is not None, "the query returns a row on every server"
    return row


def layout(session: PostgresSession) -> Layout:
    """Read databases, schemas and owners of objects, as fingerprints."""
    return Layout.of_texts(*first_row(session, f"SELECT {LAYOUT}"))


def memberships(session: PostgresSession) -> tuple[Membership, ...]:
    """Read all memberships of roles with their grantors, sorted."""
    return tuple(map(Membership._make, rows(session, _GRANTED.format(**_options(session)))))


def membership_query(session: PostgresSession) -> str:
    """Return the query for all memberships of roles, sorted, each a `MembershipRow`."""
    return _MEMBERSHIPS.format(**_options(session))


def _options(session: PostgresSession) -> dict[str, str]:
    """Return the columns that hold the options of a membership, or what applies before there were options."""
    if session.info.server_version < MEMBERSHIP_OPTIONS:
        return {"inherit": "true", "set": "true"}
    return {"inherit": "a.inherit_option", "set": "a.set_option"}
