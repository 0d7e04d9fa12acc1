"""The database that a secret is for: from Describe alone, since a secret could send our credentials anywhere."""

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.described import FAMILIES, Database, from_cluster, from_instance
from rdsiam.errors import Refused, Unsupported
from rdsiam.rotation.secret import Secret

_GONE = {"DBInstanceNotFound", "DBInstanceNotFoundFault", "DBClusterNotFoundFault", "DBClusterNotFound"}


class Targets:
    """Finds instances and clusters of this account and region by what secrets say of them."""

    def __init__(self, rds: Any) -> None:
        self._rds = rds

    def find(self, secret: Secret) -> Database:
        """Return the database of the secret: one request where it names it, or its host is RDS's own name for it.

        :raises Refused: RDS knows no such database here, or another one than the secret's other keys say.
        """
        if secret.cluster is not None:
            database = self._cluster(secret.cluster)
        elif secret.instance is not None:
            database = self._instance(secret.instance)
        else:
            database = self._at(str(secret.host), secret.port)
        if database is None:
            raise Refused(
                "the secret's host is no endpoint of an instance or cluster in this account and region, so nothing is "
                "sent there; add dbInstanceIdentifier or dbClusterIdentifier to the secret, or correct its host"
            )
        if database.replica_of is not None:
            raise Refused(
                f"{database.identifier} is a replica of {database.replica_of}; passwords are changed where users can "
                "be: name the source"
            )
        host, port = database.endpoint
        if secret.host is not None and (secret.host.lower(), secret.port or port) != (host, port):
            raise Refused(
                f"the secret's host and port are not those of {database.identifier}, which is at {host}:{port}"
            )
        if FAMILIES[secret.engine] != database.family:
            raise Refused(f"the secret says {secret.engine}, but {database.identifier} runs {database.engine}")
        return database

    def classic_proxies(self, secret: str) -> list[str]:
        """Return the names of the proxies that log in to a database with this secret."""
        pages = self._rds.get_paginator("describe_db_proxies").paginate()
        return sorted(
            proxy["DBProxyName"]
            for page in pages
            for proxy in page["DBProxies"]
            if any(auth.get("SecretArn") == secret for auth in proxy.get("Auth") or [])
        )

    def all(self) -> Iterator[Database]:
        """Yield all instances and clusters."""
        for page in self._rds.get_paginator("describe_db_instances").paginate():
            for described in page["DBInstances"]:
                try:
                    database = from_instance(described)
                except Unsupported:
                    continue  # another engine, or a member of a cluster: the cluster's endpoint is the one to name
                yield database
        for page in self._rds.get_paginator("describe_db_clusters").paginate():
            for described in page["DBClusters"]:
                try:
                    database = from_cluster(described)
                except Unsupported:
                    continue
                yield database

    def _at(self, host: str, port: int | None) -> Database | None:
        # RDS's names begin with the identifier, so one is enough to ask for; the answer is compared all the same.
        identifier, _, rest = host.lower().partition(".")
        if ".rds.amazonaws.com" in rest:
            kind = rest.partition(".")[0]
            if kind.startswith(("cluster-ro-", "cluster-custom-", "proxy-")):
                raise Refused("the secret's host is a reader, a custom endpoint or a proxy: name the writer's endpoint")
            return self._cluster(identifier) if kind.startswith("cluster-") else self._instance(identifier)
        return next((d for d in self.all() if (d.host, d.port) == (host.lower(), port or d.port)), None)

    def _instance(self, identifier: str) -> Database | None:
        try:
            found = self._rds.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"]
        except ClientError as error:
            if error.response["Error"]["Code"] in _GONE:
                return None
            raise
        try:
            return from_instance(found[0]) if found else None
        except Unsupported as error:
            raise Refused(f"{error}; of a cluster's member, name the cluster") from None

    def _cluster(self, identifier: str) -> Database | None:
        try:
            found = self._rds.describe_db_clusters(DBClusterIdentifier=identifier)["DBClusters"]
        except ClientError as error:
            if error.response["Error"]["Code"] in _GONE:
                return None
            raise
        try:
            return from_cluster(found[0]) if found else None
        except Unsupported as error:
            raise Refused(f"{error}, so rdsiam does not rotate its passwords") from None
