"""Facts of each account of a MySQL or MariaDB server, from the results of the procedure in `audit_procedure`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.mysql.audit_procedure import GLOBAL, GLOBAL_OF_MARIADB, ON_SCHEMA
from rdsiam.engines.mysql.catalog import PLUGIN, is_system
from rdsiam.engines.schema_names import PATTERNS, SchemaNames

Key = tuple[str, str]
#: Plugins with which a user logs in without a password.
_WITHOUT_PASSWORD = frozenset({PLUGIN, "unix_socket", "auth_socket", "gssapi", "authentication_kerberos"})
_SPELLED = {
    "Grant": "GRANT OPTION",
    "Show_db": "SHOW DATABASES",
    "Create_tmp_table": "CREATE TEMPORARY TABLES",
    "Repl_slave": "REPLICATION SLAVE",
    "Repl_client": "REPLICATION CLIENT",
    "Read_only_admin": "READ_ONLY ADMIN",
}
_ALL_GLOBAL = GLOBAL + GLOBAL_OF_MARIADB


def _bits(names: tuple[str, ...], *held: str) -> int:
    return sum(1 << names.index(name) for name in held)


#: With these an account makes or changes others, or acts as any.
_POWERFUL = _bits(_ALL_GLOBAL, "Grant", "Super", "Create_user", "Set_user")
#: An account that writes to the grant tables needs no GRANT.
_WRITING = {"INSERT": _bits(GLOBAL, "Insert"), "UPDATE": _bits(GLOBAL, "Update")}
_POWERFUL_ON_MYSQL = _bits(ON_SCHEMA, "Insert", "Update", "Grant")
#: Dynamic privileges of MySQL that let their holder act as, or create, any user.
_POWERFUL_DYNAMIC = frozenset({"ROLE_ADMIN", "SET_USER_ID", "SET_ANY_DEFINER"})
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
    role: str | int


class _Properties(NamedTuple):
    """Properties of an account that few accounts have.

    :ivar privileges: global privileges that are no bits of `access`.
    :ivar restricted: bits of `access` that don't hold on the schema `mysql`.
    :ivar writes: the account writes to a table by which the server decides what users may do.
    """

    privileges: tuple[str, ...] = ()
    restricted: int = 0
    writes: bool = False
    further_factors: int = 0
    locking: bool = False


_NONE = _Properties()


@dataclass(frozen=True)
class ServerState:
    """Facts about a server and its accounts that the facts of each account depend on.

    :ivar sessions: user → number of open sessions.
    :ivar owned: definer, as `user@host` → number of its routines and the like.
    :ivar properties: user, host, property, value: what few accounts have.
    :ivar mandatory: roles that every account has.
    """

    now: str
    sessions: Mapping[str, int] = field(default_factory=dict)
    owned: Mapping[str, int] = field(default_factory=dict)
    properties: Iterable[Sequence[Any]] = ()
    names: SchemaNames = PATTERNS
    mandatory: frozenset[Key] = frozenset()


@dataclass(frozen=True)
class _Context:
    """Facts about all accounts, from which the facts of each are made.

    :ivar privileges: account → schema → privileges as bits of `ON_SCHEMA`.
    :ivar groups: account → the roles that it is a direct member of.
    :ivar administrators: accounts that may create or change others, and their members.
    :ivar everyone: every account is an administrator, by a role that all have.
    :ivar patterns: user → number of its host patterns.
    :ivar shared: the fields in which all accounts of the server are alike.
    """

    server: ServerState
    privileges: Mapping[Key, Mapping[str, int]]
    groups: Mapping[Key, set[Key]]
    properties: Mapping[Key, _Properties]
    administrators: set[Key]
    everyone: bool
    patterns: Mapping[str, int]
    shared: Mapping[str, Any]


def accounts(
    methods: Iterable[Sequence[Any]],
    granted: Iterable[Sequence[Any]],
    roles: Iterable[Sequence[Any]],
    server: ServerState,
) -> tuple[AccountFacts, ...]:
    """Convert the results of the procedure to facts of every account that is not a role and not the system's.

    :param methods: see `_LoginMethod`; an account has a row for each of its login methods.
    :param granted: user, host, schema pattern, privileges as bits of `ON_SCHEMA`.
    :param roles: member's user and host, role's user and host.
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
    privileges, writers = _by_account(granted, server.names)
    groups: dict[Key, set[Key]] = {}
    for user, host, role, role_host in roles:
        groups.setdefault((user, host), set()).add((role, role_host))
    properties = _properties(server.properties)
    powerful = writers | _powerful(by_account, properties)
    administrators = _with_members(powerful, groups)
    context = _Context(
        server,
        privileges,
        groups,
        properties,
        administrators,
        everyone=bool(administrators & {_PUBLIC, *server.mandatory}),
        patterns=patterns,
        shared={} if server.names == PATTERNS else {"schema_names": server.names},
    )
    return AccountFacts.of(
        _fields(key, by_account[key], context)
        for key in sorted(by_account)
        if not (int(by_account[key][0].role) or is_system(*key))
    )


def _by_account(granted: Iterable[Sequence[Any]], names: SchemaNames) -> tuple[dict[Key, dict[str, int]], set[Key]]:
    """Group privileges by account and schema; return also the accounts that may write to the grant tables."""
    privileges: dict[Key, dict[str, int]] = {}
    writers: set[Key] = set()
    # Many accounts, few schemas.
    read: dict[str, tuple[str, bool]] = {}
    for user, host, schema, bits in granted:
        if schema not in read:
            read[schema] = names.plain(schema), names.covers(schema, "mysql")
        plain, covers_mysql = read[schema]
        on = privileges.setdefault((user, host), {})
        on[plain] = on.get(plain, 0) | bits
        if covers_mysql and bits & _POWERFUL_ON_MYSQL:
            writers.add((user, host))
    return privileges, writers


def _properties(rows: Iterable[Sequence[Any]]) -> dict[Key, _Properties]:
    """Group the properties that few accounts have by account."""
    result: dict[Key, _Properties] = {}
    for user, host, name, value in rows:
        before = result.get((user, host), _NONE)
        match name:
            case "privilege":
                after = before._replace(privileges=(*before.privileges, value))
            case "restrictions":
                after = before._replace(restricted=_restricted_on_mysql(value))
            case "writes":
                after = before._replace(writes=True)
            case "factors":
                after = before._replace(further_factors=int(value))
            case _:
                after = before._replace(locking=True)
        result[user, host] = after
    return result


def _restricted_on_mysql(restrictions: str) -> int:
    """Return the bits of global privileges that don't hold on the schema `mysql`, from `User_attributes`."""
    listed = [each["Privileges"] for each in json.loads(restrictions) if each["Database"] == "mysql"]
    return sum({_WRITING.get(privilege, 0) for privileges in listed for privilege in privileges})


def _powerful(by_account: Mapping[Key, Sequence[_LoginMethod]], properties: Mapping[Key, _Properties]) -> set[Key]:
    """Return the accounts that may create or change others by a global privilege, or by a table's."""
    writing = sum(_WRITING.values())
    powerful = {
        key
        for key, (method, *_) in by_account.items()
        if method.access and method.access & (_POWERFUL | writing & ~properties.get(key, _NONE).restricted)
    }
    return powerful | {
        key for key, each in properties.items() if each.writes or not _POWERFUL_DYNAMIC.isdisjoint(each.privileges)
    }


def _fields(key: Key, methods: Sequence[_LoginMethod], context: _Context) -> dict[str, Any]:
    """Return the facts of one account as fields of `AccountFacts`; fields with their default are left out."""
    user, host = key
    server, access = context.server, methods[0].access
    # If a user has several host patterns, its sessions don't show which of them they matched.
    certain = context.patterns[user] == 1 or user not in server.sessions
    sessions = server.sessions.get(user, 0) if certain else None
    fields: dict[str, Any] = {"name": user, "host": host, "sessions": sessions, **_login_facts(methods)}
    if context.shared:
        fields.update(context.shared)
    if sessions:
        fields["last_seen"] = server.now
    if context.everyone or key in context.administrators:
        fields["administrator"] = True
    elif access & _REPLICATION:
        fields["replication"] = True
    further: tuple[str, ...] = ()
    if key in context.properties:
        properties = context.properties[key]
        further = properties.privileges
        fields["further_factors"], fields["locking"] = properties.further_factors, properties.locking
    if access or further or key in context.privileges:
        fields["privileges"] = _spelled(access, further, context.privileges.get(key, {}))
    if server.mandatory or key in context.groups:
        roles = context.groups.get(key, set()) | server.mandatory
        fields["member_of"] = tuple(sorted({role for role, _ in roles}))
    if owned := server.owned.get(f"{user}@{host}"):
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


def _spelled(everywhere: int, further: tuple[str, ...], on: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Return privileges by schema; global privileges under `*`."""
    privileges = {schema: _names(ON_SCHEMA, bits) for schema, bits in sorted(on.items())}
    if everywhere and (names := _names(_ALL_GLOBAL, everywhere)):
        privileges["*"] = names
    if further:
        privileges["*"] = tuple(sorted({*privileges.get("*", ()), *further}))
    return privileges


@cache
def _names(names: tuple[str, ...], bits: int) -> tuple[str, ...]:
    spelled = (_SPELLED.get(name, name.replace("_", " ").upper()) for bit, name in enumerate(names) if bits >> bit & 1)
    return tuple(sorted(spelled))
