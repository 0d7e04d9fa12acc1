"""Rights of an account of MySQL or MariaDB, and the statements that give another account the same rights."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pymysql

from rdsiam.errors import Refused

#: A function that runs a query with its parameters and returns all rows.
Read = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
#: Name and host pattern of an account or a role; a role of MariaDB has no host.
AccountName: TypeAlias = tuple[str, str]
_PRIVILEGE = re.compile(r"[A-Z][A-Z_ ]{0,63}")
#: Kinds of rights in the order in which they change: a restriction is one of a global privilege that is there, and
#: REVOKE GRANT OPTION ON *.* is about all global privileges.
_FIRST, _LAST = ("USER", "DYNAMIC"), "RESTRICTION"
#: information_schema compares text without case and accents, and names of users differ by both.
OF_ACCOUNT = "WHERE CAST(GRANTEE AS BINARY) = %s"
_RESTRICTIONS = """SELECT JSON_EXTRACT(User_attributes, '$.Restrictions') FROM mysql.user
WHERE User = %s AND Host = %s AND JSON_EXTRACT(User_attributes, '$.Restrictions') IS NOT NULL"""


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
    def restricts(self) -> bool:
        """Whether a global privilege can be revoked on single schemas (`partial_revokes`): MySQL from 8.0.16 on."""
        return not self.mariadb and self.version >= (8, 0, 16)

    @property
    def longest_name(self) -> int:
        """Maximum length of a user's name."""
        return 80 if self.mariadb else 32


@dataclass(frozen=True)
class Rights:
    """Rights of an account, as the catalogs have them.

    :ivar on: (kind of object, its names…) → privileges. Each dynamic privilege of MySQL is of a kind of its own, since
        it has a GRANT OPTION of its own. `RESTRICTION` has global privileges that don't hold on a schema.
    :ivar default: the roles that its sessions begin with.
    :ivar administered: the roles that it may grant to others, by ADMIN OPTION.
    :ivar absent: keys of `on` whose table, column or routine was dropped; the server keeps the privileges.
    """

    on: Mapping[tuple[str, ...], frozenset[str]] = field(default_factory=dict)
    roles: frozenset[AccountName] = frozenset()
    default: frozenset[AccountName] = frozenset()
    administered: frozenset[AccountName] = frozenset()
    absent: frozenset[tuple[str, ...]] = frozenset()


@dataclass(frozen=True)
class Step:
    """A statement, and the privileges that its user must have with GRANT OPTION; None for roles.

    :ivar key: as in `Rights.on`; None for roles.
    """

    text: str
    needs: frozenset[str] | None = None
    key: tuple[str, ...] | None = None


def server(version: str) -> Server:
    """Parse the version that a server reports.

    Aurora has its own version in the third place (8.0.mysql_aurora.3.04.0); Aurora MySQL 3 began with 8.0.23.
    """
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+|mysql_aurora)", version.removeprefix("5.5.5-"))
    parsed = tuple(int(number) if number.isdigit() else 23 for number in numbers.groups()) if numbers else ()
    return Server("MariaDB" in version, parsed)


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
        # USAGE is no privilege, but there may be a GRANT OPTION beside it.
        held = {privilege, "GRANT OPTION" if grantable == "YES" else ""} - {"USAGE", ""}
        if held:
            on.setdefault(key, set()).update(held)

    kinds = (("USER", ""), ("SCHEMA", ", TABLE_SCHEMA"), ("TABLE", ", TABLE_SCHEMA, TABLE_NAME"))
    for kind, columns in kinds:
        query = f"SELECT PRIVILEGE_TYPE, IS_GRANTABLE{columns} FROM information_schema.{kind}_PRIVILEGES"  # noqa: S608
        for privilege, grantable, *names in read(f"{query} {OF_ACCOUNT}", [grantee]):
            dynamic = kind == "USER" and "_" in privilege
            add(("DYNAMIC", privilege) if dynamic else (kind, *names), privilege, grantable)
    columns_of = "SELECT PRIVILEGE_TYPE, IS_GRANTABLE, TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME"
    query = f"{columns_of} FROM information_schema.COLUMN_PRIVILEGES {OF_ACCOUNT}"
    for privilege, grantable, *names in read(query, [grantee]):
        add(("COLUMN", *names), privilege, "NO")
        add(("TABLE", *names[:2]), "USAGE", grantable)  # the option is the table's
    procedures = "SELECT Db, Routine_name, Routine_type, Proc_priv FROM mysql.procs_priv WHERE User = %s AND Host = %s"
    for schema, name, kind, privileges in read(procedures, [user, host]):
        for privilege in filter(None, _text(privileges).upper().split(",")):
            if privilege == "GRANT":
                on.setdefault((str(kind), schema, name), set()).add("GRANT OPTION")
            else:
                add((str(kind), schema, name), privilege, "NO")
    for [restrictions] in read(_RESTRICTIONS, [user, host]) if server.restricts else ():
        for restriction in json.loads(restrictions):
            for privilege in restriction["Privileges"]:
                add(("RESTRICTION", restriction["Database"]), privilege, "NO")
    return _with_roles(Rights({key: frozenset(value) for key, value in on.items()}), read, server, [user, host])


def _with_roles(rights: Rights, read: Read, server: Server, account: Sequence[str]) -> Rights:
    """Return the rights together with the roles of an account."""
    if server.mariadb:
        granted = "SELECT Role, '', Admin_option FROM mysql.roles_mapping WHERE User = %s AND Host = %s"
        default = "SELECT default_role, '' FROM mysql.user WHERE User = %s AND Host = %s AND default_role <> ''"
    elif server.version >= (8,):
        granted = (
            "SELECT FROM_USER, FROM_HOST, WITH_ADMIN_OPTION FROM mysql.role_edges WHERE TO_USER = %s AND TO_HOST = %s"
        )
        default = "SELECT DEFAULT_ROLE_USER, DEFAULT_ROLE_HOST FROM mysql.default_roles WHERE USER = %s AND HOST = %s"
    else:
        return rights
    roles = read(granted, account)
    held = frozenset((name, at) for name, at, _ in roles)
    return Rights(
        rights.on,
        held,
        # MariaDB keeps a default role that was dropped. On MySQL it may be a mandatory role.
        frozenset((name, at) for name, at in read(default, account) if not server.mariadb or (name, at) in held),
        frozenset((name, at) for name, at, option in roles if option == "Y"),
    )


def absent(read: Read, rights: Rights) -> frozenset[tuple[str, ...]]:
    """Return the keys of rights on tables, columns and routines that don't exist; the session must see all objects."""
    keys = {key for key in rights.on if key[0] not in {"USER", "DYNAMIC", "SCHEMA", "RESTRICTION"}}
    existing: set[tuple[str, ...]] = set()
    for schema in {key[1] for key in keys}:
        tables = "SELECT 'TABLE', TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s"
        existing.update(read(tables, [schema]))
        routines = "SELECT ROUTINE_TYPE, ROUTINE_SCHEMA, ROUTINE_NAME FROM information_schema.ROUTINES"
        existing.update(_folded(row) for row in read(f"{routines} WHERE ROUTINE_SCHEMA = %s", [schema]))
    for schema, table in {key[1:3] for key in keys if key[0] == "COLUMN" and ("TABLE", *key[1:3]) in existing}:
        columns = "SELECT 'COLUMN', TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS"
        found = read(f"{columns} WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s", [schema, table])
        existing.update(_folded(row) for row in found)
    return frozenset(key for key in keys if _folded(key) not in existing)


def _folded(key: tuple[str, ...]) -> tuple[str, ...]:
    """Return the key of a column or a routine with its name in lower case, since these have no case."""
    return key if key[0] == "TABLE" else (*key[:-1], key[-1].lower())


def difference(current: Rights, desired: Rights, server: Server, name: str) -> Iterator[Step]:
    """Yield the statements that give the account `name`, quoted, the desired rights and no others."""
    for key in sorted(current.on.keys() | desired.on.keys(), key=_order):
        has, needs = current.on.get(key, frozenset()), desired.on.get(key, frozenset())
        if key in desired.absent and "CREATE" not in needs:
            needs &= has  # GRANT would fail
        if key[0] == "RESTRICTION":
            yield from _restrict(key, current, desired, name)
        elif key[0] == "DYNAMIC":
            yield from _set_dynamic(key, has, needs, name)
        else:
            yield from _set(key, has, needs, name)
    # MySQL revokes no ADMIN OPTION by itself.
    revoked = (current.roles - desired.roles) | (current.administered - desired.administered)
    for role in sorted(revoked):
        yield Step(f"REVOKE {_role(role)} FROM {name}")
    kept = current.roles - revoked
    for role in sorted(desired.roles - kept | desired.administered - current.administered):
        option = " WITH ADMIN OPTION" if role in desired.administered else ""
        yield Step(f"GRANT {_role(role)} TO {name}{option}")
    if current.default != desired.default or current.default & revoked:
        listed = ", ".join(map(_role, sorted(desired.default))) or "NONE"
        yield Step(f"SET DEFAULT ROLE {listed} {'FOR' if server.mariadb else 'TO'} {name}")


def _order(key: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    return _FIRST.index(key[0]) if key[0] in _FIRST else 9 if key[0] == _LAST else 5, key


def _set(key: tuple[str, ...], has: frozenset[str], needs: frozenset[str], name: str) -> Iterator[Step]:
    """Yield the statements that change the privileges on one object."""
    if surplus := has - needs:
        yield Step(f"REVOKE {_list(key, surplus)} ON {_object(key)} FROM {name}", surplus, key)
    if lacks := needs - has:
        option = " WITH GRANT OPTION" if "GRANT OPTION" in lacks else ""
        given = lacks - {"GRANT OPTION"}
        yield Step(f"GRANT {_list(key, given) if given else 'USAGE'} ON {_object(key)} TO {name}{option}", lacks, key)


def _set_dynamic(key: tuple[str, ...], has: frozenset[str], needs: frozenset[str], name: str) -> Iterator[Step]:
    """Yield the statements that change one dynamic privilege, whose GRANT OPTION can't be revoked by itself."""
    if has - needs:
        yield Step(f"REVOKE {key[1]} ON *.* FROM {name}", has, key)
        has = frozenset()
    if needs - has:
        option = " WITH GRANT OPTION" if "GRANT OPTION" in needs else ""
        yield Step(f"GRANT {key[1]} ON *.* TO {name}{option}", needs, key)


def _restrict(key: tuple[str, ...], current: Rights, desired: Rights, name: str) -> Iterator[Step]:
    """Yield the statements that change which global privileges don't hold on a schema.

    A restriction ends with its global privilege. On a schema, REVOKE restricts a global privilege, and GRANT lifts the
    restriction.
    """
    everywhere = desired.on.get(("USER",), frozenset())
    has = current.on.get(key, frozenset()) & current.on.get(("USER",), frozenset()) & everywhere
    needs = desired.on.get(key, frozenset()) & everywhere
    if lifted := has - needs:
        yield Step(f"GRANT {_list(key, lifted)} ON {_object(key)} TO {name}", lifted, key)
    if restricted := needs - has:
        yield Step(f"REVOKE {_list(key, restricted)} ON {_object(key)} FROM {name}", restricted, key)


def _list(key: tuple[str, ...], privileges: Iterable[str]) -> str:
    column = f" ({identifier(key[3])})" if key[0] == "COLUMN" else ""
    return ", ".join(privilege + column for privilege in sorted(privileges))


def _object(key: tuple[str, ...]) -> str:
    kind, *names = key
    if kind == "USER":
        return "*.*"
    if kind in {"SCHEMA", "RESTRICTION"}:
        return f"{identifier(names[0])}.*"  # a pattern, escaped as granted
    routine = "" if kind in {"TABLE", "COLUMN"} else f"{kind} "
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
