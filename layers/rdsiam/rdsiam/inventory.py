"""The inventory: which databases are onboarded, and which users in them rdsiam made."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from rdsiam.described import Database
from rdsiam.leases import PREFIX as LEASE

Origin = Literal["created", "adopted"]

#: What says nothing of how to log in, and may change at any time.
_NOT_KEPT = {"arn", "status", "pending", "public", "instance_class", "replicas"}
#: What is kept of a database: what vending needs, and what makes an onboarding look again.
KEPT = tuple(name for name in (field.name for field in fields(Database)) if name not in _NOT_KEPT)


@dataclass(frozen=True)
class Followed:
    """Which access.yaml an onboarding followed, and what it said of the database.

    :ivar declared: fingerprint of what it declares for the database.
    :ivar entries: how many entries the whole file has.
    :ivar users: whom it declares there.
    """

    version: str
    declared: str
    entries: int
    users: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """What the inventory knows of one database.

    :ivar database: as Describe gave it when it was last onboarded; None before the first onboarding ended.
    :ivar resource_id: the resource id that all this belongs to; another one is another database of the same name.
    :ivar accounts: users and group roles that rdsiam made or adopted, from before they are made.
    :ivar finished: whether the last onboarding came to its end; what was recorded before stays good for tokens.
    :ivar roles: ARNs of IAM roles that hold a policy for it, under `policy_resource_id`.
    :ivar followed: the access.yaml of the last onboarding that ended; None for one of long ago.
    :ivar fingerprint: of database and declaration at that time.
    :ivar revoked: users that an operator has revoked → why; they stay so whatever access.yaml declares.
    :ivar secrets: user → ARN of the secret whose schedule rdsiam has set, from before it is set.
    """

    resource_id: str | None
    database: Database | None = None
    accounts: Mapping[str, Origin] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    policy_resource_id: str | None = None
    access_version: str | None = None
    onboarded_at: str | None = None
    finished: bool = False
    followed: Followed | None = None
    fingerprint: str | None = None
    revoked: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)


class Inventory:
    """The DynamoDB table InventoryTable; its key is the database's ARN. Leases are there too: `rdsiam.leases`."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def get(self, arn: str) -> Record | None:
        """Return what is known of the database, or None."""
        item = self._dynamodb.get_item(TableName=self._table, Key={"database": {"S": arn}}, ConsistentRead=True)
        if "Item" not in item:
            return None
        return _record(arn, item["Item"])

    def all(self) -> Iterator[tuple[str, Record]]:
        """Yield the ARN and the record of every database, page by page."""
        for page in self._dynamodb.get_paginator("scan").paginate(TableName=self._table, ConsistentRead=True):
            for item in page["Items"]:
                arn = item["database"]["S"]
                if not arn.startswith(LEASE):
                    yield arn, _record(arn, item)

    def claim(self, database: Database, accounts: Mapping[str, Origin]) -> None:
        """Write down that these accounts are ours, before they are made: whoever is killed in between finds them."""
        self._set(database.arn, resource_id=database.resource_id, accounts=dict(accounts), finished=False)

    def disclaim(self, database: Database, accounts: Mapping[str, Origin]) -> None:
        """Write down that only these are ours of those that were; nothing else changes."""
        self._set(database.arn, accounts=dict(accounts))

    def onboarded(self, database: Database, followed: Followed, fingerprint: str, at: str) -> None:
        """Write down the database as it is now, its onboarding done."""
        described = {name: getattr(database, name) for name in KEPT} | {"tags": dict(database.tags)}
        self._set(
            database.arn,
            resource_id=database.resource_id,
            described=described,
            access_version=followed.version,
            declared=followed.declared,
            access_entries=followed.entries,
            users=list(followed.users),
            fingerprint=fingerprint,
            onboarded_at=at,
            finished=True,
        )

    def set_roles(self, arn: str, resource_id: str, roles: Iterable[str]) -> None:
        """Write down which IAM roles hold a policy for the database."""
        self._set(arn, policy_resource_id=resource_id, roles=sorted(roles))

    def revoke(self, arn: str, because: Mapping[str, str], lifted: Iterable[str]) -> None:
        """Write down that these users are revoked, each with why, and that those are so no longer."""
        self._update(arn, "SET #revoked = if_not_exists(#revoked, :none)", {"#revoked": "revoked"}, {":none": {}})
        # One by one, so that two who do this at a time both have their way.
        for user, why in because.items():
            self._update(arn, "SET #revoked.#user = :why", {"#revoked": "revoked", "#user": user}, {":why": why})
        for user in lifted:
            self._update(arn, "REMOVE #revoked.#user", {"#revoked": "revoked", "#user": user}, {})

    def set_secrets(self, arn: str, secrets: Mapping[str, str]) -> None:
        """Write down whose secrets rdsiam has put on a schedule."""
        self._set(arn, secrets=dict(secrets))

    def forget(self, arn: str) -> None:
        """Remove the record of a database that is gone."""
        self._dynamodb.delete_item(TableName=self._table, Key={"database": {"S": arn}})

    def _set(self, arn: str, **attributes: Any) -> None:
        self._update(
            arn,
            "SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            {f"#{name}": name for name in attributes},
            {f":{name}": value for name, value in attributes.items()},
        )

    def _update(self, arn: str, expression: str, names: Mapping[str, str], values: Mapping[str, Any]) -> None:
        from boto3.dynamodb.types import TypeSerializer  # here, as it loads boto3, which vending does without

        write = TypeSerializer()
        given = {name: write.serialize(value) for name, value in values.items()}
        self._dynamodb.update_item(
            TableName=self._table,
            Key={"database": {"S": arn}},
            UpdateExpression=expression,
            ExpressionAttributeNames=names,
            **({"ExpressionAttributeValues": given} if given else {}),
        )


def _record(arn: str, item: Mapping[str, Any]) -> Record:
    found = {name: _plain(value) for name, value in item.items()}
    database = followed = None
    if "described" in found:
        described = found["described"]
        database = Database(arn=arn, status="onboarded", **(described | {"port": int(described["port"])}))
    if "declared" in found:
        followed = Followed(
            found["access_version"], found["declared"], int(found["access_entries"]), tuple(found["users"])
        )
    resource_id = found.get("resource_id")
    return Record(
        resource_id=resource_id,
        # What was described under another resource id was another database of the same name.
        database=database if database and database.resource_id == resource_id else None,
        accounts=dict(found.get("accounts", {})),
        roles=tuple(sorted(found.get("roles", ()))),
        policy_resource_id=found.get("policy_resource_id"),
        access_version=found.get("access_version"),
        onboarded_at=found.get("onboarded_at"),
        finished=bool(found.get("finished")),
        followed=followed,
        fingerprint=found.get("fingerprint"),
        revoked=dict(found.get("revoked", {})),
        secrets=dict(found.get("secrets", {})),
    )


def _plain(value: Mapping[str, Any]) -> Any:
    """Return one of DynamoDB's values as plain data; those that `_set` writes, and no others."""
    ((kind, content),) = value.items()
    match kind:
        case "S" | "BOOL":
            return content
        case "NULL":
            return None
        case "N":
            return int(content)
        case "L":
            return [_plain(one) for one in content]
        case "M":
            return {name: _plain(one) for name, one in content.items()}
    raise ValueError(f"the inventory holds a value of kind {kind}, which rdsiam never writes")
