"""Invocations of PolicyFunction and SecretsFunction, each a checkpoint of the durable execution."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aws_durable_execution_sdk_python import DurableContext

from rdsiam.core.changes import Change, Refusal, changes_from_json
from rdsiam.core.large_answers import LargeResults, whole
from rdsiam.onboarding.dependencies import OnboardingServices
from rdsiam.onboarding.options import Options


@dataclass(frozen=True)
class Outcome:
    """The outcome of one invocation.

    :ivar unchanged: nothing has to be changed.
    :ivar reason: a remark; empty if there is none.
    :ivar refusal: None unless something was refused.
    :ivar failure: why the function failed; empty if it answered.
    """

    unchanged: bool = True
    reason: str = ""
    changes: tuple[Change, ...] = ()
    refusal: Refusal | None = None
    failure: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any], results: LargeResults) -> "Outcome":
        """Return the outcome from a function's answer."""
        refusal = None
        if data["status"] == "refused":
            code = data["code"]
            refusal = Refusal(data["reason"], data["remedy"], code)
        changes = changes_from_json(whole(data, "changes", results))
        return cls(data["status"] == "unchanged", data["reason"], changes, refusal)


class Policies:
    """PolicyFunction, the only writer of IAM policies, for one database."""

    def __init__(self, context: DurableContext, services: OnboardingServices, arn: str) -> None:
        self._context = context
        self._function = services.policy_function
        self._results = services.results
        self._arn = arn

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
        return self._invoke("write policies")

    def withdraw(self, name: str) -> Outcome:
        """Withdraw logins that are revoked or no longer declared; give none.

        :param name: the name of this step.
        """
        return self._invoke(name, withdraw=True)

    def remove(self, plan: bool) -> Outcome:
        """Remove the policies of a database that is gone."""
        return self._invoke("remove policies", plan=plan)

    def _invoke(self, name: str, **request: Any) -> Outcome:
        answer: dict[str, Any] = self._context.invoke(self._function, {"database": self._arn, **request}, name=name)
        return Outcome.from_json(answer, self._results)


class Rotations:
    """SecretsFunction, the only function that schedules rotations, for one database."""

    def __init__(self, context: DurableContext, services: OnboardingServices, arn: str) -> None:
        self._context = context
        self._function = services.secrets_function
        self._results = services.results
        self._arn = arn

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

    def _invoke(self, name: str, **request: Any) -> Outcome:
        answer: dict[str, Any] = self._context.invoke(self._function, {"database": self._arn, **request}, name=name)
        return Outcome.from_json(answer, self._results)
