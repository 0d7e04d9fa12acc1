"""Inspection of a PostgreSQL server: roles, memberships, and the privileges that grantees lack in each database."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from rdsiam.aws.rds import Database
from rdsiam.engines.connection import PostgresSession
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.engines.postgres import groups, schemas
from rdsiam.engines.postgres.catalog import MEMBERSHIP_OPTIONS, USERS_DATABASES, memberships
from rdsiam.engines.postgres.escalations import Holding, administrators, holdings
from rdsiam.engines.postgres.lockout import Membership
from rdsiam.engines.postgres.privilege_queries import Scope
from rdsiam.engines.postgres.privileges import PrivilegeChange
from rdsiam.engines.postgres.schemas import Declared, Observed
from rdsiam.engines.postgres.settings import all_settings
from rdsiam.engines.postgres.snapshot import SUPERUSERS, Role, Snapshot
from rdsiam.engines.protocols import DesiredState, Sessions, marked
from rdsiam.errors import Refused
from rdsiam.state.schemas import ObservedSchemas

#: The database in which a run begins, and which the audit connects to. RDS creates it and the master owns it, so that
#: no tenant of the server can close it or set what its sessions begin with; catalogs of roles are the whole server's.
ENTRY_DATABASE = "postgres"

ROLES = (
    "SELECT rolname, rolcanlogin, rolsuper, rolcreaterole, rolreplication, rolconnlimit, rolinherit "
    "FROM pg_catalog.pg_roles"
)
_DATABASES = f"SELECT datname FROM pg_catalog.pg_database WHERE {USERS_DATABASES} ORDER BY 1"  # noqa: S608 a constant
_BUSY = "SELECT DISTINCT usename FROM pg_catalog.pg_stat_activity WHERE usename IS NOT NULL"
#: Only a role with CREATEROLE that may administer the auditor changes its comment: the manager, and the master.
_MARK = """
SELECT pg_catalog.shobj_description(oid, 'pg_authid') FROM pg_catalog.pg_roles WHERE rolname = %s
"""
_CLOSED = """
SELECT NOT EXISTS (
    SELECT FROM pg_catalog.aclexplode(COALESCE(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
    WHERE a.privilege_type = 'CONNECT' AND (a.grantee = 0 OR r.rolname = %s))
FROM pg_catalog.pg_database d WHERE d.datname = %s
"""


@dataclass
class _Privileges:
    """Privileges in all inspected databases.

    :ivar changes: privileges that are missing, or have to be revoked.
    :ivar revocations: those of the changes that end a hazardous holding, each with the holding.
    :ivar holdings: hazardous privileges that stay.
    :ivar closed: databases that the manager may not connect to.
    """

    changes: list[PrivilegeChange] = field(default_factory=list)
    revocations: list[tuple[PrivilegeChange, Holding]] = field(default_factory=list)
    holdings: list[Holding] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)
    schemas: Observed = field(default_factory=Observed)


def inspect(sessions: Sessions[PostgresSession], database: Database, desired: DesiredState) -> Snapshot:
    """Read roles, memberships and the privileges that the declared grantees lack in each database.

    :raises Refused: a database that is declared does not exist.
    """
    session = sessions.read(ENTRY_DATABASE)
    databases = tuple(row[0] for row in session.execute(_DATABASES))
    _refuse_absent(database, desired, databases)
    roles = read_roles(session)
    edges = memberships(session)
    powerful = {name for name, role in roles.items() if role.superuser or role.createrole or role.replication}
    administrating = administrators({database.master_user, *powerful}, edges)
    known, unknown = schemas.known(desired, session.info.server_version)
    declared = schemas.declared(known, databases)
    inspected = sorted({ENTRY_DATABASE, *declared.databases})
    found = _read_privileges(sessions, database, declared, edges, administrating)
    incomplete = [*groups.without_effect(desired.users, databases, roles, session.info.server_version)]
    snapshot = Snapshot(
        entry_database=ENTRY_DATABASE,
        master=database.master_user,
        version=session.info.server_version,
        databases=databases,
        roles=roles,
        memberships=edges,
        settings=all_settings(session),
        privilege_changes=tuple(found.changes),
        revocations=tuple(found.revocations),
        holdings=tuple(found.holdings),
        examined=tuple(inspected),
        administrators=administrating,
        closed=frozenset(found.closed),
        busy=frozenset(row[0] for row in session.execute(_BUSY)),
        mark=marked_source(session),
        audit_closed=_is_closed(session, ENTRY_DATABASE, AUDITOR),
        schemas=ObservedSchemas.of(found.schemas.opened, found.schemas.public),
        incomplete=(*unknown, *incomplete, *found.schemas.incomplete),
    )
    # No transaction stays open while the other sessions work; the lock belongs to the session.
    for name in inspected:
        sessions.read(name).commit()
    return snapshot


def read_roles(session: PostgresSession) -> dict[str, Role]:
    """Read all roles by name."""
    return {name: Role(*flags) for name, *flags in session.execute(ROLES)}


def marked_source(session: PostgresSession) -> str | None:
    """Return the resource id in the comment of the auditor."""
    row = session.execute(_MARK, [AUDITOR]).fetchone()
    return marked(row[0]) if row else None


def _refuse_absent(database: Database, desired: DesiredState, databases: Sequence[str]) -> None:
    declared = {grant.on for user in desired.users for grant in user.grants_on(databases)}
    if absent := sorted(declared - set(databases)):
        raise Refused(
            f"database {absent[0]} does not exist on {database.identifier}",
            "create it, or correct `on`",
            "database-missing",
        )


def _read_privileges(
    sessions: Sessions[PostgresSession],
    database: Database,
    declared: Declared,
    edges: tuple[Membership, ...],
    administrating: frozenset[str],
) -> _Privileges:
    """Read the privileges in the entry database and in each database that is declared, or was."""
    managed = declared.accounts | {each.grantee for held in declared.entitlements.values() for each in held}
    result = _Privileges()
    for name in sorted({ENTRY_DATABASE, *declared.databases}):
        session = sessions.read(name)
        scope = Scope(session, name, declared.excluded, administrating)
        creators = {database.master_user} | {f"{name}_owner"} & {each.grantee for each in declared.of(name)}
        result.changes += declared.surplus(scope)
        result.changes += declared.missing(scope, creators)
        result.schemas.read(session, name, declared)
        version = session.info.server_version
        for holding in holdings(session, name, administrating):
            if holding.grantee in managed and _may_revoke(database, holding, edges, version):
                revocations = list(_revocations(name, holding))
                result.changes += revocations
                result.revocations += [(revocation, holding) for revocation in revocations]
            else:
                result.holdings.append(holding)
        if _is_closed(session, name, MANAGER):
            result.closed.add(name)
    return result


def _revocations(database: str, holding: Holding) -> Iterator[PrivilegeChange]:
    """Yield the changes that revoke a holding: default privileges of all schemas, and of some, are changed apart."""
    change = PrivilegeChange(database, holding.owner, holding.grantee, "table", holding.privileges, (), revoke=True)
    if holding.held == "tables":
        yield replace(change, objects=holding.objects)
        return
    if () in holding.objects:
        yield change
    if limits := tuple(name for names in holding.objects for name in names):
        yield replace(change, schemas=limits)


def _may_revoke(database: Database, holding: Holding, memberships: Iterable[Membership], version: int) -> bool:
    """Return whether onboarding can revoke what a managed role holds, acting for the administrator who granted it.

    What a copy without the master's secret brings along stays, and is reported.
    """
    if not holding.revocable:
        return False
    actors = {MANAGER} if database.master_secret_arn is None else {MANAGER, database.master_user}
    if holding.owner in actors or (version < MEMBERSHIP_OPTIONS and holding.owner != database.master_user):
        return True
    edges = [edge for edge in memberships if edge.member in actors]
    # On RDS a member of rds_superuser may act for any role, which no catalog shows: it is tried.
    tried = any(edge.group == SUPERUSERS and edge.inherit and edge.member != MANAGER for edge in edges)
    direct = [edge for edge in edges if edge.group == holding.owner]
    return tried or any(edge.admin or (edge.inherit and edge.member == MANAGER) for edge in direct)


def _is_closed(session: PostgresSession, database: str, role: str) -> bool:
    """Return whether a database exists to which neither `role` nor PUBLIC may connect."""
    row = session.execute(_CLOSED, [role, database]).fetchone()
    return row is not None and bool(row[0])
