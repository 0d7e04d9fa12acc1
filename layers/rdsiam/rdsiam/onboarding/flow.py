"""Onboarding: a database becomes what access.yaml declares, step by step, each step safe to repeat.

    resolve (inspect the database, plan its policies, read which users leave) → plan, or apply

Users that are no longer declared lose their logins first, whatever state the database is in:
`rdsiam.onboarding.leaving`. A replica has the users of its source and a proxy has none: for those, only policies are
written.

Steps are checkpoints: a run that is killed continues after the last one. No step takes or returns a secret; code that
needs one fetches it, uses it and drops it.
"""

from aws_durable_execution_sdk_python import DurableContext

from rdsiam.core import log_keys
from rdsiam.core.durable import Steps
from rdsiam.onboarding.answer import Answer
from rdsiam.onboarding.apply import Application
from rdsiam.onboarding.database_users import Users
from rdsiam.onboarding.dependencies import OnboardingServices
from rdsiam.onboarding.inspection import Inspector
from rdsiam.onboarding.inspection_results import Absent, Departures, Ignored, Inspection, inspected
from rdsiam.onboarding.invocations import Outcome, Policies, Rotations
from rdsiam.onboarding.options import DEFAULT_OPTIONS, Options
from rdsiam.onboarding.plan import Planner
from rdsiam.onboarding.recording import Recording
from rdsiam.onboarding.situation import Situation


def onboard(
    context: DurableContext, services: OnboardingServices, arn: str, options: Options = DEFAULT_OPTIONS
) -> Answer:
    """Make the database of that ARN passwordless, or plan it.

    :param arn: of an instance, a cluster or a proxy; for a cluster's writer the cluster is onboarded.
    :raises RdsiamError: an operational failure that repetition did not resolve; run it again.
    """
    answer = _onboard(context, services, arn, options)
    if options.drift and answer.is_final and not options.plan:
        handled = "" if answer.status == "onboarded" else options.drift
        steps = Steps(context, services.results)
        steps.run("record the drift", lambda: Recording(services, arn, options).handled(handled))
    return answer


def _onboard(context: DurableContext, services: OnboardingServices, arn: str, options: Options) -> Answer:
    inspector, steps = Inspector(services, arn, options), Steps(context, services.results)
    result = inspected(steps.run("describe the database", lambda: inspector.inspect().to_json()))
    if isinstance(result, Ignored):
        return _ignore(context, services, arn, result, options)
    if isinstance(result, Absent):
        return _clean_up(context, services, arn, result, options)
    log_keys.add(database=result.database)  # of a cluster's member, its cluster
    situation = _resolve(context, services, result, options)
    if options.plan:
        return Planner(context, services, options).plan(situation)
    return Application(context, services, options, situation).apply()


def _resolve(
    context: DurableContext, services: OnboardingServices, inspection: Inspection, options: Options
) -> Situation:
    """Plan policies, and ask the database which users leave if its record can't say it."""
    arn = inspection.database
    tolerant = bool(inspection.leaving) and not options.plan
    policies = Policies(context, services, arn).plan(options, tolerant)
    departures = Departures(inspection.leaving, inspection.limit)
    if inspection.uncertain and not inspection.limit:
        inspector, users = Inspector(services, arn, options), Users(services, arn, options)
        steps = Steps(context, services.results)
        departures = steps.run_typed("read which users leave", Departures, lambda: inspector.departures(users))
    return Situation(inspection, departures, policies)


def _ignore(
    context: DurableContext, services: OnboardingServices, arn: str, result: Ignored, options: Options
) -> Answer:
    """Leave a database alone; record the attributes of a new one."""
    if result.unrecorded and not options.plan:
        recording = Recording(services, arn, options)
        steps = Steps(context, services.results)
        steps.run("record attributes", lambda: recording.first_seen(result.fingerprint))
    return Answer(arn, "ignored", result.reason, result.code, result.remedy)


def _clean_up(
    context: DurableContext, services: OnboardingServices, arn: str, result: Absent, options: Options
) -> Answer:
    """Remove the policies, the rotations and the record of a database that is gone."""
    removed = Policies(context, services, arn).remove(options.plan)
    if removed.refusal:
        return Answer.refused(arn, removed.refusal)
    cancelled = Outcome()
    if result.rotates:
        cancelled = Rotations(context, services, arn).cancel(options.plan)
    if not options.plan:
        Steps(context, services.results).run("remove the record", Recording(services, arn, options).forget)
    return Answer(arn, "ignored", result.reason, result.code, changes=(*removed.changes, *cancelled.changes))
