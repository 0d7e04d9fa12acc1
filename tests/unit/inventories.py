"""The inventory's table in moto."""

from typing import Any


def create_inventory(dynamodb: Any) -> None:
    """Create the table `inventory`."""
    dynamodb.create_table(
        TableName="inventory",
        KeySchema=[{"AttributeName": "database", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "database", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
