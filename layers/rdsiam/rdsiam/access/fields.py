"""The single values of access.yaml: which names, roles, privileges and times are good, and why others are not."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)

from rdsiam.access.document import Path
from rdsiam.aws.rds_models import Database, Family

#: For every model: nothing unknown, nothing converted, nothing changed, and no error that shows a value.
STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

#: The databases and schemas that servers, and rdsiam, keep for themselves; lower case.
SYSTEM_DATABASES = frozenset(
    {"template0", "template1", "rdsadmin", "rdsiam"}
    | {"mysql", "sys", "information_schema", "performance_schema", "innodb"}
)

#: SQL privileges that access.yaml may name. None lets its holder pass on rights, or act outside the database.
SQL_PRIVILEGES: dict[Family, frozenset[str]] = {
    "postgres": frozenset(
        {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"} | {"EXECUTE", "MAINTAIN"}
    ),
    "mysql": frozenset(
        {"SELECT", "INSERT", "UPDATE", "DELETE", "EXECUTE", "REFERENCES", "TRIGGER"}
        | {"CREATE TEMPORARY TABLES", "LOCK TABLES", "SHOW VIEW"}
    ),
}
#: Those of all engines.
ALL_PRIVILEGES = SQL_PRIVILEGES["postgres"] | SQL_PRIVILEGES["mysql"]

#: SQL privileges that a level has on every engine.
COVERED = {
    "readonly": frozenset({"SELECT"}),
    "readwrite": frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"}),
    "owner": ALL_PRIVILEGES - {"EXECUTE", "MAINTAIN"},
}

#: Full match of a role's ARN: groups partition, account and name. IAM compares case, and so do we.
ROLE_PATTERN = (
    r"arn:(?P<partition>aws(?:-[a-z]{1,10}){0,3}):iam::(?P<account>[0-9]{12})"
    r":role/([A-Za-z0-9+=,.@_-]{1,128}/){0,16}(?P<name>[A-Za-z0-9+=,.@_-]{1,64})"
)
#: Of users that take tokens: characters that mean nothing else in an ARN or in a policy.
_NAME_PATTERN = "[A-Za-z_][A-Za-z0-9_.@-]*"
_PREFIX_PATTERN = "[A-Za-z_][A-Za-z0-9_.-]{0,19}"
_RESERVED = ("rds", "pg_", "mysql.", "mariadb.", "aws_")
#: Prefixes that no user with a password has: those of accounts of RDS, the engines and rdsiam.
_RESERVED_EXISTING = ("rds_", "rdsiam", "pg_", "mysql.", "mariadb.")
_SYSTEM_ACCOUNTS = frozenset({"rdsadmin", "rdsrepladmin", "rdstopmgr", "rdsproxyadmin"})
#: `public` and `none` are words of PostgreSQL's GRANT.
_RESERVED_NAMES = {"public", "none"}
#: On PostgreSQL in bytes, else in characters. From "IAM database authentication" and the engines' manuals.
_LONGEST_NAME = {"mariadb": 80, "postgres": 63, "aurora-postgresql": 63}
_LONGEST_MYSQL_NAME = 32
#: The servers of MySQL and MariaDB keep names in three bytes a character.
_LAST_OF_MYSQL = "\uffff"
#: Roles that carry the privileges of a level on PostgreSQL are named after the database.
_GROUP_SUFFIXES = ("_owner", "_readwrite", "_readonly")
#: In bytes; PostgreSQL cuts longer names.
_LONGEST_SCHEMA = 63


def is_reason(reason: str | None) -> bool:
    """Tell whether this is a reason: 1 to 500 printable characters, without the white space around."""
    text = (reason or "").strip()
    return 0 < len(text) <= 500 and text.isprintable()


def problems_on(
    database: Database,
    name: str,
    privileges: str | tuple[str, ...] | None,
    on: Iterable[str] | None,
    roles: Iterable[tuple[Path, str]],
    replaces: str | None = None,
    prefix: str = "",
) -> Iterable[tuple[Path, str]]:
    """Yield what is wrong with a user's declaration on this very database: where in the declaration, and what.

    :param on: its databases or schemas.
    :param prefix: begins the names of groups.
    """
    if replaces is not None and replaces.lower() == database.master_user.lower():
        yield ("replaces",), f"is the master user of {database.identifier}, whose rights nobody else gets"
    for problem in name_problems(database, name):
        yield ("name",), problem
    unknown = sorted(set(privileges) - SQL_PRIVILEGES[database.family]) if isinstance(privileges, tuple) else []
    if unknown:
        allowed = ", ".join(sorted(SQL_PRIVILEGES[database.family]))
        yield ("privileges",), f"{', '.join(unknown)}: not on {database.engine}; allowed are {allowed}"
    for role_path, role in roles:
        partition, account = re.fullmatch(ROLE_PATTERN, role).group("partition", "account")  # type: ignore[union-attr]
        if (partition, account) != (database.partition, database.account):
            yield role_path, f"is not a role of {database.account}, the account of {database.identifier}"
    if database.family == "postgres":
        yield from _problems_with_groups(name, on or [], prefix)


def longest_name(engine: str) -> int:
    """Return the length of the longest user name, on PostgreSQL in bytes, else in characters."""
    return _LONGEST_NAME.get(engine, _LONGEST_MYSQL_NAME)


def name_problems(database: Database, name: str) -> Iterable[str]:
    """Yield what is wrong with a user's name on this very database."""
    longest = longest_name(database.engine)
    length, unit = (len(name.encode()), "bytes") if database.family == "postgres" else (len(name), "characters")
    if length > longest:
        yield f"is longer than the {longest} {unit} that {database.engine} allows"
    if database.family == "mysql" and max(name, default="") > _LAST_OF_MYSQL:
        yield f"has a character, such as an emoji, that {database.engine} can't keep in a name"
    if name.lower() == database.master_user.lower():
        yield f"is the master user of {database.identifier}, which rdsiam never touches"


def _problems_with_groups(name: str, on: Iterable[str], prefix: str) -> Iterable[tuple[Path, str]]:
    for index, entry in enumerate(on):
        if len(entry.encode()) > _LONGEST_SCHEMA:
            yield ("on", index), f"is longer than the {_LONGEST_SCHEMA} bytes that PostgreSQL allows"
        if name in {prefix + entry + suffix for suffix in _GROUP_SUFFIXES}:
            yield ("name",), "is the name of a group role that rdsiam makes for this database"


def takes_tokens(name: str) -> bool:
    """Return whether a user of that name can be declared to log in by token."""
    return re.fullmatch(_NAME_PATTERN, name) is not None


def keeps_password(name: str) -> bool:
    """Return whether access.yaml can declare that the password of a user of that name rotates."""
    try:
        return bool(_existing_name(name))
    except ValueError:
        return False


def _existing_name(name: str) -> str:
    """Check the name of a user with a password, which others made and may have named as they liked."""
    if not name or not name.isprintable() or len(name) > max(_LONGEST_NAME.values()):
        raise ValueError("must be the name of a user: printable, at most 80 characters")
    lower = name.lower()
    if lower.startswith(_RESERVED_EXISTING) or lower in _RESERVED_NAMES | _SYSTEM_ACCOUNTS or name.startswith("AWS_"):
        raise ValueError("is reserved for RDS, the engine or rdsiam itself")
    return name


def _user_name(name: str) -> str:
    if not takes_tokens(name):
        raise ValueError("must begin with a letter or _, then hold only letters, digits, _ . - @ (ASCII)")
    if len(name) > max(_LONGEST_NAME.values()):
        raise ValueError("is longer than any engine allows")
    if name.lower().startswith(_RESERVED) or name.lower() in _RESERVED_NAMES:
        raise ValueError("is reserved for RDS, the engine or rdsiam itself")
    return name


def _group_prefix(prefix: str) -> str:
    if not re.fullmatch(_PREFIX_PATTERN, prefix):
        raise ValueError("must begin with a letter or _, then hold only letters, digits, _ . - (ASCII), 20 at most")
    if prefix.lower().startswith(_RESERVED):
        raise ValueError(f"is reserved for RDS, the engine or rdsiam itself: not {', '.join(_RESERVED)}")
    return prefix


def _database_name(name: str) -> str:
    if name == "*":
        return name
    if not name or not name.isprintable() or name != name.strip():
        raise ValueError("must be non-empty, printable, and without white space around")
    if len(name) > 64 or "*" in name or "?" in name:
        raise ValueError('must be the full name of a database or schema, at most 64 characters, or "*" alone')
    if name.lower() in SYSTEM_DATABASES:
        raise ValueError("belongs to the server itself: leave it out")
    return name


def _one_database(name: str) -> str:
    if name == "*":
        raise ValueError("must be the name of one database: each has schemas of its own")
    return name


def _schema_name(name: str) -> str:
    if not name or not name.isprintable() or name != name.strip():
        raise ValueError("must be non-empty, printable, and without white space around")
    if len(name.encode()) > _LONGEST_SCHEMA or "*" in name or "?" in name:
        raise ValueError(f"must be the full name of a schema, at most {_LONGEST_SCHEMA} bytes, without * and ?")
    if name.startswith("pg_") or name == "information_schema":
        raise ValueError("belongs to the server itself, which no entry opens or closes: leave it out")
    return name


def _privileges(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str):
        if value not in COVERED:
            raise ValueError("must be readonly, readwrite, owner or a list of SQL privileges")
        return value
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise ValueError("must be readonly, readwrite, owner or a list of SQL privileges")
    privileges = {item.upper() for item in value}
    if not privileges <= ALL_PRIVILEGES:
        raise ValueError(f"a list may hold only {', '.join(sorted(ALL_PRIVILEGES))}")
    return tuple(sorted(privileges))


def _role(arn: str) -> str:
    if re.match(r"arn:[a-z-]+:sts::[0-9]*:assumed-role/", arn):
        raise ValueError("is a session of a role: name the role, arn:aws:iam::<12 digits>:role/<path and name>")
    if not re.fullmatch(ROLE_PATTERN, arn):
        raise ValueError("must be the full ARN of a role: arn:aws:iam::<12 digits>:role/<path and name>")
    return arn


def _identifier(pattern: str) -> str:
    if not re.fullmatch("[A-Za-z0-9*?-]{1,255}", pattern):
        raise ValueError("must be a database's identifier, where * and ? stand for any characters and any one")
    return pattern


def _time(value: Any) -> datetime:
    if not isinstance(value, str) or not re.fullmatch(_TIME_PATTERN, value):
        raise ValueError("must be a time with a zone, such as 2026-12-31T00:00:00Z")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not in the calendar") from None


def _printable(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("must be printable text")
    return text


def _reason(text: str) -> str:
    if not is_reason(text):
        raise ValueError("must say why, in at most 500 printable characters")
    return text


def _version(value: Any) -> int:
    if type(value) is not int or value != 1:
        raise ValueError("must be 1")
    return value


def listed(value: Any) -> Any:
    """Let people write one item without a list."""
    return [value] if isinstance(value, str) else value


_TIME_PATTERN = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
_Engine = Literal["aurora", "aurora-mysql", "aurora-postgresql", "mariadb", "mysql", "postgres"]
_Level = Literal["readonly", "readwrite", "owner"]


def _pattern(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{re.sub('[?]P<[a-z]+>', '', pattern)}$"})


Version = Annotated[int, PlainValidator(_version), WithJsonSchema({"const": 1})]
Label = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(_printable)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_reason)]
Time = Annotated[datetime, BeforeValidator(_time), WithJsonSchema({"type": "string", "format": "date-time"})]
RoleArn = Annotated[str, AfterValidator(_role), _pattern(ROLE_PATTERN)]
UserName = Annotated[str, AfterValidator(_user_name), _pattern(_NAME_PATTERN)]
ExistingName = Annotated[str, AfterValidator(_existing_name)]
GroupPrefix = Annotated[str, AfterValidator(_group_prefix), _pattern(_PREFIX_PATTERN)]
IdentifierPattern = Annotated[str, AfterValidator(_identifier), _pattern("[A-Za-z0-9*?-]{1,255}")]
FindingKind = Annotated[str, StringConstraints(pattern="^[a-z]+(-[a-z0-9]+)*$", max_length=64)]
#: More than any engine allows to a whole server.
Connections = Annotated[int, Field(ge=1, le=100_000)]
DatabaseName = Annotated[str, AfterValidator(_database_name)]
OneDatabase = Annotated[DatabaseName, AfterValidator(_one_database)]
SchemaName = Annotated[str, AfterValidator(_schema_name)]
SchemaNames = Annotated[
    list[SchemaName], Field(min_length=1), BeforeValidator(listed, json_schema_input_type=str | list[str])
]
Engines = Annotated[
    list[_Engine], Field(min_length=1), BeforeValidator(listed, json_schema_input_type=_Engine | list[_Engine])
]
Privileges = Annotated[
    str | tuple[str, ...],
    PlainValidator(_privileges, json_schema_input_type=_Level | list[str]),
]
