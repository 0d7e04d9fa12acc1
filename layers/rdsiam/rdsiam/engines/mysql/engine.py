"""MySQL and MariaDB: accounts and privileges, as RDS's own administrator may set them."""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rdsiam.access.users import DeclaredUser
from rdsiam.aws.rds import Database
from rdsiam.engines.connection import WORK, Limits, connect_mysql
from rdsiam.engines.facts import ServerFacts
from rdsiam.engines.logins import AUDITOR, MANAGER, Login, Password
from rdsiam.engines.mysql import audit as mysql_audit
from rdsiam.engines.mysql import audit_procedure, disabling, replacement
from rdsiam.engines.mysql.catalog import PLUGIN, SYSTEM_SCHEMAS, is_mariadb, is_system, rows
from rdsiam.engines.mysql.grants import account, identifier, server
from rdsiam.engines.protocols import (
    NO_FAILURES,
    Account,
    Authority,
    DesiredState,
    Sessions,
    Statement,
    end_sessions_first,
)
from rdsiam.errors import ConnectionFailed, Refused
from rdsiam.state.inventory import Ownership

_READ = ("SELECT", "SHOW VIEW")
_WRITE = (*_READ, "INSERT", "UPDATE", "DELETE", "EXECUTE", "CREATE TEMPORARY TABLES", "LOCK TABLES")
_OWN = (
    *_WRITE, "CREATE", "DROP", "REFERENCES", "INDEX", "ALTER", "CREATE VIEW", "CREATE ROUTINE", "ALTER ROUTINE",
    "EVENT", "TRIGGER",
)  # fmt: skip
#: Privileges on a schema; they cover what is made later.
LEVELS: Mapping[str, frozenset[str]] = {
    "readonly": frozenset(_READ),
    "readwrite": frozenset(_WRITE),
    "owner": frozenset(_OWN),
}
#: One can grant only what one has: the manager needs all that a user may be given, and to make users.
_MANAGER = frozenset({*_OWN, "CREATE USER", "PROCESS", "RELOAD"})
_ACCOUNTS = "SELECT User, Host, plugin, ssl_type, Super_priv, Create_user_priv FROM mysql.user"
#: MariaDB can keep further ways in beside the plugin: `auth_or`. An empty item there is the plugin itself; it stays.
_OTHER_WAYS_IN = "SELECT User, Host FROM mysql.global_priv WHERE JSON_EXISTS(Priv, '$.auth_or[*].plugin')"
#: MySQL's dual passwords.
_SECOND_PASSWORDS = "SELECT User, Host FROM mysql.user WHERE User_attributes->'$.additional_password' IS NOT NULL"
_LIMITS = "SELECT User, Host, max_user_connections FROM mysql.user"
_LOCKING = frozenset({"disable-user", "disable-event", "end-sessions"})


@dataclass(frozen=True)
class Snapshot:
    """What an inspection found.

    :ivar accounts: (user, host pattern) → whether it takes tokens over TLS and nothing else.
    :ivar schemas: (user, host pattern, schema pattern as granted) → privileges.
    :ivar everywhere: (user, host pattern) → global privileges.
    :ivar auditor: what there is for the auditor to read from.
    :ivar limits: (user, host pattern) → how many sessions it may have at once; 0 for any number.
    :ivar room: how many sessions one user may have if others are to find a connection.
    :ivar logins: who can log in, and is logged in.
    :ivar replaced: what users that replace others may do, and those others.
    """

    databases: tuple[str, ...]
    accounts: Mapping[tuple[str, str], bool]
    schemas: Mapping[tuple[str, str, str], frozenset[str]]
    everywhere: Mapping[tuple[str, str], frozenset[str]]
    auditor: audit_procedure.Installed
    limits: Mapping[tuple[str, str], int]
    room: int
    logins: disabling.Logins
    replaced: replacement.Replaced


def schema_pattern(name: str) -> str:
    """Escape a schema's name for GRANT, where `_` and `%` are wildcards: my_app would cover myXapp too."""
    return name.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")


class Mysql:
    """The engines `mysql` and `mariadb`, and Aurora MySQL."""

    def connect(self, database: Database, login: Login, name: str | None, limits: Limits = WORK) -> Any:  # noqa: ARG002
        """Open a session. Schemas need none of their own."""
        host, port = database.endpoint
        return connect_mysql(host, port, login, limits)

    def entry_database(self) -> None:
        """Return None: one session reaches all schemas."""

    def proof_database(self, database: Database, user: DeclaredUser) -> None:
        """Return None, as `entry_database` does."""

    def accounts(self, session: Any, database: Database) -> tuple[Account, ...]:  # noqa: ARG002
        """Return every account but the system's."""
        other = _other_ways_in(session)
        return tuple(
            Account(
                name=user,
                host=host,
                iam=plugin == PLUGIN,
                password=plugin != PLUGIN or (user, host) in other,
                tls=ssl_type != "",
                administrator="Y" in {superuser, creates_users},
            )
            for user, host, plugin, ssl_type, superuser, creates_users in sorted(rows(session, _ACCOUNTS))
            if not is_system(user, host)
        )

    def audit(self, session: Any, database: Database) -> ServerFacts:  # noqa: ARG002
        """Read how every account can log in."""
        return mysql_audit.audit(session)

    def existing_names(self, session: Any) -> frozenset[str]:
        """Return the names of all accounts."""
        return frozenset(row[0] for row in rows(session, _ACCOUNTS))

    def inspect(self, sessions: Sessions, database: Database, desired: DesiredState) -> Snapshot:
        """Read accounts and privileges."""
        session = sessions.read(None)
        schemas: dict[tuple[str, str, str], set[str]] = {}
        for grantee, schema, privilege in rows(
            session, "SELECT GRANTEE, TABLE_SCHEMA, PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES"
        ):
            schemas.setdefault((*_grantee(grantee), schema), set()).add(privilege)
        everywhere: dict[tuple[str, str], set[str]] = {}
        for grantee, privilege, grantable in rows(
            session, "SELECT GRANTEE, PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.USER_PRIVILEGES"
        ):
            held = everywhere.setdefault(_grantee(grantee), set())
            held |= {privilege, "GRANT OPTION"} if grantable == "YES" else {privilege}
        accounts = {(a.name, a.host): a.iam and a.tls and not a.password for a in self.accounts(session, database)}
        return Snapshot(
            databases=tuple(
                row[0]
                for row in rows(session, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA ORDER BY 1")
                if row[0].lower() not in SYSTEM_SCHEMAS
            ),
            accounts=accounts,
            schemas={key: frozenset(value) for key, value in schemas.items()},
            everywhere={key: frozenset(value) for key, value in everywhere.items()},
            auditor=audit_procedure.installed(session),
            limits={(user, host): int(limit) for user, host, limit in rows(session, _LIMITS)},
            room=room(int(rows(session, "SELECT @@max_connections")[0][0])),
            logins=disabling.read(session),
            replaced=replacement.read(
                partial(rows, session), server(session.get_server_info()), accounts, _successors(desired)
            ),
        )

    def difference(self, snapshot: Snapshot, desired: DesiredState) -> list[Statement]:
        """Return the statements that are missing: the manager, users, privileges."""
        successors = _successors(desired)
        _refuse_namesakes(snapshot, desired)
        replacement.refuse(snapshot.accounts, snapshot.replaced, successors)
        result = _account(snapshot, MANAGER, "create-manager", "master", desired)
        if not snapshot.everywhere.get((MANAGER, "%"), frozenset()) >= {*_MANAGER, "GRANT OPTION"}:
            grant = f"GRANT {', '.join(sorted(_MANAGER))} ON *.* TO {account(MANAGER)} WITH GRANT OPTION"
            result.append(Statement("grant", MANAGER, grant, authority="master"))
        result += _account(snapshot, AUDITOR, "create-auditor", "manager", desired)
        result += audit_procedure.statements(snapshot.auditor, desired.mark)
        for user in desired.users:
            if name := successors.get(user.name):
                of_name = replacement.hosts_of(snapshot.accounts, name)
                result += _account(snapshot, user.name, "create-user", "manager", desired, of_name, user.connections)
                result += replacement.statements(snapshot.accounts, snapshot.replaced, user.name, name, _MANAGER)
                continue
            result += _account(snapshot, user.name, "create-user", "manager", desired, connections=user.connections)
            hosts = [host for name, host in snapshot.accounts if name == user.name] or ["%"]
            for host in sorted(hosts):
                result += _privileges(snapshot, user, host, desired)
        for name in sorted(_leaving(snapshot, desired)):
            result += disabling.disable(snapshot.logins, name)
        return result

    def lock_statements(
        self,
        session: Any,
        users: Collection[str],
        failures: Mapping[str, Exception] = NO_FAILURES,  # noqa: ARG002
    ) -> list[Statement]:
        """Return what is missing until these users are locked."""
        return disabling.lock_statements(session, users)

    def stop_statements(self, session: Any, users: Collection[str]) -> list[Statement]:
        """Return what stops the events of these users."""
        return disabling.stop_statements(session, users)

    def end_session_statements(self, session: Any, users: Collection[str]) -> list[Statement]:
        """Return what ends the sessions of these users."""
        return disabling.end_session_statements(session, users)

    def execute(self, session: Any, statement: Statement) -> None:
        """Run one statement of `lock_statements`."""
        disabling.execute(session, statement)

    def ownership(
        self, snapshot: Snapshot, statements: Sequence[Statement], desired: DesiredState
    ) -> dict[str, Ownership]:
        """Return all accounts that are ours once the statements have run."""
        made = {s.target for s in statements if s.kind in {"create-manager", "create-auditor", "create-user"}}
        there = {name for name, _ in snapshot.accounts}
        ownership = {name: ownership for name, ownership in desired.accounts.items() if name in there}
        for name in made:
            ownership.setdefault(name, "created")
        for user in desired.users:
            ownership.setdefault(user.name, "adopted")
        return ownership

    def inherited_ownership(self, snapshot: Snapshot, desired: DesiredState) -> dict[str, Ownership]:
        """Return what carries over: accounts of which every host pattern takes tokens over TLS and nothing else."""
        ownership: dict[str, Ownership] = {MANAGER: "created"}
        for name in {AUDITOR, *(user.name for user in desired.users), *desired.revoked}:
            accounts = {host: safe for (user, host), safe in snapshot.accounts.items() if user == name}
            if accounts and all(accounts.values()):
                made = set(accounts) == {"%"} or name in _successors(desired)
                ownership[name] = "created" if made else "adopted"
        return ownership

    def marked_source(self, session: Any) -> str | None:
        """Return the resource id in the comment of the auditor's procedure, if the manager made it."""
        installed = audit_procedure.installed(session)
        return installed.mark if installed.procedure and installed.procedure[0] == f"{MANAGER}@%" else None

    def examined(self, snapshot: Snapshot) -> None:
        """Return None: triggers run as their definer, and no privilege that rdsiam grants makes another one's."""

    def enabled_users(self, snapshot: Snapshot, desired: DesiredState) -> frozenset[str]:
        """Return the users of ours that can log in."""
        able = {user for user, host in snapshot.accounts if (user, host) not in snapshot.logins.locked}
        return frozenset(able & set(desired.accounts) - {MANAGER, AUDITOR})

    def apply(
        self,
        sessions: Sessions,
        snapshot: Snapshot,  # noqa: ARG002
        statements: Sequence[Statement],
        desired: DesiredState,  # noqa: ARG002
    ) -> None:
        """Run the statements in order. Each commits by itself; each may be repeated."""
        for statement in end_sessions_first(statements):
            session = sessions.get(statement.authority, None)
            if statement.kind in _LOCKING:
                disabling.execute(session, statement)
            else:
                disabling.run(session, statement)

    def refuses_passwords(self, database: Database, user: str, name: str | None) -> bool:
        """Offer a random password: 1045. That there is no second way in was read from the catalogs."""
        try:
            self.connect(database, Password(user, secrets.token_urlsafe(24)), name).close()
        except ConnectionFailed as error:
            return error.stage == "login" and error.server_code == "1045"
        return False


def room(connections: int) -> int:
    """Return how many of a server's connections one user may take by default: nine of ten, and ten stay free."""
    return max(1, min(connections * 9 // 10, connections - 10))


def _other_ways_in(session: Any) -> set[tuple[str, str]]:
    version: str = session.get_server_info()
    if version.startswith("5.") and not is_mariadb(session):
        return set()  # neither had been invented
    return {(user, host) for user, host in rows(session, _OTHER_WAYS_IN if is_mariadb(session) else _SECOND_PASSWORDS)}


def _grantee(text: str) -> tuple[str, str]:
    """Read `'user'@'host'` as information_schema writes it; a user's name may hold an @, a host pattern never."""
    user, _, host = text.rpartition("@")
    return user[1:-1].replace("''", "'"), host[1:-1]


def _successors(desired: DesiredState) -> dict[str, str]:
    """Return the users that replace another one, and whom."""
    return {user.name: user.predecessor for user in desired.users if user.predecessor}


def _refuse_namesakes(snapshot: Snapshot, desired: DesiredState) -> None:
    adopted = {user.name for user in desired.users if user.adopt}
    declared = {user.name for user in desired.users}
    ours = {MANAGER, AUDITOR, *declared, *_leaving(snapshot, desired)}
    for name, host in sorted(snapshot.accounts):
        if name not in ours or name in adopted or (name in desired.accounts and host == "%"):
            continue
        if name in desired.accounts and (
            desired.accounts[name] == "adopted" or _is_of_successor(snapshot, desired, name, host)
        ):
            continue
        way_out = (
            "to take it over write `adopt: true`" if name in declared else "rename or drop it, then run this again"
        )
        raise Refused(f"an account {account(name, host)} exists that rdsiam did not make; {way_out}")


def _is_of_successor(snapshot: Snapshot, desired: DesiredState, name: str, host: str) -> bool:
    """Return whether an account of ours has its host pattern from the user that it replaces, or replaced once."""
    successors = _successors(desired)
    if name not in successors:
        return name in _leaving(snapshot, desired) and snapshot.accounts[name, host]
    hosts = replacement.hosts_of(snapshot.accounts, successors[name])
    return host in hosts or not hosts


def _leaving(snapshot: Snapshot, desired: DesiredState) -> set[str]:
    """Return the users of ours that are declared no longer."""
    kept = {MANAGER, AUDITOR, *(user.name for user in desired.users)}
    return {name for name, _ in snapshot.accounts if name in desired.accounts and name not in kept}


def _account(
    snapshot: Snapshot,
    user: str,
    kind: Any,
    authority: Authority,
    desired: DesiredState,
    needed: Sequence[str] = (),
    connections: int | None = None,
) -> list[Statement]:
    """Return what makes every account of that name one that takes tokens over TLS and nothing else.

    :param needed: host patterns that there have to be; any where there is none.
    :param connections: how many sessions each of its accounts may have, if that is declared.
    """
    how = f"IDENTIFIED WITH {PLUGIN} AS 'RDS' REQUIRE SSL"
    hosts = replacement.hosts_of(snapshot.accounts, user)
    missing = [host for host in needed or ([] if hosts else ["%"]) if host not in hosts]
    limit = connections
    if limit is None and user not in {MANAGER, AUDITOR} and (not hosts or desired.accounts.get(user) == "created"):
        limit = max(1, snapshot.room // len([*hosts, *missing]))  # together they leave room: the server counts for each
    at_once = "" if limit is None else f" WITH MAX_USER_CONNECTIONS {limit}"
    result = [
        Statement(kind, user, f"CREATE USER {account(user, host)} {how}{at_once}", authority=authority)
        for host in missing
    ]
    # ALTER keeps the grants, which DROP and CREATE would lose; the old password is gone for good.
    result += [
        Statement("adopt-user", user, f"ALTER USER {account(user, host)} {how}", False, authority)
        for host in hosts
        if not snapshot.accounts[user, host]
    ]
    result += [
        Statement("limit-connections", user, f"ALTER USER {account(user, host)}{at_once}", authority=authority)
        for host in hosts
        if limit is not None and snapshot.limits.get((user, host)) != limit
    ]
    again: Any = "enable-user" if user in desired.accounts else "adopt-user"
    return result + [
        Statement(again, user, f"ALTER USER {account(user, host)} ACCOUNT UNLOCK", authority=authority)
        for host in hosts
        if (user, host) in snapshot.logins.locked
    ]


def _privileges(snapshot: Snapshot, user: DeclaredUser, host: str, desired: DesiredState) -> Iterable[Statement]:
    holds = {
        schema: held for (name, where, schema), held in snapshot.schemas.items() if (name, where) == (user.name, host)
    }
    needs: dict[str, frozenset[str]] = {}
    for grant in user.grants_on(snapshot.databases):
        pattern = schema_pattern(grant.on)
        given = LEVELS[grant.privileges] if isinstance(grant.privileges, str) else frozenset(grant.privileges)
        needs[pattern] = needs.get(pattern, frozenset()) | given
    for pattern in sorted(needs):
        if lacks := needs[pattern] - holds.get(pattern, frozenset()):
            on = f"{identifier(pattern)}.*"
            give = f"GRANT {', '.join(sorted(lacks))} ON {on} TO {account(user.name, host)}"
            yield Statement("grant", user.name, give)
    if desired.accounts.get(user.name) == "created":
        for pattern in sorted(holds):
            if surplus := holds[pattern] - needs.get(pattern, frozenset()):
                on = f"{identifier(pattern)}.*"
                revoke = f"REVOKE {', '.join(sorted(surplus))} ON {on} FROM {account(user.name, host)}"
                yield Statement("revoke", user.name, revoke)
