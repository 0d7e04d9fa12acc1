"""Group roles: for each database and level one role that can't log in and holds the level's privileges."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rdsiam.access.users import DeclaredUser, Grant
from rdsiam.core.changes import Unreached
from rdsiam.engines.postgres import privileges
from rdsiam.engines.postgres.catalog import MEMBERSHIP_OPTIONS
from rdsiam.engines.postgres.privileges import Entitlement
from rdsiam.engines.postgres.snapshot import Role
from rdsiam.engines.postgres.sql_text import compose

#: PostgreSQL cuts longer names.
_NAME_BYTES = 63
#: Names of roles that begin so are PostgreSQL's or RDS's own; names of databases may.
_RESERVED = ("pg_", "rds_")
#: Number of hexadecimal digits in a shortened name: nobody finds two databases that have them in common.
_DIGITS = 20


def group_name(database: str, level: str, prefix: str = "") -> str:
    """Return the name of the group role of `level` on `database`.

    :param prefix: as access.yaml declares it.

    A name that PostgreSQL would cut is shortened, and one that is reserved begins with `rdsiam_`; both end with digits
    of a hash of the database's name. All other names end with the level, so no other database has a group of that name.
    """
    name = f"{prefix}{database}_{level}"
    reserved = name.startswith(_RESERVED)
    if len(name.encode()) <= _NAME_BYTES and not reserved:
        return name
    end = f"_{level}_{hashlib.sha256(database.encode()).hexdigest()[:_DIGITS]}"
    start = f"rdsiam_{database}" if reserved else prefix + database
    return start.encode()[: _NAME_BYTES - len(end)].decode(errors="ignore") + end


def declared_groups(users: Iterable[DeclaredUser], databases: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the groups that the users need, each with its database and its level."""
    return {
        group_name(grant.on, grant.privileges, user.groups.prefix): (grant.on, grant.privileges)
        for user in users
        for grant in user.grants_on(databases)
        if isinstance(grant.privileges, str) and not is_direct(grant)
    }


def groups_of(user: DeclaredUser, databases: Sequence[str]) -> set[str]:
    """Return the groups that a user is declared to be a member of."""
    return set(declared_groups([user], databases))


def is_direct(grant: Grant) -> bool:
    """Return whether a grant is made to the user itself: a list of privileges, or a level on some schemas."""
    return not isinstance(grant.privileges, str) or grant.schemas is not None


def level_groups(databases: Iterable[str], prefix: str = "") -> frozenset[str]:
    """Return the names of the groups of all levels, whether they exist or not."""
    return frozenset(group_name(database, level, prefix) for database in databases for level in privileges.LEVELS)


def without_effect(
    users: Iterable[DeclaredUser], databases: Sequence[str], roles: Mapping[str, Role], version: int
) -> Iterator[Unreached]:
    """Yield the adopted users that don't inherit the rights of their groups: before PostgreSQL 16 the role decides.

    An owner sets the role of its group from the start of its sessions, and needs not inherit.
    """
    for user in users:
        role = roles.get(user.name)
        declared = declared_groups([user], databases)
        if version >= MEMBERSHIP_OPTIONS or role is None or role.inherits:
            continue
        if inherited := [group for group, (_, level) in declared.items() if level != "owner"]:
            yield Unreached(
                f"privileges of {user.name}",
                f"the role is NOINHERIT, so it has the rights of {', '.join(sorted(inherited))} only after SET ROLE",
                f"as an administrator run: {compose('ALTER ROLE {u} INHERIT', u=user.name)} (it then has the rights of "
                "its other groups too)",
                retry=False,
            )


def direct_grants(user: DeclaredUser, databases: Sequence[str]) -> tuple[Grant, ...]:
    """Return the grants that are made to a user itself."""
    return tuple(grant for grant in user.grants_on(databases) if is_direct(grant))


def grantees(users: Iterable[DeclaredUser], databases: Sequence[str]) -> dict[str, tuple[Entitlement, ...]]:
    """Return for each database what groups and users are entitled to: groups for levels on all schemas, else users."""
    result: dict[str, list[Entitlement]] = {}
    for user in users:
        for grant in user.grants_on(databases):
            name = user.name
            if isinstance(grant.privileges, str) and not is_direct(grant):
                name = group_name(grant.on, grant.privileges, user.groups.prefix)
            entitlement = Entitlement(name, privileges.of(grant.privileges), grant.schemas)
            in_database = result.setdefault(grant.on, [])
            if entitlement not in in_database:
                in_database.append(entitlement)
    return {database: tuple(entitlements) for database, entitlements in result.items()}
