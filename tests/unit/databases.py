"""Databases that unit tests ask about; `dataclasses.replace` makes others of them."""

from typing import Any

from rdsiam.access.selection import SelectedDatabase

ORDERS = SelectedDatabase(
    arn="arn:aws:rds:eu-west-1:123456789012:db:orders",
    identifier="orders",
    engine="postgres",
    engine_version="18",
    resource_id="db-ONE",
    status="available",
    host="orders.example",
    port=5432,
    iam_enabled=True,
    master_user="boss",
)


def database(resource_id: str, **more: Any) -> SelectedDatabase:
    return SelectedDatabase(
        arn=f"arn:aws:rds:eu-west-1:123456789012:db:{resource_id}",
        identifier=resource_id,
        engine="postgres",
        engine_version="18.1",
        resource_id=resource_id,
        status="available",
        host="host",
        port=5432,
        iam_enabled=True,
        master_user="boss",
        **more,
    )
