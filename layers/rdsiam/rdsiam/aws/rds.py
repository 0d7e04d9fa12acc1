"""The databases of this account and region, as RDS describes them: one by one, or all."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.aws.iam_support import IamSupport, IamSupports
from rdsiam.aws.rds_descriptions import (
    from_cluster,
    from_instance,
    from_proxy,
    from_reader,
    is_classic,
    proxy_from,
    resource_id_of_proxy,
)
from rdsiam.aws.rds_models import FAMILIES, Database, Family, Proxy, ResourceIds
from rdsiam.core.arn import Arn
from rdsiam.errors import DatabaseNotFound, DatabaseNotReady, Refused, Unsupported

__all__ = ["FAMILIES", "Database", "Databases", "Family", "Proxy", "ResourceIds"]

_NOT_FOUND = {
    "DBInstanceNotFound",
    "DBInstanceNotFoundFault",
    "DBClusterNotFound",
    "DBClusterNotFoundFault",
    "DBProxyNotFound",
    "DBProxyNotFoundFault",
}
_BUSY = {"InvalidDBInstanceState", "InvalidDBInstanceStateFault", "InvalidDBClusterStateFault"}
_IMPOSSIBLE = "InvalidParameterCombination"


class Databases:
    """The databases of this account and region. Nothing is kept but what RDS offers: each call asks RDS.

    :param own: ARN of anything of this account, which says what account this is.
    """

    def __init__(self, rds: Any, own: str) -> None:
        self._rds = rds
        self._account = Arn.parse(own).account
        self._supports = IamSupports(rds)

    def describe(self, arn: str) -> Database:
        """Return the database of that ARN as it is now; for a member's ARN its cluster.

        :raises DatabaseNotFound: it does not exist.
        :raises DatabaseNotReady: RDS answers with nothing at all, which says nothing.
        :raises Unsupported: it is not one that rdsiam can make passwordless, or a member that is not its cluster's
            writer: the cluster is onboarded by that one.
        """
        self._check_own(arn)
        kind = Arn.parse(arn).kind
        if kind == "db":
            return self._instance(arn)
        if kind == "cluster":
            return self._cluster(arn)
        if kind == "db-proxy":
            return self._proxy(arn)
        raise Unsupported(f"{arn} is neither an instance nor a cluster nor a proxy")

    def replica(self, arn: str) -> Database:
        """Return a read replica as it is now; a reader of a cluster by its own endpoint.

        :raises DatabaseNotFound: as `describe` does; DatabaseNotReady and Unsupported too.
        """
        self._check_own(arn)
        if Arn.parse(arn).kind != "db":
            return self.describe(arn)
        described = self._described(arn)
        cluster = described.get("DBClusterIdentifier")
        return from_reader(self._cluster(cluster), described) if cluster else from_instance(described)

    def of_resource(self, resource_id: str) -> Database | None:
        """Return the database that has this resource id, whatever it is called now; None if there is none.

        :raises Unsupported: as `describe` does.
        """
        if resource_id.startswith("cluster-"):
            by_id = [{"Name": "db-cluster-resource-id", "Values": [resource_id]}]
            clusters = self._rds.describe_db_clusters(Filters=by_id)["DBClusters"]
            cluster = next((each for each in clusters if each["DbClusterResourceId"] == resource_id), None)
            return None if cluster is None else self._as_cluster(cluster)
        if resource_id.startswith("prx-"):
            proxy = next((each for each in self._all_proxies() if each["DBProxyArn"].endswith(f":{resource_id}")), None)
            return None if proxy is None else self._as_proxy(proxy)
        by_id = [{"Name": "dbi-resource-id", "Values": [resource_id]}]
        instances = self._rds.describe_db_instances(Filters=by_id)["DBInstances"]
        instance = next((each for each in instances if each["DbiResourceId"] == resource_id), None)
        return None if instance is None else from_instance(instance)

    def proxies(self) -> list[Proxy]:
        """Return all proxies, classic ones too, sorted by ARN."""
        proxies = [proxy_from(each, self._targets(each["DBProxyName"])) for each in self._all_proxies()]
        return sorted(proxies, key=lambda proxy: proxy.arn)

    def identities(self) -> ResourceIds:
        """Return every resource id of this account and region, also of databases that rdsiam leaves alone."""
        known: dict[str, str] = {}
        clusters: dict[str, str] = {}
        for cluster in self._all_clusters():
            known[cluster["DbClusterResourceId"]] = cluster["DBClusterArn"]
            clusters[cluster["DBClusterIdentifier"]] = cluster["DbClusterResourceId"]
        members: dict[str, str] = {}
        for instance in self._all_instances():
            cluster_id = clusters.get(instance.get("DBClusterIdentifier") or "")
            if cluster_id is None:
                known[instance["DbiResourceId"]] = instance["DBInstanceArn"]
            else:
                members[instance["DbiResourceId"]] = cluster_id
        for proxy in self._all_proxies():
            known[resource_id_of_proxy(proxy["DBProxyArn"])] = proxy["DBProxyArn"]
        return ResourceIds(known, members)

    def enable_iam(self, database: Database) -> None:
        """Switch IAM authentication on. RDS takes a moment; describe until `iam_enabled`.

        :raises DatabaseNotReady: it is being changed by somebody else just now.
        :raises Refused: RDS has no IAM authentication for it.
        """
        switch = {"EnableIAMDatabaseAuthentication": True, "ApplyImmediately": True}
        try:
            if database.kind == "cluster":
                self._rds.modify_db_cluster(DBClusterIdentifier=database.identifier, **switch)
            else:
                self._rds.modify_db_instance(DBInstanceIdentifier=database.identifier, **switch)
        except ClientError as error:
            if error.response["Error"]["Code"] in _BUSY:
                raise DatabaseNotReady(f"{database.identifier} is being modified; retry when it is available") from None
            if error.response["Error"]["Code"] == _IMPOSSIBLE:
                support = self.iam_support(database)._replace(available=False)
                answer = f"{support.problem(database)}: {error.response['Error'].get('Message', '')}"
                raise Refused(answer, support.remedy, "iam-unavailable") from None
            raise

    def iam_support(self, database: Database) -> IamSupport:
        """Return whether RDS has IAM authentication for the database's engine version here."""
        return self._supports.of(database)

    def page(self, position: str | None) -> tuple[Sequence[Database], str | None]:
        """Return a page of what `list` yields, and the position of the next one; None at the end.

        For callers that can't run until the end. It isn't looked up whether a cluster is public.

        :param position: None for the first page.
        """
        kind, _, marker = (position or "db:").partition(":")
        call, key, as_database, following = {
            "db": (self._rds.describe_db_instances, "DBInstances", from_instance, "cluster:"),
            "cluster": (self._rds.describe_db_clusters, "DBClusters", from_cluster, "db-proxy:"),
            "db-proxy": (self._rds.describe_db_proxies, "DBProxies", self._as_iam_proxy, None),
        }[kind]
        answer = call(**({"Marker": marker} if marker else {}))
        page = [database for described in answer[key] if (database := _supported(as_database, described))]
        return page, f"{kind}:{answer['Marker']}" if answer.get("Marker") else following

    def list(self) -> Iterator[Database]:
        """Yield instances, clusters and IAM proxies, page by page; other engines and members are left out."""
        public: set[str] = set()
        for described in self._all_instances():
            if described.get("DBClusterIdentifier") and described.get("PubliclyAccessible"):
                public.add(described["DBClusterIdentifier"])
            if database := _supported(from_instance, described):
                yield database
        for described in self._all_clusters():
            if database := _supported(from_cluster, described, described["DBClusterIdentifier"] in public):
                yield database
        for described in self._all_proxies():
            if database := _supported(self._as_iam_proxy, described):
                yield database

    def _check_own(self, arn: str) -> None:
        # RDS would say AccessDenied, as our role may describe our own databases only.
        parsed = Arn.parse(arn)
        if (parsed.region, parsed.account) != (self._rds.meta.region_name, self._account):
            raise Unsupported(f"{arn} is of another account or region")

    def _described(self, arn: str) -> Any:
        return _only(arn, "DBInstances", lambda: self._rds.describe_db_instances(DBInstanceIdentifier=arn))

    def _instance(self, arn: str) -> Database:
        described = self._described(arn)
        cluster = described.get("DBClusterIdentifier")
        if not cluster or described["Engine"] not in FAMILIES:
            return from_instance(described)
        of_cluster = _only(arn, "DBClusters", lambda: self._rds.describe_db_clusters(DBClusterIdentifier=cluster))
        members = of_cluster.get("DBClusterMembers", [])
        writers = [member["DBInstanceIdentifier"] for member in members if member["IsClusterWriter"]]
        if writers and described["DBInstanceIdentifier"] not in writers:
            raise Unsupported(f"{arn} is a reader of cluster {cluster}, which is onboarded by its writer {writers[0]}")
        return self._as_cluster(of_cluster)

    def _cluster(self, arn: str) -> Database:
        return self._as_cluster(
            _only(arn, "DBClusters", lambda: self._rds.describe_db_clusters(DBClusterIdentifier=arn))
        )

    def _as_cluster(self, described: Any) -> Database:
        if described["Engine"] not in FAMILIES or "PubliclyAccessible" in described:
            return from_cluster(described)
        own = [{"Name": "db-cluster-id", "Values": [described["DBClusterIdentifier"]]}]
        pages = self._rds.get_paginator("describe_db_instances").paginate(Filters=own)
        return from_cluster(
            described, any(instance.get("PubliclyAccessible") for page in pages for instance in page["DBInstances"])
        )

    def _proxy(self, arn: str) -> Database:
        """Find the proxy among all: DescribeDBProxies asks for a name, and has no filter for an ARN."""
        proxy = next((each for each in self._all_proxies() if each["DBProxyArn"] == arn), None)
        if proxy is not None:
            return self._as_proxy(proxy)
        self._tags(arn)
        raise DatabaseNotReady(f"RDS has tags for {arn}, yet does not list it; retry")

    def _as_proxy(self, described: Any) -> Database:
        return from_proxy(described, self._tags(described["DBProxyArn"]))

    def _as_iam_proxy(self, described: Any) -> Database:
        if is_classic(described):
            raise Unsupported(f"{described['DBProxyArn']} logs in to its database by password")
        return self._as_proxy(described)

    def _tags(self, arn: str) -> Sequence[Mapping[str, str]]:
        try:
            tags: Sequence[Mapping[str, str]] = self._rds.list_tags_for_resource(ResourceName=arn)["TagList"]
        except ClientError as error:
            raise _named(arn, error) from None
        return tags

    def _targets(self, name: str) -> Iterator[Any]:
        pages = self._rds.get_paginator("describe_db_proxy_targets").paginate(DBProxyName=name)
        try:
            for page in pages:
                yield from page["Targets"]
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"DBProxyTargetGroupNotFoundFault", *_NOT_FOUND}:
                raise

    def _all_instances(self) -> Iterator[Any]:
        for page in self._rds.get_paginator("describe_db_instances").paginate():
            yield from page["DBInstances"]

    def _all_clusters(self) -> Iterator[Any]:
        for page in self._rds.get_paginator("describe_db_clusters").paginate():
            yield from page["DBClusters"]

    def _all_proxies(self) -> Iterator[Any]:
        for page in self._rds.get_paginator("describe_db_proxies").paginate():
            yield from page["DBProxies"]


def _supported(as_database: Callable[..., Database], *described: Any) -> Database | None:
    """Return it as a Database; None for what rdsiam leaves alone, or what was deleted since it was listed."""
    try:
        return as_database(*described)
    except (Unsupported, DatabaseNotFound):
        return None


def _only(arn: str, key: str, call: Callable[[], Any]) -> Any:
    """Return the one that was asked for by its ARN or identifier."""
    try:
        described = call()[key]
    except ClientError as error:
        raise _named(arn, error) from None
    if not described:
        raise DatabaseNotReady(f"RDS answers neither with {arn} nor that it does not exist; retry")
    return described[0]


def _named(arn: str, error: ClientError) -> Exception:
    """Return what a failed call means: only RDS's own word says that something does not exist."""
    if error.response["Error"]["Code"] in _NOT_FOUND:
        return DatabaseNotFound(f"{arn} does not exist")
    return error
