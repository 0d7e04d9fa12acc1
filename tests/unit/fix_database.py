"""The database that unit tests ask about; `dataclasses.replace` makes others of it."""

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
