"""Rotation as Secrets Manager drives it: rotate_secret on localcloud, the deployed function, real databases."""

import json
import secrets
import socket
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.fix_account import Account, until

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
        """Make a user and its secret, and return the secret's ARN; a key that is None is left out."""
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

    def is_current(self, secret: str, version: str, seconds: float) -> bool:
        """Wait until that version is the current one, and return whether it came to be."""
        limit = time.monotonic() + seconds
        while self.stages(secret).get(version) != ["AWSCURRENT"]:
            if time.monotonic() > limit:
                return False
            time.sleep(0.1)
        return True

    def change_state(self, what: str, status: str) -> None:
        """Stop, start or reboot the database, and wait until it is done."""
        client = self.account.cloud.client("rds")
        getattr(client, f"{what}_db_instance")(DBInstanceIdentifier=self.identifier)
        self.account.wait(self.arn, status)

    def hold(self, alone: str, turns: str) -> list[str]:
        """Return what an administrator's session runs so that setSecret of both has to wait for it."""
        if self.engine == "postgres":
            return [
                f"SELECT pg_advisory_lock(hashtext('rdsiam {turns}'))",
                "BEGIN",
                f"ALTER ROLE {alone} CONNECTION LIMIT 9",
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

        def find() -> dict[str, Any] | None:
            for line in (self.account.cloud.logs / "RotateFunction.log").read_text().splitlines():
                if "rotation step failed" in line and secret in line and line.startswith("{"):
                    record: dict[str, Any] = json.loads(line)
                    return record
            return None

        line: dict[str, Any] = until(find, 30)
        return line

    def logs_in(self, login: dict[str, Any]) -> None:
        self.account.connect(self.arn, login["username"], login["password"]).close()


@pytest.fixture(scope="module", params=["postgres", "mariadb"])
def passwords(request, account) -> Passwords:
    arn = account.create(f"rotated-{request.param}", request.param)
    account.wait(arn)
    return Passwords(account, arn)


def test_one_user_gets_a_new_password(passwords):
    secret = passwords.make("single", host=None, dbInstanceIdentifier=passwords.identifier, note={"kept": [1]})
    before = passwords.value(secret)
    version = passwords.rotate(secret)
    passwords.wait(secret, version)
    after = passwords.value(secret)
    passwords.logs_in(after)
    assert passwords.account.refused(passwords.arn, "single", before["password"])
    assert after | {"password": ""} == before | {"password": ""}
    assert passwords.value(secret, "AWSPREVIOUS") == before
    until(lambda: "LastRotatedDate" in passwords.client.describe_secret(SecretId=secret), 10)
    described = passwords.client.describe_secret(SecretId=secret)
    assert described["RotationEnabled"]
    assert 29 <= (described["NextRotationDate"] - described["LastRotatedDate"]).days <= 30


@pytest.mark.parametrize("owned_by_rds", [True, False], ids=["administrator of RDS", "tagged administrator"])
def test_two_users_take_turns_and_share_what_they_make(passwords, owned_by_rds):
    administrator = passwords.master_secret
    if not owned_by_rds:
        value = {
            "username": "boss", "password": passwords.account.master_password(passwords.arn), "host": passwords.host
        }  # fmt: skip
        administrator = passwords.client.create_secret(
            Name=f"{passwords.identifier}/administrator",
            SecretString=json.dumps(value),
            Tags=[{"Key": "rdsiam:administrator", "Value": "true"}],
        )["ARN"]
    user = "turns" if owned_by_rds else "takes"
    secret = passwords.make(user, masterarn=administrator)
    before = passwords.value(secret)
    for number, name in enumerate([f"{user}_clone", user, f"{user}_clone"]):
        version = passwords.rotate(secret)
        passwords.wait(secret, version)
        now = passwords.value(secret)
        assert now["username"] == name
        with passwords.account.connect(passwords.arn, name, now["password"]) as session:
            session.run(f"CREATE TABLE {user}_{number} (id int)")
            session.run(f"INSERT INTO {user}_{number} VALUES ({number})")
            for earlier in range(number):
                assert session.run(f"SELECT id FROM {user}_{earlier}") == [(earlier,)]
        if number == 0:
            passwords.logs_in(before)  # whoever has the old password goes on until the next turn


def test_a_secret_with_a_key_of_the_customers_own_is_rotated(passwords):
    key = passwords.account.cloud.client("kms").create_key()["KeyMetadata"]["Arn"]
    secret = passwords.make("keyed", {"KmsKeyId": key})
    passwords.wait(secret, passwords.rotate(secret))
    passwords.logs_in(passwords.value(secret))


def test_the_secret_says_how_its_passwords_are_made(passwords):
    secret = passwords.make("shaped", passwordLength=12, passwordExcludeCharacters="0123456789.-_")
    passwords.wait(secret, passwords.rotate(secret))
    made = passwords.value(secret)["password"]
    assert len(made) == 12
    assert not set(made) & set("0123456789.-_")


def test_what_fails_is_tried_again_with_the_same_version(passwords):
    secret = passwords.make("again")
    right = passwords.value(secret)
    changed = secrets.token_urlsafe(18)
    with passwords.account.as_master(passwords.arn) as master:
        how = "ALTER ROLE again PASSWORD" if passwords.engine == "postgres" else "ALTER USER again IDENTIFIED BY"
        master.run(f"{how} '{changed}'")
        version = passwords.rotate(secret)
        cause = passwords.log_line(secret)["message"]
        assert "with none of AWSCURRENT, AWSPENDING, AWSPREVIOUS" in cause
        master.run(f"{how} '{right['password']}'")
    passwords.wait(secret, version)
    passwords.logs_in(passwords.value(secret))


def test_an_iam_user_is_refused_and_keeps_its_plugin(passwords):
    account, arn = passwords.account, passwords.arn
    secret = passwords.make("modern")
    account.cloud.client("rds").modify_db_instance(
        DBInstanceIdentifier=passwords.identifier, EnableIAMDatabaseAuthentication=True, ApplyImmediately=True
    )
    until(lambda: account.describe(arn)["IAMDatabaseAuthenticationEnabled"], 30)
    with account.as_master(arn) as master:
        if passwords.engine == "postgres":
            master.run("GRANT rds_iam TO modern")
        else:
            master.run("ALTER USER modern IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL")
    passwords.rotate(secret)
    cause = passwords.log_line(secret)["message"]
    assert "modern is an IAM user and logs in by token" in cause
    assert account.refused(arn, "modern", passwords.value(secret)["password"])


def test_a_rotation_that_was_given_up_is_begun_again_and_no_second_one_beside_it(passwords):
    secret = passwords.make("stuck", host="elsewhere.example")
    version = passwords.rotate(secret)
    assert "no endpoint of an instance or cluster" in passwords.log_line(secret)["message"]
    with pytest.raises(ClientError, match="A previous rotation isn't complete"):
        passwords.rotate(secret)
    assert passwords.stages(secret)[version] == ["AWSPENDING"]


def test_a_secret_sends_no_password_where_describe_does_not_point(passwords):
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.5)
        for user, keys in {
            "lured": {"host": "localhost", "port": trap.getsockname()[1]},
            "lured_by_name": {"port": trap.getsockname()[1], "dbInstanceIdentifier": passwords.identifier},
            "lured_by_cluster": {"port": trap.getsockname()[1], "dbClusterIdentifier": "no-such-cluster"},
        }.items():
            secret = passwords.make(user, **keys)
            passwords.rotate(secret)
            assert "setSecret of" in passwords.log_line(secret)["message"]
        with pytest.raises(TimeoutError):
            trap.accept()


def test_the_function_can_be_tried_without_rotating(passwords):
    secret = passwords.make("tried")
    before = passwords.value(secret)
    passwords.client.rotate_secret(
        SecretId=secret, RotationLambdaARN=passwords.function, RotationRules=DAYS, RotateImmediately=False
    )
    until(lambda: list(passwords.stages(secret).values()) == [["AWSCURRENT"]], 20)
    assert passwords.value(secret) == before


def test_what_rds_manages_can_not_be_given_to_the_function(passwords):
    with pytest.raises(ClientError, match="managed by rds"):
        passwords.rotate(passwords.master_secret)


def test_nobody_but_secrets_manager_invokes_the_function(passwords):
    event = {"Step": "createSecret", "SecretId": passwords.master_secret, "ClientRequestToken": "x" * 32}
    with pytest.raises(ClientError, match="explicit deny in a resource-based policy"):
        passwords.account.invoke("RotateFunction", event)


def test_a_function_that_does_not_let_secrets_manager_in_can_not_be_set(passwords):
    secret = passwords.make("misled")
    vend = passwords.account.cloud.functions["VendFunction"].partition(":")[0]
    with pytest.raises(ClientError, match="Secrets Manager cannot invoke the specified Lambda function"):
        passwords.client.rotate_secret(
            SecretId=secret,
            RotationLambdaARN=passwords.function.rpartition(":")[0] + ":" + vend,
            RotationRules=DAYS,
        )


# --- the database stops, starts and reboots meanwhile ---


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
        """Rotate again where Secrets Manager has given up, three times at most; then AWSCURRENT logs in."""
        for secret, version in zip(self.secrets, self.versions, strict=True):
            for _ in range(3):
                if self.passwords.is_current(secret, version, 15):
                    break
                with pytest.raises(ClientError, match="That rotation will be reattempted"):
                    self.passwords.rotate(secret)
            assert self.passwords.is_current(secret, version, 15), "not within three retries"
            self.passwords.logs_in(self.passwords.value(secret))
        assert self.passwords.value(self.secrets[0])["username"] == self.alone
        assert self.passwords.value(self.secrets[1])["username"] == f"{self.turns}_clone"
        self.passwords.logs_in(self.passwords.value(self.secrets[1], "AWSPREVIOUS"))


def test_a_database_that_is_stopped_is_rotated_when_it_is_started(passwords):
    pair = Pair(passwords, "stopped")
    passwords.change_state("stop", "stopped")
    try:
        pair.rotate()
        for secret in pair.secrets:
            assert "failed at port" in passwords.log_line(secret)["message"]
    finally:
        passwords.account.wait(passwords.arn, "stopped")
        passwords.change_state("start", "available")
    pair.converges()


@pytest.mark.parametrize("step", ["createSecret", "setSecret", "testSecret", "finishSecret"])
def test_a_database_that_reboots_after_a_step_stops_no_rotation_for_good(passwords, step):
    pair = Pair(passwords, f"after_{step.lower()}")
    pair.rotate()
    pair.wait_for(step)
    passwords.change_state("reboot", "available")
    pair.converges()


def test_a_database_that_reboots_in_the_middle_of_set_secret_stops_no_rotation_for_good(passwords):
    pair = Pair(passwords, "within")
    with passwords.account.as_master(passwords.arn) as master:
        for statement in passwords.hold(pair.alone, pair.turns):
            master.run(statement)
        pair.rotate()
        until(lambda: master.run(passwords.waiting)[0][0] == 2, 30)
        passwords.change_state("reboot", "available")
    for secret in pair.secrets:
        cause = passwords.log_line(secret)["message"]
        assert "setSecret of" in cause
        assert "connection" in cause
    pair.converges()
