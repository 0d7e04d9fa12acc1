"""Moves the data of a PostgreSQL server to a newer version: everything is dumped, and restored into an empty server.

RDS upgrades in place, with pg_upgrade; roles, memberships and data are the same afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from localcloud.core import processes
from localcloud.databases.servers.postgres_settings import RDSADMIN
from localcloud.databases.servers.server import run_as_nobody

Connect = Callable[[str], psycopg.Connection]

#: The last setting at a head of a dump: at its begin, and after each connection.
_END_OF_HEAD = b"SET row_security = off;\n"
_LOCALE_PROVIDER_FROM, _TRANSACTION_TIMEOUT_FROM = 15, 17
#: Made by initdb, and dropped before they are restored.
_EXISTING = ("postgres", "template1")
# Whether anybody has put something into a database.
_IS_USED = """
SELECT EXISTS (SELECT FROM pg_class WHERE oid >= 16384) OR EXISTS (SELECT FROM pg_proc WHERE oid >= 16384)
OR EXISTS (SELECT FROM pg_type WHERE oid >= 16384) OR EXISTS (SELECT FROM pg_namespace WHERE oid >= 16384)
OR (SELECT count(*) FROM pg_extension) > 1
"""


@dataclass(frozen=True)
class Tools:
    """PostgreSQL's tools of the newest version, for one server. They work with older servers too.

    :ivar folder: the folder of the programs.
    :ivar options: host, port and user.
    :ivar password: the file with rdsadmin's password.
    """

    folder: Path
    options: tuple[str | Path, ...]
    password: Path
    log: Path

    def run(self, program: str, *arguments: str | Path) -> None:
        """Run a program to its end.

        :raises ServerFailed: it failed.
        """
        run_as_nobody(
            [self.folder / program, *self.options, *arguments],
            log=self.log,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "PGPASSWORD": self.password.read_text()},
        )


@dataclass(frozen=True)
class Dump:
    """Everything that a server has: its roles, their comments, and a file for each database that anybody uses."""

    folder: Path
    comments: dict[str, str]
    databases: tuple[str, ...]

    @property
    def roles(self) -> Path:
        """The file with all roles but rdsadmin, their memberships and settings."""
        return self.folder / "roles.sql"

    def file_of(self, database: str) -> Path:
        """Return the file of a database."""
        return self.folder / f"{self.databases.index(database)}.sql"


def dump(tools: Tools, connect: Connect, folder: Path, version: int) -> Dump:
    """Write everything that a server has to files that only `nobody` and root can read, for a server of `version`."""
    folder.mkdir()
    folder.chmod(0o700)
    processes.give_to_nobody(folder)
    with connect("template1") as connection:
        template_is_used = bool(connection.execute(_IS_USED).fetchone() == (True,))
    with connect("postgres") as connection:
        comments = "SELECT rolname, shobj_description(oid, 'pg_authid') FROM pg_roles"
        databases = (
            "SELECT datname FROM pg_database WHERE datallowconn AND datname <> 'rdsadmin' "
            "ORDER BY datname = ANY(%s) DESC, 1"
        )
        result = Dump(
            folder,
            {str(name): str(comment) for name, comment in connection.execute(comments) if comment is not None},
            tuple(
                str(name)
                for (name,) in connection.execute(databases, [list(_EXISTING)])
                if name != "template1" or template_is_used
            ),
        )
    # Comments may have any lines, and so lines that look like those of `_without_rdsadmin`.
    tools.run("pg_dumpall", "--globals-only", "--no-comments", "-f", result.roles)
    _rewrite(result.roles, _without_rdsadmin)
    for database in result.databases:
        file = result.file_of(database)
        tools.run("pg_dump", "--create", "-f", file, "-d", _conninfo(database))
        _rewrite(file, lambda lines: _for_version(lines, version))
    return result


def restore(tools: Tools, connect: Connect, dumped: Dump) -> None:
    """Make everything that was dumped on a server that has nothing of its own.

    :raises ServerFailed: the server refuses a statement.
    """
    _run_file(tools, "postgres", dumped.roles)
    for database in dumped.databases:
        other = "template1" if database == "postgres" else "postgres"
        if database in _EXISTING:
            with connect(other) as connection:
                name = sql.Identifier(database)
                connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(name))
                connection.execute(sql.SQL("DROP DATABASE {}").format(name))
        _run_file(tools, other, dumped.file_of(database))
    with connect("postgres") as connection:
        for role, comment in dumped.comments.items():
            connection.execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(role), sql.Literal(comment)))


def _run_file(tools: Tools, database: str, file: Path) -> None:
    # Terse errors don't quote the statement, which may have a password's hash.
    strict = ("-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse")
    tools.run("psql", "-X", "-q", "-o", os.devnull, *strict, "-d", database, "-f", file)


def _conninfo(database: str) -> str:
    """Return a connection string, as a bare name may look like one."""
    return psycopg.conninfo.make_conninfo(dbname=database)


def _rewrite(file: Path, change: Callable[[Iterator[bytes]], Iterator[bytes]]) -> None:
    """Change the lines of a file, which keeps its owner and mode."""
    changed = file.with_suffix(".changed")
    changed.touch(0o600)
    with file.open("rb") as source, changed.open("wb") as target:
        target.writelines(change(iter(source)))
    processes.give_to_nobody(changed)
    changed.rename(file)


def _without_rdsadmin(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Leave out the two statements that make rdsadmin, which exists and has another password."""
    name = RDSADMIN.encode()
    unwanted = [b"CREATE ROLE " + name + b";", b"ALTER ROLE " + name + b" WITH "]
    for line in lines:
        found = next((start for start in unwanted if line.startswith(start)), None)
        if found is None:
            yield line
        else:
            unwanted.remove(found)


def _for_version(lines: Iterator[bytes], version: int) -> Iterator[bytes]:
    """Leave out the words of a dump's heads that a version doesn't know."""
    in_head = True
    for line in lines:
        if line.startswith(b"\\connect "):  # never a row of data, where a backslash is doubled
            in_head = True
        elif line == _END_OF_HEAD:
            in_head = False
        if in_head and version < _TRANSACTION_TIMEOUT_FROM and line == b"SET transaction_timeout = 0;\n":
            continue
        if version < _LOCALE_PROVIDER_FROM and line.startswith(b"CREATE DATABASE "):
            line = line.replace(b" LOCALE_PROVIDER = libc", b"")
        yield line
