"""Users that can act as an administrator of a PostgreSQL server through the administrator's own tables.

A trigger's function runs as the user that writes to the table, so the holder of TRIGGER waits for the owner's next
write. A foreign key is checked by a query that runs as the owner of the referenced table and calls the cast of the
referencing column's type, so a holder of REFERENCES that may create types need not even wait.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rdsiam.engines.postgres.connection import PostgresSession
from rdsiam.engines.postgres.lockout import Membership, members
from rdsiam.state.escalations import Escalation, Held

#: Privileges on a table whose holder can have its code run as the table's owner.
HAZARDOUS = frozenset({"REFERENCES", "TRIGGER"})
#: Roles of PostgreSQL and RDS whose members read or change data without a grant.
_POWERFUL = frozenset(
    {"rds_superuser", "rds_replication", "pg_read_all_data", "pg_write_all_data"}
    | {"pg_execute_server_program", "pg_read_server_files", "pg_write_server_files"}
)
#: Stands for all administrators. No role has this name.
_ADMINISTRATORS = ""
#: Maximum number of objects and of users named for an escalation.
_NAMED = 20
_HELD = """
WITH owned AS (
    SELECT c.oid, c.relacl, c.relowner, o.rolname AS owner, n.nspname::text AS schema, c.relname::text AS name
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND o.rolname = ANY (%(administrators)s)
      AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema'
), granted AS (
    SELECT 'tables' AS held, t.owner, t.relowner AS by, ARRAY[t.schema, t.name] AS object, a.*
    FROM owned t CROSS JOIN LATERAL pg_catalog.aclexplode(t.relacl) a
  UNION ALL
    SELECT 'tables', t.owner, t.relowner, ARRAY[t.schema, t.name], a.*
    FROM owned t JOIN pg_catalog.pg_attribute c ON c.attrelid = t.oid AND NOT c.attisdropped
    CROSS JOIN LATERAL pg_catalog.aclexplode(c.attacl) a
  UNION ALL
    SELECT 'future tables', o.rolname, d.defaclrole, ARRAY(SELECT n.nspname::text FROM pg_catalog.pg_namespace n
                                                       WHERE n.oid = d.defaclnamespace), a.*
    FROM pg_catalog.pg_default_acl d JOIN pg_catalog.pg_roles o ON o.oid = d.defaclrole
    CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) a
    WHERE d.defaclobjtype = 'r' AND o.rolname = ANY (%(administrators)s)
)
SELECT held, owner, COALESCE(g.rolname, ''), pg_catalog.array_agg(DISTINCT privilege_type::text), object,
       pg_catalog.bool_and(grantor = by AND NOT is_grantable)
FROM granted LEFT JOIN pg_catalog.pg_roles g ON g.oid = grantee
WHERE privilege_type = ANY (%(privileges)s) AND (grantee = 0 OR g.rolname <> ALL (%(administrators)s))
GROUP BY 1, 2, 3, 5
UNION ALL
SELECT 'trigger', t.owner, f.rolname, ARRAY[]::text[], ARRAY[t.schema, t.name, g.tgname::text], false
FROM owned t JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal
JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid JOIN pg_catalog.pg_roles f ON f.oid = p.proowner
WHERE f.rolname <> ALL (%(administrators)s)
"""


@dataclass(frozen=True)
class Holding:
    """Hazardous privileges of one role on one administrator's tables in one database.

    :ivar revocable: the owner granted them itself, and the role can't have passed them on.
    """

    database: str
    held: Held
    owner: str
    grantee: str
    privileges: tuple[str, ...]
    objects: tuple[tuple[str, ...], ...]
    revocable: bool


def administrators(powerful: Iterable[str], memberships: Iterable[Membership]) -> frozenset[str]:
    """Return all administrators: powerful roles, and roles that are, or can make themselves, members of one.

    :param powerful: the master, and roles that are superusers, create roles or replicate.
    """
    heads = [Membership(_ADMINISTRATORS, name, False, True, True) for name in {*powerful, *_POWERFUL}]
    return frozenset(members([*memberships, *heads], _ADMINISTRATORS))


def holdings(session: PostgresSession, database: str, administrators: frozenset[str]) -> list[Holding]:
    """Read the hazardous privileges that other roles have on administrators' tables in the session's database."""
    names = {"administrators": sorted(administrators), "privileges": sorted(HAZARDOUS)}
    grouped: dict[tuple[Held, str, str, tuple[str, ...], bool], list[tuple[str, ...]]] = {}
    for held, owner, grantee, privileges, name, revocable in session.execute(_HELD, names):
        key = held, owner, grantee, tuple(sorted(privileges)), revocable
        grouped.setdefault(key, []).append(tuple(name))
    return [
        Holding(database, held, owner, grantee, privileges, tuple(sorted(objects)), revocable)
        for (held, owner, grantee, privileges, revocable), objects in sorted(grouped.items())
    ]


def escalations(
    held: Sequence[Holding],
    logins: Mapping[str, bool],
    memberships: Sequence[Membership],
    administrators: frozenset[str],
) -> tuple[Escalation, ...]:
    """Return the holdings that a user can exploit, sorted.

    :param logins: every role → whether it can log in.
    """
    result = []
    for holding in held:
        grantee = holding.grantee
        acting = {grantee, *members(memberships, grantee)} if grantee else set(logins)
        users = sorted(name for name in acting - administrators if logins.get(name))
        if users:
            result.append(
                Escalation(
                    holding.database, holding.owner, grantee, holding.held, holding.privileges,
                    holding.objects[:_NAMED], len(holding.objects), tuple(users[:_NAMED]),
                )
            )  # fmt: skip
    return tuple(sorted(result, key=lambda each: (each.database, each.owner, each.grantee, each.held)))
