"""The usual handler for POST /tokens, to measure VendFunction by: event handler, validation, boto3's clients.

It decides, records and signs with the very code that VendFunction uses, so that they differ in the frame alone.
"""

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.event_handler.exceptions import ServiceError
from aws_lambda_powertools.metrics import MetricUnit
from pydantic import BaseModel, ConfigDict, Field

from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.access.store import AccessStore
from rdsiam.api.identity import Oidc, caller_from
from rdsiam.aws import clients
from rdsiam.core.connect_roles import connect_roles
from rdsiam.errors import NotAllowed
from rdsiam.state.applied_access import AppliedAccess
from rdsiam.state.decisions import Decisions
from rdsiam.state.inventory import Inventory
from rdsiam.tokens.database_endpoints import describe
from rdsiam.vending.flow import CaUrls, Stores, TokenAnswer, Vending

app = APIGatewayHttpResolver(enable_validation=True)
logger = Logger()
metrics = Metrics()

dynamodb = clients.client("dynamodb")
inventory = os.environ["RDSIAM_INVENTORY_TABLE"]
newest = AccessStore(clients.client("s3"), os.environ["RDSIAM_ACCESS_BUCKET"])
vending = Vending(
    Stores(
        ConfirmedAccess(newest, AppliedAccess(dynamodb, inventory).version),
        Inventory(dynamodb, inventory),
        Decisions(dynamodb, os.environ["RDSIAM_DECISIONS_TABLE"]),
        lambda database: describe(clients.client("rds"), database),
    ),
    clients.client("sts"),
    connect_roles(),
    CaUrls(os.environ["RDSIAM_CA_URL"], os.environ["RDSIAM_PROXY_CA_URL"]),
)


class TokenRequest(BaseModel):
    """The body of `POST /tokens`."""

    model_config = ConfigDict(extra="forbid")

    database: str = Field(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")
    user: str = Field(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")
    reason: str = Field("", max_length=500)


@app.post("/tokens")
def tokens(request: TokenRequest) -> TokenAnswer:
    """Answer one request."""
    caller = caller_from(app.current_event.raw_event, Oidc("", "", ""))
    request_id = app.lambda_context.aws_request_id
    try:
        token = vending.vend(caller, request.database, request.user, request.reason, request_id)
    except NotAllowed:
        raise ServiceError(403, "not allowed") from None
    metrics.add_metric("TokensVended", MetricUnit.Count, 1)
    logger.info("token vended", database=token.database, user=token.user, caller=caller.role)
    return token


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one event."""
    return app.resolve(event, context)
