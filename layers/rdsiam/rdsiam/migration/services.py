"""The services that a migration uses."""

from dataclasses import dataclass
from typing import Any

from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.aws.rds import Databases
from rdsiam.core.large_answers import LargeResults
from rdsiam.engines.logins import Logins
from rdsiam.migration.secret_retirement import MigratingSecrets
from rdsiam.state.inventory import Inventory
from rdsiam.state.leases import Leases
from rdsiam.state.migrations import Migrations


@dataclass(frozen=True)
class MigrationServices:
    """Access to RDS, Secrets Manager, access.yaml, the inventory and the databases.

    :ivar results: results that neither a checkpoint nor an answer can hold.
    :ivar functions: client of Lambda.
    :ivar onboard_function: name of OnboardFunction with its alias.
    :ivar migrate_function: name of MigrateFunction with the alias by which an execution starts the next one.
    """

    databases: Databases
    access: ConfirmedAccess
    inventory: Inventory
    leases: Leases
    logins: Logins
    migrations: Migrations
    secrets: MigratingSecrets
    results: LargeResults
    functions: Any
    onboard_function: str
    migrate_function: str
