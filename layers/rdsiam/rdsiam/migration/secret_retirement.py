"""The secret of a user that loses its password: taken out of rotation and deleted with a way back, if it is recorded.

Secrets that only say that they hold the user's password are named, and left alone.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.aws.rds import Database
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

    def __init__(self, secrets_manager: Any, inventory: Inventory) -> None:
        self._client = secrets_manager
        self._inventory = inventory

    def of(self, database: Database, user: str) -> UsersSecrets:
        """Return the recorded secret of a user of the database, and others that say they are its secret."""
        record = self._inventory.get(database.arn)
        known = record.secrets.get(user) if record else None
        arn = known.arn if known is not None and known.resource_id == database.resource_id else None
        place = (database.arn, database.identifier, database.host, database.port)
        listed = list(Secrets(self._client).list(datetime.now(UTC), tag=TAG))
        others = [one.arn for one in listed if one.arn != arn and one.username == user and one.is_of(*place)]
        return UsersSecrets(next((one for one in listed if one.arn == arn), None), tuple(sorted(others)))

    def retire(self, kept: RetainedSecret) -> None:
        """Stop its rotation and schedule it for deletion. Done twice it is done once."""
        found = self._client.describe_secret(SecretId=kept.arn)
        if found.get("DeletedDate"):
            return
        if found.get("RotationEnabled"):
            self._client.cancel_rotate_secret(SecretId=kept.arn)
        self._client.delete_secret(SecretId=kept.arn, RecoveryWindowInDays=RECOVERY_DAYS)
        logger.info("scheduled %s for deletion in %d days", kept.arn, RECOVERY_DAYS)

    def restore(self, kept: RetainedSecret) -> str:
        """Give it back, and let it rotate again by its own rules if it did.

        :return: what is left for its owner to do; empty where nothing is.
        """
        try:
            found = self._client.describe_secret(SecretId=kept.arn)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return f"{kept.arn} is gone: its recovery window has passed"
        if found.get("DeletedDate"):
            self._client.restore_secret(SecretId=kept.arn)
        if kept.rotated and not found.get("RotationEnabled"):
            try:
                self._client.rotate_secret(SecretId=kept.arn, RotateImmediately=False)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                return f"rotation of {kept.arn} is still off, since switching it on failed with {code}: do it yourself"
        logger.info("restored %s", kept.arn)
        return ""
