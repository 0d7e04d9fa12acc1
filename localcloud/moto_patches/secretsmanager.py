"""Where moto's Secrets Manager does otherwise than AWS: rotation, versions that can't be changed, labels that move.

Rotation here is AWS's: RotateSecret answers at once; then the function is invoked with the four steps in order, with
the secret's ARN and a token that proves who calls back; a failed rotation begins anew with the same version, and is
given up after some attempts with AWSPENDING left where it is. Retries come within seconds instead of hours.
"""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from moto.secretsmanager import models, responses
from moto.secretsmanager.exceptions import (
    InvalidParameterException,
    InvalidRequestException,
    OperationNotPermittedOnReplica,
    ResourceExistsException,
    ResourceNotFoundException,
    SecretNotFoundException,
    SecretsManagerClientError,
)

from localcloud.moto_patches import rotation_rules

logger = logging.getLogger(__name__)

STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")
#: How often a rotation is begun, and the seconds between; AWS's are hours.
ATTEMPTS = 3
PAUSE = 1.0
CURRENT, PENDING, PREVIOUS = "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"

#: Invokes the function of that ARN for the secret of that ARN, waits, and returns whether it succeeded.
#: Raises PermissionError where the function's resource policy doesn't let Secrets Manager in, LookupError where there
#: is no such function.
InvokeRotation = Callable[[str, str, Mapping[str, str]], bool]


def close_secrets_gaps(invoke: InvokeRotation, may_invoke: Callable[[str, str], None]) -> None:
    """Patch moto. Call once in a process, before its first request.

    :param may_invoke: raises what `invoke` would, without invoking.
    """
    rotations = _Rotations(invoke, may_invoke)
    backend = models.SecretsManagerBackend
    put = backend.put_secret_value

    def put_secret_value(self: Any, **kwargs: Any) -> str:
        secret = _secret(self, kwargs["secret_id"])
        proof = kwargs.pop("rotation_token", None)
        if proof is not None and not hmac.compare_digest(proof, rotations.proof(secret)):
            raise InvalidParameterException("The RotationToken is not one of a rotation of this secret.")
        token = kwargs.get("client_request_token")
        version = secret.versions.get(token) if token else None
        # AWS: the value of a version is for ever. moto: that of AWSPENDING can be put again and again.
        if version is not None and _value(version) != (None, None):
            if _value(version) == (kwargs.get("secret_string"), kwargs.get("secret_binary")):
                return str(secret.to_short_dict(include_version_stages=True, version_id=token))
            raise ResourceExistsException(
                f"You can't use ClientRequestToken {token} because that value is already in use for a version of "
                f"secret {secret.arn}."
            )
        return str(put(self, **kwargs))

    def respond_put(self: Any) -> str:
        # AWS: knows RotationToken. moto: does not pass it on.
        stages = self._get_param("VersionStages", if_none=[CURRENT])
        text, binary = self._get_param("SecretString"), self._get_param("SecretBinary")
        if not text and not binary:
            raise InvalidRequestException("You must provide either SecretString or SecretBinary.")
        return str(
            self.backend.put_secret_value(
                secret_id=self._get_param("SecretId", if_none=""),
                secret_string=text,
                secret_binary=binary,
                client_request_token=self._get_param("ClientRequestToken"),
                version_stages=stages if isinstance(stages, list) else [stages],
                rotation_token=self._get_param("RotationToken"),
            )
        )

    create = backend.create_secret

    def create_secret(self: Any, name: str, *arguments: Any, **more: Any) -> str:
        # AWS: says so. moto: that it exists.
        if name in self.secrets and self.secrets[name].is_deleted():
            raise InvalidRequestException(
                "You can't create this secret because a secret with this name is already scheduled for deletion."
            )
        return str(create(self, name, *arguments, **more))

    update = backend.update_secret_version_stage

    def update_secret_version_stage(
        self: Any, secret_id: str, version_stage: str, remove_from_version_id: str, move_to_version_id: str
    ) -> tuple[str, str]:
        secret = _secret(self, secret_id)
        target = secret.versions.get(move_to_version_id) if move_to_version_id else None
        holder = next((v for v, each in secret.versions.items() if version_stage in each["version_stages"]), None)
        # AWS: a label is on one version, and moving it says from where. moto: puts it on a second one.
        if target is not None and holder not in (None, remove_from_version_id, move_to_version_id):
            raise InvalidParameterException(
                f"The parameter RemoveFromVersionId can't be empty. Staging label {version_stage} is currently "
                f"attached to version {holder}, so you must explicitly reference that version in RemoveFromVersionId."
            )
        answer: tuple[str, str] = update(self, secret_id, version_stage, remove_from_version_id, move_to_version_id)
        if version_stage == CURRENT and target is not None:
            # AWS: GetSecretValue without a label returns this one now. moto: the one before.
            secret.default_version_id = move_to_version_id
            # AWS: a version that becomes current is no longer pending. moto: leaves the label.
            target["version_stages"] = [stage for stage in target["version_stages"] if stage != PENDING]
        return answer

    get = backend.get_secret_value

    def get_secret_value(self: Any, secret_id: str, version_id: str, version_stage: str) -> Any:
        if secret_id in self.secrets and version_id:
            version = self.secrets[secret_id].versions.get(version_id)
            if version is not None and _value(version) == (None, None):
                raise ResourceNotFoundException(
                    f"Secrets Manager can't find the specified secret value for VersionId: {version_id}"
                )
        return get(self, secret_id, version_id, version_stage)

    batch = backend.batch_get_secret_value

    def batch_get_secret_value(self: Any, secret_id_list: list[str] | None = None, **kwargs: Any) -> Any:
        # AWS: a secret without a value is one of the errors. moto: fails as a whole.
        empty = [s for s in secret_id_list or [] if s in self.secrets and not _has_value(self.secrets[s])]
        rest = [s for s in secret_id_list or [] if s not in empty]
        values, errors, token = batch(self, secret_id_list=rest, **kwargs) if rest or not empty else ([], [], None)
        message = "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT"
        none = [{"SecretId": s, "ErrorCode": "ResourceNotFoundException", "Message": message} for s in empty]
        return values, errors + none, token

    def rotate_secret(
        self: Any,
        secret_id: str,
        client_request_token: str | None = None,
        rotation_lambda_arn: str | None = None,
        rotation_rules: dict[str, Any] | None = None,
        rotate_immediately: bool = True,
    ) -> str:
        secret = _secret(self, secret_id)
        return rotations.rotate(
            secret, client_request_token, rotation_lambda_arn, rotation_rules or {}, immediately=rotate_immediately
        )

    def to_dict(self: Any) -> dict[str, Any]:
        answer: dict[str, Any] = describe(self)
        # AWS: versions with labels only, and the rules as they were given. moto: all versions, and days only.
        stages = {version: list(each["version_stages"]) for version, each in self.versions.items()}
        labelled = {version: labels for version, labels in stages.items() if labels}
        if "VersionIdsToStages" in answer:
            answer |= {"VersionIdsToStages": labelled, "SecretVersionsToStages": labelled}
        if self.rotation_requested:
            answer["RotationRules"] = getattr(self, "local_rules", answer["RotationRules"])
        # AWS: no dates where rotation is off. moto: the last ones.
        if not self.rotation_enabled:
            answer |= {"NextRotationDate": None, "LastRotatedDate": None}
        return answer

    def list_secret_version_ids(self: Any) -> str:
        # AWS: versions with labels, all of them when asked. moto: all, each made now.
        secret = _secret(self.backend, self._get_param("SecretId", if_none=""))
        everything = bool(self._get_param("IncludeDeprecated", if_none=False))
        versions = [
            {"VersionId": version, "VersionStages": each["version_stages"], "CreatedDate": each["createdate"]}
            for version, each in secret.versions.items()
            if everything or each["version_stages"]
        ]
        return json.dumps({"ARN": secret.arn, "Name": secret.name, "Versions": versions})

    describe = models.FakeSecret.to_dict
    models.FakeSecret.to_dict = to_dict
    backend.create_secret = create_secret
    backend.put_secret_value = put_secret_value
    backend.update_secret_version_stage = update_secret_version_stage
    backend.get_secret_value = get_secret_value
    backend.batch_get_secret_value = batch_get_secret_value
    backend.rotate_secret = rotate_secret
    responses.SecretsManagerResponse.put_secret_value = respond_put
    responses.SecretsManagerResponse.list_secret_version_ids = list_secret_version_ids


class AccessDeniedException(SecretsManagerClientError):  # type: ignore[misc]
    """Secrets Manager may not invoke the function."""

    def __init__(self) -> None:
        super().__init__(
            "AccessDeniedException",
            "Secrets Manager cannot invoke the specified Lambda function. Ensure that the function policy grants "
            "access to the principal secretsmanager.amazonaws.com.",
        )


class _Rotations:
    """Rotations of all secrets; each runs on a thread of its own."""

    def __init__(self, invoke: InvokeRotation, may_invoke: Callable[[str, str], None]) -> None:
        self._invoke = invoke
        self._may_invoke = may_invoke
        self._running: dict[str, threading.Thread] = {}
        self._key = secrets.token_bytes(32)

    def proof(self, secret: Any) -> str:
        """Return the token by which the function proves that it was asked to rotate this secret."""
        return hmac.new(self._key, str(secret.arn).encode(), "sha256").hexdigest()

    def rotate(
        self, secret: Any, token: str | None, function: str | None, rules: Mapping[str, Any], *, immediately: bool
    ) -> str:
        """Set what is given, and begin a rotation or a test of the function."""
        if secret.owning_service:
            raise InvalidRequestException(
                f"You can't rotate a secret that is managed by {secret.owning_service} with a Lambda function."
            )
        arn = function or secret.rotation_lambda_arn
        if not arn:
            raise InvalidRequestException(
                "No Lambda rotation function ARN is associated with this secret. You must specify one."
            )
        try:
            self._may_invoke(arn, secret.arn)
        except PermissionError:
            raise AccessDeniedException from None
        except LookupError:
            raise ResourceNotFoundException(f"The Lambda function {arn} does not exist.") from None
        if rules:
            _check_rules(rules)
            secret.local_rules = dict(rules)
        pending = next((v for v, each in secret.versions.items() if PENDING in each["version_stages"]), None)
        if token is not None and not 32 <= len(token) <= 64:
            raise InvalidParameterException("ClientRequestToken must be 32-64 characters long.")
        secret.rotation_requested = secret.rotation_enabled = True
        secret.rotation_lambda_arn = arn
        secret.next_rotation_date = _next(getattr(secret, "local_rules", {}))
        unfinished = pending is not None and CURRENT not in secret.versions[pending]["version_stages"]
        if unfinished and pending != token:
            if secret.arn not in self._running:
                self._start(secret, self._rotate, secret, str(pending))
            raise InvalidRequestException("A previous rotation isn't complete. That rotation will be reattempted.")
        version = token or str(uuid.uuid4())
        if not immediately:
            self._start(secret, self._try_out, secret, version)
            return str(secret.to_short_dict(include_version_id=False))
        if version not in secret.versions:
            # AWS: the version is there, with its label and without a value, before the function is invoked.
            secret.versions[version] = {
                "createdate": int(time.time()), "version_id": version, "version_stages": [PENDING]
            }  # fmt: skip
        self._start(secret, self._rotate, secret, version)
        return json.dumps({"ARN": secret.arn, "Name": secret.name, "VersionId": version})

    def _start(self, secret: Any, work: Callable[..., None], *arguments: Any) -> None:
        former = self._running.get(secret.arn)

        def after_the_former() -> None:
            if former is not None:
                former.join()
            try:
                work(*arguments)
            finally:
                if self._running.get(secret.arn) is threading.current_thread():
                    del self._running[secret.arn]

        thread = threading.Thread(target=after_the_former, daemon=True, name=f"rotation of {secret.name}")
        self._running[secret.arn] = thread
        thread.start()

    def _rotate(self, secret: Any, version: str) -> None:
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE)
            if all(self._step(secret, step, version) for step in STEPS):
                secret.last_rotation_date = int(time.time())
                secret.next_rotation_date = _next(getattr(secret, "local_rules", {}))
                logger.info("secret rotated: %s", secret.name)
                return
            if not secret.rotation_enabled or secret.is_deleted():
                break
        logger.warning("rotation given up: %s", secret.name)

    def _try_out(self, secret: Any, version: str) -> None:
        """Run testSecret on a copy of the current version, which goes afterwards: RotateImmediately is false."""
        try:
            current = secret.versions[secret.default_version_id]
            secret.versions[version] = {**current, "version_id": version, "version_stages": [PENDING]}
            self._step(secret, "testSecret", version)
        finally:
            secret.versions.pop(version, None)

    def _step(self, secret: Any, step: str, version: str) -> bool:
        event = {
            "Step": step,
            "SecretId": secret.arn,
            "ClientRequestToken": version,
            "RotationToken": self.proof(secret),
        }
        try:
            done = self._invoke(secret.rotation_lambda_arn, secret.arn, event)
        except (PermissionError, LookupError) as error:
            logger.error("rotation of %s: %s can't be invoked: %s", secret.name, step, error)
            return False
        if not done:
            logger.warning("rotation of %s: %s failed", secret.name, step)
        return done


def _secret(backend: Any, secret_id: str) -> Any:
    if secret_id not in backend.secrets:
        raise SecretNotFoundException
    secret = backend.secrets[secret_id]
    if isinstance(secret, models.ReplicaSecret):
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


def _check_rules(rules: Mapping[str, Any]) -> None:
    try:
        rotation_rules.check(rules)
    except rotation_rules.WrongRules as error:
        raise InvalidParameterException(str(error)) from None


def _next(rules: Mapping[str, Any]) -> int | None:
    due = rotation_rules.latest(rules, datetime.now(UTC))
    return None if due is None else int(due.timestamp())
