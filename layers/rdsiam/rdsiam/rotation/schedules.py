"""Schedules: the secrets of one database's rotating users become what access.yaml declares, user by user.

    the user's recorded secret → eligible? → (created by rdsiam: password set) → logs in → recorded → scheduled

access.yaml names a user's secret by its ARN, or an operator confirms the ARN that a plan has shown. Both are recorded
in the inventory, and rdsiam acts on recorded secrets only. An existing secret is used as it is, and is not rotated at
once. If there is none, creating one changes a password that is in use, so that needs a confirmation.
"""

import json
import logging
import shlex
from collections.abc import Sequence
from dataclasses import replace

from rdsiam.access import calendar
from rdsiam.access.rotation import RotatingUser
from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.errors import RotationUnfinished, SecretDenied, SecretsManagerFailed
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.aws.secrets.schedules import INITIAL, MANAGED
from rdsiam.core.arn import Arn
from rdsiam.core.changes import Change, Refusal
from rdsiam.errors import AccessFileInvalid, DatabaseNotFound, RdsiamError, Refused, Unsupported
from rdsiam.rotation import checks, commands
from rdsiam.rotation.new_secrets import NewSecrets, name_of
from rdsiam.rotation.records import SecretRecords
from rdsiam.rotation.results import DatabaseSchedules, DesiredSchedule, ScheduleOptions, ScheduleStatus, UserSchedule
from rdsiam.rotation.services import RotationServices
from rdsiam.state.record import SecretRecord, selected

logger = logging.getLogger(__name__)


class Schedules:
    """Sets, changes and cancels schedules so that they match access.yaml."""

    def __init__(self, services: RotationServices) -> None:
        self._services = services

    def apply(self, arn: str, options: ScheduleOptions = ScheduleOptions()) -> DatabaseSchedules:  # noqa: B008  frozen
        """Set, change and cancel the schedules of a database's users; if the database is gone, cancel all."""
        try:
            database = self._describe(arn)
            arn = database.arn if database else arn
            record = self._services.inventory.get(arn)
            file = self._services.access.current().file
            declared = file.rotating(selected(database, record)) if database else ()
        except (Unsupported, AccessFileInvalid) as error:
            return DatabaseSchedules(arn, refused=Refusal.of(error))
        records = SecretRecords(self._services.inventory, arn, record.secrets if record else {}, options.plan)
        run = _DatabaseRun(self._services, arn, records, options)
        results = run.apply(database, declared) if database else []
        results += [run.leave(database, user) for user in sorted(records.active() - {user.name for user in declared})
                    if options.user in (None, user)]  # fmt: skip
        if options.user is not None and not results:
            refusal = Refusal(
                f"access.yaml has no `rotate` for {options.user} on {arn}",
                f"add {options.user} to `rotate` of an entry for it",
                "rotation-not-declared",
            )
            return DatabaseSchedules(arn, refused=refusal)
        return DatabaseSchedules(arn, tuple(results))

    def _describe(self, arn: str) -> Database | None:
        try:
            return self._services.databases.describe(arn)
        except DatabaseNotFound:
            return None


class _DatabaseRun:
    """One run over the users of one database."""

    def __init__(self, services: RotationServices, arn: str, records: SecretRecords, options: ScheduleOptions) -> None:
        self._services = services
        self._arn = arn
        self._records = records
        self._options = options

    def apply(self, database: Database, users: Sequence[RotatingUser]) -> list[UserSchedule]:
        """Set the schedules of declared users; with `withdraw` only end rotations that are no longer declared."""
        if self._options.withdraw:
            for user in users:
                self._withdraw_outdated(database, user)
            return []
        rules = calendar.rules(database.resource_id, [(user.name, user.every, user.window) for user in users])
        selected = [user for user in users if self._options.user in (None, user.name)]
        return [self._apply_user(database, user, rules[user.name]) for user in selected]

    def leave(self, database: Database | None, user: str) -> UserSchedule:
        """Cancel the schedule of a user that is no longer declared, if rdsiam set it; the password stays.

        :param database: None if it is gone.
        """
        record = self._records.get(user)
        assert record is not None
        changes: list[Change] = []
        same = database is not None and database.resource_id == record.resource_id
        ended = replace(record, state="ended") if same and record.state in {"ready", "ending"} else None
        try:
            self._release(user, changes, ended)
        except RdsiamError as error:
            return self._refused(user, error)
        return self._done(user, record.arn, changes)

    # --- one declared user ---

    def _apply_user(self, database: Database, user: RotatingUser, rules: calendar.Rules) -> UserSchedule:
        changes: list[Change] = []
        try:
            self._withdraw_outdated(database, user)
            desired = DesiredSchedule(database, user, rules, checks.administrator_of(database, user))
            self._release_outdated(database, user, changes)
            record = self._usable_record(user.name)
            named = self._named_secret(database, user) if record is None else None
            if record is None and named is None and not self._is_being_created(user.name):
                if self._options.plan or not self._options.confirmed:
                    return self._without_secret(desired, changes)
                self._refuse_candidates(desired)
            return self._set_schedule(desired, named, changes)
        except RdsiamError as error:
            return self._refused(user.name, error, changes)

    def _set_schedule(self, desired: DesiredSchedule, named: str | None, changes: list[Change]) -> UserSchedule:
        """Set the schedule of the named secret, or of the recorded one, or of one that is created."""
        user, new = desired.user, self._new_secrets(desired)
        # A named secret is recorded once it has logged in; nothing acts on it before.
        record = self._records.get(user.name) if named is None else desired.record(named)
        if record is None or record.arn is None:
            if self._options.plan:
                return UserSchedule(user.name, None, "planned", changes=self._creation(desired))
            if record is None:
                new.statement(user)
            record = new.make(user, desired.administrator, record)
            changes.append(_created(name_of(desired.database, user)))
        secret = self._secret(desired, str(record.arn))
        checks.refuse_ineligible(self._services, desired, secret)
        if record.state == "initial":
            record, change = new.set_password(user, record, self._options.plan)
            changes += [change] if change else []
        if self._was_created_here(desired, secret) and record.state == "ready" and not self._options.plan:
            self._services.secrets.end_initial(secret.arn)
        self._record_and_schedule(desired, secret, changes)
        return self._done(user.name, secret.arn, changes)

    def _record_and_schedule(self, desired: DesiredSchedule, secret: SecretFacts, changes: list[Change]) -> None:
        user = desired.user.name
        record = desired.record(secret.arn)
        scheduled = _has_rules(secret, desired.rules) and self._services.secrets.rotates(secret)
        if not scheduled or self._records.get(user) != record:
            password_planned = self._options.plan and bool(changes)
            if not password_planned:
                checks.refuse_unusable(self._services, desired, secret, record)
            self._records.replace(user, record)
        if scheduled:
            return
        if not self._options.plan:
            self._schedule(desired, secret)
        changes.append(self._scheduled(secret.arn, desired.rules))

    def _schedule(self, desired: DesiredSchedule, secret: SecretFacts) -> None:
        try:
            self._services.secrets.schedule(secret.arn, desired.rules)
        except RotationUnfinished:
            raise checks.unfinished(secret.name, desired.database.identifier, desired.user.name) from None
        named = (desired.user.name, self._arn, desired.rules["ScheduleExpression"])
        logger.info("%s on %s rotates: %s", *named, extra={"user": desired.user.name})

    def _secret(self, desired: DesiredSchedule, arn: str) -> SecretFacts:
        secret = self._services.secrets.get(arn)
        if secret is None:
            create = commands.set_up(desired.database.identifier, desired.user.name, "--confirm")
            raise Refused(
                f"the secret {arn} is gone, scheduled for deletion, or can't be read",
                f"correct that, or name another one by `secret: ARN`; {create} creates one",
                "secret-missing",
            )
        return secret

    @staticmethod
    def _was_created_here(desired: DesiredSchedule, secret: SecretFacts) -> bool:
        return INITIAL in secret.tags and secret.name == name_of(desired.database, desired.user)

    # --- rotations that end ---

    def _withdraw_outdated(self, database: Database, user: RotatingUser) -> None:
        """Record that a user's rotation sets no password, unless access.yaml declares it as it is recorded."""
        record = self._records.get(user.name)
        if record is not None and not record.permits(database, user):
            self._records.withdraw(user.name)

    def _release_outdated(self, database: Database, user: RotatingUser, changes: list[Change]) -> None:
        """Release the record of an earlier database of the same name, or of another secret than the named one."""
        record = self._records.get(user.name)
        if record is None:
            return
        named = user.secret or (self._options.secret if self._options.confirmed else None)
        if record.resource_id != database.resource_id or (named is not None and named != record.arn):
            self._release(user.name, changes)

    def _release(self, user: str, changes: list[Change], successor: SecretRecord | None = None) -> None:
        """Cancel the rotation of a user's recorded secret, and replace its record; None removes it.

        :raises Refused: a rotation has begun and not ended; no rotation sets a password from now on all the same.
        """
        record = self._records.get(user)
        assert record is not None
        self._records.withdraw(user)
        secret = self._services.secrets.get(record.arn) if record.arn is not None else None
        # If the owner has removed the tag, the schedule is the owner's.
        if secret is not None and self._services.secrets.rotates(secret) and secret.tags.get(MANAGED) == "true":
            if secret.pending_version is not None:
                raise checks.unfinished(secret.name, Arn.parse(self._arn).name, user)
            command = f"aws secretsmanager cancel-rotate-secret --secret-id {shlex.quote(secret.arn)}"
            changes.append(Change("cancel-rotation", secret.arn, command))
            if not self._options.plan:
                self._services.secrets.cancel(secret.arn)
                logger.info("%s on %s no longer rotates", user, self._arn, extra={"user": user})
        self._records.replace(user, successor)

    # --- the secret of a user ---

    def _usable_record(self, user: str) -> SecretRecord | None:
        """Return the record if its secret may exist; with a confirmation the record of a missing secret is removed."""
        record = self._records.get(user)
        if record is None or record.arn is None:
            return None
        if record.state != "initial" and self._options.confirmed and self._services.secrets.get(record.arn) is None:
            self._records.replace(user, None)
            return None
        return record

    def _is_being_created(self, user: str) -> bool:
        """Tell whether an earlier, confirmed run has begun to create the user's secret."""
        record = self._records.get(user)
        return record is not None and record.state == "initial"

    def _named_secret(self, database: Database, user: RotatingUser) -> str | None:
        """Return the ARN of the existing secret that access.yaml or an operator names.

        :raises Refused: they name two different ones, or the operator does not confirm.
        """
        named = self._options.secret
        if user.secret is not None and named not in (None, user.secret):
            raise Refused(
                f"access.yaml names another secret for {user.name}: {user.secret}",
                "correct access.yaml, or leave --secret out",
                "secret-mismatch",
            )
        if user.secret is None and named is not None and not (self._options.confirmed or self._options.plan):
            raise Refused(
                f"{named} is used only with a confirmation",
                commands.set_up(database.identifier, user.name, "--secret", named, "--confirm"),
                "secret-not-named",
            )
        return user.secret or named

    def _candidates(self, desired: DesiredSchedule) -> tuple[SecretFacts, ...]:
        """Return the secrets whose values are for the user; anyone may write such a value."""
        if self._options.user is None and not self._options.confirmed:
            return ()  # it reads all secrets, which is too much for every database of every run
        return tuple(secret for secret in self._services.secrets.all() if desired.is_of(secret))

    def _refuse_candidates(self, desired: DesiredSchedule) -> None:
        """Refuse to create a secret while the values of others are for the user."""
        if candidates := self._candidates(desired):
            raise checks.ambiguous(desired.database.identifier, desired.user.name, candidates)

    def _without_secret(self, desired: DesiredSchedule, changes: list[Change]) -> UserSchedule:
        """Return the plan for a user without a secret, or the refusal to create one."""
        user, identifier = desired.user.name, desired.database.identifier
        if candidates := self._candidates(desired):
            refusal = Refusal.of(checks.ambiguous(identifier, user, candidates))
            arns = tuple(secret.arn for secret in candidates)
            return UserSchedule(user, None, "refused", tuple(changes), arns, refusal)
        planned = (*changes, *self._creation(desired))
        if self._options.confirmed:
            return UserSchedule(user, None, "planned", changes=planned)
        searched, skipped = self._options.user is not None, self._services.secrets.skipped
        refusal = Refusal.of(checks.without_secret(identifier, user, searched, skipped))
        shown = planned if self._options.plan else tuple(changes)
        return UserSchedule(user, None, "refused", shown, refusal=refusal)

    def _creation(self, desired: DesiredSchedule) -> tuple[Change, ...]:
        """Return the changes that create a secret and its schedule.

        :raises Refused: the password could not be set.
        """
        name = name_of(desired.database, desired.user)
        statement = self._new_secrets(desired).statement(desired.user)
        password = Change("set-password", desired.user.name, statement, reversible=False)
        return _created(name), password, self._scheduled(name, desired.rules)

    def _new_secrets(self, desired: DesiredSchedule) -> NewSecrets:
        user = desired.user.name
        return NewSecrets(self._services, desired.database, lambda record: self._records.replace(user, record))

    # --- results ---

    def _scheduled(self, secret: str, rules: calendar.Rules) -> Change:
        words = ("aws", "secretsmanager", "rotate-secret", "--secret-id", secret, "--rotation-lambda-arn",
                 self._services.secrets.function, "--rotation-rules", json.dumps(dict(rules)),
                 "--no-rotate-immediately")  # fmt: skip
        return Change("schedule-rotation", secret, shlex.join(words))

    def _done(self, user: str, arn: str | None, changes: list[Change]) -> UserSchedule:
        changed: ScheduleStatus = "planned" if self._options.plan else "written"
        return UserSchedule(user, arn, changed if changes else "unchanged", changes=tuple(changes))

    def _refused(self, user: str, error: RdsiamError, changes: Sequence[Change] = ()) -> UserSchedule:
        """Return the refusal of one user's secret; failures of Secrets Manager are raised.

        The owner of a secret can deny rdsiam any call by a policy: that concerns the owner's user alone.
        """
        if isinstance(error, SecretsManagerFailed) and not isinstance(error, SecretDenied):
            raise error
        logger.warning("rotation of %s on %s: %s", user, self._arn, error, extra={"user": user})
        record = self._records.get(user)
        arn = record.arn if record else None
        return UserSchedule(user, arn, "refused", tuple(changes), refusal=Refusal.of(error))


def _created(name: str) -> Change:
    return Change("create-secret", name, f"aws secretsmanager create-secret --name {shlex.quote(name)}")


def _has_rules(secret: SecretFacts, rules: calendar.Rules) -> bool:
    """Compare the rules that were set; AWS adds to its answers how many days they come to."""
    return all(secret.rotation_rules.get(name) == value for name, value in rules.items())
