"""Databases and proxies from the answers of RDS's Describe calls, and from nothing else."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from rdsiam.aws.rds_models import FAMILIES, Database, Proxy
from rdsiam.core.arn import Arn, is_arn
from rdsiam.errors import Unsupported

#: What a proxy speaks, as engines call it. SQL Server's proxies are not supported.
_ENGINE_OF_PROXY: Mapping[str, str] = {"POSTGRESQL": "postgres", "MYSQL": "mysql"}
_PORT_OF_PROXY = {"postgres": 5432, "mysql": 3306}


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
