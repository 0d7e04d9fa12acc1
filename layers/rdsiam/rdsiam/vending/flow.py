"""Vending: identity from the authorizer, decision from access.yaml, a token for one user, a record of it all."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rdsiam.access.callers import Caller
from rdsiam.access.decide import decide, may_be_allowed
from rdsiam.access.selection import SelectedDatabase
from rdsiam.access.store import AccessStore
from rdsiam.aws.rds_models import Database
from rdsiam.aws.scoped_credentials import ScopedCredentials, assume_for_one_user
from rdsiam.core import times
from rdsiam.core.arn import Arn, is_arn
from rdsiam.errors import AccessFileInvalid, NotAllowed, RdsiamError
from rdsiam.signer import TokenSigner
from rdsiam.state.decisions import DecisionRecord, Decisions, Outcome, fingerprint, source_identity
from rdsiam.state.inventory import Inventory
from rdsiam.vending.cache import Once

#: RDS accepts a token for that long after it was signed.
TOKEN_LIFE = timedelta(seconds=900)
_SESSION_SECONDS = 3600
#: How long an inventory record may be used without asking again: a host doesn't move, a resource id may go.
_RECORD_SECONDS = 60
_UNDECLARED = "no entry lets this caller log in as this user here"


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
    """Hands out tokens. One instance serves all requests of a function's environment; it is thread-safe.

    :param ca_url: where the authority of databases' certificates is; proxies have theirs from another.
    """

    def __init__(
        self,
        access: AccessStore,
        inventory: Inventory,
        decisions: Decisions,
        sts: Any,
        connect_role: str,
        ca_url: str,
        proxy_ca_url: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._access = access
        self._inventory = inventory
        self._decisions = decisions
        self._sts = sts
        self._connect_role = connect_role
        self._ca_url = ca_url
        self._proxy_ca_url = proxy_ca_url
        self._now = now
        self._records = Once[str, _Known](lambda known: time.monotonic() - known.asked_at < _RECORD_SECONDS)
        # With less left than a token lives, the token would end with its credentials.
        self._scoped = Once[tuple[str, ...], ScopedCredentials](lambda known: known.expires - self._now() >= TOKEN_LIFE)

    def vend(self, caller: Caller, database: str, user: str, reason: str, request_id: str) -> TokenAnswer:
        """Return a token for `user` on `database`, if access.yaml lets the caller have it.

        :param database: ARN or identifier.
        :raises NotAllowed: it does not; the same for what doesn't exist. The refusal is recorded.
        :raises AccessFileInvalid: access.yaml breaks its rules, so nobody is allowed anything.
        :raises AccessFileUnavailable: it can't be read.
        """
        at = self._now()
        arn = database if is_arn(database) else self._arn(database)
        asked = _Asked(caller, arn, user, reason, at, request_id)
        try:
            access = self._access.current()
        except AccessFileInvalid as error:
            self._record(asked, "denied", "access.yaml is invalid", error.version)
            raise
        except RdsiamError:
            self._record(asked, "failed", "access.yaml can't be read", "")
            raise
        # Nothing is looked up for whom no entry names: neither the answer nor its time tells what there is.
        known = self._describe(arn) if may_be_allowed(access.file, _identifier(arn), user, caller) else None
        if known is None or user in known.revoked:
            self._record(asked, "denied", "revoked" if known else _UNDECLARED, access.version)
            raise NotAllowed
        found = known.database
        decision = decide(access.file, found, user, caller, reason or None, at)
        if not decision.allowed:
            self._record(asked, "denied", decision.rule, access.version)
            raise NotAllowed
        try:
            scoped = self._credentials(caller, found, user, access.version, decision.rule)
        except Exception as error:
            self._record(asked, "failed", decision.rule, access.version)
            raise NotSigned(f"credentials for {user} on {arn} could not be had: {type(error).__name__}") from error
        host, port = found.endpoint
        # RDS accepts a token for so long, whatever else is in it: one that has to end earlier is signed as of earlier.
        signed_at = at if decision.until is None else min(at, decision.until - TOKEN_LIFE)
        token = TokenSigner(scoped.credentials, found.region).token(host, port, user, signed_at)
        expires = times.text(min(signed_at + TOKEN_LIFE, scoped.expires))
        self._record(asked, "allowed", decision.rule, access.version, token, expires)
        ca_url = self._proxy_ca_url if found.kind == "proxy" else self._ca_url
        return TokenAnswer(token, host, port, user, found.engine, arn, times.text(at), expires, ca_url)

    def refuse(self, caller: Caller, outcome: Outcome, rule: str, request_id: str) -> None:
        """Record a request that was refused before anybody knew what it is about."""
        self._record(_Asked(caller, "", "", "", self._now(), request_id), outcome, rule, "")

    def _record(
        self, asked: "_Asked", outcome: Outcome, rule: str, version: str, token: str = "", expires: str = ""
    ) -> None:
        """Write the record; whatever goes wrong is raised, and there is no token."""
        self._decisions.put(
            DecisionRecord(
                at=times.text(asked.at),
                caller=asked.caller.name,
                session=asked.caller.session or "",
                source_identity=source_identity(asked.caller),
                database=asked.database,
                user=asked.user,
                reason=asked.reason,
                outcome=outcome,
                rule=rule,
                access_version=version,
                request_id=asked.request_id,
                fingerprint=fingerprint(token) if token else "",
                expires_at=expires,
            )
        )

    def _arn(self, identifier: str) -> str:
        """Return the ARN of an instance of this account: the role that signs is of the same account and partition."""
        role = Arn.parse(self._connect_role)
        return str(replace(role, service="rds", region=self._sts.meta.region_name, resource=f"db:{identifier}"))

    def _describe(self, arn: str) -> "_Known | None":
        return self._records.get(arn, lambda: self._ask_inventory(arn))

    def _ask_inventory(self, arn: str) -> "_Known | None":
        """Return the record.

        None, which is not kept, where there is none: it may be onboarded the next second, and names are for anybody
        to ask.
        """
        asked_at = time.monotonic()
        record = self._inventory.get(arn)
        if record is None or record.database is None:
            return None
        return _Known(record.database, frozenset(record.revoked), asked_at)

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


@dataclass(frozen=True)
class _Known:
    """What the inventory knows of a database that is onboarded, and when it was asked."""

    database: SelectedDatabase
    revoked: frozenset[str]
    asked_at: float


@dataclass(frozen=True)
class _Asked:
    """Who asks for what; the ARN is not known to be anything's."""

    caller: Caller
    database: str
    user: str
    reason: str
    at: datetime
    request_id: str


def _identifier(arn: str) -> str | None:
    """Return the identifier that an ARN has; None where it has none, as a proxy's, or is none."""
    parts = arn.split(":")
    return parts[6] if len(parts) == 7 and parts[5] in ("db", "cluster") else None
