"""Group roles: for each database and level one role that can't log in and holds the level's privileges."""

from collections.abc import Iterable, Sequence

from rdsiam.access.users import DeclaredUser
from rdsiam.engines.postgres import privileges
from rdsiam.engines.postgres.privileges import Privileges
from rdsiam.errors import Refused

#: PostgreSQL cuts longer names.
_NAME_BYTES = 63


def group_name(database: str, level: str) -> str:
    """Return the name of the group role of `level` on `database`.

    :raises Refused: PostgreSQL would cut the name.
    """
    name = f"{database}_{level}"
    if len(name.encode()) > _NAME_BYTES:
        raise Refused(
            f"database {database}: its group role {name} would have more than the {_NAME_BYTES} bytes of a name",
            "declare a list of SQL privileges instead of the level, or rename the database",
            "name-too-long",
        )
    return name


def declared_groups(users: Iterable[DeclaredUser], databases: Sequence[str]) -> dict[str, str]:
    """Return the groups that the users need, and the database of each."""
    return {
        group_name(grant.on, grant.privileges): grant.on
        for user in users
        for grant in user.grants_on(databases)
        if isinstance(grant.privileges, str)
    }


def groups_of(user: DeclaredUser, databases: Sequence[str]) -> set[str]:
    """Return the groups that a user is declared to be a member of."""
    return set(declared_groups([user], databases))


def grantees(users: Iterable[DeclaredUser], databases: Sequence[str]) -> dict[str, dict[str, Privileges]]:
    """Return for each database its grantees, groups for levels and users for lists, with their privileges."""
    result: dict[str, dict[str, Privileges]] = {}
    for user in users:
        for grant in user.grants_on(databases):
            in_database = result.setdefault(grant.on, {})
            if isinstance(grant.privileges, str):
                in_database.setdefault(group_name(grant.on, grant.privileges), privileges.of(grant.privileges))
            else:
                in_database[user.name] = privileges.of(grant.privileges)
    return result
