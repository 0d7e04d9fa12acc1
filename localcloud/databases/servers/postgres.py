"""A real PostgreSQL server like RDS's: its roles, its login rules, IAM logins by token."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg

from localcloud.core import processes
from localcloud.core.certificates import Authority
from localcloud.core.tails import last_lines
from localcloud.databases.servers import postgres_administrator, postgres_roles, postgres_settings, postgres_upgrade
from localcloud.databases.servers.postgres_front import PostgresFront
from localcloud.databases.servers.postgres_programs import NEWEST, major, obtainable, programs
from localcloud.databases.servers.postgres_settings import RDSADMIN
from localcloud.databases.servers.postgres_template import prepare
from localcloud.databases.servers.server import (
    ServerAddress,
    ServerFailed,
    Verify,
    copy_template,
    run_as_nobody,
    socket_directory,
    wait_until,
)
from localcloud.settings import Administrator

logger = logging.getLogger(__name__)

_SOCKET_PORT = 5432  # only part of the socket's name: nothing listens on TCP but the front
_FOLLOW_LIMIT = 10.0


class PostgresServer:
    """A PostgreSQL instance behind a TLS front; see `DatabaseServer`.

    :param directory: the instance's own, made if missing; its parent holds the files that instances share.
    :param address: the address at which it listens, with the names in its certificate.
    :param master_user: the administrator, a member of `rds_superuser` and no superuser.
    :param database: a database to make for the administrator, besides `postgres`.
    :param authority: issues the server's certificate.
    :param verify: judges login tokens.
    :param source: a running server; this one becomes its hot standby, by streaming replication.
    :param version: the EngineVersion; its major version decides which server runs. Data that exist decide first.
    :param administrator: the kind of administrator. "rds" needs the newest version, others run as they are built.

    `master_password` is None if the directory holds a copy of another server's data, or a source is given.
    """

    def __init__(
        self,
        directory: Path,
        address: ServerAddress,
        master_user: str,
        master_password: str | None,
        database: str | None,
        authority: Authority,
        verify: Verify,
        source: PostgresServer | None = None,
        version: str = str(NEWEST),
        administrator: Administrator = "rds",
    ) -> None:
        self.address = address
        #: The major version; a stand-in's, if the requested version can't be had.
        self.version = major(version)
        #: The kind of administrator; "vanilla" instead of "rds" if the version or the machine has no other.
        self.administrator: Administrator = administrator
        self._requested_administrator = administrator
        self._module: Path | None = None
        self._root = directory.parent
        self._directory = directory
        self._master = master_user
        self._first_password = master_password
        self._database = database
        self._authority = authority
        self._verify = verify
        self._source = source
        self._parameters = postgres_settings.default_parameters(self.version) | postgres_settings.REPLICATION
        self._iam = False
        self._master_iam = False
        self._process: processes.Process | None = None
        self._front: PostgresFront | None = None

    @property
    def product(self) -> str:
        """The server, its version and its administrator, as the log has them."""
        kind = "like RDS's" if self.administrator == "rds" else "as PostgreSQL has it (vanilla)"
        return f"PostgreSQL {self.version}, administrator {kind}"

    def start(self) -> None:
        """Start the server, making its data on the first call. Blocks until it answers."""
        self._make_data(self._directory / "data")
        self._launch()
        try:
            if self._first_password is not None:
                self._furnish(self._first_password)
                self._first_password = None
            self._open_front()
        except BaseException:
            self.stop()
            raise

    def _launch(self) -> None:
        """Start the server with the data that are there, without its front."""
        data = self._directory / "data"
        choice = self._requested_administrator == "rds" and self.version == NEWEST
        self._module = postgres_administrator.module(self._root) if choice else None
        self.administrator = "vanilla" if self._module is None else "rds"
        self._sockets = socket_directory(self._root, self.address)
        (data / "standby.signal").unlink(missing_ok=True)
        if self._source is not None:
            self._write(data / "standby.signal", "")
        self._write_configuration()
        self._write_rules()
        log = self._directory / "postgres.log"
        binary = programs(self._root, self.version) / "postgres"
        self._process = processes.spawn(
            [binary, "-D", data], log=log, cwd=self._directory, env={"PATH": os.defpath, "TZ": "UTC"}, as_nobody=True
        )
        try:
            wait_until(self._answers, self._process, log)
        except BaseException:
            self.stop()
            raise

    def _open_front(self) -> None:
        """Let clients in."""
        certificate = self._authority.issue(self._directory / "tls", self.address.names)
        self._front = PostgresFront(
            self.address,
            self._sockets / f".s.PGSQL.{_SOCKET_PORT}",
            certificate,
            self._verify,
            lambda: self._parameters,
        )
        self._front.start()

    def stop(self) -> None:
        """Close all connections and end the server. Blocks until it has ended; the data stay."""
        self._close_front()
        if self._process is not None:
            processes.stop(self._process, how=signal.SIGINT)  # "fast": ends the sessions, then shuts down in order
            self._process = None

    def _close_front(self) -> None:
        if self._front is not None:
            self._front.stop()
            self._front = None

    def listen(self, address: ServerAddress, verify: Verify) -> None:
        """Listen at one more address, as another database; `verify` judges its tokens."""
        assert self._front is not None
        certificate = self._authority.issue(self._root / "tls" / address.host, address.names)
        self._front.listen(address, certificate, verify)

    def close(self, address: ServerAddress) -> None:
        """Stop listening at an address of `listen`."""
        if self._front is not None:
            self._front.close(address)

    def set_iam(self, enabled: bool) -> None:
        """Switch IAM authentication on (which makes the role `rds_iam`) or off (the role stays, as on RDS).

        A replica has the role from its source.
        """
        if enabled and self._source is None:
            with self._connect() as connection:
                postgres_roles.make_rds_iam(connection, self._master, with_admin=self._needs_admin)
        self._iam = enabled
        self._write_rules()
        self._reload()

    def set_master_iam(self, enabled: bool) -> None:
        """Make the administrator an IAM user by `rds_iam`, which has to exist, or a user with a password again."""
        if self._source is None:
            with self._connect() as connection:
                postgres_roles.set_master_iam(connection, self._master, enabled=enabled, with_admin=self._needs_admin)
        self._master_iam = enabled
        self._write_rules()
        self._reload()

    def set_master_password(self, password: str) -> None:
        """Give the administrator another password, while it runs."""
        with self._connect() as connection:
            postgres_roles.set_password(connection, self._master, password)

    def set_parameters(self, values: Mapping[str, str]) -> None:
        """Set the parameters of RDS that reach the server for later starts, and at once if it runs."""
        self._parameters |= postgres_settings.accepted(values)
        if self._process is not None:
            self._write_configuration()
            self._reload()

    def copy_to(self, directory: Path) -> None:
        """Copy all data to `directory`, as they are at one moment: by a base backup if the server runs."""
        directory.mkdir(parents=True, exist_ok=True)
        processes.give_to_nobody(directory)
        if self._process is None:
            copy_template(self._directory / "data", directory / "data")
        else:
            run_as_nobody(
                [programs(self._root) / "pg_basebackup", "-h", self._sockets, "-p", str(_SOCKET_PORT), "-U", RDSADMIN,
                 "-D", directory / "data", "--checkpoint=fast", "--no-sync"],
                log=self._root / "pg_basebackup.log",
                env={"PATH": os.defpath, "PGPASSWORD": (self._directory / "password").read_text()},
            )  # fmt: skip
        self._write(directory / "password", (self._directory / "password").read_text())

    def upgrade(self, version: str) -> None:
        """Move the data to a newer major version; with the same one, restart.

        :raises ServerFailed: the newer version does not take the data. The server runs with the version that it had.
        """
        target, before = obtainable(major(version)), self.version
        if target <= before:
            self.stop()
            self.start()
            return
        work, data, password = (self._directory / name for name in ("upgrade", "data", "password"))
        self._close_front()
        try:
            dumped = postgres_upgrade.dump(self._tools(), self._connect, work, target)
            self.stop()
            for path in (data, password):
                path.rename(work / path.name)
            copy_template(prepare(self._root, target), self._directory)
            self.version = target
            self._launch()
            postgres_upgrade.restore(self._tools(), self._connect, dumped)
            with self._connect() as connection:
                postgres_roles.complete(connection, self._master, with_admin=self._needs_admin)
                if self._master_iam:
                    postgres_roles.set_master_iam(connection, self._master, enabled=True, with_admin=self._needs_admin)
        except (ServerFailed, psycopg.Error) as error:
            self.stop()
            if (work / "data").exists():
                shutil.rmtree(data, ignore_errors=True)
                for path in (data, password):
                    (work / path.name).rename(path)
            self.version = before
            self.start()
            raise ServerFailed(f"PostgreSQL {before} was not upgraded to {target}: {error}") from None
        finally:
            shutil.rmtree(work, ignore_errors=True)
        self._open_front()

    def renew(self) -> None:
        """Copy the source anew, whose data have another version now; only for a replica."""
        self.stop()
        shutil.rmtree(self._directory / "data")
        self.start()

    def promote(self) -> None:
        """Stop following the source, and accept writes."""
        self._source = None
        with self._connect() as connection:
            connection.execute("SELECT pg_promote()")
        self._write_configuration()

    def take_over(self) -> None:
        """Stop the source, which sends everything before it ends, and accept writes in its place."""
        if self._source is not None:
            self._source.stop()
        self.promote()

    def follow(self, source: PostgresServer) -> None:
        """Follow the replica that has taken over from the source.

        :raises ServerFailed: it does not, for instance as it has more than the other had when it took over.
        """
        self._source = source
        self._write_configuration()
        deadline = time.monotonic() + _FOLLOW_LIMIT
        try:
            self._reload()
            while not self._streams_from(source):
                if time.monotonic() > deadline:
                    raise ServerFailed(f"the replica does not follow{last_lines(self._directory / 'postgres.log')}")
                time.sleep(0.02)
        except psycopg.Error as error:
            raise ServerFailed(f"the replica does not answer: {error}") from None

    def _streams_from(self, source: PostgresServer) -> bool:
        streams = "SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming' AND sender_host = %s"
        with self._connect() as connection:
            return connection.execute(streams, [str(source._sockets)]).fetchone() is not None

    def _make_data(self, data: Path) -> None:
        """Make the data if there are none; note their version, which is the server's."""
        if not data.exists() and self._source is not None:
            self._source.copy_to(self._directory)
        elif not data.exists():
            copy_template(prepare(self._root, obtainable(self.version)), self._directory)
        self.version = int((data / "PG_VERSION").read_text())
        if obtainable(self.version) != self.version:
            raise ServerFailed(f"the data in {data} are PostgreSQL {self.version}'s, which can't be had here")

    def _reload(self) -> None:
        with self._connect() as connection:
            before = _loaded_at(connection)
            connection.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + 10
        while True:  # a reload happens some time later, and only new connections see it
            with self._connect() as connection:
                if _loaded_at(connection) > before:
                    return
            if time.monotonic() > deadline:
                raise ServerFailed("PostgreSQL did not reload its rules within 10 s")
            time.sleep(0.005)

    def _tools(self) -> postgres_upgrade.Tools:
        return postgres_upgrade.Tools(
            programs(self._root),
            ("-h", self._sockets, "-p", str(_SOCKET_PORT), "-U", RDSADMIN),
            self._directory / "password",
            self._directory / "upgrade.log",
        )

    @property
    def _needs_admin(self) -> bool:
        """Whether the administrator grants only what it has ADMIN OPTION for."""
        return self.administrator == "vanilla" and self.version >= postgres_roles.NEEDS_ADMIN_FROM

    def _furnish(self, master_password: str) -> None:
        """Make the roles, the administrator and the databases of a new RDS instance."""
        with self._connect() as connection:
            postgres_roles.make(connection, self._master, self._database, with_admin=self._needs_admin)
            postgres_roles.set_password(connection, self._master, master_password)
        if self._database and postgres_roles.has_own_database(self._database):
            with self._connect(self._database) as connection:
                postgres_roles.own_public(connection, self._master)

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self, database: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(
            host=str(self._sockets),
            port=_SOCKET_PORT,
            dbname=database,
            user=RDSADMIN,
            password=(self._directory / "password").read_text(),
            require_auth="scram-sha-256",
            autocommit=True,
            connect_timeout=5,
        )

    def _write_rules(self) -> None:
        by_password = self._needs_admin and not self._master_iam
        rules = postgres_settings.login_rules(self._master, iam=self._iam, master_first=by_password)
        self._write(self._directory / "data" / "pg_hba.conf", rules)

    def _write_configuration(self) -> None:
        more: dict[str, object] = {**self._parameters}
        more |= {"unix_socket_directories": self._sockets, "port": _SOCKET_PORT}
        if self._module is not None:
            more["shared_preload_libraries"] = self._module
        if self._source is not None:
            password = (self._directory / "password").read_text()
            more["primary_conninfo"] = (
                f"host={self._source._sockets} port={_SOCKET_PORT} user={RDSADMIN} password={password}"
            )
        text = postgres_settings.configuration(self.version, more)
        self._write(self._directory / "data" / "postgresql.auto.conf", text)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o600)
        processes.give_to_nobody(path)


def _loaded_at(connection: psycopg.Connection) -> float:
    row = connection.execute("SELECT extract(epoch FROM pg_conf_load_time())::float8").fetchone()
    assert row is not None
    return float(row[0])
