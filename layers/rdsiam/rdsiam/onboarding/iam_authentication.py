"""IAM authentication of an instance or cluster: the switch, and the wait until RDS reports it as on."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aws_durable_execution_sdk_python.config import Duration
from aws_durable_execution_sdk_python.waits import WaitForConditionConfig, WaitForConditionDecision

from rdsiam.aws.rds import Database, Databases
from rdsiam.aws.rds_commands import modify_command
from rdsiam.core.changes import Change, Refusal
from rdsiam.errors import Refused

logger = logging.getLogger(__name__)

_MINUTES = 30
_LONG_PAUSE = 15
_SHORT_PAUSES = 5


@dataclass(frozen=True)
class Switched:
    """The result of switching IAM authentication on.

    :ivar refusal: why it is still off; None if it was switched on.
    """

    refusal: Refusal | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for a checkpoint."""
        return {"refusal": self.refusal.to_json() if self.refusal else None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Switched":
        """Return the result from which `to_json` made this JSON."""
        return cls(Refusal.from_json(data["refusal"]) if data["refusal"] else None)


class IamAuthentication:
    """IAM authentication of one database."""

    def __init__(self, databases: Databases, arn: str) -> None:
        self._databases = databases
        self._arn = arn

    def enable(self) -> Switched:
        """Switch it on, unless other changes are pending, which RDS would apply with it. Idempotent."""
        database = self._databases.describe(self._arn)
        if database.iam_enabled:
            return Switched()
        if pending := sorted(set(database.pending) - {"IAMDatabaseAuthenticationEnabled"}):
            return Switched(
                Refusal(
                    f"{database.identifier} has pending changes that would be applied at once and may reboot it: "
                    f"{', '.join(pending)}",
                    "wait for the maintenance window, or apply them in a quiet hour; then run this again",
                    "pending-modifications",
                )
            )
        try:
            self._databases.enable_iam(database)
        except Refused as error:
            return Switched(Refusal.of(error))
        logger.info("switched IAM authentication on for %s", self._arn)
        return Switched()

    def is_enabled(self) -> bool:
        """Return whether RDS reports it as on."""
        return self._databases.describe(self._arn).iam_enabled


def switch(database: Database) -> Change:
    """Return the change that switches IAM authentication on."""
    command = modify_command(database, "--enable-iam-database-authentication", "--apply-immediately")
    return Change("enable-iam-authentication", database.arn, command)


def _wait(enabled: bool, attempt: int) -> WaitForConditionDecision:
    if enabled:
        return WaitForConditionDecision.stop_polling()
    if attempt * _LONG_PAUSE > _MINUTES * 60:
        raise TimeoutError(f"IAM authentication was not on {_MINUTES} minutes after it was switched on")
    return WaitForConditionDecision.continue_waiting(
        Duration.from_seconds(1 if attempt < _SHORT_PAUSES else _LONG_PAUSE)
    )


#: Polls until RDS reports IAM authentication as on.
UNTIL_ENABLED = WaitForConditionConfig(wait_strategy=_wait, initial_state=False)
