"""Steps of a migration, for one user. Each reads the state it needs, so that another process can repeat it."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from rdsiam.access.confirmed import CONFIRM, waits
from rdsiam.aws.rds import Database
from rdsiam.core.changes import Change, Reason, Refusal
from rdsiam.core.times import now_text, text
from rdsiam.engines.migration import LoginState
from rdsiam.errors import AccessFileInvalid, ConnectionFailed, DatabaseNotFound, NeedsConfirmation, Refused, Unsupported
from rdsiam.migration import observation
from rdsiam.migration.database_user import must_keep_password, user_missing
from rdsiam.migration.execution import Execution
from rdsiam.migration.results import (
    Beginning,
    Changes,
    Retirement,
    StepResult,
    Watched,
)
from rdsiam.migration.secret_retirement import secret_changes
from rdsiam.migration.successor import lines_to_add, successor_of
from rdsiam.onboarding.database_users import Users
from rdsiam.onboarding.limits import limit_retirements
from rdsiam.state.migrations import Migration, RetainedSecret, Superseded

logger = logging.getLogger(__name__)

_DAY = timedelta(days=1)
#: Number of observations in a row that may fail before the failure is raised.
_MOST_FAILURES = 20


class Migrating(Execution):
    """The work of one execution on one user: a method for each step."""

    def begin(self) -> Beginning:
        """Return the database, the successor, and whether another execution works on the migration."""
        user = self.request.user
        try:
            database = self._services.databases.describe(self.request.database)
            self.arn = database.arn
            if not database.has_users:
                raise Refused(f"{database.arn} has no users of its own", "migrate the users of its source")
            migration = self._migration_of(database)
            if self.request.undo:
                successor = migration.successor if migration else user
            else:
                successor = self._declared_successor(database)
        except (DatabaseNotFound, Unsupported, AccessFileInvalid, Refused) as error:
            return Beginning(self.request.database, refusal=Refusal.of(error))
        retired = migration is not None and migration.state == "retired" and not migration.execution
        return Beginning(database.arn, successor, _running(migration, self._execution), retired)

    def _declared_successor(self, database: Database) -> str:
        """Return the successor that access.yaml declares.

        :raises Refused: there is none, or the request says another way, or there is no such user.
        """
        user = self.request.user
        successor = successor_of(self._declared(database), user)
        if successor is None and user == database.master_user:
            remedy = "declare a user of its own for each application, with the level that it needs, in access.yaml"
            raise Refused(f"{user} is the master of {database.identifier}", remedy, "user-is-administrator")
        newest = self._services.access.waiting() if successor is None else None
        if newest is not None and successor_of(newest.file.declared(self._selected(database)), user):
            raise NeedsConfirmation(waits(newest.version), CONFIRM)
        if successor is None:
            login_state = self._login_state()
            if login_state is not None and not login_state.exists:
                raise user_missing(user, database.arn)
            raise Refused(*lines_to_add(database, user, self.request.in_place), "successor-not-declared")
        if (successor == user) != self.request.in_place:
            way = f"changes {user} in place" if successor == user else f"lets {successor} replace {user}"
            flag = "say --in-place (`in_place`)" if successor == user else "leave --in-place out"
            raise Refused(f"access.yaml {way}", f"{flag} if that is intended", "successor-not-declared")
        return successor

    def check(self) -> StepResult:
        """Refuse a user that has to keep its password, unless that is not visible yet; changes nothing."""
        login_state = self._login_state()
        if login_state is None:
            return StepResult()  # onboarding checks it
        if not login_state.exists:
            return StepResult.refused(user_missing(self.request.user, self.arn))
        return StepResult.refused(must_keep_password(login_state)) if login_state.keep_reason else StepResult()

    def _login_state(self) -> LoginState | None:
        """Return how the user logs in; None if that is not visible yet."""
        record = self._services.inventory.get(self.arn)
        if record is None or not record.finished:
            return None
        try:
            return self._user.login_state()
        except ConnectionFailed as error:
            logger.info("the login state of %s on %s is not visible: %s", self.request.user, self.arn, error)
            return None

    def plan(self) -> StepResult:
        """Return the changes that the retirement would make."""
        try:
            changes = [] if self.in_place else self._user.retire(None)
            stopping = () if self.in_place else self._user.background_work()
        except Refused as error:
            return StepResult.refused(error)
        except ConnectionFailed as error:
            # The manager may not exist before the onboarding.
            return StepResult(reason=Reason(f"the retirement can't be planned yet: {error.problem}", error.remedy))
        secrets = self._secrets()
        if secrets.recorded is not None:
            changes += secret_changes(RetainedSecret(secrets.recorded.arn, secrets.recorded.rotation_enabled))
        remark = secrets.without_recorded(self.request.user)
        irreversible = self._user.irreversible() if self.in_place else ""
        reason = replace(remark, problem="; ".join(filter(None, [remark.problem, irreversible])))
        return StepResult(tuple(changes), reason=reason, incomplete=(*stopping, *secrets.left_alone(self.request.user)))

    def record_pairing(self, changes: Changes) -> StepResult:
        """Take the lease, and record that the successor exists; refused if another execution works on it."""
        database = self._services.databases.describe(self.arn)
        migration = self._recorded()
        if running := _running(migration, self._execution):
            return StepResult(refusal=Refusal(running))
        if migration is None or migration.resource_id != database.resource_id or migration.successor != self._successor:
            revision = migration.revision if migration else 0
            migration = Migration(self.request.user, self._successor, database.resource_id, revision=revision)
        migration = self._leased(migration)
        if not migration.reached("paired"):
            statements = [change.statement for change in changes if change.target == self._successor]
            migration = migration.at("paired", now_text(), statements or [f"{self._successor} existed"])
        try:
            self._services.migrations.save(self.arn, migration)
        except Superseded as error:
            return StepResult.refused(error)
        return StepResult()

    def prove(self) -> None:
        """Log in as the successor with a token, and check that its password is refused."""
        migration = self._own()
        Users(self._services, self.arn).prove(self._successor)
        if not migration.reached("proven"):
            done = [f"{self._successor} logged in with a token", f"{self._successor} was refused with a password"]
            self._save(migration.at("proven", now_text(), done))

    def begin_watching(self) -> None:
        """Begin the quiet period, or continue the period of an execution that stopped a moment ago."""
        migration, at = self._own(), datetime.now(UTC)
        period = observation.begin(migration.watch, self.request.watch, at)
        if migration.state != "watching":
            waits = f"waits for {self.request.watch} s without a login of {self.request.user}"
            migration = migration.at("watching", text(at), [waits, f"not seen: {self._user.blind_spots()}"])
        self._save(replace(migration, watch=period))

    def observe(self, failures: int) -> Watched:
        """Observe the user's sessions once, and record the result.

        :param failures: number of observations in a row that have failed before.
        """
        try:
            migration = self._own()
            assert migration.watch is not None
            period = observation.observed(migration.watch, self._user.observe(), datetime.now(UTC))
            over = observation.is_over(period, datetime.now(UTC))
            period = replace(period, held=self._limit() if over else "")
            self._save(replace(migration, watch=period))
        except Superseded:
            return Watched(over=True)
        except Exception as error:
            # A database may be away for a while. If that is long, the next observation begins the period anew.
            if failures >= _MOST_FAILURES:
                raise
            logger.warning("no observation of %s on %s: %s", self.request.user, self.arn, error)
            return Watched(failures=failures + 1)
        return Watched(over and not period.held)

    def retire(self) -> Retirement:
        """Lock the user, if its successor is still declared and can log in, and nobody has logged in as the user."""
        try:
            migration = self._own()
            if migration.reached("retired"):
                return Retirement("retired")
            database = self._services.databases.describe(self.arn)
            if successor_of(self._declared(database), self.request.user) != self._successor:
                raise Refused(
                    f"access.yaml no longer declares {self._successor} as the successor of {self.request.user}, which "
                    "stays as it is",
                    "declare it, and run the migration again",
                    "successor-not-declared",
                )
            changes = [] if self.in_place else self._lock(migration)
            if changes is None:
                return Retirement("running", watch_again=True)
            done = [change.statement for change in changes] or [f"{self.request.user} takes tokens and no password"]
            self._save(self._own().at("retired", now_text(), done))
            return Retirement("retired", changes=tuple(changes))
        except (Refused, AccessFileInvalid) as error:
            return Retirement("refused", Reason.of(error))

    def retire_secret(self) -> StepResult:
        """Schedule the user's recorded secret for deletion."""
        migration = self._own()
        secrets, user = self._secrets(), self.request.user
        secret = migration.secret
        if secret is None:
            migration = self._save(_with_notes(migration, secrets.notes(user)))
            if secrets.recorded is None:
                return StepResult(incomplete=secrets.left_alone(user))
            secret = RetainedSecret(secrets.recorded.arn, secrets.recorded.rotation_enabled)
            self._save(replace(migration, secret=secret))
        self._services.secrets.retire(secret)
        changes = secret_changes(secret)
        try:
            self._save(_with_notes(self._own(), [change.statement for change in changes]))
        except Superseded:
            # An undo came in between, and found no secret to restore.
            self._services.secrets.restore(secret)
            raise
        return StepResult(tuple(changes), incomplete=secrets.left_alone(user))

    def _lock(self, migration: Migration) -> list[Change] | None:
        """Lock the user, and return the changes; None if the quiet period is not over, as a last observation shows."""
        assert migration.watch is not None
        period = observation.observed(migration.watch, self._user.observe(), datetime.now(UTC))
        if not observation.is_over(period, datetime.now(UTC)):
            self._save(replace(migration, watch=period))
            return None
        Users(self._services, self.arn).prove(self._successor)

        def record_locked(login_state: LoginState) -> None:
            current = self._own()
            if current.locked is None:  # a repeated step finds the accounts that the first attempt has locked
                self._save(replace(current, locked=login_state.locked))

        return self._user.retire(record_locked)

    def _limit(self) -> str:
        """Return why the change limit delays the retirement; empty if it does not."""
        if self.request.confirm:
            return ""
        since = text(datetime.now(UTC) - _DAY)
        recent = [
            migration.user
            for migration in self._services.migrations.of(self.arn).values()
            if migration.state == "retired" and migration.history and migration.history[-1]["at"] > since
        ]
        try:
            limit_retirements(recent)
        except NeedsConfirmation as error:
            return str(error)
        return ""


def _running(migration: Migration | None, execution: str) -> str:
    """Return that another execution works on a migration; empty if none does."""
    if migration is None or migration.execution in {"", execution} or migration.lease < time.time():
        return ""
    until = f", until {migration.until} if nobody logs in" if migration.until else ""
    return f"another execution is at work on it: {migration.user} is {migration.state}{until}"


def _with_notes(migration: Migration, notes: Sequence[str]) -> Migration:
    """Return the migration with notes added to its last state."""
    last = migration.history[-1]
    return replace(migration, history=(*migration.history[:-1], {**last, "done": [*last["done"], *notes]}))
