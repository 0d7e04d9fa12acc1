"""Privileges of the levels `readonly`, `readwrite` and `owner` on PostgreSQL, and the statements that are missing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import Literal

from psycopg import sql

from rdsiam.engines.connection import PostgresSession
from rdsiam.engines.postgres.escalations import HAZARDOUS
from rdsiam.engines.postgres.sql_text import text

ObjectType = Literal["database", "schema", "table", "sequence"]
#: Privileges on each type of object.
Privileges = Mapping[ObjectType, frozenset[str]]

_SEQUENCES_TO_WRITE = frozenset({"USAGE", "SELECT", "UPDATE"})
#: Privileges of the group roles `<database>_<level>`; on tables of administrators without those that let their holder
#: act as the owner.
LEVELS: Mapping[str, Privileges] = {
    "readonly": {
        "database": frozenset({"CONNECT"}),
        "schema": frozenset({"USAGE"}),
        "table": frozenset({"SELECT"}),
        "sequence": frozenset({"SELECT"}),
    },
    "readwrite": {
        "database": frozenset({"CONNECT", "TEMPORARY"}),
        "schema": frozenset({"USAGE"}),
        "table": frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"}),
        "sequence": _SEQUENCES_TO_WRITE,
    },
    "owner": {
        "database": frozenset({"CONNECT", "TEMPORARY", "CREATE"}),
        "schema": frozenset({"USAGE", "CREATE"}),
        "table": frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"}),
        "sequence": _SEQUENCES_TO_WRITE,
    },
}


def of(privileges: str | Sequence[str]) -> Privileges:
    """Return the privileges of a level, or of a list of table privileges."""
    if isinstance(privileges, str):
        return LEVELS[privileges]
    return {
        "database": frozenset({"CONNECT"}),
        "schema": frozenset({"USAGE"}),
        "table": frozenset(privileges),
        "sequence": frozenset({"USAGE"}) if "INSERT" in privileges else frozenset(),
    }


@dataclass(frozen=True)
class PrivilegeChange:
    """Privileges that `grantee` lacks on objects of one owner, in one database.

    :ivar objects: names of the objects; empty for the future objects of the owner.
    :ivar revoke: the grantee has these privileges and must not have them.
    """

    database: str
    owner: str
    grantee: str
    type: ObjectType
    privileges: tuple[str, ...]
    objects: tuple[tuple[str, ...], ...]
    revoke: bool = False


#: Names are qualified, though search_path is pg_catalog alone; unnest of several arrays is syntax, not a function.
_DESIRED = "unnest(%(grantees)s::text[], %(types)s::text[], %(privileges)s::text[])"
#: Privileges that no grantee gets on tables of administrators.
_WITHHELD = """
w.type = 'table' AND w.privilege = ANY (%(hazardous)s::text[]) AND {owner} = ANY (%(administrators)s::text[])
"""
_SYSTEM_SCHEMA = "n.nspname LIKE 'pg\\_%%' OR n.nspname = 'information_schema'"
_OBJECTS = f"""
WITH objects AS (
    SELECT 'database' AS type, ARRAY[d.datname::text] AS name, d.datdba AS owner, d.datacl AS acl, 'd' AS kind
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
  UNION ALL
    SELECT 'schema', ARRAY[n.nspname::text], n.nspowner, n.nspacl, 'n'
    FROM pg_catalog.pg_namespace n WHERE NOT ({_SYSTEM_SCHEMA})
  UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, ARRAY[n.nspname::text, c.relname::text],
           c.relowner, c.relacl, CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT ({_SYSTEM_SCHEMA})
)
SELECT CASE o.rolname WHEN 'pg_database_owner' THEN b.rolname ELSE o.rolname END, w.grantee, x.type, x.name,
       pg_catalog.array_agg(w.privilege ORDER BY w.privilege)
FROM objects x
JOIN {_DESIRED} AS w(grantee, type, privilege) ON w.type = x.type
JOIN pg_catalog.pg_roles o ON o.oid = x.owner
JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
JOIN pg_catalog.pg_roles b ON b.oid = d.datdba
WHERE o.rolname <> w.grantee AND o.rolname <> 'rdsadmin' AND NOT ({_WITHHELD.format(owner="o.rolname")})
  AND NOT EXISTS (
    SELECT FROM pg_catalog.aclexplode(COALESCE(x.acl, pg_catalog.acldefault(x.kind::"char", x.owner))) a
    JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
    WHERE g.rolname = w.grantee AND a.privilege_type = w.privilege)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
_FUTURE = f"""
SELECT c.creator, w.grantee, w.type, pg_catalog.array_agg(w.privilege ORDER BY w.privilege)
FROM pg_catalog.unnest(%(creators)s::text[]) AS c(creator)
CROSS JOIN {_DESIRED} AS w(grantee, type, privilege)
WHERE w.type <> 'database' AND c.creator <> w.grantee AND NOT ({_WITHHELD.format(owner="c.creator")})
  AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_default_acl d
    JOIN pg_catalog.pg_roles r ON r.oid = d.defaclrole
    CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) a
    JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
    WHERE r.rolname = c.creator AND d.defaclnamespace = 0 AND g.rolname = w.grantee
      AND a.privilege_type = w.privilege
      AND d.defaclobjtype = CASE w.type WHEN 'table' THEN 'r' WHEN 'sequence' THEN 'S' ELSE 'n' END)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_CREATORS = f"""
SELECT DISTINCT o.rolname FROM pg_catalog.pg_roles o WHERE o.oid IN (
    SELECT c.relowner FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT ({_SYSTEM_SCHEMA})
  UNION SELECT n.nspowner FROM pg_catalog.pg_namespace n WHERE NOT ({_SYSTEM_SCHEMA}))
  AND o.rolname <> 'rdsadmin' AND o.rolname NOT LIKE 'pg\\_%%' AND o.rolname NOT LIKE 'rds\\_%%'
ORDER BY 1
"""


def missing(
    session: PostgresSession,
    database: str,
    grantees: Mapping[str, Privileges],
    creators: Iterable[str],
    administrators: Iterable[str],
) -> list[PrivilegeChange]:
    """Read the privileges that `grantees` lack in the session's database, on existing and on future objects.

    :param creators: roles whose future objects count, besides the owners of existing objects.
    :param administrators: roles on whose tables no grantee gets privileges to act as the owner.
    """
    rows = [
        (grantee, kind, privilege)
        for grantee, types in sorted(grantees.items())
        for kind, privileges in types.items()
        for privilege in sorted(privileges)
    ]
    desired = {
        "grantees": [row[0] for row in rows],
        "types": [row[1] for row in rows],
        "privileges": [row[2] for row in rows],
        "administrators": sorted(administrators),
        "hazardous": sorted(HAZARDOUS),
    }
    grouped: dict[tuple[str, str, ObjectType, tuple[str, ...]], list[tuple[str, ...]]] = {}
    for owner, grantee, kind, name, privileges in session.execute(_OBJECTS, desired):
        grouped.setdefault((owner, grantee, kind, tuple(privileges)), []).append(tuple(name))
    present = [
        PrivilegeChange(database, owner, grantee, kind, privileges, tuple(objects))
        for (owner, grantee, kind, privileges), objects in grouped.items()
    ]
    owners = {row[0] for row in session.execute(_CREATORS.replace("%%", "%"))} | set(creators)
    rows_of_future = session.execute(_FUTURE, desired | {"creators": sorted(owners)})
    future = [
        PrivilegeChange(database, creator, grantee, kind, tuple(privileges), ())
        for creator, grantee, kind, privileges in rows_of_future
    ]
    return present + future


def statements(change: PrivilegeChange) -> Iterator[str]:
    """Yield the GRANTs or REVOKEs of a change, with at most a hundred objects each."""
    privileges = sql.SQL(", ").join(sql.SQL(privilege) for privilege in change.privileges)
    kind = sql.SQL(change.type.upper())
    verb, to = map(sql.SQL, ("REVOKE", "FROM") if change.revoke else ("GRANT", "TO"))
    grantee = sql.Identifier(change.grantee)
    if not change.objects:
        yield text(
            sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} {} {} ON {}S {} {}").format(
                sql.Identifier(change.owner), verb, privileges, kind, to, grantee
            )
        )
    for batch in batched(change.objects, 100, strict=False):
        names = sql.SQL(", ").join(sql.Identifier(*name) for name in batch)
        yield text(sql.SQL("{} {} ON {} {} {} {}").format(verb, privileges, kind, names, to, grantee))
