"""VendFunction: POST /tokens. It reaches no database and no secret; what it may sign, IAM decides once more."""

import os
from dataclasses import asdict
from functools import cache
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from rdsiam.access.store import AccessStore
from rdsiam.api import http
from rdsiam.api.identity import NotAccepted, Oidc, caller_from
from rdsiam.aws import fast_clients
from rdsiam.core.observability import logger, metrics
from rdsiam.errors import InvalidRequest, NotAllowed
from rdsiam.events import aliases
from rdsiam.events.aliases import check_alias
from rdsiam.state.decisions import Decisions
from rdsiam.state.inventory import Inventory
from rdsiam.vending.flow import Vending

_NOT_ALLOWED = "access.yaml gives this caller no login as that user on that database"


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one request. Whatever fails, fails without a token."""
    check_alias(aliases.LIVE, context, event)  # by a version anybody could invoke it, and make up who is asking
    request_id: str = context.aws_request_id
    try:
        return _answer(event, request_id)
    except Exception as error:  # deny on any doubt: without a record and a readable access.yaml there is no token
        logger.error("no token: %s", type(error).__name__)
        return _refuse(503, "unavailable", "the request could not be decided and recorded", request_id, 5)


def _answer(event: dict[str, Any], request_id: str) -> dict[str, Any]:
    """Answer a request of which, whatever it is, a record has been written."""
    try:
        caller = caller_from(event, _oidc())
    except NotAccepted as error:
        _vending().refuse(error.caller, "denied", str(error), request_id)
        return _refuse(403, "not-allowed", _NOT_ALLOWED, request_id)
    try:
        request = http.token_request(event)
    except InvalidRequest as error:
        _vending().refuse(caller, "malformed", str(error), request_id)
        if isinstance(error, http.TooLarge):
            return _refuse(413, "too-large", str(error), request_id)
        return _refuse(400, "malformed", str(error), request_id)
    try:
        token = _vending().vend(caller, request.database, request.user, request.reason, request_id)
    except NotAllowed:
        return _refuse(403, "not-allowed", _NOT_ALLOWED, request_id)
    metrics.add_metric("TokensVended", MetricUnit.Count, 1)
    logger.info("token vended", database=token.database, user=token.user, caller=caller.name)
    return http.answer(asdict(token))


def _refuse(status: int, code: str, detail: str, request_id: str, retry_after: int | None = None) -> dict[str, Any]:
    metrics.add_metric("TokensRefused" if status < 500 else "TokensFailed", MetricUnit.Count, 1)
    logger.info("token refused", status=status, code=code)
    return http.problem(status, code, detail, request_id, retry_after)


@cache
def _oidc() -> Oidc:
    return Oidc(*(os.environ[f"RDSIAM_OIDC_{name}"] for name in ("ISSUER", "AUDIENCE", "SCOPE")))


@cache
def _vending() -> Vending:
    dynamodb = fast_clients.client("dynamodb")
    return Vending(
        AccessStore(fast_clients.client("s3"), os.environ["RDSIAM_ACCESS_BUCKET"]),
        Inventory(dynamodb, os.environ["RDSIAM_INVENTORY_TABLE"]),
        Decisions(dynamodb, os.environ["RDSIAM_DECISIONS_TABLE"]),
        fast_clients.client("sts"),
        os.environ["RDSIAM_CONNECT_ROLE"],
        os.environ["RDSIAM_CA_URL"],
        os.environ["RDSIAM_PROXY_CA_URL"],
    )


if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand") != "on-demand":
    _vending()  # a snapshot, or an environment that is ready before it is asked: what is made now, no request waits for
