"""What onboarding and reconciling work with: made once by the handler, shared by all that it calls."""

from dataclasses import dataclass
from typing import Any, Protocol

from rdsiam.access.store import AccessStore
from rdsiam.aws.rds import Databases
from rdsiam.engines.logins import Logins
from rdsiam.state.inventory import Inventory
from rdsiam.state.leases import Leases


class UserServices(Protocol):
    """What the users of a database are worked on with."""

    @property
    def databases(self) -> Databases:
        """Instances, clusters and proxies."""

    @property
    def access(self) -> AccessStore:
        """access.yaml."""

    @property
    def inventory(self) -> Inventory:
        """What is ours."""

    @property
    def leases(self) -> Leases:
        """Who may change which server."""

    @property
    def logins(self) -> Logins:
        """Tokens, and the master's password."""


@dataclass(frozen=True)
class Services:
    """What onboarding and reconciling work with.

    :ivar policy_function: name of PolicyFunction, which alone writes IAM.
    :ivar secrets_function: name of SecretsFunction, which alone sets schedules of rotations.
    :ivar onboard_function: name of OnboardFunction with its alias, which a reconcile invokes for each database.
    """

    databases: Databases
    access: AccessStore
    inventory: Inventory
    leases: Leases
    logins: Logins
    events: Any
    functions: Any
    policy_function: str
    secrets_function: str
    onboard_function: str
