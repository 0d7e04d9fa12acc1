"""VendFunction: POST /tokens. It reaches no database and no secret, and IAM also decides what it may sign."""

from rdsiam.core import cold_start  # before all others, whose loading it speeds up

# isort: split
from rdsiam.vending import reading_ahead  # before those that it reads ahead of

# isort: split
import os
from dataclasses import asdict
from functools import cache
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from rdsiam.access.callers import Caller
from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.access.store import AccessStore
from rdsiam.api import http
from rdsiam.api.identity import NotAccepted, Oidc, caller_from
from rdsiam.aws.rds_models import Database
from rdsiam.core import log_keys
from rdsiam.core.connect_roles import connect_roles
from rdsiam.core.observability import logger, logs_invocation, metrics, name_metrics
from rdsiam.errors import InvalidRequest
from rdsiam.events import aliases
from rdsiam.events.aliases import check_alias
from rdsiam.state.applied_access import AppliedAccess
from rdsiam.state.decisions import Decisions
from rdsiam.state.inventory import Inventory
from rdsiam.tokens.database_endpoints import DatabaseEndpoints, describe
from rdsiam.vending.flow import CaUrls, Stores, Vending

cold_start.loaded()

#: Code of a problem → its detail; for other codes the error's message.
_DETAILS = {
    "not-allowed": "access.yaml gives this caller no login as that user on that database",
    "unavailable": "the request could not be decided and recorded",
}


@logs_invocation
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> http.Response:
    """Answer one request. Every failure ends without a token."""
    check_alias(aliases.LIVE, context, event)  # a version could be invoked by anybody, who could make up the caller
    request_id: str = context.aws_request_id
    try:
        return _answer(event, request_id)
    except Exception as error:  # deny on any doubt: without a record and a readable access.yaml there is no token
        return _problem(error, request_id)


def _answer(event: dict[str, Any], request_id: str) -> http.Response:
    """Answer a request. A record is written before any answer leaves."""
    caller = _caller(event, request_id)
    log_keys.add(caller=caller.name)
    request = _request(event, caller, request_id)
    log_keys.add(database=request.database, user=request.user)
    token = _vending().vend(
        caller, request.database, request.user, request.reason, request_id, endpoint=request.endpoint
    )
    metrics.add_metric("TokensVended", MetricUnit.Count, 1)
    name_metrics()
    logger.info("token vended", database=token.database, user=token.user, caller=caller.name)
    return http.answer(asdict(token))


def _caller(event: dict[str, Any], request_id: str) -> Caller:
    try:
        return caller_from(event, _oidc())
    except NotAccepted as error:
        _vending().refuse(error.caller, "denied", str(error), request_id)
        raise


def _request(event: dict[str, Any], caller: Caller, request_id: str) -> http.TokenRequest:
    try:
        return http.token_request(event)
    except InvalidRequest as error:
        _vending().refuse(caller, "malformed", str(error), request_id)
        raise


def _problem(error: Exception, request_id: str) -> http.Response:
    code = http.code_of(error)
    if code == "unavailable":
        logger.error("no token: %s", type(error).__name__)
    response = http.problem(code, _DETAILS.get(code) or str(error), request_id)
    metrics.add_metric("TokensRefused" if response["statusCode"] < 500 else "TokensFailed", MetricUnit.Count, 1)
    name_metrics()
    reason = str(error) if isinstance(error, NotAccepted) else ""  # one of rdsiam's own texts: nothing of the token
    logger.info("token refused", status=response["statusCode"], code=code, reason=reason)
    return response


@cache
def _oidc() -> Oidc:
    return Oidc.of(os.environ)


def _endpoints(database: Database) -> DatabaseEndpoints:
    # Imported late: RDS is asked for further endpoints only, and botocore's client takes a moment to load.
    from rdsiam.aws import clients

    return describe(clients.client("rds"), database)


@cache
def _vending() -> Vending:
    dynamodb, inventory = reading_ahead.client("dynamodb"), os.environ["RDSIAM_INVENTORY_TABLE"]
    newest = AccessStore(reading_ahead.client("s3"), os.environ["RDSIAM_ACCESS_BUCKET"])
    return Vending(
        Stores(
            ConfirmedAccess(newest, AppliedAccess(dynamodb, inventory).version),
            Inventory(dynamodb, inventory),
            Decisions(dynamodb, os.environ["RDSIAM_DECISIONS_TABLE"]),
            _endpoints,
        ),
        reading_ahead.client("sts"),
        connect_roles(),
        CaUrls(os.environ["RDSIAM_CA_URL"], os.environ["RDSIAM_PROXY_CA_URL"]),
    )


if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand") != "on-demand":
    _vending()  # with SnapStart or provisioned concurrency, no request waits for this
