"""EventsFunction: starts OnboardFunction or AuditFunction after an event of RDS, S3 or a schedule."""

import json
import os
from functools import cache
from typing import Any

from rdsiam.aws import clients
from rdsiam.core import log_keys
from rdsiam.core.observability import logger, logs_invocation
from rdsiam.events.aliases import check_no_version
from rdsiam.events.service_events import EventSources, event_request


@logs_invocation
def handler(event: dict[str, Any], context: Any) -> dict[str, str]:
    """Start the execution for the event, and return its name."""
    check_no_version(context)
    request = event_request(event, _sources())
    log_keys.add(database=str(request.payload.get("database", "")))
    function = os.environ["RDSIAM_ONBOARD_FUNCTION" if request.function == "onboard" else "RDSIAM_AUDIT_FUNCTION"]
    clients.client("lambda").invoke(
        FunctionName=function,
        InvocationType="Event",
        DurableExecutionName=request.execution_name,
        Payload=json.dumps(request.payload).encode(),
    )
    logger.info("execution started", function=request.function, execution=request.execution_name)
    return {"execution": request.execution_name}


@cache
def _sources() -> EventSources:
    return EventSources(
        access_bucket=os.environ["RDSIAM_ACCESS_BUCKET"],
        reconcile_rule=os.environ["RDSIAM_RECONCILE_RULE"],
        audit_rule=os.environ["RDSIAM_AUDIT_RULE"],
    )
