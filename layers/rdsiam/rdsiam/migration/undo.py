"""The undo of a migration: the login first, then the secret, at last the successor if it is no longer declared."""

from dataclasses import replace

from rdsiam.core.changes import Change
from rdsiam.core.times import now_text
from rdsiam.errors import Refused
from rdsiam.migration.results import Removal, StepResult, as_json
from rdsiam.migration.steps import Migrating
from rdsiam.state.migrations import MigrationState, RetainedSecret


class Undoing(Migrating):
    """The steps of an undo, for one user. Each can be repeated."""

    def plan_undo(self) -> StepResult:
        """Return the changes that an undo would make."""
        migration = self._migration_of(self._services.databases.describe(self.arn))
        if migration is None:
            return StepResult()
        try:
            changes = self._user.restore(migration.locked or (), apply=False)
            if not self.is_declared() and not self.in_place:
                changes += self._user.remove(apply=False, confirmed=self.request.confirm)
        except Refused as error:
            return StepResult.refusal(error)
        changes += [_restored(migration.secret)] if migration.secret else []
        return StepResult(as_json(changes))

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
            return StepResult.refusal(error)
        done = [change.statement for change in changes] or [f"{self.request.user} had its login"]
        state: MigrationState = "proven" if migration.reached("proven") else "paired"
        self._save(replace(migration.at(state, now_text(), ["undo", *done]), locked=None, watch=None))
        return StepResult(as_json(changes))

    def restore_secret(self) -> StepResult:
        """Restore the user's secret."""
        migration = self._own()
        if migration.secret is None:
            return StepResult()
        left_to_do = self._services.secrets.restore(migration.secret)
        self._save(replace(migration, secret=None))
        return StepResult(as_json([_restored(migration.secret)]), left_to_do)

    def remove(self) -> Removal:
        """Remove the successor, unless access.yaml declares it; then the migration is removed from the inventory."""
        if self._recorded() is None:
            return Removal(kept=False)  # an earlier attempt of this step has done it
        migration = self._own()
        changes: list[Change] = []
        reason = ""
        declared = self.is_declared()
        if self.in_place:
            note = f"take {self.request.user} out of access.yaml: else the next onboarding takes its password again"
            reason = note if declared else ""
        elif declared:
            return Removal(
                True,
                f"{self.request.user} logs in by its password. {self._successor} stays while access.yaml declares it: "
                f"switch its applications back to {self.request.user}, take it out of access.yaml, publish, and undo "
                "again",
            )
        else:
            try:
                changes = self._user.remove(apply=True, confirmed=self.request.confirm)
            except Refused as error:
                return Removal(True, str(error))
        self._services.migrations.forget(self.arn, migration)
        return Removal(False, reason, as_json(changes))


def _restored(secret: RetainedSecret) -> Change:
    return Change("secret", secret.arn, f"aws secretsmanager restore-secret --secret-id {secret.arn}")
