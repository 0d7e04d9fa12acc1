"""A migration continues in a new execution before the old one reaches the limit of Lambda.

Lambda ends an execution after 3,000 operations, of which each observation is one. A login lets the quiet period begin
anew, so no number of observations is enough for every migration. The old execution starts a new one, which takes the
migration over by the inventory's record: of two that were started, one continues, and an undo takes over from any.
"""

import json
import logging

from rdsiam.migration.results import Beginning
from rdsiam.migration.steps import Migrating
from rdsiam.state.migrations import Superseded

logger = logging.getLogger(__name__)

#: Observations, and what else an execution does, before a new one continues. Lambda permits 3,000 operations.
MOST_OPERATIONS = 2_500
#: Operations of one attempt to retire the user, with its repetitions and the watching before it.
OPERATIONS_OF_AN_ATTEMPT = 10
#: Attempts to take over while the old execution still writes.
_ATTEMPTS = 5


class Continuing(Migrating):
    """The work of an execution that continues the watching of another one."""

    def begin(self) -> Beginning:
        """Take the migration over from the execution that the request names; refused if that no longer has it."""
        arn, user = self.request.database, self.request.user
        for _ in range(_ATTEMPTS):
            migration = self._recorded()
            if migration is None or migration.execution not in {self.request.continues, self._execution}:
                return Beginning(arn, running=f"another execution has taken over the migration of {user} on {arn}")
            if migration.execution == self._execution:  # an earlier attempt of this step has done it
                break
            try:
                self._services.migrations.save(arn, self._leased(migration))
                break
            except Superseded as error:
                logger.info("the migration was written at the same time: %s", error)
        else:
            raise Superseded(f"the migration of {user} on {arn} is written by others all the time")
        return Beginning(arn, migration.successor)


def start_next(run: Migrating, execution: str) -> None:
    """Start the execution that continues this one. Idempotent: its name is made from this execution's.

    :param execution: name of this execution.
    :raises Superseded: another execution has taken over.
    """
    run.check_ownership()
    request, services = run.request, run.services
    payload = {"database": run.arn, "user": request.user, "watch": f"{request.watch}s", "continues": execution}
    services.functions.invoke(
        FunctionName=services.migrate_function,
        InvocationType="Event",
        DurableExecutionName=f"continue-{execution}",
        Payload=json.dumps(payload | ({"confirm": True} if request.confirm else {})).encode(),
    )
    logger.info("a new execution continues the migration of %s on %s", request.user, run.arn)
