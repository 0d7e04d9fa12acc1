"""Privileges of the levels `readonly`, `readwrite` and `owner` on MySQL and MariaDB."""

from collections.abc import Iterable, Mapping, Sequence

from rdsiam.access.users import Grant
from rdsiam.engines.schema_names import SchemaNames

_READ = ("SELECT", "SHOW VIEW")
_WRITE = (*_READ, "INSERT", "UPDATE", "DELETE", "EXECUTE", "CREATE TEMPORARY TABLES", "LOCK TABLES")
_OWN = (
    *_WRITE, "CREATE", "DROP", "REFERENCES", "INDEX", "ALTER", "CREATE VIEW", "CREATE ROUTINE", "ALTER ROUTINE",
    "EVENT", "TRIGGER",
)  # fmt: skip
#: Privileges on a schema, which also cover objects that are created later.
LEVELS: Mapping[str, frozenset[str]] = {
    "readonly": frozenset(_READ),
    "readwrite": frozenset(_WRITE),
    "owner": frozenset(_OWN),
}
#: Only privileges that a user has can be granted: the manager needs all those of the levels, and those to create users.
MANAGER_PRIVILEGES = frozenset({*_OWN, "CREATE USER", "PROCESS", "RELOAD"})


def of(privileges: str | Sequence[str]) -> frozenset[str]:
    """Return the privileges of a level, or of a list."""
    return LEVELS[privileges] if isinstance(privileges, str) else frozenset(privileges)


def by_schema(grants: Iterable[Grant], names: SchemaNames) -> dict[str, frozenset[str]]:
    """Return all privileges of the grants on each schema, with names as the server compares them."""
    result: dict[str, frozenset[str]] = {}
    for grant in grants:
        schema = names.stored(grant.on)
        result[schema] = result.get(schema, frozenset()) | of(grant.privileges)
    return result
