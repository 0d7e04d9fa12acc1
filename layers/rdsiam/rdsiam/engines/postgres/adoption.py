"""Groups of rdsiam's names that others created: taken over if access.yaml says so and they are harmless, else refused.

Members of a group get the level's privileges, and users that are declared get all that the group has. So a plan names
the members, and a group with more rights than privileges in databases is not taken over.
"""

import json
import re
from collections.abc import Iterator

from rdsiam.access.groups import Groups
from rdsiam.access.users import LEVELS
from rdsiam.core.changes import Refusal
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.postgres.catalog import is_system
from rdsiam.engines.postgres.groups import group_name
from rdsiam.engines.postgres.lockout import IAM_ROLE, members, reachable
from rdsiam.engines.postgres.memberships import administer
from rdsiam.engines.postgres.snapshot import RDSADMIN, Snapshot
from rdsiam.engines.postgres.sql_text import comment, compose
from rdsiam.engines.statements import Statement
from rdsiam.errors import Refused

#: Maximum number of members that a text names.
_NAMED = 10
_OTHER_NAMES = "give rdsiam's groups other names with `group_prefix`"


def kind_of(snapshot: Snapshot, name: str) -> str:
    """Return the kind of role that has a name, in words."""
    role = snapshot.roles[name]
    if role.superuser:
        return "a superuser"
    if role.login:
        return "a user, which can log in"
    listed = [edge.member for edge in snapshot.memberships if edge.group == name and (edge.inherit or edge.set)]
    return f"a group, {_members(listed)}{_administrators(snapshot, name)}"


def refuse(snapshot: Snapshot, group: str, level: str, database: str, groups: Groups) -> None:
    """Check that a group that others created may be taken over.

    :param groups: the declaration of access.yaml about the groups of the server.
    :raises Refused: access.yaml doesn't say so, or the group has more rights than privileges.
    """
    exists = f"a role {_text(group)} exists that rdsiam did not make: {kind_of(snapshot, group)}"
    excess = list(_excess(snapshot, group, level, database, groups.prefix))
    if not groups.adopt:
        ways = f"{_OTHER_NAMES}, or rename or drop it"
        if not excess:
            ways = (
                "write `adopt_groups: true` in the entry to take it over (its members get "
                f"{level} on {_text(database)}), or {ways}"
            )
        raise Refused(exists, ways, "name-taken")
    if excess:
        raise Refused(
            f"{exists}; it is not taken over, since {' and '.join(excess)}",
            f"{_OTHER_NAMES}, or take that from it",
            "rights-not-grantable",
        )


def adopt(snapshot: Snapshot, group: str, level: str, database: str) -> Statement:
    """Return the statement that lets the manager administer a group; it names the members and what they get."""
    logins = sorted(
        name
        for name in members(snapshot.memberships, group, frozenset({snapshot.master, MANAGER}))
        if name in snapshot.roles and snapshot.roles[name].login
    )
    gain = (
        f"{_members(logins)}{_administrators(snapshot, group)}: members get {level} on {_text(database)}, declared "
        f"users get all that {_text(group)} has"
    )
    if not snapshot.has_membership_options or snapshot.administers(MANAGER, group):
        return Statement("adopt-group", group, comment(f"{_text(group)} is taken over, {gain}"), authority="manager")
    grant = administer(group, MANAGER)
    if snapshot.direct(group, MANAGER):  # it keeps the other options
        grant = compose("GRANT {r} TO {m} WITH ADMIN TRUE", r=group, m=MANAGER)
    denied = Refusal(
        f"{MANAGER} can't take over {group}, since {snapshot.master} may not let it administer that role",
        f"as a role that administers {group} run: {grant}; then onboard the database again",
        "rights-missing",
    )
    return Statement("adopt-group", group, f"{grant} {comment(gain)}", authority="master", denied=denied)


def _excess(snapshot: Snapshot, group: str, level: str, database: str, prefix: str) -> Iterator[str]:
    """Yield the rights of a group that members of a level must not have."""
    yield from _attributes(snapshot, group, "it")
    if level != "owner" and group in snapshot.owners:
        yield "it owns objects, which its members may drop"
    weaker = {group_name(database, other, prefix) for other in LEVELS[: LEVELS.index(level)]}
    above: dict[str, list[str]] = {}
    for edge in snapshot.memberships:
        above.setdefault(edge.member, []).append(edge.group)
    for name in sorted(reachable(above, group)):
        role = snapshot.roles.get(name)
        if name == IAM_ROLE:
            yield f"it is a member of {IAM_ROLE}, which takes the passwords of all its members"
        elif role is None or role.login or is_system(name, role.login) or name == snapshot.master:
            yield f"it is a member of {name}"
        else:
            yield from _attributes(snapshot, name, f"it is a member of {name}, which")
            if name in snapshot.level_groups - weaker:
                yield f"it is a member of {name}, the group of another database or of a higher level"
            elif level != "owner" and name in snapshot.owners:
                yield f"it is a member of {name}, which owns objects"


def _attributes(snapshot: Snapshot, name: str, subject: str) -> Iterator[str]:
    role = snapshot.roles[name]
    if role.login:
        yield f"{subject} can log in"
    if role.superuser:
        yield f"{subject} is a superuser"
    if role.createrole:
        yield f"{subject} creates roles"
    if role.createdb:
        yield f"{subject} creates databases"
    if role.replication:
        yield f"{subject} replicates"
    if role.bypasses_row_security:
        yield f"{subject} bypasses row security"


def _administrators(snapshot: Snapshot, group: str) -> str:
    """Return a text about the roles that may make others members of a group, besides those that may anyway."""
    trusted = {snapshot.master, MANAGER, RDSADMIN}
    names = sorted({edge.member for edge in snapshot.memberships if edge.group == group and edge.admin} - trusted)
    named = ", ".join(_text(name) for name in names if not snapshot.roles[name].superuser)
    return f" ({named} may add others)" if named else ""


def _members(names: list[str]) -> str:
    listed = [_text(name) for name in sorted(set(names))]
    if not listed:
        return "without members"
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return f"with the members {', '.join(listed[:_NAMED])}{more}"


def _text(name: str) -> str:
    """Return a name for a comment of SQL, which ends with a line."""
    return name if re.fullmatch(r"[A-Za-z0-9_.@-]+", name) else json.dumps(name)
