"""Snapshot of a MySQL or MariaDB server, and the inspection that reads it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from rdsiam.engines.connection import MysqlSession
from rdsiam.engines.mysql import audit_procedure, disabling, replacement
from rdsiam.engines.mysql.catalog import PLUGIN, SYSTEM_SCHEMAS, is_mariadb, is_system, rows, server_version
from rdsiam.engines.mysql.grants import AccountName, server
from rdsiam.engines.protocols import DesiredState, LoginAccount, Sessions

ACCOUNTS = "SELECT User, Host, plugin, ssl_type, Super_priv, Create_user_priv FROM mysql.user"
#: MariaDB can keep further login methods besides the plugin: `auth_or`. An empty item there is the plugin itself; it
#: stays.
_OTHER_METHODS = "SELECT User, Host FROM mysql.global_priv WHERE JSON_EXISTS(Priv, '$.auth_or[*].plugin')"
#: MySQL's dual passwords.
_SECOND_PASSWORDS = "SELECT User, Host FROM mysql.user WHERE User_attributes->'$.additional_password' IS NOT NULL"
_LIMITS = "SELECT User, Host, max_user_connections FROM mysql.user"
_SCHEMA_PRIVILEGES = "SELECT GRANTEE, TABLE_SCHEMA, PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES"
_USER_PRIVILEGES = "SELECT GRANTEE, PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.USER_PRIVILEGES"


@dataclass(frozen=True)
class Snapshot:
    """The state of a server when it was inspected.

    :ivar accounts: account → whether it logs in by token over TLS, and in no other way.
    :ivar schemas: (user, host pattern, schema pattern as granted) → privileges.
    :ivar everywhere: account → global privileges.
    :ivar auditor: the audit's procedure as it is installed.
    :ivar limits: account → maximum number of concurrent sessions; 0 for any number.
    :ivar room: number of sessions that one user may have so that other users still get connections.
    :ivar activity: accounts that are locked, logged in, or own events.
    :ivar replaced: privileges of users that replace others, and of those others.
    """

    databases: tuple[str, ...]
    accounts: Mapping[AccountName, bool]
    schemas: Mapping[tuple[str, str, str], frozenset[str]]
    everywhere: Mapping[AccountName, frozenset[str]]
    auditor: audit_procedure.InstalledProcedure
    limits: Mapping[AccountName, int]
    room: int
    activity: disabling.AccountActivity
    replaced: replacement.ReplacementRights

    def hosts_of(self, user: str) -> list[str]:
        """Return the host patterns of a user's accounts, sorted."""
        return replacement.hosts_of(self.accounts, user)


def inspect(sessions: Sessions[MysqlSession], desired: DesiredState) -> Snapshot:
    """Read accounts and privileges."""
    session = sessions.read(None)
    schemas = _schema_privileges(session)
    everywhere = _global_privileges(session)
    accounts = {(a.name, a.host): a.iam and a.tls and not a.password for a in login_accounts(session)}
    return Snapshot(
        databases=tuple(
            row[0]
            for row in rows(session, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA ORDER BY 1")
            if row[0].lower() not in SYSTEM_SCHEMAS
        ),
        accounts=accounts,
        schemas=schemas,
        everywhere=everywhere,
        auditor=audit_procedure.read_installed(session),
        limits={(user, host): int(limit) for user, host, limit in rows(session, _LIMITS)},
        room=_room(int(rows(session, "SELECT @@max_connections")[0][0])),
        activity=disabling.read_activity(session),
        replaced=replacement.read_rights(
            partial(rows, session), server(server_version(session)), accounts, predecessors(desired)
        ),
    )


def login_accounts(session: MysqlSession) -> tuple[LoginAccount, ...]:
    """Return every account except the system's, sorted."""
    others = _accounts_with_other_methods(session)
    return tuple(
        LoginAccount(
            name=user,
            host=host,
            iam=plugin == PLUGIN,
            password=plugin != PLUGIN or (user, host) in others,
            tls=ssl_type != "",
            administrator="Y" in {superuser, creates_users},
        )
        for user, host, plugin, ssl_type, superuser, creates_users in sorted(rows(session, ACCOUNTS))
        if not is_system(user, host)
    )


def predecessors(desired: DesiredState) -> dict[str, str]:
    """Return the users that replace another user, each with its predecessor."""
    return {user.name: user.predecessor for user in desired.users if user.predecessor}


def _schema_privileges(session: MysqlSession) -> dict[tuple[str, str, str], frozenset[str]]:
    return _grouped(
        ((*_grantee(grantee), schema), privilege) for grantee, schema, privilege in rows(session, _SCHEMA_PRIVILEGES)
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


def _accounts_with_other_methods(session: MysqlSession) -> set[AccountName]:
    """Return the accounts that have a second login method, or a second password."""
    if server_version(session).startswith("5.") and not is_mariadb(session):
        return set()  # these versions have neither
    return {(user, host) for user, host in rows(session, _OTHER_METHODS if is_mariadb(session) else _SECOND_PASSWORDS)}


def _room(connections: int) -> int:
    """Return how many of a server's connections one user may take by default: nine of ten, and ten stay free."""
    return max(1, min(connections * 9 // 10, connections - 10))


def _grantee(text: str) -> AccountName:
    """Parse `'user'@'host'` of information_schema. A user's name may contain an @, a host pattern can't."""
    user, _, host = text.rpartition("@")
    return user[1:-1].replace("''", "'"), host[1:-1]
