"""AuditFunction: audits the fleet, or remediates findings of the last audit."""

import os
from functools import cache
from typing import Any

from aws_durable_execution_sdk_python import DurableContext, durable_execution

from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.access.store import AccessStore
from rdsiam.audit import flow
from rdsiam.audit.deployment import Deployment
from rdsiam.audit.notify import Notifier
from rdsiam.audit.remediate import RemediationServices, remediate
from rdsiam.audit.steps import AuditServices
from rdsiam.audit.store import AuditStore
from rdsiam.aws import clients
from rdsiam.aws.rds import Databases
from rdsiam.aws.result_store import ResultStore
from rdsiam.aws.secrets.client import SecretsManager
from rdsiam.aws.secrets.metadata import Secrets
from rdsiam.core.arn import Arn
from rdsiam.core.connect_roles import connect_roles
from rdsiam.core.durable import answered, logs_execution
from rdsiam.core.observability import logger
from rdsiam.events import aliases
from rdsiam.events.aliases import check_alias
from rdsiam.events.audit import audit_request
from rdsiam.state.applied_access import AppliedAccess


@durable_execution
@logs_execution
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    """Audit the fleet, or the databases that the request names; or remediate findings of the last audit."""
    request = audit_request(event)
    if not context.is_replaying():
        check_alias(aliases.AUDIT, context.lambda_context, event)
    if request.remediate:
        services = RemediationServices(_services().store, _services().results, os.environ["RDSIAM_ONBOARD_FUNCTION"])
        remediated = remediate(context, services, request.remediate, request.plan, request.confirm)
        return answered(context, services.results, remediated)
    daily = aliases.is_invoked_by("events", context.lambda_context)
    answer = flow.audit(context, _services(), request.databases, daily)
    logger.info("audit ended", audit=answer.id, databases=answer.databases, audited=answer.audited)
    return answered(context, _services().results, answer.to_json())


@cache
def _services() -> AuditServices:
    topic = os.environ["RDSIAM_AUDIT_TOPIC"]
    place = Arn.parse(topic)  # of the stack
    security_hub = clients.client("securityhub") if os.environ["RDSIAM_SECURITY_HUB"] == "on" else None
    applied = AppliedAccess(clients.client("dynamodb"), os.environ["RDSIAM_INVENTORY_TABLE"])
    newest = AccessStore(clients.client("s3"), os.environ["RDSIAM_ACCESS_BUCKET"], max_age=0)
    return AuditServices(
        databases=Databases(clients.client("rds"), topic),
        access=ConfirmedAccess(newest, applied.version, max_age=0),
        functions=clients.client("lambda"),
        onboard_function=os.environ["RDSIAM_ONBOARD_FUNCTION"],
        store=AuditStore(clients.client("s3"), os.environ["RDSIAM_REPORT_BUCKET"]),
        notifier=Notifier(clients.client("events"), clients.client("sns"), topic, security_hub),
        iam=clients.client("iam"),
        secrets=Secrets(SecretsManager(clients.client("secretsmanager")), newest.names_user),
        batch_function=os.environ["RDSIAM_AUDIT_BATCH_FUNCTION"],
        deployment=Deployment(
            partition=place.partition,
            region=place.region,
            account=place.account,
            connect_roles=connect_roles(),
            stack_roles=frozenset(os.environ["RDSIAM_OWN_ROLES"].split(",")),
            operators=tuple(os.environ["RDSIAM_OPERATORS"].split(",")),
        ),
        results=ResultStore(clients.client("s3"), os.environ["RDSIAM_RESULT_BUCKET"], "Audit"),
        at_once=int(os.environ["RDSIAM_AUDIT_BATCHES"]),
    )
