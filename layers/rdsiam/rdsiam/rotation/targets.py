"""The database and user that a recorded secret is for: the one place where a rotation learns where it logs in.

A secret's value only says where to look. Whether that is its place, the inventory says, in which SecretsFunction
records the secret's ARN for one database (by its resource id) and one user; the endpoint comes from Describe.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.access.rotation import line_to_add
from rdsiam.aws.rds_models import FAMILIES, Database, from_cluster, from_instance
from rdsiam.aws.secrets.value import Secret
from rdsiam.core.arn import Arn
from rdsiam.engines.rotation import base_name
from rdsiam.errors import Refused, Unsupported
from rdsiam.state.inventory import Inventory, Record, SecretRecord

_GONE = {"DBInstanceNotFound", "DBInstanceNotFoundFault", "DBClusterNotFoundFault", "DBClusterNotFound"}


@dataclass(frozen=True)
class Target:
    """A database, and what the inventory records of the secret that is rotated there.

    :ivar user: whose secret it is; of two users that take turns the first one.
    """

    database: Database
    user: str
    record: SecretRecord


class Targets:
    """Finds the databases of recorded secrets among the instances and clusters of this account and region."""

    def __init__(self, rds: Any, inventory: Inventory) -> None:
        self._rds = rds
        self._inventory = inventory

    def recorded(self, arn: str, secret: Secret) -> tuple[str, SecretRecord]:
        """Return the user and the record of a secret: one request, if the value names the database as RDS does.

        :param arn: of the secret that `secret` is a version of.
        :raises Refused: the inventory doesn't record it for the database, user and administrator that the value names.
        """
        database_arn = _named_arn(arn, secret) or self._described(secret).arn
        return _recorded(self._inventory.get(database_arn), database_arn, arn, secret)

    def find(self, arn: str, secret: Secret) -> Target:
        """Return where a secret logs in: two requests, if the value names the database as RDS does.

        :param arn: of the secret that `secret` is a version of.
        :raises Refused: RDS knows no such database here, or another one than the secret's other keys say; or the
            inventory doesn't record the secret for exactly this database, user and administrator, or records that its
            password is not set yet. A rotation that is `ending` has a place, where it sets nothing.
        """
        database = self._described(secret)
        user, record = _recorded(self._inventory.get(database.arn), database.arn, arn, secret)
        if record.resource_id != database.resource_id:
            raise Refused(
                f"{arn} is recorded for another database that was named {database.identifier} ({record.resource_id}, "
                f"expected {database.resource_id}); the next reconcile ends this rotation"
            )
        if record.state == "initial":
            raise Refused(f"the password in {arn} is not set in the database yet: rdsiam rotate set-up DATABASE {user}")
        return Target(database, user, record)

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

    def _described(self, secret: Secret) -> Database:
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
        refuse_misplaced(secret, database)
        return database

    def _at(self, host: str, port: int | None) -> Database | None:
        # RDS's names begin with the identifier, so one is enough to ask for; the answer is compared all the same.
        named = _named(host)
        if named is not None:
            kind, identifier = named
            return self._cluster(identifier) if kind == "cluster" else self._instance(identifier)
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


def refuse_misplaced(secret: Secret, database: Database) -> None:
    """Refuse a secret whose keys name another place than the database.

    :raises Refused: the keys contradict Describe, or the database has no users of its own.
    """
    if database.replica_of is not None:
        raise Refused(
            f"{database.identifier} is a replica of {database.replica_of}; passwords are changed where users can "
            "be: name the source"
        )
    named = ("cluster", secret.cluster) if secret.cluster is not None else ("instance", secret.instance)
    if named[1] is not None and (named[0], named[1].lower()) != (database.kind, database.identifier.lower()):
        raise Refused(f"the secret names the {named[0]} {named[1]}, which is not {database.identifier}")
    host, port = database.endpoint
    if secret.host is not None and (secret.host.lower(), secret.port or port) != (host.lower(), port):
        raise Refused(f"the secret's host and port are not those of {database.identifier}, which is at {host}:{port}")
    if FAMILIES[secret.engine] != database.family:
        raise Refused(f"the secret says {secret.engine}, but {database.identifier} runs {database.engine}")


def refuse_other_login(secret: Secret, user: str, record: SecretRecord) -> None:
    """Refuse a value whose user or administrator is not what is recorded of its secret.

    :raises Refused: naming what differs.
    """
    name = base_name(secret.user) if record.scheme == "alternating" else secret.user
    if name != user:
        raise Refused(
            f"the secret's value is for the user {secret.user}, but it is recorded for {user}: put back the value of "
            f"{user}, or declare the rotation of {secret.user} with a secret of its own"
        )
    if secret.master_arn != record.administrator:
        raise Refused(
            f"masterarn of the secret's value is {secret.master_arn or 'missing'}, but recorded for {user} is "
            f"{record.administrator or 'no administrator'} (scheme: {record.scheme}): correct the value, or access.yaml"
        )


def _recorded(record: Record | None, database_arn: str, arn: str, secret: Secret) -> tuple[str, SecretRecord]:
    secrets = record.secrets if record is not None else {}
    own = ((user, one) for user, one in secrets.items() if one.arn == arn and one.state != "ended")
    user, found = next(own, (None, None))
    if user is None or found is None:
        identifier = Arn.parse(database_arn).name
        line = line_to_add(identifier, base_name(secret.user), arn, secret.master_arn)
        raise Refused(
            f"{arn} is not recorded for {secret.user} on {identifier}, as access.yaml does not declare that rotation. "
            f"If it is meant, add to `databases`: {line}"
        )
    refuse_other_login(secret, user, found)
    return user, found


def _named(host: str) -> tuple[str, str] | None:
    """Return kind and identifier of what a name of RDS's own stands for; None for any other host.

    :raises Refused: it is not where passwords are changed.
    """
    identifier, _, rest = host.lower().partition(".")
    if ".rds.amazonaws.com" not in rest:
        return None
    label = rest.partition(".")[0]
    if label.startswith(("cluster-ro-", "cluster-custom-", "proxy-")):
        raise Refused("the secret's host is a reader, a custom endpoint or a proxy: name the writer's endpoint")
    return ("cluster" if label.startswith("cluster-") else "instance"), identifier


def _named_arn(secret_arn: str, secret: Secret) -> str | None:
    """Return the ARN of the database that a value names; None if only Describe can tell."""
    if secret.cluster is not None:
        named: tuple[str, str] | None = ("cluster", secret.cluster)
    elif secret.instance is not None:
        named = ("instance", secret.instance)
    else:
        named = _named(str(secret.host))
    if named is None:
        return None
    kind = {"cluster": "cluster", "instance": "db"}[named[0]]
    return str(replace(Arn.parse(secret_arn), service="rds", resource=f"{kind}:{named[1].lower()}"))
