"""The secret of a retired user, after an undo: what could not be restored is named with its remedy."""

from types import SimpleNamespace
from typing import Any

import pytest

from rdsiam.aws.secrets.errors import SecretNotFound, SecretsManagerFailed
from rdsiam.migration.secret_retirement import MigratingSecrets
from rdsiam.state.migrations import RetainedSecret

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf"


class SecretsManager:
    """Secrets Manager with one deleted secret, or with none."""

    def __init__(self, exists: bool = True, resumes: bool = True) -> None:
        self._exists, self._resumes = exists, resumes
        self.restored = False

    def describe(self, _: str) -> Any:
        if not self._exists:
            raise SecretNotFound("DescribeSecret", ARN, "ResourceNotFoundException", "")
        return SimpleNamespace(deleted=True, rotates=False)

    def restore(self, _: str) -> None:
        self.restored = True

    def resume(self, _: str) -> None:
        if not self._resumes:
            raise SecretsManagerFailed("RotateSecret", ARN, "AccessDeniedException", "no")


def restore(client: Any) -> Any:
    return MigratingSecrets(client, SimpleNamespace()).restore(RetainedSecret(ARN, rotated=True))  # type: ignore[arg-type]


def test_a_restored_secret_leaves_nothing_to_do():
    client = SecretsManager()
    assert restore(client) is None
    assert client.restored


@pytest.mark.parametrize(
    ("client", "reason", "remedy"),
    [
        (SecretsManager(exists=False), "its recovery window has passed", "a new secret"),
        (SecretsManager(resumes=False), "failed with AccessDeniedException", "switch it on"),
    ],
    ids=["gone", "rotation off"],
)
def test_what_could_not_be_restored_is_a_missing_part(client, reason, remedy):
    part = restore(client)
    assert (part.what, part.retry) == (ARN, False)
    assert reason in part.reason
    assert remedy in part.remedy
