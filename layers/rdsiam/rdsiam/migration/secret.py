"""The secret of a user that loses its password: taken out of rotation and deleted with a way back, if it is tagged."""

import logging
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.audit.facts import SecretFacts
from rdsiam.audit.secrets_reading import Secrets
from rdsiam.databases import Database
from rdsiam.migration.record import Kept

logger = logging.getLogger(__name__)

#: What the owner of a secret tags it with, so that it may be looked at and scheduled for deletion.
TAG = "rdsiam:managed"
#: The longest that Secrets Manager knows.
RECOVERY_DAYS = 30


class MigratingSecrets:
    """The secrets of this account that are tagged for us."""

    def __init__(self, secrets_manager: Any) -> None:
        self._client = secrets_manager

    def of(self, database: Database, user: str) -> SecretFacts | None:
        """Return the secret by which `user` logs in to the database; None where none is tagged that does."""
        place = (database.arn, database.identifier, database.host, database.port)
        for secret in Secrets(self._client).list(datetime.now(UTC), tag=TAG):
            if secret.username == user and secret.is_of(*place):
                return secret
        return None

    def retire(self, kept: Kept) -> None:
        """Stop its rotation and schedule it for deletion. Done twice it is done once."""
        found = self._client.describe_secret(SecretId=kept.arn)
        if found.get("DeletedDate"):
            return
        if found.get("RotationEnabled"):
            self._client.cancel_rotate_secret(SecretId=kept.arn)
        self._client.delete_secret(SecretId=kept.arn, RecoveryWindowInDays=RECOVERY_DAYS)
        logger.info("scheduled %s for deletion in %d days", kept.arn, RECOVERY_DAYS)

    def restore(self, kept: Kept) -> str:
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
