"""Items of InventoryTable, read whole and changed attribute by attribute."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from botocore.exceptions import ClientError


class InventoryItems:
    """The items of the table, by key. `Inventory` gives them their meaning."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def _item(self, key: str) -> dict[str, Any] | None:
        answer = self._dynamodb.get_item(**self._reading(key))
        return dict(answer["Item"]) if "Item" in answer else None

    def _reading(self, key: str) -> dict[str, Any]:
        """Return GetItem's arguments for the item."""
        return {"TableName": self._table, "Key": {"database": {"S": key}}, "ConsistentRead": True}

    def _put(self, key: str, item: Mapping[str, Any], gone: Collection[str] = ()) -> None:
        """Write all attributes of an item under that key, and remove the attributes `gone`."""
        attributes = sorted(set(item) - {"database"})
        names = {f"#{number}": name for number, name in enumerate([*attributes, *sorted(gone)])}
        removed = ", ".join(f"#{number}" for number in range(len(attributes), len(names)))
        self._dynamodb.update_item(
            TableName=self._table,
            Key={"database": {"S": key}},
            UpdateExpression="SET "
            + ", ".join(f"#{number} = :{number}" for number in range(len(attributes)))
            + (f" REMOVE {removed}" if removed else ""),
            ExpressionAttributeNames=names,
            ExpressionAttributeValues={f":{number}": item[name] for number, name in enumerate(attributes)},
        )

    def _set_users(self, arn: str, attribute: str, values: Mapping[str, str]) -> None:
        """Set entries of a map of users, one by one, so that two runs at a time keep each other's entries."""
        name = {"#map": attribute}
        self._update(arn, "SET #map = if_not_exists(#map, :none)", name, {":none": {}})
        for user, value in values.items():
            self._update(arn, "SET #map.#user = :value", {**name, "#user": user}, {":value": value})

    def _remove_users(self, arn: str, attribute: str, users: Iterable[str]) -> None:
        for user in users:
            self._update(arn, "REMOVE #map.#user", {"#map": attribute, "#user": user}, {})

    def _set(self, arn: str, **attributes: Any) -> None:
        self._set_if(arn, "", **attributes)

    def _set_if(self, arn: str, condition: str, **attributes: Any) -> bool:
        """Set attributes of an item under a condition, and return whether it held."""
        try:
            self._update(
                arn,
                "SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
                {f"#{name}": name for name in attributes},
                {f":{name}": value for name, value in attributes.items()},
                **({"ConditionExpression": condition} if condition else {}),
            )
        except ClientError as error:
            if not condition or error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return False
        return True

    def _update(
        self, arn: str, expression: str, names: Mapping[str, str], values: Mapping[str, Any], **more: str
    ) -> None:
        from boto3.dynamodb.types import TypeSerializer  # here, as it loads boto3, which vending does without

        write = TypeSerializer()
        given = {name: write.serialize(value) for name, value in values.items()}
        self._dynamodb.update_item(
            TableName=self._table,
            Key={"database": {"S": arn}},
            UpdateExpression=expression,
            ExpressionAttributeNames=names,
            **({"ExpressionAttributeValues": given} if given else {}),
            **more,
        )
