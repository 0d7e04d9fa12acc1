"""A real MariaDB server like RDS's, with IAM logins by token; it stands in for MySQL if that can't be had."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from pathlib import Path
from typing import ClassVar

from localcloud.core import processes
from localcloud.databases.servers.mysql_family import MASTER_PRIVILEGES, REPLICATOR, Cursor, MysqlFamilyServer
from localcloud.databases.servers.plugin_compiler import PLUGIN, compile_plugin
from localcloud.databases.servers.server import ServerAddress, ServerFailed, open_to_nobody, run_as_nobody

logger = logging.getLogger(__name__)

_HEADERS = Path("/usr/include/mariadb/server")
_ENGINE_SETTINGS = (
    "innodb_log_file_size=8M",
    "innodb_autoextend_increment=1",
    "innodb_data_file_path=ibdata1:4M:autoextend",
    "innodb_temp_data_file_path=ibtmp1:4M:autoextend",
    "aria_log_file_size=8M",
)
_SETTINGS = (
    *_ENGINE_SETTINGS,
    "innodb_fast_shutdown=1",
    "log_slave_updates=ON",
    "binlog_format=ROW",
    "aria_pagecache_buffer_size=4M",
    "performance_schema=OFF",
    "symbolic_links=OFF",
    "character_set_server=utf8mb4",
)
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
        unfinished.mkdir()
        _compile_plugin(root)
        processes.give_to_nobody(unfinished)
        run_as_nobody(
            [_find_program("mariadb-install-db"), "--no-defaults", f"--datadir={unfinished / 'data'}", "--skip-test-db",
             "--auth-root-authentication-method=normal", *(f"--{setting}" for setting in _ENGINE_SETTINGS)],
            log=root / "mariadb-install-db.log",
            env={"PATH": os.defpath, "HOME": str(unfinished)},
        )  # fmt: skip
        unfinished.rename(template)
        return template


class MariadbServer(MysqlFamilyServer):
    """A MariaDB instance; see `MysqlFamilyServer`."""

    parameters: ClassVar = {"require_secure_transport": "0", "lower_case_table_names": "0"}
    _own_files = ("master.info", "relay-log.info")

    @property
    def product(self) -> str:
        """The server's product, as the log has it."""
        return "MariaDB"

    def _template(self) -> Path:
        return prepare(self._root)

    def _program(self) -> list[str]:
        return [_find_program("mariadbd")]

    def _plugins(self) -> Path:
        prepare(self._root)
        return _plugin_folder(self._root)

    def _furnish(self, master_password: str) -> None:
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", [self._master, master_password])
            cursor.execute(f"GRANT {MASTER_PRIVILEGES} ON *.* TO %s@'%%' WITH GRANT OPTION", [self._master])
            # RDS gives no privilege to end other users' sessions, but this procedure.
            cursor.execute("CREATE PROCEDURE mysql.rds_kill(IN thread BIGINT) SQL SECURITY DEFINER KILL thread")
            self._make_database(cursor)

    def _position(self, cursor: Cursor) -> str:
        cursor.execute("SELECT @@gtid_binlog_pos")
        ((position,),) = cursor.fetchall()
        return str(position)

    def _replay(self, cursor: Cursor, source: ServerAddress, password: str) -> None:
        cursor.execute(
            "CHANGE MASTER TO MASTER_HOST = %s, MASTER_PORT = %s, MASTER_USER = %s, MASTER_PASSWORD = %s, "
            "MASTER_SSL = 1, MASTER_SSL_VERIFY_SERVER_CERT = 0, MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = slave_pos",
            [*source.socket, REPLICATOR, password],
        )
        cursor.execute("START SLAVE")

    def _replayed(self, cursor: Cursor, position: str, limit: float) -> bool:
        cursor.execute("SELECT MASTER_GTID_WAIT(%s, %s)", [position, limit])
        return cursor.fetchone() == (0,)

    def _unfollow(self, cursor: Cursor) -> None:
        cursor.execute("STOP SLAVE")
        cursor.execute("RESET SLAVE ALL")

    def _load_plugin(self, loaded: bool) -> None:
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM information_schema.plugins WHERE plugin_name = %s", [PLUGIN])
            if loaded != bool(cursor.fetchone()):
                cursor.execute(f"{'INSTALL' if loaded else 'UNINSTALL'} SONAME '{PLUGIN}'")

    def _settings(self) -> list[str]:
        return [
            *_SETTINGS,
            f"lower_case_table_names={int(self._is_on('lower_case_table_names'))}",
            *(["skip_slave_start=ON"] if self._source is None else []),
        ]


def _plugin_folder(root: Path) -> Path:
    return root / "mariadb.plugins"


def _compile_plugin(root: Path) -> None:
    if not _HEADERS.exists():
        raise ServerFailed("MariaDB's headers are missing: apt-get install libmariadbd-dev")
    compile_plugin(
        _plugin_folder(root), root / "gcc.log", "-DMARIADB", "-DMYSQL_DYNAMIC_PLUGIN", f"-I{_HEADERS}"
    )  # fmt: skip


def _find_program(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if path is None:
        raise ServerFailed(f"{name} is missing: apt-get install mariadb-server-core mariadb-client-core")
    return path
