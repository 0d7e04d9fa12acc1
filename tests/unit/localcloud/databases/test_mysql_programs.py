"""Oracle's MySQL on a machine: which servers count, and where they are looked for."""

from pathlib import Path

import pytest

from localcloud.core import cache, processes
from localcloud.databases.servers import mysql_choice, mysql_programs
from localcloud.databases.servers.mariadb import MariadbServer
from localcloud.databases.servers.mysql import MysqlServer
from localcloud.databases.servers.mysql_programs import MISSING, find_mysql, require_mysql
from localcloud.databases.servers.server import ServerFailed

ORACLE = "mysqld  Ver 8.4.7 for Linux on x86_64 (MySQL Community Server - GPL)"


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Return the folder of a machine without any server, with a cache folder of its own."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(mysql_programs, "_SYSTEM", str(tmp_path / "sbin"))
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    mysql_programs._on_the_path.cache_clear()
    mysql_programs._fetched.cache_clear()


def make_program(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def unpack(home: Path, says: str) -> None:
    """Unpack packages as `scripts/fetch-mysql` does."""
    make_program(home / "usr/lib64/ld-linux-x86-64.so.2", says)
    make_program(home / "usr/sbin/mysqld", says)
    (home / "usr/lib/x86_64-linux-gnu").mkdir(parents=True)


def test_a_server_on_the_path_is_taken_with_its_plugins(machine):
    server = make_program(machine / "bin/mysqld", ORACLE)
    (machine / "lib/mysql/plugin").mkdir(parents=True)
    programs = find_mysql()
    assert programs is not None
    assert (programs.label, programs.command) == ("8.4.7", (str(server),))
    assert programs.plugins == machine / "lib/mysql/plugin"
    assert programs.settings == ()
    assert mysql_choice.mysql_server() is MysqlServer
    assert mysql_choice.product() == "MySQL 8.4.7"


@pytest.mark.parametrize(
    "says",
    [
        "mysqld  Ver 10.11.14-MariaDB-0+deb12u2 for debian-linux-gnu on x86_64 (Debian 12)",
        "mysqld  Ver 8.0.43-34 for Linux on x86_64 (Percona Server (GPL), Release 34)",
        "mysqld  Ver 5.7.44 for Linux on x86_64 (MySQL Community Server (GPL))",
        "mysqld  Ver 8.0.29 for Linux on x86_64 (MySQL Community Server - GPL)",
        "",
    ],
)
def test_a_server_of_others_or_an_old_one_does_not_count(machine, says):
    make_program(machine / "sbin/mysqld", says)
    (machine / "lib/mysql/plugin").mkdir(parents=True)
    assert find_mysql() is None


def test_a_fetched_server_is_started_by_its_own_loader(machine):
    unpack(machine / "cache/mysql", "mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))")
    programs = find_mysql()
    assert programs is not None
    home = machine / "cache/mysql/usr"
    assert programs.version == (9, 7, 4)
    assert programs.command == (
        f"{home}/lib64/ld-linux-x86-64.so.2", "--library-path", f"{home}/lib/x86_64-linux-gnu", f"{home}/sbin/mysqld",
    )  # fmt: skip
    assert programs.settings == (
        f"lc_messages_dir={home}/share/mysql", f"character_sets_dir={home}/share/mysql/charsets",
    )  # fmt: skip


def test_a_cache_that_nobody_can_enter_is_copied(machine, monkeypatch):
    unpack(machine / "cache/mysql", ORACLE)
    monkeypatch.setattr(processes, "nobody_can_enter", lambda _: False)
    (machine / "root").mkdir()
    for _ in range(2):
        programs = require_mysql(machine / "root")
        assert programs.command[-1] == str(machine / "root/mysql.programs/usr/sbin/mysqld")


def test_without_a_server_mariadb_stands_in_and_the_log_says_why(machine, caplog):
    assert find_mysql() is None
    with pytest.raises(ServerFailed, match="make setup"):
        require_mysql(machine)
    assert mysql_choice.mysql_server() is MariadbServer
    assert mysql_choice.product() == "MariaDB"
    mysql_choice.prepare(machine)
    assert f"MariaDB stands in for MySQL: {MISSING}" in caplog.text
