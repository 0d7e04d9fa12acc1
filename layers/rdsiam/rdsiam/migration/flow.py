"""A migration: a user leaves its password behind, step by step, each step with its way back.

    declared? → paired → proven → watching (days without a login of the old user) → retired

Pairing is onboarding's, by what access.yaml declares (`replaces`); this starts it and goes on from there. Each line of
`migrate` is a checkpoint. What was reached is kept in the inventory, and only the execution that holds the migration's
lease writes there: of two at once one goes on, and an undo takes over from whoever is at work.
"""

import secrets
from collections.abc import Callable
from typing import Any

from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python.config import Duration
from aws_durable_execution_sdk_python.waits import WaitForConditionConfig, WaitForConditionDecision

from rdsiam.core.durable import Steps
from rdsiam.events.migrate import MigrateRequest
from rdsiam.migration.observation import pause
from rdsiam.migration.steps import Migrating, MigrationServices
from rdsiam.migration.undo import Undoing
from rdsiam.state.migrations import Superseded, counts

__all__ = ["MigrationServices", "migrate", "status"]

Step = Callable[[str, Callable[[], Any]], Any]


def migrate(context: DurableContext, services: MigrationServices, request: MigrateRequest) -> dict[str, Any]:
    """Migrate the user that the request names, say what that would change, or take it back.

    :return: the answer of MigrateFunction, see docs/payloads.md.
    :raises RdsiamError: an operational failure that did not go away; run it again.
    """

    steps = Steps(context)

    def step(name: str, work: Callable[[], Any]) -> Any:
        done = steps.run(name, lambda: _told(work))
        if "superseded" in done:
            raise Superseded(done["superseded"])
        return done["result"]

    execution = step("name the run", lambda: secrets.token_hex(8))
    run = Undoing(services, request, execution) if request.undo else Migrating(services, request, execution)
    begun = step("see what is declared", run.begin)
    if "refused" in begun:
        return run.answer("refused", begun["refused"])
    run.settle(begun)
    try:
        return _undo(run, step) if isinstance(run, Undoing) else _forward(context, services, run, begun, step)
    except Superseded as error:
        return run.answer("superseded", str(error))


def _told(work: Callable[[], Any]) -> dict[str, Any]:
    """Run a step. That another execution has taken over is a result of it: repeating it would change nothing."""
    try:
        return {"result": work()}
    except Superseded as error:
        return {"superseded": str(error)}


def _forward(
    context: DurableContext, services: MigrationServices, run: Migrating, begun: dict[str, Any], step: Step
) -> dict[str, Any]:
    """Go through all states that were not reached yet."""
    request = run.request
    if begun["running"] and not request.plan:
        return run.answer("running", begun["running"])
    if begun["over"] and not request.plan:
        return run.answer("unchanged", f"{request.user} is retired")
    if refused := step("see who it is", run.check):
        return run.answer("refused", refused)

    wishes: dict[str, Any] = {"database": run.arn}
    wishes |= {"plan": True} if request.plan else {}
    wishes |= {"beyond_limit": True} if request.confirm else {}  # a migration confirms no attributes
    paired: dict[str, Any] = context.invoke(services.onboard_function, wishes, name="have access.yaml followed")
    changes: list[Any] = paired["changes"]
    if paired["status"] not in {"onboarded", "unchanged", "planned"}:
        return run.answer("refused", "; ".join(filter(None, (paired["reason"], paired["remedy"]))), changes)
    if request.plan:
        later = step("plan the end", run.plan)
        return run.answer("refused" if later["refused"] else "planned", later["reason"], [*changes, *later["changes"]])
    if running := step("record the pairing", lambda: run.paired(changes)):
        return run.answer("running", running, changes)
    step("prove the login", run.prove)
    if not run.in_place:
        step("begin watching", run.begin_watching)
    ended = _end(context, run, step)
    reason, left = ended["reason"], []
    if ended["status"] == "retired":
        secret = step("retire the secret", run.retire_secret)
        changes, left = [*changes, *ended["changes"], *secret["changes"]], secret["left"]
        reason = f"not recorded, so left alone: {', '.join(left)}" if left else reason
    step("let go", run.let_go)
    return run.answer(ended["status"], reason, changes, left)


def status(services: MigrationServices, arn: str | None) -> dict[str, Any]:
    """Return how far all migrations have come, or those of one database: `states` counts users by state.

    Of the fleet without what was done for each state, which for many would be more than an answer holds.
    """
    found = services.migrations.all() if arn is None else [(arn, services.migrations.of(arn))]
    listed = [
        {"database": database, **migration.to_json()}
        for database, migrations in sorted(found)
        for migration in migrations.values()
    ]
    if arn is None:
        for one in listed:
            one["history"] = [{"state": reached["state"], "at": reached["at"]} for reached in one["history"]]
    return {"states": counts(one["state"] for one in listed), "migrations": listed}


def _end(context: DurableContext, run: Migrating, step: Step) -> dict[str, Any]:
    """Watch until nobody logged in for long enough, and retire the old user; in place there is nobody to watch."""
    number = 0
    while True:
        number += 1
        if not run.in_place:
            context.wait_for_condition(lambda seen, _: run.watch(seen["failed"]), _paced(run), name=f"watch {number}")
        ended: dict[str, Any] = step(f"retire {number}", run.retire)
        if not ended["again"]:
            return ended


def _paced(run: Migrating) -> WaitForConditionConfig[dict[str, Any]]:
    between = Duration.from_seconds(pause(run.request.watch))

    def wait(seen: dict[str, Any], _: int) -> WaitForConditionDecision:
        if seen["over"]:
            return WaitForConditionDecision.stop_polling()
        return WaitForConditionDecision.continue_waiting(between)

    return WaitForConditionConfig(wait_strategy=wait, initial_state={"over": False, "failed": 0})


def _undo(run: Undoing, step: Step) -> dict[str, Any]:
    """Undo in reverse order: the login, the secret, and the successor if it is no longer declared."""
    if run.request.plan:
        planned = step("plan the undo", run.plan_undo)
        return run.answer("refused" if planned["refused"] else "planned", planned["refused"], planned["changes"])
    if not step("take over", run.take_over):
        return run.answer("unchanged", f"there is no migration of {run.request.user}")
    login = step("give the login back", run.restore)
    if login["refused"]:
        step("let go", run.let_go)
        return run.answer("refused", login["refused"])
    secret = step("give the secret back", run.restore_secret)
    successor = step("remove the successor", run.remove)
    if successor["kept"]:
        step("let go", run.let_go)
    reason = "; ".join(part for part in (secret["reason"], successor["reason"]) if part)
    return run.answer("undone", reason, [*login["changes"], *secret["changes"], *successor["changes"]])
