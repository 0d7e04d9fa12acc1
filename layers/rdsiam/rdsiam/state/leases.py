"""Leases: one run at a time changes users and privileges of a database server, or the policies of a role.

A lease is an item of InventoryTable, which only rdsiam's functions write: no user of the server can take or keep it.
A step takes the lease before it reads what it is about to change, and gives it back at its end. It is valid for longer
than the function can run, so no run outlives its lease; if a run was killed, the next one waits until the lease has
expired, or takes it over at once if it is the same execution, of which Lambda runs one invocation at a time.
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.aws.rds_models import Database
from rdsiam.core import times
from rdsiam.errors import LeaseLost, LeaseTaken

logger = logging.getLogger(__name__)

#: A minute more than OnboardFunction and MigrateFunction may run.
SECONDS = 180
#: What the keys of leases begin with; those of databases are ARNs.
PREFIX = "lease:"


@dataclass(frozen=True)
class Lease:
    """The right to change a server, or the policies of a role, for a time.

    :ivar subject: resource id of the database, or ARN of the role.
    :ivar holder: execution that has it.
    :ivar token: of this step's attempt alone.
    :ivar expires: in seconds since 1970.
    :ivar note: text that the last holder left.
    :ivar turn: number of this lease among all leases of the subject, from 1.
    """

    subject: str
    holder: str
    token: str
    expires: int
    _now: Callable[[], float] = field(repr=False, compare=False)
    note: str = field(default="", repr=False, compare=False)
    turn: int = field(default=0, compare=False)

    def check(self) -> None:
        """See that the lease is still valid.

        :raises LeaseLost: it is not.
        """
        if self._now() >= self.expires:
            raise LeaseLost(f"{self.holder} has lost its lease of {self.subject}, which has expired; run it again")


class Leases:
    """The items of InventoryTable whose keys begin with `lease:`; one for each server, or role."""

    def __init__(self, dynamodb: Any, table: str, now: Callable[[], float] = time.time) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._now = now

    @contextmanager
    def hold(self, database: Database, holder: str) -> Iterator[Lease]:
        """Hold the lease of the database's server.

        :param holder: the execution, whose own lease is taken over if an earlier attempt was killed.
        :raises LeaseTaken: another execution has it.
        """
        lease = self.take(database, holder)
        try:
            yield lease
        finally:
            self.release(lease)

    def take(self, database: Database, holder: str) -> Lease:
        """Take the lease, for `SECONDS`.

        :raises LeaseTaken: another execution has it.
        """
        return self.take_named(database.resource_id, holder, SECONDS)

    def take_named(self, subject: str, holder: str, seconds: int, precedence: int = 0) -> Lease:
        """Take the lease of a subject.

        :param seconds: for which it is valid.
        :param precedence: if another run has the lease: seconds for which only runs with precedence may take it next.
        :raises LeaseTaken: another run has it, or goes before this one.
        """
        now = int(self._now())
        lease = Lease(subject, holder, secrets.token_hex(8), now + seconds, self._now)
        values = {
            ":holder": {"S": holder},
            ":token": {"S": lease.token},
            ":expires": {"N": str(lease.expires)},
            ":now": {"N": str(now)},
            ":one": {"N": "1"},
        }
        condition = "(attribute_not_exists(#expires) OR #expires <= :now OR #holder = :holder)"
        if not precedence:
            condition += " AND (attribute_not_exists(#precedence) OR #precedence <= :now)"
        try:
            item = self._update(
                subject,
                "SET #holder = :holder, #token = :token, #expires = :expires REMOVE #precedence ADD #turn :one",
                condition,
                values,
                ("holder", "token", "expires", "precedence", "turn"),
            )
        except _NotTaken as error:
            if precedence:
                self._request(subject, now + precedence)
            other = {name: next(iter(value.values())) for name, value in error.item.items()}
            ends = max(int(other.get("expires", 0)), int(other.get("precedence", 0)))
            until = times.text_of_epoch(ends)
            raise LeaseTaken(subject, other.get("holder", "a withdrawal"), until, seconds) from None
        return replace(lease, note=item.get("note", {}).get("S", ""), turn=int(item["turn"]["N"]))

    def _request(self, subject: str, until: int) -> None:
        """Keep runs without precedence from taking the lease for some time."""
        self._dynamodb.update_item(
            TableName=self._table,
            Key=_key(subject),
            UpdateExpression="SET #precedence = :until",
            ExpressionAttributeNames={"#precedence": "precedence"},
            ExpressionAttributeValues={":until": {"N": str(until)}},
        )

    def release(self, lease: Lease, note: str = "") -> None:
        """Give the lease back; one that somebody else has taken over stays theirs.

        :param note: for the next holder; empty to leave none.
        """
        values = {":none": {"N": "0"}, ":token": {"S": lease.token}}
        expression, names = "SET #expires = :none", ["token", "expires"]
        if note or lease.note:
            values |= {":note": {"S": note}}
            expression, names = "SET #expires = :none, #note = :note", [*names, "note"]
        try:
            self._update(lease.subject, expression, "#token = :token", values, names)
        except _NotTaken as error:
            logger.warning("%s had lost its lease of %s to %s", lease.holder, lease.subject, error.item)

    def forget(self, resource_id: str) -> None:
        """Remove the item of a server that is gone."""
        self._dynamodb.delete_item(TableName=self._table, Key=_key(resource_id))

    def _update(
        self, subject: str, expression: str, condition: str, values: dict[str, Any], names: Sequence[str]
    ) -> Mapping[str, Any]:
        """Update an item under a condition, and return it."""
        try:
            answer = self._dynamodb.update_item(
                TableName=self._table,
                Key=_key(subject),
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeNames={f"#{name}": name for name in names},
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            refused: Mapping[str, Any] = error.response
            raise _NotTaken(refused.get("Item", {})) from None
        item: Mapping[str, Any] = answer["Attributes"]
        return item


class _NotTaken(Exception):
    """The condition does not hold; `item` is what is there."""

    def __init__(self, item: Mapping[str, Any]) -> None:
        super().__init__()
        self.item = item


def _key(subject: str) -> dict[str, Any]:
    return {"database": {"S": f"{PREFIX}{subject}"}}
