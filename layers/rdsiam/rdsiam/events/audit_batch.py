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
    """A request to audit one batch of databases of an audit.

    :ivar slow: the databases of the batch were slow at the first attempt.
    """

    audit: str
    number: int
    slow: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the event from which `batch_request` made this request."""
        return {"audit": self.audit, "batch": self.number, "slow": self.slow}


def batch_request(event: Any) -> BatchRequest:
    """Read a request to AuditBatchFunction: `{"audit": "<id>", "batch": n}`, `"slow": true` for a second attempt.

    :raises InvalidRequest: naming the field.
    """
    fields.check(event, {"audit", "batch", "slow"})
    audit, number = event.get("audit"), event.get("batch")
    if not isinstance(audit, str) or _AUDIT.fullmatch(audit) is None:
        raise InvalidRequest("audit", "must be the id of an audit")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < _MOST_BATCHES:
        raise InvalidRequest("batch", f"must be a number, 0–{_MOST_BATCHES - 1}")
    return BatchRequest(audit, number, fields.flag(event, "slow"))
