"""The undo of a migration: the login first, then the secret, at last the successor if it is no longer declared."""

from dataclasses import replace

from rdsiam.core.changes import Change, Reason
from rdsiam.core.times import now_text
from rdsiam.errors import Refused
from rdsiam.migration.database_user import no_migration
from rdsiam.migration.results import NO_REASON, Removal, StepResult
from rdsiam.migration.secret_retirement import restored
from rdsiam.migration.steps import Migrating
from rdsiam.state.migrations import MigrationState


class Undoing(Migrating):
    """The steps of an undo, for one user. Each can be repeated."""

    def plan_undo(self) -> StepResult:
        """Return the changes that an undo would make; none, with the reason, if there is no migration."""
        migration = self._migration_of(self._services.databases.describe(self.arn))
        if migration is None:
            return StepResult(reason=no_migration(self.request.user, self.arn))
        try:
            changes = self._user.restore(migration.locked or (), apply=False)
            if not self.is_declared() and not self.in_place:
                changes += self._user.remove(apply=False, confirmed=self.request.confirm)
        except Refused as error:
            return StepResult.refused(error)
        changes += [restored(migration.secret)] if migration.secret else []
        return StepResult(tuple(changes))

    def take_over(self) -> bool:
        """Take the lease from any other execution, and return whether there is a migration to undo."""
        migration = self._migration_of(self._services.databases.describe(self.arn))
        if migration is None:
            return False
        self._services.migrations.save(self.arn, self._leased(migration))
        return True

    def restore(self) -> StepResult:
        """Let the user log in by its password again."""
        migration = self._own()
        try:
            changes = self._user.restore(migration.locked or (), apply=True)
        except Refused as error:
            return StepResult.refused(error)
        done = [change.statement for change in changes] or [f"{self.request.user} had its login"]
        state: MigrationState = "proven" if migration.reached("proven") else "paired"
        self._save(replace(migration.at(state, now_text(), ["undo", *done]), locked=None, watch=None))
        return StepResult(tuple(changes))

    def restore_secret(self) -> StepResult:
        """Restore the user's secret."""
        migration = self._own()
        if migration.secret is None:
            return StepResult()
        missing = self._services.secrets.restore(migration.secret)
        self._save(replace(migration, secret=None))
        return StepResult((restored(migration.secret),), incomplete=(missing,) if missing else ())

    def remove(self) -> Removal:
        """Remove the successor, unless access.yaml declares it; then the migration is removed from the inventory."""
        if self._recorded() is None:
            return Removal(kept=False)  # an earlier attempt of this step has done it
        migration = self._own()
        changes: list[Change] = []
        reason = NO_REASON
        declared, user = self.is_declared(), self.request.user
        if self.in_place:
            problem = f"access.yaml declares {user}, so the next onboarding ends its password again"
            reason = Reason(problem, f"take {user} out of access.yaml, and publish") if declared else NO_REASON
        elif declared:
            return Removal(
                True,
                Reason(
                    f"{user} logs in by its password. {self._successor} stays while access.yaml declares it",
                    f"switch its applications back to {user}, take it out of access.yaml, publish, and undo again",
                ),
            )
        else:
            try:
                changes = self._user.remove(apply=True, confirmed=self.request.confirm)
            except Refused as error:
                part = Reason.of(error).missing(self._successor)
                return Removal(True, Reason(code=error.code), incomplete=(part,))
        self._services.migrations.forget(self.arn, migration)
        return Removal(False, reason, tuple(changes))
