"""ReportsFunction: GET /audits and GET /audits/{id}, for the auditors of access.yaml alone."""

import os
from functools import cache
from typing import Any

from rdsiam import clients, http
from rdsiam.access_store import AccessStore
from rdsiam.audit.reports import AuditNotFound, Reports
from rdsiam.audit.store import AuditStore
from rdsiam.errors import InvalidRequest, NotAllowed
from rdsiam.observability import logger


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one request. Who is not allowed learns nothing, not even which audits there are."""
    request_id: str = context.aws_request_id
    try:
        caller = http.caller_from(event)
        _reports().check(caller)
        request = http.audits_request(event)
        body = _body(request)
    except NotAllowed:
        return http.problem(403, "not-allowed", "access.yaml does not name this caller an auditor", request_id)
    except AuditNotFound:
        return http.problem(404, "not-found", "there is no audit of that id, or it is not over", request_id)
    except InvalidRequest as error:
        return http.problem(400, "malformed", str(error), request_id)
    except Exception as error:  # deny on any doubt: without a readable access.yaml nobody is an auditor
        logger.error("no report: %s", type(error).__name__)
        return http.problem(503, "unavailable", "the request could not be decided; try again", request_id, 5)
    logger.info("reports shown", caller=caller.role, audit=body.get("id", "all"))
    return http.answer(body)


def _body(request: http.AuditsRequest) -> dict[str, Any]:
    if request.audit is not None:
        return _reports().one(request.audit)
    return _reports().list(request.limit, request.before)


@cache
def _reports() -> Reports:
    s3 = clients.client("s3")
    return Reports(
        AccessStore(s3, os.environ["RDSIAM_ACCESS_BUCKET"]), AuditStore(s3, os.environ["RDSIAM_REPORT_BUCKET"])
    )
