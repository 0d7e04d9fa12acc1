"""Users with passwords on a database that RDS's API made, and their secrets, as Secrets Manager rotates them."""

import json
import secrets
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.account import Account, until
from tests.integration.secret_records import record_secret

DAYS = {"AutomaticallyAfterDays": 30}


class Passwords:
    """Users with passwords on one database, and their secrets."""

    def __init__(self, account: Account, arn: str) -> None:
        self.account, self.arn = account, arn
        self.client = account.cloud.client("secretsmanager")
        found = account.describe(arn)
        self.engine, self.identifier = found["Engine"], found["DBInstanceIdentifier"]
        self.host, self.port = found["Endpoint"]["Address"], found["Endpoint"]["Port"]
        self.master_secret = found["MasterUserSecret"]["SecretArn"]
        self.function = account.cloud.outputs["RotateFunction"]

    def make(self, user: str, options: dict[str, Any] | None = None, **keys: Any) -> str:
        """Make a user and its secret, declare and record its rotation, and return the secret's ARN.

        A key that is None is left out. The schedule is the test's to set.
        """
        password = secrets.token_urlsafe(18)
        with self.account.as_master(self.arn) as master:
            if self.engine == "postgres":
                master.run(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
                master.run(f"GRANT CREATE, USAGE ON SCHEMA public TO {user}")
            else:
                master.run(f"CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'")
                master.run(f"GRANT SELECT, INSERT, CREATE ON shop.* TO '{user}'@'%'")
        document = {
            "engine": self.engine, "host": self.host, "port": self.port, "username": user, "password": password,
            "dbname": "shop",
        } | keys  # fmt: skip
        text = json.dumps({key: value for key, value in document.items() if value is not None})
        made = self.client.create_secret(Name=f"{self.identifier}/{user}", SecretString=text, **(options or {}))
        administrator = keys.get("masterarn")
        turns = {"scheme": "alternating", "administrator": administrator} if administrator else {}
        # So that an event of RDS ends no rotation meanwhile.
        self.account.entries[f"{self.identifier}/{user}"] = {
            "match": {"identifier": self.identifier},
            "rotate": {"users": [user], "every": "30d", "secret": made["ARN"]} | turns,
        }
        self.account.publish_entries()
        record_secret(self.account, self.arn, user, made["ARN"], **turns)
        return str(made["ARN"])

    def rotate(self, secret: str, **options: Any) -> str:
        """Start a rotation, and return the version that is to become the current one."""
        answer = self.client.rotate_secret(
            SecretId=secret, RotationLambdaARN=self.function, RotationRules=DAYS, **options
        )
        return str(answer["VersionId"])

    def value(self, secret: str, stage: str = "AWSCURRENT") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.client.get_secret_value(SecretId=secret, VersionStage=stage)["SecretString"]
        )
        return found

    def stages(self, secret: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = self.client.describe_secret(SecretId=secret)["VersionIdsToStages"]
        return found

    def wait(self, secret: str, version: str) -> None:
        """Wait until that version is the current one and nothing is pending."""
        until(lambda: self.stages(secret).get(version) == ["AWSCURRENT"], 60)

    @property
    def role(self) -> str:
        """The name of the function's role."""
        found = self.account.cloud.client("lambda").get_function_configuration(
            FunctionName=self.function.rpartition(":")[2]
        )
        return str(found["Role"]).rpartition("/")[2]

    def is_current(self, secret: str, version: str, seconds: float) -> bool:
        """Wait until that version is the current one, and return whether it came to be."""
        limit = time.monotonic() + seconds
        while self.stages(secret).get(version) != ["AWSCURRENT"]:
            if time.monotonic() > limit:
                return False
            time.sleep(0.1)
        return True

    def converge(self, secret: str, version: str) -> None:
        """Wait until that version is the current one; rotate again where Secrets Manager gave up, three times at most.

        It is the same rotation that goes on.
        """
        for _ in range(3):
            if self.is_current(secret, version, 10):
                return
            with pytest.raises(ClientError, match="That rotation will be reattempted"):
                self.rotate(secret)
        assert self.is_current(secret, version, 10), "not within three retries"

    def change_state(self, what: str, status: str) -> None:
        """Stop, start or reboot the database, and wait until it is done."""
        client = self.account.cloud.client("rds")
        getattr(client, f"{what}_db_instance")(DBInstanceIdentifier=self.identifier)
        self.account.wait(self.arn, status)

    def hold(self, alone: str, turns: str) -> list[str]:
        """Return what an administrator's session runs so that setSecret of both has to wait for it."""
        if self.engine == "postgres":
            return [
                "BEGIN",
                f"ALTER ROLE {alone} CONNECTION LIMIT 9",
                f"CREATE ROLE {turns}_clone",
            ]
        return ["FLUSH TABLES WITH READ LOCK"]

    @property
    def waiting(self) -> str:
        """The query that counts sessions which wait for another one."""
        if self.engine == "postgres":
            return "SELECT count(*) FROM pg_locks WHERE NOT granted"
        return "SELECT count(*) FROM information_schema.processlist WHERE state LIKE 'Waiting for%lock'"

    def log_line(self, secret: str) -> dict[str, Any]:
        """Return the record of the failed step of a secret, once there is one."""
        line: dict[str, Any] = until(lambda: self.log_lines(secret), 30)[0]
        return line

    def log_lines(self, secret: str) -> list[dict[str, Any]]:
        """Return the records of the steps of a secret that have failed so far."""
        lines = (self.account.cloud.logs / "RotateFunction.log").read_text().splitlines()
        failed = [line for line in lines if "rotation step failed" in line and secret in line]
        return [json.loads(line) for line in failed if line.startswith("{")]

    def logs_in(self, login: dict[str, Any]) -> None:
        self.account.connect(self.arn, login["username"], login["password"]).close()


class Pair:
    """The secret of one user and that of two who take turns, rotated at the same time."""

    def __init__(self, passwords: Passwords, name: str) -> None:
        self.passwords = passwords
        self.alone, self.turns = f"{name}_alone", f"{name}_turns"
        self.secrets = [passwords.make(self.alone), passwords.make(self.turns, masterarn=passwords.master_secret)]
        self.versions: list[str] = []

    def rotate(self) -> None:
        self.versions = [self.passwords.rotate(secret) for secret in self.secrets]

    def wait_for(self, step: str) -> None:
        """Wait until a step of both is done."""
        log = self.passwords.account.cloud.logs / "RotateFunction.log"

        def done(secret: str) -> bool:
            words = ("rotation step done", secret, f'"{step}"')
            return any(all(word in line for word in words) for line in log.read_text().splitlines())

        until(lambda: all(done(secret) for secret in self.secrets), 30)

    def converges(self) -> None:
        """Rotate on; then AWSCURRENT logs in, and that of two users before it, too."""
        for secret, version in zip(self.secrets, self.versions, strict=True):
            self.passwords.converge(secret, version)
            self.passwords.logs_in(self.passwords.value(secret))
        assert self.passwords.value(self.secrets[0])["username"] == self.alone
        assert self.passwords.value(self.secrets[1])["username"] == f"{self.turns}_clone"
        self.passwords.logs_in(self.passwords.value(self.secrets[1], "AWSPREVIOUS"))
