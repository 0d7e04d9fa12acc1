"""AuditBatchFunction: reads who may log in to the databases of one batch, and keeps what is wrong with it."""

import os
from functools import cache
from typing import Any

from rdsiam.access.store import AccessStore
from rdsiam.audit import batch
from rdsiam.audit.store import AuditStore
from rdsiam.aws import clients
from rdsiam.core.observability import logger
from rdsiam.engines.logins import Logins
from rdsiam.events.aliases import check_no_version
from rdsiam.events.audit_batch import batch_request
from rdsiam.state.inventory import Inventory
from rdsiam.state.migrations import Migrations

#: Seconds reserved for recording the databases that were not read in time.
_RESERVE = 10


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    """Audit the batch that the event names, and end in time with what there is."""
    check_no_version(context)
    request = batch_request(event)
    seconds = context.get_remaining_time_in_millis() / 1000 - _RESERVE
    written: dict[str, Any] = batch.audit_batch(_services(), request.audit, request.number, seconds)
    logger.info("batch ended", audit=request.audit, batch=request.number, **written)
    return written


@cache
def _services() -> batch.Services:
    s3, dynamodb = clients.client("s3"), clients.client("dynamodb")
    table = os.environ["RDSIAM_INVENTORY_TABLE"]
    return batch.Services(
        store=AuditStore(s3, os.environ["RDSIAM_REPORT_BUCKET"]),
        access=AccessStore(s3, os.environ["RDSIAM_ACCESS_BUCKET"], max_age=0),
        inventory=Inventory(dynamodb, table),
        migrations=Migrations(dynamodb, table),
        logins=Logins(None, None, ""),  # an auditor signs its own tokens: neither secrets nor other roles
    )
