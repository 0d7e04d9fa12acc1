"""proxy.toml: parsed into settings, with the line and the key of every problem."""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rdsiam.core.similar import closest, did_you_mean
from rdsiam.errors import ProxySettingsInvalid
from rdsiam.proxy.contracts import Listener
from rdsiam.proxy.settings import Settings, check

__all__ = ["parse", "read"]

_HEADER = re.compile(r"\s*\[\[?\s*([A-Za-z0-9_-]+)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")
_LONGEST = 3600
#: Name of the tables of databases.
_TABLE = "database"
Check = Callable[[Any], str | None]


def _text(value: Any) -> str | None:
    good = isinstance(value, str) and value.strip() and value.isprintable()
    return None if good else "must be a text"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _number(least: int, most: int) -> Check:
    def wrong(value: Any) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return None if good else f"must be a whole number from {least} to {most}"

    return wrong


def _seconds(least: float) -> Check:
    def wrong(value: Any) -> str | None:
        good = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= _LONGEST
        return None if good else f"must be a number of seconds from {least:g} to {_LONGEST}"

    return wrong


def _texts(value: Any) -> str | None:
    good = isinstance(value, list) and value and all(_text(each) is None for each in value)
    return None if good else "must be a list of texts"


_port = _number(0, 65535)
_SETTINGS: Mapping[str, Check] = {
    "max_connections": _number(1, 1_000_000),
    "connections_per_second": _number(1, 100_000),
    "login_timeout": _seconds(1),
    "drain_timeout": _seconds(0),
    "health_host": _text,
    "health_port": _port,
    "require_password_file": _text,
    "certificate": _text,
    "key": _text,
    "cut": _flag,
    "cut_interval": _seconds(1),
}
_DATABASE: Mapping[str, Check] = {
    "name": _text,
    "endpoint": _text,
    "user": _text,
    "users": _texts,
    "host": _text,
    "port": _port,
    "socket": _text,
}
_FIELDS = {field.name for field in fields(Settings)}


#: Table of the keys below a header that is not [[database]]: its own line is all that problems need.
_OTHER = -1


@dataclass(frozen=True)
class _Lines:
    """Return the line of each key that begins a line. Table 0 is the part above all headers."""

    lines: Mapping[tuple[int, str], int]

    @classmethod
    def of(cls, text: str) -> "_Lines":
        lines: dict[tuple[int, str], int] = {}
        table = databases = 0
        for number, line in enumerate(text.splitlines(), 1):
            if header := _HEADER.match(line):
                if header[1] == _TABLE:
                    table = databases = databases + 1
                    lines[table, ""] = number
                else:
                    table = _OTHER
                    lines.setdefault((0, header[1]), number)
            elif found := _KEY.match(line):
                lines.setdefault((table, found[1]), number)
        return cls(lines)

    def place(self, table: int, key: str) -> str:
        number = self.lines.get((table, key)) or self.lines.get((table, ""))
        return f"line {number}: " if number else ""


def read(path: Path) -> Settings:
    """Read a configuration; paths in it are relative to its folder.

    :raises ProxySettingsInvalid: it can't be read, or breaks the rules.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ProxySettingsInvalid(["not UTF-8"], str(path)) from None
    except OSError as error:
        raise ProxySettingsInvalid([error.strerror or str(error)], str(path)) from None
    return parse(text, path)


def parse(text: str, path: Path) -> Settings:
    """Parse a configuration.

    :param path: of the file, for messages and relative paths.
    :raises ProxySettingsInvalid: it breaks the rules; each problem has its line and key.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is no TOMLDecodeError
        raise ProxySettingsInvalid([f"no TOML: {error}"], str(path)) from None
    lines = _Lines.of(text)
    databases = document.pop(_TABLE, [])
    problems = _problems(document, _SETTINGS, 0, lines)
    if not isinstance(databases, list) or not all(isinstance(each, dict) for each in databases):
        problems.append(f"{lines.place(0, _TABLE) or lines.place(1, '')}database: each one begins with [[database]]")
        databases = []
    for number, database in enumerate(databases, 1):
        problems += _database_problems(database, number, lines)
    if problems:
        raise ProxySettingsInvalid(problems, str(path))
    folder = path.absolute().parent
    values: dict[str, Any] = {name: value for name, value in document.items() if name in _FIELDS}
    for name, key in (("password_file", "require_password_file"), ("certificate", "certificate"), ("key", "key")):
        if key in document:
            values[name] = folder / document[key]
    settings = Settings(listeners=tuple(_listener(database, folder) for database in databases), **values)
    try:
        check(settings)
    except ProxySettingsInvalid as error:
        raise ProxySettingsInvalid(error.problems, str(path)) from None
    return settings


def _problems(table: Mapping[str, Any], known: Mapping[str, Check], number: int, lines: _Lines) -> list[str]:
    result = []
    for key, value in table.items():
        problem = known[key](value) if key in known else _unknown(key, known)
        if problem:
            result.append(f"{lines.place(number, key)}{key if key.isprintable() else ascii(key)}: {problem}")
    return result


def _unknown(key: str, known: Mapping[str, Check]) -> str:
    """Return the problem of an unknown key, with the known one that was probably meant, or with its right place."""
    if key in _DATABASE:
        return f"unknown here; it is a key of a database, below [[{_TABLE}]]"
    if key in _SETTINGS:
        return f"unknown here; it is no key of a database: write it above the first [[{_TABLE}]]"
    headers = [] if known is _DATABASE else [_TABLE]
    advice = did_you_mean(key, [*known, *headers])
    return f"unknown; {advice or 'known are ' + ', '.join(known)}"


def _database_problems(database: Mapping[str, Any], number: int, lines: _Lines) -> list[str]:
    problems = _problems(database, _DATABASE, number, lines)
    # A key with a typing error is one problem: the one that was meant isn't missing.
    meant = {similar for key in database if key not in _DATABASE for similar in closest(key, _DATABASE)}
    if "name" not in database and "name" not in meant:
        problems.append(f"{lines.place(number, '')}database {number}: name is missing")
    places = {"port", "socket"}
    if places <= database.keys() or not places & (database.keys() | meant):
        problems.append(f"{lines.place(number, '')}database {number}: give port or socket")
    if "socket" in database and "host" in database:
        problems.append(f"{lines.place(number, 'host')}host: a socket has none")
    return problems


def _listener(database: Mapping[str, Any], folder: Path) -> Listener:
    values = {name: value for name, value in database.items() if name in ("endpoint", "user", "host", "port")}
    return Listener(
        database=database["name"],
        users=frozenset(database.get("users", ())),
        socket=folder / database["socket"] if "socket" in database else None,
        **values,
    )
