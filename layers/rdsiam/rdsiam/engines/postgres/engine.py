"""PostgreSQL: users, group roles and privileges, as RDS's own administrator may set them."""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from rdsiam.access.users import DeclaredUser
from rdsiam.aws.rds import Database
from rdsiam.engines.connection import WORK, Limits, connect_postgres
from rdsiam.engines.facts import ServerFacts
from rdsiam.engines.logins import AUDITOR, MANAGER, Login, Token
from rdsiam.engines.postgres import audit as postgres_audit
from rdsiam.engines.postgres import disabling, privileges, replacement
from rdsiam.engines.postgres.catalog import USERS_DATABASES, is_system, memberships
from rdsiam.engines.postgres.disabling import SHORT_WAIT, SIGNAL_ROLE, disable
from rdsiam.engines.postgres.escalations import Holding, administrators, escalations, holdings
from rdsiam.engines.postgres.lockout import IAM_ROLE, Membership, members, refuse_lockout
from rdsiam.engines.postgres.settings import all_settings
from rdsiam.engines.postgres.snapshot import Role, Snapshot, acting_for, admin, compose, run, text
from rdsiam.engines.protocols import NO_FAILURES, Account, Authority, DesiredState, Sessions, Statement, marked
from rdsiam.errors import ConnectionFailed, Refused
from rdsiam.state.escalations import Examined
from rdsiam.state.inventory import Ownership

_ROLES = "SELECT rolname, rolcanlogin, rolsuper, rolcreaterole, rolreplication, rolconnlimit FROM pg_catalog.pg_roles"
_DATABASES = f"SELECT datname FROM pg_catalog.pg_database WHERE {USERS_DATABASES} ORDER BY 1"  # noqa: S608 a constant
_BUSY = "SELECT DISTINCT usename FROM pg_catalog.pg_stat_activity WHERE usename IS NOT NULL"
#: Where a run begins, and what the audit connects to. RDS creates it and the master owns it, so that no tenant of the
#: server can close it or change what its sessions begin with; the catalogs of roles are the whole server's.
_ENTRY = "postgres"
#: Only who has CREATEROLE and may administer the auditor changes its comment: the manager, and the master.
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


def group_name(database: str, level: str) -> str:
    """Return the name of the group role of `level` on `database`.

    :raises Refused: PostgreSQL would cut the name.
    """
    name = f"{database}_{level}"
    if len(name.encode()) > 63:
        raise Refused(f"database {database} has too long a name for its group role {name}: PostgreSQL allows 63 bytes")
    return name


class Postgres:
    """The engine `postgres`, and Aurora PostgreSQL."""

    def connect(
        self, database: Database, login: Login, name: str | None, limits: Limits = WORK
    ) -> "psycopg.Connection":
        """Open a session; a missing database is the owner's to settle."""
        host, port = database.endpoint
        target = name or _ENTRY
        try:
            return connect_postgres(host, port, target, login, limits, database.engine_version)
        except ConnectionFailed as error:
            if f'database "{target}" does not exist' in str(error):
                remedy = "create it, since rdsiam begins there" if target == _ENTRY else "create it, or correct `on`"
                raise Refused(f"database {target} does not exist on {database.identifier}: {remedy}") from None
            raise

    def entry_database(self) -> str:
        """Return `postgres`, never a database whose owner may be a tenant of the server."""
        return _ENTRY

    def proof_database(self, database: Database, user: DeclaredUser) -> str:
        """Return a database that `user` may connect to."""
        named = sorted({grant.on for grant in user.grants} - {"*"})
        return named[0] if named else database.default_database or _ENTRY

    def accounts(self, session: Any, database: Database) -> tuple[Account, ...]:
        """Return every login but the system's. Whether one has a password can't be seen on RDS."""
        iam = members(memberships(session), IAM_ROLE, frozenset({database.master_user, MANAGER}))
        rows = session.execute(f"{_ROLES} WHERE rolcanlogin ORDER BY 1").fetchall()
        return tuple(
            Account(name, "", name in iam, False if name in iam else None, name in iam, createrole or superuser)
            for name, login, superuser, createrole, _, _ in rows
            if not is_system(name, login)
        )

    def audit(self, session: Any, database: Database) -> ServerFacts:
        """Read how every role can log in."""
        return postgres_audit.audit(session, database)

    def existing_names(self, session: Any) -> frozenset[str]:
        """Return the names of all roles."""
        return frozenset(row[0] for row in session.execute(_ROLES))

    def inspect(self, sessions: Sessions, database: Database, desired: DesiredState) -> Snapshot:
        """Read roles, memberships and what the wanted grantees lack in each database."""
        entry = self.entry_database()
        session = sessions.read(entry)
        databases = tuple(row[0] for row in session.execute(_DATABASES))
        absent = {g.on for user in desired.users for g in user.grants_on(databases)} - set(databases)
        if absent:
            raise Refused(
                f"database {sorted(absent)[0]} does not exist on {database.identifier}: create it, or correct `on`"
            )
        roles = {name: Role(*flags) for name, *flags in session.execute(_ROLES)}
        edges = memberships(session)
        administrators = _administrators(database, roles, edges)
        grantees = _grantees(desired, databases)
        managed = {*desired.accounts, *(name for there in grantees.values() for name in there)}
        grants: list[privileges.Grant] = []
        held: list[Holding] = []
        closed: set[str] = set()
        for name in sorted({entry, *grantees}):
            there = sessions.read(name)
            if name in grantees:
                creators = {database.master_user} | {group_name(name, "owner")} & set(grantees[name])
                grants += privileges.missing(there, name, grantees[name], creators, administrators)
            for one in holdings(there, name, administrators):
                if one.grantee in managed and _may_revoke(database, one, edges, session.info.server_version):
                    objects = one.objects if one.held == "tables" else ()
                    grants.append(
                        privileges.Grant(name, one.owner, one.grantee, "table", one.privileges, objects, revoke=True)
                    )
                else:
                    held.append(one)
            if _closed(there, name, MANAGER):
                closed.add(name)
        logins = {name: role.login and not is_system(name, role.login) for name, role in roles.items()}
        snapshot = Snapshot(
            entry_database=entry,
            master=database.master_user,
            version=session.info.server_version,
            databases=databases,
            roles=roles,
            memberships=edges,
            settings=all_settings(session),
            grants=tuple(grants),
            closed=frozenset(closed),
            busy=frozenset(row[0] for row in session.execute(_BUSY)),
            mark=self.marked_source(session),
            audit_closed=_closed(session, _ENTRY, AUDITOR),
            examined=Examined(tuple(sorted({entry, *grantees})), escalations(held, logins, edges, administrators)),
        )
        # No transaction stays open while the other sessions work; the lock belongs to the session.
        for name in {entry, *_grantees(desired, databases)}:
            sessions.read(name).commit()
        return snapshot

    def difference(self, snapshot: Snapshot, desired: DesiredState) -> list[Statement]:
        """Return the statements that are missing: the manager, groups, users, memberships, privileges."""
        grantees = _grantees(desired, snapshot.databases)
        groups = {
            group_name(name, grant.privileges): name
            for user in desired.users
            for name, grant in ((grant.on, grant) for grant in user.grants_on(snapshot.databases))
            if isinstance(grant.privileges, str)
        }
        _refuse_namesakes(snapshot, desired, groups)
        replacement.refuse(snapshot, desired)
        result = _manager(snapshot, sorted({snapshot.entry_database, *grantees}))
        for group in sorted(groups):
            if group not in snapshot.roles:
                result.append(Statement("create-group", group, compose("CREATE ROLE {g} NOLOGIN", g=group)))
            # The manager acts for owner groups, to set the default privileges of what they make; for no other.
            acts = any(edge.inherit and edge.set for edge in snapshot.direct(group, MANAGER))
            if group == f"{groups[group]}_owner" and not acts:
                options = " WITH INHERIT TRUE, SET TRUE" if snapshot.version >= 160000 else ""
                grant = compose("GRANT {g} TO {m}", g=group, m=MANAGER) + options
                result.append(Statement("grant", MANAGER, grant))
        result += _login(snapshot, AUDITOR, "create-auditor")
        if desired.mark and marked(desired.mark) != snapshot.mark:
            comment = text(
                sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(AUDITOR), sql.Literal(desired.mark))
            )
            # Before version 16 whoever has CREATEROLE may; since then whoever made the role.
            made = AUDITOR in snapshot.roles and snapshot.version >= 160000
            authority = admin(snapshot, AUDITOR) if made else "manager"
            result.append(Statement("create-auditor", AUDITOR, comment, authority=authority))
        if snapshot.audit_closed:
            grant = compose("GRANT CONNECT ON DATABASE {d} TO {u}", d=_ENTRY, u=AUDITOR)
            result.append(Statement("grant", AUDITOR, grant, authority="master", database=snapshot.entry_database))
        for user in desired.users:
            result += _login(snapshot, user.name, "create-user", known=user.name in desired.accounts)
            result += _limit(snapshot, user, desired)
            result += _memberships_of(snapshot, user, desired, groups)
            if not user.predecessor:
                result += _acts_as_owner(snapshot, user, desired, groups)
            result += replacement.statements(snapshot, user, desired)
        for name in _ours(snapshot, desired):
            if name not in {user.name for user in desired.users}:
                result += disable(snapshot, name)
        for change in snapshot.grants:
            result += _grants(snapshot, change)
        planned = [
            Membership(IAM_ROLE, name, False, True, True)
            for name in (MANAGER, AUDITOR, *(u.name for u in desired.users))
        ]
        planned += replacement.planned(desired.users)
        self._guard(snapshot, [*snapshot.memberships, *planned], desired, snapshot.roles)
        return result

    def lock_statements(
        self, session: Any, users: Collection[str], failures: Mapping[str, Exception] = NO_FAILURES
    ) -> list[Statement]:
        """Return what is missing until these users are locked."""
        return disabling.lock_statements(session, users, failures)

    def stop_statements(self, session: Any, users: Collection[str]) -> list[Statement]:  # noqa: ARG002
        """Return nothing: what a user scheduled with pg_cron needs its login."""
        return []

    def end_session_statements(self, session: Any, users: Collection[str]) -> list[Statement]:
        """Return what ends the sessions of these users."""
        return disabling.end_session_statements(session, users)

    def execute(self, session: Any, statement: Statement) -> None:
        """Run one statement of `lock_statements`."""
        disabling.execute(session, statement)

    def ownership(
        self, snapshot: Snapshot, statements: Sequence[Statement], desired: DesiredState
    ) -> dict[str, Ownership]:
        """Return all accounts and groups that are ours once the statements have run."""
        ownership = {name: ownership for name, ownership in desired.accounts.items() if name in snapshot.roles}
        for statement in statements:
            if statement.kind in {"create-manager", "create-auditor", "create-user", "create-group"}:
                ownership.setdefault(statement.target, "created")
            elif statement.kind == "adopt-user":
                ownership.setdefault(statement.target, "adopted")
        for user in desired.users:
            ownership.setdefault(user.name, "adopted")
        return ownership

    def inherited_ownership(self, snapshot: Snapshot, desired: DesiredState) -> dict[str, Ownership]:
        """Return what carries over: logins that have rds_iam, groups that can't log in, neither with more rights."""
        groups = {f"{name}_{level}" for name in snapshot.databases for level in privileges.LEVELS}
        users = {AUDITOR, *(user.name for user in desired.users), *desired.revoked}
        ownership: dict[str, Ownership] = {MANAGER: "created"}
        for name, role in snapshot.roles.items():
            iam = bool(snapshot.direct(IAM_ROLE, name))
            as_made = (name in users and iam) or (name in groups and not iam and not role.login)
            if as_made and not role.superuser and not role.createrole:
                ownership[name] = "created"
        return ownership

    def marked_source(self, session: Any) -> str | None:
        """Return the resource id in the comment of the auditor."""
        row = session.execute(_MARK, [AUDITOR]).fetchone()
        return marked(row[0]) if row else None

    def examined(self, snapshot: Snapshot) -> Examined:
        """Return who can act as an administrator in the databases that were visited."""
        return snapshot.examined

    def enabled_users(self, snapshot: Snapshot, desired: DesiredState) -> frozenset[str]:
        """Return the users of ours that can log in."""
        return frozenset(name for name in _ours(snapshot, desired) if snapshot.roles[name].login)

    def apply(
        self, sessions: Sessions, snapshot: Snapshot, statements: Sequence[Statement], desired: DesiredState
    ) -> None:
        """Run the statements: roles first, then each database; each part is one transaction.

        Sessions are ended when nobody can open new ones.
        """
        authorities: tuple[Authority, ...] = ("master", "manager")
        for authority in authorities:
            roles = [s for s in statements if s.authority == authority and s.database is None]
            roles = [s for s in roles if s.kind != "end-sessions"]
            if roles:
                session = sessions.get(authority, snapshot.entry_database)
                locked = {s.target for s in roles if s.kind == "disable-user"}
                if locked:
                    session.execute(SHORT_WAIT)
                # Sessions of who is locked may hold what locking waits for, so they end before, and once more below.
                run(
                    session,
                    snapshot.entry_database,
                    [s for s in statements if s.kind == "end-sessions" and s.target in locked],
                )
                run(session, snapshot.entry_database, roles)
                logins = {name: Role(*flags) for name, *flags in session.execute(_ROLES)}
                try:
                    self._guard(snapshot, memberships(session), desired, logins)
                except Refused:
                    session.rollback()
                    raise
                session.commit()
        if sessions.used_master:
            self._prove_master(sessions, snapshot, statements)
        for ending in (s for s in statements if s.kind == "end-sessions"):
            session = sessions.get(ending.authority, snapshot.entry_database)
            run(session, snapshot.entry_database, [ending])
            session.commit()
        for name in sorted({s.database for s in statements if s.database is not None}):
            for authority in authorities:
                there = [s for s in statements if s.authority == authority and s.database == name]
                if there:
                    session = sessions.get(authority, name)
                    run(session, name, there)
                    session.commit()

    def _prove_master(self, sessions: Sessions, snapshot: Snapshot, statements: Sequence[Statement]) -> None:
        """See that the master still logs in while its first session is open, and take back what kept it out."""
        try:
            sessions.another("master", snapshot.entry_database).close()
        except ConnectionFailed as error:
            granted = [s for s in statements if s.statement.startswith(compose("GRANT {iam} TO", iam=IAM_ROLE))]
            for statement in granted:
                session = sessions.get(statement.authority, snapshot.entry_database)
                session.execute(compose("REVOKE {iam} FROM {u}", iam=IAM_ROLE, u=statement.target))
                session.commit()
            raise Refused(
                f"{snapshot.master} could not log in any more, so {IAM_ROLE} was taken back: {error}"
            ) from None

    def refuses_passwords(self, database: Database, user: str, name: str | None) -> bool:
        """Offer a random password where the token goes: an IAM user's is judged by PAM and refused."""
        try:
            self.connect(database, Token(user, secrets.token_urlsafe(24)), name).close()
        except ConnectionFailed as error:
            return error.stage == "login" and "PAM authentication failed" in str(error)
        return False

    def _guard(
        self, snapshot: Snapshot, after: Iterable[Membership], desired: DesiredState, roles: Mapping[str, Role]
    ) -> None:
        refuse_lockout(
            snapshot.memberships,
            after,
            logins={name: role.login for name, role in roles.items()},
            intended=frozenset({MANAGER, AUDITOR, *(user.name for user in desired.users)}),
            administrators=frozenset({snapshot.master, MANAGER}),
        )


def _closed(session: Any, database: str, role: str) -> bool:
    """Return whether neither `role` nor everybody may connect to a database that exists."""
    row = session.execute(_CLOSED, [role, database]).fetchone()
    return row is not None and row[0]


def _grantees(
    desired: DesiredState, databases: Sequence[str]
) -> dict[str, dict[str, Mapping[privileges.ObjectType, frozenset[str]]]]:
    """Return, for each database, who holds privileges in it: a group for a level, the user itself for a list."""
    result: dict[str, dict[str, Mapping[privileges.ObjectType, frozenset[str]]]] = {}
    for user in desired.users:
        for grant in user.grants_on(databases):
            level = isinstance(grant.privileges, str)
            grantee = group_name(grant.on, grant.privileges) if isinstance(grant.privileges, str) else user.name
            there = result.setdefault(grant.on, {})
            if not level or grantee not in there:
                there[grantee] = privileges.of(grant.privileges)
    return result


def _refuse_namesakes(snapshot: Snapshot, desired: DesiredState, groups: Mapping[str, str]) -> None:
    adopted = {user.name for user in desired.users if user.adopt}
    names = [user.name for user in desired.users]
    for name in names:
        if name in groups:
            raise Refused(f"user {name} has the name of the group role for database {groups[name]}: rename the user")
        if name in snapshot.roles and name not in desired.accounts and name not in adopted:
            raise Refused(f"a role {name} exists that rdsiam did not make; to take it over write `adopt: true`")
        if name in snapshot.roles and snapshot.roles[name].superuser:
            raise Refused(f"{name} is a superuser; rdsiam takes none over")
    for name in (MANAGER, AUDITOR, *groups):
        if name in snapshot.roles and name not in desired.accounts:
            raise Refused(f"a role {name} exists that rdsiam did not make; rename or drop it, then run this again")


def _manager(snapshot: Snapshot, databases: Sequence[str]) -> list[Statement]:
    role = snapshot.roles.get(MANAGER)
    result: list[Statement] = []

    def as_master(kind: Any, template: str, **names: str) -> None:
        statement = compose(template, m=MANAGER, **names)
        result.append(Statement(kind, MANAGER, statement, authority="master"))

    if role is None:
        as_master("create-manager", "CREATE ROLE {m} LOGIN CREATEROLE")
    elif not (role.login and role.createrole):
        as_master("create-manager", "ALTER ROLE {m} LOGIN CREATEROLE")
    if not any(edge.admin and edge.inherit for edge in snapshot.direct(IAM_ROLE, MANAGER)):
        as_master("grant", "GRANT {iam} TO {m} WITH ADMIN OPTION", iam=IAM_ROLE)
    if not any(edge.inherit for edge in snapshot.direct(SIGNAL_ROLE, MANAGER)):
        as_master("grant", "GRANT {signal} TO {m}", signal=SIGNAL_ROLE)
    for name in databases:
        if name in snapshot.closed:
            as_master("grant", "GRANT CONNECT ON DATABASE {d} TO {m}", d=name)
    return result


def _ours(snapshot: Snapshot, desired: DesiredState) -> list[str]:
    """Return the users of ours that exist, disabled ones too. Groups are told from them by never having rds_iam."""
    return sorted(
        name
        for name in desired.accounts
        if name in snapshot.roles
        and name not in {MANAGER, AUDITOR}
        and (snapshot.roles[name].login or snapshot.direct(IAM_ROLE, name))
    )


def _login(snapshot: Snapshot, name: str, kind: Any, known: bool = True) -> list[Statement]:
    """Return what makes `name` a login that takes tokens and nothing else.

    :param known: it is ours already.
    """
    role = snapshot.roles.get(name)
    result: list[Statement] = []
    if role is None:
        result.append(Statement(kind, name, compose("CREATE ROLE {u} LOGIN", u=name)))
    elif not role.login:
        again: Any = "enable-user" if known else "adopt-user"
        result.append(Statement(again, name, compose("ALTER ROLE {u} LOGIN", u=name), authority=admin(snapshot, name)))
    if not snapshot.direct(IAM_ROLE, name):
        result.append(Statement("grant", name, compose("GRANT {iam} TO {u}", iam=IAM_ROLE, u=name)))
    return result


def _limit(snapshot: Snapshot, user: DeclaredUser, desired: DesiredState) -> list[Statement]:
    """Return what lets `user` have as many sessions as declared.

    Any number if nothing is declared; what somebody has set for a user that was adopted stays then.
    """
    role = snapshot.roles.get(user.name)
    managed = role is None or desired.accounts.get(user.name) == "created"
    if user.connections is None and not managed:
        return []
    limit = -1 if user.connections is None else user.connections
    if limit == (-1 if role is None else role.connections):
        return []
    statement = compose("ALTER ROLE {u} CONNECTION LIMIT ", u=user.name) + str(limit)
    authority = "manager" if role is None else admin(snapshot, user.name)
    return [Statement("limit-connections", user.name, statement, authority=authority)]


def _memberships_of(
    snapshot: Snapshot, user: DeclaredUser, desired: DesiredState, groups: Mapping[str, str]
) -> list[Statement]:
    result: list[Statement] = []
    grants = user.grants_on(snapshot.databases)
    member_of = {group_name(g.on, g.privileges) for g in grants if isinstance(g.privileges, str)}
    for group in sorted(_groups_of_ours(snapshot, desired, groups)):
        belongs = bool(snapshot.direct(group, user.name))
        if group in member_of and not belongs:
            result.append(Statement("grant", user.name, compose("GRANT {g} TO {u}", g=group, u=user.name)))
        elif group not in member_of and belongs:
            result.append(Statement("revoke", user.name, compose("REVOKE {g} FROM {u}", g=group, u=user.name)))
    return result


def _acts_as_owner(
    snapshot: Snapshot, user: DeclaredUser, desired: DesiredState, groups: Mapping[str, str]
) -> list[Statement]:
    """Make an owner act as the group from the start: its objects belong to the group, so others can alter them."""
    result: list[Statement] = []
    ours = _groups_of_ours(snapshot, desired, groups)
    owned = {g.on for g in user.grants_on(snapshot.databases) if g.privileges == "owner"}
    for name in snapshot.databases:
        acts = snapshot.settings.get(user.name, {}).get((name, "role"))
        group = f"{name}_owner"
        names = {"u": user.name, "d": name, "g": group}
        authority = admin(snapshot, user.name) if user.name in snapshot.roles else "manager"
        if name in owned and acts != group:
            statement = compose("ALTER ROLE {u} IN DATABASE {d} SET role TO {g}", **names)
            result.append(Statement("act-as-owner", user.name, statement, authority=authority, database=name))
        elif name not in owned and acts == group and group in ours:
            statement = compose("ALTER ROLE {u} IN DATABASE {d} RESET role", u=user.name, d=name)
            result.append(Statement("act-as-owner", user.name, statement, authority=authority, database=name))
    return result


def _groups_of_ours(snapshot: Snapshot, desired: DesiredState, groups: Mapping[str, str]) -> set[str]:
    ours = {name for name in snapshot.roles if name in desired.accounts and not snapshot.roles[name].login} | set(
        groups
    )
    return {name for name in ours if not snapshot.direct(IAM_ROLE, name)}  # else a user that is disabled


def _administrators(database: Database, roles: Mapping[str, Role], memberships: Iterable[Membership]) -> frozenset[str]:
    powerful = {name for name, role in roles.items() if role.superuser or role.createrole or role.replication}
    return administrators({database.master_user, *powerful}, memberships)


def _may_revoke(database: Database, holding: Holding, memberships: Iterable[Membership], version: int) -> bool:
    """Return whether onboarding can take away what a managed role holds, acting for the administrator who granted it.

    What a copy without the master's secret brings along stays, and is reported.
    """
    in_a_schema = holding.held == "future tables" and holding.objects != ((),)
    if not holding.revocable or in_a_schema:
        return False
    actors = {MANAGER} if database.master_secret_arn is None else {MANAGER, database.master_user}
    if holding.owner in actors or (version < 160000 and holding.owner != database.master_user):
        return True
    edges = [edge for edge in memberships if edge.group == holding.owner and edge.member in actors]
    return any(edge.admin or (edge.inherit and edge.member == MANAGER) for edge in edges)


def _grants(snapshot: Snapshot, lack: privileges.Grant) -> list[Statement]:
    kind: Any = ("revoke" if lack.revoke else "grant") if lack.objects else "default-privileges"
    target = lack.grantee if lack.objects else f"{lack.owner} in {lack.database}"
    authority: Authority
    before = after = ""
    if lack.owner == snapshot.master:
        authority = "master"
    elif lack.owner not in snapshot.roles or any(edge.inherit for edge in snapshot.direct(lack.owner, MANAGER)):
        authority = "manager"  # a group that is about to be made, or was
    else:
        authority = admin(snapshot, lack.owner)
        actor = snapshot.master if authority == "master" else MANAGER
        names = {"o": lack.owner, "a": actor}
        if snapshot.version >= 160000 and not any(edge.admin for edge in snapshot.direct(lack.owner, actor)):
            raise Refused(
                f"objects in {lack.database} belong to {lack.owner}, on whose behalf {actor} may not grant; as "
                f"{lack.owner}'s administrator run: {compose('GRANT {o} TO {a} WITH ADMIN OPTION', **names)}"
            )
        before, after = acting_for(snapshot, lack.owner, actor)
    return [
        Statement(kind, target, before + statement + after, authority=authority, database=lack.database)
        for statement in privileges.statements(lack, text)
    ]
