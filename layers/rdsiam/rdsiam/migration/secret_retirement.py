"""The secret of a retired user: its rotation ends, and it is scheduled for deletion, from which it can be restored.

Only the recorded secret is deleted. Other secrets whose values are for the user are named, and stay.
"""

import logging
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime

from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.client import SecretsManager
from rdsiam.aws.secrets.errors import SecretNotFound, SecretsManagerFailed
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.aws.secrets.metadata import Secrets
from rdsiam.aws.secrets.schedules import MANAGED
from rdsiam.core.changes import Change, MissingPart, Reason
from rdsiam.state.inventory import Inventory
from rdsiam.state.migrations import RetainedSecret

logger = logging.getLogger(__name__)

#: Days for which a deleted secret can be restored: the most that Secrets Manager allows.
RECOVERY_DAYS = 30


@dataclass(frozen=True)
class UsersSecrets:
    """The secrets of one user that carry the tag `MANAGED`.

    :ivar recorded: the secret that the inventory records for the user; None if there is none.
    :ivar others: ARNs of secrets whose values are for the user, and that are not recorded for it.
    """

    recorded: SecretFacts | None
    others: tuple[str, ...]

    def left_alone(self, user: str) -> tuple[MissingPart, ...]:
        """Return the secrets that the migration of the user leaves alone, for people to look at."""
        problem = f"the secret claims to hold the password of {user}, and is not recorded for it, so it is left alone"
        return tuple(
            Reason(problem, f"delete it yourself if it is a secret of {user}").missing(arn) for arn in self.others
        )

    def without_recorded(self, user: str) -> Reason:
        """Return the remark that no secret is deleted; an empty one if there is a recorded secret."""
        if self.recorded is not None:
            return Reason()
        return Reason(
            f"no secret with the tag {MANAGED}=true is recorded for {user}",
            "if one holds its password, delete it yourself",
        )

    def notes(self, user: str) -> list[str]:
        """Return notes on secrets that are not deleted, for the migration's history."""
        missing = [f"{part.what}: {part.reason}; {part.remedy}" for part in self.left_alone(user)]
        return [*filter(None, [str(self.without_recorded(user))]), *missing]


class MigratingSecrets:
    """The secrets of this account that carry the tag `MANAGED`."""

    def __init__(self, secrets_manager: SecretsManager, inventory: Inventory) -> None:
        self._secrets_manager = secrets_manager
        self._inventory = inventory

    def of(self, database: Database, user: str) -> UsersSecrets:
        """Return the recorded secret of a user of the database, and other secrets whose values are for it."""
        database_record = self._inventory.get(database.arn)
        record = database_record.secrets.get(user) if database_record else None
        arn = record.arn if record is not None and record.resource_id == database.resource_id else None
        endpoint = (database.arn, database.identifier, database.host, database.port)
        secrets = list(Secrets(self._secrets_manager, user.__eq__).list(datetime.now(UTC), tag=MANAGED))
        others = [
            secret.arn
            for secret in secrets
            if secret.arn != arn and secret.username == user and secret.is_of(*endpoint)
        ]
        recorded = next((secret for secret in secrets if secret.arn == arn), None)
        return UsersSecrets(recorded, tuple(sorted(others)))

    def retire(self, secret: RetainedSecret) -> None:
        """Switch its rotation off and schedule it for deletion. Idempotent."""
        description = self._secrets_manager.describe(secret.arn)
        if description.deleted:
            return
        if description.rotates:
            self._secrets_manager.cancel_rotation(secret.arn)
        self._secrets_manager.delete(secret.arn, RECOVERY_DAYS)
        logger.info("scheduled %s for deletion in %d days", secret.arn, RECOVERY_DAYS)

    def restore(self, secret: RetainedSecret) -> MissingPart | None:
        """Cancel its deletion, and switch its rotation on again if it had one.

        :return: the secret, if its owner has to do something; None if nothing is missing.
        """
        try:
            description = self._secrets_manager.describe(secret.arn)
        except SecretNotFound:
            return Reason(
                "the secret is gone: its recovery window has passed",
                "put the password into a new secret, if an application reads it from there",
            ).missing(secret.arn)
        if description.deleted:
            self._secrets_manager.restore(secret.arn)
        if secret.rotated and not description.rotates:
            try:
                self._secrets_manager.resume(secret.arn)
            except SecretsManagerFailed as error:
                return Reason(
                    f"the rotation of the secret is still off, as switching it on failed with {error.aws_code}",
                    "switch it on yourself",
                ).missing(secret.arn)
        logger.info("restored %s", secret.arn)
        return None


def secret_changes(secret: RetainedSecret) -> list[Change]:
    """Return the changes to the secret of a retired user."""
    quoted = shlex.quote(secret.arn)
    stop = [Change("secret", secret.arn, f"aws secretsmanager cancel-rotate-secret --secret-id {quoted}")]
    delete = f"aws secretsmanager delete-secret --secret-id {quoted} --recovery-window-in-days {RECOVERY_DAYS}"
    return [*(stop if secret.rotated else []), Change("secret", secret.arn, delete)]


def restored(secret: RetainedSecret) -> Change:
    """Return the change that cancels the deletion of a secret."""
    return Change("secret", secret.arn, f"aws secretsmanager restore-secret --secret-id {shlex.quote(secret.arn)}")
