"""Vending: identity from the authorizer, decision from access.yaml, a token for one user, a record of it all."""

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from rdsiam.access import Caller, decide
from rdsiam.access_store import AccessStore
from rdsiam.decisions import Decision, Decisions
from rdsiam.described import Database
from rdsiam.errors import NotAllowed, RdsiamError
from rdsiam.inventory import Inventory
from rdsiam.once import Once
from rdsiam.scoping import ScopedCredentials, assume_for_one_user
from rdsiam.signer import TokenSigner

#: RDS accepts a token for that long after it was signed.
TOKEN_LIFE = timedelta(seconds=900)
_SESSION_SECONDS = 3600
#: How long an inventory record may be used without asking again: a host doesn't move, a resource id may go.
_RECORD_SECONDS = 60


@dataclass(frozen=True)
class TokenAnswer:
    """A token and what it is good for."""

    token: str
    host: str
    port: int
    user: str
    engine: str
    database: str
    issued_at: str
    expires_at: str
    ca_url: str

    def __repr__(self) -> str:
        return f"TokenAnswer(user={self.user!r}, database={self.database!r}, expires_at={self.expires_at!r})"


class Vending:
    """Hands out tokens. One instance serves all requests of a function's environment; it is thread-safe."""

    def __init__(
        self,
        access: AccessStore,
        inventory: Inventory,
        decisions: Decisions,
        sts: Any,
        connect_role: str,
        ca_url: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._access = access
        self._inventory = inventory
        self._decisions = decisions
        self._sts = sts
        self._connect_role = connect_role
        self._ca_url = ca_url
        self._now = now
        self._records = Once[str, tuple[float, Database]](lambda known: time.monotonic() - known[0] < _RECORD_SECONDS)
        # With less left than a token lives, the token would end with its credentials.
        self._scoped = Once[tuple[str, ...], ScopedCredentials](lambda known: known.expires - self._now() >= TOKEN_LIFE)

    def vend(self, caller: Caller, database: str, user: str, reason: str, request_id: str) -> TokenAnswer:
        """Return a token for `user` on `database`, if access.yaml lets the caller have it.

        :param database: ARN or identifier.
        :raises NotAllowed: it does not; the same for what doesn't exist. The refusal is recorded.
        :raises AccessFileUnavailable: access.yaml can't be read, so nobody is allowed anything.
        """
        access = self._access.current()
        arn = database if database.startswith("arn:") else self._arn(database)
        found = self._describe(arn)
        at = self._now()

        def record(
            outcome: Literal["allowed", "denied", "failed"], rule: str, token: str = "", expires: str = ""
        ) -> None:
            fingerprint = hashlib.sha256(token.encode()).hexdigest() if token else ""
            self._decisions.put(
                Decision(
                    at=_text(at),
                    caller=caller.role or caller.session or "nobody",
                    session=caller.session or "",
                    source_identity=source_identity(caller),
                    database=arn,
                    user=user,
                    reason=reason,
                    outcome=outcome,
                    rule=rule,
                    access_version=access.version,
                    request_id=request_id,
                    fingerprint=fingerprint,
                    expires_at=expires,
                )
            )

        if found is None:
            record("denied", "no such database is onboarded")
            raise NotAllowed
        decision = decide(access.file, found, user, caller, reason or None, at)
        if not decision.allowed:
            record("denied", decision.rule)
            raise NotAllowed
        try:
            scoped = self._credentials(caller, found, user, access.version, decision.rule)
        except Exception as error:
            record("failed", decision.rule)
            raise NotSigned(f"credentials for {user} on {arn} could not be had: {type(error).__name__}") from error
        host, port = found.endpoint
        token = TokenSigner(scoped.credentials, found.region).token(host, port, user, at)
        expires = _text(min(at + TOKEN_LIFE, scoped.expires))
        record("allowed", decision.rule, token, expires)
        return TokenAnswer(token, host, port, user, found.engine, arn, _text(at), expires, self._ca_url)

    def _arn(self, identifier: str) -> str:
        """Return the ARN of an instance of this account: the role that signs is of the same account and partition."""
        partition, account = self._connect_role.split(":")[1], self._connect_role.split(":")[4]
        return f"arn:{partition}:rds:{self._sts.meta.region_name}:{account}:db:{identifier}"

    def _describe(self, arn: str) -> Database | None:
        known = self._records.get(arn, lambda: self._ask_inventory(arn))
        return known[1] if known else None

    def _ask_inventory(self, arn: str) -> tuple[float, Database] | None:
        """Return the record and when it was asked for.

        None, which is not kept, where there is none: it may be onboarded the next second, and names are for anybody
        to ask.
        """
        asked_at = time.monotonic()
        record = self._inventory.get(arn)
        return (asked_at, record.database) if record and record.database else None

    def _credentials(self, caller: Caller, database: Database, user: str, version: str, rule: str) -> ScopedCredentials:
        identity = source_identity(caller)

        def assume() -> ScopedCredentials:
            return assume_for_one_user(
                self._sts, self._connect_role, database, user, identity, _SESSION_SECONDS, source_identity=identity
            )

        key = (identity, database.arn, database.resource_id, user, version, rule)
        return self._scoped.get(key, assume)


class NotSigned(RdsiamError):
    """The decision was to allow, but no token could be signed."""


def source_identity(caller: Caller) -> str:
    """Return whom the credentials are for, as CloudTrail keeps it: a readable prefix and a hash of the identity."""
    whole = "\n".join([caller.account, caller.role or "", caller.session or "", repr(sorted(caller.claims.items()))])
    name = (caller.role or "caller").rpartition("/")[2]
    readable = re.sub(r"[^\w+=,.@-]", "-", name, flags=re.ASCII)[:40]
    return f"{readable}-{hashlib.sha256(whole.encode()).hexdigest()[:16]}"


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
