"""The schemas of a PostgreSQL database that access.yaml opens, and the privileges on them that it no longer gives."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from rdsiam.access.users import Grant, named
from rdsiam.core.changes import Unreached
from rdsiam.engines.postgres import privilege_queries, privileges
from rdsiam.engines.postgres.connection import PostgresSession
from rdsiam.engines.postgres.groups import direct_grants, grantees, group_name
from rdsiam.engines.postgres.privilege_queries import SYSTEM_SCHEMA, Scope
from rdsiam.engines.postgres.privileges import Entitlement, PrivilegeChange, rows_of
from rdsiam.engines.postgres.sql_text import compose
from rdsiam.engines.protocols import DesiredState
from rdsiam.state.schemas import OpenedSchemas, PublicSchema

#: The first version with the privilege MAINTAIN.
_MAINTAIN = 170000
#: Schemas that another role than their owner opened to a group, each with the role and the group.
_OPENED_BY_OTHERS = """
SELECT n.nspname::text, b.rolname, g.rolname
FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a
JOIN pg_catalog.pg_roles g ON g.oid = a.grantee JOIN pg_catalog.pg_roles b ON b.oid = a.grantor
WHERE a.grantor <> n.nspowner AND a.privilege_type = 'USAGE' AND n.nspname = ANY (%s) AND g.rolname = ANY (%s)
ORDER BY 1, 2, 3
"""
_SCHEMAS = f"""
SELECT n.nspname::text, o.rolname, EXISTS (
    SELECT FROM pg_catalog.aclexplode(COALESCE(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a
    WHERE a.grantee = 0 AND a.privilege_type = 'CREATE')
FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles o ON o.oid = n.nspowner
WHERE NOT ({SYSTEM_SCHEMA.replace("%%", "%")}) ORDER BY 1
"""  # noqa: S608 a constant


@dataclass(frozen=True)
class Declared:
    """Privileges that access.yaml declares in the databases of one server, and those that rdsiam granted before.

    :ivar entitlements: database → what groups and users are entitled to.
    :ivar granted: database → what rdsiam has granted to users themselves, now or at an earlier run.
    :ivar excluded: schemas that entitlements without schemas leave out.
    :ivar accounts: the managed accounts.
    :ivar prefix: begins the names of groups.
    """

    entitlements: Mapping[str, tuple[Entitlement, ...]]
    granted: Mapping[str, tuple[Entitlement, ...]]
    excluded: frozenset[str]
    accounts: frozenset[str]
    prefix: str = ""

    @property
    def databases(self) -> frozenset[str]:
        """The databases in which privileges have to be granted, or may have to be revoked."""
        left = {
            name
            for name, granted in self.granted.items()
            if not all(entitlement in self.of(name) for entitlement in granted)
        }
        return frozenset({*self.entitlements, *left})

    def of(self, database: str) -> tuple[Entitlement, ...]:
        """Return what groups and users are entitled to in a database."""
        return self.entitlements.get(database, ())

    def groups(self, database: str) -> list[Entitlement]:
        """Return what the groups of a database that exist, or are declared, have on all schemas."""
        groups = [
            Entitlement(group_name(database, level, self.prefix), held) for level, held in privileges.LEVELS.items()
        ]
        known = self.accounts | {entitlement.grantee for entitlement in self.of(database)}
        return [group for group in groups if group.grantee in known]

    def missing(self, scope: Scope, creators: Iterable[str]) -> list[PrivilegeChange]:
        """Read the privileges that are missing in a database."""
        entitled = rows_of(self.of(scope.database))
        return privilege_queries.missing(scope, entitled, creators) if entitled else []

    def surplus(self, scope: Scope) -> list[PrivilegeChange]:
        """Read the privileges that rdsiam granted in a database and that are no longer declared.

        Groups lose those on excluded schemas; also groups without a declared member, which may get one.
        """
        managed = self.groups(scope.database) if scope.excluded else []
        granted = rows_of([*self.granted.get(scope.database, ()), *managed])
        return privilege_queries.surplus(scope, granted, rows_of([*self.of(scope.database), *managed]))


def declared(desired: DesiredState, databases: Iterable[str]) -> Declared:
    """Return what is declared in these databases, and what was granted in them before.

    A user that is no longer declared keeps its privileges, and can't log in.
    """
    databases = tuple(databases)
    granted: dict[str, list[Entitlement]] = {}
    recorded = granted_after(desired, databases)
    for user in desired.users:
        for grant in recorded.get(user.name, ()):
            entitlement = Entitlement(user.name, privileges.of(grant.privileges), grant.schemas)
            if grant.on in databases:
                granted.setdefault(grant.on, []).append(entitlement)
    return Declared(
        grantees(desired.users, databases),
        {database: tuple(entitlements) for database, entitlements in granted.items()},
        frozenset(schema for user in desired.users for schema in user.excluded_schemas),
        frozenset(desired.accounts),
        desired.groups.prefix,
    )


def granted_after(
    desired: DesiredState, databases: Iterable[str], finished: Collection[str] = ()
) -> dict[str, tuple[Grant, ...]]:
    """Return user → grants that rdsiam has made to the user itself, or is about to make.

    :param databases: all databases of the server.
    :param finished: databases in which the desired state is reached. In others there are also those that are not
        revoked yet.
    """
    databases = tuple(databases)
    remaining = frozenset(databases) - frozenset(finished)
    result = dict(desired.granted)
    for user in desired.users:
        former = [grant for grant in desired.granted.get(user.name, ()) if grant.on in remaining]
        result[user.name] = tuple(dict.fromkeys((*former, *direct_grants(user, databases))))
    return {name: grants for name, grants in result.items() if grants}


def known(desired: DesiredState, version: int) -> tuple[DesiredState, tuple[Unreached, ...]]:
    """Return the desired state without the privileges that the server is too old for, and those as parts not done."""
    if version >= _MAINTAIN:
        return desired, ()
    users = tuple(
        replace(user, grants=tuple(replace(grant, privileges=_known(grant.privileges)) for grant in user.grants))
        for user in desired.users
    )
    names = sorted(user.name for user, declared in zip(users, desired.users, strict=True) if user != declared)
    unknown = [
        Unreached(
            f"MAINTAIN of {name}",
            f"this privilege exists from PostgreSQL 17 on (the server has {version // 10000})",
            "upgrade the server, or take MAINTAIN out of `privileges`",
            retry=False,
        )
        for name in names
    ]
    return replace(desired, users=users), tuple(unknown)


def _known(privileges: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if isinstance(privileges, str):
        return privileges
    return tuple(privilege for privilege in privileges if privilege != "MAINTAIN")


@dataclass
class Observed:
    """The schemas of all inspected databases.

    :ivar opened: schemas that levels, and lists without schemas, cover.
    :ivar public: schemas in which everybody may create objects.
    :ivar incomplete: declared schemas that can't be opened or closed.
    """

    opened: list[OpenedSchemas] = field(default_factory=list)
    public: list[PublicSchema] = field(default_factory=list)
    incomplete: list[Unreached] = field(default_factory=list)

    def read(self, session: PostgresSession, database: str, declared: Declared) -> None:
        """Read the schemas of the session's database, and compare them with what is declared."""
        schemas = {name: (owner, public) for name, owner, public in session.execute(_SCHEMAS)}
        self.public += [PublicSchema(database, name, owner) for name, (owner, public) in schemas.items() if public]
        entitlements = declared.of(database)
        if any(entitlement.schemas is None for entitlement in entitlements):
            opened = [name for name in schemas if name not in declared.excluded]
            self.opened.append(OpenedSchemas.of(database, opened))
        owners = {name: owner for name, (owner, _) in schemas.items()}
        self.incomplete += _absent(database, entitlements, owners)
        self.incomplete += _owned(group_name(database, "owner", declared.prefix), database, declared.excluded, owners)
        if declared.excluded:
            groups = [group.grantee for group in declared.groups(database)]
            opened_by_others = session.execute(_OPENED_BY_OTHERS, [sorted(declared.excluded), groups])
            self.incomplete += [_opened_by_other(database, *row) for row in opened_by_others]


def _absent(database: str, entitlements: Iterable[Entitlement], schemas: Mapping[str, str]) -> Iterator[Unreached]:
    """Yield the schemas that access.yaml names and that don't exist, as one part."""
    absent: dict[str, set[str]] = {}
    for entitlement in entitlements:
        for name in entitlement.schemas or ():
            if name not in schemas:
                absent.setdefault(name, set()).add(entitlement.grantee)
    if absent:
        users = sorted(set().union(*absent.values()))
        yield Unreached(
            f"{named(absent)} in {database}",
            f"missing, so {', '.join(users)} got no privileges there",
            "create what is missing and onboard the database again, or correct `schemas`",
            retry=False,
        )


def _owned(group: str, database: str, excluded: Iterable[str], schemas: Mapping[str, str]) -> Iterator[Unreached]:
    """Yield the excluded schemas that belong to the group of the database's owners, as one part."""
    owned = [name for name in excluded if schemas.get(name) == group]
    if owned:
        yield Unreached(
            f"excluded {named(owned)} in {database}",
            f"owned by {group}, so users with the level owner can open what is excluded",
            f"set an owner that is no member of {group}, or do not exclude this",
            retry=False,
        )


def _opened_by_other(database: str, schema: str, grantor: str, group: str) -> Unreached:
    """Return an excluded schema that another role than its owner opened to a group: only that role can close it."""
    close = compose("REVOKE ALL ON SCHEMA {s} FROM {g}", s=schema, g=group)
    return Unreached(
        f"excluded schema {schema} in {database}",
        f"{grantor} opened it to {group}",
        f"as {grantor} run: {close}",
        retry=False,
    )
