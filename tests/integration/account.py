"""An AWS account as its owner sees it: roles, access.yaml, databases made by RDS's API, logins with boto3's tokens."""

import contextlib
import itertools
import json
import os
import ssl
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import psycopg
import pymysql
import yaml

from localcloud.client import RunningCloud
from localcloud.lambda_.emulators import RUNTIME
from rdsiam.access.store import CONFIRMED
from tests.integration import commands
from tests.kinds import created_as
from tests.waiting import growing_pauses

ROOT = Path(__file__).parents[2]
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "sts:AssumeRole"}
    ],
}


@dataclass
class Account:
    """Actions of the tests in the account. Entries of access.yaml add up, so that tests don't undo each other's.

    :ivar shared: names of entries and databases that several files use; the others go with the file that made them.
    :ivar passwords: masters' passwords of databases that are gone, by what they are.
    """

    cloud: RunningCloud
    entries: dict[str, Any] = field(default_factory=dict)
    auditors: list[dict[str, str]] = field(default_factory=list)
    shared: set[str] = field(default_factory=set)
    passwords: dict[str, str] = field(default_factory=dict)

    # --- IAM ---

    def make_role(self, name: str, managed: bool = True) -> str:
        """Make a role that anybody of the account may assume, tagged as one that rdsiam may attach policies to."""
        iam = self.cloud.client("iam")
        tags = [{"Key": "rdsiam:managed", "Value": "true"}] if managed else []
        arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST), Tags=tags)["Role"]["Arn"]
        return arn

    def assume(self, role: str, **options: Any) -> dict[str, Any]:
        """Return credentials of the role."""
        credentials: dict[str, Any] = self.cloud.client("sts").assume_role(
            RoleArn=role, RoleSessionName="test-session", **options
        )["Credentials"]
        return credentials

    def let_call_the_api(self, role: str) -> None:
        """Allow a role to call the HTTP API, which API Gateway asks of every caller."""
        statement = {"Sid": "Ask", "Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}
        self.cloud.client("iam").put_role_policy(
            RoleName=role.rpartition("/")[2],
            PolicyName="ask",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        )

    def credentials_of(self, function: str) -> dict[str, Any]:
        """Return the credentials of a function's role, as code inside it finds them; nobody may assume these roles.

        The function must have run, as its environment is what is looked into.
        """
        name = self.cloud.functions[function].partition(":")[0]
        if function == "OnboardFunction" and not processes_of(name):
            self.invoke("OnboardFunction", {})
        environment = next(process.environ() for process in processes_of(name))
        names = {
            "AccessKeyId": "AWS_ACCESS_KEY_ID",
            "SecretAccessKey": "AWS_SECRET_ACCESS_KEY",
            "SessionToken": "AWS_SESSION_TOKEN",
        }
        return {key: environment[variable] for key, variable in names.items()}

    def administrator(self) -> dict[str, Any]:
        """Return the administrator's own credentials, in the form of a role's."""
        own = self.cloud.info["credentials"]
        return {
            "AccessKeyId": own["access_key_id"],
            "SecretAccessKey": own["secret_access_key"],
            "SessionToken": None,
        }

    # --- access.yaml ---

    def declare(self, identifier: str, *users: dict[str, Any]) -> None:
        """Declare the users of one database; none takes its entry away."""
        self.entries.pop(identifier, None)
        if users:
            self.entries[identifier] = {"match": {"identifier": identifier}, "users": list(users)}
        self.publish_entries()

    def publish_entries(self) -> None:
        """Put access.yaml with all entries."""
        content = {"version": 1, "auditors": self.auditors, "databases": list(self.entries.values())}
        self.publish(yaml.dump(content, Dumper=yaml.CSafeDumper))

    def publish(self, text: str) -> None:
        """Put access.yaml, and confirm that callers may lose their logins."""
        self.publish_unconfirmed(text, CONFIRMED)

    def publish_unconfirmed(self, text: str, metadata: Mapping[str, str] = MappingProxyType({})) -> str:
        """Put access.yaml as the AWS CLI does, and return its version: the change limit of vending applies."""
        made = self.cloud.client("s3").put_object(
            Bucket=self.cloud.info["outputs"]["AccessBucket"],
            Key="access.yaml",
            Body=text.encode(),
            Metadata=dict(metadata),
        )
        return str(made["VersionId"])

    # --- RDS ---

    def create(self, identifier: str, kind: str = "postgres", **options: Any) -> str:
        """Create an instance as anybody would, and return its ARN without waiting.

        :param kind: an engine, or one with a major version, such as `postgres14`.
        """
        arguments = {
            "DBInstanceClass": "db.t4g.medium",
            "AllocatedStorage": 20,
            "MasterUsername": "boss",
            "ManageMasterUserPassword": True,
            "DBName": "shop",
        } | options
        rds = self.cloud.client("rds")
        made = rds.create_db_instance(DBInstanceIdentifier=identifier, **created_as(kind), **arguments)["DBInstance"]
        return str(made["DBInstanceArn"])

    def describe(self, arn: str) -> dict[str, Any]:
        """Describe the instance of that ARN; a cluster in the same shape."""
        if ":cluster:" in arn:
            cluster = self.cloud.client("rds").describe_db_clusters(DBClusterIdentifier=arn)["DBClusters"][0]
            return dict(cluster) | {"Endpoint": {"Address": cluster["Endpoint"], "Port": cluster["Port"]}}
        found: dict[str, Any] = self.cloud.client("rds").describe_db_instances(DBInstanceIdentifier=arn)["DBInstances"][
            0
        ]
        return found

    def wait(self, arn: str, status: str = "available", seconds: float = 60) -> dict[str, Any]:
        """Wait until the instance has the status."""
        return until(lambda: (found := self.describe(arn))["DBInstanceStatus"] == status and found, seconds)

    def wait_onboarded(self, arn: str, seconds: float = 60) -> None:
        """Wait until the inventory says that the event's onboarding has ended."""
        until(lambda: (record := self.record(arn)) is not None and record.get("finished", {}).get("BOOL"), seconds)

    def record(self, arn: str) -> dict[str, Any] | None:
        """Return the inventory's item."""
        table = self.cloud.info["outputs"]["InventoryTable"]
        item: dict[str, Any] | None = (
            self.cloud.client("dynamodb").get_item(TableName=table, Key={"database": {"S": arn}}).get("Item")
        )
        return item

    def write_record(self, arn: str, **attributes: Any) -> None:
        """Set attributes of a database's item, in DynamoDB's own form, as OnboardFunction: nobody else may."""
        self.cloud.client("dynamodb", self.credentials_of("OnboardFunction")).update_item(
            TableName=self.cloud.outputs["InventoryTable"],
            Key={"database": {"S": arn}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            ExpressionAttributeNames={f"#{name}": name for name in attributes},
            ExpressionAttributeValues={f":{name}": value for name, value in attributes.items()},
        )

    def forget_record(self, arn: str) -> None:
        """Delete a database's item as OnboardFunction: nobody else may."""
        self.cloud.client("dynamodb", self.credentials_of("OnboardFunction")).delete_item(
            TableName=self.cloud.outputs["InventoryTable"], Key={"database": {"S": arn}}
        )

    # --- functions ---

    def invoke(
        self, function: str, payload: Any, credentials: dict[str, Any] | None = None, alias: str | None = None
    ) -> Any:
        """Invoke a function and return its answer; an error is returned as Lambda returns it.

        :param alias: None for the one that people invoke.
        """
        name = self.cloud.info["functions"][function]
        answer = self.cloud.client("lambda", credentials).invoke(
            FunctionName=name if alias is None else f"{name.partition(':')[0]}:{alias}", Payload=json.dumps(payload)
        )
        return json.load(answer["Payload"])

    def start_afresh(self, function: str) -> None:
        """End the environments of a function, which Lambda may do at any time: the next one has read nothing yet.

        For tests that would wait for a minute until VendFunction or ReportsFunction reads access.yaml again.
        """
        for process in processes_of(self.cloud.functions[function].partition(":")[0]):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                until(lambda process=process: not _runs(process), 10)

    def onboard(self, arn: str, **options: Any) -> dict[str, Any]:
        """Invoke OnboardFunction for the database."""
        answer: dict[str, Any] = self.invoke("OnboardFunction", {"database": arn} | options)
        return answer

    def follow_access_yaml(self, follow: bool) -> None:
        """Let a new access.yaml start a reconcile, or not: then the test decides when its database is onboarded."""
        self._switch_rule("AccessChanged", follow)

    def hear_of_databases(self, hear: bool) -> None:
        """Let RDS's events start rdsiam's functions, or not."""
        self._switch_rule("DatabaseChanged", hear)

    def _switch_rule(self, event: str, enabled: bool) -> None:
        events = self.cloud.client("events")
        rules = [rule["Name"] for rule in events.list_rules()["Rules"] if event in rule["Name"]]
        assert len(rules) == 1, rules
        events.enable_rule(Name=rules[0]) if enabled else events.disable_rule(Name=rules[0])

    def reconcile(self, **options: Any) -> dict[str, Any]:
        """Reconcile the fleet."""
        answer: dict[str, Any] = self.invoke("OnboardFunction", {"reconcile": True} | options)
        return answer

    # --- logins ---

    def token(self, arn: str, user: str, credentials: dict[str, Any], **changed: Any) -> str:
        """Return a token signed by boto3 with the credentials."""
        endpoint = self.describe(arn)["Endpoint"]
        arguments = {"DBHostname": endpoint["Address"], "Port": endpoint["Port"], "DBUsername": user} | changed
        token: str = self.cloud.client("rds", credentials).generate_db_auth_token(**arguments)
        return token

    def master_password(self, arn: str) -> str:
        """Return the master's password from its secret."""
        secret = self.describe(arn)["MasterUserSecret"]["SecretArn"]
        value = self.cloud.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"]
        password: str = json.loads(value)["password"]
        return password

    def connect(self, arn: str, user: str, secret: str, name: str = "shop", tls: bool = True) -> "Connection":
        """Log in as any client would."""
        found = self.describe(arn)
        host, port, ca = found["Endpoint"]["Address"], found["Endpoint"]["Port"], str(self.cloud.ca)
        if "postgres" in found["Engine"]:
            options: dict[str, Any] = {"sslmode": "verify-full", "sslrootcert": ca} if tls else {"sslmode": "disable"}
            return Connection(
                psycopg.connect(
                    host=host,
                    port=port,
                    user=user,
                    password=secret,
                    dbname=name,
                    autocommit=True,
                    connect_timeout=10,
                    **options,
                )
            )
        context = ssl.create_default_context(cafile=ca) if tls else None
        return Connection(
            pymysql.connect(
                host=host,
                port=port,
                user=user,
                password=secret,
                database=name,
                ssl=context,
                ssl_disabled=not tls,
                autocommit=True,
            )
        )

    def as_master(self, arn: str, name: str = "shop") -> "Connection":
        """Log in as the master."""
        return self.connect(arn, "boss", self.master_password(arn), name)

    def rdsiam(
        self, *arguments: str, credentials: Mapping[str, str] | None = None, limit: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Run the command as a process that knows this account's functions and API, and nothing else.

        :param credentials: as STS gives them; by default the administrator's.
        """
        own = self.cloud.info["credentials"]
        keys = credentials or {"AccessKeyId": own["access_key_id"], "SecretAccessKey": own["secret_access_key"]}
        functions = ("Audit", "Migrate", "Onboard", "Secrets")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "PYTHONPATH": str(ROOT / "layers" / "rdsiam"),
            "AWS_ENDPOINT_URL": self.cloud.endpoint,
            "AWS_REGION": self.cloud.region,
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            **({"AWS_SESSION_TOKEN": keys["SessionToken"]} if "SessionToken" in keys else {}),
            "RDSIAM_API_URL": self.cloud.api_url,
            **{f"RDSIAM_{name.upper()}_FUNCTION": self.cloud.functions[f"{name}Function"] for name in functions},
        }
        return commands.run(arguments, environment, limit)

    def refused(self, arn: str, user: str, secret: str, **options: Any) -> bool:
        """Return whether the login is refused by the server, and not for some other reason."""
        try:
            self.connect(arn, user, secret, **options).close()
        except (psycopg.OperationalError, pymysql.OperationalError) as error:
            words = (
                "PAM authentication failed",
                "password authentication failed",
                "no encryption",
                "Access denied",
                "not permitted to log in",
            )
            if not any(word in str(error) for word in words):
                raise
            return True
        return False


class Connection:
    """One session, alike for both drivers."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session."""
        self._session.close()

    def run(self, statement: str) -> list[Any]:
        """Run one statement and return its rows."""
        cursor = self._session.cursor()
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


def processes_of(function: str) -> list[psutil.Process]:
    """Return the processes that run a function's code."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(RUNTIME) in process.cmdline() and process.environ().get("AWS_LAMBDA_FUNCTION_NAME") == function:
                found.append(process)
    return found


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def until(condition: Any, seconds: float, every: float | None = None) -> Any:
    """Wait until the condition is true, and return what it returned.

    :param seconds: what is enough on a quiet machine; a busy one gets three times that.
    :param every: the pause between two looks, for a moment that is over soon; else pauses grow.
    """
    limit = time.monotonic() + 3 * seconds
    pauses = itertools.repeat(every) if every else growing_pauses()
    while not (result := condition()):
        assert time.monotonic() < limit, f"not within {3 * seconds} s"
        time.sleep(next(pauses))
    return result
