"""MySQL and MariaDB: accounts and privileges, as RDS's own administrator may set them."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pymysql

from rdsiam.access import DeclaredUser
from rdsiam.audit.facts import ServerFacts
from rdsiam.connection import WORK, Limits, connect_mysql
from rdsiam.databases import Database
from rdsiam.engines import Account, Authority, Sessions, Statement, StatementFailed, Wanted, mysql_audit, mysql_auditor
from rdsiam.engines.mysql_catalog import PLUGIN, SYSTEM_SCHEMAS, is_mariadb, is_system, rows
from rdsiam.errors import ConnectionFailed, DatabaseNotReady, Refused
from rdsiam.inventory import Origin
from rdsiam.logins import AUDITOR, MANAGER, Login, Password

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
#: MariaDB can keep further ways in beside the plugin: `auth_or`.
_OTHER_WAYS_IN = "SELECT User, Host FROM mysql.global_priv WHERE JSON_EXISTS(Priv, '$.auth_or')"
#: MySQL's dual passwords.
_SECOND_PASSWORDS = "SELECT User, Host FROM mysql.user WHERE User_attributes->'$.additional_password' IS NOT NULL"
_LOCK_SECONDS = 10


@dataclass(frozen=True)
class Found:
    """What an inspection found.

    :ivar accounts: (user, host pattern) → whether it takes tokens over TLS and nothing else.
    :ivar schemas: (user, host pattern, schema pattern as granted) → privileges.
    :ivar everywhere: (user, host pattern) → global privileges.
    :ivar auditor: what there is for the auditor to read from.
    """

    databases: tuple[str, ...]
    accounts: Mapping[tuple[str, str], bool]
    schemas: Mapping[tuple[str, str, str], frozenset[str]]
    everywhere: Mapping[tuple[str, str], frozenset[str]]
    auditor: mysql_auditor.Installed


def identifier(name: str) -> str:
    """Quote an identifier. PyMySQL quotes values only; this is the one place that quotes names.

    :raises Refused: a NUL, which no MySQL identifier may hold.
    """
    if "\0" in name:
        raise Refused("a name holds a NUL character")
    return "`" + name.replace("`", "``") + "`"


def schema_pattern(name: str) -> str:
    """Escape a schema's name for GRANT, where `_` and `%` are wildcards: my_app would cover myXapp too."""
    return name.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")


class Mysql:
    """The engines `mysql` and `mariadb`, and Aurora MySQL."""

    def connect(self, database: Database, login: Login, name: str | None, limits: Limits = WORK) -> Any:  # noqa: ARG002
        """Open a session. Schemas need none of their own."""
        host, port = database.endpoint
        return connect_mysql(host, port, login, limits)

    def entry(self, database: Database, users: Sequence[DeclaredUser]) -> None:
        """Return None: one session reaches all schemas."""

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

    def existing(self, session: Any) -> frozenset[str]:
        """Return the names of all accounts."""
        return frozenset(row[0] for row in rows(session, _ACCOUNTS))

    def inspect(self, sessions: Sessions, database: Database, wanted: Wanted) -> Found:  # noqa: ARG002
        """Read accounts and privileges."""
        session = sessions.read(None)
        if rows(session, "SELECT GET_LOCK('rdsiam', %s)", [_LOCK_SECONDS]) != [(1,)]:
            raise DatabaseNotReady(f"another run of rdsiam works on {database.identifier}; retry later")
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
        return Found(
            databases=tuple(
                row[0]
                for row in rows(session, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA ORDER BY 1")
                if row[0].lower() not in SYSTEM_SCHEMAS
            ),
            accounts={(a.name, a.host): a.iam and a.tls and not a.password for a in self.accounts(session, database)},
            schemas={key: frozenset(value) for key, value in schemas.items()},
            everywhere={key: frozenset(value) for key, value in everywhere.items()},
            auditor=mysql_auditor.installed(session),
        )

    def difference(self, found: Found, wanted: Wanted) -> list[Statement]:
        """Return the statements that are missing: the manager, users, privileges."""
        _refuse_namesakes(found, wanted)
        result = _account(found, MANAGER, "create-manager", "master")
        if not found.everywhere.get((MANAGER, "%"), frozenset()) >= {*_MANAGER, "GRANT OPTION"}:
            grant = f"GRANT {', '.join(sorted(_MANAGER))} ON *.* TO {_name(MANAGER)} WITH GRANT OPTION"
            result.append(Statement("grant", MANAGER, grant, authority="master"))
        result += _account(found, AUDITOR, "create-auditor", "manager")
        result += mysql_auditor.statements(found.auditor)
        for user in wanted.users:
            result += _account(found, user.name, "create-user", "manager")
            hosts = [host for name, host in found.accounts if name == user.name] or ["%"]
            for host in sorted(hosts):
                result += _privileges(found, user, host, wanted)
        return result

    def claims(self, statements: Sequence[Statement], wanted: Wanted) -> dict[str, Origin]:
        """Return all accounts that are ours once the statements have run."""
        made = {s.target for s in statements if s.kind in {"create-manager", "create-auditor", "create-user"}}
        claims: dict[str, Origin] = dict(wanted.accounts)
        for name in made:
            claims.setdefault(name, "created")
        for user in wanted.users:
            claims.setdefault(user.name, "adopted")
        return claims

    def apply(self, sessions: Sessions, found: Found, statements: Sequence[Statement], wanted: Wanted) -> None:  # noqa: ARG002
        """Run the statements in order. Each commits by itself; each may be repeated."""
        for statement in statements:
            session = sessions.get(statement.authority, None)
            try:
                with session.cursor() as cursor:
                    cursor.execute(statement.statement)
            except pymysql.MySQLError as error:
                code, text = str(error.args[0]), str(error.args[-1])
                raise StatementFailed("the server", statement, code, text) from None

    def refuses_passwords(self, database: Database, user: str, name: str | None) -> bool:
        """Offer a random password: 1045. That there is no second way in was read from the catalogs."""
        try:
            self.connect(database, Password(user, secrets.token_urlsafe(24)), name).close()
        except ConnectionFailed as error:
            return error.stage == "login" and error.code == "1045"
        return False


def _other_ways_in(session: Any) -> set[tuple[str, str]]:
    version: str = session.get_server_info()
    if version.startswith("5.") and not is_mariadb(session):
        return set()  # neither had been invented
    return {(user, host) for user, host in rows(session, _OTHER_WAYS_IN if is_mariadb(session) else _SECOND_PASSWORDS)}


def _grantee(text: str) -> tuple[str, str]:
    """Read `'user'@'host'` as information_schema writes it; a user's name may hold an @, a host pattern never."""
    user, _, host = text.rpartition("@")
    return user[1:-1].replace("''", "'"), host[1:-1]


def _literal(value: str) -> str:
    return "'" + pymysql.converters.escape_string(value) + "'"


def _name(user: str, host: str = "%") -> str:
    return f"{_literal(user)}@{_literal(host)}"


def _refuse_namesakes(found: Found, wanted: Wanted) -> None:
    adopted = {user.name for user in wanted.users if user.adopt}
    ours = {MANAGER, AUDITOR, *(user.name for user in wanted.users)}
    for name, host in sorted(found.accounts):
        if name not in ours or name in adopted or (name in wanted.accounts and host == "%"):
            continue
        if name in wanted.accounts and wanted.accounts[name] == "adopted":
            continue
        way_out = (
            "rename or drop it, then run this again"
            if name in {MANAGER, AUDITOR}
            else "to take it over write `adopt: true`"
        )
        raise Refused(f"an account {_name(name, host)} exists that rdsiam did not make; {way_out}")


def _account(found: Found, user: str, kind: Any, authority: Authority) -> list[Statement]:
    """Return what makes every account of that name one that takes tokens over TLS and nothing else."""
    how = f"IDENTIFIED WITH {PLUGIN} AS 'RDS' REQUIRE SSL"
    hosts = sorted(host for name, host in found.accounts if name == user)
    if not hosts:
        return [Statement(kind, user, f"CREATE USER {_name(user)} {how}", authority=authority)]
    # ALTER keeps the grants, which DROP and CREATE would lose; the old password is gone for good.
    return [
        Statement("adopt-user", user, f"ALTER USER {_name(user, host)} {how}", False, authority)
        for host in hosts
        if not found.accounts[user, host]
    ]


def _privileges(found: Found, user: DeclaredUser, host: str, wanted: Wanted) -> Iterable[Statement]:
    holds = {
        schema: held for (name, where, schema), held in found.schemas.items() if (name, where) == (user.name, host)
    }
    needs: dict[str, frozenset[str]] = {}
    for grant in user.grants_on(found.databases):
        pattern = schema_pattern(grant.on)
        given = LEVELS[grant.privileges] if isinstance(grant.privileges, str) else frozenset(grant.privileges)
        needs[pattern] = needs.get(pattern, frozenset()) | given
    for pattern in sorted(needs):
        if lacks := needs[pattern] - holds.get(pattern, frozenset()):
            on = f"{identifier(pattern)}.*"
            give = f"GRANT {', '.join(sorted(lacks))} ON {on} TO {_name(user.name, host)}"
            yield Statement("grant", user.name, give)
    if wanted.accounts.get(user.name) == "created":
        for pattern in sorted(holds):
            if surplus := holds[pattern] - needs.get(pattern, frozenset()):
                on = f"{identifier(pattern)}.*"
                revoke = f"REVOKE {', '.join(sorted(surplus))} ON {on} FROM {_name(user.name, host)}"
                yield Statement("revoke", user.name, revoke)
