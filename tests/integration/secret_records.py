"""Records of secrets in the inventory, written as SecretsFunction writes them."""

from typing import Any

from rdsiam.state.inventory import Inventory
from rdsiam.state.record import SecretRecord
from tests.integration.account import Account, processes_of


def record_secret(account: Account, arn: str, user: str, secret: str, **fields: Any) -> None:
    """Record a user's secret on a database, whatever access.yaml declares and the secret says."""
    if not processes_of(account.cloud.functions["SecretsFunction"].partition(":")[0]):
        account.invoke("SecretsFunction", {})  # its credentials are in its process
    dynamodb = account.cloud.client("dynamodb", account.credentials_of("SecretsFunction"))
    inventory = Inventory(dynamodb, account.cloud.outputs["InventoryTable"])
    described = account.describe(arn)
    resource_id = described.get("DbiResourceId") or described["DbClusterResourceId"]
    record = SecretRecord(**({"resource_id": resource_id, "arn": secret, "scheme": "single"} | fields))
    inventory.set_secret(arn, user, record, recorded_secret(account, arn, user))


def recorded_secret(account: Account, arn: str, user: str) -> SecretRecord | None:
    """Return the record of a user's secret."""
    inventory = Inventory(account.cloud.client("dynamodb"), account.cloud.outputs["InventoryTable"])
    record = inventory.get(arn)
    return record.secrets.get(user) if record else None
