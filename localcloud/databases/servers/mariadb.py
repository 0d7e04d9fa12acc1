"""A real MariaDB server like RDS's, with IAM logins by token; it stands in for MySQL too."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

import pymysql

from localcloud.core import processes
from localcloud.core.certificates import Authority, ServerCertificate
from localcloud.databases.servers.mariadb_verifier import VerifierSocket
from localcloud.databases.servers.server import (
    START_LIMIT,
    ServerFailed,
    Verify,
    copy_template,
    open_to_nobody,
    run_as_nobody,
    socket_directory,
    wait_until,
)
from localcloud.databases.token_verifier import LoginRefused, Reason

logger = logging.getLogger(__name__)

RDSADMIN = "rdsadmin"
#: The user of replicas on their source; created with the first replica, as on RDS.
REPLICATOR = "rdsrepladmin"
#: Parameters of RDS's parameter groups that are known here, with their defaults.
PARAMETERS = {"require_secure_transport": "0"}
PLUGIN = "AWSAuthenticationPlugin"
# RDS grants its administrator these privileges on everything.
MASTER_PRIVILEGES = (
    "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, PROCESS, REFERENCES, INDEX, ALTER, SHOW DATABASES, "
    "CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, REPLICATION SLAVE, REPLICATION CLIENT, CREATE VIEW, SHOW VIEW, "
    "CREATE ROUTINE, ALTER ROUTINE, CREATE USER, EVENT, TRIGGER"
)
_SOURCE = Path(__file__).with_name("aws_authentication_plugin.c")
_HEADERS = Path("/usr/include/mariadb/server")
_ENGINE_SETTINGS = (
    "innodb_buffer_pool_size=16M",
    "innodb_log_file_size=8M",
    "innodb_data_file_path=ibdata1:4M:autoextend",
    "innodb_temp_data_file_path=ibtmp1:4M:autoextend",
    "aria_log_file_size=8M",
)
_SETTINGS = (
    *_ENGINE_SETTINGS,
    "innodb_flush_log_at_trx_commit=0",
    "innodb_flush_method=nosync",
    "innodb_doublewrite=OFF",
    "innodb_buffer_pool_dump_at_shutdown=OFF",
    "innodb_buffer_pool_load_at_startup=OFF",
    "innodb_fast_shutdown=1",
    "log_bin=binlog",  # kept from the beginning: a replica starts empty and replays it
    "log_slave_updates=ON",
    "binlog_format=ROW",
    "log_bin_trust_function_creators=ON",
    "relay_log=relay",
    "key_buffer_size=1M",
    "aria_pagecache_buffer_size=4M",
    "performance_schema=OFF",
    "max_connections=150",
    "thread_cache_size=8",
    "skip_name_resolve",
    "local_infile=OFF",
    "symbolic_links=OFF",
    "character_set_server=utf8mb4",
)
# Leaves only RDS's own administrator. Written to the tables, since grants are not in force at bootstrap.
# The number means all privileges of 10.11; the password is hexadecimal, so that it can't end the string.
_ACCOUNTS = """
DELETE FROM mysql.global_priv WHERE User <> 'mariadb.sys';
DELETE FROM mysql.db;
DELETE FROM mysql.proxies_priv;
INSERT INTO mysql.global_priv (Host, User, Priv) VALUES ('localhost', 'rdsadmin', JSON_OBJECT(
  'access', 549755813887, 'version_id', 101119,
  'plugin', 'mysql_native_password', 'authentication_string', PASSWORD('<password>')));
"""
_preparing = threading.Lock()


def prepare(root: Path) -> Path:
    """Make the template of data for all instances below `root`, and the plugin, once; return their directory.

    Later calls return at once. Instances call it themselves; an early call makes the first instance start fast.
    """
    template = root / "mariadb.template"
    with _preparing:
        if template.exists():
            return template
        open_to_nobody(root)
        unfinished = root / "mariadb.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / "plugins").mkdir(parents=True)
        _compile(unfinished / "plugins" / f"{PLUGIN}.so", root / "gcc.log")
        password = secrets.token_hex(32)
        _write_secret(unfinished / "password", password)
        _write_secret(unfinished / "accounts.sql", _ACCOUNTS.replace("<password>", password))
        processes.give_to_nobody(unfinished)
        run_as_nobody(
            [_program("mariadb-install-db"), "--no-defaults", f"--datadir={unfinished / 'data'}", "--skip-test-db",
             "--auth-root-authentication-method=normal", f"--extra-file={unfinished / 'accounts.sql'}",
             *(f"--{setting}" for setting in _ENGINE_SETTINGS)],
            log=root / "mariadb-install-db.log",
            env={"PATH": os.defpath, "HOME": str(unfinished)},
        )  # fmt: skip
        (unfinished / "accounts.sql").unlink()
        unfinished.rename(template)
        return template


class MariadbServer:
    """A MariaDB instance; see `DatabaseServer`. It stands in for MySQL too, which is not available here.

    :param directory: the instance's own, made if missing; its parent holds the files that instances share.
    :param port: TCP port on `localhost`.
    :param master_user: the administrator, with exactly the privileges that RDS gives.
    :param database: a schema to make, if any.
    :param authority: issues the server's certificate.
    :param verify: judges login tokens.
    :param source: a running server; this one becomes its read-only replica, by the binary log.

    `master_password` is None if the directory holds a copy of another server's data, or a source is given.
    """

    host = "localhost"

    def __init__(
        self,
        directory: Path,
        port: int,
        master_user: str,
        master_password: str | None,
        database: str | None,
        authority: Authority,
        verify: Verify,
        source: MariadbServer | None = None,
    ) -> None:
        self.port = port
        self._root = directory.parent
        self._directory = directory
        self._master = master_user
        self._first_password = master_password
        self._database = database
        self._authority = authority
        self._verify = verify
        self._source = source
        self._follows = False
        self._parameters = dict(PARAMETERS)
        self._iam = False
        self._process: processes.Process | None = None
        self._verifier: VerifierSocket | None = None

    def start(self) -> None:
        """Start the server, making its data on the first call. Blocks until it answers."""
        if not (self._directory / "data").exists():
            copy_template(prepare(self._root), self._directory)
        self._sockets = socket_directory(self._root, self.port)
        certificate = self._authority.issue(self._directory / "tls")
        temporary = self._directory / "tmp"
        temporary.mkdir(exist_ok=True)
        for own in (self._directory / "tls", temporary):
            processes.give_to_nobody(own)
        configuration = self._directory / "my.cnf"
        configuration.write_text(self._configuration(certificate))
        configuration.chmod(0o644)
        log = self._directory / "mariadb.log"
        try:
            self._verifier = VerifierSocket(self._sockets / "verifier", self._judge)
            self._process = processes.spawn(
                [_program("mariadbd"), f"--defaults-file={configuration}"],
                log=log,
                cwd=self._directory,
                env={"PATH": os.defpath, "TZ": "UTC", "RDSIAM_VERIFIER": str(self._verifier.path)},
                as_nobody=True,
            )
            wait_until(self._answers, self._process, log)
            if self._first_password is not None:
                self._furnish(self._first_password)
                self._first_password = None
            if self._source is not None and not self._follows:
                self._follow(self._source)
                self._follows = True
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close all connections and end the server. Blocks until it has ended; the data stay."""
        if self._process is not None:
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
        """Set `require_secure_transport`, at once and for later starts."""
        self._parameters |= {name: value for name, value in values.items() if name in PARAMETERS}
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("SET GLOBAL require_secure_transport = %s", [self._secure_transport()])

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
            cursor.execute("STOP SLAVE")
            cursor.execute("RESET SLAVE ALL")
            cursor.execute("SET GLOBAL read_only = OFF")
        self._load_plugin(self._iam)

    def _copy(self, directory: Path) -> None:
        for name in ("data", "plugins"):
            copy_template(self._directory / name, directory / name)
        for name in ("mariadbd.pid", "master.info", "relay-log.info"):
            (directory / "data" / name).unlink(missing_ok=True)
        shutil.copy2(self._directory / "password", directory / "password")

    def _follow(self, source: MariadbServer) -> None:
        """Replay all past and future changes of the source."""
        password = (self._directory / "password").read_text()
        with source._connect() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE USER IF NOT EXISTS %s@'127.0.0.1' IDENTIFIED BY %s", [REPLICATOR, password])
            cursor.execute("GRANT REPLICATION SLAVE ON *.* TO %s@'127.0.0.1'", [REPLICATOR])
            cursor.execute("SELECT @@gtid_binlog_pos")
            row = cursor.fetchone()
            assert row is not None
        self._load_plugin(True)
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute(
                "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = %s, MASTER_USER = %s, MASTER_PASSWORD = %s, "
                "MASTER_SSL = 1, MASTER_SSL_VERIFY_SERVER_CERT = 0, MASTER_CONNECT_RETRY = 1, "
                "MASTER_USE_GTID = slave_pos",
                [source.port, REPLICATOR, password],
            )
            cursor.execute("START SLAVE")
            cursor.execute("SELECT MASTER_GTID_WAIT(%s, %s)", [row[0], START_LIMIT])
            if cursor.fetchone() != (0,):
                raise ServerFailed(f"the replica did not catch up; see {self._directory / 'mariadb.log'}")

    def _load_plugin(self, loaded: bool) -> None:
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM information_schema.plugins WHERE plugin_name = %s", [PLUGIN])
            if loaded != bool(cursor.fetchone()):
                cursor.execute(f"{'INSTALL' if loaded else 'UNINSTALL'} SONAME '{PLUGIN}'")

    def _judge(self, user: str, token: str, encrypted: bool) -> None:
        if not self._iam:
            raise LoginRefused(Reason.NOT_ALLOWED)
        self._verify(user, token, encrypted)

    def _secure_transport(self) -> int:
        return int(self._parameters["require_secure_transport"].upper() in ("1", "ON"))

    def _furnish(self, master_password: str) -> None:
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", [self._master, master_password])
            cursor.execute(f"GRANT {MASTER_PRIVILEGES} ON *.* TO %s@'%%' WITH GRANT OPTION", [self._master])
            # RDS gives no privilege to end other users' sessions, but this procedure.
            cursor.execute("CREATE PROCEDURE mysql.rds_kill(IN thread BIGINT) SQL SECURITY DEFINER KILL thread")
            if self._database:
                cursor.execute("CREATE DATABASE `{}`".format(self._database.replace("`", "``")))

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except pymysql.OperationalError:
            return False
        return True

    def _connect(self) -> pymysql.Connection[pymysql.cursors.Cursor]:
        return pymysql.connect(
            unix_socket=str(self._sockets / "mariadbd"),
            user=RDSADMIN,
            password=(self._directory / "password").read_text(),
            ssl_disabled=True,  # a local socket; with TLS, each connection would read all of the system's authorities
            connect_timeout=5,
            autocommit=True,
        )

    def _configuration(self, certificate: ServerCertificate) -> str:
        settings = [
            f"datadir={self._directory / 'data'}",
            f"socket={self._sockets / 'mariadbd'}",
            f"pid_file={self._directory / 'data' / 'mariadbd.pid'}",
            f"plugin_dir={self._directory / 'plugins'}",
            # Its own folder: a starting server deletes all temporary tables in the folder, even other servers'.
            f"tmpdir={self._directory / 'tmp'}",
            f"port={self.port}",
            f"bind_address={','.join(processes.loopback_addresses())}",
            f"ssl_cert={certificate.certificate}",
            f"ssl_key={certificate.key}",
            "tls_version=TLSv1.2,TLSv1.3",
            f"server_id={self.port}",
            f"require_secure_transport={self._secure_transport()}",
            *(["read_only=ON"] if self._source is not None else ["skip_slave_start=ON"]),
            *_SETTINGS,
        ]
        return "\n".join(["[mariadbd]", *settings]) + "\n"


def _compile(plugin: Path, log: Path) -> None:
    gcc = shutil.which("gcc") or shutil.which("cc")
    if gcc is None or not _HEADERS.exists():
        raise ServerFailed("a C compiler and MariaDB's headers are missing: apt-get install gcc libmariadbd-dev")
    with log.open("ab") as output:
        command = [gcc, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-DMYSQL_DYNAMIC_PLUGIN", f"-I{_HEADERS}",
                   "-o", str(plugin), str(_SOURCE)]  # fmt: skip
        if subprocess.run(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL).returncode != 0:
            raise ServerFailed(f"the authentication plugin does not compile; see {log}")
    plugin.chmod(0o755)


def _program(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if path is None:
        raise ServerFailed(f"{name} is missing: apt-get install mariadb-server-core mariadb-client-core")
    return path


def _write_secret(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text)
