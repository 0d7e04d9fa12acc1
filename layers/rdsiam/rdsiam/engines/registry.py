"""The registry of engines: for each family of engines the objects that hold its SQL."""

from collections.abc import Mapping

from rdsiam.aws.rds import Family
from rdsiam.engines.migration import Migrator
from rdsiam.engines.mysql.engine import Mysql
from rdsiam.engines.mysql.migration import MysqlMigrator
from rdsiam.engines.mysql.remediation import MysqlRemediationSql
from rdsiam.engines.mysql.rotation import MysqlRotator
from rdsiam.engines.postgres.engine import Postgres
from rdsiam.engines.postgres.migration import PostgresMigrator
from rdsiam.engines.postgres.remediation import PostgresRemediationSql
from rdsiam.engines.postgres.rotation import PostgresRotator
from rdsiam.engines.protocols import Engine
from rdsiam.engines.remediation import RemediationSql
from rdsiam.engines.rotation import Rotator

#: SQL of onboarding and of the audit.
ENGINES: Mapping[Family, Engine] = {"postgres": Postgres(), "mysql": Mysql()}
#: SQL of migrations from a password to tokens.
MIGRATORS: Mapping[Family, Migrator] = {"postgres": PostgresMigrator(), "mysql": MysqlMigrator()}
#: SQL of password rotation.
ROTATORS: Mapping[Family, Rotator] = {"postgres": PostgresRotator(), "mysql": MysqlRotator()}
#: SQL that remediates findings, for people to run.
REMEDIATIONS: Mapping[Family, RemediationSql] = {"postgres": PostgresRemediationSql(), "mysql": MysqlRemediationSql()}
