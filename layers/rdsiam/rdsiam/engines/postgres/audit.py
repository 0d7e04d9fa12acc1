"""What the audit reads of a PostgreSQL server: three queries, each on catalogs that every role may read.

The auditor needs no grant for it. In particular it is no member of pg_read_all_stats, which would show it the
statements of others, and with them their data: that somebody has sessions open is seen without.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import psycopg

from rdsiam.aws.rds import Database
from rdsiam.engines.facts import AccountFacts, ServerFacts
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.postgres.catalog import SYSTEM_PREFIXES, USERS_DATABASES, is_system, memberships, rows
from rdsiam.engines.postgres.lockout import IAM_ROLE, Membership, members
from rdsiam.engines.protocols import QueryFailed

_SUPERUSERS, _REPLICATION = "rds_superuser", "rds_replication"
#: Stands for all that may change roles. No role has this name.
_POWERFUL = ""
#: Databases, each with what the server itself has to say.
_SERVER = f"""
SELECT d.datname, pg_catalog.current_setting('rds.force_ssl', true),
    pg_catalog.to_char(pg_catalog.now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
FROM (VALUES (1)) AS server LEFT JOIN pg_catalog.pg_database d ON {USERS_DATABASES}
"""  # noqa: S608 a constant
#: Roles. A limit of no connections keeps out everybody but superusers, by token too; VALID UNTIL ends passwords only.
#: pg_shdepend is one table for the whole server; it doesn't count what the server itself was made with.
_ROLES = """
SELECT r.rolname, r.rolcanlogin, r.rolsuper, r.rolcreaterole, r.rolreplication,
    r.rolconnlimit = 0 AND NOT r.rolsuper, COALESCE(r.rolvaliduntil <= pg_catalog.now(), false),
    COALESCE(owned.count, 0), COALESCE(open.count, 0)
FROM pg_catalog.pg_roles r
LEFT JOIN (
    SELECT refobjid AS oid, pg_catalog.count(*) FROM pg_catalog.pg_shdepend
    WHERE refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND deptype = 'o' GROUP BY 1
) AS owned USING (oid)
LEFT JOIN (
    SELECT usesysid AS oid, pg_catalog.count(*) FROM pg_catalog.pg_stat_activity
    WHERE pid <> pg_catalog.pg_backend_pid() GROUP BY 1
) AS open USING (oid)
ORDER BY 1
"""
#: No path of memberships is told beyond this many roles.
_LONGEST_PATH = 20


def audit(session: Any, database: Database) -> ServerFacts:
    """Read how every role can log in; see `Engine.audit`."""
    try:
        session.autocommit = True
        server = rows(session, _SERVER)
        roles = rows(session, _ROLES)
        # After the roles: one that is just being made shall not be seen without its memberships.
        edges = memberships(session)
    except psycopg.Error as error:
        raise QueryFailed(error.sqlstate, str(error)) from None
    _, force_ssl, now = server[0]
    return ServerFacts(
        version=session.info.parameter_status("server_version") or "",
        tls_enforced=None if force_ssl is None else force_ssl in {"1", "on"},
        databases=tuple(sorted(row[0] for row in server if row[0] is not None)),
        accounts=accounts(roles, edges, database.master_user, now),
    )


def accounts(
    roles: Iterable[tuple[Any, ...]], edges: Iterable[Membership], master: str, now: str
) -> tuple[AccountFacts, ...]:
    """Make facts of rows of the catalogs: every role that can log in, and those that have or hand on `rds_iam`.

    :param roles: name, login, superuser, createrole, replication, no connections, expired, owned, sessions.
    :param edges: all memberships.
    :param now: when they were read.
    """
    roles, edges = sorted(roles), tuple(edges)
    # Who may grant rds_iam, or made a role, is an admin-only member of it; RDS lets its administrator in all the same.
    iam = members(edges, IAM_ROLE, frozenset({master, MANAGER}))
    powerful = {_SUPERUSERS} | {row[0] for row in roles if row[2] or row[3]}
    administrators = members(
        [*edges, *(Membership(_POWERFUL, name, False, True, True) for name in powerful)], _POWERFUL
    )
    replicating = members([edge for edge in edges if edge.member != _SUPERUSERS], _REPLICATION)
    groups: dict[str, set[str]] = {}
    for group, member, admin, inherit, may_set in edges:
        if inherit or may_set or not admin:
            groups.setdefault(member, set()).add(group)
    found = []
    of = AccountFacts.of
    for name, login, _, _, replication, closed, expired, owned, sessions in roles:
        token = name in iam
        if not (login or token) or (name.startswith(SYSTEM_PREFIXES) and is_system(name, login)):
            continue
        fields = {"name": name, "login": login, "owns": owned, "sessions": sessions}
        if token:
            fields |= {"iam": True, "iam_through": _path(iam, name), "password": False, "tls": True}
        if sessions:
            fields["last_seen"] = now
        if closed or expired:
            unusable = login and (closed or not token)
            fields |= {"locked": closed, "expired": expired, "unusable": unusable}
        if name in administrators:
            fields["administrator"] = True
        if replication or name in replicating:
            fields["replication"] = True
        if name in groups:
            fields["member_of"] = tuple(sorted(groups[name]))
        found.append(of(fields))
    return tuple(found)


def _path(iam: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Return the roles between `name` and rds_iam, nearest first."""
    path: list[str] = []
    while (name := iam.get(name, IAM_ROLE)) != IAM_ROLE and len(path) < _LONGEST_PATH:
        path.append(name)
    return tuple(path)
