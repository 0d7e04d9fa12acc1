"""An RDS instance, cluster or proxy as one type, Database, read from Describe and from nothing else."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from rdsiam.core.arn import Arn, is_arn
from rdsiam.errors import DatabaseNotReady, Unsupported

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

#: Prefixes of RDS's statuses in which nothing can connect to a database, or nothing that is done in it would stay. In
#: every other status the connection is tried: a database works while it is backed up, modified or its storage is
#: optimized, which takes a day and more, and RDS adds statuses. A server whose storage is full accepts no changes.
_DOWN = (
    "cloning-failed", "creating", "delete-precheck", "deleting", "failed", "inaccessible-", "incompatible-",
    "insufficient-capacity", "insufficient-resource-limits", "migration-failed", "restore-error", "starting", "stopped",
    "stopping", "storage-full", "suspended", "suspending",
)  # fmt: skip


#: Prefixes of RDS's statuses that pass within minutes or hours, in which a database may refuse connections.
_IN_TRANSITION = (
    "configuring-", "converting-to-vpc", "creating", "maintenance", "modifying", "moving-to-vpc", "promoting",
    "reactivating", "rebooting", "renaming", "resetting-master-credentials", "starting", "upgrading",
)  # fmt: skip


def in_transition(status: str) -> bool:
    """Return whether a status passes by itself, and the database may refuse connections until then."""
    return status.startswith(_IN_TRANSITION)


@dataclass(frozen=True)
class Database:
    """One database as RDS describes it.

    :ivar resource_id: `db-…` of an instance, `cluster-…` of a cluster, `prx-…` of a proxy: what policies name. A copy
        has its own.
    :ivar host: endpoint as RDS reports it, of a cluster its writer's; None while there is nothing to connect to.
    :ivar iam_enabled: of a proxy: it takes tokens and logs in to its database with tokens.
    :ivar master_user: empty for a proxy.
    :ivar default_database: the database or schema made with the instance; None if none was named.
    :ivar pending: names of modifications that wait for the maintenance window or a reboot.
    :ivar kind: what RDS calls it; a member of a cluster is none of its own.
    :ivar replica_of: what it is a read replica of, whose users it has: the identifier of an instance, or an ARN.
    :ivar replicas: its read replicas, and readers of a cluster: identifiers of instances, or ARNs.
    :ivar public: its endpoint can be reached from the internet.
    :ivar express: reached through the internet access gateway of Aurora's express configuration, which has IAM logins
        only: its master is an IAM user.
    :ivar instance_class: such as `db.t4g.micro`; None for clusters, whose members have their own, and proxies.
    :ivar parameter_group: the instance's or the cluster's; empty for a proxy.
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
    instance_class: str | None = None
    replicas: tuple[str, ...] = ()
    express: bool = False
    parameter_group: str = ""

    @property
    def master_may_take_tokens(self) -> bool:
        """Whether the master may be an IAM user: Describe doesn't say it, but RDS keeps no secret for such a master."""
        return bool(self.iam_enabled and self.master_user and self.master_secret_arn is None)

    @property
    def family(self) -> Family:
        """The SQL that the engine speaks."""
        return FAMILIES[self.engine]

    @property
    def partition(self) -> str:
        """The partition of AWS, such as `aws` or `aws-cn`."""
        return Arn.parse(self.arn).partition

    @property
    def region(self) -> str:
        """The region in which tokens for it are signed."""
        return Arn.parse(self.arn).region

    @property
    def account(self) -> str:
        """The account that owns it."""
        return Arn.parse(self.arn).account

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port.

        :raises DatabaseNotReady: RDS reports none yet.
        """
        if self.host is None or self.port is None:
            raise DatabaseNotReady(f"{self.identifier} has no endpoint yet; it is {self.status}")
        return self.host, self.port

    @property
    def reachable(self) -> bool:
        """Whether it may accept connections: it has an endpoint, and its status doesn't rule it out."""
        return self.host is not None and self.port is not None and not self.status.startswith(_DOWN)

    @property
    def cluster(self) -> str | None:
        """Identifier of the cluster that it is or is a member of; None for all other databases."""
        if self.kind == "cluster":
            return self.identifier
        return self.replica_of if self.resource_id.startswith("cluster-") else None

    @property
    def has_users(self) -> bool:
        """Whether users are made in it: a replica's are its source's, and a proxy has none."""
        return self.kind != "proxy" and self.replica_of is None

    def connect_arn(self, user: str) -> str:
        """Return the ARN that `rds-db:connect` as `user` is allowed on."""
        return str(replace(Arn.parse(self.arn), service="rds-db", resource=f"dbuser:{self.resource_id}/{user}"))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON; `from_json` gives it back. It holds no secret, and no field of subclasses."""
        described = {name: value for name, value in asdict(self).items() if name in Database.__dataclass_fields__}
        return described | {"pending": list(self.pending), "replicas": list(self.replicas)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Database":
        """Return what `to_json` was made from."""
        return cls(**{**data, "pending": tuple(data["pending"]), "replicas": tuple(data["replicas"])})


#: What a proxy speaks, as engines call it. SQL Server's proxies are not supported.
_ENGINE_OF_PROXY: Mapping[str, str] = {"POSTGRESQL": "postgres", "MYSQL": "mysql"}
_PORT_OF_PROXY = {"postgres": 5432, "mysql": 3306}


@dataclass(frozen=True)
class Proxy:
    """An RDS proxy, classic ones too: those log in to the database by password, as users that must keep one.

    :ivar classic: it takes the passwords of users from secrets; others pass tokens on from end to end.
    :ivar secret_arns: secrets whose users it logs in as, sorted.
    :ivar users: user names that the proxy has; RDS often leaves them out, the secrets have them.
    :ivar targets: identifiers of the instances and clusters behind it, sorted.
    :ivar tls_required: it refuses connections without TLS.
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
    """Every resource id that there is, of databases that rdsiam leaves alone too.

    :ivar known: resource id → ARN of instances, clusters and proxies.
    :ivar members: resource id of a cluster's member → that of its cluster: no policy that names a member's works.
    """

    known: Mapping[str, str]
    members: Mapping[str, str]


def from_instance(described: Mapping[str, Any]) -> Database:
    """Build a Database from one element of `DescribeDBInstances`.

    :raises Unsupported: the engine has no IAM authentication, or it is a member of a cluster.
    """
    arn, engine = described["DBInstanceArn"], described["Engine"]
    if engine not in FAMILIES:
        raise Unsupported(f"{arn} runs {engine}, which has no IAM database authentication")
    if described.get("DBClusterIdentifier"):
        raise Unsupported(f"{arn} is a member of cluster {described['DBClusterIdentifier']}")
    endpoint = described.get("Endpoint") or {}
    cluster = described.get("ReadReplicaSourceDBClusterIdentifier")
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
        master_user=described.get("MasterUsername") or "",
        master_secret_arn=(described.get("MasterUserSecret") or {}).get("SecretArn"),
        default_database=described.get("DBName"),
        tags=_tags(described.get("TagList")),
        pending=_pending(described),
        replica_of=described.get("ReadReplicaSourceDBInstanceIdentifier") or _cluster_arn(arn, cluster),
        public=bool(described.get("PubliclyAccessible")),
        instance_class=described.get("DBInstanceClass"),
        replicas=(
            *sorted(described.get("ReadReplicaDBInstanceIdentifiers") or ()),
            *_clusters(arn, described.get("ReadReplicaDBClusterIdentifiers")),
        ),
        parameter_group=next((group["DBParameterGroupName"] for group in described.get("DBParameterGroups") or ()), ""),
    )


def from_cluster(described: Mapping[str, Any], public_members: bool = False) -> Database:
    """Build a Database from one element of `DescribeDBClusters`: Aurora, or a Multi-AZ cluster.

    Aurora has an endpoint before it has an instance: without members there is nothing to connect to, so no host. A
    cluster with members, but without a writer, follows one of another region: its reader endpoint counts.

    :param public_members: whether one of its members can be reached from the internet; Aurora doesn't say it here.
    :raises Unsupported: the engine has no IAM authentication (Neptune, DocumentDB, Aurora Serverless v1).
    """
    arn, engine = described["DBClusterArn"], described["Engine"]
    if engine not in FAMILIES:
        raise Unsupported(f"{arn} runs {engine}, which has no IAM database authentication")
    if described.get("EngineMode") == "serverless":
        raise Unsupported(f"{arn} is Aurora Serverless v1, which has no IAM database authentication")
    members = described.get("DBClusterMembers") or []
    readers = [member["DBInstanceIdentifier"] for member in members if not member.get("IsClusterWriter")]
    source = _cluster_arn(arn, described.get("ReplicationSourceIdentifier"))
    gateway = bool(described.get("InternetAccessGatewayEnabled"))
    host = described.get("Endpoint")
    if members and not any(member.get("IsClusterWriter") for member in members):
        world = described.get("GlobalClusterIdentifier")
        global_cluster = replace(Arn.parse(arn), region="", resource=f"global-cluster:{world}")
        source = source or (str(global_cluster) if world else None)
        host = described.get("ReaderEndpoint") or host if source else None
    return Database(
        arn=arn,
        identifier=described["DBClusterIdentifier"],
        engine=engine,
        engine_version=described["EngineVersion"],
        resource_id=described["DbClusterResourceId"],
        status=described["Status"],
        host=host if members else None,
        port=described.get("Port"),
        iam_enabled=bool(described.get("IAMDatabaseAuthenticationEnabled")),
        master_user=described.get("MasterUsername") or "",
        master_secret_arn=(described.get("MasterUserSecret") or {}).get("SecretArn"),
        default_database=described.get("DatabaseName"),
        tags=_tags(described.get("TagList")),
        pending=_pending(described),
        kind="cluster",
        replica_of=source or None,
        # The gateway of the express configuration is open to the internet.
        public=bool(described.get("PubliclyAccessible")) or gateway or public_members,
        replicas=(*sorted(readers), *_clusters(arn, described.get("ReadReplicaIdentifiers"))),
        express=gateway,
        parameter_group=described.get("DBClusterParameterGroup") or "",
    )


def from_reader(cluster: Database, described: Mapping[str, Any]) -> Database:
    """Build a Database from a reader of a cluster, by its own endpoint; all else is the cluster's.

    :param described: its element of `DescribeDBInstances`.
    """
    endpoint = described.get("Endpoint") or {}
    return replace(
        cluster,
        arn=described["DBInstanceArn"],
        identifier=described["DBInstanceIdentifier"],
        status=described["DBInstanceStatus"],
        host=endpoint.get("Address"),
        port=endpoint.get("Port"),
        kind="instance",
        replica_of=cluster.identifier,
        replicas=(),
    )


def from_proxy(described: Mapping[str, Any], tags: Iterable[Mapping[str, str]]) -> Database:
    """Build a Database from one element of `DescribeDBProxies`; a classic one has `iam_enabled` False.

    :param tags: what `ListTagsForResource` says of it.
    :raises Unsupported: it is a proxy for SQL Server.
    """
    arn, family = described["DBProxyArn"], described["EngineFamily"]
    if family not in _ENGINE_OF_PROXY:
        raise Unsupported(f"{arn} is a proxy for {family}, which has no IAM database authentication")
    engine = _ENGINE_OF_PROXY[family]
    return Database(
        arn=arn,
        identifier=described["DBProxyName"],
        engine=engine,
        engine_version="",
        resource_id=resource_id_of_proxy(arn),
        status=described["Status"],
        host=described.get("Endpoint"),
        port=_PORT_OF_PROXY[engine],
        iam_enabled=not is_classic(described),
        master_user="",
        tags=_tags(tags),
        kind="proxy",
    )


def proxy_from(described: Mapping[str, Any], targets: Iterable[Mapping[str, Any]]) -> Proxy:
    """Build a Proxy from one element of `DescribeDBProxies` and all of its `DescribeDBProxyTargets`."""
    auth = described.get("Auth") or []
    behind = {target.get(key) for target in targets for key in ("RdsResourceId", "TrackedClusterId")}
    return Proxy(
        arn=described["DBProxyArn"],
        name=described["DBProxyName"],
        resource_id=resource_id_of_proxy(described["DBProxyArn"]),
        engine_family=described["EngineFamily"],
        classic=is_classic(described),
        secret_arns=tuple(sorted({each["SecretArn"] for each in auth if each.get("SecretArn")})),
        users=tuple(sorted({each["UserName"] for each in auth if each.get("UserName")})),
        targets=tuple(sorted(name for name in behind if name)),
        tls_required=bool(described.get("RequireTLS")),
    )


def is_classic(proxy: Mapping[str, Any]) -> bool:
    """Tell whether a proxy logs in to its database with passwords from secrets."""
    return bool(proxy.get("DefaultAuthScheme") != "IAM_AUTH")


def resource_id_of_proxy(arn: str) -> str:
    """Return `prx-…`, the last part of a proxy's ARN: Describe has it nowhere else."""
    return Arn.parse(arn).name


def _clusters(arn: str, names: Iterable[str] | None) -> list[str]:
    """Return ARNs of clusters that Describe names beside the database of that ARN, some of them by identifier."""
    return sorted(cluster for name in names or () if (cluster := _cluster_arn(arn, name)))


def _cluster_arn(beside: str, name: str | None) -> str | None:
    """Return the ARN of a cluster that Describe names beside a database: an instance may have the same identifier."""
    return name if not name or is_arn(name) else Arn.parse(beside).beside(f"cluster:{name}")


def _tags(tags: Iterable[Mapping[str, str]] | None) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in tags or []}


def _pending(described: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(described.get("PendingModifiedValues") or {}))
