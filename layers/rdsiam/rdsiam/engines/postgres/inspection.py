"""Inspection of a PostgreSQL server: roles, memberships, settings of roles, and the databases that there are."""

from collections.abc import Iterable

from rdsiam.aws.rds import Database
from rdsiam.engines.logins import AUDITOR
from rdsiam.engines.postgres import groups, schemas
from rdsiam.engines.postgres.catalog import SWITCHED_ON, memberships
from rdsiam.engines.postgres.connection import ENTRY_DATABASE, PostgresSession
from rdsiam.engines.postgres.databases import read_databases
from rdsiam.engines.postgres.escalations import administrators
from rdsiam.engines.postgres.lockout import IAM_ROLE, Membership, reachable
from rdsiam.engines.postgres.settings import all_settings
from rdsiam.engines.postgres.snapshot import Role, Snapshot
from rdsiam.engines.protocols import DesiredState, Sessions, marked

ROLES = (
    "SELECT rolname, rolcanlogin, rolsuper, rolcreaterole, rolreplication, rolconnlimit, rolinherit, "
    "rolbypassrls, rolcreatedb "
    "FROM pg_catalog.pg_roles"
)
#: Roles that have sessions, of which the session itself is one, each with a setting of the server.
_BUSY = """
SELECT DISTINCT usename, pg_catalog.current_setting('rds.iam_auth_for_replication', true)
FROM pg_catalog.pg_stat_activity WHERE usename IS NOT NULL
"""
#: pg_shdepend is one table for the whole server.
_OWNERS = """
SELECT DISTINCT r.rolname FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid
WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.deptype = 'o' AND r.rolname = ANY (%s)
"""
#: Only a role with CREATEROLE that may administer the auditor changes its comment: the manager, and the master.
_MARK = """
SELECT pg_catalog.shobj_description(oid, 'pg_authid') FROM pg_catalog.pg_roles WHERE rolname = %s
"""


def inspect(sessions: Sessions[PostgresSession], database: Database, desired: DesiredState) -> Snapshot:
    """Read what is the same in every database of the server."""
    session = sessions.read(ENTRY_DATABASE)
    databases = read_databases(session)
    roles = read_roles(session)
    edges = memberships(session)
    powerful = {name for name, role in roles.items() if role.superuser or role.createrole or role.replication}
    version = session.info.server_version
    _, unknown = schemas.known(desired, version)
    busy = session.execute(_BUSY).fetchall()
    snapshot = Snapshot(
        entry_database=ENTRY_DATABASE,
        master=database.master_user,
        identifier=database.identifier,
        has_master_login=database.master_secret_arn is not None or _takes_tokens(database, edges),
        version=version,
        on_server=databases,
        named=frozenset(grant.on for user in desired.users for grant in user.grants) - {"*"},
        roles=roles,
        memberships=edges,
        settings=all_settings(session),
        administrators=administrators({database.master_user, *powerful}, edges),
        busy=frozenset(name for name, _ in busy),
        replication_by_token=any(setting in SWITCHED_ON for _, setting in busy),
        mark=marked_source(session),
        level_groups=(level_groups := groups.level_groups(databases, desired.groups.prefix)),
        owners=_owners(session, desired, level_groups, edges),
        incomplete=(*unknown, *groups.without_effect(desired.users, sorted(databases), roles, version)),
    )
    # No transaction stays open while other sessions work.
    session.commit()
    return snapshot


def _takes_tokens(database: Database, edges: Iterable[Membership]) -> bool:
    """Return whether the master is an IAM user, as which rdsiam logs in by token."""
    return database.master_may_take_tokens and any(
        edge.group == IAM_ROLE and edge.member == database.master_user and (edge.inherit or edge.set) for edge in edges
    )


def _owners(
    session: PostgresSession, desired: DesiredState, level_groups: frozenset[str], edges: Iterable[Membership]
) -> frozenset[str]:
    """Return the owners of objects among the groups that may have to be taken over and the roles above them."""
    if not desired.groups.adopt:
        return frozenset()
    above: dict[str, list[str]] = {}
    for edge in edges:
        above.setdefault(edge.member, []).append(edge.group)
    taken = level_groups - desired.accounts.keys()
    names = taken.union(*(reachable(above, name) for name in taken if name in above))
    return frozenset(row[0] for row in session.execute(_OWNERS, [sorted(names)]))


def read_roles(session: PostgresSession) -> dict[str, Role]:
    """Read all roles by name."""
    return {name: Role(*flags) for name, *flags in session.execute(ROLES)}


def marked_source(session: PostgresSession) -> str | None:
    """Return the resource id in the comment of the auditor."""
    row = session.execute(_MARK, [AUDITOR]).fetchone()
    return marked(row[0]) if row else None
