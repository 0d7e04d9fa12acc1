"""The flow of an audit: list the fleet → batches, several at a time → slow databases → policies → report → notify.

Each step of `audit` is a checkpoint, and all large data is in S3: a step returns a few numbers. A killed run continues
from its last checkpoint with the results that are stored. It ends with a report whatever happens to the databases;
without a list of them, or without a readable access.yaml, there is nothing to report on, and it fails.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python.concurrency.models import BatchResult
from aws_durable_execution_sdk_python.config import CompletionConfig, MapConfig, NestingType
from aws_durable_execution_sdk_python.exceptions import InvokeError, StepError

from rdsiam.audit.steps import AuditAnswer, AuditServices, AuditSteps, Begun
from rdsiam.core import log_keys
from rdsiam.core.batches import batched
from rdsiam.core.durable import Steps
from rdsiam.events.audit_batch import BatchRequest
from rdsiam.report.document import OnboardingLine

logger = logging.getLogger(__name__)

#: Batches whose drifted databases are onboarded by one step.
_BATCHES_AT_ONCE = 20
_ATTEMPTS = 4
_LONGEST_CAUSE = 500


def audit(
    context: DurableContext, services: AuditServices, databases: Sequence[str] | None, daily: bool = False
) -> AuditAnswer:
    """Audit the fleet, or the databases of these ARNs.

    :param daily: the schedule started it.
    :raises RdsiamError: there is nothing to report on.
    """
    steps = Steps(context, services.results, _ATTEMPTS)
    audit_steps = AuditSteps(services, databases, daily)
    begun = steps.run_typed("begin", Begun, audit_steps.begin)
    log_keys.add(audit=begun.id)
    batches = steps.run("list the fleet", lambda: audit_steps.list_fleet(begun))

    slow = _audit_batches(context, services, begun, range(batches))
    if any(slow):
        # After all others, since each of these may take its batch's place for a while.
        more = steps.run("list slow databases", lambda: audit_steps.list_slow(begun, slow))
        _audit_batches(context, services, begun, range(batches, batches + more), slow=True)
    policies_unreadable = None
    try:
        steps.run("evaluate policies", lambda: audit_steps.evaluate_policies(begun, batches))
    except StepError as error:
        policies_unreadable = f"{error.error_type}: {error.message}"[:_LONGEST_CAUSE]
    started: list[OnboardingLine] = []
    if databases is None:
        started = _start_onboardings(steps, audit_steps, begun, batches, policies_unreadable is None)
    answer = steps.run_typed(
        "report", AuditAnswer, lambda: audit_steps.report(begun, batches, policies_unreadable, started)
    )
    steps.run("notify", lambda: audit_steps.notify(begun))
    return replace(answer, onboardings=started)


def _start_onboardings(
    steps: Steps, audit_steps: AuditSteps, begun: Begun, batches: int, policies_readable: bool
) -> list[OnboardingLine]:
    """Start onboardings in steps that take a minute at most, however many databases have a drift; return them.

    The report, which lists them, doesn't depend on them: the next audit finds a drift that is left.
    """
    started: list[OnboardingLine] = []
    for part in batched(range(batches), _BATCHES_AT_ONCE):
        numbers = range(part[0], part[-1] + 1)
        try:
            started += steps.run(
                f"start onboardings from batch {numbers.start}",
                _starting(audit_steps, begun, numbers, policies_readable),
            )
        except StepError as error:
            logger.error("onboardings were not started: %s: %s", error.error_type, error.message)
    return started


def _starting(
    audit_steps: AuditSteps, begun: Begun, batches: range, policies_readable: bool
) -> Callable[[], list[OnboardingLine]]:
    return lambda: audit_steps.start_onboardings(begun, batches, policies_readable)


def _audit_batches(
    context: DurableContext, services: AuditServices, begun: Begun, numbers: Sequence[int], slow: bool = False
) -> list[int]:
    """Audit batches, several at a time; return how many slow databases each has left."""

    def one_batch(child: DurableContext, number: int, *_: Any) -> int:
        return _audit_batch(child, services.batch_function, BatchRequest(begun.id, number, slow))

    name = "audit slow databases" if slow else "audit batches"
    results: BatchResult[int] = context.map(numbers, one_batch, name=name, config=_map_config(services.at_once))
    slow_databases = {item.index: item.result or 0 for item in results.all}
    return [slow_databases.get(index, 0) for index in range(len(numbers))]


def _audit_batch(context: DurableContext, function: str, request: BatchRequest) -> int:
    """Invoke the audit of a batch, twice if it fails; the second call leaves databases with a result alone.

    :return: the number of slow databases that it left; 0 if it failed, since it may fail because of one of them.
    """
    for attempt in ("", " again"):
        try:
            result: dict[str, Any] = context.invoke(
                function, request.to_json(), name=f"audit batch {request.number}{attempt}"
            )
        except InvokeError as error:
            logger.warning("batch %d of %s failed%s: %s", request.number, request.audit, attempt, error)
        else:
            return int(result["slow"])
    return 0


def _map_config(at_once: int) -> MapConfig[int]:
    # A failed batch doesn't end the others, and one operation for each batch is enough to observe.
    return MapConfig(
        max_concurrency=at_once,
        completion_config=CompletionConfig(tolerated_failure_percentage=100),
        nesting_type=NestingType.FLAT,
    )
