"""Rotations for operators: list and show them, begin and unstick one, list sessions that use a former password.

Only recorded secrets are acted on. Others that RotateFunction rotates are listed with what is wrong with them.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from rdsiam.access.rotation import CLONE, line_to_add
from rdsiam.aws.rds import Database, Databases, Family
from rdsiam.aws.secrets.client import PENDING
from rdsiam.aws.secrets.errors import RotationUnfinished
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.aws.secrets.schedules import RotatingSecrets
from rdsiam.aws.secrets.value import Secret
from rdsiam.aws.secrets.versions import SecretStore
from rdsiam.core import times
from rdsiam.core.arn import Arn
from rdsiam.engines.registry import ROTATORS
from rdsiam.engines.rotation import Rotator, base_name
from rdsiam.errors import ConnectionFailed, Refused
from rdsiam.rotation.login import log_in, logs_in
from rdsiam.rotation.targets import Target, Targets, refuse_other_login
from rdsiam.state.inventory import Inventory, SecretRecord

logger = logging.getLogger(__name__)

State = Literal["ok", "rotating", "failing", "stuck", "overdue", "initial"]
#: Engines whose servers keep the former password beside the new one until the next rotation.
_KEEPS_THE_FORMER = {"mysql", "aurora-mysql", "aurora"}
#: How long a step that was at work may take to reach the database.
_PAUSE = 2.0
_ENDING = "access.yaml no longer declares this rotation as it is recorded"
_NOT_ROTATED = "RotateFunction does not rotate it: its rotation was cancelled or given to another function"


@dataclass(frozen=True)
class Shown:
    """A secret that RotateFunction rotates, as people see it. Times are RFC 3339.

    :ivar database: ARN; None if the secret names no database of this account.
    :ivar available: the database can be reached now.
    :ivar pending_since: when the rotation began that has not ended.
    :ivar former_stays: the former password logs in until the next rotation: to end a leak it takes two.
    :ivar problem: why RotateFunction refuses to rotate it; empty if it rotates it.
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
    state: State
    former_stays: bool
    problem: str = ""
    line_to_add: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as SecretsFunction answers it."""
        return asdict(self)


@dataclass(frozen=True)
class _Owner:
    """Whose secret the inventory says that one is."""

    database: str
    user: str
    record: SecretRecord


@dataclass(frozen=True)
class Watch:
    """Looks after rotations."""

    databases: Databases
    targets: Targets
    secrets: RotatingSecrets
    store: SecretStore
    inventory: Inventory
    engines: Mapping[Family, Rotator] = field(default_factory=lambda: ROTATORS)
    pause: Callable[[float], None] = time.sleep

    def list(self, arns: Iterable[str] | None = None) -> list[Shown]:
        """Return the secrets that RotateFunction rotates, is about to, or should, sorted by name.

        :param arns: of the databases whose secrets count, by their record or by what they say; None for all.
        """
        there = list(self.targets.all()) if arns is None else [self.databases.describe(arn) for arn in arns]
        owners = self._owners(None if arns is None else [database.arn for database in there])
        shown = []
        for secret in self.secrets.all():
            owner = owners.get(secret.arn)
            if not self.secrets.rotates(secret) and owner is None:
                continue
            named = next((one for one in there if secret.is_of(one.arn, one.identifier, one.host, one.port)), None)
            database = next((one for one in there if owner and one.arn == owner.database), named)
            if database is not None or arns is None:
                problem, line = _problem(secret, owner, named)
                if owner is not None and owner.record.state == "ready" and not self.secrets.rotates(secret):
                    problem = problem or _NOT_ROTATED
                listed = replace(self._shown(secret, database), problem=problem, line_to_add=line)
                initial = owner is not None and owner.record.state == "initial"
                shown.append(replace(listed, state="initial") if initial else listed)
        seen = {one.secret for one in shown}
        shown += [_unseen(arn, owner) for arn, owner in owners.items() if arn not in seen]
        return sorted(shown, key=lambda one: one.name)

    def show(self, arn: str) -> Shown:
        """Return one.

        :raises Refused: it is not recorded, or RotateFunction does not rotate it.
        """
        secret, value = self._ours(arn)
        try:
            database: Database | None = self.targets.find(arn, value).database
        except Refused:
            database = None  # the database is gone, or is another one by now
        return self._shown(secret, database)

    def rotate(self, arn: str, reason: str | None) -> str:
        """Begin a rotation now; return the version that is to become the current one.

        Where one has begun already and not ended, Secrets Manager tries that one again: its version is returned.

        :param reason: why, for the log.
        """
        secret, value = self._ours(arn)
        user, record = self.targets.recorded(arn, value)
        if record.state == "ending" and secret.pending_version is None:
            raise Refused(f"{user}: {_ENDING}")
        logger.info("rotation of %s asked for: %s", secret.name, reason or "no reason given")
        try:
            return self.secrets.rotate(arn)
        except RotationUnfinished as error:
            if secret.pending_version is None:
                raise Refused(str(error), "try again in a minute", error.code) from None
            return secret.pending_version

    def unstick(self, arn: str, plan: bool) -> dict[str, Any]:
        """Take AWSPENDING off a version that is not the current one, and which the database does not accept.

        What a step that was at work set meanwhile is seen, and the label put back.

        :return: `secret`, `status` (`written`, `planned`, `unchanged`), `version`, and whether AWSCURRENT logs in.
        :raises Refused: the database accepts it, or it can't be told.
        """
        secret, current = self._ours(arn)
        version = secret.pending_version
        if version is None:
            return {"secret": arn, "status": "unchanged", "version": None, "current_logs_in": None}
        target = self.targets.find(arn, current)
        database = target.database
        # The value of a version that has none was never stored, so no database can have it.
        pending = self.store.labelled(arn, PENDING, version)
        if pending is not None and not _is_of_target(target, current, pending):
            pending = None  # somebody else wrote it, and RotateFunction sets no such password
        if pending is not None and self._accepts(database, pending):
            raise Refused(
                f"{database.identifier} accepts the password of AWSPENDING, so the rotation has nearly ended: rotate "
                "again (rdsiam rotate now DATABASE USER), which ends it"
            )
        works = self._accepts(database, current)
        answer = {"secret": arn, "status": "planned", "version": version, "current_logs_in": works}
        if plan:
            return answer
        self.secrets.remove_pending(arn, version)
        self.pause(_PAUSE)
        if pending is not None and self._accepts(database, pending):
            self.secrets.restore_pending(arn, version)
            raise Refused("a rotation was at work just now, and has set the password: rotate again, which ends it")
        logger.info("took AWSPENDING off version %s of %s", version, secret.name)
        return answer | {"status": "written"}

    def sessions(self, arn: str) -> dict[str, Any]:
        """Return the sessions that a former password may have opened, as the secret's user may see them.

        :return: `secret`, `user`; `sessions`: user, application, address, since; `unseen`: what servers don't say.
        """
        secret, current = self._ours(arn)
        database = self.targets.find(arn, current).database
        engine = self.engines[database.family]
        session = log_in(engine, database, current)
        if session is None:
            raise Refused(f"{current.user} does not log in to {database.identifier} with AWSCURRENT")
        users = [current.user]
        if secret.alternating:
            base = current.user.removesuffix(CLONE)
            users = [base, base + CLONE]
        try:
            found = engine.sessions(session, users)
        finally:
            session.close()
        rotated = secret.last_rotated
        old = [
            one
            for one in found
            if one.user != current.user or one.since is None or rotated is None or one.since <= rotated
        ]
        return {
            "secret": arn,
            "user": current.user,
            "sessions": [asdict(one) for one in old],
            "unseen": engine.blind_spots,
        }

    def _owners(self, arns: Iterable[str] | None) -> dict[str, _Owner]:
        """Return whose each recorded secret is, by the secret's ARN."""
        records = self.inventory.all() if arns is None else ((arn, self.inventory.get(arn)) for arn in arns)
        return {
            one.arn: _Owner(arn, user, one)
            for arn, record in records
            for user, one in (record.secrets.items() if record else ())
            if one.arn is not None and one.state != "ended"
        }

    def _ours(self, arn: str) -> tuple[SecretFacts, Secret]:
        """Return a recorded secret, and its current value.

        :raises Refused: it is not recorded for what its value says, or RotateFunction does not rotate it.
        """
        secret = self.secrets.get(arn)
        if secret is None or secret.rotation_lambda != self.secrets.function:
            raise Refused(f"{arn} is no secret that RotateFunction rotates")
        value = self.store.current(secret.arn)
        self.targets.recorded(arn, value)
        return secret, value

    def _accepts(self, database: Database, secret: Secret) -> bool:
        """Tell whether a version logs in.

        :raises Refused: that can't be told.
        """
        try:
            return logs_in(self.engines[database.family], database, secret)
        except ConnectionFailed as error:
            raise Refused(f"whether the database accepts the password can't be told: {error}") from None

    def _shown(self, secret: SecretFacts, database: Database | None) -> Shown:
        pending = secret.pending_version
        began = self.secrets.created(secret.arn, pending) if pending else None
        return Shown(
            secret=secret.arn,
            name=secret.name,
            user=secret.username,
            engine=secret.engine,
            database=database.arn if database else None,
            identifier=database.identifier if database else None,
            available=database is not None and database.status == "available",
            schedule=str(
                secret.rotation_rules.get("ScheduleExpression")
                or f"rate({secret.rotation_rules.get('AutomaticallyAfterDays')} days)"
            ),
            window=str(secret.rotation_rules.get("Duration") or ""),
            last_rotated=secret.last_rotated,
            next_rotation=secret.next_rotation,
            pending_since=times.text(began) if began else None,
            current_version=secret.current_version,
            state=_state(secret, datetime.now(UTC)),
            former_stays=secret.alternating or (database.engine if database else secret.engine) in _KEEPS_THE_FORMER,
        )


def _is_of_target(target: Target, current: Secret, pending: Secret) -> bool:
    """Tell whether AWSPENDING is what a rotation of this secret writes."""
    try:
        refuse_other_login(pending, target.user, target.record)
    except Refused:
        return False
    return pending.place == current.place


def _problem(secret: SecretFacts, owner: _Owner | None, named: Database | None) -> tuple[str, str]:
    """Return why RotateFunction refuses a secret that it is to rotate, and the line of access.yaml that it takes.

    :param named: the database that the secret's value names.
    """
    user = secret.username or "USER"
    if owner is None:
        identifier = named.identifier if named else secret.instance or "DATABASE"
        line = line_to_add(identifier, base_name(user), secret.arn, secret.administrator)
        return "not recorded, as access.yaml does not declare this rotation", line
    record = owner.record
    if record.state == "ending":
        return f"{_ENDING}; it ends once nothing is pending", ""
    name = base_name(user) if record.scheme == "alternating" else user
    said = (named.arn if named else None, name, secret.administrator)
    if said != (owner.database, owner.user, record.administrator):
        where = named.identifier if named else secret.instance or secret.host or "no database"
        recorded = f"{owner.user} on {owner.database.rpartition(':')[2]}"
        return f"its value is for {user} on {where}, but it is recorded for {recorded}", ""
    if named is not None and named.resource_id != record.resource_id:
        return "it is recorded for another database of that name", ""
    return "", ""


def _unseen(arn: str, owner: _Owner) -> Shown:
    """Return a recorded secret that was not among those that could be read: nothing is known but its record."""
    return Shown(
        secret=arn,
        name=Arn.parse(arn).name[:-7],
        user=owner.user,
        engine=None,
        database=owner.database,
        identifier=Arn.parse(owner.database).name,
        available=False,
        schedule="",
        window="",
        last_rotated=None,
        next_rotation=None,
        pending_since=None,
        current_version=None,
        state="initial" if owner.record.state == "initial" else "overdue",
        former_stays=False,
        problem=f"it is recorded for {owner.user}, but is gone, can't be read, or holds no login",
    )


def _state(secret: SecretFacts, at: datetime) -> State:
    if secret.pending_version is not None:
        return "stuck" if secret.pending_stuck else "failing" if secret.pending_failing else "rotating"
    late = secret.next_rotation is not None and times.moment(secret.next_rotation) < at
    return "overdue" if late else "ok"
