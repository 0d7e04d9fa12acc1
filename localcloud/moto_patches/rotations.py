"""Rotations of secrets as AWS does them.

RotateSecret answers at once; then the function is invoked with the four steps in order, with the secret's ARN and a
token that proves that the function was invoked. A failed rotation begins again with the same version, and stops after
some attempts, with AWSPENDING left in place. Retries come within seconds instead of hours.
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

from moto.secretsmanager.exceptions import (
    InvalidParameterException,
    InvalidRequestException,
    ResourceNotFoundException,
    SecretsManagerClientError,
)

from localcloud.moto_patches import rotation_rules

logger = logging.getLogger(__name__)

STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")
#: Number of attempts of a rotation, and the seconds between them; AWS's are hours.
ATTEMPTS = 3
PAUSE = 1.0
CURRENT, PENDING, PREVIOUS = "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"

#: Invokes the function of that ARN for the secret of that ARN, waits, and returns whether it succeeded.
#: Raises PermissionError if the function's resource policy doesn't let Secrets Manager in, LookupError if there is no
#: such function.
InvokeRotation = Callable[[str, str, Mapping[str, str]], bool]
#: Takes the same two ARNs and raises the same errors, without invoking the function.
MayInvoke = Callable[[str, str], None]


class AccessDeniedException(SecretsManagerClientError):  # type: ignore[misc]
    """Secrets Manager may not invoke the function."""

    def __init__(self) -> None:
        super().__init__(
            "AccessDeniedException",
            "Secrets Manager cannot invoke the specified Lambda function. Ensure that the function policy grants "
            "access to the principal secretsmanager.amazonaws.com.",
        )


class Rotations:
    """Rotations of all secrets; each runs on a thread of its own."""

    def __init__(self, invoke: InvokeRotation, may_invoke: MayInvoke) -> None:
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
        """Set the given function and rules, and begin a rotation or a test of the function."""
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
            # AWS: the version exists, with its label and without a value, before the function is invoked.
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
        """Run testSecret on a copy of the current version, which is removed afterwards: RotateImmediately is false."""
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


def _check_rules(rules: Mapping[str, Any]) -> None:
    try:
        rotation_rules.check(rules)
    except rotation_rules.WrongRules as error:
        raise InvalidParameterException(str(error)) from None


def _next(rules: Mapping[str, Any]) -> int | None:
    due = rotation_rules.latest(rules, datetime.now(UTC))
    return None if due is None else int(due.timestamp())
