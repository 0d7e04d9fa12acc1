"""Requests to AuditBatchFunction."""

import re
from dataclasses import dataclass
from typing import Any

from rdsiam.errors import InvalidRequest
from rdsiam.events import fields

_MOST_BATCHES = 100_000
_AUDIT = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}", re.ASCII)


@dataclass(frozen=True)
class BatchRequest:
    """A request to audit one batch of databases of an audit."""

    audit: str
    number: int


def batch_request(event: Any) -> BatchRequest:
    """Read a request to AuditBatchFunction: `{"audit": "<id>", "batch": n}`.

    :raises InvalidRequest: naming the field.
    """
    fields.check(event, {"audit", "batch"})
    audit, number = event.get("audit"), event.get("batch")
    if not isinstance(audit, str) or _AUDIT.fullmatch(audit) is None:
        raise InvalidRequest("audit", "must be the id of an audit")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < _MOST_BATCHES:
        raise InvalidRequest("batch", f"must be a number, 0–{_MOST_BATCHES - 1}")
    return BatchRequest(audit, number)
