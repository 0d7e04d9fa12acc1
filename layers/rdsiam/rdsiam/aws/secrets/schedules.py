"""Schedules of rotations in Secrets Manager, and secrets that rdsiam creates."""

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime

from rdsiam.aws.secrets.client import PENDING, SecretsManager
from rdsiam.aws.secrets.errors import SecretExists, SecretInWrongState, SecretNotFound
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.aws.secrets.metadata import IsUser, Secrets
from rdsiam.errors import Refused

#: Tag by which the owner of a secret lets rdsiam set its schedule and delete it.
MANAGED = "rdsiam:managed"
#: Tag of a secret that rdsiam creates and whose password the database may not have yet: it limits what
#: SecretsFunction's role may write. Only the inventory decides whether a secret is initial.
INITIAL = "rdsiam:initial"
#: Prefix of the names of secrets that rdsiam creates.
PREFIX = "rdsiam/"


class RotatingSecrets:
    """The secrets of this account and region that hold database logins.

    :param function: ARN of RotateFunction.
    :param is_user: as in `Secrets`.
    """

    def __init__(self, secrets_manager: SecretsManager, function: str, is_user: IsUser) -> None:
        self._secrets_manager = secrets_manager
        self._reader = Secrets(secrets_manager, is_user)
        self.function = function

    @property
    def skipped(self) -> int:
        """Number of secrets that could not be read in the last listing."""
        return self._reader.skipped

    def all(self) -> list[SecretFacts]:
        """Return all secrets that can be read, without those of AWS's services."""
        return list(self._reader.list(datetime.now(UTC)))

    def get(self, arn: str) -> SecretFacts | None:
        """Return one secret; None if it is gone, scheduled for deletion, or unreadable."""
        return self._reader.get(arn, datetime.now(UTC))

    def rotates(self, secret: SecretFacts) -> bool:
        """Tell whether RotateFunction rotates the secret."""
        return secret.rotation_enabled and secret.rotation_lambda == self.function

    def schedule(self, arn: str, rules: Mapping[str, str]) -> None:
        """Let RotateFunction rotate the secret, from its next window on.

        :raises RotationUnfinished: a rotation of it has begun meanwhile.
        """
        self._secrets_manager.schedule(arn, self.function, rules)

    def rotate(self, arn: str) -> str:
        """Begin a rotation now, and return the version that it makes the current one.

        :raises RotationUnfinished: one has begun already; Secrets Manager tries that one again.
        """
        return self._secrets_manager.rotate(arn)

    def cancel(self, arn: str) -> None:
        """Switch the rotation off; the password stays as it is."""
        self._secrets_manager.cancel_rotation(arn)

    def find(self, name: str) -> tuple[str, frozenset[str]] | None:
        """Return the ARN of the secret of a name, and the ids of its labelled versions; None if there is none.

        :raises Refused: it is scheduled for deletion.
        """
        try:
            description = self._secrets_manager.describe(name)
        except SecretNotFound:
            return None
        if description.deleted:
            raise _deleted(name)
        return description.arn, frozenset(description.stages)

    def create(self, name: str, text: str, description: str, version: str) -> str:
        """Create a secret with the tags `MANAGED` and `INITIAL`; return its ARN.

        :param version: id of its first version, by which a later run recognizes it.
        :raises Refused: a secret of that name exists, or is scheduled for deletion: nothing was created.
        """
        try:
            return self._secrets_manager.create(name, text, description, version, [MANAGED, INITIAL])
        except SecretExists:
            raise not_created_by_rdsiam(name) from None
        except SecretInWrongState:
            raise _deleted(name) from None

    def put(self, arn: str, text: str, version: str) -> None:
        """Store the value of an initial secret, under an id that was recorded before.

        :raises Refused: the version has a value that rdsiam did not put there, or is not the current one.
        """
        try:
            self._secrets_manager.put(arn, text, version)
        except SecretExists:
            raise Refused(
                f"the current value of {arn} is not the one that rdsiam put there, so its password is not set in the "
                "database",
                "delete the secret, and set it up again",
                "secret-mismatch",
            ) from None

    def end_initial(self, arn: str) -> None:
        """Remove the tag `INITIAL`: the database has the password, and rdsiam can't write the value from now on."""
        self._secrets_manager.untag(arn, INITIAL)

    def created(self, arn: str, version: str) -> datetime | None:
        """Return when a version was created; None if there is no such version."""
        times = (each.created for each in self._secrets_manager.versions(arn) if each.id == version)
        return next(times, None)

    def remove_pending(self, arn: str, version: str) -> None:
        """Remove AWSPENDING from a version."""
        self._secrets_manager.move_label(arn, PENDING, away_from=version)

    def restore_pending(self, arn: str, version: str) -> None:
        """Put AWSPENDING back on a version."""
        self._secrets_manager.move_label(arn, PENDING, to=version)


def not_created_by_rdsiam(name: str) -> Refused:
    """Return why the existing secret of that name is not used for a new password."""
    return Refused(
        f"a secret {name} exists that rdsiam did not create, and it is not taken over",
        "delete it; or, if it holds the password that is in use, name it by `secret: ARN` in access.yaml",
        "secret-exists",
    )


def _deleted(name: str) -> Refused:
    return Refused(
        f"the secret {name} is scheduled for deletion",
        f"aws secretsmanager restore-secret --secret-id {shlex.quote(name)}",
        "secret-missing",
    )
