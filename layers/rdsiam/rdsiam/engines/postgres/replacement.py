"""A PostgreSQL user that replaces another: a member of it, which acts as it from the start of every session.

The successor thereby has all rights of its predecessor, now and later, and its objects belong to the predecessor:
default privileges of the predecessor apply, and each can alter the other's objects. Only members inherit `rds_iam`, so
the predecessor keeps its password.
"""

from collections.abc import Iterable
from dataclasses import replace

from psycopg import sql

from rdsiam.access.users import DeclaredUser
from rdsiam.core.changes import Refusal, Unreached
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.postgres.lockout import IAM_ROLE, Membership, members
from rdsiam.engines.postgres.memberships import leave, remedy_to_act
from rdsiam.engines.postgres.roles import change_role
from rdsiam.engines.postgres.settings import acting_as, changes
from rdsiam.engines.postgres.snapshot import SUPERUSERS, Snapshot
from rdsiam.engines.postgres.sql_text import compose, text
from rdsiam.engines.protocols import DesiredState
from rdsiam.engines.statements import Statement
from rdsiam.errors import Refused

_CORRECT = "correct `replaces`"


def refuse(snapshot: Snapshot, desired: DesiredState) -> None:
    """Check that every predecessor may be replaced.

    :raises Refused: a predecessor does not exist, logs in by token, is managed, or is an administrator.
    """
    for user in desired.users:
        name = user.predecessor
        if name is None or (name not in snapshot.roles and user.name in snapshot.roles):
            continue  # a successor keeps its rights after the predecessor was dropped
        if name not in snapshot.roles:
            raise Refused(f"{user.name} replaces {name}, and there is no role {name}", _CORRECT, "user-missing")
        if name in desired.accounts:
            raise Refused(
                f"{user.name} replaces {name}, which rdsiam manages", "declare privileges of its own", "not-replaceable"
            )
        role = snapshot.roles[name]
        if role.superuser or role.createrole or name in members(snapshot.memberships, SUPERUSERS):
            raise Refused(
                f"{name} is an administrator, whose rights rdsiam gives to no user", _CORRECT, "user-is-administrator"
            )
        if name in members(snapshot.memberships, IAM_ROLE, frozenset({snapshot.master, MANAGER})):
            raise Refused(
                f"{name} logs in by token itself and needs no successor {user.name}",
                f"remove {user.name} from access.yaml",
                "iam-user",
            )


def irreplaceable(snapshot: Snapshot, desired: DesiredState) -> dict[str, Refusal]:
    """Return the declared users that don't exist yet and replace a user that can't be replaced, with the reason."""
    result: dict[str, Refusal] = {}
    for user in desired.users:
        if user.name not in snapshot.roles:
            try:
                refuse(snapshot, replace(desired, users=(user,)))
            except Refused as error:
                result[user.name] = Refusal.of(error)
    return result


def statements(snapshot: Snapshot, user: DeclaredUser, desired: DesiredState) -> list[Statement]:
    """Return the statements that make `user` act as its predecessor, or as itself if it no longer replaces a user."""
    current = snapshot.settings.get(user.name, {})
    if user.predecessor is None:
        former = current.get((None, "role"))
        created = desired.accounts.get(user.name) == "created" and user.replaces is None
        return _undo(snapshot, user.name, former) if created and former is not None and former in snapshot.roles else []
    if user.predecessor not in snapshot.roles:
        return []
    target = acting_as(user.predecessor, snapshot.settings.get(user.predecessor, {}))
    setting = _set(snapshot, user.name, changes(user.name, current, target))
    return [*_join(snapshot, user.predecessor, user.name), *setting]


def planned(users: Iterable[DeclaredUser]) -> list[Membership]:
    """Return the memberships of all successors in their predecessors."""
    return [Membership(user.predecessor, user.name, False, True, True) for user in users if user.predecessor]


def _join(snapshot: Snapshot, group: str, name: str) -> list[Statement]:
    """Return the statement that makes `name` a member of `group`."""
    if any(edge.inherit and edge.set for edge in snapshot.direct(group, name)):
        return []
    authority = snapshot.authority_over(group)
    actor = snapshot.actor(authority)
    options = " WITH INHERIT TRUE, SET TRUE" if snapshot.has_membership_options else ""
    grant = compose("GRANT {g} TO {u}", g=group, u=name) + options
    denied = Unreached(
        f"{name}, which replaces {group}",
        f"{actor} may not make {name} a member of {group}",
        remedy_to_act(snapshot, group, actor),
        retry=False,
    )
    doubtful = not snapshot.may_act_for(actor, group)
    # With a database, since such statements run after the roles have been created.
    entry = snapshot.entry_database
    return [Statement("grant", name, grant, authority=authority, database=entry, denied=denied, doubtful=doubtful)]


def _undo(snapshot: Snapshot, name: str, group: str) -> list[Statement]:
    """Return the statements that undo an earlier `replaces`."""
    current = snapshot.settings[name]
    target = {key: value for key, value in current.items() if key != (None, "role")}
    return [
        *_set(snapshot, name, changes(name, current, target)),
        *leave(snapshot, group, name, snapshot.entry_database),
    ]


def _set(snapshot: Snapshot, name: str, composed: Iterable[sql.Composed]) -> list[Statement]:
    authority = snapshot.authority_over(name) if name in snapshot.roles else "manager"
    return [change_role("setting", name, text(each), authority, snapshot.entry_database) for each in composed]
