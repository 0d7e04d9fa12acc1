"""The audit's reading of a PostgreSQL server: three queries, each on catalogs that every role may read.

The auditor needs no grant for it. In particular it is no member of pg_read_all_stats, which would show it the
statements of other users, and with them their data; open sessions are visible without.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import psycopg

from rdsiam.aws.rds import Database
from rdsiam.engines.facts import AccountFacts, ServerFacts
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.postgres.catalog import (
    LAYOUT,
    MEMBERSHIP_OPTIONS,
    SWITCHED_ON,
    SYSTEM_PREFIXES,
    USERS_DATABASES,
    is_system,
    membership_query,
    row_sets,
)
from rdsiam.engines.postgres.connection import PostgresSession
from rdsiam.engines.postgres.lockout import IAM_ROLE, MembershipRow, direct_members, reachable
from rdsiam.engines.statements import QueryFailed
from rdsiam.state.layout import Layout

#: A row of `_ROLES`: name, login, superuser, createrole, replication, no connections, expired, owned, sessions.
RoleRow = tuple[Any, ...]

_SUPERUSERS, _REPLICATION = "rds_superuser", "rds_replication"
_NAME = itemgetter(0)
#: Stands for all roles that may change roles. No role has this name.
_POWERFUL = ""
#: Databases, each with the server's own settings, time and layout.
_SERVER = f"""
SELECT d.datname, pg_catalog.current_setting('rds.force_ssl', true),
    pg_catalog.current_setting('rds.iam_auth_for_replication', true),
    pg_catalog.to_char(pg_catalog.now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), {LAYOUT}
FROM (VALUES (1)) AS server LEFT JOIN pg_catalog.pg_database d ON {USERS_DATABASES}
"""  # noqa: S608 a constant
#: Roles. A connection limit of 0 blocks all logins except superusers', also by token; VALID UNTIL ends passwords only.
#: pg_shdepend is one table for the whole server; it leaves out the objects that the server was created with.
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
#: Maximum number of roles in a reported path of memberships.
_LONGEST_PATH = 20


def audit(session: PostgresSession, database: Database) -> ServerFacts:
    """Read how every role can log in; see `Engine.audit`."""
    try:
        session.autocommit = True
        # Memberships after roles, so that a role created meanwhile is not seen without its memberships.
        server, roles, edges = row_sets(session, _SERVER, _ROLES, membership_query(session))
    except psycopg.Error as error:
        raise QueryFailed(error.sqlstate, str(error)) from None
    _, force_ssl, replication, now, *layout = server[0]
    return ServerFacts(
        version=session.info.parameter_status("server_version") or "",
        tls_enforced=None if force_ssl is None else force_ssl in SWITCHED_ON,
        databases=tuple(sorted(row[0] for row in server if row[0] is not None)),
        accounts=accounts(roles, edges, database.master_user, now),
        replication_by_token=replication in SWITCHED_ON,
        unadministered=_unadministered(roles, edges, session.info.server_version),
        layout=Layout.of_texts(*layout),
    )


def _unadministered(roles: Iterable[RoleRow], edges: Iterable[MembershipRow], version: int) -> frozenset[str]:
    """Return the roles on which the manager has no ADMIN OPTION, which it needs from PostgreSQL 16 on."""
    if version < MEMBERSHIP_OPTIONS:
        return frozenset()
    return frozenset(map(_NAME, roles)).difference([edge[0] for edge in edges if edge[1] == MANAGER and edge[2]])


@dataclass(frozen=True)
class _Memberships:
    """Memberships of all roles that the facts of a role depend on.

    :ivar iam: members of rds_iam → the role through which they are members.
    :ivar administrators: roles that may change roles, and their members.
    :ivar replicating: members of rds_replication.
    :ivar groups: role → the roles that it is a direct member of, sorted.
    """

    iam: Mapping[str, str]
    administrators: Mapping[str, str]
    replicating: Mapping[str, str]
    groups: Mapping[str, tuple[str, ...]]


def accounts(
    roles: Collection[RoleRow], edges: Sequence[MembershipRow], master: str, now: str
) -> tuple[AccountFacts, ...]:
    """Convert rows of the catalogs to facts of every role that can log in, or that has or passes on `rds_iam`.

    :param edges: all memberships.
    :param now: when the rows were read.
    """
    return AccountFacts.of(_fields(roles, _joined(roles, edges, master), now))


def _fields(roles: Iterable[RoleRow], joined: _Memberships, now: str) -> Iterator[dict[str, Any]]:
    """Yield the fields of `accounts`, sorted by name."""
    iam, groups = joined.iam, joined.groups
    by_token = {via: _by_token(iam, via) for via in {*iam.values()}}
    special = joined.administrators.keys() | joined.replicating.keys()
    # The loop calls nothing for the great majority of 10,000 users; calls would double its time.
    for row in sorted(roles, key=_NAME):
        name, login, _, _, replication, closed, expired, owned, sessions = row
        via = iam.get(name)
        if not (login or via) or (name.startswith(SYSTEM_PREFIXES) and is_system(name, login)):
            continue
        fields = {"name": name, "login": login, "owns": owned, "sessions": sessions}
        if name in groups:
            fields["member_of"] = groups[name]
        if via:
            fields |= by_token[via]
        if sessions or closed or expired or replication or name in special:
            _add_special(fields, row, joined, now)
        yield fields


def _by_token(iam: Mapping[str, str], via: str) -> Mapping[str, Any]:
    """Return the facts that all roles have in common which have `rds_iam` through the same role, or directly."""
    path: list[str] = []
    while via != IAM_ROLE and len(path) < _LONGEST_PATH:
        path.append(via)
        via = iam.get(via, IAM_ROLE)
    return {"iam": True, "iam_through": tuple(path), "password": False, "tls": True}


def _joined(roles: Iterable[RoleRow], edges: Sequence[MembershipRow], master: str) -> _Memberships:
    """Compute the memberships that the facts depend on."""
    powerful = {_SUPERUSERS} | {row[0] for row in roles if row[2] or row[3]}
    # rds_superuser is a member of rds_replication, which says nothing about its own members; it is powerful anyway.
    direct = direct_members(edge for edge in edges if edge[1] != _SUPERUSERS)
    direct[_POWERFUL] = sorted(powerful)
    groups: dict[str, tuple[str, ...]] = {}
    for group, member, admin, inherit, may_set in edges:
        if inherit or may_set or not admin:
            others = groups.get(member)
            groups[member] = tuple(sorted({*others, group})) if others else (group,)
    # The role that may grant rds_iam, or created a role, is an admin-only member of it; RDS lets its administrator
    # log in nevertheless.
    iam = reachable(direct_members(edges, frozenset({master, MANAGER})), IAM_ROLE)
    return _Memberships(iam, reachable(direct, _POWERFUL), reachable(direct, _REPLICATION), groups)


def _add_special(fields: dict[str, Any], row: RoleRow, joined: _Memberships, now: str) -> None:
    """Add the facts of one role that most roles leave at their default."""
    name, login, _, _, replication, closed, expired, _, sessions = row
    if sessions:
        fields["last_seen"] = now
    if closed or expired:
        unusable = login and (closed or name not in joined.iam)
        fields |= {"locked": closed, "expired": expired, "unusable": unusable}
    if name in joined.administrators:
        fields["administrator"] = True
    if replication or name in joined.replicating:
        fields["replication"] = True
