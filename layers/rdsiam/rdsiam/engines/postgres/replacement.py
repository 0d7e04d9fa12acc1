"""A PostgreSQL user that replaces another one: a member of it, which acts as it from the start of every session.

So it may do all that the other may, now and later, and what it makes belongs to the other: default privileges of the
other apply, and each can alter what either has made. `rds_iam` is inherited downwards only, by members: the other keeps
its password.
"""

from collections.abc import Iterable

from psycopg import sql

from rdsiam.access.model import DeclaredUser
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.postgres.lockout import IAM_ROLE, Membership, members
from rdsiam.engines.postgres.settings import acting_as, changes
from rdsiam.engines.postgres.snapshot import Found, admin, compose, text
from rdsiam.engines.protocols import Statement, Wanted
from rdsiam.errors import Refused

_SUPERUSERS = "rds_superuser"


def refuse(found: Found, wanted: Wanted) -> None:
    """Check that the users that are replaced may be.

    :raises Refused: one does not exist, takes tokens itself, or is an administrator, whose rights nobody else gets.
    """
    for user in wanted.users:
        name = user.predecessor
        if name is None or (name not in found.roles and user.name in found.roles):
            continue  # a successor keeps what it has when the other is gone at last
        if name not in found.roles:
            raise Refused(f"{user.name} replaces {name}, and there is no role {name}: correct `replaces`")
        if name in wanted.accounts:
            raise Refused(f"{user.name} replaces {name}, which is rdsiam's own: declare privileges of its own")
        role = found.roles[name]
        if role.superuser or role.createrole or name in members(found.memberships, _SUPERUSERS):
            raise Refused(f"{name} is an administrator, whose rights nobody else gets: correct `replaces`")
        if name in members(found.memberships, IAM_ROLE, frozenset({found.master, MANAGER})):
            raise Refused(f"{name} logs in by token itself: it needs no {user.name}, who replaces it in access.yaml")


def statements(found: Found, user: DeclaredUser, wanted: Wanted) -> list[Statement]:
    """Return what makes `user` act as the one that it replaces, or as nobody any more if it no longer replaces one."""
    before = found.settings.get(user.name, {})
    if user.predecessor is None:
        former = before.get((None, "role"))
        ours = wanted.accounts.get(user.name) == "created" and user.replaces is None
        return _undo(found, user.name, former) if ours and former is not None and former in found.roles else []
    if user.predecessor not in found.roles:
        return []
    after = acting_as(user.predecessor, found.settings.get(user.predecessor, {}))
    return [*_join(found, user.predecessor, user.name), *_set(found, user.name, changes(user.name, before, after))]


def planned(users: Iterable[DeclaredUser]) -> list[Membership]:
    """Return the memberships that come of it, for the guard."""
    return [Membership(user.predecessor, user.name, False, True, True) for user in users if user.predecessor]


def _join(found: Found, group: str, name: str) -> list[Statement]:
    if any(edge.inherit and edge.set for edge in found.direct(group, name)):
        return []
    authority = admin(found, group)
    actor = found.master if authority == "master" else MANAGER
    if found.version >= 160000 and not any(edge.admin for edge in found.direct(group, actor)):
        raise Refused(
            f"{actor} may not make {name} a member of {group}; as {group}'s administrator run: "
            f"{compose('GRANT {g} TO {a} WITH ADMIN OPTION', g=group, a=actor)}"
        )
    options = " WITH INHERIT TRUE, SET TRUE" if found.version >= 160000 else ""
    grant = compose("GRANT {g} TO {u}", g=group, u=name) + options
    # With a database: such statements come when the roles have been made.
    return [Statement("grant", name, grant, authority=authority, database=found.entry)]


def _undo(found: Found, name: str, group: str) -> list[Statement]:
    """Return what takes an earlier `replaces` back."""
    now = found.settings[name]
    kept = {key: value for key, value in now.items() if key != (None, "role")}
    result = _set(found, name, changes(name, now, kept))
    if found.direct(group, name):
        revoke = compose("REVOKE {g} FROM {u}", g=group, u=name)
        result.append(Statement("revoke", name, revoke, authority=admin(found, group), database=found.entry))
    return result


def _set(found: Found, name: str, composed: Iterable[sql.Composed]) -> list[Statement]:
    authority = admin(found, name) if name in found.roles else "manager"
    return [
        Statement("setting", name, text(statement), authority=authority, database=found.entry) for statement in composed
    ]
