"""A migration: a user moves from its password to tokens in steps, each of which can be undone.

    declared? → paired → proven → watching (a period without a login of the user) → retired

Onboarding creates the successor that access.yaml declares (`replaces`); the migration starts it and continues from
there. Each named step is a checkpoint. The inventory keeps the state, and only the execution that holds the migration's
lease writes it: of two executions at the same time one continues, and an undo takes over from any other execution.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python.config import Duration
from aws_durable_execution_sdk_python.waits import WaitForConditionConfig, WaitForConditionDecision

from rdsiam.core.changes import Reason, changes_from_json, parts_from_json
from rdsiam.core.durable import R, Steps
from rdsiam.core.large_answers import LargeResults, whole
from rdsiam.events.migrate import MigrateRequest
from rdsiam.migration.continuation import MOST_OPERATIONS, OPERATIONS_OF_AN_ATTEMPT, Continuing, start_next
from rdsiam.migration.database_user import no_migration
from rdsiam.migration.observation import pause
from rdsiam.migration.results import (
    NO_REASON,
    Beginning,
    Changes,
    MigrationAnswer,
    MigrationStatus,
    MissingParts,
    Removal,
    Retirement,
    StepResult,
    Watched,
)
from rdsiam.migration.services import MigrationServices
from rdsiam.migration.steps import Migrating
from rdsiam.migration.undo import Undoing
from rdsiam.state.migrations import Superseded, counts


class MigrationSteps:
    """Durable steps. If another execution has taken over, that is a step's result, as repeating it would not help."""

    def __init__(self, context: DurableContext, results: LargeResults) -> None:
        self._steps = Steps(context, results)

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """Run a step whose result is plain JSON.

        :raises Superseded: another execution has taken over the migration.
        """

        def attempt() -> dict[str, Any]:
            try:
                return {"superseded": "", "result": work()}
            except Superseded as error:
                return {"superseded": str(error), "result": None}

        outcome = self._steps.run(name, attempt)
        if outcome["superseded"]:
            raise Superseded(outcome["superseded"])
        return outcome["result"]

    def run_typed(self, name: str, kind: type[R], work: Callable[[], R]) -> R:
        """Run a step whose result is of a class with `to_json` and `from_json`."""
        return kind.from_json(self.run(name, lambda: work().to_json()))


def migrate(context: DurableContext, services: MigrationServices, request: MigrateRequest) -> MigrationAnswer:
    """Migrate the user that the request names, plan that, or undo it.

    :raises RdsiamError: an operational failure that did not pass; run it again.
    """
    steps = MigrationSteps(context, services.results)
    execution = steps.run("name the execution", lambda: secrets.token_hex(8))
    run = _run(services, request, execution)
    beginning = steps.run_typed("read what is declared", Beginning, run.begin)
    if beginning.refusal:
        return run.answer("refused", beginning.refusal)
    run.continue_from(beginning)
    try:
        if isinstance(run, Undoing):
            return _undo(run, steps)
        if not request.plan and (beginning.running or beginning.retired):
            return _nothing_to_do(run, beginning)
        if isinstance(run, Continuing):
            return _watch(context, run, steps, execution, ())
        return _forward(context, services, run, steps, execution)
    except Superseded as error:
        return run.answer("superseded", Reason.of(error))


def _run(services: MigrationServices, request: MigrateRequest, execution: str) -> Migrating:
    if request.undo:
        return Undoing(services, request, execution)
    return (Continuing if request.continues else Migrating)(services, request, execution)


def _nothing_to_do(run: Migrating, beginning: Beginning) -> MigrationAnswer:
    if beginning.running:
        return run.answer("running", Reason(beginning.running))
    return run.answer("unchanged", Reason(f"{run.request.user} is retired"))


def _forward(
    context: DurableContext, services: MigrationServices, run: Migrating, steps: MigrationSteps, execution: str
) -> MigrationAnswer:
    """Go through all states that are not reached yet."""
    request = run.request
    checked = steps.run_typed("check the user", StepResult, run.check)
    if checked.refusal:
        return run.answer("refused", checked.refusal)

    options: dict[str, Any] = {"database": run.arn}
    options |= {"plan": True} if request.plan else {}
    options |= {"beyond_limit": True} if request.confirm else {}  # a migration confirms no attributes
    paired: dict[str, Any] = context.invoke(services.onboard_function, options, name="onboard the database")
    changes = changes_from_json(whole(paired, "changes", services.results))
    incomplete = parts_from_json(whole(paired, "incomplete", services.results))
    if paired["status"] not in {"onboarded", "unchanged", "planned"}:
        reason = Reason(paired["reason"], paired["remedy"], paired["code"])
        return run.answer("incomplete" if paired["status"] == "incomplete" else "refused", reason, changes, incomplete)
    if request.plan:
        planned = steps.run_typed("plan the retirement", StepResult, run.plan)
        return _planned(run, planned, changes, incomplete)
    pairing = steps.run_typed("record the pairing", StepResult, lambda: run.record_pairing(changes))
    if pairing.refusal:
        return run.answer("running", pairing.refusal, changes)
    steps.run("prove the login", run.prove)
    if not run.in_place:
        steps.run("begin watching", run.begin_watching)
    return _watch(context, run, steps, execution, changes)


def _planned(
    run: Migrating, planned: StepResult, changes: Changes = (), incomplete: MissingParts = ()
) -> MigrationAnswer:
    """Return the answer of a plan.

    :param changes: of the onboarding that comes first.
    :param incomplete: the parts that this onboarding would not do.
    """
    status: MigrationStatus = "refused" if planned.refusal else "planned"
    reason = planned.refusal or planned.reason
    return run.answer(status, reason, (*changes, *planned.changes), (*incomplete, *planned.incomplete))


def _watch(
    context: DurableContext, run: Migrating, steps: MigrationSteps, execution: str, changes: Changes
) -> MigrationAnswer:
    """Watch the user, and retire it and its secret; or let a new execution continue with the watching."""
    retirement = _watch_and_retire(context, run, steps)
    if retirement is None:
        steps.run("continue in a new execution", lambda: start_next(run, execution))
        return run.answer("running", Reason("a new execution continues with the watching"), changes)
    changes = (*changes, *retirement.changes)
    secret = StepResult()
    if retirement.status == "retired":
        secret = steps.run_typed("retire the secret", StepResult, run.retire_secret)
    steps.run("release the lease", run.release_lease)
    return run.answer(retirement.status, retirement.reason, (*changes, *secret.changes), secret.incomplete)


def status(services: MigrationServices, arn: str | None) -> dict[str, Any]:
    """Return the migrations of the fleet, or of one database; `states` counts them by state.

    For the fleet the history has no changes, which for many users would exceed the size of an answer.
    """
    by_database = services.migrations.all() if arn is None else [(arn, services.migrations.of(arn))]
    listed = [
        {"database": database, **migration.to_json()}
        for database, migrations in sorted(by_database)
        for migration in migrations.values()
    ]
    if arn is None:
        for migration in listed:
            migration["history"] = [{"state": entry["state"], "at": entry["at"]} for entry in migration["history"]]
    return {"states": counts(migration["state"] for migration in listed), "migrations": listed}


def _watch_and_retire(context: DurableContext, run: Migrating, steps: MigrationSteps) -> Retirement | None:
    """Watch until nobody has logged in for long enough, and retire the user; in place there is nobody to watch.

    Return None if the execution has made nearly as many operations as Lambda permits.
    """
    number = operations = 0
    while True:
        number += 1
        if not run.in_place:
            result: dict[str, Any] = context.wait_for_condition(
                lambda watched, _: _observe(run, Watched.from_json(watched)).to_json(),
                _paced(run, operations),
                name=f"watch {number}",
            )
            watched = Watched.from_json(result)
            if not watched.over:
                return None
            operations = watched.operations
        retirement = steps.run_typed(f"retire {number}", Retirement, run.retire)
        if not retirement.watch_again:
            return retirement
        operations += OPERATIONS_OF_AN_ATTEMPT


def _observe(run: Migrating, watched: Watched) -> Watched:
    return replace(run.observe(watched.failures), operations=watched.operations + 1)


def _paced(run: Migrating, operations: int) -> WaitForConditionConfig[dict[str, Any]]:
    between = Duration.from_seconds(pause(run.request.watch))

    def wait(result: dict[str, Any], _: int) -> WaitForConditionDecision:
        watched = Watched.from_json(result)
        if watched.over or watched.operations >= MOST_OPERATIONS:
            return WaitForConditionDecision.stop_polling()
        return WaitForConditionDecision.continue_waiting(between)

    return WaitForConditionConfig(wait_strategy=wait, initial_state=Watched(operations=operations).to_json())


def _undo(run: Undoing, steps: MigrationSteps) -> MigrationAnswer:
    """Undo in reverse order: the login, the secret, and the successor if it is no longer declared."""
    if run.request.plan:
        planned = steps.run_typed("plan the undo", StepResult, run.plan_undo)
        if planned.reason != NO_REASON:
            return run.answer("unchanged", planned.reason)
        return _planned(run, planned)
    if not steps.run("take over", run.take_over):
        return run.answer("unchanged", no_migration(run.request.user, run.arn))
    login = steps.run_typed("restore the login", StepResult, run.restore)
    if login.refusal:
        steps.run("release the lease", run.release_lease)
        return run.answer("refused", login.refusal)
    secret = steps.run_typed("restore the secret", StepResult, run.restore_secret)
    removal = steps.run_typed("remove the successor", Removal, run.remove)
    if removal.kept:
        steps.run("release the lease", run.release_lease)
    changes = (*login.changes, *secret.changes, *removal.changes)
    return run.answer("undone", removal.reason, changes, (*secret.incomplete, *removal.incomplete))
