"""Databases and users of recorded secrets: the only source of the endpoint at which a rotation logs in.

A secret's value is a hint. The inventory decides: SecretsFunction records there the secret's ARN for one database (by
its resource id) and one user. The endpoint comes from Describe.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.access.fields import keeps_password
from rdsiam.access.rotation import line_to_add
from rdsiam.aws.rds_descriptions import from_cluster, from_instance
from rdsiam.aws.rds_models import FAMILIES, Database
from rdsiam.aws.secrets.value import Secret
from rdsiam.core import log_keys
from rdsiam.core.arn import Arn
from rdsiam.engines.rotation import base_name
from rdsiam.errors import Refused, Unsupported
from rdsiam.rotation import commands
from rdsiam.state.inventory import Inventory
from rdsiam.state.record import Record, SecretRecord
from rdsiam.tokens.endpoints import is_rds

#: The remedy for users whose rotation access.yaml can't declare.
_CANCEL = "run aws secretsmanager cancel-rotate-secret: access.yaml can declare no rotation of this user"
_GONE = {"DBInstanceNotFound", "DBInstanceNotFoundFault", "DBClusterNotFoundFault", "DBClusterNotFound"}


@dataclass(frozen=True)
class Target:
    """The database and the user of a rotated secret, with its record.

    :ivar user: of alternating users the first one.
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
        :raises Refused: the inventory doesn't record it for the database, user and administrator in the value.
        """
        database_arn = _named_arn(arn, secret) or self._described(secret).arn
        log_keys.add(database=database_arn)
        return _recorded(self._inventory.get(database_arn), database_arn, arn, secret)

    def find(self, arn: str, secret: Secret) -> Target:
        """Return database, user and record of a secret: two requests, if the value names the database as RDS does.

        :param arn: of the secret that `secret` is a version of.
        :raises Refused: RDS knows no such database here, or another one than the secret's other keys name; or the
            inventory doesn't record the secret for exactly this database, user and administrator, or records that its
            password is not set yet. A rotation that is `ending` has a target, and sets no password there.
        """
        database = self._described(secret)
        log_keys.add(database=database.arn)
        user, record = _recorded(self._inventory.get(database.arn), database.arn, arn, secret)
        if record.resource_id != database.resource_id:
            raise Refused(
                f"{arn} is recorded for another database that was named {database.identifier} ({record.resource_id}, "
                f"expected {database.resource_id})",
                "wait for the next reconcile, which ends this rotation",
                "secret-not-recorded",
            )
        if record.state == "initial":
            raise Refused(
                f"the password in {arn} is not set in the database yet",
                commands.set_up(database.identifier, user),
                "rotation-unfinished",
            )
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
                    continue  # another engine, or a member of a cluster, whose endpoint is the cluster's
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
                "the secret's host is no endpoint of an instance or cluster in this account and region, so no password "
                "is sent there",
                "add dbInstanceIdentifier or dbClusterIdentifier to the secret, or correct its host",
                "secret-mismatch",
            )
        refuse_misplaced(secret, database)
        return database

    def _at(self, host: str, port: int | None) -> Database | None:
        # RDS's host names begin with the identifier; the endpoint in the answer is compared all the same.
        named = _named(host)
        if named is not None:
            kind, identifier = named
            return self._cluster(identifier) if kind == "cluster" else self._instance(identifier)
        return next((d for d in self.all() if (d.host, d.port) == (host.lower(), port or d.port)), None)

    def _instance(self, identifier: str) -> Database | None:
        try:
            described = self._rds.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"]
        except ClientError as error:
            if error.response["Error"]["Code"] in _GONE:
                return None
            raise
        try:
            return from_instance(described[0]) if described else None
        except Unsupported as error:
            raise Refused(str(error), "name the cluster of which the instance is a member", "secret-mismatch") from None

    def _cluster(self, identifier: str) -> Database | None:
        try:
            described = self._rds.describe_db_clusters(DBClusterIdentifier=identifier)["DBClusters"]
        except ClientError as error:
            if error.response["Error"]["Code"] in _GONE:
                return None
            raise
        try:
            return from_cluster(described[0]) if described else None
        except Unsupported as error:
            raise Refused(
                f"{error}, so rdsiam does not rotate its passwords", "cancel the rotation", "secret-mismatch"
            ) from None


def refuse_misplaced(secret: Secret, database: Database) -> None:
    """Refuse a secret whose keys name another database.

    :raises Refused: the keys contradict Describe, or the database has no users of its own.
    """
    if database.replica_of is not None:
        raise Refused(
            f"{database.identifier} is a replica of {database.replica_of}, and users are changed on the source",
            "name the source",
            "secret-mismatch",
        )
    named = ("cluster", secret.cluster) if secret.cluster is not None else ("instance", secret.instance)
    if named[1] is not None and (named[0], named[1].lower()) != (database.kind, database.identifier.lower()):
        raise _misplaced(f"the secret names the {named[0]} {named[1]}, which is not {database.identifier}")
    host, port = database.endpoint
    if secret.host is not None and (secret.host.lower(), secret.port or port) != (host.lower(), port):
        raise _misplaced(
            f"the secret's host and port are not those of {database.identifier}, which is at {host}:{port}"
        )
    if FAMILIES[secret.engine] != database.family:
        raise _misplaced(f"the secret names {secret.engine}, but {database.identifier} runs {database.engine}")


def _misplaced(problem: str) -> Refused:
    return Refused(problem, "correct the secret's value", "secret-mismatch")


def refuse_other_login(secret: Secret, user: str, record: SecretRecord) -> None:
    """Refuse a value whose user or administrator is not the recorded one.

    :raises Refused: naming what differs.
    """
    name = base_name(secret.user) if record.scheme == "alternating" else secret.user
    if name != user:
        raise Refused(
            f"the secret's value is for the user {secret.user}, but it is recorded for {user}",
            f"put back the value of {user}, or declare the rotation of {secret.user} with a secret of its own",
            "secret-mismatch",
        )
    if secret.master_arn != record.administrator:
        raise Refused(
            f"masterarn of the secret's value is {secret.master_arn or 'missing'}, but recorded for {user} is "
            f"{record.administrator or 'no administrator'} (scheme: {record.scheme})",
            "correct the value, or access.yaml",
            "secret-mismatch",
        )


def _recorded(record: Record | None, database_arn: str, arn: str, secret: Secret) -> tuple[str, SecretRecord]:
    secrets = record.secrets if record is not None else {}
    matching = ((user, each) for user, each in secrets.items() if each.arn == arn and each.state != "ended")
    user, secret_record = next(matching, (None, None))
    if user is None or secret_record is None:
        identifier = Arn.parse(database_arn).name
        base = base_name(secret.user)
        line = line_to_add(identifier, base, arn, secret.master_arn)
        remedy = f"if it is meant, add to `databases`: {line}" if keeps_password(base) else _CANCEL
        raise Refused(
            f"{arn} is not recorded for {secret.user} on {identifier}, as access.yaml does not declare that rotation",
            remedy,
            "secret-not-recorded",
        )
    refuse_other_login(secret, user, secret_record)
    return user, secret_record


def _named(host: str) -> tuple[str, str] | None:
    """Return kind and identifier of the database that a host name of RDS stands for; None for any other host.

    :raises Refused: passwords can't be changed at this endpoint.
    """
    if not is_rds(host):
        return None
    identifier, _, rest = host.lower().partition(".")
    label = rest.partition(".")[0]
    if label.startswith(("cluster-ro-", "cluster-custom-", "proxy-")):
        raise Refused(
            "the secret's host is a reader, a custom endpoint or a proxy",
            "name the writer's endpoint",
            "secret-mismatch",
        )
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
