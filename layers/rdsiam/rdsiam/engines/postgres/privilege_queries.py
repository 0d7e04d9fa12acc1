"""Reads the privileges that roles lack of what they are entitled to, and those that rdsiam granted and no longer gives.

A level covers all schemas, also those that are created later. If some are excluded, its default privileges are limited
to the other schemas, since those of a whole database can't be taken back in one schema: a schema that is created later
is then opened by the next onboarding.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rdsiam.engines.postgres.connection import PostgresSession
from rdsiam.engines.postgres.escalations import HAZARDOUS
from rdsiam.engines.postgres.privileges import ObjectType, PrivilegeChange, Row

#: Names are qualified, though search_path is pg_catalog alone; unnest of several arrays is syntax, not a function.
_ENTITLED = """unnest(%(grantees)s::text[], %(types)s::text[], %(privileges)s::text[], %(schemas)s::text[])
    AS w(grantee, type, privilege, schema)"""
_GRANTED = """unnest(%(g_grantees)s::text[], %(g_types)s::text[], %(g_privileges)s::text[], %(g_schemas)s::text[])
    AS r(grantee, type, privilege, schema)"""
SYSTEM_SCHEMA = "n.nspname LIKE 'pg\\_%%' OR n.nspname = 'information_schema'"
#: Privileges that no grantee gets: on tables of administrators those that let their holder act as the owner, and
#: EXECUTE on functions that run as an administrator.
_HAZARD = """{row}.type = 'table' AND {row}.privilege = ANY (%(hazardous)s::text[])
    AND {owner} = ANY (%(administrators)s::text[])"""
_RUNS_AS_ADMINISTRATOR = "x.definer AND o.rolname = ANY (%(administrators)s::text[])"
#: Extensions grant and withhold their functions themselves.
_OBJECTS = f"""objects AS (
    SELECT 'database' AS type, 'database' AS class, ARRAY[d.datname::text] AS name, NULL::text AS schema,
           d.datdba AS owner, d.datacl AS acl, 'd' AS kind, false AS definer, ARRAY[]::text[] AS used
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
  UNION ALL
    SELECT 'schema', 'schema', ARRAY[n.nspname::text], n.nspname::text, n.nspowner, n.nspacl, 'n', false,
           ARRAY[]::text[]
    FROM pg_catalog.pg_namespace n WHERE NOT ({SYSTEM_SCHEMA})
  UNION ALL
    SELECT t.type, t.type, ARRAY[n.nspname::text, c.relname::text], n.nspname::text, c.relowner, c.relacl,
           CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END, false, ARRAY[n.nspname::text]
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (VALUES (CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END)) AS t(type)
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT ({SYSTEM_SCHEMA})
  UNION ALL
    SELECT CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, 'function',
           ARRAY[n.nspname::text, p.proname::text, COALESCE((
               SELECT pg_catalog.string_agg(CASE p.prokind WHEN 'p' THEN 'IN ' ELSE '' END
                                            || pg_catalog.format_type(t.type, NULL), ', ' ORDER BY t.position)
               FROM pg_catalog.unnest(p.proargtypes::pg_catalog.oid[]) WITH ORDINALITY AS t(type, position)), '')],
           n.nspname::text, p.proowner, p.proacl, 'f', p.prosecdef, n.nspname::text || ARRAY(
               SELECT m.nspname::text FROM pg_catalog.unnest(p.proargtypes::pg_catalog.oid[]) AS t(type)
               JOIN pg_catalog.pg_type y ON y.oid = t.type JOIN pg_catalog.pg_namespace m ON m.oid = y.typnamespace)
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE %(functions)s AND NOT ({SYSTEM_SCHEMA}) AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend e
        WHERE e.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND e.objid = p.oid AND e.deptype = 'e')
)"""  # noqa: S608 a constant
_OWNERS = """
JOIN pg_catalog.pg_roles o ON o.oid = x.owner
JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
JOIN pg_catalog.pg_roles b ON b.oid = d.datdba
"""
_OWNER = "CASE o.rolname WHEN 'pg_database_owner' THEN b.rolname ELSE o.rolname END"
#: The schemas that the name of an object needs and that its owner may not use: its own, and those of argument types.
_CLOSED = """ARRAY(SELECT DISTINCT u.name FROM pg_catalog.unnest(x.used) AS u(name)
             WHERE NOT pg_catalog.has_schema_privilege(x.owner, u.name, 'USAGE') ORDER BY 1)"""
#: The scopes of an object: its schema, and the whole database unless its schema is excluded.
_IS_OPEN = "(x.schema IS NULL OR x.schema <> ALL (%(excluded)s::text[]))"
_SCOPES = f"""CROSS JOIN LATERAL (
    SELECT x.schema WHERE x.schema IS NOT NULL UNION ALL SELECT '' WHERE {_IS_OPEN}) AS s(scope)"""
_MISSING = f"""
WITH {_OBJECTS}
SELECT {_OWNER}, w.grantee, x.type, x.name, pg_catalog.array_agg(DISTINCT w.privilege ORDER BY w.privilege),
       {_CLOSED}
FROM objects x {_SCOPES} JOIN {_ENTITLED} ON w.type = x.class AND w.schema = s.scope {_OWNERS}
WHERE o.rolname <> w.grantee AND o.rolname <> 'rdsadmin'
  AND NOT ({_HAZARD.format(row="w", owner="o.rolname")}) AND NOT ({_RUNS_AS_ADMINISTRATOR})
  AND NOT EXISTS (
    SELECT FROM pg_catalog.aclexplode(COALESCE(x.acl, pg_catalog.acldefault(x.kind::"char", x.owner))) a
    JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
    WHERE g.rolname = w.grantee AND a.privilege_type = w.privilege)
GROUP BY 1, 2, 3, 4, 6 ORDER BY 1, 2, 3, 4
"""  # noqa: S608 a constant
#: Only what the owner granted, as onboarding does. Hazardous privileges are looked for everywhere, by `holdings`.
_SURPLUS = f"""
WITH {_OBJECTS}, entitled AS (SELECT * FROM {_ENTITLED}), held AS (
    SELECT x.*, g.rolname AS grantee, a.privilege_type AS privilege
    FROM objects x CROSS JOIN LATERAL pg_catalog.aclexplode(x.acl) a
    JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
    WHERE a.grantor = x.owner AND g.rolname = ANY (%(g_grantees)s::text[])
)
SELECT {_OWNER}, x.grantee, x.type, x.name, pg_catalog.array_agg(DISTINCT x.privilege ORDER BY x.privilege),
       {_CLOSED}
FROM held x CROSS JOIN LATERAL (VALUES (x.schema), ('')) AS s(scope)
JOIN {_GRANTED} ON r.grantee = x.grantee AND r.privilege = x.privilege AND r.type = x.class AND r.schema = s.scope
{_OWNERS}
WHERE o.rolname <> x.grantee AND o.rolname <> 'rdsadmin' AND NOT ({_HAZARD.format(row="r", owner="o.rolname")})
  AND ({_RUNS_AS_ADMINISTRATOR} OR NOT (
    EXISTS (SELECT FROM entitled w WHERE w.grantee = x.grantee AND w.privilege = x.privilege AND w.type = x.class
                                     AND w.schema = x.schema)
    OR ({_IS_OPEN} AND EXISTS (SELECT FROM entitled w WHERE w.grantee = x.grantee AND w.privilege = x.privilege
                                                        AND w.type = x.class AND w.schema = ''))))
GROUP BY 1, 2, 3, 4, 6 ORDER BY 1, 2, 3, 4
"""  # noqa: S608 a constant
#: The type of the objects that default privileges are about.
_DEFAULT_OF = """CASE d.defaclobjtype WHEN 'r' THEN 'table' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'function'
                                     ELSE 'schema' END"""
#: Of a role that can't create anything in a schema, nothing is created there.
_FUTURE = f"""
WITH creators AS (
    SELECT c.name, o.oid, c.name = ANY (%(certain)s::text[]) AS certain
    FROM pg_catalog.unnest(%(creators)s::text[]) AS c(name) LEFT JOIN pg_catalog.pg_roles o ON o.rolname = c.name
), schemas AS (
    SELECT n.nspname::text AS name, n.oid FROM pg_catalog.pg_namespace n WHERE NOT ({SYSTEM_SCHEMA})
), places AS MATERIALIZED (
    SELECT c.name AS creator, s.name AS schema, s.oid FROM creators c CROSS JOIN schemas s
    WHERE CASE WHEN c.certain THEN true ELSE pg_catalog.has_schema_privilege(c.oid, s.oid, 'CREATE') END
  UNION ALL
    SELECT c.name, NULL, 0 FROM creators c
), entitled AS (
    SELECT w.grantee, w.type, w.privilege, p.creator, p.schema, p.oid
    FROM {_ENTITLED} JOIN places p ON p.schema = w.schema
    WHERE w.type NOT IN ('database', 'schema')
  UNION ALL
    SELECT w.grantee, w.type, w.privilege, p.creator, p.schema, p.oid
    FROM {_ENTITLED} CROSS JOIN places p
    WHERE w.schema = '' AND w.type <> 'database' AND CASE WHEN pg_catalog.cardinality(%(excluded)s::text[]) = 0
        THEN p.schema IS NULL ELSE w.type <> 'schema' AND p.schema <> ALL (%(excluded)s::text[]) END
), held AS MATERIALIZED (
    SELECT r.rolname::text AS creator, d.defaclnamespace AS oid, g.rolname::text AS grantee,
           a.privilege_type AS privilege, {_DEFAULT_OF} AS type
    FROM pg_catalog.pg_default_acl d JOIN pg_catalog.pg_roles r ON r.oid = d.defaclrole
    CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) a JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
    WHERE d.defaclobjtype IN ('r', 'S', 'f', 'n')
)
SELECT w.creator, w.grantee, w.type, pg_catalog.array_agg(DISTINCT w.privilege ORDER BY w.privilege), w.schema
FROM entitled w
WHERE w.creator <> w.grantee AND NOT ({_HAZARD.format(row="w", owner="w.creator")})
  AND NOT (w.type = 'function' AND w.creator = ANY (%(administrators)s::text[]))
  AND NOT EXISTS (
    SELECT FROM held h WHERE h.creator = w.creator AND h.oid = w.oid AND h.grantee = w.grantee
                         AND h.privilege = w.privilege AND h.type = w.type)
GROUP BY 1, 2, 3, 5 ORDER BY 1, 2, 3, 4, 5
"""  # noqa: S608 a constant
_CREATORS = f"""
SELECT DISTINCT o.rolname FROM pg_catalog.pg_roles o WHERE o.oid IN (
    SELECT c.relowner FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT ({SYSTEM_SCHEMA})
  UNION SELECT p.proowner FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE %(functions)s AND NOT ({SYSTEM_SCHEMA})
  UNION SELECT n.nspowner FROM pg_catalog.pg_namespace n WHERE NOT ({SYSTEM_SCHEMA}))
  AND o.rolname <> 'rdsadmin' AND o.rolname NOT LIKE 'pg\\_%%'
  AND (o.rolname NOT LIKE 'rds\\_%%' OR o.rolcanlogin)
ORDER BY 1
"""  # noqa: S608 a constant
#: Default privileges of the grantees, each with its creator and schema.
_DEFAULTS = f"""
SELECT o.rolname, g.rolname, {_DEFAULT_OF}, a.privilege_type, n.nspname::text
FROM pg_catalog.pg_default_acl d JOIN pg_catalog.pg_roles o ON o.oid = d.defaclrole
CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) a JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace
WHERE d.defaclobjtype IN ('r', 'S', 'f', 'n') AND g.rolname = ANY (%s) AND o.oid <> g.oid
ORDER BY 1, 2, 3, 4, 5
"""  # noqa: S608 a constant


@dataclass(frozen=True)
class Scope:
    """The database whose privileges are compared.

    :ivar excluded: schemas that entitlements without schemas leave out.
    :ivar administrators: roles on whose objects no grantee gets privileges to act as the owner.
    """

    session: PostgresSession
    database: str
    excluded: frozenset[str]
    administrators: frozenset[str]

    def parameters(self, entitled: Iterable[Row], granted: Iterable[Row] = ()) -> dict[str, object]:
        """Return the parameters that the queries share."""
        entitled, granted = list(entitled), list(granted)
        return {
            **_arrays("", entitled),
            **_arrays("g_", granted),
            "excluded": sorted(self.excluded),
            "administrators": sorted(self.administrators),
            "hazardous": sorted(HAZARDOUS),
            "functions": any(row[1] == "function" for row in (*entitled, *granted)),
        }


def missing(scope: Scope, entitled: Sequence[Row], creators: Iterable[str]) -> list[PrivilegeChange]:
    """Read the privileges that grantees lack, on existing and on future objects.

    :param creators: roles whose future objects count, besides the owners of existing objects. They may create objects
        in all schemas, or will.
    """
    parameters = scope.parameters(entitled)
    certain = sorted(creators)
    owners = {row[0] for row in scope.session.execute(_CREATORS, {"functions": parameters["functions"]})}
    more = {"creators": sorted(owners.union(certain)), "certain": certain}
    return [
        *_of_objects(scope, _MISSING, parameters, revoke=False),
        *_of_future_objects(scope, scope.session.execute(_FUTURE, parameters | more), revoke=False),
    ]


def surplus(scope: Scope, granted: Sequence[Row], entitled: Sequence[Row]) -> list[PrivilegeChange]:
    """Read the privileges that grantees hold, that rdsiam granted, and to which they are no longer entitled.

    :param granted: privileges that rdsiam granted at some time; a schema of None stands for all schemas.
    """
    if not granted:
        return []
    present = _of_objects(scope, _SURPLUS, scope.parameters(entitled, granted), revoke=True)
    stays, known = frozenset(entitled), frozenset(granted)
    grouped: dict[tuple[str, str, ObjectType, str | None], list[str]] = {}
    for creator, *row in scope.session.execute(_DEFAULTS, [sorted({row[0] for row in granted})]):
        grantee, kind, privilege, schema = row
        is_known = (grantee, kind, privilege, schema) in known or (grantee, kind, privilege, None) in known
        if is_known and not _stays(scope, stays, creator, (grantee, kind, privilege, schema)):
            grouped.setdefault((creator, grantee, kind, schema), []).append(privilege)
    rows = [
        (creator, grantee, kind, privileges, schema) for (creator, grantee, kind, schema), privileges in grouped.items()
    ]
    return [*present, *_of_future_objects(scope, rows, revoke=True)]


def _stays(scope: Scope, entitled: frozenset[Row], creator: str, row: Row) -> bool:
    """Return whether default privileges are as entitled, or left to `holdings`, which finds all hazardous ones."""
    grantee, kind, privilege, schema = row
    if creator in scope.administrators and kind in ("table", "function"):
        if kind == "function":
            return False
        if privilege in HAZARDOUS:
            return True
    whole = (grantee, kind, privilege, None) in entitled
    if schema is None:
        return whole and not scope.excluded
    return row in entitled or (whole and bool(scope.excluded) and schema not in scope.excluded)


def _arrays(prefix: str, rows: Sequence[Row]) -> dict[str, list[str | None]]:
    """Return the columns of rows; the empty name, which no schema has, stands for the whole database."""
    names = ("grantees", "types", "privileges")
    columns = {prefix + name: [row[number] for row in rows] for number, name in enumerate(names)}
    return columns | {prefix + "schemas": [row[3] or "" for row in rows]}


def _of_objects(scope: Scope, query: str, parameters: Mapping[str, object], revoke: bool) -> list[PrivilegeChange]:
    """Return the changes on existing objects, those that one statement can make together."""
    grouped: dict[tuple[str, str, ObjectType, tuple[str, ...], tuple[str, ...]], list[tuple[str, ...]]] = {}
    for owner, grantee, kind, name, privileges, closed in scope.session.execute(query, parameters):
        grouped.setdefault((owner, grantee, kind, tuple(privileges), tuple(closed)), []).append(tuple(name))
    return [
        PrivilegeChange(scope.database, owner, grantee, kind, privileges, tuple(objects), revoke, closed=closed)
        for (owner, grantee, kind, privileges, closed), objects in grouped.items()
    ]


def _of_future_objects(scope: Scope, rows: Iterable[Sequence[Any]], revoke: bool) -> list[PrivilegeChange]:
    """Return the changes on future objects, those that one statement can make together.

    :param rows: creator, grantee, type, privileges, schema.
    """
    grouped: dict[tuple[str, str, ObjectType, tuple[str, ...], bool], list[str]] = {}
    for creator, grantee, kind, privileges, schema in rows:
        key = creator, grantee, kind, tuple(privileges), schema is not None
        grouped.setdefault(key, []).extend([] if schema is None else [schema])
    return [
        PrivilegeChange(scope.database, creator, grantee, kind, privileges, (), revoke, tuple(sorted(schemas)))
        for (creator, grantee, kind, privileges, _), schemas in grouped.items()
    ]
