"""RDS through boto3 for the tests of localcloud: makes, waits, logs in, and hears the events."""

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import psutil
import psycopg
import pymysql
from botocore.exceptions import ClientError

from localcloud.client import RunningCloud

Eventually = Callable[..., Any]
CLASS = "db.t4g.medium"
#: What a refused login raises, on either engine.
REFUSED = (psycopg.OperationalError, pymysql.err.OperationalError)
ROLE = {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "sts:AssumeRole"}
]}  # fmt: skip


class Databases:
    """The databases of a cloud, as a test looks at them."""

    def __init__(self, cloud: RunningCloud, eventually: Eventually) -> None:
        self.cloud = cloud
        self.eventually = eventually
        self.rds = cloud.client("rds")

    def instance(self, identifier: str) -> dict[str, Any]:
        return dict(self.rds.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"][0])

    def cluster(self, identifier: str) -> dict[str, Any]:
        return dict(self.rds.describe_db_clusters(DBClusterIdentifier=identifier)["DBClusters"][0])

    def readers(self, cluster: dict[str, Any]) -> dict[str, Any]:
        """Return a cluster as its readers' common endpoint."""
        return cluster | {"Endpoint": cluster["ReaderEndpoint"]}

    def make(self, identifier: str, engine: str, **more: Any) -> None:
        """Create an instance whose administrator is `boss`."""
        password = {} if "MasterUserPassword" in more else {"ManageMasterUserPassword": True}
        self.rds.create_db_instance(
            DBInstanceIdentifier=identifier, DBInstanceClass=CLASS, Engine=engine, AllocatedStorage=20,
            MasterUsername="boss", **password, **more,
        )  # fmt: skip

    def make_cluster(self, identifier: str, engine: str, members: int, **more: Any) -> None:
        self.rds.create_db_cluster(
            DBClusterIdentifier=identifier, Engine=engine, MasterUsername="boss", ManageMasterUserPassword=True, **more
        )
        for number in range(1, members + 1):
            self.rds.create_db_instance(
                DBInstanceIdentifier=f"{identifier}-{number}", DBInstanceClass=CLASS, Engine=engine,
                DBClusterIdentifier=identifier,
            )  # fmt: skip

    def process(self, identifier: str) -> psutil.Process:
        """Return the process of an instance's server."""
        host, port = endpoint(self.instance(identifier))
        sockets = tuple(f"/sockets/{socket.gethostbyname(host)}-{port}/{name}" for name in (".s.PGSQL.5432", "server"))
        owners = {
            psutil.Process(found.pid)
            for found in psutil.net_connections("unix")
            if found.pid and str(found.laddr).endswith(sockets)
        }
        return min(owners, key=psutil.Process.create_time)  # sessions are younger

    def available(self, *identifiers: str, status: str = "available") -> None:
        limit = 20.0 * len(identifiers)  # members of a cluster come one after the other
        self.eventually(lambda: all(self.instance(each)["DBInstanceStatus"] == status for each in identifiers), limit)

    def gone(self, identifier: str) -> bool:
        try:
            self.instance(identifier)
        except ClientError as error:
            return error.response["Error"]["Code"] in ("DBInstanceNotFound", "DBInstanceNotFoundFault")
        return False

    def drop(self, *identifiers: str) -> None:
        for each in identifiers:
            self.rds.delete_db_instance(DBInstanceIdentifier=each, SkipFinalSnapshot=True)
        self.eventually(lambda: all(self.gone(each) for each in identifiers), 20.0 * len(identifiers))

    def password(self, described: dict[str, Any]) -> str:
        arn = described["MasterUserSecret"]["SecretArn"]
        value = self.cloud.client("secretsmanager").get_secret_value(SecretId=arn)
        return str(json.loads(value["SecretString"])["password"])

    def as_master(self, described: dict[str, Any], password: str | None = None) -> "Session":
        return self.connect(described, "boss", password or self.password(described))

    def by_token(self, described: dict[str, Any], user: str, resource_id: str) -> "Session":
        """Log in with a token that boto3 signs, as a role that may connect as `user` to `resource_id` and no other."""
        arn = f"arn:aws:rds-db:{self.cloud.region}:{self.cloud.account}:dbuser:{resource_id}/{user}"
        host, port = endpoint(described)
        session = self.role({"Effect": "Allow", "Action": "rds-db:connect", "Resource": arn})
        return self.connect(described, user, self.cloud.client("rds", session).generate_db_auth_token(host, port, user))

    def connect(self, described: dict[str, Any], user: str, password: str, *, tls: bool = True) -> "Session":
        host, port = endpoint(described)
        if "postgres" in described["Engine"]:
            mode: dict[str, Any] = (
                {"sslmode": "verify-full", "sslrootcert": str(self.cloud.ca)} if tls else {"sslmode": "disable"}
            )
            return Session(psycopg.connect(
                host=host, port=port, user=user, password=password, dbname="postgres", connect_timeout=5,
                autocommit=True, **mode,
            ))  # fmt: skip
        mode = {"ssl_ca": str(self.cloud.ca), "ssl_verify_cert": True, "ssl_verify_identity": True}
        return Session(pymysql.connect(
            host=host, port=port, user=user, password=password, connect_timeout=5, autocommit=True,
            **(mode if tls else {"ssl_disabled": True}),
        ))  # fmt: skip

    def make_iam_user(self, session: "Session", user: str = "app") -> None:
        if isinstance(session.connection, psycopg.Connection):
            session.run(f"CREATE USER {user}")
            session.run(f"GRANT rds_iam TO {user}")
        else:
            session.run(f"CREATE USER {user}@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL")

    def role(self, *statements: dict[str, Any]) -> dict[str, Any]:
        """Return the credentials of a new role that may do this and nothing else."""
        name, iam = f"fleet-{time.monotonic_ns()}", self.cloud.client("iam")
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(ROLE))["Role"]["Arn"]
        if statements:
            allow = {"Version": "2012-10-17", "Statement": list(statements)}
            iam.put_role_policy(RoleName=name, PolicyName="allow", PolicyDocument=json.dumps(allow))
        assumed = self.cloud.client("sts").assume_role(RoleArn=arn, RoleSessionName="app")
        return dict(assumed["Credentials"])


class Session:
    """A connection of either driver. A context manager: leaving it closes the connection."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


class Events:
    """Events that RDS has published since this was made, read from a queue."""

    def __init__(self, cloud: RunningCloud, queue: str) -> None:
        self._sqs = cloud.client("sqs")
        self._queue = queue
        self._seen: list[dict[str, Any]] = []

    def of(self, identifier: str) -> list[str]:
        """Return the numbers of the events of a resource, as they came."""
        return [each["detail"]["EventID"][-4:] for each in self.all() if named(each) == identifier]

    def all(self) -> list[dict[str, Any]]:
        """Return the events."""
        while messages := self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self._seen.append(json.loads(message["Body"]))
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        return self._seen


def named(event: dict[str, Any]) -> str:
    return str(event["detail"]["SourceIdentifier"])


def endpoint(described: dict[str, Any]) -> tuple[str, int]:
    """Host and port of an instance or a cluster."""
    if isinstance(described["Endpoint"], dict):
        return described["Endpoint"]["Address"], described["Endpoint"]["Port"]
    return described["Endpoint"], described["Port"]
