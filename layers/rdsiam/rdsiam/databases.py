"""An RDS instance, cluster or proxy as one type, Database, read from Describe and from nothing else."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from botocore.exceptions import ClientError

from rdsiam.errors import DatabaseNotFound, DatabaseNotReady, Unsupported

Family = Literal["postgres", "mysql"]

#: RDS engines that have IAM database authentication, and the SQL they speak. Describe also returns Neptune,
#: DocumentDB, Oracle, SQL Server, Db2 and Custom engines: those are not supported, never an error.
FAMILIES: Mapping[str, Family] = {
    "postgres": "postgres",
    "aurora-postgresql": "postgres",
    "mysql": "mysql",
    "mariadb": "mysql",
    "aurora-mysql": "mysql",
    "aurora": "mysql",
}


@dataclass(frozen=True)
class Database:
    """One database as RDS describes it.

    :ivar resource_id: `db-…` of an instance, `cluster-…` of a cluster: what policies name. A copy has its own.
    :ivar host: endpoint as RDS reports it; None while it is being created.
    :ivar default_database: the database or schema made with the instance, None where none was named.
    :ivar pending: names of modifications that wait for the maintenance window or a reboot.
    :ivar kind: what RDS calls it; a member of a cluster is none of its own.
    :ivar replica_of: identifier or ARN of what it is a read replica of: its users are that one's.
    :ivar public: its endpoint can be reached from the internet.
    """

    arn: str
    identifier: str
    engine: str
    engine_version: str
    resource_id: str
    status: str
    host: str | None
    port: int | None
    iam_enabled: bool
    master_user: str
    master_secret_arn: str | None = None
    default_database: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    pending: tuple[str, ...] = ()
    kind: Literal["instance", "cluster", "proxy"] = "instance"
    replica_of: str | None = None
    public: bool = False

    @property
    def family(self) -> Family:
        """The SQL that the engine speaks."""
        return FAMILIES[self.engine]

    @property
    def partition(self) -> str:
        """`aws`, `aws-cn` or `aws-us-gov`."""
        return self.arn.split(":")[1]

    @property
    def region(self) -> str:
        """The region in which tokens for it are signed."""
        return self.arn.split(":")[3]

    @property
    def account(self) -> str:
        """The account that owns it."""
        return self.arn.split(":")[4]

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port.

        :raises DatabaseNotReady: RDS reports none yet.
        """
        if self.host is None or self.port is None:
            raise DatabaseNotReady(f"{self.identifier} has no endpoint yet; it is {self.status}")
        return self.host, self.port

    def connect_arn(self, user: str) -> str:
        """Return the ARN that `rds-db:connect` as `user` is allowed on."""
        return f"arn:{self.partition}:rds-db:{self.region}:{self.account}:dbuser:{self.resource_id}/{user}"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON; `Database(**…)` gives it back. It holds no secret."""
        return asdict(self) | {"pending": list(self.pending)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Database":
        """Return what `to_json` was made from."""
        return cls(**{**data, "pending": tuple(data["pending"])})


def from_instance(described: Mapping[str, Any]) -> Database:
    """Build a Database from one element of `DescribeDBInstances`.

    :raises Unsupported: the engine has no IAM authentication, or it is a member of a cluster.
    """
    arn, engine = described["DBInstanceArn"], described["Engine"]
    if engine not in FAMILIES:
        raise Unsupported(f"{arn} runs {engine}, which has no IAM database authentication")
    if described.get("DBClusterIdentifier"):
        raise Unsupported(f"{arn} is a member of cluster {described['DBClusterIdentifier']}")
    if described.get("ReadReplicaSourceDBInstanceIdentifier"):
        raise Unsupported(f"{arn} is a read replica of {described['ReadReplicaSourceDBInstanceIdentifier']}")
    endpoint = described.get("Endpoint") or {}
    return Database(
        arn=arn,
        identifier=described["DBInstanceIdentifier"],
        engine=engine,
        engine_version=described["EngineVersion"],
        resource_id=described["DbiResourceId"],
        status=described["DBInstanceStatus"],
        host=endpoint.get("Address"),
        port=endpoint.get("Port"),
        iam_enabled=bool(described.get("IAMDatabaseAuthenticationEnabled")),
        master_user=described["MasterUsername"],
        master_secret_arn=(described.get("MasterUserSecret") or {}).get("SecretArn"),
        default_database=described.get("DBName"),
        tags={tag["Key"]: tag["Value"] for tag in described.get("TagList", [])},
        pending=tuple(sorted(described.get("PendingModifiedValues") or {})),
        public=bool(described.get("PubliclyAccessible")),
    )


@dataclass(frozen=True)
class Proxy:
    """An RDS proxy, classic ones too: those log in to the database by password, as users that must keep one.

    :ivar secret_arns: secrets whose users it logs in as, sorted.
    :ivar targets: identifiers of the instances and clusters behind it, sorted.
    """

    arn: str
    name: str
    resource_id: str
    engine_family: str
    classic: bool
    secret_arns: tuple[str, ...]
    users: tuple[str, ...]
    targets: tuple[str, ...]
    tls_required: bool


@dataclass(frozen=True)
class ResourceIds:
    """Every resource id that there is.

    :ivar known: resource id → ARN of instances, clusters and proxies.
    :ivar members: resource id of a cluster's member → that of its cluster.
    """

    known: Mapping[str, str]
    members: Mapping[str, str]


class Databases:
    """The databases of this account and region, as RDS describes them.

    :param role: ARN of a role of this account, which says what account this is.
    """

    def __init__(self, rds: Any, role: str) -> None:
        self._rds = rds
        self._account = role.split(":")[4]

    def describe(self, arn: str) -> Database:
        """Return the database of that ARN as it is now.

        :raises DatabaseNotFound: it does not exist (any more).
        :raises Unsupported: it is not one that rdsiam can make passwordless.
        """
        if ":db:" not in arn:
            raise Unsupported(f"{arn} is not an instance")
        # RDS would say AccessDenied, as our role may describe our own databases only.
        if arn.split(":")[3:5] != [self._rds.meta.region_name, self._account]:
            raise Unsupported(f"{arn} is of another account or region")
        try:
            found = self._rds.describe_db_instances(DBInstanceIdentifier=arn)["DBInstances"]
        except ClientError as error:
            if error.response["Error"]["Code"] in {"DBInstanceNotFound", "DBInstanceNotFoundFault"}:
                raise DatabaseNotFound(f"{arn} does not exist") from None
            raise
        if not found:
            raise DatabaseNotFound(f"{arn} does not exist")
        return from_instance(found[0])

    def enable_iam(self, database: Database) -> None:
        """Switch IAM authentication on. RDS takes a moment; describe until `iam_enabled`.

        :raises DatabaseNotReady: it is being changed by somebody else just now.
        """
        try:
            self._rds.modify_db_instance(
                DBInstanceIdentifier=database.identifier, EnableIAMDatabaseAuthentication=True, ApplyImmediately=True
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in {"InvalidDBInstanceState", "InvalidDBInstanceStateFault"}:
                raise DatabaseNotReady(f"{database.identifier} is being modified; retry when it is available") from None
            raise
