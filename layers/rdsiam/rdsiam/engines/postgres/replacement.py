"""A PostgreSQL user that replaces another one: a member of it, which acts as it from the start of every session.

So it may do all that the other may, now and later, and what it makes belongs to the other: default privileges of the
other apply, and each can alter what either has made. `rds_iam` is inherited downwards only, by members: the other keeps
its password.
"""

from collections.abc import Iterable

from psycopg import sql

from rdsiam.access.users import DeclaredUser
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.postgres.lockout import IAM_ROLE, Membership, members
from rdsiam.engines.postgres.settings import acting_as, changes
from rdsiam.engines.postgres.snapshot import Snapshot, admin, compose, text
from rdsiam.engines.protocols import DesiredState, Statement
from rdsiam.errors import Refused

_SUPERUSERS = "rds_superuser"


def refuse(snapshot: Snapshot, desired: DesiredState) -> None:
    """Check that the users that are replaced may be.

    :raises Refused: one does not exist, takes tokens itself, or is an administrator, whose rights nobody else gets.
    """
    for user in desired.users:
        name = user.predecessor
        if name is None or (name not in snapshot.roles and user.name in snapshot.roles):
            continue  # a successor keeps what it has when the other is gone at last
        if name not in snapshot.roles:
            raise Refused(f"{user.name} replaces {name}, and there is no role {name}: correct `replaces`")
        if name in desired.accounts:
            raise Refused(f"{user.name} replaces {name}, which is rdsiam's own: declare privileges of its own")
        role = snapshot.roles[name]
        if role.superuser or role.createrole or name in members(snapshot.memberships, _SUPERUSERS):
            raise Refused(f"{name} is an administrator, whose rights nobody else gets: correct `replaces`")
        if name in members(snapshot.memberships, IAM_ROLE, frozenset({snapshot.master, MANAGER})):
            raise Refused(f"{name} logs in by token itself: it needs no {user.name}, who replaces it in access.yaml")


def statements(snapshot: Snapshot, user: DeclaredUser, desired: DesiredState) -> list[Statement]:
    """Return what makes `user` act as the one that it replaces, or as nobody any more if it no longer replaces one."""
    before = snapshot.settings.get(user.name, {})
    if user.predecessor is None:
        former = before.get((None, "role"))
        ours = desired.accounts.get(user.name) == "created" and user.replaces is None
        return _undo(snapshot, user.name, former) if ours and former is not None and former in snapshot.roles else []
    if user.predecessor not in snapshot.roles:
        return []
    after = acting_as(user.predecessor, snapshot.settings.get(user.predecessor, {}))
    return [
        *_join(snapshot, user.predecessor, user.name),
        *_set(snapshot, user.name, changes(user.name, before, after)),
    ]


def planned(users: Iterable[DeclaredUser]) -> list[Membership]:
    """Return the memberships that come of it, for the guard."""
    return [Membership(user.predecessor, user.name, False, True, True) for user in users if user.predecessor]


def _join(snapshot: Snapshot, group: str, name: str) -> list[Statement]:
    if any(edge.inherit and edge.set for edge in snapshot.direct(group, name)):
        return []
    authority = admin(snapshot, group)
    actor = snapshot.master if authority == "master" else MANAGER
    if snapshot.version >= 160000 and not any(edge.admin for edge in snapshot.direct(group, actor)):
        raise Refused(
            f"{actor} may not make {name} a member of {group}; as {group}'s administrator run: "
            f"{compose('GRANT {g} TO {a} WITH ADMIN OPTION', g=group, a=actor)}"
        )
    options = " WITH INHERIT TRUE, SET TRUE" if snapshot.version >= 160000 else ""
    grant = compose("GRANT {g} TO {u}", g=group, u=name) + options
    # With a database: such statements come when the roles have been made.
    return [Statement("grant", name, grant, authority=authority, database=snapshot.entry_database)]


def _undo(snapshot: Snapshot, name: str, group: str) -> list[Statement]:
    """Return what takes an earlier `replaces` back."""
    now = snapshot.settings[name]
    kept = {key: value for key, value in now.items() if key != (None, "role")}
    result = _set(snapshot, name, changes(name, now, kept))
    if snapshot.direct(group, name):
        revoke = compose("REVOKE {g} FROM {u}", g=group, u=name)
        result.append(
            Statement("revoke", name, revoke, authority=admin(snapshot, group), database=snapshot.entry_database)
        )
    return result


def _set(snapshot: Snapshot, name: str, composed: Iterable[sql.Composed]) -> list[Statement]:
    authority = admin(snapshot, name) if name in snapshot.roles else "manager"
    return [
        Statement("setting", name, text(statement), authority=authority, database=snapshot.entry_database)
        for statement in composed
    ]
