"""Databases with users that keep a password, their secrets, and `rdsiam rotate` as people run it."""

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from tests.integration.account import Account, until

MANAGED = {"Key": "rdsiam:managed", "Value": "true"}


@dataclass
class Scheduled:
    """One database whose users' passwords are rotated as access.yaml says."""

    account: Account
    arn: str
    secrets: list[str] = field(default_factory=list)

    @classmethod
    def make(cls, account: Account, identifier: str, engine: str) -> "Scheduled":
        """Create and onboard it, with an IAM user `app`."""
        made = cls(account, account.create(identifier, engine))
        account.wait(made.arn)
        made.rotate()
        account.onboard(made.arn)
        return made

    def __post_init__(self) -> None:
        self.client = self.account.cloud.client("secretsmanager")
        found = self.account.describe(self.arn)
        self.identifier, self.engine = found["DBInstanceIdentifier"], found["Engine"]

    @property
    def postgres(self) -> bool:
        return self.engine == "postgres"

    def remove(self) -> None:
        """Delete the database and the secrets, and take it out of access.yaml."""
        self.account.declare(self.identifier)
        self.account.cloud.client("rds").delete_db_instance(
            DBInstanceIdentifier=self.identifier, SkipFinalSnapshot=True
        )
        until(lambda: self.account.record(self.arn) is None, 60)
        listed = self.client.list_secrets(Filters=[{"Key": "name", "Values": [f"rdsiam/{self.identifier}/"]}])
        for arn in {*self.secrets, *(one["ARN"] for one in listed["SecretList"])}:
            self.client.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)

    # --- access.yaml ---

    def rotate(self, *users: str, **more: str) -> None:
        """Say in access.yaml who is rotated."""
        app = {"name": "app", "privileges": "readonly", "on": ["shop"]}
        self.account.entries[self.identifier] = {"match": {"identifier": self.identifier}, "users": [app]} | (
            {"rotate": {"users": list(users), "every": "30d"} | more} if users else {}
        )
        self.account.publish_entries()

    # --- the database ---

    def make_user(self, user: str) -> str:
        """Make a user as its owner would, and return its password."""
        password = secrets.token_urlsafe(18)
        with self.account.as_master(self.arn) as master:
            if self.postgres:
                master.run(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
            else:
                master.run(f"CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'")
                master.run(f"GRANT SELECT ON shop.* TO '{user}'@'%'")
        return password

    def set_password(self, user: str, password: str) -> None:
        """Set a password behind rdsiam's back."""
        how = f"ALTER ROLE {user} PASSWORD" if self.postgres else f"ALTER USER {user} IDENTIFIED BY"
        with self.account.as_master(self.arn) as master:
            master.run(f"{how} '{password}'")

    def logs_in(self, user: str, password: str) -> bool:
        """Tell whether a password works."""
        return not self.account.refused(self.arn, user, password)

    # --- secrets ---

    def put(self, user: str, password: str, tagged: bool = True, key: str | None = None, **more: Any) -> str:
        """Make a user's secret as its owner would, and return its ARN."""
        endpoint = self.account.describe(self.arn)["Endpoint"]
        value = {
            "engine": self.engine, "host": endpoint["Address"], "port": endpoint["Port"], "username": user,
            "password": password, "dbname": "shop",
        } | more  # fmt: skip
        made = self.client.create_secret(
            Name=f"{self.identifier}/{user}",
            SecretString=json.dumps(value),
            **({"Tags": [MANAGED]} if tagged else {}),
            **({"KmsKeyId": key} if key else {}),
        )
        self.secrets.append(made["ARN"])
        return str(made["ARN"])

    def with_secret(self, user: str, alone: bool = False) -> str:
        """Make a user and its secret, have it on its schedule, and return the secret's ARN.

        :param alone: leave the others that were rotated before as they are.
        """
        arn = self.put(user, self.make_user(user))
        self.rotate(user, secret=arn)
        answer = self.ask({"database": self.arn} | ({"user": user} if alone else {}))
        assert answer["status"] == "written", answer
        self.wait_until_nothing_is_pending(arn)
        return arn

    def value(self, secret: str) -> dict[str, Any]:
        """Return the current value of a secret."""
        found: dict[str, Any] = json.loads(self.client.get_secret_value(SecretId=secret)["SecretString"])
        return found

    def describe(self, secret: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.describe_secret(SecretId=secret)
        return found

    def wait_until_nothing_is_pending(self, secret: str) -> None:
        """Wait until nothing is pending."""
        until(lambda: "AWSPENDING" not in str(self.describe(secret)["VersionIdsToStages"]), 30)

    # --- SecretsFunction, and the command ---

    def ask(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Invoke SecretsFunction."""
        answer: dict[str, Any] = self.account.invoke("SecretsFunction", payload)
        assert "errorMessage" not in answer, answer
        return answer
