"""Rotations as a person looks after them: shows each, begins and unsticks one, and who still uses an old password."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from rdsiam.access_rotation import CLONE
from rdsiam.audit.facts import SecretFacts
from rdsiam.databases import Database, Databases, Family
from rdsiam.engines.rotating import Rotator
from rdsiam.errors import ConnectionFailed, Refused
from rdsiam.rotation.logins import ENGINES, log_in, logs_in
from rdsiam.rotation.rotating_secrets import UNSET, RotatingSecrets
from rdsiam.rotation.secret import Secret
from rdsiam.rotation.store import PENDING, SecretStore
from rdsiam.rotation.targets import Targets

logger = logging.getLogger(__name__)

State = Literal["ok", "rotating", "failing", "stuck", "overdue", "unset"]
#: Engines whose servers keep the former password beside the new one until the next rotation.
_KEEPS_THE_FORMER = {"mysql", "aurora-mysql", "aurora"}
#: How long a step that was at work may take to reach the database.
_PAUSE = 2.0


@dataclass(frozen=True)
class Shown:
    """A secret that RotateFunction rotates, as people see it. Times are RFC 3339.

    :ivar database: ARN; None where the secret names none that there is.
    :ivar available: the database can be reached now.
    :ivar pending_since: when the rotation began that has not ended.
    :ivar former_stays: the former password logs in until the next rotation: to end a leak it takes two.
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

    def to_json(self) -> dict[str, Any]:
        """Return it as SecretsFunction answers it."""
        return asdict(self)


@dataclass(frozen=True)
class Watch:
    """Looks after rotations."""

    databases: Databases
    targets: Targets
    secrets: RotatingSecrets
    store: SecretStore
    engines: Mapping[Family, Rotator] = field(default_factory=lambda: ENGINES)
    pause: Callable[[float], None] = time.sleep

    def list(self, arns: Iterable[str] | None = None) -> list[Shown]:
        """Return the secrets that RotateFunction rotates, sorted by name.

        :param arns: of the databases whose secrets count; None for all.
        """
        there = list(self.targets.all()) if arns is None else [self.databases.describe(arn) for arn in arns]
        shown = []
        for secret in self.secrets.all():
            if not self.secrets.is_ours(secret):
                continue
            database = next((one for one in there if secret.is_of(one.arn, one.identifier, one.host, one.port)), None)
            if database is not None or arns is None:
                shown.append(self._shown(secret, database))
        return sorted(shown, key=lambda one: one.name)

    def show(self, arn: str) -> Shown:
        """Return one.

        :raises Refused: there is none that RotateFunction rotates.
        """
        secret = self._ours(arn)
        try:
            database: Database | None = self.targets.find(self.store.current(secret.arn))
        except Refused:
            database = None  # what it names is no database of this account
        return self._shown(secret, database)

    def rotate(self, arn: str, because: str | None) -> str:
        """Begin a rotation now; return the version that is to become the current one.

        Where one has begun already and not ended, Secrets Manager tries that one again: its version is returned.

        :param because: why, for the log.
        """
        secret = self._ours(arn)
        logger.info("rotation of %s asked for: %s", secret.name, because or "no reason given")
        try:
            return self.secrets.rotate(arn)
        except Refused:
            if secret.pending_version is None:
                raise
            return secret.pending_version

    def unstick(self, arn: str, plan: bool) -> dict[str, Any]:
        """Take AWSPENDING off a version that is not the current one, and which the database does not accept.

        What a step that was at work set meanwhile is seen, and the label put back.

        :return: `secret`, `status` (`written`, `planned`, `unchanged`), `version`, and whether AWSCURRENT logs in.
        :raises Refused: the database accepts it, or it can't be told.
        """
        secret = self._ours(arn)
        version = secret.pending_version
        if version is None:
            return {"secret": arn, "status": "unchanged", "version": None, "current_logs_in": None}
        current = self.store.current(secret.arn)
        database = self.targets.find(current)
        # The value of a version that has none was never stored, so no database can have it.
        pending = self.store.labelled(arn, PENDING, version)
        if pending is not None and self._accepts(database, pending):
            raise Refused(
                f"{database.identifier} accepts the password of AWSPENDING, so the rotation has nearly ended: rotate "
                "again (rdsiam rotate DATABASE USER --now), which ends it"
            )
        works = self._accepts(database, current)
        answer = {"secret": arn, "status": "planned", "version": version, "current_logs_in": works}
        if plan:
            return answer
        self.secrets.take_pending(arn, version)
        self.pause(_PAUSE)
        if pending is not None and self._accepts(database, pending):
            self.secrets.give_pending(arn, version)
            raise Refused("a rotation was at work just now, and has set the password: rotate again, which ends it")
        logger.info("took AWSPENDING off version %s of %s", version, secret.name)
        return answer | {"status": "written"}

    def sessions(self, arn: str) -> dict[str, Any]:
        """Return the sessions that a former password may have opened, as the secret's user may see them.

        :return: `secret`, `user`; `sessions`: user, application, address, since; `unseen`: what servers don't say.
        """
        secret = self._ours(arn)
        current = self.store.current(secret.arn)
        database = self.targets.find(current)
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
            "unseen": engine.unseen,
        }

    def _ours(self, arn: str) -> SecretFacts:
        secret = self.secrets.one(arn)
        if secret is None or secret.rotation_lambda != self.secrets.function:
            raise Refused(f"{arn} is no secret that RotateFunction rotates")
        return secret

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
        began = self.secrets.made(secret.arn, pending) if pending else None
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
            pending_since=began.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if began else None,
            current_version=secret.current_version,
            state=_state(secret, datetime.now(UTC)),
            former_stays=secret.alternating or secret.engine in _KEEPS_THE_FORMER,
        )


def _state(secret: SecretFacts, at: datetime) -> State:
    if UNSET in secret.tags:
        return "unset"
    if secret.pending_version is not None:
        return "stuck" if secret.pending_stuck else "failing" if secret.pending_failing else "rotating"
    late = secret.next_rotation is not None and datetime.fromisoformat(secret.next_rotation) < at
    return "overdue" if late else "ok"
