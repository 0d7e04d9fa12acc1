"""Clients and stores that onboarding uses: made once by the handler, shared by all modules."""

from dataclasses import dataclass
from typing import Any, Protocol

from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.access.store import AccessStore
from rdsiam.aws.rds import Databases
from rdsiam.core.large_answers import LargeResults
from rdsiam.engines.logins import Logins
from rdsiam.state.applied_access import AppliedAccess
from rdsiam.state.inventory import Inventory
from rdsiam.state.leases import Leases


class UserServices(Protocol):
    """Clients and stores for the users of a database."""

    @property
    def databases(self) -> Databases:
        """Instances, clusters and proxies."""

    @property
    def access(self) -> ConfirmedAccess:
        """The access.yaml that is in force."""

    @property
    def inventory(self) -> Inventory:
        """The records of databases, and of the accounts that rdsiam manages."""

    @property
    def leases(self) -> Leases:
        """Leases of database servers."""

    @property
    def logins(self) -> Logins:
        """Tokens, and the master's password."""


@dataclass(frozen=True)
class OnboardingServices:
    """Clients and stores for onboarding, revocation and reconciliation.

    :ivar newest: the newest access.yaml, which a reconcile compares with the applied version.
    :ivar applied: the version of access.yaml that the last reconcile applied.
    :ivar results: results that neither a checkpoint nor an answer can hold.
    :ivar events: client of EventBridge.
    :ivar functions: client of Lambda.
    :ivar policy_function: name of PolicyFunction, the only writer of IAM policies.
    :ivar secrets_function: name of SecretsFunction, the only function that schedules rotations.
    :ivar connect_role_shards: number of roles that sign vended tokens.
    :ivar onboard_function: name of OnboardFunction with the alias by which a reconcile invokes it for each database.
    """

    databases: Databases
    access: ConfirmedAccess
    newest: AccessStore
    applied: AppliedAccess
    inventory: Inventory
    leases: Leases
    logins: Logins
    results: LargeResults
    events: Any
    functions: Any
    policy_function: str
    secrets_function: str
    connect_role_shards: int
    onboard_function: str
