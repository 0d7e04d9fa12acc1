"""Invocations of PolicyFunction and SecretsFunction, each a checkpoint of the durable execution."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python.config import Duration

from rdsiam.core.changes import Change, MissingPart, Refusal, changes_from_json, parts_from_json
from rdsiam.core.large_answers import LargeResults, whole
from rdsiam.errors import RdsiamError
from rdsiam.onboarding.dependencies import OnboardingServices
from rdsiam.onboarding.options import Options

#: Number of further attempts on policies that another run changes, and the longest pause before one, in seconds: an
#: hour and a half in all. A first onboarding of a large fleet writes the policies of the same roles, one by one.
_TURNS = 120
_LONGEST_PAUSE = 60


class PoliciesBusy(RdsiamError):
    """Other runs changed the policies of the same roles for an hour and a half."""

    code = "policies-busy"


@dataclass(frozen=True)
class Outcome:
    """The outcome of one invocation.

    :ivar unchanged: nothing has to be changed.
    :ivar reason: a remark; empty if there is none.
    :ivar refusal: None unless something was refused.
    :ivar failure: why the function failed; empty if it answered.
    :ivar missing: parts that were not done, or can't be done.
    :ivar busy: another run changes the same, so that this one has to try again, and says why.
    """

    unchanged: bool = True
    reason: str = ""
    changes: tuple[Change, ...] = ()
    refusal: Refusal | None = None
    failure: str = ""
    missing: tuple[MissingPart, ...] = ()
    busy: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any], results: LargeResults) -> "Outcome":
        """Return the outcome from a function's answer."""
        refusal = None
        if data["status"] == "refused":
            code = data["code"]
            refusal = Refusal(data["reason"], data["remedy"], code)
        return cls(
            data["status"] == "unchanged",
            data["reason"],
            changes_from_json(whole(data, "changes", results)),
            refusal,
            missing=parts_from_json(data.get("incomplete", ())),
            busy=data["reason"] if data["status"] == "busy" else "",
        )


class _Function:
    """A function of rdsiam, invoked for one database."""

    def __init__(self, context: DurableContext, results: LargeResults, function: str, arn: str) -> None:
        self._context = context
        self._results = results
        self._function = function
        self._arn = arn

    def _invoke(self, name: str, **request: Any) -> Outcome:
        answer: dict[str, Any] = self._context.invoke(self._function, {"database": self._arn, **request}, name=name)
        return Outcome.from_json(answer, self._results)


class Policies(_Function):
    """PolicyFunction, the only writer of IAM policies, for one database."""

    def __init__(self, context: DurableContext, services: OnboardingServices, arn: str) -> None:
        super().__init__(context, services.results, services.policy_function, arn)

    def plan(self, options: Options, tolerant: bool = False) -> Outcome:
        """Return the changes that the policies need.

        :param tolerant: return a failure instead of raising it: users leave, and that doesn't wait for this plan.
        """
        request: dict[str, Any] = {"plan": True} | ({"confirm": True} if options.confirmed else {})
        if options.assume_revoked is not None:
            request["assume_revoked"] = sorted(options.assume_revoked)
        try:
            return self._invoke("plan policies", **request)
        except Exception as error:
            if not tolerant:
                raise
            return Outcome(unchanged=False, failure=f"policies could not be planned: {error}")

    def write(self) -> Outcome:
        """Write the policies."""
        return self._invoke_in_turn("write policies")

    def withdraw(self, name: str) -> Outcome:
        """Withdraw logins that are revoked or no longer declared; give none. This doesn't wait if a role is busy.

        :param name: the name of this step.
        """
        return self._invoke(name, withdraw=True)

    def remove(self, plan: bool) -> Outcome:
        """Remove the policies of a database that is gone."""
        return self._invoke_in_turn("remove policies", plan=plan)

    def _invoke_in_turn(self, name: str, **request: Any) -> Outcome:
        """Invoke the function again until no other run changes policies of the same roles.

        :raises PoliciesBusy: that lasts for too long.
        """
        outcome = self._invoke(name, **request)
        for number in range(1, _TURNS + 1):
            if not outcome.busy:
                return outcome
            self._context.wait(Duration.from_seconds(_pause(self._arn, number)), name=f"wait to {name} {number}")
            outcome = self._invoke(f"{name} {number}", **request)
        if outcome.busy:
            raise PoliciesBusy(outcome.busy)
        return outcome


def _pause(arn: str, number: int) -> int:
    """Return the seconds before an attempt: longer each time, and different for each database, as many may wait."""
    longest = min(1 << number, _LONGEST_PAUSE)
    return longest // 2 + zlib.crc32(f"{arn} {number}".encode()) % (longest // 2 + 1)


class Rotations(_Function):
    """SecretsFunction, the only function that schedules rotations, for one database."""

    def __init__(self, context: DurableContext, services: OnboardingServices, arn: str) -> None:
        super().__init__(context, services.results, services.secrets_function, arn)

    def schedule(self, plan: bool) -> Outcome:
        """Schedule rotations as access.yaml declares them."""
        outcome = self._invoke("plan rotations" if plan else "schedule rotations", plan=plan)
        if outcome.refusal is None:
            return outcome
        refusal = replace(outcome.refusal, problem=f"rotation: {outcome.refusal.problem}")
        return replace(outcome, refusal=refusal)

    def end(self) -> Outcome:
        """End rotations that are no longer declared; schedule none."""
        return self._invoke("end rotations", withdraw=True)

    def cancel(self, plan: bool) -> Outcome:
        """Cancel the rotations of a database that is gone."""
        return self._invoke("cancel rotations", plan=plan)
