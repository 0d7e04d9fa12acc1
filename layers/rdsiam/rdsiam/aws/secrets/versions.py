"""Secrets Manager as rotation sees it: what it calls, and what it knows about versions and their labels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.aws.secrets.value import MasterSecret, Secret, read_master, read_secret
from rdsiam.errors import InvalidRequest, Refused

CURRENT, PENDING, PREVIOUS = "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"
#: Of versions that no label names any more; only looked at when no labelled one logs in.
MOST_UNLABELLED = 5
#: What is answered where there is no such value; the second where a version exists, but does not carry the label.
_MISSING = {"ResourceNotFoundException", "InvalidRequestException"}


@dataclass(frozen=True)
class Description:
    """A secret without its values.

    :ivar stages: version → its staging labels.
    :ivar owner: the AWS service that manages it, if one does.
    """

    arn: str
    rotates: bool
    owner: str | None = None
    stages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def version(self, stage: str) -> str | None:
        """Return the version that carries the label."""
        return next((version for version, stages in self.stages.items() if stage in stages), None)


class SecretStore:
    """The secrets of this account, each call one request."""

    def __init__(self, secrets_manager: Any) -> None:
        self._client = secrets_manager

    def describe(self, arn: str) -> Description:
        """Return what is known of a secret without its values."""
        found = self._client.describe_secret(SecretId=arn)
        stages = {version: tuple(labels) for version, labels in (found.get("VersionIdsToStages") or {}).items()}
        return Description(found["ARN"], bool(found.get("RotationEnabled")), found.get("OwningService"), stages)

    def labelled(self, arn: str, stage: str, version: str | None = None) -> Secret | None:
        """Return the value of the version with that label, and that id where one is given; None where there is none.

        :raises InvalidRequest: the value is not what a database user's secret is.
        """
        which = {"VersionStage": stage} | ({"VersionId": version} if version else {})
        value = self._value(arn, which)
        return None if value is None else _read(arn, stage, value)

    def current(self, arn: str) -> Secret:
        """Return the current value.

        :raises Refused: there is none.
        :raises InvalidRequest: the value is not what a database user's secret is.
        """
        return _there(self.labelled(arn, CURRENT))

    def current_and_master(self, arn: str, master_arn: str) -> tuple[Secret, MasterSecret]:
        """Return the current value of a secret and the login of its administrator.

        :raises Refused: one of them does not exist or has no value.
        :raises InvalidRequest: a value is not what such a secret's is.
        """
        answer = self._client.batch_get_secret_value(SecretIdList=[arn, master_arn])
        for error in answer.get("Errors") or []:
            if error["ErrorCode"] not in _MISSING:
                message = f"{error['SecretId']}: {error.get('Message', '')}"
                raise ClientError({"Error": {"Code": error["ErrorCode"], "Message": message}}, "BatchGetSecretValue")
        values = {value["ARN"]: value for value in answer.get("SecretValues") or []}
        current, administrator = values.get(arn), values.get(master_arn)
        if administrator is None:
            raise Refused(f"masterarn names {master_arn}, which does not exist or has no value")
        try:
            master = read_master(str(administrator.get("SecretString", "")))
        except InvalidRequest as error:
            raise InvalidRequest(f"{master_arn}: {error.field}", error.problem) from None
        return _there(None if current is None else _read(arn, CURRENT, current)), master

    def unlabelled(self, arn: str) -> Iterator[Secret]:
        """Return the values of versions without labels, newest first; those that can't be read are left out."""
        answer = self._client.list_secret_version_ids(SecretId=arn, IncludeDeprecated=True, MaxResults=100)
        # One page is all that there are, but for a secret that is put many times a day.
        found = [version for version in answer["Versions"] if not version.get("VersionStages")]
        # Of several made at one time the last one listed counts as the newest.
        found.sort(key=lambda version: version["CreatedDate"])
        for version in found[: -MOST_UNLABELLED - 1 : -1]:
            value = self._value(arn, {"VersionId": version["VersionId"]})
            if value is not None:
                try:
                    yield read_secret(str(value.get("SecretString", "")), version["VersionId"])
                except InvalidRequest:
                    continue  # what it once was has no bearing on what it is

    def put_pending(self, arn: str, token: str, secret: Secret, rotation_token: str | None) -> bool:
        """Store the version of this token, unless it has a value already, and return whether it was stored.

        A version's value can't be changed, so that two invocations at once store one password.
        """
        proof = {"RotationToken": rotation_token} if rotation_token else {}
        try:
            self._client.put_secret_value(
                SecretId=arn, ClientRequestToken=token, SecretString=secret.text(), VersionStages=[PENDING], **proof
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceExistsException":
                return False
            raise
        return True

    def promote(self, arn: str, token: str, current: str | None) -> None:
        """Make the version of this token the current one; Secrets Manager moves the other labels itself."""
        leaving = {"RemoveFromVersionId": current} if current else {}
        self._client.update_secret_version_stage(SecretId=arn, VersionStage=CURRENT, MoveToVersionId=token, **leaving)

    def discard_pending(self, arn: str, token: str) -> None:
        """Take the label off a version that can never become current, so that the next rotation makes another one."""
        self._client.update_secret_version_stage(SecretId=arn, VersionStage=PENDING, RemoveFromVersionId=token)

    def _value(self, arn: str, which: Mapping[str, str]) -> Mapping[str, Any] | None:
        try:
            answer: Mapping[str, Any] = self._client.get_secret_value(SecretId=arn, **which)
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                return None
            raise
        return answer


def _there(current: Secret | None) -> Secret:
    if current is None:
        raise Refused("the secret has no AWSCURRENT version: put a value that logs in first")
    return current


def _read(arn: str, stage: str, value: Mapping[str, Any]) -> Secret:
    try:
        return read_secret(str(value.get("SecretString", "")), value.get("VersionId"))
    except InvalidRequest as error:
        raise InvalidRequest(f"{arn} {stage}: {error.field}", error.problem) from None
