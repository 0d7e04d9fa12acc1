"""The common base of the servers of MariaDB and MySQL: start and stop, tokens, parameters, copies, replication."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Self

import pymysql

from localcloud.core import processes
from localcloud.core.certificates import Authority, ServerCertificate
from localcloud.core.tails import last_lines
from localcloud.databases.servers.plugin_verifier import VerifierSocket
from localcloud.databases.servers.server import (
    START_LIMIT,
    ServerAddress,
    ServerFailed,
    Verify,
    copy_template,
    socket_directory,
    wait_until,
)
from localcloud.databases.token_verifier import LoginRefused, Reason

logger = logging.getLogger(__name__)

RDSADMIN = "rdsadmin"
#: The user of replicas on their source; created with the first replica, as on RDS.
REPLICATOR = "rdsrepladmin"
#: RDS grants its administrator these privileges on everything.
MASTER_PRIVILEGES = (
    "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, PROCESS, REFERENCES, INDEX, ALTER, SHOW DATABASES, "
    "CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, REPLICATION SLAVE, REPLICATION CLIENT, CREATE VIEW, SHOW VIEW, "
    "CREATE ROUTINE, ALTER ROUTINE, CREATE USER, EVENT, TRIGGER"
)
_SETTINGS = (
    "innodb_buffer_pool_size=16M",
    "innodb_flush_log_at_trx_commit=0",
    "innodb_flush_method=nosync",
    "innodb_doublewrite=OFF",
    "innodb_buffer_pool_dump_at_shutdown=OFF",
    "innodb_buffer_pool_load_at_startup=OFF",
    "log_bin=binlog",  # kept from the beginning: a replica starts empty and replays it
    "log_bin_trust_function_creators=ON",
    "relay_log=relay",
    "key_buffer_size=1M",
    "max_connections=150",
    "thread_cache_size=8",
    "skip_name_resolve",
    "local_infile=OFF",
    "tls_version=TLSv1.2,TLSv1.3",
)
_FOLLOW_LIMIT = 10.0
# What a client's session does, or a replica's, as SHOW PROCESSLIST has it.
_CLIENTS = ("Sleep", "Query", "Execute", "Binlog Dump")

type Cursor = pymysql.cursors.Cursor
type Connection = pymysql.Connection[pymysql.cursors.Cursor]


class MysqlFamilyServer(ABC):
    """An instance of MariaDB or MySQL; see `DatabaseServer`.

    :param directory: the instance's own, made if missing; its parent holds the files that instances share.
    :param address: the address at which it listens, with the names in its certificate.
    :param master_user: the administrator, with exactly the privileges that RDS gives.
    :param database: a schema to make, if any.
    :param authority: issues the server's certificate.
    :param verify: judges login tokens.
    :param source: a running server; this one becomes its read-only replica, by the binary log.

    `master_password` is None if the directory holds a copy of another server's data, or a source is given.
    """

    #: Parameters of RDS's parameter groups that are known here, with their defaults.
    parameters: ClassVar[Mapping[str, str]]
    #: Files that belong to one server and not to its data.
    _own_files: ClassVar[Sequence[str]]

    def __init__(
        self,
        directory: Path,
        address: ServerAddress,
        master_user: str,
        master_password: str | None,
        database: str | None,
        authority: Authority,
        verify: Verify,
        source: Self | None = None,
    ) -> None:
        self.address = address
        self._root = directory.parent
        self._directory = directory
        self._master = master_user
        self._first_password = master_password
        self._database = database
        self._authority = authority
        self._verify = verify
        self._source = source
        self._follows = False
        # Never an earlier server's: a replica leaves out changes that have its own number.
        self._server_id = 1 + secrets.randbelow(2**32 - 1)
        self._parameters = dict(self.parameters)
        self._iam = False
        self._process: processes.Process | None = None
        self._verifier: VerifierSocket | None = None

    def start(self) -> None:
        """Start the server, making its data on the first call. Blocks until it answers."""
        if not (self._directory / "data").exists():
            copy_template(self._template(), self._directory)
        self._sockets = socket_directory(self._root, self.address)
        certificate = self._authority.issue(self._directory / "tls", self.address.names)
        temporary = self._directory / "tmp"
        temporary.mkdir(exist_ok=True)
        for own in (self._directory / "tls", temporary):
            processes.give_to_nobody(own)
        configuration = self._directory / "my.cnf"
        configuration.write_text(self._configuration(certificate))
        configuration.chmod(0o644)
        try:
            self._verifier = VerifierSocket(self._sockets / "verifier", self._judge)
            self._process = processes.spawn(
                [*self._program(), f"--defaults-file={configuration}"],
                log=self._log,
                cwd=self._directory,
                env={"PATH": os.defpath, "TZ": "UTC", "RDSIAM_VERIFIER": str(self._verifier.path)},
                as_nobody=True,
            )
            wait_until(self._answers, self._process, self._log)
            self._make_rdsadmin()
            if self._first_password is not None:
                self._furnish(self._first_password)
                self._first_password = None
            if self._source is not None and not self._follows:
                self._follow(self._source, START_LIMIT)
                self._follows = True
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close all connections and end the server. Blocks until it has ended; the data stay."""
        if self._process is not None:
            self._end_sessions()
            processes.stop(self._process, limit=20)
            self._process = None
        if self._verifier is not None:
            self._verifier.close()
            self._verifier = None

    def set_iam(self, enabled: bool) -> None:
        """Switch IAM authentication on or off by loading the plugin; without it the server answers 1524.

        A replica needs the plugin to replay its source's statements, so it keeps the plugin, which refuses every token.
        """
        self._iam = enabled
        self._load_plugin(enabled or self._source is not None)

    def set_master_password(self, password: str) -> None:
        """Give the administrator another password, while it runs."""
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("ALTER USER %s@'%%' IDENTIFIED BY %s", [self._master, password])

    def set_parameters(self, values: Mapping[str, str]) -> None:
        """Set the known parameters for later starts, and `require_secure_transport` at once if the server runs."""
        self._parameters |= {name: value for name, value in values.items() if name in self.parameters}
        if self._process is not None:
            with self._connect() as connection, connection.cursor() as cursor:
                cursor.execute(
                    "SET GLOBAL require_secure_transport = %s", [int(self._is_on("require_secure_transport"))]
                )

    def upgrade(self, version: str) -> None:  # noqa: ARG002 - the server of this machine serves all versions
        """Restart: all versions have the same server."""
        self.stop()
        self.start()

    def renew(self) -> None:
        """Restart: the source's data are the same as before."""
        self.stop()
        self.start()

    def copy_to(self, directory: Path) -> None:
        """Copy all data to `directory`, as they are at one moment: a running server is stopped meanwhile."""
        if self._process is None:
            self._copy(directory)
            return
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("FLUSH TABLES WITH READ LOCK")
            # At 0, as servers here run, InnoDB takes the order to write its log as done: the newest rows would be lost.
            cursor.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
            cursor.execute("FLUSH ENGINE LOGS")
            cursor.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 0")
            # The files are those of a server that is killed now, which can start from them.
            with processes.frozen(self._process):
                self._copy(directory)

    def promote(self) -> None:
        """Stop following the source, and accept writes."""
        self._source = None
        with self._connect() as connection, connection.cursor() as cursor:
            self._unfollow(cursor)
            cursor.execute("SET GLOBAL read_only = OFF")
        self._load_plugin(self._iam)

    def take_over(self) -> None:
        """Stop the source after all of it is replayed, and accept writes in its place."""
        source = self._source
        if source is not None:
            try:
                with source._connect() as connection, connection.cursor() as cursor:
                    cursor.execute("SET lock_wait_timeout = 5")
                    cursor.execute("SET GLOBAL read_only = ON")
                    self._catch_up(self._position(cursor), _FOLLOW_LIMIT)
            except (pymysql.Error, ServerFailed) as error:
                logger.warning("%s takes over, perhaps without its source's last changes: %s", self.address.host, error)
            source.stop()
        self.promote()

    def follow(self, source: Self) -> None:
        """Follow the replica that has taken over from the source.

        :raises ServerFailed: it does not, for instance as it has replayed what the other has not.
        """
        self._source = source
        try:
            with self._connect() as connection, connection.cursor() as cursor:
                self._unfollow(cursor)
            self._follow(source, _FOLLOW_LIMIT)
        except pymysql.Error as error:
            raise ServerFailed(f"the replica does not answer: {error}") from None

    @property
    @abstractmethod
    def product(self) -> str:
        """The server's product and version, as the log has them."""

    @abstractmethod
    def _template(self) -> Path:
        """Return the directory of the data that a new instance starts with, made if missing."""

    @abstractmethod
    def _program(self) -> Sequence[str | Path]:
        """Return the beginning of the server's command."""

    @abstractmethod
    def _plugins(self) -> Path:
        """Return the folder of the server's plugins, with the plugin of IAM authentication."""

    @abstractmethod
    def _furnish(self, master_password: str) -> None:
        """Make the accounts and the schema of a new RDS instance."""

    @abstractmethod
    def _position(self, cursor: Cursor) -> str:
        """Return the position up to which a server has logged changes."""

    @abstractmethod
    def _replay(self, cursor: Cursor, source: ServerAddress, password: str) -> None:
        """Start to replay the changes of the server at an address."""

    @abstractmethod
    def _replayed(self, cursor: Cursor, position: str, limit: float) -> bool:
        """Wait until the source's changes are replayed up to a position; False if `limit` seconds have passed."""

    @abstractmethod
    def _unfollow(self, cursor: Cursor) -> None:
        """Stop replaying, for good."""

    @abstractmethod
    def _load_plugin(self, loaded: bool) -> None:
        """Load the plugin of IAM authentication, or unload it."""

    @abstractmethod
    def _settings(self) -> Sequence[str]:
        """Return the settings that only this server has."""

    def _make_rdsadmin(self) -> None:
        """Put RDS's own administrator in the place of the accounts of new data. A replica has its source's password."""
        if self._has_rdsadmin():
            return
        # MySQL accepts 32 characters as a replica's password.
        password = secrets.token_hex(16) if self._source is None else self._source._password()
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("SET sql_log_bin = OFF")  # each replica makes its own
            cursor.execute("CREATE USER %s@localhost IDENTIFIED BY %s", [RDSADMIN, password])
            cursor.execute("GRANT ALL ON *.* TO %s@localhost WITH GRANT OPTION", [RDSADMIN])
            cursor.execute("SELECT user, host FROM mysql.user WHERE user IN ('', 'root')")
            for account in cursor.fetchall():
                cursor.execute("DROP USER %s@%s", account)
        write_secret(self._directory / "password", password)

    def _has_rdsadmin(self) -> bool:
        return (self._directory / "password").exists()

    def _end_sessions(self) -> None:
        """End the sessions of clients and replicas: MySQL waits two seconds for a client, and nine for a replica."""
        with suppress(pymysql.Error), self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT CONNECTION_ID()")
            ((own,),) = cursor.fetchall()
            cursor.execute("SHOW PROCESSLIST")
            for thread, user, _, _, command, *_ in cursor.fetchall():
                if thread != own and user != "system user" and command.startswith(_CLIENTS):
                    with suppress(pymysql.Error):  # it has ended by itself
                        cursor.execute("KILL %s", [thread])

    @property
    def _log(self) -> Path:
        return self._directory / "server.log"

    def _password(self) -> str:
        return (self._directory / "password").read_text()

    def _secure_transport(self) -> int:
        return int(self._is_on("require_secure_transport"))

    def _is_on(self, parameter: str) -> bool:
        return self._parameters[parameter].upper() in ("1", "ON")

    def _copy(self, directory: Path) -> None:
        copy_template(self._directory / "data", directory / "data")
        for name in ("server.pid", *self._own_files):
            (directory / "data" / name).unlink(missing_ok=True)
        shutil.copy2(self._directory / "password", directory / "password")

    def _judge(self, user: str, token: str, encrypted: bool) -> None:
        if not self._iam:
            raise LoginRefused(Reason.NOT_ALLOWED)
        self._verify(user, token, encrypted)

    def _follow(self, source: Self, limit: float) -> None:
        """Replay all past and future changes of the source."""
        password = self._password()
        with source._connect() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE USER IF NOT EXISTS %s@'127.0.0.1' IDENTIFIED BY %s", [REPLICATOR, password])
            cursor.execute("GRANT REPLICATION SLAVE ON *.* TO %s@'127.0.0.1'", [REPLICATOR])
            position = self._position(cursor)
        self._load_plugin(True)
        with self._connect() as connection, connection.cursor() as cursor:
            self._replay(cursor, source.address, password)
        self._catch_up(position, limit)

    def _catch_up(self, position: str, limit: float) -> None:
        with self._connect() as connection, connection.cursor() as cursor:
            if not self._replayed(cursor, position, limit):
                raise ServerFailed(f"the replica did not catch up{last_lines(self._log)}")

    def _make_database(self, cursor: Cursor) -> None:
        if self._database:
            cursor.execute("CREATE DATABASE `{}`".format(self._database.replace("`", "``")))

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except pymysql.OperationalError:
            return False
        return True

    def _connect(self) -> Connection:
        return self._log_in(RDSADMIN, self._password()) if self._has_rdsadmin() else self._log_in("root", "")

    def _log_in(self, user: str, password: str) -> Connection:
        return pymysql.connect(
            unix_socket=str(self._sockets / "server"),
            user=user,
            password=password,
            ssl_disabled=True,  # a local socket; with TLS, each connection would read all of the system's authorities
            connect_timeout=5,
            autocommit=True,
        )

    def _configuration(self, certificate: ServerCertificate) -> str:
        settings = [
            f"datadir={self._directory / 'data'}",
            f"socket={self._sockets / 'server'}",
            f"pid_file={self._directory / 'data' / 'server.pid'}",
            f"plugin_dir={self._plugins()}",
            # Its own folder: a starting server deletes all temporary tables in the folder, even other servers'.
            f"tmpdir={self._directory / 'tmp'}",
            f"port={self.address.port}",
            f"bind_address={','.join(self.address.addresses)}",
            f"ssl_cert={certificate.certificate}",
            f"ssl_key={certificate.key}",
            f"server_id={self._server_id}",
            f"require_secure_transport={self._secure_transport()}",
            f"read_only={'OFF' if self._source is None else 'ON'}",
            *_SETTINGS,
            *self._settings(),
        ]
        return "\n".join(["[mysqld]", *settings]) + "\n"


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.touch(0o600)
    path.write_text(text)
