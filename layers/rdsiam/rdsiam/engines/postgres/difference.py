"""Statements that bring a PostgreSQL server from its snapshot to the desired state. Reads and changes nothing."""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence

from psycopg import sql

from rdsiam.access.users import DeclaredUser
from rdsiam.core.changes import Kind, Refusal
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.engines.postgres import adoption, namesakes, replacement, replication
from rdsiam.engines.postgres.databases import closed
from rdsiam.engines.postgres.disabling import SIGNAL_ROLE, disable
from rdsiam.engines.postgres.groups import declared_groups, grantees, group_name, groups_of, level_groups
from rdsiam.engines.postgres.lockout import IAM_ROLE, Membership, refuse_lockout
from rdsiam.engines.postgres.memberships import administer, leave
from rdsiam.engines.postgres.roles import change_role
from rdsiam.engines.postgres.snapshot import Role, Snapshot
from rdsiam.engines.postgres.sql_text import compose, text
from rdsiam.engines.protocols import DesiredState, marked
from rdsiam.engines.statements import Statement
from rdsiam.errors import Refused

#: CONNECTION LIMIT of a role that may have any number of sessions.
_UNLIMITED = -1


def difference(snapshot: Snapshot, desired: DesiredState) -> list[Statement]:
    """Return the statements that are missing: the manager, groups, users, memberships, privileges."""
    groups = _declared_groups(snapshot, desired)
    _refuse_namesakes(snapshot, desired, groups)
    replacement.refuse(snapshot, desired)
    replication.refuse(snapshot, desired)
    databases = sorted({snapshot.entry_database, *grantees(desired.users, snapshot.databases)})
    result = _manager(snapshot, databases) + _recover(snapshot, desired, groups)
    result += _groups(snapshot, desired, groups) + _auditor(snapshot, desired)
    for user in desired.users:
        result += _user(snapshot, user, desired, groups)
    names = [user.name for user in desired.users]
    for name in managed_users(snapshot, desired):
        if name not in names:
            result += disable(snapshot, name)
    planned = [Membership(IAM_ROLE, name, False, True, True) for name in (MANAGER, AUDITOR, *names)]
    planned += replacement.planned(desired.users)
    check_lockout(snapshot, [*snapshot.memberships, *planned], desired, snapshot.roles)
    return result


def check_lockout(
    snapshot: Snapshot, after: Iterable[Membership], desired: DesiredState, roles: Mapping[str, Role]
) -> None:
    """Check that no user except the desired ones loses its password login.

    :param after: the memberships to check.
    :param roles: all roles at that time.
    :raises Refused: a user would be locked out.
    """
    refuse_lockout(
        snapshot.memberships,
        after,
        logins={name: role.login for name, role in roles.items()},
        intended=frozenset({MANAGER, AUDITOR, *(user.name for user in desired.users)}),
        administrators=frozenset({snapshot.master, MANAGER}),
    )


def managed_users(snapshot: Snapshot, desired: DesiredState) -> list[str]:
    """Return the managed users that exist, also disabled ones. Groups differ from them in never having rds_iam."""
    return sorted(
        name
        for name in desired.accounts
        if name in snapshot.roles
        and name not in {MANAGER, AUDITOR}
        and (snapshot.roles[name].login or snapshot.direct(IAM_ROLE, name))
    )


def _declared_groups(snapshot: Snapshot, desired: DesiredState) -> dict[str, tuple[str, str]]:
    """Return the groups that the users need, each with its database and its level.

    For a database in which nobody can work no group is created; one that exists keeps its members.
    """
    groups = declared_groups(desired.users, snapshot.databases)
    taken = namesakes.taken(snapshot, desired)
    return {
        group: (database, level)
        for group, (database, level) in groups.items()
        if database not in taken and (database not in snapshot.obstacles or group in desired.accounts)
    }


def _refuse_namesakes(snapshot: Snapshot, desired: DesiredState, groups: Mapping[str, tuple[str, str]]) -> None:
    """Check that no role is in the way of a user, a group or the service's own users."""
    for user in desired.users:
        name = user.name
        if name in groups:
            raise Refused(
                f"user {name}: its name is that of the group role for database {groups[name][0]}",
                "rename the user",
                "name-taken",
            )
        if name in snapshot.roles and name not in desired.accounts and not user.adopt:
            raise Refused(
                f"a role {name} exists that rdsiam did not make: {adoption.kind_of(snapshot, name)}",
                "to take it over write `adopt: true`",
                "name-taken",
            )
        if name in snapshot.roles and snapshot.roles[name].superuser:
            raise Refused(
                f"user {name}: the role is a superuser, which rdsiam doesn't take over",
                "declare another user",
                "user-is-administrator",
            )
    for name in (MANAGER, AUDITOR):
        if name in snapshot.roles and name not in desired.accounts:
            raise Refused(
                f"a role {name} exists that rdsiam did not make: {adoption.kind_of(snapshot, name)}",
                "rename or drop it, then run this again",
                "name-taken",
            )
    for name, (database, level) in groups.items():
        if name in snapshot.roles and name not in desired.accounts:
            adoption.refuse(snapshot, name, level, database, desired.groups)


def _manager(snapshot: Snapshot, databases: Sequence[str]) -> list[Statement]:
    """Return the statements of the master that create the manager and give it its rights."""
    role = snapshot.roles.get(MANAGER)
    result: list[Statement] = []

    def as_master(kind: Kind, template: str, **names: str) -> None:
        statement = compose(template, m=MANAGER, **names)
        result.append(Statement(kind, MANAGER, statement, authority="master"))

    if role is None:
        as_master("create-manager", "CREATE ROLE {m} LOGIN CREATEROLE")
    elif not (role.login and role.createrole and role.connections == _UNLIMITED):
        as_master("create-manager", "ALTER ROLE {m} LOGIN CREATEROLE CONNECTION LIMIT -1")
    if not any(edge.admin and edge.inherit for edge in snapshot.direct(IAM_ROLE, MANAGER)):
        as_master("grant", "GRANT {iam} TO {m} WITH ADMIN OPTION", iam=IAM_ROLE)
    if not any(edge.inherit for edge in snapshot.direct(SIGNAL_ROLE, MANAGER)):
        as_master("grant", "GRANT {signal} TO {m}", signal=SIGNAL_ROLE)
    for name in databases:
        if snapshot.is_closed(name) and name not in snapshot.obstacles:
            grant = compose("GRANT CONNECT ON DATABASE {d} TO {m}", d=name, m=MANAGER)
            denied = closed(snapshot.on_server[name], snapshot.master)
            result.append(Statement("grant", MANAGER, grant, authority="master", denied=denied))
    return result


def _recover(snapshot: Snapshot, desired: DesiredState, groups: Container[str]) -> list[Statement]:
    """Return the statements of the master that let the manager administer again what rdsiam created, and its groups.

    A major upgrade from before PostgreSQL 16 leaves no role the right to change the roles that it created.
    """
    if not snapshot.has_membership_options:
        return []
    result: list[Statement] = []
    for name, ownership in sorted(desired.accounts.items()):
        administered = ownership == "created" or name in groups
        if not administered or name == MANAGER or name not in snapshot.roles:
            continue
        if not snapshot.administers(MANAGER, name):
            # In a group that it is a member of, the manager keeps the other options.
            grant = compose("GRANT {r} TO {m} WITH ADMIN TRUE", r=name, m=MANAGER)
            if not snapshot.direct(name, MANAGER):
                grant = administer(name, MANAGER)
            denied = Refusal(
                f"{MANAGER} may not change {name}, which rdsiam manages, and {snapshot.master} may not let it",
                f"as a role that administers {name} run: {grant}",
                "rights-missing",
            )
            result.append(Statement("grant", MANAGER, grant, authority="master", denied=denied))
    return result


def _groups(snapshot: Snapshot, desired: DesiredState, groups: Mapping[str, tuple[str, str]]) -> list[Statement]:
    """Return the statements that create or adopt the groups. The manager acts for owner groups only.

    It sets the default privileges of what their members create.
    """
    result: list[Statement] = []
    for group, (database, level) in sorted(groups.items()):
        if group not in snapshot.roles:
            result.append(Statement("create-group", group, compose("CREATE ROLE {g} NOLOGIN", g=group)))
        elif group not in desired.accounts:
            result.append(adoption.adopt(snapshot, group, level, database))
        else:
            result += _without_attributes(snapshot, group)
        acts = any(edge.inherit and edge.set for edge in snapshot.direct(group, MANAGER))
        if level == "owner" and not acts:
            options = " WITH INHERIT TRUE, SET TRUE" if snapshot.has_membership_options else ""
            grant = compose("GRANT {g} TO {m}", g=group, m=MANAGER) + options
            result.append(Statement("grant", MANAGER, grant))
    return result


def _without_attributes(snapshot: Snapshot, group: str) -> list[Statement]:
    """Return the statements that take from a group what no level gives: its members could use it by SET ROLE."""
    role = snapshot.roles[group]
    attributes = {
        "LOGIN": role.login,
        "SUPERUSER": role.superuser,
        "CREATEROLE": role.createrole,
        "CREATEDB": role.createdb,
        "REPLICATION": role.replication,
        "BYPASSRLS": role.bypasses_row_security,
    }
    authority = snapshot.authority_over(group)
    return [
        change_role("revoke", group, compose(f"ALTER ROLE {{g}} NO{attribute}", g=group), authority)
        for attribute, has in attributes.items()
        if has
    ]


def _auditor(snapshot: Snapshot, desired: DesiredState) -> list[Statement]:
    """Return the statements that create the auditor, mark it, and let it connect."""
    result = _login(snapshot, AUDITOR, "create-auditor")
    role = snapshot.roles.get(AUDITOR)
    if role is not None and role.connections != _UNLIMITED:
        unlimited = compose("ALTER ROLE {u} CONNECTION LIMIT -1", u=AUDITOR)
        result.append(change_role("limit-connections", AUDITOR, unlimited, snapshot.authority_over(AUDITOR)))
    if desired.mark and marked(desired.mark) != snapshot.mark:
        comment = sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(AUDITOR), sql.Literal(desired.mark))
        # Before version 16 CREATEROLE suffices; since then only the creator of the role may comment on it.
        needs_creator = AUDITOR in snapshot.roles and snapshot.has_membership_options
        authority = snapshot.authority_over(AUDITOR) if needs_creator else "manager"
        result.append(Statement("create-auditor", AUDITOR, text(comment), authority=authority))
    if snapshot.audit_closed:
        entry = snapshot.entry_database
        grant = compose("GRANT CONNECT ON DATABASE {d} TO {u}", d=entry, u=AUDITOR)
        result.append(Statement("grant", AUDITOR, grant, authority="master", database=entry))
    return result


def _user(snapshot: Snapshot, user: DeclaredUser, desired: DesiredState, groups: Collection[str]) -> list[Statement]:
    """Return the statements for one declared user."""
    result = _login(snapshot, user.name, "create-user", known=user.name in desired.accounts)
    result += _limit(snapshot, user, desired)
    managed_groups = _managed_groups(snapshot, desired, groups)
    if user.replaces:
        # It changes only how it logs in: memberships in groups that others created are its own.
        managed_groups = {
            name for name in managed_groups if name not in snapshot.roles or desired.accounts.get(name) == "created"
        }
    result += _memberships(snapshot, user, managed_groups)
    if not user.predecessor:
        result += _act_as_owner(snapshot, user, managed_groups)
    return result + replacement.statements(snapshot, user, desired)


def _login(snapshot: Snapshot, name: str, kind: Kind, known: bool = True) -> list[Statement]:
    """Return the statements after which `name` logs in by token only.

    :param known: rdsiam manages it already.
    """
    role = snapshot.roles.get(name)
    result: list[Statement] = []
    if role is None:
        result.append(Statement(kind, name, compose("CREATE ROLE {u} LOGIN", u=name)))
    elif not role.login:
        enabling: Kind = "enable-user" if known else "adopt-user"
        alter = compose("ALTER ROLE {u} LOGIN", u=name)
        result.append(change_role(enabling, name, alter, snapshot.authority_over(name)))
    if not snapshot.direct(IAM_ROLE, name):
        result.append(Statement("grant", name, compose("GRANT {iam} TO {u}", iam=IAM_ROLE, u=name)))
    return result


def _limit(snapshot: Snapshot, user: DeclaredUser, desired: DesiredState) -> list[Statement]:
    """Return the statement that sets the declared number of sessions.

    If none is declared, the number is unlimited, except for an adopted user, which keeps its limit.
    """
    role = snapshot.roles.get(user.name)
    created = role is None or desired.accounts.get(user.name) == "created"
    if user.connections is None and not created:
        return []
    limit = _UNLIMITED if user.connections is None else user.connections
    if limit == (_UNLIMITED if role is None else role.connections):
        return []
    statement = compose("ALTER ROLE {u} CONNECTION LIMIT ", u=user.name) + str(limit)
    authority = "manager" if role is None else snapshot.authority_over(user.name)
    return [change_role("limit-connections", user.name, statement, authority)]


def _memberships(snapshot: Snapshot, user: DeclaredUser, managed_groups: Iterable[str]) -> list[Statement]:
    """Return the statements that make a user a member of its groups alone, with all their rights."""
    result: list[Statement] = []
    declared = groups_of(user, snapshot.databases)
    for group in sorted(managed_groups):
        edges = snapshot.direct(group, user.name)
        has_rights = any(edge.inherit for edge in edges) and any(edge.set for edge in edges)
        if group in declared and not has_rights:
            grant = compose("GRANT {g} TO {u}", g=group, u=user.name)
            role = snapshot.roles.get(user.name)
            if snapshot.has_membership_options and (edges or (role is not None and not role.inherits)):
                grant += " WITH INHERIT TRUE, SET TRUE"  # others than the defaults of the role and of what there is
            result.append(Statement("grant", user.name, grant))
        elif group not in declared:
            result += leave(snapshot, group, user.name)
    return result


def _act_as_owner(snapshot: Snapshot, user: DeclaredUser, managed_groups: set[str]) -> list[Statement]:
    """Return the statements that make an owner act as the group from the start of its sessions.

    Its objects then belong to the group, so that other owners can alter them.
    """
    result: list[Statement] = []
    owned = {grant.on for grant in user.grants_on(snapshot.databases) if grant.privileges == "owner"}
    authority = snapshot.authority_over(user.name) if user.name in snapshot.roles else "manager"
    for name in snapshot.databases:
        acts_as = snapshot.settings.get(user.name, {}).get((name, "role"))
        group = group_name(name, "owner", user.groups.prefix)
        names = {"u": user.name, "d": name}
        statement = ""
        if name in owned and acts_as != group and group in managed_groups and name not in snapshot.obstacles:
            statement = compose("ALTER ROLE {u} IN DATABASE {d} SET role TO {g}", **names, g=group)
        elif name not in owned and acts_as in managed_groups:
            statement = compose("ALTER ROLE {u} IN DATABASE {d} RESET role", **names)
        if statement:
            # In the entry database, where statements about roles run after the roles have been created.
            entry = snapshot.entry_database
            result.append(change_role("act-as-owner", user.name, statement, authority, entry))
    return result


def _managed_groups(snapshot: Snapshot, desired: DesiredState, groups: Iterable[str]) -> set[str]:
    """Return the groups of rdsiam that exist, or are declared.

    Another managed role without login that has rds_iam is a disabled user. A group of a level is none, also if somebody
    gave it that, or a login.
    """
    levels = level_groups(snapshot.databases, desired.groups.prefix)
    others = {
        name
        for name, role in snapshot.roles.items()
        if name in desired.accounts and (name in levels or not (role.login or snapshot.direct(IAM_ROLE, name)))
    }
    return (others - {user.name for user in desired.users}) | set(groups)
