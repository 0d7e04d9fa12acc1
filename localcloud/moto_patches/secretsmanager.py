"""Patches of moto's Secrets Manager: rotation, versions that can't be changed, labels that move."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from typing import Any

from moto.secretsmanager.exceptions import (
    InvalidParameterException,
    InvalidRequestException,
    OperationNotPermittedOnReplica,
    ResourceExistsException,
    ResourceNotFoundException,
    SecretNotFoundException,
)
from moto.secretsmanager.models import ReplicaSecret

from localcloud.moto_patches.patch import Patch, replaces
from localcloud.moto_patches.rotations import CURRENT, PENDING, Rotations


class Secrets(Patch):
    """The model of a secret."""

    target = "moto.secretsmanager.models.FakeSecret"

    @replaces
    def to_dict(self, original: Any, secret: Any) -> dict[str, Any]:
        """Return a secret as DescribeSecret does."""
        answer: dict[str, Any] = original(secret)
        # AWS: versions with labels only, and the rules as they were given. moto: all versions, and days only.
        stages = {version: list(each["version_stages"]) for version, each in secret.versions.items()}
        labelled = {version: labels for version, labels in stages.items() if labels}
        if "VersionIdsToStages" in answer:
            answer |= {"VersionIdsToStages": labelled, "SecretVersionsToStages": labelled}
        if secret.rotation_requested:
            answer["RotationRules"] = getattr(secret, "local_rules", answer["RotationRules"])
        # AWS: no dates if rotation is off. moto: the last dates.
        if not secret.rotation_enabled:
            answer |= {"NextRotationDate": None, "LastRotatedDate": None}
        return answer


class SecretCalls(Patch):
    """Calls about secrets."""

    target = "moto.secretsmanager.models.SecretsManagerBackend"

    def __init__(self, rotations: Rotations) -> None:
        self._rotations = rotations

    @replaces
    def create_secret(self, original: Any, backend: Any, name: str, *arguments: Any, **more: Any) -> str:
        """Create a secret."""
        # AWS: the message says that the secret is being deleted. moto: that it exists.
        if name in backend.secrets and backend.secrets[name].is_deleted():
            raise InvalidRequestException(
                "You can't create this secret because a secret with this name is already scheduled for deletion."
            )
        return str(original(backend, name, *arguments, **more))

    @replaces
    def put_secret_value(self, original: Any, backend: Any, **kwargs: Any) -> str:
        """Put a value into a version of a secret."""
        secret = _secret(backend, kwargs["secret_id"])
        proof = kwargs.pop("rotation_token", None)
        if proof is not None and not hmac.compare_digest(proof, self._rotations.proof(secret)):
            raise InvalidParameterException("The RotationToken is not one of a rotation of this secret.")
        token = kwargs.get("client_request_token")
        version = secret.versions.get(token) if token else None
        # AWS: the value of a version never changes. moto: AWSPENDING's can be put again and again.
        if version is not None and _value(version) != (None, None):
            if _value(version) == (kwargs.get("secret_string"), kwargs.get("secret_binary")):
                return str(secret.to_short_dict(include_version_stages=True, version_id=token))
            raise ResourceExistsException(
                f"You can't use ClientRequestToken {token} because that value is already in use for a version of "
                f"secret {secret.arn}."
            )
        return str(original(backend, **kwargs))

    @replaces
    def update_secret_version_stage(
        self,
        original: Any,
        backend: Any,
        secret_id: str,
        version_stage: str,
        remove_from_version_id: str,
        move_to_version_id: str,
    ) -> tuple[str, str]:
        """Move a staging label."""
        secret = _secret(backend, secret_id)
        target = secret.versions.get(move_to_version_id) if move_to_version_id else None
        holder = next((v for v, each in secret.versions.items() if version_stage in each["version_stages"]), None)
        # AWS: a label is on one version, and moving it says from where. moto: puts it on a second one.
        if target is not None and holder not in (None, remove_from_version_id, move_to_version_id):
            raise InvalidParameterException(
                f"The parameter RemoveFromVersionId can't be empty. Staging label {version_stage} is currently "
                f"attached to version {holder}, so you must explicitly reference that version in RemoveFromVersionId."
            )
        answer: tuple[str, str] = original(
            backend, secret_id, version_stage, remove_from_version_id, move_to_version_id
        )
        if version_stage == CURRENT and target is not None:
            # AWS: GetSecretValue without a label returns this version now. moto: the version before.
            secret.default_version_id = move_to_version_id
            # AWS: a version that becomes current is no longer pending. moto: leaves the label.
            target["version_stages"] = [stage for stage in target["version_stages"] if stage != PENDING]
        return answer

    @replaces
    def get_secret_value(self, original: Any, backend: Any, secret_id: str, version_id: str, version_stage: str) -> Any:
        """Return the value of a version."""
        if secret_id in backend.secrets and version_id:
            version = backend.secrets[secret_id].versions.get(version_id)
            if version is not None and _value(version) == (None, None):
                raise ResourceNotFoundException(
                    f"Secrets Manager can't find the specified secret value for VersionId: {version_id}"
                )
        return original(backend, secret_id, version_id, version_stage)

    @replaces
    def batch_get_secret_value(
        self, original: Any, backend: Any, secret_id_list: list[str] | None = None, **kwargs: Any
    ) -> Any:
        """Return the values of several secrets."""
        # AWS: a secret without a value is one of the errors. moto: fails as a whole.
        empty = [s for s in secret_id_list or [] if s in backend.secrets and not _has_value(backend.secrets[s])]
        rest = [s for s in secret_id_list or [] if s not in empty]
        values, errors, token = (
            original(backend, secret_id_list=rest, **kwargs) if rest or not empty else ([], [], None)
        )
        message = "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT"
        none = [{"SecretId": s, "ErrorCode": "ResourceNotFoundException", "Message": message} for s in empty]
        return values, errors + none, token

    @replaces
    def rotate_secret(
        self,
        _: Any,
        backend: Any,
        secret_id: str,
        client_request_token: str | None = None,
        rotation_lambda_arn: str | None = None,
        rotation_rules: dict[str, Any] | None = None,
        rotate_immediately: bool = True,
    ) -> str:
        """Begin a rotation, or set its rules."""
        secret = _secret(backend, secret_id)
        return self._rotations.rotate(
            secret, client_request_token, rotation_lambda_arn, rotation_rules or {}, immediately=rotate_immediately
        )


class SecretResponses(Patch):
    """Answers about secrets."""

    target = "moto.secretsmanager.responses.SecretsManagerResponse"

    @replaces
    def put_secret_value(self, _: Any, response: Any) -> str:
        """Put a value into a version of a secret."""
        # AWS: knows RotationToken. moto: does not pass it on.
        stages = response._get_param("VersionStages", if_none=[CURRENT])
        text, binary = response._get_param("SecretString"), response._get_param("SecretBinary")
        if not text and not binary:
            raise InvalidRequestException("You must provide either SecretString or SecretBinary.")
        return str(
            response.backend.put_secret_value(
                secret_id=response._get_param("SecretId", if_none=""),
                secret_string=text,
                secret_binary=binary,
                client_request_token=response._get_param("ClientRequestToken"),
                version_stages=stages if isinstance(stages, list) else [stages],
                rotation_token=response._get_param("RotationToken"),
            )
        )

    @replaces
    def list_secret_version_ids(self, _: Any, response: Any) -> str:
        """Answer ListSecretVersionIds."""
        # AWS: versions with labels, or all versions on request. moto: all versions, each with the present as its date.
        secret = _secret(response.backend, response._get_param("SecretId", if_none=""))
        everything = bool(response._get_param("IncludeDeprecated", if_none=False))
        versions = [
            {"VersionId": version, "VersionStages": each["version_stages"], "CreatedDate": each["createdate"]}
            for version, each in secret.versions.items()
            if everything or each["version_stages"]
        ]
        return json.dumps({"ARN": secret.arn, "Name": secret.name, "Versions": versions})


def _secret(backend: Any, secret_id: str) -> Any:
    if secret_id not in backend.secrets:
        raise SecretNotFoundException
    secret = backend.secrets[secret_id]
    if isinstance(secret, ReplicaSecret):
        raise OperationNotPermittedOnReplica
    if secret.is_deleted():
        raise InvalidRequestException(
            "You can't perform this operation on the secret because it was marked for deletion."
        )
    return secret


def _value(version: Mapping[str, Any]) -> tuple[Any, Any]:
    return version.get("secret_string"), version.get("secret_binary")


def _has_value(secret: Any) -> bool:
    return _value(secret.versions.get(secret.default_version_id) or {}) != (None, None)
