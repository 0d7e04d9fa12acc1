"""The secret of a user that loses its password: taken out of rotation and deleted with a way back, if it is recorded.

Secrets that only say that they hold the user's password are named, and left alone.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.client import SecretsManager
from rdsiam.aws.secrets.errors import SecretNotFound, SecretsManagerFailed
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.aws.secrets.metadata import Secrets
from rdsiam.state.inventory import Inventory
from rdsiam.state.migrations import RetainedSecret

logger = logging.getLogger(__name__)

#: What the owner of a secret tags it with, so that it may be looked at and scheduled for deletion.
TAG = "rdsiam:managed"
#: The longest that Secrets Manager knows.
RECOVERY_DAYS = 30


@dataclass(frozen=True)
class UsersSecrets:
    """The secrets of one user.

    :ivar recorded: the one that the inventory records for it, and that its owner has tagged; None if there is none.
    :ivar others: ARNs of tagged secrets that say that they hold its password, and are not recorded for it.
    """

    recorded: SecretFacts | None
    others: tuple[str, ...]


class MigratingSecrets:
    """The secrets of this account that are tagged for rdsiam."""

    def __init__(self, secrets_manager: SecretsManager, inventory: Inventory) -> None:
        self._secrets_manager = secrets_manager
        self._inventory = inventory

    def of(self, database: Database, user: str) -> UsersSecrets:
        """Return the recorded secret of a user of the database, and others that say they are its secret."""
        record = self._inventory.get(database.arn)
        known = record.secrets.get(user) if record else None
        arn = known.arn if known is not None and known.resource_id == database.resource_id else None
        place = (database.arn, database.identifier, database.host, database.port)
        listed = list(Secrets(self._secrets_manager).list(datetime.now(UTC), tag=TAG))
        others = [one.arn for one in listed if one.arn != arn and one.username == user and one.is_of(*place)]
        return UsersSecrets(next((one for one in listed if one.arn == arn), None), tuple(sorted(others)))

    def retire(self, secret: RetainedSecret) -> None:
        """Switch its rotation off and schedule it for deletion. Idempotent."""
        description = self._secrets_manager.describe(secret.arn)
        if description.deleted:
            return
        if description.rotates:
            self._secrets_manager.cancel_rotation(secret.arn)
        self._secrets_manager.delete(secret.arn, RECOVERY_DAYS)
        logger.info("scheduled %s for deletion in %d days", secret.arn, RECOVERY_DAYS)

    def restore(self, secret: RetainedSecret) -> str:
        """Cancel its deletion, and switch its rotation on again if it had one.

        :return: what its owner has to do; empty if nothing.
        """
        try:
            description = self._secrets_manager.describe(secret.arn)
        except SecretNotFound:
            return f"{secret.arn} is gone: its recovery window has passed"
        if description.deleted:
            self._secrets_manager.restore(secret.arn)
        if secret.rotated and not description.rotates:
            try:
                self._secrets_manager.resume(secret.arn)
            except SecretsManagerFailed as error:
                return (
                    f"the rotation of {secret.arn} is still off, as switching it on failed with {error.aws_code}: "
                    "switch it on yourself"
                )
        logger.info("restored %s", secret.arn)
        return ""
