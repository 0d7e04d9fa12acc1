"""Snapshot of a MySQL or MariaDB server, and the inspection that reads it."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.engines.mysql import audit_procedure, disabling, replacement
from rdsiam.engines.mysql.catalog import (
    EXPIRED_ON_MARIADB,
    PLUGIN,
    SYSTEM_SCHEMAS,
    is_mariadb,
    is_system,
    rows,
    server_version,
    without_roles,
)
from rdsiam.engines.mysql.connection import MysqlSession
from rdsiam.engines.mysql.grants import AccountName, server
from rdsiam.engines.protocols import DesiredState, LoginAccount, Sessions
from rdsiam.engines.schema_names import SchemaNames

Key = TypeVar("Key")
ACCOUNTS = "SELECT User, Host, plugin, ssl_type, Super_priv, Create_user_priv FROM mysql.user"
#: MariaDB can keep further login methods besides the plugin: `auth_or`. An empty item there is the plugin itself; it
#: stays.
_OTHER_METHODS = "SELECT User, Host FROM mysql.global_priv WHERE JSON_EXISTS(Priv, '$.auth_or[*].plugin')"
#: Accounts of MariaDB that can expire, and whether they have.
_EXPIRING = f"""SELECT a.User, a.Host, {EXPIRED_ON_MARIADB} FROM mysql.global_priv AS a
WHERE COALESCE(JSON_VALUE(a.Priv, '$.password_lifetime'), -1) <> 0 OR JSON_VALUE(a.Priv, '$.password_last_changed') = 0
"""  # noqa: S608 a constant
#: MySQL's dual passwords, further factors, and locking by failed logins. Without the values, which hold hashes.
_ATTRIBUTES = """SELECT User, Host, JSON_CONTAINS_PATH(User_attributes, 'one', '$.additional_password'),
    COALESCE(JSON_LENGTH(User_attributes, '$.multi_factor_authentication'), 0),
    JSON_CONTAINS_PATH(User_attributes, 'one', '$.Password_locking')
FROM mysql.user WHERE User_attributes IS NOT NULL"""
#: MySQL from 8.0.22 on lets only the privilege SET_ANY_DEFINER, formerly SET_USER_ID, create a user that stored objects
#: have as their definer already.
_DEFINERS = """SELECT DISTINCT DEFINER FROM (
    SELECT DEFINER FROM information_schema.ROUTINES UNION ALL SELECT DEFINER FROM information_schema.EVENTS
    UNION ALL SELECT DEFINER FROM information_schema.TRIGGERS UNION ALL SELECT DEFINER FROM information_schema.VIEWS
) AS defined WHERE LEFT(DEFINER, CHAR_LENGTH(DEFINER) - LOCATE('@', REVERSE(DEFINER))) IN %s"""
#: Restrictions are those of `partial_revokes`; X509 or a subject or issuer is a certificate that clients must have.
_RESTRICTIONS = """SELECT User, Host, JSON_EXTRACT(User_attributes, '$.Restrictions')
FROM mysql.user WHERE JSON_CONTAINS_PATH(User_attributes, 'one', '$.Restrictions')"""
_CERTIFICATES = """SELECT User, Host FROM mysql.user
WHERE ssl_type = 'X509' OR (ssl_type = 'SPECIFIED' AND (LENGTH(x509_subject) > 0 OR LENGTH(x509_issuer) > 0))"""
#: Accounts as CREATE ROLE makes them. One that was given a password or was unlocked is a user too.
_ROLES = """SELECT User, Host FROM mysql.user
WHERE account_locked = 'Y' AND password_expired = 'Y' AND authentication_string = ''"""
_LIMITS = "SELECT User, Host, max_user_connections FROM mysql.user"
_SCHEMA_PRIVILEGES = (
    "SELECT GRANTEE, TABLE_SCHEMA, PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.SCHEMA_PRIVILEGES"
)
#: A server that doesn't know a variable leaves it out.
_NAMING = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('partial_revokes', 'lower_case_table_names')"
_USER_PRIVILEGES = "SELECT GRANTEE, PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.USER_PRIVILEGES"


@dataclass(frozen=True)
class LoginOptions:
    """Accounts that log in by more than their plugin, or that lock themselves.

    :ivar other_methods: accounts with a second login method, or a second password.
    :ivar factors: accounts that need further factors to log in, so that a token isn't enough, and their number.
    :ivar locking: accounts that the server locks after some failed logins.
    :ivar certified: accounts that need a client certificate, which RDS issues to nobody.
    :ivar expiring: accounts of MariaDB that can do nothing once their password would have expired, also if they have
        none; and whether that time has come.
    """

    other_methods: frozenset[AccountName] = frozenset()
    factors: Mapping[AccountName, int] = field(default_factory=dict)
    locking: frozenset[AccountName] = frozenset()
    certified: frozenset[AccountName] = frozenset()
    expiring: Mapping[AccountName, bool] = field(default_factory=dict)

    def hinder(self, account: AccountName) -> bool:
        """Tell whether an account needs more than a token, or can be locked by anybody."""
        return account in self.factors or account in self.locking or account in self.certified


@dataclass(frozen=True)
class Snapshot:
    """The state of a server when it was inspected.

    :ivar accounts: account → whether it logs in by token over TLS, and in no other way.
    :ivar roles: accounts of MySQL that are roles: they can't log in, and are granted to others.
    :ivar schema_names: how the server reads names of schemas in grants.
    :ivar schemas: (user, host pattern, schema as granted) → privileges.
    :ivar everywhere: account → global privileges.
    :ivar restricted: (user, host pattern, schema) → global privileges that don't hold there.
    :ivar members: account → roles that it is a direct member of.
    :ivar ungrantable: declared schemas on which the server can't grant anything, since their names are too long.
    :ivar auditor: the audit's procedure as it is installed.
    :ivar limits: account → maximum number of concurrent sessions; 0 for any number.
    :ivar room: number of sessions that one user may have so that other users still get connections.
    :ivar options: accounts that log in by more than their plugin, or that lock themselves.
    :ivar definers: definers of stored objects, as `user@host pattern`, that have the name of a user without an account.
    :ivar activity: accounts that are locked, logged in, or own events.
    :ivar replaced: privileges of users that replace others, and of those others.
    """

    databases: tuple[str, ...]
    accounts: Mapping[AccountName, bool]
    roles: frozenset[AccountName]
    schema_names: SchemaNames
    schemas: Mapping[tuple[str, str, str], frozenset[str]]
    everywhere: Mapping[AccountName, frozenset[str]]
    restricted: Mapping[tuple[str, str, str], frozenset[str]]
    members: Mapping[AccountName, frozenset[AccountName]]
    ungrantable: frozenset[str]
    auditor: audit_procedure.InstalledProcedure
    limits: Mapping[AccountName, int]
    room: int
    options: LoginOptions
    definers: frozenset[str]
    activity: disabling.AccountActivity
    replaced: replacement.ReplacementRights

    @property
    def mariadb(self) -> bool:
        """Whether the server is MariaDB."""
        return self.replaced.server.mariadb

    def hosts_of(self, user: str) -> list[str]:
        """Return the host patterns of a user's accounts, sorted."""
        return replacement.hosts_of(self.accounts, user)

    def held_everywhere(self, user: str) -> frozenset[str]:
        """Return the global privileges of all accounts of a user, also through roles."""
        waiting: list[AccountName] = [(user, host) for host in self.hosts_of(user)]
        holders: set[AccountName] = set()
        while waiting:
            holder = waiting.pop()
            if holder not in holders:
                holders.add(holder)
                waiting += self.members.get(holder, ())
        return frozenset(privilege for holder in holders for privilege in self.everywhere.get(holder, ()))


def inspect(sessions: Sessions[MysqlSession], desired: DesiredState) -> Snapshot:
    """Read accounts and privileges."""
    session = sessions.read(None)
    names = read_schema_names(session)
    granted = _schema_privileges(session, names)
    everywhere = _global_privileges(session)
    options = _login_options(session)
    accounts = {(a.name, a.host): a.iam and a.tls and not a.password for a in _login_accounts(session, options)}
    databases = schemas(session)
    return Snapshot(
        databases=databases,
        accounts=accounts,
        roles=_roles(session),
        schema_names=names,
        schemas=granted,
        everywhere=everywhere,
        restricted=_restrictions(session),
        members=_members(session),
        ungrantable=frozenset(
            grant.on for user in desired.users for grant in user.grants_on(databases) if not names.grantable(grant.on)
        ),
        auditor=audit_procedure.read_installed(session),
        limits={(user, host): int(limit) for user, host, limit in rows(session, _LIMITS)},
        room=_room(int(rows(session, "SELECT @@max_connections")[0][0])),
        options=options,
        definers=_definers(session, accounts, desired),
        activity=disabling.read_activity(session),
        replaced=replacement.read_rights(
            partial(rows, session), server(server_version(session)), names, accounts, predecessors(desired)
        ),
    )


def schemas(session: MysqlSession) -> tuple[str, ...]:
    """Return the schemas of the server without the system's, sorted."""
    found = rows(session, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA ORDER BY 1")
    return tuple(row[0] for row in found if row[0].lower() not in SYSTEM_SCHEMAS)


def login_accounts(session: MysqlSession) -> tuple[LoginAccount, ...]:
    """Return every account except the system's, sorted."""
    return _login_accounts(session, _login_options(session))


def _login_accounts(session: MysqlSession, options: LoginOptions) -> tuple[LoginAccount, ...]:
    return tuple(
        LoginAccount(
            name=user,
            host=host,
            iam=plugin == PLUGIN,
            password=plugin != PLUGIN or (user, host) in options.other_methods,
            tls=ssl_type != "",
            administrator="Y" in {superuser, creates_users},
        )
        for user, host, plugin, ssl_type, superuser, creates_users in sorted(
            without_roles(session, rows(session, ACCOUNTS))
        )
        if not is_system(user, host)
    )


def _roles(session: MysqlSession) -> frozenset[AccountName]:
    """Return the accounts that are roles; none on MariaDB, whose roles are no accounts, and before MySQL 8."""
    properties = server(server_version(session))
    if properties.mariadb or properties.version < (8,):
        return frozenset()
    return frozenset((user, host) for user, host in rows(session, _ROLES))


def predecessors(desired: DesiredState) -> dict[str, str]:
    """Return the users that replace another user, each with its predecessor."""
    return {user.name: user.predecessor for user in desired.users if user.predecessor}


def read_schema_names(session: MysqlSession) -> SchemaNames:
    """Read how the server reads names of schemas in grants."""
    settings = dict(rows(session, _NAMING))
    return SchemaNames(settings.get("partial_revokes") == "ON", settings.get("lower_case_table_names", "0") != "0")


def _schema_privileges(session: MysqlSession, names: SchemaNames) -> dict[tuple[str, str, str], frozenset[str]]:
    return _grouped(
        ((*_grantee(grantee), names.stored(schema)), held)
        for grantee, schema, privilege, grantable in rows(session, _SCHEMA_PRIVILEGES)
        for held in (privilege, "GRANT OPTION" if grantable == "YES" else "USAGE")
        if held != "USAGE"
    )


def _global_privileges(session: MysqlSession) -> dict[AccountName, frozenset[str]]:
    pairs: list[tuple[AccountName, str]] = []
    for grantee, privilege, grantable in rows(session, _USER_PRIVILEGES):
        account = _grantee(grantee)
        pairs.append((account, privilege))
        if grantable == "YES":
            pairs.append((account, "GRANT OPTION"))
    return _grouped(pairs)


def _members(session: MysqlSession) -> dict[AccountName, frozenset[AccountName]]:
    properties = server(server_version(session))
    if properties.mariadb:
        query = "SELECT User, Host, Role, '' FROM mysql.roles_mapping"
    elif properties.version >= (8,):
        query = "SELECT TO_USER, TO_HOST, FROM_USER, FROM_HOST FROM mysql.role_edges"
    else:
        return {}
    result: dict[AccountName, set[AccountName]] = {}
    for user, host, role, role_host in rows(session, query):
        result.setdefault((user, host), set()).add((role, role_host))
    return {member: frozenset(roles) for member, roles in result.items()}


def _restrictions(session: MysqlSession) -> dict[tuple[str, str, str], frozenset[str]]:
    if not server(server_version(session)).restricts:
        return {}
    return {
        (user, host, each["Database"]): frozenset(each["Privileges"])
        for user, host, text in rows(session, _RESTRICTIONS)
        for each in json.loads(text)
    }


def _grouped(pairs: Iterable[tuple[Key, str]]) -> dict[Key, frozenset[str]]:
    result: dict[Key, set[str]] = {}
    for key, privilege in pairs:
        result.setdefault(key, set()).add(privilege)
    return {key: frozenset(privileges) for key, privileges in result.items()}


def _login_options(session: MysqlSession) -> LoginOptions:
    certified = frozenset((user, host) for user, host in rows(session, _CERTIFICATES))
    if is_mariadb(session):
        other_methods = frozenset((user, host) for user, host in rows(session, _OTHER_METHODS))
        expiring = {(user, host): bool(expired) for user, host, expired in rows(session, _EXPIRING)}
        return LoginOptions(other_methods, certified=certified, expiring=expiring)
    if not server(server_version(session)).dual:
        return LoginOptions(certified=certified)  # these versions have no other such options
    found = rows(session, _ATTRIBUTES)
    second, locking = (frozenset((row[0], row[1]) for row in found if row[column]) for column in (2, 4))
    return LoginOptions(second, {(row[0], row[1]): int(row[3]) for row in found if row[3]}, locking, certified)


def _definers(session: MysqlSession, accounts: Collection[AccountName], desired: DesiredState) -> frozenset[str]:
    """Return the definers of stored objects that have the name of a user without an account.

    Reading them costs time, so it is done only before an account is created.
    """
    successors = predecessors(desired)
    # A successor gets an account for each host pattern of its predecessor.
    hosts: dict[str, set[str]] = {}
    for name, host in accounts:
        hosts.setdefault(name, set()).add(host)
    nowhere: set[str] = set()
    missing = [
        name
        for name in (MANAGER, AUDITOR, *(user.name for user in desired.users))
        if name not in hosts or (name in successors and hosts.get(successors[name], nowhere) - hosts[name])
    ]
    if not missing or is_mariadb(session) or server(server_version(session)).version < (8, 0, 22):
        return frozenset()
    return frozenset(row[0] for row in rows(session, _DEFINERS, [missing]))


def _room(connections: int) -> int:
    """Return how many of a server's connections one user may take by default: nine of ten, and ten stay free."""
    return max(1, min(connections * 9 // 10, connections - 10))


def _grantee(text: str) -> AccountName:
    """Parse `'user'@'host'` of information_schema. A user's name may contain an @, a host pattern can't."""
    user, _, host = text.rpartition("@")
    return user[1:-1].replace("''", "'"), host[1:-1]
