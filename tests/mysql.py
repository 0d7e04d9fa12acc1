"""Oracle's MySQL in the tests: skipped, with the reason, on a machine that can't have it."""

import pytest

from localcloud.databases.servers.mysql_programs import MISSING, find_mysql

#: Mark of tests and parameters that need Oracle's server.
needs_mysql = pytest.mark.skipif(find_mysql() is None, reason=MISSING)
#: The parameter for it.
MYSQL = pytest.param("mysql", marks=needs_mysql)
#: The same with `partial_revokes` off, where names of schemas in grants are patterns, as on MariaDB.
MYSQL_NO_PARTIAL = pytest.param("mysql-no-partial", marks=needs_mysql)
#: The parameter for it in long suites, which `make test` runs on MariaDB.
MYSQL_EXHAUSTIVE = pytest.param("mysql", marks=[needs_mysql, pytest.mark.exhaustive])
MYSQL_FAMILY = ["mariadb", MYSQL]
