"""Privileges of levels and lists on PostgreSQL, the roles that are entitled to them, and the SQL that changes them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from rdsiam.core.batches import batched
from rdsiam.engines.postgres.sql_text import text

#: Functions include aggregates and window functions. Privileges on procedures are those on functions.
ObjectType = Literal["database", "schema", "table", "sequence", "function", "procedure"]
#: Privileges on each type of object.
Privileges = Mapping[ObjectType, frozenset[str]]

_SEQUENCES_TO_WRITE = frozenset({"USAGE", "SELECT", "UPDATE"})
#: Privileges of the group roles `<database>_<level>`; on tables of administrators without those that let their holder
#: act as the owner.
LEVELS: Mapping[str, Privileges] = {
    "readonly": {
        "database": frozenset({"CONNECT"}),
        "schema": frozenset({"USAGE"}),
        "table": frozenset({"SELECT"}),
        "sequence": frozenset({"SELECT"}),
    },
    "readwrite": {
        "database": frozenset({"CONNECT", "TEMPORARY"}),
        "schema": frozenset({"USAGE"}),
        "table": frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"}),
        "sequence": _SEQUENCES_TO_WRITE,
    },
    "owner": {
        "database": frozenset({"CONNECT", "TEMPORARY", "CREATE"}),
        "schema": frozenset({"USAGE", "CREATE"}),
        "table": frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"}),
        "sequence": _SEQUENCES_TO_WRITE,
    },
}
_ON_FUNCTIONS = frozenset({"EXECUTE"})


def of(privileges: str | Sequence[str]) -> Privileges:
    """Return the privileges of a level, or of a list of privileges on tables and functions."""
    if isinstance(privileges, str):
        return LEVELS[privileges]
    listed = frozenset(privileges)
    return {
        "database": frozenset({"CONNECT"}),
        "schema": frozenset({"USAGE"}),
        "table": listed - _ON_FUNCTIONS,
        "sequence": frozenset({"USAGE"}) if "INSERT" in listed else frozenset(),
        "function": listed & _ON_FUNCTIONS,
    }


#: A privilege on all objects of a type: grantee, type, privilege, schema. The schema is None for databases, and for
#: objects in all schemas that are not excluded.
Row = tuple[str, ObjectType, str, str | None]


@dataclass(frozen=True)
class Entitlement:
    """Privileges to which one role is entitled in one database.

    :ivar schemas: the schemas to which they are limited; None for all that are not excluded.
    """

    grantee: str
    privileges: Privileges
    schemas: tuple[str, ...] | None = None

    def rows(self) -> Iterator[Row]:
        """Yield each privilege on each schema."""
        for kind, privileges in self.privileges.items():
            schemas = (None,) if kind == "database" or self.schemas is None else self.schemas
            for privilege in sorted(privileges):
                for schema in schemas:
                    yield self.grantee, kind, privilege, schema


def rows_of(entitlements: Iterable[Entitlement]) -> list[Row]:
    """Return the rows of all entitlements, sorted."""
    rows = {row for entitlement in entitlements for row in entitlement.rows()}
    return sorted(rows, key=lambda row: (*row[:3], row[3] or ""))


@dataclass(frozen=True)
class PrivilegeChange:
    """Privileges that `grantee` lacks on objects of one owner, in one database.

    :ivar objects: names of the objects, of functions followed by the types of their arguments as SQL; empty for the
        future objects of the owner.
    :ivar revoke: the grantee has these privileges and must not have them.
    :ivar schemas: of future objects: the schemas to which the change is limited; empty for all.
    :ivar closed: schemas of the objects, and of their arguments' types, that the owner may not use: the server may deny
        the change.
    """

    database: str
    owner: str
    grantee: str
    type: ObjectType
    privileges: tuple[str, ...]
    objects: tuple[tuple[str, ...], ...]
    revoke: bool = False
    schemas: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()


def statements(change: PrivilegeChange) -> Iterator[str]:
    """Yield the GRANTs or REVOKEs of a change, with at most a hundred objects or schemas each."""
    privileges = sql.SQL(", ").join(sql.SQL(privilege) for privilege in change.privileges)
    kind = sql.SQL(change.type.upper())
    verb, to = map(sql.SQL, ("REVOKE", "FROM") if change.revoke else ("GRANT", "TO"))
    grantee = sql.Identifier(change.grantee)
    if not change.objects:
        alter = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {}{} {} {} ON {}S {} {}")
        for limit in _limits(change.schemas):
            yield text(alter.format(sql.Identifier(change.owner), limit, verb, privileges, kind, to, grantee))
    for batch in batched(change.objects, 100):
        names = sql.SQL(", ").join(_name(change.type, name) for name in batch)
        yield text(sql.SQL("{} {} ON {} {} {} {}").format(verb, privileges, kind, names, to, grantee))


def _limits(schemas: Sequence[str]) -> Iterator[sql.Composable]:
    """Yield the words that limit default privileges to schemas; one empty text if they are not limited."""
    if not schemas:
        yield sql.SQL("")
    for batch in batched(schemas, 100):
        yield sql.SQL(" IN SCHEMA {}").format(sql.SQL(", ").join(map(sql.Identifier, batch)))


def _name(kind: ObjectType, name: Sequence[str]) -> sql.Composable:
    """Return the name of an object; of a function with the types of its arguments, which the server has quoted."""
    if kind not in ("function", "procedure"):
        return sql.Identifier(*name)
    *names, arguments = name
    return sql.Composed([sql.Identifier(*names), sql.SQL(f"({arguments})")])
