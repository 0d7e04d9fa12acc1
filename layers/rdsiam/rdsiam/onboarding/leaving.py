"""Leaving: policies are withdrawn, sessions end and logins are locked, whatever state the database is in.

    written down → policies withdrawn → locked, sessions ended → again, until nothing is left

None of this waits for another run, for a database that fails, or for what refuses the rest of an onboarding. Users stay
written down as leaving until nothing of their logins is left, so that the next reconcile goes on with them.
See docs/decisions/0027-removing-first.md.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python.config import Duration

from rdsiam.core.arn import Arn, is_arn
from rdsiam.core.changes import Unreached
from rdsiam.core.durable import Steps
from rdsiam.onboarding.database_users import Users, fit
from rdsiam.onboarding.dependencies import Services
from rdsiam.onboarding.removal import Removal

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: Seconds before each further attempt on what was not reached.
_PAUSES = (0, 20, 60)
#: How often that is.
ATTEMPTS = len(_PAUSES)
_LONGEST_REASON = 500
_RUN_AGAIN = "see what the reason says; rdsiam tries again"


class Leaving:
    """The way out of one database, for these users.

    :param users: those whose logins are taken away; there may be none, if only policies change.
    :ivar changes: what was changed so far, in order, as answers have it.
    """

    def __init__(self, context: DurableContext, services: Services, arn: str, users: Sequence[str]) -> None:
        self._context = context
        self._step = Steps(context).run
        self._services = services
        self._arn = arn
        self._users = users
        self._database = Users(services, arn, holder=context.execution_context.durable_execution_arn)
        self._policies: tuple[Unreached, ...] = ()
        self._logins: tuple[Unreached, ...] = ()
        self.changes: list[dict[str, Any]] = []

    @property
    def incomplete(self) -> tuple[Unreached, ...]:
        """What was not reached yet."""
        return (*self._policies, *self._logins)

    def begin(self, policies: bool) -> None:
        """Withdraw policies, if they may have logins to withdraw, and lock the users."""
        if self._users:
            reasons = dict.fromkeys(self._users, "its removal has begun")
            self._step("record who leaves", lambda: self._services.inventory.set_leaving(self._arn, reasons))
        if policies:
            self._withdraw("withdraw policies")
        if self._users:
            self._lock("lock users", self._remove)

    def again(self) -> None:
        """Lock the users once more under the lease: another run may just have enabled what it read before."""
        if self._users:
            self._lock("lock users under the lease", self._remove_under_lease)

    def end(self, attempts: int = ATTEMPTS) -> None:
        """Try what was not reached again, and record what is left.

        :param attempts: how often; none if the database can't be reached in any case.
        """
        for number, pause in enumerate(_PAUSES[:attempts], 1):
            if not any(each.retry for each in self.incomplete):
                break
            if pause:
                self._context.wait(Duration.from_seconds(pause), name=f"wait {number}")
            if self._policies:
                self._withdraw(f"withdraw policies again {number}")
            if self._logins:
                self._lock(f"lock users again {number}", self._remove)
        if not self._users:
            return
        # Those of another region are that region's rdsiam to remove; here nothing would ever reach them.
        left = [each for each in self.incomplete if _region(each.what) in {"", _region(self._arn)}]
        if left:
            reason = "; ".join(dict.fromkeys(each.reason for each in left))[:_LONGEST_REASON]
            logger.warning("%s on %s can still log in: %s", ", ".join(self._users), self._arn, reason)
            reasons = dict.fromkeys(self._users, reason)
            self._step("record who is left", lambda: self._services.inventory.set_leaving(self._arn, reasons))
        else:
            self._step("record who has left", lambda: self._services.inventory.set_left(self._arn, self._users))

    def _withdraw(self, name: str) -> None:
        try:
            withdrawn: dict[str, Any] = self._context.invoke(
                self._services.policy_function, {"database": self._arn, "withdraw": True}, name=name
            )
        except Exception as error:  # its execution failed; the users are locked all the same
            reason = f"policies could not be withdrawn: {error}"
            self._policies = (Unreached(f"policies for {self._arn}", reason, _RUN_AGAIN),)
        else:
            self._policies = ()
            self.changes += withdrawn["changes"]

    def _lock(self, name: str, remove: Callable[[], dict[str, Any]]) -> None:
        try:
            removal = Removal.from_json(self._step(name, remove))
        except Exception as error:  # not of the database, which is in the result: of AWS, or the lease
            self._logins = (Unreached(self._arn, str(error), _RUN_AGAIN),)
        else:
            self._logins = removal.unreached
            self.changes += [change.to_json() for change in removal.changes]

    def _remove(self) -> dict[str, Any]:
        return _to_json(self._database.remove(self._users, apply=True))

    def _remove_under_lease(self) -> dict[str, Any]:
        return _to_json(self._database.remove_under_lease(self._users))


def _region(what: str) -> str:
    """Return the region of an ARN; empty of anything else."""
    return Arn.parse(what).region if is_arn(what) else ""


def _to_json(removal: Removal) -> dict[str, Any]:
    """Return a removal as a checkpoint can hold it."""
    return {**removal.to_json(), "changes": fit(removal.changes)}
