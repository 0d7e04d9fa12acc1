"""Rotation: Secrets Manager's four steps, each of which may be killed, repeated, or run twice at the same time.

A single user changes its own password. Of alternating users, an administrator sets the password of the user that is not
in use. The inventory records scheme, database and administrator of the secret, and the secret's value is compared with
the record. A password is in Secrets Manager before the database gets it, and AWSCURRENT moves only to a version that
has just logged in.
"""

import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Protocol

from botocore.exceptions import BotoCoreError, ClientError

from rdsiam.aws.rds import Family
from rdsiam.aws.secrets.client import CURRENT, PENDING, Description
from rdsiam.aws.secrets.errors import SecretsManagerFailed
from rdsiam.aws.secrets.value import MasterSecret, PasswordRules, Secret
from rdsiam.aws.secrets.versions import SecretStore
from rdsiam.core import log_keys
from rdsiam.engines.registry import ROTATORS
from rdsiam.engines.rotation import PasswordRejected, Rotator
from rdsiam.errors import RdsiamError, Refused, RotationFailed
from rdsiam.events.rotate import RotationRequest, Step
from rdsiam.rotation import commands
from rdsiam.rotation.login import log_in
from rdsiam.rotation.passwords import LONGEST, new_password
from rdsiam.rotation.pending_password import PendingPassword, StepOutcome
from rdsiam.rotation.targets import Target
from rdsiam.state.record import SecretRecord

#: Seconds for which the next step in the same process relies on the step before: testSecret right after setSecret
#: doesn't look the database up again, finishSecret right after testSecret doesn't log in again.
PROOF_SECONDS = 120
_REMOVE_PENDING = (
    "if another principal wrote AWSPENDING, remove its label (aws secretsmanager update-secret-version-stage "
    "--version-stage AWSPENDING) and rotate again"
)


class Databases(Protocol):
    """Finds the databases of recorded secrets; `targets.Targets`."""

    def recorded(self, arn: str, secret: Secret) -> tuple[str, SecretRecord]:
        """Return the user and the record of a secret."""

    def find(self, arn: str, secret: Secret) -> Target:
        """Return the database, user and record of a secret."""

    def classic_proxies(self, secret: str, /) -> list[str]:
        """Return the names of the proxies that log in with this secret."""


class Rotation:
    """Runs steps of rotations.

    :param rules: rules for passwords whose secret has none of its own.
    :param engines: SQL of rotation, by family.
    :param clock: seconds, for `PROOF_SECONDS`.
    """

    def __init__(
        self,
        store: SecretStore,
        databases: Databases,
        rules: PasswordRules = PasswordRules(),  # noqa: B008  frozen
        engines: Mapping[Family, Rotator] = ROTATORS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._databases = databases
        self._rules = rules
        self._engines = engines
        self._clock = clock
        self._proved: dict[tuple[str, str], float] = {}
        self._targets: dict[tuple[str, str], tuple[Target, float]] = {}

    def run(self, request: RotationRequest) -> StepOutcome:
        """Run one step.

        :raises RotationFailed: naming the step and the cause; the step may be repeated.
        """
        steps: Mapping[Step, Callable[[RotationRequest], StepOutcome]] = {
            "createSecret": self._create,
            "setSecret": self._set,
            "testSecret": self._test,
            "finishSecret": self._finish,
        }
        try:
            return steps[request.step](request)
        except RdsiamError as error:
            # Its message, as AWS's, names fields, codes and stages, and repeats no value.
            raise RotationFailed(request.step, request.secret, error.problem, error.remedy) from None
        except (ClientError, BotoCoreError) as error:
            raise RotationFailed(request.step, request.secret, str(error)) from None
        except Exception as error:
            # A fault of rdsiam: its message could hold anything, so only its place is reported.
            at = traceback.extract_tb(error.__traceback__)[-1]
            cause = f"unexpected {type(error).__name__} at {Path(at.filename).name}:{at.lineno}"
            raise RotationFailed(request.step, request.secret, cause) from None

    # --- the four steps ---

    def _create(self, request: RotationRequest) -> StepOutcome:
        description = self._describe(request)
        if not description.rotates:
            raise Refused(
                "rotation is not enabled for this secret",
                "switch it on, or remove AWSPENDING from the version",
                "secret-not-permitted",
            )
        if self._is_current(request, description):
            return "current already"
        current = self._store.current(request.secret)
        user, record = self._databases.recorded(request.secret, current)
        log_keys.add(user=user)
        if record.state == "ending":
            if self._store.labelled(request.secret, PENDING, request.token) is None:
                self._store.discard_pending(request.secret, request.token)
                raise _no_longer_declared(user)
            return "kept"  # the database may have this password already
        if record.state != "ready":
            raise Refused(
                f"the password of {user} is not set in the database yet",
                commands.set_up(current.database_name, user),
                "rotation-unfinished",
            )
        engine = self._engines[current.family]
        next_user = engine.clone_name(current.user) if record.scheme == "alternating" else current.user
        new = current.with_login(next_user, new_password(self._rules_of(current), current.family))
        stored = self._store.put_pending(request.secret, request.token, new, request.rotation_token)
        return "created" if stored else "kept"

    def _set(self, request: RotationRequest) -> StepOutcome:
        pending = self._labelled(request)
        if pending is None:
            return "current already"
        try:
            target = self._databases.find(request.secret, pending)
            log_keys.add(user=target.user)
        except Refused as error:
            remedy = "; ".join(filter(None, [error.remedy, _REMOVE_PENDING]))
            raise Refused(f"AWSPENDING: {error.problem}", remedy, error.code) from None
        password = PendingPassword(request, pending, target.database, self._engines[pending.family], self._store)
        if target.record.state == "ending":
            return password.accept_only(_no_longer_declared(target.user))
        current, master = self._current_and_master(request, target.record)
        if current.version == request.token:
            return "current already"
        expected = current.user if master is None else password.engine.clone_name(current.user)
        if pending.place != current.place or pending.user not in {expected, current.user}:
            raise Refused(
                "AWSPENDING is for another user or database than AWSCURRENT", _REMOVE_PENDING, "secret-mismatch"
            )
        try:
            if master is None:
                outcome = password.of_user_itself(current)
            elif pending.user != expected:
                outcome = password.out_of_turn()
            else:
                outcome = password.of_other_user(master, self._databases.classic_proxies(request.secret))
        except PasswordRejected as error:
            # A version's value can't be changed: only another version can have another password.
            self._store.discard_pending(request.secret, request.token)
            raise Refused(
                f"{error}; AWSPENDING was given up, and the next rotation makes another password",
                "if that is rejected too, write into the secret what the policy asks: passwordLength, "
                "passwordExcludeCharacters",
                "password-rejected",
            ) from None
        self._targets[request.secret, request.token] = target, self._clock() + PROOF_SECONDS
        return outcome

    def _test(self, request: RotationRequest) -> StepOutcome:
        pending = self._labelled(request)
        if pending is None:
            return "current already"
        self._prove(request, pending)
        return "tested"

    def _finish(self, request: RotationRequest) -> StepOutcome:
        description = self._describe(request)
        if self._is_current(request, description):
            return "current already"
        if self._clock() > self._proved.pop((request.secret, request.token), float("-inf")):
            pending = self._store.labelled(request.secret, PENDING, request.token)
            if pending is None:
                raise _no_value(request)
            self._prove(request, pending)
        try:
            self._store.promote(request.secret, request.token, description.version(CURRENT))
        except SecretsManagerFailed:
            # Another invocation was faster, or the answer to an earlier attempt was lost.
            if self._is_current(request, self._describe(request)):
                return "current already"
            raise
        return "finished"

    # --- checks ---

    def _describe(self, request: RotationRequest) -> Description:
        description = self._store.describe(request.secret)
        if description.owner is not None:
            raise Refused(
                f"{description.owner} manages this secret and rotates it itself",
                "detach it from this function",
                "secret-not-permitted",
            )
        return description

    def _is_current(self, request: RotationRequest, description: Description) -> bool:
        """Tell whether the version is current already.

        :raises Refused: it is not pending either.
        """
        if request.token not in description.stages:
            raise Refused(
                f"version {request.token} is not a version of this secret, or no longer has a label",
                "rotate again",
                "secret-missing",
            )
        if CURRENT in description.stages[request.token]:
            return True
        if PENDING not in description.stages[request.token]:
            raise Refused(f"version {request.token} is not AWSPENDING", "rotate again", "secret-missing")
        return False

    def _labelled(self, request: RotationRequest) -> Secret | None:
        """Return the value of AWSPENDING; None if its version is the current one already.

        :raises Refused: it has no value yet, or is not pending.
        """
        pending = self._store.labelled(request.secret, PENDING, request.token)
        # The request has checked both id and label; only if they differ a second request finds out why.
        if pending is None and not self._is_current(request, self._describe(request)):
            raise _no_value(request)
        return pending

    def _current_and_master(self, request: RotationRequest, record: SecretRecord) -> tuple[Secret, MasterSecret | None]:
        """Return AWSCURRENT, and the login of the recorded administrator; None for a single user."""
        if record.administrator is None:
            return self._store.current(request.secret), None
        return self._store.current_and_master(request.secret, record.administrator)

    def _rules_of(self, secret: Secret) -> PasswordRules:
        length = self._rules.length if secret.length is None else secret.length
        if secret.length is None:
            length = min(length, LONGEST[secret.family])
        return PasswordRules(length, self._rules.excluded + (secret.excluded or ""))

    # --- logins ---

    def _prove(self, request: RotationRequest, pending: Secret) -> None:
        """Log in with the pending password, and run a query.

        :raises Refused: it doesn't.
        """
        engine, database = self._engines[pending.family], self._target(request, pending).database
        session = log_in(engine, database, pending)
        if session is None:
            raise Refused(
                f"{pending.user} does not log in to {database.identifier} with AWSPENDING",
                "run setSecret first",
                "login-failed",
            )
        with closing(session):
            engine.prove(session)
        self._proved[request.secret, request.token] = self._clock() + PROOF_SECONDS

    def _target(self, request: RotationRequest, pending: Secret) -> Target:
        """Return the target of setSecret of the same version once, as its value can't change; else look it up."""
        target, until = self._targets.pop((request.secret, request.token), (None, 0.0))
        if target is not None and self._clock() <= until:
            return target
        return self._databases.find(request.secret, pending)


def _no_longer_declared(user: str) -> Refused:
    return Refused(
        f"access.yaml no longer declares this rotation of {user} as it is recorded, so no password is set, and "
        "AWSPENDING was given up",
        f"declare the rotation of {user} if it is meant",
        "rotation-not-declared",
    )


def _no_value(request: RotationRequest) -> Refused:
    return Refused(f"version {request.token} has no value yet", "run createSecret first", "secret-missing")
