"""Services that set the schedules of rotations."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.aws.rds import Databases, Family
from rdsiam.aws.secrets.schedules import RotatingSecrets
from rdsiam.aws.secrets.value import PasswordRules
from rdsiam.aws.secrets.versions import SecretStore
from rdsiam.engines.logins import Logins
from rdsiam.engines.registry import ROTATORS
from rdsiam.engines.rotation import Rotator
from rdsiam.rotation.targets import Targets
from rdsiam.state.inventory import Inventory


@dataclass(frozen=True)
class RotationServices:
    """Access to RDS, Secrets Manager, access.yaml, the inventory and the databases.

    :ivar rules: rules for new passwords.
    :ivar engines: SQL of rotation, by family.
    """

    databases: Databases
    targets: Targets
    access: ConfirmedAccess
    inventory: Inventory
    logins: Logins
    secrets: RotatingSecrets
    store: SecretStore
    rules: PasswordRules
    engines: Mapping[Family, Rotator] = field(default_factory=lambda: ROTATORS)
