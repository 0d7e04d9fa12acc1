"""OnboardFunction: onboards one database, revokes its users, or reconciles the whole fleet with access.yaml."""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_lambda_powertools.metrics import MetricUnit

from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.access.store import AccessStore
from rdsiam.aws import clients
from rdsiam.aws.rds import Databases
from rdsiam.aws.result_store import ResultStore
from rdsiam.aws.secrets.client import SecretsManager
from rdsiam.core import log_keys
from rdsiam.core.durable import answered, logs_execution
from rdsiam.core.observability import logger, metrics, name_metrics
from rdsiam.engines.logins import Logins
from rdsiam.errors import NeedsConfirmation
from rdsiam.events import aliases
from rdsiam.events.aliases import check_alias
from rdsiam.events.onboard import (
    LiftRequest,
    NoticeRequest,
    OnboardRequest,
    ReconcileRequest,
    RevokeRequest,
    onboard_request,
)
from rdsiam.onboarding import revocation
from rdsiam.onboarding.answer import Answer
from rdsiam.onboarding.dependencies import OnboardingServices
from rdsiam.onboarding.flow import onboard
from rdsiam.onboarding.notices import notice
from rdsiam.onboarding.options import Options
from rdsiam.onboarding.reconcile import Reconciled, reconcile
from rdsiam.state.applied_access import AppliedAccess
from rdsiam.state.inventory import Inventory
from rdsiam.state.leases import Leases

_ENDED: Mapping[type, str] = {
    OnboardRequest: "onboarding ended",
    RevokeRequest: "revocation ended",
    LiftRequest: "revocation lifted",
    NoticeRequest: "notice published",
}


@durable_execution
@logs_execution
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    """Onboard the database of the request, revoke its users, or start the onboarding of all that differ."""
    request = onboard_request(event)
    log_keys.add_request(request)
    if not context.is_replaying():
        check_alias(aliases.ONBOARD, context.lambda_context, event)
    if isinstance(request, ReconcileRequest):
        reconciled = _reconcile(context, request)
        logger.info("reconcile ended", started=len(reconciled.started), unchanged=reconciled.unchanged)
        return answered(context, _services().results, reconciled.to_json())
    answer = _answer(context, request)
    logger.info(
        _ENDED[type(request)],
        database=request.database,
        status=answer.status,
        code=answer.code,
        reason=answer.reason,
    )
    given = answered(context, _services().results, answer.to_json())
    if answer.status == "incomplete":
        metrics.add_metric("IncompleteOnboardings", MetricUnit.Count, 1)
        name_metrics()
        metrics.flush_metrics()
    return given


def _reconcile(context: DurableContext, request: ReconcileRequest) -> Reconciled:
    """Reconcile the fleet, and publish whether access.yaml waits for confirmation, which is an alarm."""
    try:
        reconciled = reconcile(context, _services(), Options(request.plan, request.confirm))
    except NeedsConfirmation:
        _measure_waiting(1)
        raise
    if not request.plan:  # a plan is made of a version that waits, too
        _measure_waiting(0)
    return reconciled


def _measure_waiting(versions: int) -> None:
    metrics.add_metric("AccessFileWaits", MetricUnit.Count, versions)
    name_metrics()
    metrics.flush_metrics()


def _answer(context: DurableContext, request: OnboardRequest | RevokeRequest | LiftRequest | NoticeRequest) -> Answer:
    services, arn = _services(), request.database
    if isinstance(request, RevokeRequest):
        return revocation.revoke(context, services, arn, request.users, request.reason, request.plan)
    if isinstance(request, LiftRequest):
        return revocation.lift(context, services, arn, request.users, request.plan)
    if isinstance(request, NoticeRequest):
        return notice(context, services, arn, request.notice)
    options = Options(request.plan, request.confirm, request.beyond_limit, drift=request.drift)
    return onboard(context, services, arn, options)


@cache
def _services() -> OnboardingServices:
    newest = AccessStore(clients.client("s3"), os.environ["RDSIAM_ACCESS_BUCKET"], max_age=0)
    applied = AppliedAccess(clients.client("dynamodb"), os.environ["RDSIAM_INVENTORY_TABLE"])
    return OnboardingServices(
        databases=Databases(clients.client("rds"), os.environ["RDSIAM_PROOF_ROLE"]),
        access=ConfirmedAccess(newest, applied.version, max_age=0),
        newest=newest,
        applied=applied,
        inventory=Inventory(clients.client("dynamodb"), os.environ["RDSIAM_INVENTORY_TABLE"]),
        leases=Leases(clients.client("dynamodb"), os.environ["RDSIAM_INVENTORY_TABLE"]),
        logins=Logins(
            SecretsManager(clients.client("secretsmanager")), clients.client("sts"), os.environ["RDSIAM_PROOF_ROLE"]
        ),
        results=ResultStore(clients.client("s3"), os.environ["RDSIAM_RESULT_BUCKET"], "Onboard"),
        events=clients.client("events"),
        functions=clients.client("lambda"),
        policy_function=os.environ["RDSIAM_POLICY_FUNCTION"],
        secrets_function=os.environ["RDSIAM_SECRETS_FUNCTION"],
        connect_role_shards=int(os.environ["RDSIAM_CONNECT_ROLE_SHARDS"]),
        # Its own alias for this, which the template can't name in the function's own environment.
        onboard_function=f"{os.environ['AWS_LAMBDA_FUNCTION_NAME']}:reconcile",
    )
