"""Kinds of database servers that tests run on: an engine, perhaps with a version or a setting.

`postgres` is PostgreSQL 18 with an administrator like RDS's. `postgres-vanilla` is the same version with an
administrator who has only the rights that PostgreSQL's catalogs show, as the older versions have: `postgres13` to
`postgres17`. `mysql` is Oracle's server; a test that needs it is skipped, with the reason, on a machine that can't have
it.
"""

import re

import pytest

from localcloud.databases.servers.mysql_programs import MISSING, find_mysql

_KIND = re.compile(r"([a-z-]+)(\d*)")
#: Before PostgreSQL 16 a role that creates roles administers all of them.
_OLDER = [pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("postgres13", "postgres15")]
_NEWER = [pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("postgres16", "postgres17")]
#: All of PostgreSQL.
POSTGRES = ["postgres14", "postgres", "postgres-vanilla", *_OLDER, *_NEWER]
#: Kinds on which the roles with ADMIN OPTION administer a role, and connections are reserved for the master.
SINCE_16 = ["postgres", "postgres-vanilla", *_NEWER]
#: Kinds of these on which nobody else administers it, not even the master.
VANILLA = ["postgres-vanilla", *_NEWER]
#: The others of PostgreSQL.
NOT_VANILLA = [kind for kind in POSTGRES if kind not in VANILLA]
#: Kinds on which a role that creates roles administers all of them.
BEFORE_16 = ["postgres14", *_OLDER]
#: An older PostgreSQL in long suites, which `make test` runs on 18.
OLDER_EXHAUSTIVE = pytest.param("postgres14", marks=pytest.mark.exhaustive)

#: Mark of tests and parameters that need Oracle's server.
needs_mysql = pytest.mark.skipif(find_mysql() is None, reason=MISSING)
#: The parameter for it.
MYSQL = pytest.param("mysql", marks=needs_mysql)
#: The same with `partial_revokes` off, where names of schemas in grants are patterns, as on MariaDB.
MYSQL_NO_PARTIAL = pytest.param("mysql-no-partial", marks=needs_mysql)
#: The parameter for it in long suites, which `make test` runs on MariaDB.
MYSQL_EXHAUSTIVE = pytest.param("mysql", marks=[needs_mysql, pytest.mark.exhaustive])
MYSQL_FAMILY = ["mariadb", MYSQL]


def created_as(kind: str) -> dict[str, str]:
    """Return the parameters of RDS that an instance of a kind is created with."""
    match = _KIND.fullmatch(kind)
    assert match, kind
    engine, version = match.groups()
    return {"Engine": engine} | ({"EngineVersion": f"{version}.12"} if version else {})
