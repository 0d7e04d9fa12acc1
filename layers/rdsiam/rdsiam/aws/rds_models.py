"""An RDS instance, cluster or proxy as one type, Database; an RDS proxy's settings; all resource ids."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

from rdsiam.core.arn import Arn
from rdsiam.errors import DatabaseNotReady

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


class ResourceIds(NamedTuple):
    """Every resource id that there is, of databases that rdsiam leaves alone too.

    :ivar known: resource id → ARN of instances, clusters and proxies.
    :ivar members: resource id of a cluster's member → that of its cluster: no policy that names a member's works.
    """

    known: Mapping[str, str]
    members: Mapping[str, str]
