"""Rotations for operators: list and show them, begin and unstick one, list sessions that use a former password.

They act on recorded secrets only. Other secrets that RotateFunction rotates are listed with their problem.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from rdsiam.access.rotation import CLONE
from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.client import PENDING
from rdsiam.aws.secrets.errors import RotationUnfinished
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.aws.secrets.value import Secret
from rdsiam.engines.rotation import OpenSession
from rdsiam.errors import ConnectionFailed, Refused
from rdsiam.rotation import commands
from rdsiam.rotation.login import log_in, logs_in
from rdsiam.rotation.services import RotationServices
from rdsiam.rotation.status import NO_LONGER_DECLARED, RecordedUser, RotationStatus, status_of, unreadable, with_problem
from rdsiam.rotation.targets import Target, refuse_other_login

logger = logging.getLogger(__name__)

#: Seconds within which a step that is at work reaches the database.
_PAUSE = 2.0


@dataclass(frozen=True)
class UnstickResult:
    """Result of giving up a rotation that never ends.

    :ivar version: id of the pending version; None if none was pending.
    :ivar current_logs_in: AWSCURRENT logs in; None if that was not tried.
    """

    secret: str
    status: Literal["written", "planned", "unchanged"]
    version: str | None = None
    current_logs_in: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as SecretsFunction answers it."""
        return asdict(self)


@dataclass(frozen=True)
class FormerSessions:
    """Sessions that a former password may have opened, as far as the secret's user sees them.

    :ivar unseen: what servers of this engine don't show.
    """

    secret: str
    user: str
    sessions: tuple[OpenSession, ...]
    unseen: str

    def to_json(self) -> dict[str, Any]:
        """Return the result as SecretsFunction answers it."""
        return asdict(self) | {"sessions": [asdict(session) for session in self.sessions]}


class RotationOperations:
    """Operations on the rotations of this account and region.

    :param pause: waits for that number of seconds.
    """

    def __init__(self, services: RotationServices, pause: Callable[[float], None] = time.sleep) -> None:
        self._services = services
        self._pause = pause

    @property
    def skipped(self) -> int:
        """Number of secrets that could not be read in the last listing."""
        return self._services.secrets.skipped

    def list(self, arns: Iterable[str] | None = None) -> list[RotationStatus]:
        """Return the secrets that RotateFunction rotates, is about to, or should, sorted by name.

        :param arns: databases whose secrets count, by their record or by their value; None for all.
        """
        databases = self._databases(arns)
        recorded = self._recorded_users(None if arns is None else [database.arn for database in databases])
        listed = (self._listed(secret, recorded.get(secret.arn), databases) for secret in self._services.secrets.all())
        statuses = [status for status in listed if status and (arns is None or status.database is not None)]
        shown = {status.secret for status in statuses}
        statuses += [unreadable(arn, user) for arn, user in recorded.items() if arn not in shown]
        return sorted(statuses, key=lambda status: status.name)

    def show(self, arn: str) -> RotationStatus:
        """Return the status of one rotation.

        :raises Refused: the secret is not recorded, or RotateFunction does not rotate it.
        """
        secret, value = self._recorded_secret(arn)
        try:
            database: Database | None = self._services.targets.find(arn, value).database
        except Refused:
            database = None  # the database is gone, or another one has its name
        return self._status(secret, database)

    def rotate(self, arn: str, reason: str | None) -> str:
        """Begin a rotation now; return the version that it makes the current one.

        If one has begun already and not ended, Secrets Manager tries that one again: its version is returned.

        :param reason: for the log.
        """
        secret, value = self._recorded_secret(arn)
        user, record = self._services.targets.recorded(arn, value)
        if record.state == "ending" and secret.pending_version is None:
            raise Refused(f"{user}: {NO_LONGER_DECLARED}", "declare it in access.yaml", "rotation-not-declared")
        logger.info("rotation of %s requested: %s", secret.name, reason or "no reason given", extra={"user": user})
        try:
            return self._services.secrets.rotate(arn)
        except RotationUnfinished as error:
            if secret.pending_version is None:
                raise Refused(error.problem, "run it again in a minute", "rotation-unfinished") from None
            return secret.pending_version

    def unstick(self, arn: str, plan: bool) -> UnstickResult:
        """Remove AWSPENDING from a version that is not the current one, and that the database does not accept.

        If a step that was at work has set its password meanwhile, the label is put back.

        :raises Refused: the database accepts it, or doesn't tell.
        """
        secret, current = self._recorded_secret(arn)
        version = secret.pending_version
        if version is None:
            return UnstickResult(arn, "unchanged")
        target = self._services.targets.find(arn, current)
        database = target.database
        # If the version has no value, it was never stored, so no database can have its password.
        pending = self._services.store.labelled(arn, PENDING, version)
        if pending is not None and not _is_of_target(target, current, pending):
            pending = None  # RotateFunction did not write it, and never sets such a password
        end = commands.now(database.identifier, target.user)
        if pending is not None and self._accepts(database, pending):
            raise Refused(
                f"{database.identifier} accepts the password of AWSPENDING, so the rotation has nearly ended",
                f"rotate again, which ends it: {end}",
                "rotation-unfinished",
            )
        result = UnstickResult(arn, "planned", version, self._accepts(database, current))
        if plan:
            return result
        self._services.secrets.remove_pending(arn, version)
        self._pause(_PAUSE)
        if pending is not None and self._accepts(database, pending):
            self._services.secrets.restore_pending(arn, version)
            raise Refused(
                "a rotation was at work just now, and has set the password",
                f"rotate again, which ends it: {end}",
                "rotation-unfinished",
            )
        keys = {"database": database.arn, "user": target.user}
        logger.info("removed AWSPENDING from version %s of %s", version, secret.name, extra=keys)
        return replace(result, status="written")

    def sessions(self, arn: str) -> FormerSessions:
        """Return the sessions that a former password may have opened."""
        secret, current = self._recorded_secret(arn)
        database = self._services.targets.find(arn, current).database
        engine = self._services.engines[database.family]
        session = log_in(engine, database, current)
        if session is None:
            raise Refused(
                f"{current.user} does not log in to {database.identifier} with AWSCURRENT",
                "put the password that is in use into the secret",
                "login-failed",
            )
        base = current.user.removesuffix(CLONE)
        try:
            opened = engine.sessions(session, [base, base + CLONE] if secret.alternating else [current.user])
        finally:
            session.close()
        former = tuple(each for each in opened if _may_be_former(each, current.user, secret.last_rotated))
        return FormerSessions(arn, current.user, former, engine.blind_spots)

    def _databases(self, arns: Iterable[str] | None) -> Sequence[Database]:
        if arns is None:
            return list(self._services.targets.all())
        return [self._services.databases.describe(arn) for arn in arns]

    def _listed(
        self, secret: SecretFacts, recorded: RecordedUser | None, databases: Sequence[Database]
    ) -> RotationStatus | None:
        """Return the status of a secret; None if rdsiam has nothing to do with it."""
        rotates = self._services.secrets.rotates(secret)
        if not rotates and recorded is None:
            return None
        named = next(
            (each for each in databases if secret.is_of(each.arn, each.identifier, each.host, each.port)), None
        )
        database = next((each for each in databases if recorded and each.arn == recorded.database), named)
        return with_problem(self._status(secret, database), secret, recorded, named, rotates)

    def _recorded_users(self, arns: Iterable[str] | None) -> Mapping[str, RecordedUser]:
        """Return the user of each recorded secret, by the secret's ARN."""
        inventory = self._services.inventory
        records = inventory.all() if arns is None else ((arn, inventory.get(arn)) for arn in arns)
        return {
            secret.arn: RecordedUser(arn, user, secret)
            for arn, record in records
            for user, secret in (record.secrets.items() if record else ())
            if secret.arn is not None and secret.state != "ended"
        }

    def _recorded_secret(self, arn: str) -> tuple[SecretFacts, Secret]:
        """Return a recorded secret, and its current value.

        :raises Refused: it is not recorded for the login in its value, or RotateFunction does not rotate it.
        """
        secrets = self._services.secrets
        secret = secrets.get(arn)
        if secret is None or secret.rotation_lambda != secrets.function:
            raise Refused(
                f"RotateFunction does not rotate {arn}", "rdsiam rotate list shows what it rotates", "secret-missing"
            )
        value = self._services.store.current(secret.arn)
        self._services.targets.recorded(arn, value)
        return secret, value

    def _accepts(self, database: Database, secret: Secret) -> bool:
        """Tell whether a version logs in.

        :raises Refused: the database can't be asked.
        """
        try:
            return logs_in(self._services.engines[database.family], database, secret)
        except ConnectionFailed as error:
            raise Refused(
                f"whether the database accepts the password is unknown: {error}",
                "run it again when the database can be reached",
                "login-failed",
            ) from None

    def _status(self, secret: SecretFacts, database: Database | None) -> RotationStatus:
        pending = secret.pending_version
        return status_of(secret, database, self._services.secrets.created(secret.arn, pending) if pending else None)


def _is_of_target(target: Target, current: Secret, pending: Secret) -> bool:
    """Tell whether AWSPENDING is a value that a rotation of this secret writes."""
    try:
        refuse_other_login(pending, target.user, target.record)
    except Refused:
        return False
    return pending.place == current.place


def _may_be_former(session: OpenSession, user: str, rotated: str | None) -> bool:
    """Tell whether a session may have been opened by a password from before the last rotation."""
    return session.user != user or session.since is None or rotated is None or session.since <= rotated
