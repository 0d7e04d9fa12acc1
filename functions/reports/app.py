"""ReportsFunction: the API's reading side: what a caller may log in to, decisions, and auditors' reports."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from rdsiam.access.callers import Caller
from rdsiam.access.store import AccessStore
from rdsiam.api import http
from rdsiam.api.audits import AuditNotFound, Reports
from rdsiam.api.databases import Allowed
from rdsiam.api.decisions import DecisionsReader, Search
from rdsiam.api.identity import Oidc, caller_from
from rdsiam.audit.store import AuditStore
from rdsiam.aws import clients
from rdsiam.core.observability import logger
from rdsiam.errors import InvalidRequest, NotAllowed
from rdsiam.events.aliases import check_no_version
from rdsiam.state.inventory import Inventory

_NOT_ALLOWED = "access.yaml does not let this caller see that"


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one request. Who is not allowed learns nothing, not even which audits there are."""
    request_id: str = context.aws_request_id
    route = str(event.get("routeKey", "")).replace(" /oidc/", " /")
    try:
        check_no_version(context)  # by a version anybody could invoke it, and make up who is asking
        caller = caller_from(event, _oidc())
        body = _ROUTES[route](caller, event)
    except NotAllowed:
        return http.problem(403, "not-allowed", _NOT_ALLOWED, request_id)
    except AuditNotFound:
        return http.problem(404, "not-found", "there is no audit of that id, or it is not over", request_id)
    except InvalidRequest as error:
        return http.problem(400, "malformed", str(error), request_id)
    except Exception as error:  # deny on any doubt: without a readable access.yaml nobody may see anything
        logger.error("nothing shown: %s", type(error).__name__)
        return http.problem(503, "unavailable", "the request could not be decided", request_id, 5)
    logger.info("shown", route=route, caller=caller.name)
    return http.answer(body)


def _databases(caller: Caller, event: Mapping[str, Any]) -> Mapping[str, Any]:
    http.query(event, http.NoQuery)
    return asdict(_allowed().of(caller))


def _decisions(caller: Caller, event: Mapping[str, Any]) -> Mapping[str, Any]:
    asked = http.query(event, http.DecisionsQuery)
    since, until = asked.span
    database = asked.database
    if database is not None and not database.startswith("arn:"):
        place = clients.client("dynamodb").meta
        account = event["requestContext"]["accountId"]
        database = f"arn:{place.partition}:rds:{place.region_name}:{account}:db:{database}"
    search = Search(int(asked.limit), database, asked.caller, since, until, asked.before)
    return asdict(_reader().page(caller, search))


def _audits(caller: Caller, event: Mapping[str, Any]) -> Mapping[str, Any]:
    _reports().check(caller)
    asked = http.query(event, http.AuditsQuery)
    return _reports().list(int(asked.limit), asked.before)


def _audit(caller: Caller, event: Mapping[str, Any]) -> Mapping[str, Any]:
    _reports().check(caller)
    http.query(event, http.NoQuery)
    return _reports().one(str((event.get("pathParameters") or {}).get("id")))


def _description(_: Caller, event: Mapping[str, Any]) -> str:
    http.query(event, http.NoQuery)
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
    return Oidc(*(os.environ[f"RDSIAM_OIDC_{name}"] for name in ("ISSUER", "AUDIENCE", "SCOPE")))


@cache
def _access() -> AccessStore:
    return AccessStore(clients.client("s3"), os.environ["RDSIAM_ACCESS_BUCKET"])


@cache
def _allowed() -> Allowed:
    return Allowed(_access(), Inventory(clients.client("dynamodb"), os.environ["RDSIAM_INVENTORY_TABLE"]))


@cache
def _reader() -> DecisionsReader:
    return DecisionsReader(_access(), clients.client("dynamodb"), os.environ["RDSIAM_DECISIONS_TABLE"])


@cache
def _reports() -> Reports:
    return Reports(_access(), AuditStore(clients.client("s3"), os.environ["RDSIAM_REPORT_BUCKET"]))
