"""Secrets Manager: each method is one request, and AWS's errors become `errors.SecretsManagerFailed` here alone."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.aws.secrets.errors import (
    RotationUnfinished,
    SecretDenied,
    SecretExists,
    SecretInWrongState,
    SecretNotFound,
    SecretsManagerFailed,
)

CURRENT, PENDING, PREVIOUS = "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"
_ERRORS: Mapping[str, type[SecretsManagerFailed]] = {
    "ResourceNotFoundException": SecretNotFound,
    "ResourceExistsException": SecretExists,
    "InvalidRequestException": SecretInWrongState,
    "AccessDeniedException": SecretDenied,
    "DecryptionFailure": SecretDenied,
}
#: One page of versions; a secret has more only if it is written many times a day.
_PAGE = 100


@dataclass(frozen=True)
class Description:
    """A secret without its values.

    :ivar rotates: its rotation is switched on.
    :ivar owner: the AWS service that manages it; None if its owner does.
    :ivar stages: version → its staging labels.
    :ivar function: ARN of the function that rotates it.
    :ivar rules: as they were set: `ScheduleExpression`, `Duration`, or `AutomaticallyAfterDays`.
    :ivar deleted: it is scheduled for deletion.
    """

    arn: str
    rotates: bool
    owner: str | None = None
    stages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    name: str = ""
    function: str | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    changed: datetime | None = None
    last_rotated: datetime | None = None
    next_rotation: datetime | None = None
    deleted: bool = False

    def version(self, stage: str, other_than: str | None = None) -> str | None:
        """Return the version that carries the label; None if there is none but `other_than`."""
        labelled = (version for version, stages in self.stages.items() if stage in stages and version != other_than)
        return next(labelled, None)


@dataclass(frozen=True)
class Value:
    """The value of one version."""

    arn: str
    version: str | None
    text: str = field(repr=False)


@dataclass(frozen=True)
class Version:
    """A version of a secret without its value.

    :ivar stages: its labels; empty for a deprecated version.
    """

    id: str
    created: datetime
    stages: tuple[str, ...]


class SecretsManager:
    """The secrets of this account and region.

    Every method raises SecretsManagerFailed, or one of its subclasses, if AWS answers with an error.

    :param client: boto3's client for `secretsmanager`.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    # --- reading ---

    def list(self, tag: str | None = None) -> Iterator[Description]:
        """Yield all secrets, page by page.

        :param tag: only secrets with a tag of this name; None for all.
        """
        filters = {"Filters": [{"Key": "tag-key", "Values": [tag]}]} if tag else {}
        pages = iter(self._client.get_paginator("list_secrets").paginate(**filters))
        while True:
            with translate_errors("secrets"):
                page = next(pages, None)
            if page is None:
                return
            yield from map(_description, page["SecretList"])

    def describe(self, secret: str) -> Description:
        """Return what is known of a secret without its values.

        :param secret: its ARN or name.
        """
        with translate_errors(secret):
            return _description(self._client.describe_secret(SecretId=secret))

    def value(self, secret: str, stage: str | None = None, version: str | None = None) -> Value:
        """Return the value of the version with that label and that id; of the current one if neither is given."""
        options = ({"VersionStage": stage} if stage else {}) | ({"VersionId": version} if version else {})
        with translate_errors(secret):
            return _value(self._client.get_secret_value(SecretId=secret, **options))

    def values(self, secrets: Sequence[str]) -> dict[str, Value]:
        """Return the current values of several secrets in one request, by ARN; those that have none are left out."""
        with translate_errors(", ".join(secrets)):
            answer = self._client.batch_get_secret_value(SecretIdList=list(secrets))
        for problem in answer.get("Errors") or []:
            error = _error("BatchGetSecretValue", problem["SecretId"], problem["ErrorCode"], problem.get("Message", ""))
            if not isinstance(error, SecretNotFound | SecretInWrongState):
                raise error
        return {value["ARN"]: _value(value) for value in answer.get("SecretValues") or []}

    def versions(self, secret: str, deprecated: bool = False) -> Sequence[Version]:
        """Return the versions of a secret, in the order in which they are listed.

        :param deprecated: include versions without labels.
        """
        options = {"IncludeDeprecated": True} if deprecated else {}
        with translate_errors(secret):
            answer = self._client.list_secret_version_ids(SecretId=secret, MaxResults=_PAGE, **options)
        return [
            Version(listed["VersionId"], listed["CreatedDate"], tuple(listed.get("VersionStages") or ()))
            for listed in answer["Versions"]
        ]

    # --- values and labels ---

    def create(self, name: str, text: str, description: str, version: str, tags: Sequence[str]) -> str:
        """Create a secret, and return its ARN.

        :param version: id of its first version.
        :param tags: names of tags that are set to `true`.
        """
        listed = [{"Key": tag, "Value": "true"} for tag in tags]
        with translate_errors(name):
            answer = self._client.create_secret(
                Name=name, SecretString=text, Description=description, Tags=listed, ClientRequestToken=version
            )
        return str(answer["ARN"])

    def put(
        self, secret: str, text: str, version: str, stage: str | None = None, rotation_token: str | None = None
    ) -> None:
        """Store a value as a version, with the label; as the current version if no label is given.

        :param rotation_token: Secrets Manager's proof that the caller rotates the secret.
        """
        options: dict[str, Any] = {"VersionStages": [stage]} if stage else {}
        options |= {"RotationToken": rotation_token} if rotation_token else {}
        with translate_errors(secret):
            self._client.put_secret_value(SecretId=secret, SecretString=text, ClientRequestToken=version, **options)

    def move_label(self, secret: str, stage: str, to: str | None = None, away_from: str | None = None) -> None:
        """Move a label from one version to another; without `to` take it off, without `away_from` put it on."""
        options = ({"MoveToVersionId": to} if to else {}) | ({"RemoveFromVersionId": away_from} if away_from else {})
        with translate_errors(secret):
            self._client.update_secret_version_stage(SecretId=secret, VersionStage=stage, **options)

    def untag(self, secret: str, tag: str) -> None:
        """Remove a tag."""
        with translate_errors(secret):
            self._client.untag_resource(SecretId=secret, TagKeys=[tag])

    # --- rotation and deletion ---

    def schedule(self, secret: str, function: str, rules: Mapping[str, str]) -> None:
        """Let the function rotate the secret by these rules, from its next window on."""
        with translate_errors(secret):
            self._client.rotate_secret(
                SecretId=secret, RotationLambdaARN=function, RotationRules=dict(rules), RotateImmediately=False
            )

    def resume(self, secret: str) -> None:
        """Switch the rotation on again, by the function and the rules that the secret had."""
        with translate_errors(secret):
            self._client.rotate_secret(SecretId=secret, RotateImmediately=False)

    def rotate(self, secret: str) -> str:
        """Begin a rotation now, and return the version that it makes the current one."""
        with translate_errors(secret):
            return str(self._client.rotate_secret(SecretId=secret)["VersionId"])

    def cancel_rotation(self, secret: str) -> None:
        """Switch the rotation off; the value stays as it is."""
        with translate_errors(secret):
            self._client.cancel_rotate_secret(SecretId=secret)

    def delete(self, secret: str, days: int) -> None:
        """Schedule the secret for deletion; it can be restored for that number of days."""
        with translate_errors(secret):
            self._client.delete_secret(SecretId=secret, RecoveryWindowInDays=days)

    def restore(self, secret: str) -> None:
        """Cancel the deletion of a secret."""
        with translate_errors(secret):
            self._client.restore_secret(SecretId=secret)


@contextmanager
def translate_errors(secret: str) -> Iterator[None]:
    """Raise AWS's errors as `SecretsManagerFailed`; errors of the network stay as they are."""
    try:
        yield
    except ClientError as error:
        answered = error.response["Error"]
        raise _error(error.operation_name, secret, answered["Code"], answered.get("Message", "")) from None


def _error(operation: str, secret: str, aws_code: str, message: str) -> SecretsManagerFailed:
    kind = _ERRORS.get(aws_code, SecretsManagerFailed)
    if kind is SecretInWrongState and "previous rotation" in message:
        kind = RotationUnfinished
    return kind(operation, secret, aws_code, message)


def _value(answer: Mapping[str, Any]) -> Value:
    return Value(str(answer.get("ARN", "")), answer.get("VersionId"), str(answer.get("SecretString", "")))


def _description(answer: Mapping[str, Any]) -> Description:
    # ListSecrets and DescribeSecret use different names for the versions.
    versions: Mapping[str, Any] = answer.get("SecretVersionsToStages") or answer.get("VersionIdsToStages") or {}
    return Description(
        arn=answer["ARN"],
        name=answer["Name"],
        rotates=bool(answer.get("RotationEnabled")),
        owner=answer.get("OwningService"),
        stages={version: tuple(stages) for version, stages in versions.items()},
        function=answer.get("RotationLambdaARN"),
        rules=dict(answer.get("RotationRules") or {}),
        tags={tag["Key"]: tag.get("Value", "") for tag in answer.get("Tags") or []},
        changed=answer.get("LastChangedDate"),
        last_rotated=answer.get("LastRotatedDate"),
        next_rotation=answer.get("NextRotationDate"),
        deleted=bool(answer.get("DeletedDate")),
    )
