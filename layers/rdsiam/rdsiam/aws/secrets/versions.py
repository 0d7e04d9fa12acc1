"""Values and labels of secrets, as a rotation reads and writes them."""

from collections.abc import Iterator

from rdsiam.aws.secrets.client import CURRENT, PENDING, Description, SecretsManager, Value
from rdsiam.aws.secrets.errors import SecretExists, SecretInWrongState, SecretNotFound
from rdsiam.aws.secrets.value import MasterSecret, Secret, read_master, read_secret
from rdsiam.errors import InvalidRequest, Refused

#: Number of versions without labels that are tried if no labelled version logs in.
MOST_UNLABELLED = 5


class SecretStore:
    """Values and labels of the secrets of this account; each method is one request, but for `unlabelled`."""

    def __init__(self, secrets_manager: SecretsManager) -> None:
        self._secrets_manager = secrets_manager

    def describe(self, arn: str) -> Description:
        """Return what is known of a secret without its values."""
        return self._secrets_manager.describe(arn)

    def labelled(self, arn: str, stage: str, version: str | None = None) -> Secret | None:
        """Return the value of the version with that label, and with that id if one is given; None if there is none.

        :raises InvalidRequest: the value is not a database user's login.
        """
        value = self._value(arn, stage, version)
        return None if value is None else _read(arn, stage, value)

    def current(self, arn: str) -> Secret:
        """Return the current value.

        :raises Refused: there is none.
        :raises InvalidRequest: the value is not a database user's login.
        """
        return _existing(arn, self.labelled(arn, CURRENT))

    def current_and_master(self, arn: str, master_arn: str) -> tuple[Secret, MasterSecret]:
        """Return the current value of a secret and the login of its administrator.

        :raises Refused: one of them does not exist or has no value.
        :raises InvalidRequest: a value is not a login.
        """
        values = self._secrets_manager.values([arn, master_arn])
        current, administrator = values.get(arn), values.get(master_arn)
        if administrator is None:
            raise Refused(
                f"masterarn names {master_arn}, which does not exist or has no value",
                "correct masterarn in the secret's value, or create the administrator's secret",
                "secret-missing",
            )
        try:
            master = read_master(administrator.text)
        except InvalidRequest as error:
            raise InvalidRequest(f"{master_arn}: {error.field}", error.detail) from None
        return _existing(arn, None if current is None else _read(arn, CURRENT, current)), master

    def unlabelled(self, arn: str) -> Iterator[Secret]:
        """Yield the values of versions without labels, newest first; unreadable ones are left out."""
        versions = [version for version in self._secrets_manager.versions(arn, deprecated=True) if not version.stages]
        # The sort is stable: of versions with the same time, the one that is listed last counts as the newest.
        versions.sort(key=lambda version: version.created)
        for version in versions[: -MOST_UNLABELLED - 1 : -1]:
            value = self._value(arn, version=version.id)
            if value is not None:
                try:
                    yield read_secret(value.text, version.id)
                except InvalidRequest:
                    continue  # a former value need not be a login

    def put_pending(self, arn: str, token: str, secret: Secret, rotation_token: str | None) -> bool:
        """Store the version of this token, unless it has a value already, and return whether it was stored.

        A version's value can't be changed, so two invocations at the same time store one password.
        """
        try:
            self._secrets_manager.put(arn, secret.text(), token, PENDING, rotation_token)
        except SecretExists:
            return False
        return True

    def promote(self, arn: str, token: str, current: str | None) -> None:
        """Make the version of this token the current one; Secrets Manager moves the other labels itself."""
        self._secrets_manager.move_label(arn, CURRENT, to=token, away_from=current)

    def discard_pending(self, arn: str, token: str) -> None:
        """Remove AWSPENDING from a version that can never become current, so that the next rotation makes a new one."""
        self._secrets_manager.move_label(arn, PENDING, away_from=token)

    def _value(self, arn: str, stage: str | None = None, version: str | None = None) -> Value | None:
        try:
            return self._secrets_manager.value(arn, stage, version)
        except (SecretNotFound, SecretInWrongState):
            # The second is the answer if the version exists, but does not carry the label.
            return None


def _existing(arn: str, current: Secret | None) -> Secret:
    if current is None:
        raise Refused(f"{arn} has no AWSCURRENT version", "put a value that logs in into the secret", "secret-missing")
    return current


def _read(arn: str, stage: str, value: Value) -> Secret:
    try:
        return read_secret(value.text, value.version)
    except InvalidRequest as error:
        raise InvalidRequest(f"{arn} {stage}: {error.field}", error.detail) from None
