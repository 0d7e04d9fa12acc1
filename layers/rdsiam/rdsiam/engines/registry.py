"""The two engines: what a database is worked on with, by the family that it is of."""

from collections.abc import Mapping

from rdsiam.aws.rds import Family
from rdsiam.engines.mysql.engine import Mysql
from rdsiam.engines.postgres.engine import Postgres
from rdsiam.engines.protocols import Engine

ENGINES: Mapping[Family, Engine] = {"postgres": Postgres(), "mysql": Mysql()}
