"""AuditBatchFunction: reads the accounts of the databases of one batch, evaluates them, and stores the findings."""

import os
from functools import cache
from typing import Any

from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.access.store import AccessStore
from rdsiam.audit import batch
from rdsiam.audit.store import AuditStore
from rdsiam.aws import clients, fast_clients
from rdsiam.core import log_keys
from rdsiam.core.observability import logger, logs_invocation
from rdsiam.engines.logins import Logins
from rdsiam.events.aliases import check_no_version
from rdsiam.events.audit_batch import batch_request
from rdsiam.state.applied_access import AppliedAccess
from rdsiam.state.inventory import Inventory

#: Seconds that are reserved for storing the results of databases that hang.
_RESERVE = 10


@logs_invocation
def handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    """Audit the batch that the event names, and end in time with the results so far."""
    check_no_version(context)
    request = batch_request(event)
    log_keys.add(audit=request.audit)
    seconds = context.get_remaining_time_in_millis() / 1000 - _RESERVE
    result = batch.audit_batch(_services(), request, seconds)
    logger.info("batch ended", audit=request.audit, batch=request.number, result=result.to_json())
    return result.to_json()


@cache
def _services() -> batch.BatchServices:
    objects = fast_clients.client("s3")
    dynamodb, table = clients.client("dynamodb"), os.environ["RDSIAM_INVENTORY_TABLE"]
    newest = AccessStore(objects, os.environ["RDSIAM_ACCESS_BUCKET"], max_age=0)
    return batch.BatchServices(
        store=AuditStore(clients.client("s3"), os.environ["RDSIAM_REPORT_BUCKET"], objects=objects),
        access=ConfirmedAccess(newest, AppliedAccess(dynamodb, table).version, max_age=0),
        inventory=Inventory(dynamodb, table),
        logins=Logins(None, None, ""),  # the function signs the auditor's tokens itself; no secrets and no other roles
    )
