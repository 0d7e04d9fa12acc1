"""Rights of an account of MySQL or MariaDB, and the statements that give another account the same rights."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pymysql

from rdsiam.errors import Refused

#: A function that runs a query with its parameters and returns all rows.
Read = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
#: Name and host pattern of an account or a role; a role of MariaDB has no host.
type AccountName = tuple[str, str]
_PRIVILEGE = re.compile(r"[A-Z][A-Z_ ]{0,63}")


@dataclass(frozen=True)
class Server:
    """Properties in which servers that speak this SQL differ."""

    mariadb: bool
    version: tuple[int, ...]

    @property
    def dual(self) -> bool:
        """Whether an account can have a second password: MySQL from 8.0.14 on, MariaDB never."""
        return not self.mariadb and self.version >= (8, 0, 14)

    @property
    def longest_name(self) -> int:
        """Maximum length of a user's name."""
        return 80 if self.mariadb else 32


@dataclass(frozen=True)
class Rights:
    """Rights of an account, as the catalogs have them.

    :ivar on: (kind of object, its names…) → privileges.
    :ivar default: the roles that its sessions begin with.
    """

    on: Mapping[tuple[str, ...], frozenset[str]] = field(default_factory=dict)
    roles: frozenset[AccountName] = frozenset()
    default: frozenset[AccountName] = frozenset()


@dataclass(frozen=True)
class Step:
    """A statement, and the privileges that its user must have with GRANT OPTION; None for roles."""

    text: str
    needs: frozenset[str] | None = None


def server(version: str) -> Server:
    """Parse the version that a server reports."""
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version.removeprefix("5.5.5-"))
    return Server("MariaDB" in version, tuple(map(int, numbers.groups())) if numbers else ())


def read_rights(read: Read, server: Server, user: str, host: str) -> Rights:
    """Read the rights of an account from the catalogs: SHOW GRANTS would have to be parsed, and shows hashes.

    :param host: its host pattern; empty for a role of MariaDB.
    :raises Refused: the account has a privilege of an unknown kind.
    """
    grantee = f"'{user}'@'{host}'"
    on: dict[tuple[str, ...], set[str]] = {}

    def add(key: tuple[str, ...], privilege: str, grantable: str) -> None:
        if _PRIVILEGE.fullmatch(privilege) is None:
            raise Refused(
                f"{user} has a privilege of a kind that rdsiam can't give to another user",
                "revoke it, or keep the user as it is",
                "rights-not-grantable",
            )
        if privilege != "USAGE":
            on.setdefault(key, set()).add(privilege)
            if grantable == "YES":
                on[key].add("GRANT OPTION")

    kinds = (("USER", ""), ("SCHEMA", ", TABLE_SCHEMA"), ("TABLE", ", TABLE_SCHEMA, TABLE_NAME"))
    for kind, columns in kinds:
        query = f"SELECT PRIVILEGE_TYPE, IS_GRANTABLE{columns} FROM information_schema.{kind}_PRIVILEGES"  # noqa: S608
        for privilege, grantable, *names in read(f"{query} WHERE GRANTEE = %s", [grantee]):
            add((kind, *names), privilege, grantable)
    columns_of = "SELECT PRIVILEGE_TYPE, IS_GRANTABLE, TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME"
    query = f"{columns_of} FROM information_schema.COLUMN_PRIVILEGES WHERE GRANTEE = %s"
    for privilege, _, *names in read(query, [grantee]):
        add(("COLUMN", *names), privilege, "NO")
    procedures = "SELECT Db, Routine_name, Routine_type, Proc_priv FROM mysql.procs_priv WHERE User = %s AND Host = %s"
    for schema, name, kind, privileges in read(procedures, [user, host]):
        for privilege in filter(None, _text(privileges).upper().split(",")):
            if privilege == "GRANT":
                on.setdefault((str(kind), schema, name), set()).add("GRANT OPTION")
            else:
                add((str(kind), schema, name), privilege, "NO")
    roles, default = _roles(read, server, user, host)
    return Rights({key: frozenset(value) for key, value in on.items()}, roles, default)


def _roles(read: Read, server: Server, user: str, host: str) -> tuple[frozenset[AccountName], frozenset[AccountName]]:
    """Return the roles of an account, and the roles that its sessions begin with."""
    if server.mariadb:
        granted = "SELECT Role, '' FROM mysql.roles_mapping WHERE User = %s AND Host = %s"
        default = "SELECT default_role, '' FROM mysql.user WHERE User = %s AND Host = %s AND default_role <> ''"
    elif server.version >= (8,):
        granted = "SELECT FROM_USER, FROM_HOST FROM mysql.role_edges WHERE TO_USER = %s AND TO_HOST = %s"
        default = "SELECT DEFAULT_ROLE_USER, DEFAULT_ROLE_HOST FROM mysql.default_roles WHERE USER = %s AND HOST = %s"
    else:
        return frozenset(), frozenset()
    roles, defaults = (frozenset((name, at) for name, at in read(query, [user, host])) for query in (granted, default))
    return roles, defaults


def difference(current: Rights, desired: Rights, server: Server, name: str) -> Iterator[Step]:
    """Yield the statements that give the account `name`, quoted, the desired rights and no others."""
    for key in sorted(current.on.keys() | desired.on.keys()):
        has, needs = current.on.get(key, frozenset()), desired.on.get(key, frozenset())
        if surplus := has - needs:
            yield Step(f"REVOKE {_list(key, surplus)} ON {_object(key)} FROM {name}", surplus)
        if lacks := needs - has:
            option = " WITH GRANT OPTION" if "GRANT OPTION" in lacks else ""
            given = lacks - {"GRANT OPTION"}
            yield Step(f"GRANT {_list(key, given) if given else 'USAGE'} ON {_object(key)} TO {name}{option}", lacks)
    for role in sorted(current.roles - desired.roles):
        yield Step(f"REVOKE {_role(role)} FROM {name}")
    for role in sorted(desired.roles - current.roles):
        yield Step(f"GRANT {_role(role)} TO {name}")
    if current.default != desired.default:
        listed = ", ".join(map(_role, sorted(desired.default))) or "NONE"
        yield Step(f"SET DEFAULT ROLE {listed} {'FOR' if server.mariadb else 'TO'} {name}")


def _list(key: tuple[str, ...], privileges: Iterable[str]) -> str:
    column = f" ({identifier(key[3])})" if key[0] == "COLUMN" else ""
    return ", ".join(privilege + column for privilege in sorted(privileges))


def _object(key: tuple[str, ...]) -> str:
    kind, *names = key
    if kind == "USER":
        return "*.*"
    if kind == "SCHEMA":
        return f"{identifier(names[0])}.*"  # a pattern, escaped as granted
    routine = f"{kind} " if kind in {"FUNCTION", "PROCEDURE"} else ""
    return f"{routine}{identifier(names[0])}.{identifier(names[1])}"


def _role(role: AccountName) -> str:
    name, host = role
    return account(name, host) if host else identifier(name)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def literal(value: str) -> str:
    """Quote a value."""
    return "'" + pymysql.converters.escape_string(value) + "'"


def account(user: str, host: str = "%") -> str:
    """Quote the name of an account."""
    return f"{literal(user)}@{literal(host)}"


def identifier(name: str) -> str:
    """Quote an identifier. PyMySQL quotes values only, so names are quoted here and nowhere else.

    :raises Refused: the name contains a NUL, which no MySQL identifier may contain.
    """
    if "\0" in name:
        raise Refused("a name contains a NUL character", "rename it", "name-unsafe")
    return "`" + name.replace("`", "``") + "`"
