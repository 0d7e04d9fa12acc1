"""The server for the engines `mysql` and `aurora-mysql`: Oracle's MySQL, or MariaDB if that can't be had."""

from __future__ import annotations

import logging
from pathlib import Path

from localcloud.databases.servers import mysql
from localcloud.databases.servers.mariadb import MariadbServer
from localcloud.databases.servers.mysql_family import MysqlFamilyServer
from localcloud.databases.servers.mysql_programs import MISSING, find_mysql

logger = logging.getLogger(__name__)


def mysql_server() -> type[MysqlFamilyServer]:
    """Return the class of the servers."""
    return mysql.MysqlServer if find_mysql() else MariadbServer


def product() -> str:
    """Return the server's product, as `python -m localcloud` prints it."""
    programs = find_mysql()
    return f"MySQL {programs.label}" if programs else "MariaDB"


def prepare(root: Path) -> None:
    """Make an early start of what the first instance needs; see `mysql.prepare`."""
    if find_mysql():
        mysql.prepare(root)
    else:
        logger.warning("MariaDB stands in for MySQL: %s", MISSING)
