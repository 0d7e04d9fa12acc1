"""Rotation: Secrets Manager's four steps, each of which may be killed, repeated or run twice at once at any point.

One user: the password is changed by the user itself. Two users that take turns: the one that is not in use gets a new
password, from an administrator. Which of both, where, and from whom, is what the inventory records of the secret; what
the secret's value says is compared with that. Whatever happens, a password is in Secrets Manager before the database
gets it, and AWSCURRENT moves only to a version that was just seen to log in.
"""

import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from rdsiam.aws.rds import Database, Family
from rdsiam.aws.secrets.client import CURRENT, PENDING, PREVIOUS, Description
from rdsiam.aws.secrets.errors import SecretsManagerFailed
from rdsiam.aws.secrets.value import MasterSecret, PasswordRules, Secret
from rdsiam.aws.secrets.versions import SecretStore
from rdsiam.engines.logins import Password
from rdsiam.engines.registry import ROTATORS
from rdsiam.engines.rotation import ADMINISTRATORS_DATABASE, PasswordRejected, Rotator, base_name
from rdsiam.errors import ConnectionFailed, RdsiamError, Refused, RotationFailed
from rdsiam.events.rotate import RotationRequest, Step
from rdsiam.rotation.login import log_in, logs_in
from rdsiam.rotation.passwords import LONGEST, new_password
from rdsiam.rotation.targets import Target
from rdsiam.state.inventory import SecretRecord

Outcome = Literal["created", "kept", "set", "logs in already", "tested", "finished", "current already"]
#: How long what one step saw counts for the next one in the same process: testSecret right after setSecret asks no
#: second time where the database is, finishSecret right after testSecret doesn't log in again.
PROOF_SECONDS = 120
_REMOVE_PENDING = (
    "If somebody else wrote AWSPENDING, remove its label (aws secretsmanager update-secret-version-stage "
    "--version-stage AWSPENDING) and rotate again"
)


class Databases(Protocol):
    """Finds the databases of recorded secrets; `targets.Targets`."""

    def recorded(self, arn: str, secret: Secret) -> tuple[str, SecretRecord]:
        """Return the user and the record of a secret."""

    def find(self, arn: str, secret: Secret) -> Target:
        """Return where a secret logs in."""

    def classic_proxies(self, secret: str, /) -> list[str]:
        """Return the names of the proxies that log in with this secret."""


class Rotation:
    """Runs steps of rotations.

    :param rules: what passwords are made of where their secret doesn't say.
    :param engines: the SQL, by family.
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
        self._found: dict[tuple[str, str], tuple[Target, float]] = {}

    def run(self, request: RotationRequest) -> Outcome:
        """Run one step.

        :raises RotationFailed: naming the step and the cause; the step may be repeated.
        """
        steps: Mapping[Step, Callable[[RotationRequest], Outcome]] = {
            "createSecret": self._create,
            "setSecret": self._set,
            "testSecret": self._test,
            "finishSecret": self._finish,
        }
        try:
            return steps[request.step](request)
        except (RdsiamError, ClientError, BotoCoreError) as error:
            # Their messages name fields, codes and stages; none repeats a value.
            raise RotationFailed(request.step, request.secret, str(error)) from None
        except Exception as error:
            # A fault of ours: where it is tells enough, and what it says could be anything.
            at = traceback.extract_tb(error.__traceback__)[-1]
            cause = f"unexpected {type(error).__name__} at {Path(at.filename).name}:{at.lineno}"
            raise RotationFailed(request.step, request.secret, cause) from None

    # --- the four steps ---

    def _create(self, request: RotationRequest) -> Outcome:
        description = self._describe(request)
        if not description.rotates:
            raise Refused("rotation is not enabled for this secret")
        if self._is_current(request, description):
            return "current already"
        current = self._store.current(request.secret)
        user, record = self._databases.recorded(request.secret, current)
        if record.state == "ending":
            if self._store.labelled(request.secret, PENDING, request.token) is None:
                self._store.discard_pending(request.secret, request.token)
                raise Refused(_withdrawn(user))
            return "kept"  # the database may have it already
        if record.state != "ready":
            raise Refused(f"the password is not set in the database yet: rdsiam rotate set-up DATABASE {user}")
        engine = self._engines[current.family]
        next_user = engine.clone_name(current.user) if record.scheme == "alternating" else current.user
        new = current.with_login(next_user, new_password(self._rules_of(current), current.family))
        stored = self._store.put_pending(request.secret, request.token, new, request.rotation_token)
        return "created" if stored else "kept"

    def _set(self, request: RotationRequest) -> Outcome:
        pending = self._labelled(request)
        if pending is None:
            return "current already"
        try:
            target = self._databases.find(request.secret, pending)
        except Refused as error:
            raise Refused(f"AWSPENDING: {error}. {_REMOVE_PENDING}") from None
        if target.record.state == "ending":
            reason = f"{_withdrawn(target.user)}; AWSPENDING was given up"
            return self._accept_only(request, self._engines[pending.family], target.database, pending, reason)
        current, master = self._current_and_master(request, target.record)
        if current.version == request.token:
            return "current already"
        engine, database = self._engines[current.family], target.database
        expected = current.user if master is None else engine.clone_name(current.user)
        if pending.place != current.place or pending.user not in {expected, current.user}:
            raise Refused(f"AWSPENDING is for another user or database than AWSCURRENT. {_REMOVE_PENDING}")
        try:
            if master is None:
                outcome = self._set_own(request, engine, database, current, pending)
            elif pending.user != expected:
                outcome = self._set_out_of_turn(request, engine, database, pending)
            else:
                outcome = self._set_other(request, engine, database, pending, master)
        except PasswordRejected as error:
            # A version's value can't be changed: only another version can have another password.
            self._store.discard_pending(request.secret, request.token)
            raise Refused(
                f"{error}. AWSPENDING was given up; the next rotation makes another password. If it is rejected too, "
                "say in the secret what the policy asks: passwordLength, passwordExcludeCharacters"
            ) from None
        self._found[request.secret, request.token] = target, self._clock() + PROOF_SECONDS
        return outcome

    def _test(self, request: RotationRequest) -> Outcome:
        pending = self._labelled(request)
        if pending is None:
            return "current already"
        self._prove(request, pending)
        return "tested"

    def _finish(self, request: RotationRequest) -> Outcome:
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
        found = self._store.describe(request.secret)
        if found.owner is not None:
            raise Refused(f"{found.owner} manages this secret and rotates it itself: detach it from this function")
        return found

    def _is_current(self, request: RotationRequest, found: Description) -> bool:
        """Tell whether the version is current already; refuse what is not pending."""
        if request.token not in found.stages:
            raise Refused(f"version {request.token} is not one of this secret, or has no label any more")
        if CURRENT in found.stages[request.token]:
            return True
        if PENDING not in found.stages[request.token]:
            raise Refused(f"version {request.token} is not AWSPENDING")
        return False

    def _labelled(self, request: RotationRequest) -> Secret | None:
        """Return the value of AWSPENDING; None if its version is the current one already.

        :raises Refused: it has no value yet, or is not pending.
        """
        pending = self._store.labelled(request.secret, PENDING, request.token)
        # Asking for both id and label has checked both; what is the matter is asked only now.
        if pending is None and not self._is_current(request, self._describe(request)):
            raise _no_value(request)
        return pending

    def _current_and_master(self, request: RotationRequest, record: SecretRecord) -> tuple[Secret, MasterSecret | None]:
        """Return AWSCURRENT, and the recorded administrator of two users that take turns."""
        if record.administrator is None:
            return self._store.current(request.secret), None
        return self._store.current_and_master(request.secret, record.administrator)

    def _rules_of(self, secret: Secret) -> PasswordRules:
        length = self._rules.length if secret.length is None else secret.length
        if secret.length is None:
            length = min(length, LONGEST[secret.family])
        return PasswordRules(length, self._rules.excluded + (secret.excluded or ""))

    # --- one user ---

    def _set_own(
        self, request: RotationRequest, engine: Rotator, database: Database, current: Secret, pending: Secret
    ) -> Outcome:
        # AWSCURRENT first: it logs in, but for repetitions, and a failed login may count against a user.
        session = log_in(engine, database, current)
        if session is None:
            if logs_in(engine, database, pending):
                return "logs in already"
            session = self._rescue(request, engine, database, current)
        with _closing(session):
            engine.set_own_password(session, pending.password, lambda: logs_in(engine, database, pending))
        return "set"

    def _rescue(self, request: RotationRequest, engine: Rotator, database: Database, current: Secret) -> Any:
        """Log in with what was current before, or with what a rotation left that was given up halfway.

        :raises Refused: nothing logs in.
        """
        previous = self._store.labelled(request.secret, PREVIOUS)
        tried = {current.password}
        for candidate in [previous] if previous else []:
            session = self._candidate(engine, database, current, candidate, tried)
            if session is not None:
                return session
        for candidate in self._store.unlabelled(request.secret):
            session = self._candidate(engine, database, current, candidate, tried)
            if session is not None:
                return session
        raise Refused(
            f"{current.user} logs in to {database.identifier} with none of AWSCURRENT, AWSPENDING, AWSPREVIOUS and "
            "older versions: the password was changed elsewhere, or the user is gone; put the right one in AWSCURRENT"
        )

    def _candidate(
        self, engine: Rotator, database: Database, current: Secret, candidate: Secret, tried: set[str]
    ) -> Any | None:
        if candidate.place != current.place or candidate.user != current.user or candidate.password in tried:
            return None
        tried.add(candidate.password)
        return log_in(engine, database, candidate)

    # --- two users that take turns ---

    def _set_other(
        self, request: RotationRequest, engine: Rotator, database: Database, pending: Secret, master: MasterSecret
    ) -> Outcome:
        base = base_name(pending.user)
        if proxies := self._databases.classic_proxies(request.secret):
            raise Refused(
                f"the proxy {', '.join(proxies)} logs in with this secret, and knows one user only: say scheme: single "
                "in access.yaml, and take masterarn out of the secret"
            )
        if base == database.master_user:
            raise Refused(f"{base} is the administrator of {database.identifier}, of whom no clone is made")
        self._refuse_foreign_master(database, str(pending.master_arn), master)
        if master.user in {base, pending.user}:
            raise Refused("masterarn names the user itself: an administrator's secret belongs there")
        login = Password(master.user, master.password, "scram-sha-256,md5", never_clear=True)
        try:
            session = engine.connect(database, login, ADMINISTRATORS_DATABASE)
        except ConnectionFailed as error:
            raise Refused(f"the administrator of masterarn, {master.user}, can't log in: {error}") from None
        with _closing(session):
            engine.set_other_password(session, base, pending.user, pending.password)
        return "set"

    def _set_out_of_turn(
        self, request: RotationRequest, engine: Rotator, database: Database, pending: Secret
    ) -> Outcome:
        """Settle a version of the very user that is in use: AWSCURRENT was put back after the version was made.

        To set its password would take away AWSCURRENT's. Where the database has it already, AWSCURRENT is what does not
        log in, and the rotation goes on. Where not, nothing is lost with the version.
        """
        reason = (
            f"AWSCURRENT has become {pending.user}, whose turn this was. AWSPENDING was given up; the next rotation "
            "is the other user's"
        )
        return self._accept_only(request, engine, database, pending, reason)

    def _accept_only(
        self, request: RotationRequest, engine: Rotator, database: Database, pending: Secret, reason: str
    ) -> Outcome:
        """Set nothing: go on with a version whose password the database has already, else give it up."""
        if logs_in(engine, database, pending):
            return "logs in already"
        self._store.discard_pending(request.secret, request.token)
        raise Refused(reason)

    @staticmethod
    def _refuse_foreign_master(database: Database, arn: str, master: MasterSecret) -> None:
        """Check that the administrator's secret is of this database: its password is sent there."""
        own = database.master_secret_arn == arn if master.host is None else master.host.lower() == database.host
        if not own:
            raise Refused(f"masterarn is not the secret of an administrator of {database.identifier}: its host differs")

    # --- logins ---

    def _prove(self, request: RotationRequest, pending: Secret) -> None:
        """See that the pending password logs in.

        :raises Refused: it doesn't.
        """
        engine, database = self._engines[pending.family], self._target(request, pending).database
        session = log_in(engine, database, pending)
        if session is None:
            raise Refused(
                f"{pending.user} does not log in to {database.identifier} with AWSPENDING: setSecret comes first"
            )
        with _closing(session):
            engine.prove(session)
        self._proved[request.secret, request.token] = self._clock() + PROOF_SECONDS

    def _target(self, request: RotationRequest, pending: Secret) -> Target:
        """Return where setSecret of this version just was, once: a version's value can't change; else ask."""
        target, until = self._found.pop((request.secret, request.token), (None, 0.0))
        if target is not None and self._clock() <= until:
            return target
        return self._databases.find(request.secret, pending)


def _withdrawn(user: str) -> str:
    return f"access.yaml no longer declares this rotation of {user} as it is recorded, so no password is set"


def _no_value(request: RotationRequest) -> Refused:
    return Refused(f"version {request.token} has no value yet: createSecret comes first")


@contextmanager
def _closing(session: Any) -> Any:
    try:
        yield session
    finally:
        session.close()
