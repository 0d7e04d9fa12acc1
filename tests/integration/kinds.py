"""Kinds of database servers that tests of the engines run on; `make_place` makes them.

`postgres` is PostgreSQL 18 with an administrator like RDS's. `postgres-vanilla` is the same version with an
administrator who has only the rights that PostgreSQL's catalogs show, as the older versions have.
"""

import pytest

#: Before PostgreSQL 16 whoever creates roles administers all of them.
_OLDER = [pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("postgres13", "postgres15")]
_NEWER = [pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("postgres16", "postgres17")]
#: All of PostgreSQL.
POSTGRES = ["postgres14", "postgres", "postgres-vanilla", *_OLDER, *_NEWER]
#: Those on which a role is administered by who has ADMIN OPTION on it, and connections are reserved for the master.
SINCE_16 = ["postgres", "postgres-vanilla", *_NEWER]
#: Those of them on which nobody else administers it, not even the master.
VANILLA = ["postgres-vanilla", *_NEWER]
#: Those on which a role that creates roles administers all of them.
BEFORE_16 = ["postgres14", *_OLDER]
