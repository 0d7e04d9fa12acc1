"""ReportsFunction: the reading routes of the API: a caller's databases, decisions, and reports for auditors."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from rdsiam.access.callers import Caller
from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.access.store import AccessStore
from rdsiam.api import http, queries
from rdsiam.api.audits import Reports
from rdsiam.api.databases import Allowed
from rdsiam.api.decisions import DecisionsReader, Search
from rdsiam.api.identity import NotAccepted, Oidc, caller_from
from rdsiam.audit.store import AuditStore
from rdsiam.aws import clients
from rdsiam.core.observability import logger, logs_invocation
from rdsiam.events.aliases import check_no_version
from rdsiam.state.applied_access import AppliedAccess
from rdsiam.state.inventory import Inventory
from rdsiam.tokens.database_endpoints import describe_all

#: Code of a problem → its detail; for other codes the error's message.
_DETAILS = {
    "not-allowed": "access.yaml does not let this caller see that",
    "not-found": "no finished audit has that id",
    "unavailable": "the request could not be decided",
}


@logs_invocation
def handler(event: dict[str, Any], context: Any) -> http.Response:
    """Answer one request. A caller who is not allowed learns nothing, not even which audits exist."""
    request_id: str = context.aws_request_id
    route = str(event.get("routeKey", "")).replace(" /oidc/", " /")
    try:
        check_no_version(context)  # a version could be invoked by anybody, who could make up the caller
        caller = caller_from(event, _oidc())
        body = _ROUTES[route](caller, event)
    except Exception as error:  # deny on any doubt: without a readable access.yaml nobody may see anything
        code = http.code_of(error)
        if code == "unavailable":
            logger.error("nothing shown: %s", type(error).__name__)
        if isinstance(error, NotAccepted):  # its text is one of rdsiam's own: nothing of the token
            logger.info("token refused", code=code, reason=str(error))
        return http.problem(code, _DETAILS.get(code) or str(error), request_id)
    logger.info("shown", route=route, caller=caller.name)
    return http.answer(body)


def _databases(caller: Caller, event: Mapping[str, Any]) -> Mapping[str, Any]:
    queries.query(event, queries.NoQuery)
    return asdict(_allowed().of(caller))


def _decisions(caller: Caller, event: Mapping[str, Any]) -> Mapping[str, Any]:
    query = queries.query(event, queries.DecisionsQuery)
    since, until = query.span
    database = query.database
    if database is not None and not database.startswith("arn:"):
        meta = clients.client("dynamodb").meta
        account = event["requestContext"]["accountId"]
        database = f"arn:{meta.partition}:rds:{meta.region_name}:{account}:db:{database}"
    search = Search(int(query.limit), database, query.caller, since, until, query.before)
    return asdict(_reader().page(caller, search))


def _audits(caller: Caller, event: Mapping[str, Any]) -> Mapping[str, Any]:
    _reports().check(caller)
    query = queries.query(event, queries.AuditsQuery)
    return _reports().list(int(query.limit), query.before)


def _audit(caller: Caller, event: Mapping[str, Any]) -> Mapping[str, Any]:
    _reports().check(caller)
    queries.query(event, queries.NoQuery)
    return _reports().get(str((event.get("pathParameters") or {}).get("id")))


def _description(_: Caller, event: Mapping[str, Any]) -> str:
    queries.query(event, queries.NoQuery)
    return _openapi()


_ROUTES: Mapping[str, Callable[[Caller, Mapping[str, Any]], Mapping[str, Any] | str]] = {
    "GET /databases": _databases,
    "GET /decisions": _decisions,
    "GET /audits": _audits,
    "GET /audits/{id}": _audit,
    "GET /openapi.json": _description,
}


@cache
def _openapi() -> str:
    return (Path(__file__).parent / "openapi.json").read_text()


@cache
def _oidc() -> Oidc:
    return Oidc.of(os.environ)


@cache
def _access() -> AccessStore:
    return AccessStore(clients.client("s3"), os.environ["RDSIAM_ACCESS_BUCKET"])


@cache
def _allowed() -> Allowed:
    dynamodb, table = clients.client("dynamodb"), os.environ["RDSIAM_INVENTORY_TABLE"]
    access = ConfirmedAccess(_access(), AppliedAccess(dynamodb, table).version)
    return Allowed(access, Inventory(dynamodb, table), lambda: describe_all(clients.client("rds")))


@cache
def _reader() -> DecisionsReader:
    return DecisionsReader(_access(), clients.client("dynamodb"), os.environ["RDSIAM_DECISIONS_TABLE"])


@cache
def _reports() -> Reports:
    return Reports(_access(), AuditStore(clients.client("s3"), os.environ["RDSIAM_REPORT_BUCKET"]))
