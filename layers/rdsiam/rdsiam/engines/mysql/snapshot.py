"""Snapshot of a MySQL or MariaDB server, and the inspection that reads it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from rdsiam.engines.connection import MysqlSession
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.engines.mysql import audit_procedure, disabling, replacement
from rdsiam.engines.mysql.catalog import PLUGIN, SYSTEM_SCHEMAS, is_mariadb, is_system, rows, server_version
from rdsiam.engines.mysql.grants import AccountName, server
from rdsiam.engines.protocols import DesiredState, LoginAccount, Sessions
from rdsiam.engines.schema_names import SchemaNames

ACCOUNTS = "SELECT User, Host, plugin, ssl_type, Super_priv, Create_user_priv FROM mysql.user"
#: MariaDB can keep further login methods besides the plugin: `auth_or`. An empty item there is the plugin itself; it
#: stays.
_OTHER_METHODS = "SELECT User, Host FROM mysql.global_priv WHERE JSON_EXISTS(Priv, '$.auth_or[*].plugin')"
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
) AS defined WHERE SUBSTRING_INDEX(DEFINER, '@', 1) IN %s"""
_LIMITS = "SELECT User, Host, max_user_connections FROM mysql.user"
_SCHEMA_PRIVILEGES = "SELECT GRANTEE, TABLE_SCHEMA, PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES"
#: A server that doesn't know a variable leaves it out.
_NAMING = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('partial_revokes', 'lower_case_table_names')"
_USER_PRIVILEGES = "SELECT GRANTEE, PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.USER_PRIVILEGES"


@dataclass(frozen=True)
class LoginOptions:
    """Accounts that log in by more than their plugin, or that lock themselves.

    :ivar other_methods: accounts with a second login method, or a second password.
    :ivar factors: accounts that need further factors to log in, so that a token isn't enough, and their number.
    :ivar locking: accounts that the server locks after some failed logins.
    """

    other_methods: frozenset[AccountName] = frozenset()
    factors: Mapping[AccountName, int] = field(default_factory=dict)
    locking: frozenset[AccountName] = frozenset()

    def hinder(self, account: AccountName) -> bool:
        """Tell whether an account needs more than a token, or can be locked by anybody."""
        return account in self.factors or account in self.locking


@dataclass(frozen=True)
class Snapshot:
    """The state of a server when it was inspected.

    :ivar accounts: account → whether it logs in by token over TLS, and in no other way.
    :ivar schema_names: how the server reads names of schemas in grants.
    :ivar schemas: (user, host pattern, schema as granted) → privileges.
    :ivar everywhere: account → global privileges.
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
    schema_names: SchemaNames
    schemas: Mapping[tuple[str, str, str], frozenset[str]]
    everywhere: Mapping[AccountName, frozenset[str]]
    auditor: audit_procedure.InstalledProcedure
    limits: Mapping[AccountName, int]
    room: int
    options: LoginOptions
    definers: frozenset[str]
    activity: disabling.AccountActivity
    replaced: replacement.ReplacementRights

    def hosts_of(self, user: str) -> list[str]:
        """Return the host patterns of a user's accounts, sorted."""
        return replacement.hosts_of(self.accounts, user)


def inspect(sessions: Sessions[MysqlSession], desired: DesiredState) -> Snapshot:
    """Read accounts and privileges."""
    session = sessions.read(None)
    names = read_schema_names(session)
    schemas = _schema_privileges(session, names)
    everywhere = _global_privileges(session)
    options = _login_options(session)
    accounts = {(a.name, a.host): a.iam and a.tls and not a.password for a in _login_accounts(session, options)}
    return Snapshot(
        databases=tuple(
            row[0]
            for row in rows(session, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA ORDER BY 1")
            if row[0].lower() not in SYSTEM_SCHEMAS
        ),
        accounts=accounts,
        schema_names=names,
        schemas=schemas,
        everywhere=everywhere,
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
        for user, host, plugin, ssl_type, superuser, creates_users in sorted(rows(session, ACCOUNTS))
        if not is_system(user, host)
    )


def predecessors(desired: DesiredState) -> dict[str, str]:
    """Return the users that replace another user, each with its predecessor."""
    return {user.name: user.predecessor for user in desired.users if user.predecessor}


def read_schema_names(session: MysqlSession) -> SchemaNames:
    """Read how the server reads names of schemas in grants."""
    settings = dict(rows(session, _NAMING))
    return SchemaNames(settings.get("partial_revokes") == "ON", settings.get("lower_case_table_names", "0") != "0")


def _schema_privileges(session: MysqlSession, names: SchemaNames) -> dict[tuple[str, str, str], frozenset[str]]:
    return _grouped(
        ((*_grantee(grantee), names.stored(schema)), privilege)
        for grantee, schema, privilege in rows(session, _SCHEMA_PRIVILEGES)
    )


def _global_privileges(session: MysqlSession) -> dict[AccountName, frozenset[str]]:
    pairs: list[tuple[AccountName, str]] = []
    for grantee, privilege, grantable in rows(session, _USER_PRIVILEGES):
        account = _grantee(grantee)
        pairs.append((account, privilege))
        if grantable == "YES":
            pairs.append((account, "GRANT OPTION"))
    return _grouped(pairs)


def _grouped[Key](pairs: Iterable[tuple[Key, str]]) -> dict[Key, frozenset[str]]:
    result: dict[Key, set[str]] = {}
    for key, privilege in pairs:
        result.setdefault(key, set()).add(privilege)
    return {key: frozenset(privileges) for key, privileges in result.items()}


def _login_options(session: MysqlSession) -> LoginOptions:
    if is_mariadb(session):
        return LoginOptions(other_methods=frozenset((user, host) for user, host in rows(session, _OTHER_METHODS)))
    if not server(server_version(session)).dual:
        return LoginOptions()  # these versions have no such options
    found = rows(session, _ATTRIBUTES)
    second, locking = (frozenset((row[0], row[1]) for row in found if row[column]) for column in (2, 4))
    return LoginOptions(second, {(row[0], row[1]): int(row[3]) for row in found if row[3]}, locking)


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
