"""Secrets Manager as schedules are set by it: which secret is whose, when it rotates, and new ones. Never a value.

Values, where a login needs one, are `store.SecretStore`'s.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.aws.secrets.metadata import Secrets
from rdsiam.aws.secrets.versions import PENDING
from rdsiam.errors import Refused

#: A secret whose schedule rdsiam may set: its owner says so by this tag.
MANAGED = "rdsiam:managed"
#: A secret that rdsiam creates, whose password the database may not have yet: it limits what SecretsFunction's role may
#: write. What is so is in the inventory alone.
INITIAL = "rdsiam:initial"
#: Under which names rdsiam makes secrets.
PREFIX = "rdsiam/"


class RotatingSecrets:
    """The secrets of this account and region that hold database logins.

    :param function: ARN of RotateFunction.
    """

    def __init__(self, secrets_manager: Any, function: str) -> None:
        self._client = secrets_manager
        self._reader = Secrets(secrets_manager)
        self.function = function

    @property
    def skipped(self) -> int:
        """How many could not be read in the last listing."""
        return self._reader.skipped

    def all(self) -> list[SecretFacts]:
        """Return all that could be read, but for those of AWS's services."""
        return list(self._reader.list(_now()))

    def one(self, arn: str) -> SecretFacts | None:
        """Return one secret; None if it is gone, going, or can't be read."""
        return self._reader.one(arn, _now())

    def is_ours(self, secret: SecretFacts) -> bool:
        """Tell whether RotateFunction rotates it."""
        return secret.rotation_enabled and secret.rotation_lambda == self.function

    def schedule(self, arn: str, rules: Mapping[str, str]) -> None:
        """Have RotateFunction rotate the secret, from its next window on.

        :raises Refused: a rotation of it has begun meanwhile.
        """
        try:
            self._client.rotate_secret(
                SecretId=arn, RotationLambdaARN=self.function, RotationRules=dict(rules), RotateImmediately=False
            )
        except ClientError as error:
            raise _unfinished(error) from None

    def rotate(self, arn: str) -> str:
        """Begin a rotation now, and return the version that is to become the current one.

        :raises Refused: one has begun already; Secrets Manager tries that one again.
        """
        try:
            return str(self._client.rotate_secret(SecretId=arn)["VersionId"])
        except ClientError as error:
            raise _unfinished(error) from None

    def cancel(self, arn: str) -> None:
        """Turn rotation off; the password stays as it is."""
        self._client.cancel_rotate_secret(SecretId=arn)

    def find(self, name: str) -> tuple[str, frozenset[str]] | None:
        """Return the ARN of the secret of a name, and the ids of its labelled versions; None if there is none.

        :raises Refused: it is scheduled for deletion.
        """
        try:
            found = self._client.describe_secret(SecretId=name)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                return None
            raise
        if found.get("DeletedDate"):
            raise _deleted(name)
        return str(found["ARN"]), frozenset(found.get("VersionIdsToStages") or {})

    def create(self, name: str, text: str, description: str, version: str) -> str:
        """Create a secret of which it is not yet said that its password is set; return its ARN.

        :param version: the id of its first version, by which it is recognized.
        :raises Refused: there is one of that name, or it is scheduled for deletion: nothing was created.
        """
        tags = [{"Key": key, "Value": "true"} for key in (MANAGED, INITIAL)]
        try:
            made = self._client.create_secret(
                Name=name, SecretString=text, Description=description, Tags=tags, ClientRequestToken=version
            )
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ResourceExistsException":
                raise taken(name) from None
            if code == "InvalidRequestException":
                raise _deleted(name) from None
            raise
        return str(made["ARN"])

    def put(self, arn: str, text: str, version: str) -> None:
        """Give a secret whose password is not set yet a value, under an id that was chosen before.

        :raises Refused: the version has a value that rdsiam did not put there, or that is not the current one.
        """
        try:
            self._client.put_secret_value(SecretId=arn, SecretString=text, ClientRequestToken=version)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceExistsException":
                raise
            raise Refused(
                f"the current value of {arn} is not the one that rdsiam put there, so its password is not set in the "
                "database: delete the secret, and set it up again"
            ) from None

    def settle(self, arn: str) -> None:
        """Say that the database has the secret's password: its value can't be written from now on."""
        self._client.untag_resource(SecretId=arn, TagKeys=[INITIAL])

    def made(self, arn: str, version: str) -> datetime | None:
        """Return when a version was made."""
        answer: Mapping[str, Any] = self._client.list_secret_version_ids(SecretId=arn, MaxResults=100)
        found = (one["CreatedDate"] for one in answer["Versions"] if one["VersionId"] == version)
        return next(found, None)

    def take_pending(self, arn: str, version: str) -> None:
        """Take AWSPENDING off a version."""
        self._client.update_secret_version_stage(SecretId=arn, VersionStage=PENDING, RemoveFromVersionId=version)

    def give_pending(self, arn: str, version: str) -> None:
        """Put AWSPENDING back on a version."""
        self._client.update_secret_version_stage(SecretId=arn, VersionStage=PENDING, MoveToVersionId=version)


def taken(name: str) -> Refused:
    """Return why the secret of that name is not used for a new password."""
    return Refused(
        f"there is a secret {name} that rdsiam did not create, and it is not taken over: delete it; or, if it holds "
        "the password that is in use, name it by `secret: ARN` in access.yaml"
    )


def _deleted(name: str) -> Refused:
    return Refused(f"the secret {name} is scheduled for deletion: aws secretsmanager restore-secret --secret-id {name}")


def _unfinished(error: ClientError) -> Exception:
    """Return what a failed RotateSecret means; for other failures the error itself."""
    text = error.response["Error"].get("Message", "")
    if error.response["Error"]["Code"] == "InvalidRequestException" and "previous rotation" in text:
        return Refused(f"{text} If it never ends: rdsiam rotate DATABASE USER --unstick")
    return error


def _now() -> datetime:
    return datetime.now(UTC)
