"""The audit's reading of a MySQL or MariaDB server: one call of the procedure in `audit_procedure`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import pymysql

from rdsiam.engines.connection import MysqlSession
from rdsiam.engines.facts import AccountFacts, ServerFacts
from rdsiam.engines.mysql.audit_procedure import GLOBAL, ON_SCHEMA, PROCEDURE, SCHEMA
from rdsiam.engines.mysql.catalog import PLUGIN, SYSTEM_SCHEMAS, is_system, server_version
from rdsiam.engines.protocols import QueryFailed

Key = tuple[str, str]
#: Number of results that the procedure returns; an empty result ends them.
_RESULTS = 7
#: Plugins with which a user logs in without a password.
_WITHOUT_PASSWORD = frozenset({PLUGIN, "unix_socket", "auth_socket", "gssapi", "authentication_kerberos"})
_SPELLED = {
    "Grant": "GRANT OPTION",
    "Show_db": "SHOW DATABASES",
    "Create_tmp_table": "CREATE TEMPORARY TABLES",
    "Repl_slave": "REPLICATION SLAVE",
    "Repl_client": "REPLICATION CLIENT",
}
#: A user that writes to the grant tables needs no GRANT. The last bit is MariaDB's SET USER, beyond the common ones.
_POWERFUL = sum(1 << GLOBAL.index(name) for name in ("Insert", "Update", "Grant", "Super", "Create_user")) | 1 << 30
_POWERFUL_ON_MYSQL = sum(1 << ON_SCHEMA.index(name) for name in ("Insert", "Update", "Grant"))
_REPLICATION = 1 << GLOBAL.index("Repl_slave")
#: A role of MariaDB of which all users are members.
_PUBLIC: Key = ("PUBLIC", "")


class _LoginMethod(NamedTuple):
    """One login method of an account, as the procedure returns it."""

    user: str
    host: str
    plugin: str
    empty: int
    possible: int
    second: int
    locked: str | int
    expired: int
    tls: int
    access: int
    powerful: int
    role: str | int


def audit(session: MysqlSession) -> ServerFacts:
    """Read how every account can log in; see `Engine.audit`."""
    results: list[Sequence[tuple[Any, ...]]] = []
    try:
        with session.cursor() as cursor:
            cursor.execute(f"CALL `{SCHEMA}`.`{PROCEDURE}`()")
            results.append(cursor.fetchall())
            while cursor.nextset():
                results.append(cursor.fetchall())
    except pymysql.MySQLError as error:
        code = str(error.args[0]) if error.args else None
        raise QueryFailed(code, str(error.args[-1]) if error.args else type(error).__name__) from None
    if len(results) < _RESULTS:
        raise QueryFailed(None, f"{SCHEMA}.{PROCEDURE} is not rdsiam's procedure; onboard the database again")
    server, methods, granted, roles, schemas, sessions, owned = results[:_RESULTS]
    secure, now = server[0]
    return ServerFacts(
        # MariaDB greets with a prefix, so that old clients of MySQL accept it.
        version=server_version(session).removeprefix("5.5.5-"),
        tls_enforced=bool(secure),
        databases=tuple(sorted(row[0] for row in schemas if row[0].lower() not in SYSTEM_SCHEMAS)),
        accounts=accounts(methods, granted, roles, dict(sessions), dict(owned), now),
    )


@dataclass(frozen=True)
class _Context:
    """Facts about all accounts that the facts of one account depend on.

    :ivar privileges: account → schema → privileges as bits of `ON_SCHEMA`.
    :ivar groups: account → the roles that it is a direct member of.
    :ivar administrators: accounts that may create or change others, and their members.
    :ivar patterns: user → number of its host patterns.
    :ivar sessions: user → number of open sessions.
    :ivar owned: definer, as `user@host` → number of its routines and the like.
    """

    privileges: Mapping[Key, Mapping[str, int]]
    groups: Mapping[Key, set[Key]]
    administrators: set[Key]
    patterns: Mapping[str, int]
    sessions: Mapping[str, int]
    owned: Mapping[str, int]
    now: str


def accounts(
    methods: Iterable[Sequence[Any]],
    granted: Iterable[Sequence[Any]],
    roles: Iterable[Sequence[Any]],
    sessions: Mapping[str, int],
    owned: Mapping[str, int],
    now: str,
) -> tuple[AccountFacts, ...]:
    """Convert the results of the procedure to facts of every account that is not a role and not the system's.

    :param methods: see `_LoginMethod`; an account has a row for each of its login methods.
    :param granted: user, host, schema pattern, privileges as bits of `ON_SCHEMA`.
    :param roles: member's user and host, role's user and host.
    :param sessions: user → number of open sessions.
    :param owned: definer, as `user@host` → number of its routines and the like.
    """
    by_account: dict[Key, list[_LoginMethod]] = {}
    patterns: dict[str, int] = {}
    for row in methods:
        method = _LoginMethod(*row)
        key = (method.user, method.host)
        if key not in by_account:
            by_account[key] = []
            patterns[method.user] = patterns.get(method.user, 0) + 1
        by_account[key].append(method)
    privileges = _by_account(granted)
    groups: dict[Key, set[Key]] = {}
    for user, host, role, role_host in roles:
        groups.setdefault((user, host), set()).add((role, role_host))
    administrators = _administrators(by_account, privileges, groups)
    context = _Context(privileges, groups, administrators, patterns, sessions, owned, now)
    return AccountFacts.of(
        _fields(key, by_account[key], context)
        for key in sorted(by_account)
        if not (int(by_account[key][0].role) or is_system(*key))
    )


def _by_account(granted: Iterable[Sequence[Any]]) -> dict[Key, dict[str, int]]:
    """Group privileges by account and schema."""
    privileges: dict[Key, dict[str, int]] = {}
    for user, host, schema, bits in granted:
        # An escaped `_` is that character alone, a bare `_` is any character; both cover the schema of that name.
        plain = schema.replace("\\_", "_").replace("\\%", "%") if "\\" in schema else schema
        on = privileges.setdefault((user, host), {})
        on[plain] = on.get(plain, 0) | bits
    return privileges


def _administrators(
    by_account: Mapping[Key, Sequence[_LoginMethod]],
    privileges: Mapping[Key, Mapping[str, int]],
    groups: Mapping[Key, set[Key]],
) -> set[Key]:
    """Return the accounts that may create or change others, and their members."""
    powerful = {key for key, (method, *_) in by_account.items() if method.access & _POWERFUL or method.powerful}
    powerful |= {
        key
        for key, on in privileges.items()
        if any(schema.lower() in {"mysql", "%"} and bits & _POWERFUL_ON_MYSQL for schema, bits in on.items())
    }
    return _with_members(powerful, groups)


def _fields(key: Key, methods: Sequence[_LoginMethod], context: _Context) -> dict[str, Any]:
    """Return the facts of one account as fields of `AccountFacts`; fields with their default are left out."""
    user, host = key
    access = methods[0].access
    # If a user has several host patterns, its sessions don't show which of them they matched.
    certain = context.patterns[user] == 1 or user not in context.sessions
    sessions = context.sessions.get(user, 0) if certain else None
    fields: dict[str, Any] = {"name": user, "host": host, "sessions": sessions, **_login_facts(methods)}
    if sessions:
        fields["last_seen"] = context.now
    if key in context.administrators or _PUBLIC in context.administrators:
        fields["administrator"] = True
    elif access & _REPLICATION:
        fields["replication"] = True
    if access or key in context.privileges:
        fields["privileges"] = _spelled(access, context.privileges.get(key, {}))
    if key in context.groups:
        fields["member_of"] = tuple(sorted({role for role, _ in context.groups[key]}))
    if owned := context.owned.get(f"{user}@{host}"):
        fields["owns"] = owned
    return fields


def _login_facts(methods: Sequence[_LoginMethod]) -> dict[str, Any]:
    """Return the fields about how an account logs in."""
    first = methods[0]
    iam = empty = password = other = usable = False
    for method in methods:
        token = method.plugin == PLUGIN
        works = token or bool(method.empty or method.possible)
        iam |= token
        empty |= bool(method.empty)
        usable |= works
        other |= works and not token
        password |= works and method.plugin not in _WITHOUT_PASSWORD
    second, locked = bool(first.second), bool(int(first.locked))
    return {
        "iam": iam,
        "password": password or second,
        "second_password": iam and (second or other),
        "empty_password": empty,
        "plugin": first.plugin,
        "locked": locked,
        "expired": bool(first.expired),
        "unusable": locked or not usable,
        "tls": bool(first.tls),
    }


def _with_members(roles: set[Key], groups: Mapping[Key, set[Key]]) -> set[Key]:
    """Return `roles` and all their members, direct or indirect."""
    members: dict[Key, list[Key]] = {}
    for member, joined in groups.items():
        for role in joined:
            members.setdefault(role, []).append(member)
    result, waiting = set(roles), list(roles)
    while waiting:
        for member in members.get(waiting.pop(), ()):
            if member not in result:
                result.add(member)
                waiting.append(member)
    return result


def _spelled(everywhere: int, on: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Return privileges by schema; global privileges under `*`."""
    privileges = {schema: _names(ON_SCHEMA, bits) for schema, bits in sorted(on.items())}
    if everywhere and (names := _names(GLOBAL, everywhere)):
        privileges["*"] = names
    return privileges


@cache
def _names(names: tuple[str, ...], bits: int) -> tuple[str, ...]:
    spelled = (_SPELLED.get(name, name.replace("_", " ").upper()) for bit, name in enumerate(names) if bits >> bit & 1)
    return tuple(sorted(spelled))
