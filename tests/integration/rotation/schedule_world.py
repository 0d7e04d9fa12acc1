"""A database server with moto's Secrets Manager, on which schedules are set in processes that may be killed."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError
from moto.secretsmanager.models import secretsmanager_backends

from rdsiam.access.model import parse
from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.client import SecretsManager
from rdsiam.aws.secrets.errors import SecretsManagerFailed
from rdsiam.aws.secrets.schedules import RotatingSecrets
from rdsiam.aws.secrets.value import PasswordRules, Secret, read_secret
from rdsiam.aws.secrets.versions import SecretStore
from rdsiam.engines.logins import Password
from rdsiam.engines.registry import ROTATORS
from rdsiam.rotation.login import logs_in
from rdsiam.rotation.results import ScheduleOptions
from rdsiam.rotation.schedules import Schedules
from rdsiam.rotation.services import RotationServices
from rdsiam.rotation.targets import Targets
from rdsiam.state.inventory import Inventory
from rdsiam.state.record import SecretRecord
from tests.integration.place import MASTER, MASTER_PASSWORD, Place
from tests.integration.rotation.rotating import (
    ACCOUNT,
    REGION,
    Fault,
    FaultyClient,
    FaultyRotator,
    Killed,
)

FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:rotate"


@dataclass
class World:
    """One database server, its users' secrets, and the rotations that access.yaml declares."""

    place: Place
    client: Any
    dynamodb: Any
    rotate: str = ""
    statements: list[str] = field(default_factory=list)

    def services(self, fault: Fault) -> RotationServices:
        """Return the services of a fresh process; the administrator logs in by password here."""
        secrets_manager, family = SecretsManager(FaultyClient(self.client, fault)), self.place.database.family
        inventory = Inventory(FaultyClient(self.dynamodb, fault), "inventory")
        text = f'version: 1\ndatabases: [{{match: {{identifier: "*"}}{self.rotate}}}]'
        return RotationServices(
            databases=SimpleNamespace(describe=lambda _: self.place.database),  # type: ignore[arg-type]
            targets=Finds(self.place.database, inventory),
            access=SimpleNamespace(current=lambda: SimpleNamespace(file=parse(text))),  # type: ignore[arg-type]
            inventory=inventory,
            logins=SimpleNamespace(manager=lambda _: Password(MASTER, MASTER_PASSWORD)),  # type: ignore[arg-type]
            secrets=RotatingSecrets(secrets_manager, FUNCTION, lambda _: False),
            store=SecretStore(secrets_manager),
            rules=PasswordRules(),
            engines={family: FaultyRotator(ROTATORS[family], fault)},
        )

    def apply(self, fault: Fault | None = None, **options: Any) -> dict[str, Any] | None:
        """Run once; None if the process ended in between."""
        fault = fault or Fault()
        try:
            schedules = Schedules(self.services(fault)).apply(self.place.database.arn, ScheduleOptions(**options))
        except (Killed, ClientError, SecretsManagerFailed, ReadTimeoutError):
            if not fault.struck:
                raise
            return None
        finally:
            self.statements += fault.statements
        return schedules.to_json()

    def declare(self, *users: str, **fields: str) -> None:
        """Declare the rotation of users."""
        declared = {"users": list(users), "every": "30d"} | fields
        self.rotate = f", rotate: {json.dumps(declared)}" if users else ""

    def put(self, user: str, password: str, **tags: str) -> str:
        """Create a secret of a user, as its owner would."""
        document = {"engine": self.place.database.engine, "host": self.place.database.host, "username": user,
                    "port": self.place.database.port, "password": password, "dbname": "shop"}  # fmt: skip
        listed = [{"Key": key.replace("__", ":"), "Value": value} for key, value in tags.items()]
        created = self.client.create_secret(Name=f"own/{user}", SecretString=json.dumps(document), Tags=listed)
        return str(created["ARN"])

    def secrets(self, user: str) -> list[dict[str, Any]]:
        """Return Describe's answer for each secret that holds the user's password."""
        listed = [self.client.describe_secret(SecretId=one["ARN"]) for one in self.client.list_secrets()["SecretList"]]
        return [one for one in listed if one["Name"].endswith(f"/{user}")]

    def clear(self) -> None:
        """Remove all secrets, and their records."""
        for one in list(secretsmanager_backends[ACCOUNT][REGION].secrets.values()):
            self.client.delete_secret(SecretId=one.arn, ForceDeleteWithoutRecovery=True)
        self.dynamodb.delete_item(TableName="inventory", Key={"database": {"S": self.place.database.arn}})

    def record(self, user: str) -> SecretRecord | None:
        """Return the record of the user's secret."""
        record = Inventory(self.dynamodb, "inventory").get(self.place.database.arn)
        return record.secrets.get(user) if record else None

    def value(self, arn: str) -> Secret:
        return read_secret(self.client.get_secret_value(SecretId=arn)["SecretString"])

    def logs_in(self, user: str, password: str) -> bool:
        database = self.place.database
        secret = Secret(database.engine, user, password, database.host, database=database.default_database)
        return logs_in(ROTATORS[database.family], database, secret)


class Finds(Targets):
    """Finds this database for every secret, and no proxies."""

    def __init__(self, database: Database, inventory: Inventory) -> None:
        super().__init__(None, inventory)
        self._database = database

    def _described(self, _: Secret) -> Database:
        return self._database

    def classic_proxies(self, _: str) -> list[str]:
        return []

    def all(self) -> Iterator[Database]:
        yield self._database


def wait_for_test_of_rotation(world: World, arn: str) -> None:
    """Wait until the test that RotateSecret makes has removed its version."""
    while "AWSPENDING" in str(world.client.describe_secret(SecretId=arn)["VersionIdsToStages"]):
        time.sleep(0.01)
