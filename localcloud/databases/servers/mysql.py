"""A real MySQL server, Oracle's, like RDS's, with IAM logins by token."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from localcloud.core import processes
from localcloud.core.cache import folder
from localcloud.databases.servers.mysql_family import MASTER_PRIVILEGES, REPLICATOR, Cursor, MysqlFamilyServer
from localcloud.databases.servers.mysql_programs import MysqlPrograms, require_mysql
from localcloud.databases.servers.plugin_compiler import PLUGIN, PLUGIN_SOURCE, compile_plugin
from localcloud.databases.servers.server import (
    ServerAddress,
    copy_template,
    open_to_nobody,
    run_as_nobody,
)

logger = logging.getLogger(__name__)

# Shape of the files that are made once and kept, so the template's name depends on them.
_TEMPLATE_SETTINGS = (
    "innodb_data_file_path=ibdata1:5M:autoextend",
    "innodb_redo_log_capacity=8M",
    "innodb_autoextend_increment=1",
    "innodb_buffer_pool_size=16M",
    "innodb_doublewrite=OFF",
    "innodb_flush_log_at_trx_commit=0",
    "innodb_flush_method=nosync",
    "auto_generate_certs=OFF",
    "mysqlx=OFF",
    "secure_file_priv=NULL",
)
_SETTINGS = (
    *_TEMPLATE_SETTINGS,
    "innodb_fast_shutdown=1",
    "innodb_use_native_aio=OFF",  # its threads delay the end by half a second, and a system has few of its contexts
    "innodb_log_buffer_size=1M",
    "innodb_purge_threads=1",
    "innodb_read_io_threads=1",
    "innodb_write_io_threads=1",
    "temptable_max_ram=2M",
    "tmp_table_size=2M",
    "table_open_cache=400",
    "table_definition_cache=400",
    "sync_binlog=0",
    "gtid_mode=ON",
    "enforce_gtid_consistency=ON",
)
# On, as RDS has it with Performance Insights. Tables that no test reads are kept small: they would take 290 MB.
_PERFORMANCE_SCHEMA = (
    "performance_schema=ON",
    "performance_schema_digests_size=100",
    "performance_schema_error_size=0",
    "performance_schema_max_index_stat=0",
    "performance_schema_max_memory_classes=0",
    "performance_schema_max_table_lock_stat=0",
    *(f"performance_schema_events_{kind}_history_long_size=10"
      for kind in ("stages", "statements", "transactions", "waits")),
    *(f"performance_schema_max_{kind}=200" for kind in ("metadata_locks", "table_handles", "table_instances")),
    *(f"performance_schema_max_{kind}_instances=0"
      for kind in ("cond", "file", "mutex", "prepared_statements", "program", "rwlock", "socket")),
    *(f"performance_schema_max_{kind}_classes=0" for kind in ("stage", "statement")),
)  # fmt: skip
# RDS's administrator writes nothing in the server's own schemas; restrictions exist only with partial_revokes.
_WRITING = (
    "INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE TEMPORARY TABLES, LOCK TABLES, "
    "CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, EVENT, TRIGGER"
)
_SYSTEM_SCHEMAS = ("mysql", "sys")
_ADMINISTRATORS = "rds_superuser_role"
_preparing = threading.Lock()


def prepare(root: Path, lower_case_table_names: int = 0) -> Path:
    """Return the directory with the data that instances below `root` start with (`template`), and with the plugin.

    It is made once a machine and kept in the cache folder, if that can be written to, since it takes seconds.
    """
    with _preparing:
        open_to_nobody(root)
        programs = require_mysql(root)
        name = f"mysql-data-{programs.label}-{_fingerprint(lower_case_table_names)}"
        for place in (folder(), root):
            if (place / name).exists():
                return place / name
        made = root / "mysql.unfinished"
        shutil.rmtree(made, ignore_errors=True)
        _initialize(programs, made / "template", lower_case_table_names, root / "mysqld-initialize.log")
        compile_plugin(made / "plugin", root / "gcc.log")
        with suppress(OSError, subprocess.CalledProcessError):  # the cache can't be written to, or is full
            return _keep(made, folder() / name)
        return made.rename(root / name)


def _plugin_folder(root: Path) -> Path:
    """Return the folder of the server's plugins, with the plugin of IAM authentication, below `root`."""
    result = root / "mysql.plugins"
    made = prepare(root)
    with _preparing:
        if not result.exists():
            unfinished = root / "mysql.plugins.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            for each in require_mysql(root).plugins.glob("*.so"):
                (unfinished / each.name).symlink_to(each)
            shutil.copy2(made / "plugin" / f"{PLUGIN}.so", unfinished)  # the cache may be closed to nobody
            unfinished.rename(result)
    return result


class MysqlServer(MysqlFamilyServer):
    """A MySQL instance; see `MysqlFamilyServer`.

    The data are made for one value of `lower_case_table_names`: with another one the server does not start. A server
    whose accounts have restrictions, as its administrator does with `partial_revokes`, keeps `partial_revokes` on.
    """

    parameters: ClassVar = {"require_secure_transport": "0", "partial_revokes": "1", "lower_case_table_names": "0"}
    _own_files = ("auto.cnf",)

    @property
    def product(self) -> str:
        """The server's product and version, as the log has them."""
        return f"MySQL {require_mysql(self._root).label}"

    def _template(self) -> Path:
        return prepare(self._root, self._lower_case()) / "template"

    def _program(self) -> tuple[str, ...]:
        return require_mysql(self._root).command

    def _plugins(self) -> Path:
        return _plugin_folder(self._root)

    def _furnish(self, master_password: str) -> None:
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE ROLE %s@'%%'", [_ADMINISTRATORS])
            cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", [self._master, master_password])
            for account in (_ADMINISTRATORS, self._master):
                self._make_administrator(cursor, account)
            cursor.execute("GRANT %s@'%%' TO %s@'%%' WITH ADMIN OPTION", [_ADMINISTRATORS, self._master])
            cursor.execute("SET DEFAULT ROLE ALL TO %s@'%%'", [self._master])
            # RDS gives no privilege to end other users' sessions, but this procedure.
            cursor.execute("CREATE PROCEDURE mysql.rds_kill(IN thread BIGINT) SQL SECURITY DEFINER KILL thread")
            self._make_database(cursor)

    def _make_administrator(self, cursor: Cursor, account: str) -> None:
        """Grant the privileges that RDS gives from 8.0.36 on; a role is its own object, so both have them."""
        definer = "SET_ANY_DEFINER, ALLOW_NONEXISTENT_DEFINER"
        if require_mysql(self._root).version < (8, 2):
            definer = "SET_USER_ID"
        static = f"{MASTER_PRIVILEGES}, CREATE ROLE, DROP ROLE"
        dynamic = f"APPLICATION_PASSWORD_ADMIN, ROLE_ADMIN, XA_RECOVER_ADMIN, {definer}"
        cursor.execute(f"GRANT {static} ON *.* TO %s@'%%' WITH GRANT OPTION", [account])
        cursor.execute(f"GRANT {dynamic} ON *.* TO %s@'%%' WITH GRANT OPTION", [account])
        if self._is_on("partial_revokes"):
            for schema in _SYSTEM_SCHEMAS:
                cursor.execute(f"REVOKE {_WRITING} ON {schema}.* FROM %s@'%%'", [account])

    def _position(self, cursor: Cursor) -> str:
        cursor.execute("SELECT @@GLOBAL.gtid_executed")
        ((position,),) = cursor.fetchall()
        return str(position)

    def _replay(self, cursor: Cursor, source: ServerAddress, password: str) -> None:
        cursor.execute(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = %s, SOURCE_PORT = %s, SOURCE_USER = %s, "
            "SOURCE_PASSWORD = %s, SOURCE_SSL = 1, SOURCE_CONNECT_RETRY = 1, SOURCE_AUTO_POSITION = 1",
            [*source.socket, REPLICATOR, password],
        )
        cursor.execute("START REPLICA")

    def _replayed(self, cursor: Cursor, position: str, limit: float) -> bool:
        cursor.execute("SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s)", [position, limit])
        return cursor.fetchone() == (0,)

    def _unfollow(self, cursor: Cursor) -> None:
        cursor.execute("STOP REPLICA")
        cursor.execute("RESET REPLICA ALL")

    def _load_plugin(self, loaded: bool) -> None:
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM information_schema.plugins WHERE plugin_name = %s", [PLUGIN])
            if loaded != bool(cursor.fetchone()):
                cursor.execute(
                    f"INSTALL PLUGIN {PLUGIN} SONAME '{PLUGIN}.so'" if loaded else f"UNINSTALL PLUGIN {PLUGIN}"
                )

    def _settings(self) -> list[str]:
        return [
            *_SETTINGS,
            *_PERFORMANCE_SCHEMA,
            *require_mysql(self._root).settings,
            f"partial_revokes={int(self._is_on('partial_revokes'))}",
            f"lower_case_table_names={self._lower_case()}",
            *(["skip_replica_start=ON"] if self._source is None else []),
        ]

    def _lower_case(self) -> int:
        return int(self._is_on("lower_case_table_names"))


def _initialize(programs: MysqlPrograms, directory: Path, lower_case_table_names: int, log: Path) -> None:
    """Make the data of a server whose only user is `root`, without a password."""
    data = directory / "data"
    data.mkdir(parents=True)
    processes.give_to_nobody(directory)
    settings = (
        *_TEMPLATE_SETTINGS,
        *programs.settings,
        f"datadir={data}",
        f"lower_case_table_names={lower_case_table_names}",
        "performance_schema=OFF",
    )
    run_as_nobody(
        [*programs.command, "--no-defaults", "--initialize-insecure", "--disable-log-bin",
         *(f"--{setting}" for setting in settings)],
        log=log,
        env={"PATH": os.defpath, "TZ": "UTC"},
    )  # fmt: skip
    (data / "auto.cnf").unlink()  # a server's own identity


def _keep(made: Path, target: Path) -> Path:
    """Move what was made to the cache; another process may have been faster."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    try:
        copy_template(made, unfinished)
        if not target.exists():
            unfinished.rename(target)
        shutil.rmtree(made)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _fingerprint(lower_case_table_names: int) -> str:
    """Return a name for what the directory was made from, and for the user who made it."""
    parts = (*_TEMPLATE_SETTINGS, str(lower_case_table_names), str(os.geteuid()), PLUGIN_SOURCE.read_text())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
