"""The status of a rotation, as operators see it: from the secret, its record, and the database."""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from rdsiam.access.rotation import line_to_add
from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.core import times
from rdsiam.core.arn import Arn
from rdsiam.core.changes import Reason
from rdsiam.engines.rotation import base_name
from rdsiam.rotation import commands
from rdsiam.state.record import SecretRecord

RotationState = Literal["ok", "rotating", "failing", "stuck", "overdue", "initial"]
#: Engines whose servers keep the former password beside the new one until the next rotation.
_KEEPS_FORMER_PASSWORD = {"mysql", "aurora-mysql", "aurora"}
NO_LONGER_DECLARED = "access.yaml no longer declares this rotation as it is recorded"
_NOT_ROTATED = "RotateFunction does not rotate it: its rotation was cancelled or given to another function"


@dataclass(frozen=True)
class RotationStatus:
    """A secret that RotateFunction rotates. Times are RFC 3339.

    :ivar database: ARN; None if the secret names no database of this account.
    :ivar available: the database can be reached now.
    :ivar pending_since: time at which the rotation began that has not ended.
    :ivar former_stays: the former password logs in until the next rotation, so that ending a leak takes two.
    :ivar problem: why RotateFunction refuses to rotate it; empty if it rotates it.
    :ivar remedy: what to do about the problem; empty if there is none.
    :ivar line_to_add: the entry of access.yaml that would declare its rotation; empty if it is recorded.
    """

    secret: str
    name: str
    user: str | None
    engine: str | None
    database: str | None
    identifier: str | None
    available: bool
    schedule: str
    window: str
    last_rotated: str | None
    next_rotation: str | None
    pending_since: str | None
    current_version: str | None
    state: RotationState
    former_stays: bool
    problem: str = ""
    remedy: str = ""
    line_to_add: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the status as SecretsFunction answers it."""
        return asdict(self)


@dataclass(frozen=True)
class RecordedUser:
    """The user of a database for which the inventory records a secret."""

    database: str
    user: str
    record: SecretRecord


def status_of(secret: SecretFacts, database: Database | None, pending_since: datetime | None) -> RotationStatus:
    """Return the status of a secret.

    :param database: None if it is gone or unknown.
    :param pending_since: time at which the pending version was created; None if none is pending.
    """
    rules = secret.rotation_rules
    return RotationStatus(
        secret=secret.arn,
        name=secret.name,
        user=secret.username,
        engine=secret.engine,
        database=database.arn if database else None,
        identifier=database.identifier if database else None,
        available=database is not None and database.reachable,
        schedule=str(rules.get("ScheduleExpression") or f"rate({rules.get('AutomaticallyAfterDays')} days)"),
        window=str(rules.get("Duration") or ""),
        last_rotated=secret.last_rotated,
        next_rotation=secret.next_rotation,
        pending_since=times.text(pending_since) if pending_since else None,
        current_version=secret.current_version,
        state=_state(secret, datetime.now(UTC)),
        former_stays=secret.alternating or (database.engine if database else secret.engine) in _KEEPS_FORMER_PASSWORD,
    )


def with_problem(
    status: RotationStatus, secret: SecretFacts, recorded: RecordedUser | None, named: Database | None, rotates: bool
) -> RotationStatus:
    """Return the status with the problem that prevents the rotation.

    :param named: the database that the secret's value names.
    :param rotates: RotateFunction rotates the secret.
    """
    if recorded is None:
        identifier = named.identifier if named else secret.instance or "DATABASE"
        line = line_to_add(identifier, base_name(secret.username or "USER"), secret.arn, secret.administrator)
        problem = "not recorded, as access.yaml does not declare this rotation"
        remedy = "if it is intended, add `line_to_add` to `databases` of access.yaml"
        return replace(status, problem=problem, remedy=remedy, line_to_add=line)
    reason = _problem(secret, recorded, named)
    if not reason.problem and recorded.record.state == "ready" and not rotates:
        set_up = commands.set_up(Arn.parse(recorded.database).name, recorded.user)
        reason = Reason(_NOT_ROTATED, f"{set_up}, which schedules it again, or says why not")
    state = "initial" if recorded.record.state == "initial" else status.state
    return replace(status, problem=reason.problem, remedy=reason.remedy, state=state)


def unreadable(arn: str, recorded: RecordedUser) -> RotationStatus:
    """Return the status of a recorded secret that could not be read: only its record is known."""
    return RotationStatus(
        secret=arn,
        name=Arn.parse(arn).name[:-7],
        user=recorded.user,
        engine=None,
        database=recorded.database,
        identifier=Arn.parse(recorded.database).name,
        available=False,
        schedule="",
        window="",
        last_rotated=None,
        next_rotation=None,
        pending_since=None,
        current_version=None,
        state="initial" if recorded.record.state == "initial" else "overdue",
        former_stays=False,
        problem=f"it is recorded for {recorded.user}, but is gone, can't be read, or holds no login",
        remedy="correct that, or name another secret by `secret: ARN` in access.yaml",
    )


def _problem(secret: SecretFacts, recorded: RecordedUser, named: Database | None) -> Reason:
    """Return why RotateFunction refuses a recorded secret; an empty reason if it does not."""
    user, record = secret.username or "USER", recorded.record
    if record.state == "ending":
        problem = f"{NO_LONGER_DECLARED}; it ends once nothing is pending"
        return Reason(problem, "declare it in access.yaml, if it is intended")
    name = base_name(user) if record.scheme == "alternating" else user
    in_value = (named.arn if named else None, name, secret.administrator)
    if in_value != (recorded.database, recorded.user, record.administrator):
        place = named.identifier if named else secret.instance or secret.host or "no database"
        expected = f"{recorded.user} on {Arn.parse(recorded.database).name}"
        problem = f"its value is for {user} on {place}, but it is recorded for {expected}"
        return Reason(problem, "correct the value of the secret, or access.yaml")
    if named is not None and named.resource_id != record.resource_id:
        problem = "it is recorded for another database of that name"
        return Reason(problem, "wait for the next reconcile, which ends this rotation")
    return Reason()


def _state(secret: SecretFacts, at: datetime) -> RotationState:
    if secret.pending_version is not None:
        return "stuck" if secret.pending_stuck else "failing" if secret.pending_failing else "rotating"
    late = secret.next_rotation is not None and times.moment(secret.next_rotation) < at
    return "overdue" if late else "ok"
