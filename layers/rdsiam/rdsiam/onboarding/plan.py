"""The plan of an onboarding: the changes that a run would make, in its order."""

from collections.abc import Sequence
from dataclasses import replace

from aws_durable_execution_sdk_python import DurableContext

from rdsiam.core.changes import Change, MissingPart, Refusal
from rdsiam.core.durable import Steps
from rdsiam.errors import DatabaseNotReady
from rdsiam.onboarding.answer import Answer, Status
from rdsiam.onboarding.convergence import Convergence
from rdsiam.onboarding.database_users import Users
from rdsiam.onboarding.dependencies import OnboardingServices
from rdsiam.onboarding.inspection_results import Inspection
from rdsiam.onboarding.invocations import Outcome, Rotations
from rdsiam.onboarding.options import Options
from rdsiam.onboarding.privileges import Batches, Privileges
from rdsiam.onboarding.removal import DatabaseRemoval
from rdsiam.onboarding.server_removal import Removal
from rdsiam.onboarding.situation import Situation


class Planner:
    """Plans the onboarding of one database. Changes nothing."""

    def __init__(self, context: DurableContext, services: OnboardingServices, options: Options) -> None:
        self._context = context
        self._steps = Steps(context, services.results)
        self._services = services
        self._options = options

    def plan(self, situation: Situation) -> Answer:
        """Return the answer: `planned`, `unchanged`, or the reason why a run would stop."""
        inspection, arn = situation.inspection, situation.inspection.database
        if inspection.unready:
            return Answer(arn, "ignored", inspection.unready, DatabaseNotReady.code)
        if situation.policies.refusal:
            return Answer.refused(arn, situation.policies.refusal)
        users = self._compare_users(inspection)
        if users.refusal and not users.beyond_limit:
            return Answer.refused(arn, users.refusal)
        privileges = Privileges(self._services, arn, self._options, "a plan")
        batches = Batches(self._context, self._services.results, privileges, plan=True)
        batches.run(users)
        removal = self._compare_logins(arn, situation.departures.users)
        rotations = Outcome()
        if inspection.rotates:
            rotations = Rotations(self._context, self._services, arn).schedule(plan=True)
        changes = (*_in_order(situation, removal, [*users.changes, *batches.changes]), *rotations.changes)
        waiting = [part for part in (inspection.waiting, users.pending) if part]
        missing = [*waiting, *users.denied, *batches.missing]
        refusal = situation.departures.limit or users.refusal
        answer = replace(_answer(arn, refusal, missing, rotations, changes), schemas=tuple(batches.schemas))
        return (
            answer if answer.status == "refused" else answer.without((*answer.incomplete, *situation.policies.missing))
        )

    def _compare_users(self, inspection: Inspection) -> Convergence:
        users = Users(self._services, inspection.database, self._options)
        if not inspection.connects:
            return self._steps.run_typed("compare users", Convergence, users.declared)
        return self._steps.run_typed("compare users", Convergence, lambda: users.converge(apply=False))

    def _compare_logins(self, arn: str, leaving: Sequence[str]) -> tuple[Change, ...]:
        """Return the changes that remove the logins of these users."""
        if not leaving:
            return ()
        removal = DatabaseRemoval(self._services, arn)
        result = self._steps.run_typed("compare logins", Removal, lambda: removal.remove(leaving, apply=False))
        return result.changes


def _in_order(situation: Situation, removal: Sequence[Change], users: Sequence[Change]) -> tuple[Change, ...]:
    """Return changes in the order of a run, which withdraws policies first if users leave."""
    policies = situation.policies.changes
    switch = (situation.inspection.switch,) if situation.inspection.switch else ()
    if situation.departures.users:
        return (*policies, *removal, *switch, *_without_removed(users, removal))
    return (*switch, *users, *policies)


def _without_removed(users: Sequence[Change], removal: Sequence[Change]) -> list[Change]:
    """Return changes without those that the removal has made before: a removed user is not disabled once more."""
    removed = {change.target for change in removal}
    kinds = ("disable-user", "end-sessions", "disable-event")
    return [change for change in users if change.kind not in kinds or change.target not in removed]


def _answer(
    arn: str,
    limit: Refusal | None,
    missing: list[MissingPart],
    rotations: Outcome,
    changes: tuple[Change, ...],
) -> Answer:
    """Return the answer. A refused rotation is one of the parts not done if there are others."""
    refusal = limit or (None if missing else rotations.refusal)
    if refusal:
        return Answer.refused(arn, refusal, changes)
    if rotations.refusal:
        missing.append(rotations.refusal.missing(arn))
    status: Status = "planned" if changes else "unchanged"
    return Answer(arn, status, changes=changes).without(missing)
