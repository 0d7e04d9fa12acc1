"""The inventory: a table of the databases that are onboarded, and of the users that rdsiam made in them."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.access.selection import Attributes, SelectedDatabase
from rdsiam.access.users import Grant
from rdsiam.aws.rds_models import Database
from rdsiam.errors import Refused
from rdsiam.state.escalations import Examined
from rdsiam.state.inventory_items import InventoryItems
from rdsiam.state.items import items_of
from rdsiam.state.large_values import LargeValues, Torn
from rdsiam.state.layout import Layout
from rdsiam.state.record import KEPT, Applied, Ownership, Record, SecretRecord, plain, record_of

logger = logging.getLogger(__name__)

#: Before a resource id, the key of the item that says under which ARN the database's record is.
_RESOURCE = "resource:"
#: Before a resource id, the key of a record whose ARN belongs to another database by now.
_ASIDE = "aside:"
#: Attributes that grow with the number of a server's databases; see `rdsiam.state.large_values`.
_LARGE = ("accounts", "granted", "examined")
#: Attempts to read a record that is being changed.
_ATTEMPTS = 3


class Inventory(InventoryItems):
    """The DynamoDB table InventoryTable; its key is the database's ARN.

    An item `resource:<resource id>` beside it says under which ARN the record of a database is, and has the attributes
    of one that is gone. Leases are in the table too: `rdsiam.state.leases`.
    """

    def __init__(self, dynamodb: Any, table: str) -> None:
        super().__init__(dynamodb, table)
        self._large = LargeValues(dynamodb, table)

    def get(self, arn: str) -> Record | None:
        """Return what is known of the database, or None."""
        for attempt in range(_ATTEMPTS):
            item = self._item(arn)
            if item is None:
                return None
            try:
                return record_of(arn, item, self._large_of(item))
            except Torn:
                if attempt + 1 == _ATTEMPTS:
                    raise
        raise AssertionError("the loop returns or raises")

    def record(self, arn: str, item: Mapping[str, Any]) -> Record:
        """Return the record that one of `items` holds, with the attributes that are in items of their own.

        :raises Torn: another run has changed the record since the item was read.
        """
        return record_of(arn, item, self._large_of(item, batched=True))

    def _large_of(self, item: Mapping[str, Any], batched: bool = False) -> dict[str, Any]:
        pointers = {name: plain(item[f"{name}_at"]) for name in _LARGE if f"{name}_at" in item}
        return {name: self._large.read(name, at, batched) for name, at in pointers.items() if at is not None}

    def items(self, arns: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """Return the items of those databases that have one, by ARN, in one call for each hundred.

        `record` and `migrations_of` read them: an item that can't be read is a problem of its database alone.
        """
        return dict(items_of(self._dynamodb, self._table, arns))

    def of(self, database: Database) -> Record | None:
        """Return the record of a database, which is under another ARN if the database was renamed since.

        :return: if there is none, the record of another database that had this ARN, or None.
        """
        record = self.get(database.arn)
        if record is not None and record.is_of(database):
            return record
        former = self.of_resource(database.resource_id)
        return record if former is None else former

    def of_resource(self, resource_id: str) -> Record | None:
        """Return the record of the database with that resource id, or None."""
        pointer = self._item(_RESOURCE + resource_id)
        record = self.get(pointer["record"]["S"]) if pointer else None
        return record if record is not None and record.resource_id == resource_id else None

    def attributes_of(self, resource_id: str) -> Attributes | None:
        """Return the attributes recorded for a resource id, also of a database that is gone, or None."""
        record = self.of_resource(resource_id)
        if record is not None:
            return record.recorded
        pointer = self._item(_RESOURCE + resource_id)
        return Attributes.from_json(plain(pointer["recorded"])) if pointer and "recorded" in pointer else None

    def all(self) -> Iterator[tuple[str, Record]]:
        """Yield the ARN and the record of every database, page by page.

        Accounts, grants and what was examined are left out if they have items of their own.
        """
        for page in self._dynamodb.get_paginator("scan").paginate(TableName=self._table, ConsistentRead=True):
            for item in page["Items"]:
                arn = item["database"]["S"]
                if arn.startswith("arn:"):
                    yield arn, record_of(arn, item)

    def see(self, database: Database) -> None:
        """Record the attributes of a database that no entry is about: others need confirmation to give anything."""
        self._set(database.arn, resource_id=database.resource_id, **self._fresh(database))
        self._set(_RESOURCE + database.resource_id, record=database.arn)

    def select(self, database: Database, recorded: Attributes, copied: bool = False) -> None:
        """Record the attributes by which entries of access.yaml select this database, before anything is made in it.

        :param copied: they are those of the database that it is a copy of.
        """
        attributes: dict[str, Any] = self._fresh(database) | ({"copied": True} if copied else {})
        self._set(
            database.arn,
            resource_id=database.resource_id,
            recorded=recorded.to_json() | {"resource_id": database.resource_id},
            **attributes,
        )
        self._set(_RESOURCE + database.resource_id, record=database.arn)

    def _fresh(self, database: Database) -> dict[str, Any]:
        """Return what a new record begins with, in place of what is known of another database that had this ARN.

        :return: nothing if there is a record of this database.
        """
        item = self._item(database.arn)
        if item is not None and item.get("resource_id") == {"S": database.resource_id}:
            return {}
        attributes = Attributes.of(database).to_json() | {"resource_id": database.resource_id}
        return {
            "accounts": {},
            "granted": {},
            **{f"{name}_at": None for name in _LARGE},
            "leaving": {},
            "turn": 0,
            "finished": False,
            "copied": False,
            "pending": "",
            "handled": "",
            "ignored_fingerprint": "",
            "notices": {},
            "first_seen": attributes,
        }

    def put_aside(self, record: Record) -> None:
        """Keep the record of a database that lives on under another ARN, until its own turn comes.

        Another database has its ARN, and is about to be recorded there.
        """
        item = self._item(record.arn)
        if item is not None and record_of(record.arn, item).resource_id == record.resource_id:
            self._put(f"{_ASIDE}{record.resource_id}", item)
            self._set(f"{_RESOURCE}{record.resource_id}", record=f"{_ASIDE}{record.resource_id}")

    def move(self, former: str, database: Database) -> None:
        """Move the record of a renamed database from its former ARN to its present one.

        The roles and the resource id of the policies of whoever had the present ARN are kept with it, so that
        PolicyFunction takes their policies away.

        :param former: key of the record.
        """
        item, occupant = self._item(former), self._item(database.arn)
        if item is None or not record_of(former, item).is_of(database):
            return  # another run has moved it
        before = record_of(database.arn, occupant or {})
        if before.policy_resource_id and not before.is_of(database):
            roles = sorted({*before.roles, *record_of(former, item).roles})
            item["policy_resource_id"] = {"S": before.policy_resource_id}
            item["roles"] = {"L": [{"S": role} for role in roles]}
        self._put(database.arn, item, gone=set(occupant or ()) - set(item))
        self._set(_RESOURCE + database.resource_id, record=database.arn)
        self._dynamodb.delete_item(TableName=self._table, Key={"database": {"S": former}})

    def set_pending(self, arn: str, pending: str) -> None:
        """Record the fingerprint of what waits for confirmation, so that it is notified once."""
        self._set(arn, pending=pending)

    def record_ownership(self, database: Database, accounts: Mapping[str, Ownership], turn: int = 0) -> None:
        """Record ownership of these accounts before they are made: the run after a killed one finds them.

        :param turn: of the lease under which users are made; 0 if only privileges are.
        """
        turns = {"turn": turn} if turn else {}
        self._set_large(database, resource_id=database.resource_id, accounts=dict(accounts), finished=False, **turns)

    def release_ownership(self, database: Database, accounts: Mapping[str, Ownership]) -> None:
        """Release ownership of all accounts but these; nothing else changes."""
        self._set_large(database, accounts=dict(accounts))

    def onboarded(self, database: SelectedDatabase, applied: Applied, fingerprint: str, at: str) -> None:
        """Record the database as RDS describes it, and that its onboarding is finished.

        Nothing is recorded if a later run has made users: that run records, or the next one examines the database.
        """
        described = {name: getattr(database, name) for name in KEPT} | {"tags": dict(database.tags)}
        if fresh := self._fresh(database):  # nothing is declared for it, and its ARN was another database's
            self._set(database.arn, resource_id=database.resource_id, **fresh)
            self._set(_RESOURCE + database.resource_id, record=database.arn)
        attributes = {
            "resource_id": database.resource_id,
            "described": described,
            "access_version": applied.version,
            "declared": applied.declared,
            "access_entries": applied.entries,
            "users": list(applied.users),
            "fingerprint": fingerprint,
            "onboarded_at": at,
            "finished": True,
            **({} if database.differs else {"copied": False}),
            **({"turn": applied.turn} if applied.turn else {}),
        }
        latest = "attribute_not_exists(#turn) OR #turn <= :turn" if applied.turn else ""
        if not self._set_if(database.arn, latest, **attributes):
            logger.info("%s: a later run has made its users", database.arn, extra={"database": database.arn})

    def set_roles(self, arn: str, resource_id: str, roles: Iterable[str], shards: Mapping[str, int]) -> None:
        """Record the IAM roles that hold a policy for the database, and each vended user's shard of ConnectRole."""
        self._set(arn, policy_resource_id=resource_id, roles=sorted(roles), shards=dict(shards))

    def revoke(self, arn: str, reasons: Mapping[str, str], lifted: Iterable[str]) -> None:
        """Record users as revoked, each with its reason, and others as no longer revoked."""
        self._set_users(arn, "revoked", reasons)
        self._remove_users(arn, "revoked", lifted)

    def set_leaving(self, arn: str, reasons: Mapping[str, str]) -> None:
        """Record that the logins of these users are being taken away, and what stands in the way of each."""
        self._set_users(arn, "leaving", reasons)

    def set_left(self, arn: str, users: Iterable[str], version: str | None) -> None:
        """Record that nothing of these users' logins is left: they are no longer among those that are declared.

        :param version: of the access.yaml that was recorded when the run found that they leave. A run that has recorded
            another one since knows which users are declared.
        """
        left = set(users)
        self._remove_users(arn, "leaving", left)
        record = self.get(arn)
        applied = record.applied if record is not None else None
        if applied is None or applied.version != version or not left.intersection(applied.users):
            return
        try:
            self._update(
                arn,
                "SET #users = :users",
                {"#users": "users", "#version": "access_version"},
                {
                    ":users": [user for user in applied.users if user not in left],
                    ":before": list(applied.users),
                    ":version": version,
                },
                ConditionExpression="#version = :version AND #users = :before",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise

    def set_returned(self, arn: str, users: Iterable[str]) -> None:
        """Record that these users, which were leaving, are declared again and enabled."""
        self._remove_users(arn, "leaving", users)

    def set_secret(self, arn: str, user: str, record: SecretRecord | None, expected: SecretRecord | None) -> None:
        """Replace the record of a user's secret; None removes it, or expects that there is none.

        :raises Refused: another run has changed the record since `expected` was read.
        """
        names = {"#secrets": "secrets", "#user": user}
        if expected is None:
            self._update(arn, "SET #secrets = if_not_exists(#secrets, :none)", {"#secrets": "secrets"}, {":none": {}})
        values: dict[str, Any] = {} if record is None else {":record": record.to_json()}
        condition = "attribute_not_exists(#secrets.#user)"
        if expected is not None:
            values[":expected"], condition = expected.to_json(), "#secrets.#user = :expected"
        expression = "REMOVE #secrets.#user" if record is None else "SET #secrets.#user = :record"
        try:
            self._update(arn, expression, names, values, ConditionExpression=condition)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            raise Refused(f"another run is changing the rotation of {user} on {arn}; try again") from None

    def set_examined(self, database: Database, examined: Examined) -> None:
        """Record the users that can act as administrators, and the databases in which that was examined."""
        self._set_large(database, examined=examined.to_json() | {"resource_id": database.resource_id})

    def set_layout(self, database: Database, layout: Layout) -> None:
        """Record the databases, schemas and owners that an onboarding saw."""
        self._set(database.arn, layout=layout.to_json() | {"resource_id": database.resource_id})

    def set_notice(self, arn: str, event: str, at: str) -> None:
        """Record that RDS reported this event about the database, and when; the last one of its kind."""
        self._set_users(arn, "notices", {event: at})

    def set_ignored_fingerprint(self, arn: str, fingerprint: str) -> None:
        """Record the fingerprint of a database that is left alone until it, or its declaration, is another one."""
        self._set(arn, ignored_fingerprint=fingerprint)

    def set_handled(self, arn: str, digest: str, at: str) -> None:
        """Record the drift that an onboarding could not end, and when; an empty digest removes it."""
        self._set(arn, handled=digest, handled_at=at)

    def set_granted(self, database: Database, granted: Mapping[str, Iterable[Grant]]) -> None:
        """Record the grants that rdsiam makes to users themselves, and those that it has not revoked yet."""
        grants = {user: [grant.to_json() for grant in each] for user, each in granted.items()}
        self._set_large(database, granted=grants)

    def granted_in(self, resource_id: str) -> Mapping[str, tuple[Grant, ...]]:
        """Return the grants recorded for a resource id; empty for an unknown one."""
        record = self.of_resource(resource_id)
        return record.granted if record is not None else {}

    def forget(self, arn: str) -> None:
        """Remove the record of a database that is gone; its attributes stay, as its snapshots can be restored."""
        record = self.get(arn)
        if record is not None and record.resource_id and record.recorded:
            other = self.of_resource(record.resource_id)
            if other is not None and other.arn == arn:
                self._set(_RESOURCE + record.resource_id, recorded=record.recorded.to_json())
        self._dynamodb.delete_item(TableName=self._table, Key={"database": {"S": arn}})
        if record is not None and record.resource_id:
            self._large.forget(record.resource_id, _LARGE)

    def _set_large(self, database: Database, **attributes: Any) -> None:
        """Set attributes of a record; those that have no room in its item are written to items of their own."""
        item = self._item(database.arn) or {}
        written: dict[str, Any] = {}
        for name, value in attributes.items():
            if name not in _LARGE:
                written[name] = value
                continue
            current = plain(item[f"{name}_at"]) if f"{name}_at" in item else None
            pointer = self._large.write(database.resource_id, name, value, current)
            written |= (
                {name: value, f"{name}_at": None} if pointer is None else {name: {}, f"{name}_at": pointer.to_json()}
            )
        self._set(database.arn, **written)
