"""Values of a database's record that have no room in its item: DynamoDB limits an item to 400 KB.

Such a value is kept as JSON in items of its own, of which the record's item has the number and the digest. There are
two sets of them; a new value is written to the one that the record does not refer to, so the record changes at once.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rdsiam.errors import RdsiamError
from rdsiam.state.items import items_of

#: What the keys of these items begin with; those of databases are ARNs.
PREFIX = "part:"
#: Characters of JSON of a value in the record's own item, and of one part.
_INLINE, _PART = 60_000, 180_000
_SETS = ("a", "b")


class Torn(RdsiamError):
    """The parts of a value are not those that the record refers to: another run has replaced them meanwhile."""

    code = "inventory-changed"


@dataclass(frozen=True)
class Pointer:
    """The place of a value.

    :ivar resource_id: of the database.
    :ivar set: which of the two sets of items.
    :ivar count: number of parts.
    :ivar digest: of the JSON.
    """

    resource_id: str
    set: str
    count: int
    digest: str

    def to_json(self) -> dict[str, Any]:
        """Return the attribute of the record's item."""
        return vars(self).copy()


class LargeValues:
    """The items of InventoryTable whose keys begin with `part:`."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def write(self, resource_id: str, name: str, value: Any, current: Mapping[str, Any] | None) -> Pointer | None:
        """Write a value beside the current one, and return its place; None if it has room in the record's item.

        :param current: the pointer that the record has; None if it has none.
        """
        text = json.dumps(value)
        if len(text) <= _INLINE:
            return None
        unused = _SETS[1] if current is not None and current["set"] == _SETS[0] else _SETS[0]
        parts = [text[start : start + _PART] for start in range(0, len(text), _PART)]
        for number, part in enumerate(parts):
            self._dynamodb.update_item(
                TableName=self._table,
                Key=_key(resource_id, name, unused, number),
                UpdateExpression="SET #text = :text",
                ExpressionAttributeNames={"#text": "text"},
                ExpressionAttributeValues={":text": {"S": part}},
            )
        return Pointer(resource_id, unused, len(parts), _digest(text))

    def read(self, name: str, pointer: Mapping[str, Any], batched: bool = False) -> Any:
        """Return a value.

        :param batched: read by BatchGetItem, the only call that the audit may make.
        :raises Torn: it has been replaced since the pointer was read.
        """
        resource_id = pointer["resource_id"]
        keys = [_key(resource_id, name, pointer["set"], number) for number in range(int(pointer["count"]))]
        if batched:
            names = [key["database"]["S"] for key in keys]
            items = dict(items_of(self._dynamodb, self._table, names))
            text = "".join(items[each]["text"]["S"] for each in names if each in items)
        else:
            text = "".join(self._part(key) or "" for key in keys)
        if _digest(text) != pointer["digest"]:
            raise Torn(f"the inventory's {name} of {resource_id} were replaced while they were read; try again")
        return json.loads(text)

    def forget(self, resource_id: str, names: tuple[str, ...]) -> None:
        """Remove all values of a resource id."""
        for name in names:
            for each in _SETS:
                number = 0
                while self._part(key := _key(resource_id, name, each, number)) is not None:
                    self._dynamodb.delete_item(TableName=self._table, Key=key)
                    number += 1

    def _part(self, key: dict[str, Any]) -> str | None:
        answer = self._dynamodb.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        return str(answer["Item"]["text"]["S"]) if "Item" in answer else None


def _key(resource_id: str, name: str, of_set: str, number: int) -> dict[str, Any]:
    return {"database": {"S": f"{PREFIX}{resource_id}:{name}:{of_set}:{number}"}}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
