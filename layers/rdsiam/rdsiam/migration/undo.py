"""The way back: the login first, then the secret, at last the successor if nobody declares it any more."""

from dataclasses import replace
from typing import Any

from rdsiam.core.changes import Change
from rdsiam.errors import Refused
from rdsiam.migration.steps import Migrating, as_json, stamp
from rdsiam.state.migrations import RetainedSecret, State


class Undoing(Migrating):
    """The steps of an undo, for one user. Each can be repeated."""

    def plan_undo(self) -> dict[str, Any]:
        """Return what an undo would change."""
        now = self._current(self._services.databases.describe(self.arn))
        if now is None:
            return {"refused": "", "changes": []}
        try:
            changes = self._user.restore(now.locked or (), apply=False)
            if not self.is_declared() and not self.in_place:
                changes += self._user.remove(apply=False, confirmed=self.request.confirm)
        except Refused as error:
            return {"refused": str(error), "changes": []}
        back = [_restored(now.secret)] if now.secret else []
        return {"refused": "", "changes": as_json([*changes, *back])}

    def take_over(self) -> bool:
        """Take the lease from whoever has it, and return whether there is anything to undo."""
        now = self._current(self._services.databases.describe(self.arn))
        if now is None:
            return False
        self._services.migrations.save(self.arn, self._leased(now))
        return True

    def restore(self) -> dict[str, Any]:
        """Give the old user its login back."""
        mine = self._mine()
        try:
            changes = self._user.restore(mine.locked or (), apply=True)
        except Refused as error:
            return {"refused": str(error), "changes": []}
        told = [one.statement for one in changes] or [f"{self.request.user} had its login"]
        state: State = "proven" if mine.reached("proven") else "paired"
        self._save(replace(mine.at(state, stamp(), ["undo", *told]), locked=None, watch=None))
        return {"refused": "", "changes": as_json(changes)}

    def restore_secret(self) -> dict[str, Any]:
        """Give the old user's secret back."""
        mine = self._mine()
        if mine.secret is None:
            return {"reason": "", "changes": []}
        left = self._services.secrets.restore(mine.secret)
        self._save(replace(mine, secret=None))
        return {"reason": left, "changes": as_json([_restored(mine.secret)])}

    def remove(self) -> dict[str, Any]:
        """Remove the successor, unless access.yaml declares it; then nothing of the migration is left.

        :return: `kept`, whether it is still there, `reason` why, and `changes`.
        """
        if self._kept() is None:
            return {"kept": False, "reason": "", "changes": []}  # it was done, and not yet known
        mine = self._mine()
        changes: list[Change] = []
        reason = ""
        declared = self.is_declared()
        if self.in_place:
            reason = f"take {self.request.user} out of access.yaml: who follows it next takes the password again"
            reason = reason if declared else ""
        elif declared:
            reason = (
                f"{self.request.user} logs in by its password. {self._successor} stays while access.yaml declares it: "
                "lead its applications back, take it out of access.yaml, publish, and undo again"
            )
            return {"kept": True, "reason": reason, "changes": []}
        else:
            try:
                changes = self._user.remove(apply=True, confirmed=self.request.confirm)
            except Refused as error:
                return {"kept": True, "reason": str(error), "changes": []}
        self._services.migrations.forget(self.arn, mine)
        return {"kept": False, "reason": reason, "changes": as_json(changes)}


def _restored(kept: RetainedSecret) -> Change:
    return Change("secret", kept.arn, f"aws secretsmanager restore-secret --secret-id {kept.arn}")
