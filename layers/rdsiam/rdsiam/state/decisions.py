"""The decisions table: one record for each token that was asked for, written before the answer leaves."""

import hashlib
import re
import secrets
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rdsiam.access.callers import Caller

Outcome = Literal["allowed", "denied", "malformed", "failed"]


@dataclass(frozen=True)
class DecisionRecord:
    """A decision about a request for a token. Only these fields are recorded; none is a secret.

    :ivar caller: role ARN of the caller, `session` its session's name; `<iss>#<sub>` of a JWT; or the ARN of a
        caller that is no role.
    :ivar database: ARN, or the name in the request if no such database is known; empty in a malformed request.
    :ivar outcome: `failed`: access.yaml allowed it, or could not be read, and no token could be made.
    :ivar rule: the place in access.yaml that allowed it, or the reason of the denial.
    :ivar access_version: the version of access.yaml that decided; empty if it was not read.
    :ivar endpoint: as requested; `writer` if the request names none; empty in a malformed request.
    :ivar fingerprint: SHA-256 of the token's signature, by which a leaked token is found; empty if none was made.
    """

    at: str
    caller: str
    session: str
    source_identity: str
    database: str
    user: str
    reason: str
    outcome: Outcome
    rule: str
    access_version: str
    request_id: str
    fingerprint: str
    expires_at: str
    endpoint: str


class Decisions:
    """The DynamoDB table DecisionsTable. Nothing here updates or deletes."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def put(self, decision: DecisionRecord) -> str:
        """Write the record and return its id; whatever goes wrong is raised, and there is no token."""
        record_id = time_ordered_id()
        # The day is what all decisions are listed by; times are RFC 3339 in UTC.
        own = {"id": {"S": record_id}, "day": {"S": decision.at[:10]}}
        item = own | {name: {"S": value} for name, value in asdict(decision).items() if value}
        self._dynamodb.put_item(TableName=self._table, Item=item, ConditionExpression="attribute_not_exists(id)")
        return record_id


def source_identity(caller: Caller) -> str:
    """Return a caller's source identity, as CloudTrail records it: a readable prefix and a hash of the identity.

    The identity is account, role and session, or issuer and subject; other claims differ from one JWT to the next.
    """
    whole = "\n".join([caller.account, caller.role or "", caller.session or ""])
    name = re.split("[/#]", caller.role or caller.session or "caller")[-1] or "caller"
    readable = re.sub(r"[^\w+=,.@-]", "-", name, flags=re.ASCII)[:40]
    return f"{readable}-{hashlib.sha256(whole.encode()).hexdigest()[:16]}"


def fingerprint(token: str) -> str:
    """Return the SHA-256 of a token's signature, which traces a leaked token, or its signature alone, to its record."""
    return hashlib.sha256(token.rpartition("X-Amz-Signature=")[2].encode()).hexdigest()


def id_at(milliseconds: int, rest: int) -> str:
    """Return the id of version 7 (RFC 9562) of that time; `rest` are its 80 other bits, six of which are fixed."""
    value = min(max(milliseconds, 0), 2**48 - 1) << 80 | rest
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def time_ordered_id() -> str:
    """Return an id of now: milliseconds, then 74 random bits."""
    return id_at(time.time_ns() // 1_000_000, secrets.randbits(80))
