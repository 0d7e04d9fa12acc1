"""An onboarding that changes things: removals first, then the database, its policies, its rotations, its record.

    record attributes → remove logins → switch IAM authentication on → make users → make privileges → write policies
                      → schedule rotations → prove logins → record → publish

Whatever stops a run, the users that leave have lost their logins before.
"""

import itertools
from dataclasses import replace

from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python.config import Duration

from rdsiam.core.changes import FOLLOW_REASON, Change, MissingPart, Refusal, Unreached
from rdsiam.core.durable import Steps
from rdsiam.errors import DatabaseNotReady
from rdsiam.onboarding.answer import Answer, Proofs
from rdsiam.onboarding.convergence import Convergence
from rdsiam.onboarding.database_users import Users
from rdsiam.onboarding.dependencies import OnboardingServices
from rdsiam.onboarding.iam_authentication import UNTIL_ENABLED, IamAuthentication, Switched
from rdsiam.onboarding.invocations import Outcome, Policies, PoliciesBusy, Rotations
from rdsiam.onboarding.leaving import ATTEMPTS, Leavers, Leaving
from rdsiam.onboarding.options import Options
from rdsiam.onboarding.privileges import Batches, Privileges
from rdsiam.onboarding.publication import Publication
from rdsiam.onboarding.recording import Recording
from rdsiam.onboarding.situation import Situation

_RETRIED = "see what the reason says; rdsiam tries again"
#: Seconds before each further attempt on what another session kept from being changed.
_PAUSES = (10, 30, 60)


class Application:
    """Applies access.yaml to one database, from the situation in which it was found."""

    def __init__(
        self, context: DurableContext, services: OnboardingServices, options: Options, situation: Situation
    ) -> None:
        self._context = context
        self._steps = Steps(context, services.results)
        self._inventory = services.inventory
        self._arn = arn = situation.inspection.database
        self._inspection = situation.inspection
        self._departures = situation.departures
        self._planned = situation.policies
        holder = context.execution_context.durable_execution_arn
        self._users = Users(services, arn, options, holder)
        self._batches = Batches(context, services.results, Privileges(services, arn, options, holder))
        self._iam = IamAuthentication(services.databases, arn)
        self._policies = Policies(context, services, arn)
        self._rotations = Rotations(context, services, arn)
        self._recording = Recording(services, arn, options)
        self._publication = Publication(services, arn)
        leavers = Leavers(self._departures.users, self._inspection.returned, self._inspection.version)
        self._leaving = Leaving(context, services, arn, leavers)
        self._attempts = ATTEMPTS
        self._converged = Convergence()
        self._changes: list[Change] = []
        self._missing: list[MissingPart] = []
        self._without_room: tuple[MissingPart, ...] = ()

    def apply(self) -> Answer:
        """Apply all of it, or as much as is possible."""
        if self._departures.limit:
            return Answer.refused(self._arn, self._departures.limit)
        confirmed = ""
        if self._inspection.unrecorded:
            confirmed = self._steps.run("record attributes", self._recording.attributes)
        self._remove()
        stages = (
            self._check,
            self._switch_iam_authentication_on,
            self._make_users,
            self._make_privileges,
            self._write_policies,
        )
        for stage in stages:
            if stopped := stage():
                return self._end(stopped)
        return self._end(self._finish(confirmed))

    def _remove(self) -> None:
        """Remove logins and rotations that are no longer declared, in whatever state the database is."""
        self._leaving.begin(policies=self._inspection.has_roles and not self._planned.unchanged)
        if self._inspection.outdated:
            try:
                self._changes += self._rotations.end().changes
            except Exception as error:
                self._missed(f"rotations could not be ended: {error}")

    def _check(self) -> Answer | None:
        """Stop if nothing can connect to the database, or its policies can't be written."""
        if self._inspection.unready:
            self._attempts = 0
            return Answer(self._arn, "ignored", self._inspection.unready, DatabaseNotReady.code)
        if self._planned.refusal:
            return Answer.refused(self._arn, self._planned.refusal)
        if self._planned.failure:
            return self._missed(self._planned.failure)
        return None

    def _switch_iam_authentication_on(self) -> Answer | None:
        switch = self._inspection.switch
        if switch is None:
            return None
        switched = self._steps.run_typed("switch IAM authentication on", Switched, self._iam.enable)
        if switched.refusal:
            return Answer.refused(self._arn, switched.refusal)
        self._changes.append(switch)
        self._context.wait_for_condition(
            lambda _, __: self._iam.is_enabled(), UNTIL_ENABLED, name="wait until IAM authentication is on"
        )
        return None

    def _make_users(self) -> Answer | None:
        """Make users and groups; only read the declaration if the database has no users of its own."""
        try:
            if self._inspection.connects:
                self._converge("make users")
                self._converge_again()
            else:
                self._converged = self._steps.run_typed("read the declaration", Convergence, self._users.declared)
        except Exception as error:
            return self._failed("users are not as declared", error)
        self._missing += self._converged.denied
        return self._refused(self._converged.refusal)

    def _converge(self, name: str) -> None:
        """Make users and groups, in as many steps as they need, each in an invocation of its own."""
        just_switched = self._inspection.switch is not None
        for number in itertools.count(1):
            self._converged = self._steps.run_typed(
                name if number == 1 else f"{name}, part {number}",
                Convergence,
                lambda: self._users.converge(apply=True, just_switched=just_switched),
            )
            self._changes += self._converged.changes
            if not self._converged.unfinished:
                return
            self._context.wait(Duration.from_seconds(1), name=f"pause after part {number}")

    def _converge_again(self) -> None:
        """Try again what failed for a reason that may pass, such as a lock that a backup held."""
        for number, pause in enumerate(_PAUSES, 1):
            if not self._converged.retry:
                break
            self._context.wait(Duration.from_seconds(pause), name=f"wait before attempt {number + 1}")
            self._converge(f"make users again {number}")

    def _make_privileges(self) -> Answer | None:
        """Make the privileges in each database of a PostgreSQL server."""
        try:
            self._batches.run(self._converged)
        except Exception as error:
            return self._failed("privileges are not as declared", error)
        finally:
            self._changes += self._batches.changes
        self._missing += self._batches.missing
        return None

    def _failed(self, problem: str, error: Exception) -> Answer:
        """Raise the error of a stage, or, if users leave, return the answer of a run that stops there.

        That answer has to name the logins that were removed, and the parts that were not reached.
        """
        if not self._departures.users:
            raise error
        self._attempts = 1
        return self._missed(f"{problem}: {error}")

    def _write_policies(self) -> Answer | None:
        if self._planned.unchanged and not self._inspection.renamed:
            self._without_room = self._planned.missing
            return None
        try:
            written = self._policies.write()
        except PoliciesBusy as error:
            return self._missed(str(error))
        self._changes += written.changes
        self._without_room = written.missing
        return self._refused(written.refusal)

    def _finish(self, confirmed: str) -> Answer:
        """Schedule rotations, prove logins, record the onboarding and publish it.

        :param confirmed: a remark on what this run confirms; empty if nothing waited.
        """
        self._notify_of_pending()
        rotations = self._rotations.schedule(plan=False) if self._inspection.rotates else Outcome()
        unchanged = self._inspection.finished and not (self._changes or self._leaving.changes)
        self._changes += rotations.changes
        proofs = Proofs()
        if not unchanged and self._inspection.connects:
            proofs = self._steps.run_typed("prove logins", Proofs, lambda: Proofs(self._users.prove()))
        waits = bool(self._without_room) or self._converged.retry
        waits = waits or any(part.retry for part in self._batches.missing)
        if waits or not (unchanged and self._inspection.current):
            self._record(resolved=rotations.refusal is None and not waits)
        if not unchanged:
            self._steps.run("publish the onboarding", self._publication.onboarded)
        if rotations.refusal:
            return replace(Answer.refused(self._arn, rotations.refusal), proofs=proofs.users)
        if unchanged:
            return Answer(self._arn, "onboarded" if rotations.changes else "unchanged")
        return Answer(self._arn, "onboarded", confirmed, proofs=proofs.users)

    def _notify_of_pending(self) -> None:
        if self._inspection.waiting:
            self._missing.append(self._inspection.waiting)
        waiting = self._converged.pending
        if waiting:
            self._missing.append(waiting)
        if waiting or self._inspection.pending:
            self._steps.run("publish what waits for confirmation", lambda: self._publication.pending(waiting))

    def _record(self, resolved: bool) -> None:
        applied = self._converged.applied
        if applied is None:
            raise AssertionError("a declaration without a refusal was applied")
        self._steps.run("record the onboarding", lambda: self._recording.onboarded(applied, resolved))

    def _refused(self, refusal: Refusal | None) -> Answer | None:
        return Answer.refused(self._arn, refusal) if refusal else None

    def _missed(self, reason: str) -> Answer:
        """Note a part that was not done, and return the answer of a run that stops there."""
        self._missing.append(Unreached(self._arn, reason, _RETRIED))
        return Answer(self._arn, "incomplete")

    def _end(self, answer: Answer) -> Answer:
        """Try once more to reach what the removal did not, and complete the answer.

        `refused` means that nothing was changed; after a change, the refused part is one that was not done.
        """
        applied = self._converged.applied
        self._leaving.end(self._attempts, applied.users if applied else ())
        changes = (*self._leaving.changes, *self._changes)
        missing = [*self._leaving.incomplete, *self._missing, *self._without_room]
        if answer.status == "refused" and (changes or missing):
            missing.append(MissingPart(self._arn, answer.reason, answer.remedy or FOLLOW_REASON, retry=False))
        return replace(answer, changes=changes).without(missing)
