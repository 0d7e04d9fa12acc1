"""Users that leave: their policies are withdrawn, their sessions end, their logins are locked, whatever else happens.

    recorded → policies withdrawn → locked, sessions ended → again, until nothing is left

None of this waits for another run, for a database that fails, or for whatever refuses the rest of an onboarding. Users
stay recorded as leaving until nothing of their logins is left, so that the next reconcile continues. Each step asks
access.yaml once more: a user that is declared again meanwhile keeps its login, which another run may have given back.
See docs/decisions/0027-removing-first.md.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python.config import Duration

from rdsiam.core.arn import Arn, is_arn
from rdsiam.core.changes import Change, Unreached, summarize
from rdsiam.core.durable import Steps
from rdsiam.onboarding.dependencies import OnboardingServices
from rdsiam.onboarding.inspection import Inspector
from rdsiam.onboarding.invocations import Policies
from rdsiam.onboarding.options import DEFAULT_OPTIONS
from rdsiam.onboarding.removal import DatabaseRemoval
from rdsiam.onboarding.server_removal import Removal
from rdsiam.state.record import RETURNED

logger = logging.getLogger(__name__)

#: Seconds before each further attempt on what was not reached.
_PAUSES = (0, 20, 60)
#: Number of further attempts.
ATTEMPTS = len(_PAUSES)
_LONGEST_REASON = 500
_RETRIED = "see what the reason says; rdsiam tries again"


@dataclass(frozen=True)
class Leavers:
    """The users that a run takes logins from.

    :ivar users: users that leave; there may be none, if only policies change.
    :ivar returned: users that were leaving, and are declared again.
    :ivar version: of the access.yaml that was recorded when the run began; None if none was.
    """

    users: Sequence[str]
    returned: Sequence[str] = ()
    version: str | None = None


class Leaving:
    """The removal of logins from one database, as steps of a durable execution.

    :ivar changes: the changes so far, in order.
    """

    def __init__(self, context: DurableContext, services: OnboardingServices, arn: str, leavers: Leavers) -> None:
        self._context = context
        self._steps = Steps(context, services.results)
        self._inventory = services.inventory
        self._arn = arn
        self._users = leavers.users
        self._returned = leavers.returned
        self._version = leavers.version
        self._inspector = Inspector(services, arn, DEFAULT_OPTIONS)
        self._policies = Policies(context, services, arn)
        self._removal = DatabaseRemoval(services, arn, context.execution_context.durable_execution_arn)
        self._policies_left: tuple[Unreached, ...] = ()
        self._logins_left: tuple[Unreached, ...] = ()
        self.changes: list[Change] = []

    @property
    def incomplete(self) -> tuple[Unreached, ...]:
        """The parts that were not reached yet."""
        return (*self._policies_left, *self._logins_left)

    def begin(self, policies: bool) -> None:
        """Withdraw policies, if they may have logins to withdraw, and lock the users."""
        if self._users:
            self._steps.run("record users that leave", self._record_begin)
        if self._returned:
            reasons = dict.fromkeys(self._returned, RETURNED)
            self._steps.run("record users that return", lambda: self._inventory.set_leaving(self._arn, reasons))
        if policies:
            self._withdraw("withdraw policies")
        if self._users:
            self._lock("lock users", self._remove)

    def again(self) -> None:
        """Lock the users once more under the lease: another run may have enabled them from what it had read before."""
        if self._users:
            self._lock("lock users under the lease", self._remove_under_lease)

    def end(self, attempts: int = ATTEMPTS, enabled: Collection[str] = ()) -> None:
        """Try what was not reached again, and record the result.

        :param attempts: number of attempts; 0 if the database can't be reached in any case.
        :param enabled: users that the run has enabled since.
        """
        for number, pause in enumerate(_PAUSES[:attempts], 1):
            if not any(part.retry for part in self.incomplete):
                break
            if pause:
                self._context.wait(Duration.from_seconds(pause), name=f"wait {number}")
            if self._policies_left:
                self._withdraw(f"withdraw policies again {number}")
            if self._logins_left:
                self._lock(f"lock users again {number}", self._remove)
        if self._users or self._returned:
            self._steps.run("record users that left", lambda: self._record(enabled))

    def _record_begin(self) -> None:
        users = self._still_leaving()
        self._inventory.set_leaving(self._arn, dict.fromkeys(users, "its removal has begun"))

    def _record(self, enabled: Collection[str]) -> None:
        """Record the users that left, those that can still log in, and those that are declared again."""
        users = self._still_leaving()
        # The rdsiam of another region removes logins there; no run in this region would ever reach them.
        left = [part for part in self.incomplete if _region(part.what) in {"", _region(self._arn)}]
        if left and users:
            reason = summarize(left, self._arn)[:_LONGEST_REASON]
            names = ", ".join(users)
            logger.warning("%s on %s can still log in: %s", names, self._arn, reason, extra={"user": names})
            self._inventory.set_leaving(self._arn, dict.fromkeys(users, reason))
        elif users:
            self._inventory.set_left(self._arn, users, self._version)
        returned = {*self._users, *self._returned} - set(users)
        self._inventory.set_returned(self._arn, sorted(returned.intersection(enabled)))
        if locked := sorted(returned.difference(enabled)):
            # This run may have locked them: the next reconcile starts the run that enables them.
            self._inventory.set_leaving(self._arn, dict.fromkeys(locked, RETURNED))

    def _still_leaving(self) -> list[str]:
        """Return the users that leave and are not declared again."""
        if not self._users:
            return []
        effective = self._inspector.effective()
        if returned := sorted(effective.intersection(self._users)):
            names = ", ".join(returned)
            logger.info("declared again on %s: %s", self._arn, names, extra={"user": names})
        return [user for user in self._users if user not in effective]

    def _withdraw(self, name: str) -> None:
        try:
            withdrawn = self._policies.withdraw(name)
        except Exception as error:  # its execution failed; the users are locked all the same
            reason = f"policies could not be withdrawn: {error}"
            self._policies_left = (Unreached(f"policies for {self._arn}", reason, _RETRIED),)
        else:
            busy = f"policies are not withdrawn yet: {withdrawn.busy}"
            self._policies_left = (Unreached(f"policies for {self._arn}", busy, _RETRIED),) if withdrawn.busy else ()
            self.changes += withdrawn.changes

    def _lock(self, name: str, remove: Callable[[], Removal]) -> None:
        try:
            removal = self._steps.run_typed(name, Removal, remove)
        except Exception as error:  # of AWS, or of the lease; an error of the database is part of the result
            self._logins_left = (Unreached(self._arn, str(error), _RETRIED),)
        else:
            self._logins_left = removal.unreached
            self.changes += removal.changes

    def _remove(self) -> Removal:
        users = self._still_leaving()
        return self._removal.remove(users, apply=True) if users else Removal()

    def _remove_under_lease(self) -> Removal:
        return self._removal.remove_under_lease(self._still_leaving)


def _region(what: str) -> str:
    """Return the region of an ARN; empty for anything else."""
    return Arn.parse(what).region if is_arn(what) else ""
