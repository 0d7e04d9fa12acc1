"""Settings of PostgreSQL roles: read them, and change them to those of another role, on whose behalf a role acts."""

import re
from collections.abc import Mapping

from psycopg import sql

from rdsiam.engines.postgres.connection import PostgresSession

#: (database, or None for all databases; name of the setting) → value as the catalog has it.
Settings = Mapping[tuple[str | None, str], str]

#: Settings whose values are lists of names, which are quoted one by one.
_LISTS = frozenset({"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"})
_QUOTED_OR_PLAIN = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",]*))\s*(?:,|$)')
#: Of a database with another encoding, a value may have bytes at which the server's own functions on texts fail.
_SETTINGS = """
SELECT r.rolname, d.datname, s.setting
FROM pg_catalog.pg_db_role_setting x
JOIN pg_catalog.pg_roles r ON r.oid = x.setrole
LEFT JOIN pg_catalog.pg_database d ON d.oid = x.setdatabase
CROSS JOIN LATERAL pg_catalog.unnest(x.setconfig) WITH ORDINALITY AS s(setting, position)
WHERE r.rolname = %(role)s OR %(role)s::text IS NULL ORDER BY 1, 2 NULLS FIRST, s.position
"""


def settings(session: PostgresSession, role: str) -> dict[tuple[str | None, str], str]:
    """Read the settings that sessions of `role` begin with; empty if there is no such role."""
    return _read(session, role).get(role, {})


def all_settings(session: PostgresSession) -> dict[str, dict[tuple[str | None, str], str]]:
    """Read the settings of all roles that have any."""
    return _read(session, None)


def _read(session: PostgresSession, role: str | None) -> dict[str, dict[tuple[str | None, str], str]]:
    by_role: dict[str, dict[tuple[str | None, str], str]] = {}
    for name, database, line in session.execute(_SETTINGS, {"role": role}):
        setting, _, value = line.partition("=")
        by_role.setdefault(name, {})[database, setting] = value
    return by_role


def acting_as(role: str, settings_of_role: Settings) -> Settings:
    """Return the settings of a user that acts as `role`: those of the role, and `role` itself unless they set it."""
    return {(None, "role"): role, **settings_of_role}


def changes(role: str, current: Settings, desired: Settings) -> list[sql.Composed]:
    """Return the statements that give `role` the desired settings and no others."""
    result = []
    for database, name in sorted(current.keys() - desired.keys(), key=str):
        result.append(_alter(role, database, sql.SQL("RESET {}").format(_name(name))))
    for (database, name), value in desired.items():
        if current.get((database, name)) != value:
            # A list that is quoted as one text would be one name.
            values = elements(value) if name in _LISTS else [value]
            to = sql.SQL(", ").join(map(sql.Literal, values))
            result.append(_alter(role, database, sql.SQL("SET {} TO {}").format(_name(name), to)))
    return result


def elements(value: str) -> list[str]:
    """Return the names in a list of names as the catalog keeps it: `"$user", public`."""
    names: list[str] = []
    position = 0
    while position < len(value):
        match = _QUOTED_OR_PLAIN.match(value, position)
        assert match is not None, "the server stores only lists that it can read"
        quoted, plain = match.groups()
        names.append(plain.strip() if quoted is None else quoted.replace('""', '"'))
        position = match.end()
    return names or [""]


def _name(name: str) -> sql.Composable:
    """Quote the name of a setting; an extension's has two parts."""
    return sql.SQL(".").join(map(sql.Identifier, name.split(".")))


def _alter(role: str, database: str | None, change: sql.Composable) -> sql.Composed:
    where = sql.SQL("") if database is None else sql.SQL(" IN DATABASE {}").format(sql.Identifier(database))
    return sql.SQL("ALTER ROLE {}{} {}").format(sql.Identifier(role), where, change)
