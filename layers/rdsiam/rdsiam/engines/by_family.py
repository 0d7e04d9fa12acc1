"""The two engines: what a database is worked on with, by the family that it is of."""

from collections.abc import Mapping

from rdsiam.databases import Family
from rdsiam.engines import Engine
from rdsiam.engines.mysql import Mysql
from rdsiam.engines.postgres import Postgres

ENGINES: Mapping[Family, Engine] = {"postgres": Postgres(), "mysql": Mysql()}
