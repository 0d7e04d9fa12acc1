"""OnboardFunction: onboards one database, revokes its users, or reconciles the whole fleet with access.yaml."""

import os
from functools import cache
from typing import Any

from aws_durable_execution_sdk_python import DurableContext, durable_execution

from rdsiam.access.store import AccessStore
from rdsiam.aws import clients
from rdsiam.aws.rds import Databases
from rdsiam.core.observability import logger
from rdsiam.engines.logins import Logins
from rdsiam.events import aliases
from rdsiam.events.aliases import check_alias
from rdsiam.events.onboard import LiftRequest, ReconcileRequest, RevokeRequest, onboard_request
from rdsiam.onboarding import flow, reconcile, revocation
from rdsiam.onboarding.dependencies import Services
from rdsiam.state.inventory import Inventory
from rdsiam.state.leases import Leases


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    """Onboard the database that the request names, or start the onboarding of all that differ."""
    request = onboard_request(event)
    if not context.is_replaying():
        check_alias(aliases.ONBOARD, context.lambda_context, event)
    if isinstance(request, ReconcileRequest):
        answer = reconcile.reconcile(context, _services(), request.plan, request.confirm)
        logger.info("reconcile ended", started=len(answer["started"]), unchanged=answer["unchanged"])
        return answer
    if isinstance(request, RevokeRequest):
        revoked = revocation.revoke(context, _services(), request.database, request.users, request.reason, request.plan)
        logger.info("revocation ended", database=request.database, status=revoked["status"], reason=revoked["reason"])
        return revoked
    if isinstance(request, LiftRequest):
        return revocation.lift(context, _services(), request.database, request.users, request.plan)
    answer = flow.onboard(
        context,
        _services(),
        request.database,
        request.plan,
        request.confirm,
        beyond_limit=request.beyond_limit,
    )
    logger.info("onboarding ended", database=request.database, status=answer["status"], reason=answer["reason"])
    return answer


@cache
def _services() -> Services:
    return Services(
        databases=Databases(clients.client("rds"), os.environ["RDSIAM_PROOF_ROLE"]),
        access=AccessStore(clients.client("s3"), os.environ["RDSIAM_ACCESS_BUCKET"], max_age=0),
        inventory=Inventory(clients.client("dynamodb"), os.environ["RDSIAM_INVENTORY_TABLE"]),
        leases=Leases(clients.client("dynamodb"), os.environ["RDSIAM_INVENTORY_TABLE"]),
        logins=Logins(clients.client("secretsmanager"), clients.client("sts"), os.environ["RDSIAM_PROOF_ROLE"]),
        events=clients.client("events"),
        functions=clients.client("lambda"),
        policy_function=os.environ["RDSIAM_POLICY_FUNCTION"],
        secrets_function=os.environ["RDSIAM_SECRETS_FUNCTION"],
        # Its own alias for this, which the template can't name in the function's own environment.
        onboard_function=f"{os.environ['AWS_LAMBDA_FUNCTION_NAME']}:reconcile",
    )
