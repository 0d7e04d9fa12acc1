"""What the audit reads of a MySQL or MariaDB server: one call of the procedure that `mysql_auditor` describes."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import pymysql

from rdsiam.engines.facts import AccountFacts, ServerFacts
from rdsiam.engines.mysql.audit_procedure import GLOBAL, ON_SCHEMA, PROCEDURE, SCHEMA
from rdsiam.engines.mysql.catalog import PLUGIN, SYSTEM_SCHEMAS, is_system
from rdsiam.engines.protocols import QueryFailed

Key = tuple[str, str]
#: What the procedure returns, one after the other; an empty result ends them.
_RESULTS = 7
#: Plugins by which one doesn't log in with a password.
_WITHOUT_PASSWORD = frozenset({PLUGIN, "unix_socket", "auth_socket", "gssapi", "authentication_kerberos"})
_SPELLED = {
    "Grant": "GRANT OPTION",
    "Show_db": "SHOW DATABASES",
    "Create_tmp_table": "CREATE TEMPORARY TABLES",
    "Repl_slave": "REPLICATION SLAVE",
    "Repl_client": "REPLICATION CLIENT",
}
#: Whoever writes to the grant tables needs no GRANT. The last one is MariaDB's SET USER, beyond the common ones.
_MIGHTY = sum(1 << GLOBAL.index(name) for name in ("Insert", "Update", "Grant", "Super", "Create_user")) | 1 << 30
_MIGHTY_ON_MYSQL = sum(1 << ON_SCHEMA.index(name) for name in ("Insert", "Update", "Grant"))
_REPLICATION = 1 << GLOBAL.index("Repl_slave")
#: Everybody is a member of this role of MariaDB.
_PUBLIC: Key = ("PUBLIC", "")


class _Way(NamedTuple):
    """One way into an account, as the procedure returns it."""

    user: str
    host: str
    plugin: str
    empty: int
    possible: int
    second: int
    locked: Any
    expired: int
    tls: int
    access: int
    mighty: int
    role: Any


def audit(session: Any) -> ServerFacts:
    """Read how every account can log in; see `Engine.audit`."""
    results = []
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
        raise QueryFailed(None, f"{SCHEMA}.{PROCEDURE} is not the procedure that onboarding makes; onboard it again")
    server, ways, granted, roles, schemas, sessions, owned = results[:_RESULTS]
    secure, now = server[0]
    return ServerFacts(
        # MariaDB greets with a prefix, so that old clients of MySQL accept it.
        version=session.get_server_info().removeprefix("5.5.5-"),
        tls_enforced=bool(secure),
        databases=tuple(sorted(row[0] for row in schemas if row[0].lower() not in SYSTEM_SCHEMAS)),
        accounts=accounts(ways, granted, roles, dict(sessions), dict(owned), now),
    )


def accounts(
    ways: Iterable[Sequence[Any]],
    granted: Iterable[tuple[str, str, str, int]],
    roles: Iterable[tuple[str, str, str, str]],
    sessions: Mapping[str, int],
    owned: Mapping[str, int],
    now: str,
) -> tuple[AccountFacts, ...]:
    """Make facts of what the procedure returned: every account that is no role and not the system's.

    :param ways: see `_Way`; an account has as many as there are ways in.
    :param granted: user, host, schema pattern, privileges as bits of `ON_SCHEMA`.
    :param roles: member's user and host, role's user and host.
    :param sessions: open ones, by user.
    :param owned: routines and the like, by `user@host` of their definer.
    """
    by_account: dict[Key, list[_Way]] = {}
    for row in ways:
        way = _Way(*row)
        by_account.setdefault((way.user, way.host), []).append(way)
    privileges: dict[Key, dict[str, int]] = {}
    for user, host, schema, bits in granted:
        # An escaped `_` is that character alone, a bare one is any; both cover the schema of that name.
        plain = schema.replace("\\_", "_").replace("\\%", "%") if "\\" in schema else schema
        on = privileges.setdefault((user, host), {})
        on[plain] = on.get(plain, 0) | bits
    groups: dict[Key, set[Key]] = {}
    for user, host, role, role_host in roles:
        groups.setdefault((user, host), set()).add((role, role_host))
    mighty = {key for key, (way, *_) in by_account.items() if way.access & _MIGHTY or way.mighty}
    mighty |= {
        key
        for key, on in privileges.items()
        if any(schema.lower() in {"mysql", "%"} and bits & _MIGHTY_ON_MYSQL for schema, bits in on.items())
    }
    administrators = _with_members(mighty, groups)
    everybody = _PUBLIC in administrators
    patterns: dict[str, int] = {}
    for user, _host in by_account:
        patterns[user] = patterns.get(user, 0) + 1
    found = []
    for key in sorted(by_account):
        user, host = key
        of_it = by_account[key]
        if int(of_it[0].role) or is_system(user, host):
            continue
        # Of several patterns for one user it can't be told which one a session matched.
        open_now = sessions.get(user, 0) if patterns[user] == 1 or user not in sessions else None
        fields = {"name": user, "host": host, "sessions": open_now, **_ways(of_it)}
        if open_now:
            fields["last_seen"] = now
        if everybody or key in administrators:
            fields["administrator"] = True
        elif of_it[0].access & _REPLICATION:
            fields["replication"] = True
        if of_it[0].access or key in privileges:
            fields["privileges"] = _spelled(of_it[0].access, privileges.get(key, {}))
        if key in groups:
            fields["member_of"] = tuple(sorted({role for role, _ in groups[key]}))
        if definer := owned.get(f"{user}@{host}"):
            fields["owns"] = definer
        found.append(AccountFacts.of(fields))
    return tuple(found)


def _ways(ways: Sequence[_Way]) -> dict[str, Any]:
    """Return the fields that tell how one logs in."""
    first = ways[0]
    iam = empty = password = other = usable = False
    for way in ways:
        token = way.plugin == PLUGIN
        works = token or bool(way.empty or way.possible)
        iam |= token
        empty |= bool(way.empty)
        usable |= works
        other |= works and not token
        password |= works and way.plugin not in _WITHOUT_PASSWORD
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
    """Return `roles` and all their members, direct or not."""
    members: dict[Key, list[Key]] = {}
    for member, of in groups.items():
        for role in of:
            members.setdefault(role, []).append(member)
    found, waiting = set(roles), list(roles)
    while waiting:
        for member in members.get(waiting.pop(), ()):
            if member not in found:
                found.add(member)
                waiting.append(member)
    return found


def _spelled(everywhere: int, on: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Return privileges by schema; those on everything under `*`."""
    held = {schema: _names(ON_SCHEMA, bits) for schema, bits in sorted(on.items())}
    if everywhere and (names := _names(GLOBAL, everywhere)):
        held["*"] = names
    return held


@cache
def _names(names: tuple[str, ...], bits: int) -> tuple[str, ...]:
    spelled = (_SPELLED.get(name, name.replace("_", " ").upper()) for bit, name in enumerate(names) if bits >> bit & 1)
    return tuple(sorted(spelled))
