"""Vending: access.yaml decides, a record is written, and one user of one database gets a token."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from rdsiam.access.callers import Caller
from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.access.decide import UNDECLARED, decide, denied_anywhere
from rdsiam.access.selection import SelectedDatabase
from rdsiam.access.store import Versioned
from rdsiam.aws.rds_models import Database
from rdsiam.aws.scoped_credentials import ScopedCredentials, assume_for_one_user
from rdsiam.core import times
from rdsiam.core.arn import Arn, is_arn
from rdsiam.errors import AccessFileInvalid, InvalidRequest, NoSuchEndpoint, NotAllowed, RdsiamError
from rdsiam.signer import LIFETIME, TokenSigner
from rdsiam.state.decisions import DecisionRecord, Decisions, Outcome, fingerprint, source_identity
from rdsiam.state.inventory import Inventory
from rdsiam.tokens.database_endpoints import WRITER, DatabaseEndpoints
from rdsiam.tokens.partitions import ca_bundle
from rdsiam.vending.cache import SingleFlightCache
from rdsiam.vending.denials import denial

#: RDS accepts a token for this long after it was signed.
TOKEN_LIFE = timedelta(seconds=LIFETIME)
_SESSION_SECONDS = 3600
#: How long a record of the inventory is used without reading it again: hosts stay, but resource ids may change. Further
#: endpoints are used as long.
_RECORD_SECONDS = 60


@dataclass(frozen=True)
class TokenAnswer:
    """A token, and the endpoint and user that it is valid for."""

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


class Stores(NamedTuple):
    """Stores of vending: access.yaml, the inventory, and the table of decisions.

    :ivar endpoints: returns the endpoints of a database as RDS describes them now.
    """

    access: ConfirmedAccess
    inventory: Inventory
    decisions: Decisions
    endpoints: Callable[[Database], DatabaseEndpoints]


class CaUrls(NamedTuple):
    """Addresses of the certificate authorities of databases and of proxies.

    :ivar databases: empty for the bundle that AWS publishes in the database's partition.
    """

    databases: str
    proxies: str


class Vending:
    """Vends tokens. One thread-safe instance serves all requests of a function's environment.

    :param connect_roles: ARNs of the shards of ConnectRole; that of the user is assumed for one user of one database.
    """

    def __init__(
        self,
        stores: Stores,
        sts: Any,
        connect_roles: Sequence[str],
        ca_urls: CaUrls,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._stores = stores
        self._sts = sts
        self._connect_roles = tuple(connect_roles)
        self._ca_urls = ca_urls
        self._now = now
        self._records = SingleFlightCache[str, _Record](
            lambda record: time.monotonic() - record.read_at < _RECORD_SECONDS
        )
        self._endpoints = SingleFlightCache[tuple[str, str], _Endpoints](
            lambda endpoints: time.monotonic() - endpoints.read_at < _RECORD_SECONDS
        )
        # Credentials that expire before a token would make the token expire with them.
        self._scoped = SingleFlightCache[tuple[str, ...], ScopedCredentials](
            lambda scoped: scoped.expires - self._now() >= TOKEN_LIFE
        )

    def vend(
        self, caller: Caller, database: str, user: str, reason: str, request_id: str, *, endpoint: str = WRITER
    ) -> TokenAnswer:
        """Return a token for `user` on `database`, if access.yaml allows the caller to log in.

        :param database: ARN or identifier.
        :param endpoint: name or host name of the endpoint that the token is signed for. It gives no further rights.
        :raises NoSuchEndpoint: the caller may log in, but the database has no such endpoint.
        :raises NotAllowed: access.yaml doesn't allow it, or the database doesn't exist. The denial is recorded.
        :raises AccessFileInvalid: access.yaml breaks its rules, so nobody is allowed anything.
        :raises AccessFileUnavailable: access.yaml can't be read.
        :raises NotSigned: ConnectRole could not be assumed, or the stack no longer has the user's shard of it.
        """
        arn = database if is_arn(database) else self._arn(database)
        request = _Request(caller, arn, user, reason, self._now(), request_id, endpoint)
        permission = self._permission(request, self._access(request))
        address = self._address(request, permission)
        scoped = self._credentials(request, permission)
        return self._sign(request, permission, scoped, address)

    def refuse(self, caller: Caller, outcome: Outcome, rule: str, request_id: str) -> None:
        """Record a request that was refused before its database and user were known."""
        self._record(_Request(caller, "", "", "", self._now(), request_id, ""), outcome, rule, "")

    def _access(self, request: "_Request") -> Versioned:
        try:
            return self._stores.access.current()
        except AccessFileInvalid as error:
            self._record(request, "denied", "access.yaml is invalid", error.version)
            raise
        except RdsiamError:
            self._record(request, "failed", "access.yaml can't be read", "")
            raise

    def _permission(self, request: "_Request", access: Versioned) -> "_Permission":
        """Return the permission to log in; record and raise a denial."""
        arn, user, caller = request.database, request.user, request.caller
        # Skip the lookup if no entry gives the caller anything, so that neither answer nor timing reveals which
        # databases exist.
        denied = denied_anywhere(access.file, _identifier(arn), user, caller, request.at)
        record = None if denied else self._lookup(arn)
        if record is None:
            self._record(request, "denied", denied or UNDECLARED, access.version)
            raise NotAllowed
        decision = decide(access.file, record.database, user, caller, request.reason or None, request.at)
        revoked = user in record.revoked
        if revoked or not decision.allowed:
            self._record(request, "denied", "revoked" if revoked else decision.rule, access.version)
            raise denial(decision, revoked)
        return _Permission(record.database, record.shard_of(user), decision.rule, decision.until, access.version)

    def _address(self, request: "_Request", permission: "_Permission") -> tuple[str, int]:
        """Return host and port of the requested endpoint; only the writer's are in the inventory.

        Only a caller who may log in gets as far, so neither answer nor timing tells others which endpoints exist.
        """
        database = permission.database
        if request.endpoint == WRITER:
            return database.endpoint
        key = database.arn, database.resource_id
        try:
            described = self._endpoints.get(key, lambda: _Endpoints(self._stores.endpoints(database), time.monotonic()))
            endpoint = described.endpoints.choose(request.endpoint)
        except NoSuchEndpoint:
            self._record(request, "failed", permission.rule, permission.version)
            raise
        except Exception as error:
            self._record(request, "failed", permission.rule, permission.version)
            raise NotSigned(f"could not read the endpoints of {database.arn}: {type(error).__name__}") from error
        return endpoint.host, endpoint.port

    def _credentials(self, request: "_Request", permission: "_Permission") -> ScopedCredentials:
        identity, database = source_identity(request.caller), permission.database
        if not 0 < permission.shard <= len(self._connect_roles):
            self._record(request, "failed", permission.rule, permission.version)
            problem = f"{request.user} on {request.database} is in shard {permission.shard} of ConnectRole"
            raise NotSigned(f"{problem}, which the stack no longer has; run rdsiam reconcile, which moves it")
        connect_role = self._connect_roles[permission.shard - 1]

        def assume() -> ScopedCredentials:
            return assume_for_one_user(
                self._sts,
                connect_role,
                database,
                request.user,
                identity,
                _SESSION_SECONDS,
                source_identity=identity,
            )

        version, rule = permission.version, permission.rule
        key = (connect_role, identity, database.arn, database.resource_id, request.user, version, rule)
        try:
            return self._scoped.get(key, assume)
        except Exception as error:
            self._record(request, "failed", permission.rule, permission.version)
            problem = f"could not obtain credentials for {request.user} on {request.database}: {type(error).__name__}"
            raise NotSigned(problem) from error

    def _sign(
        self, request: "_Request", permission: "_Permission", scoped: ScopedCredentials, address: tuple[str, int]
    ) -> TokenAnswer:
        """Sign and record a token."""
        database = permission.database
        host, port = address
        # RDS ignores any shorter expiry in a token: to make a token end earlier, it is signed as of an earlier time.
        signed_at = request.at if permission.until is None else min(request.at, permission.until - TOKEN_LIFE)
        try:
            token = TokenSigner(scoped.credentials, database.region).token(host, port, request.user, signed_at)
        except InvalidRequest as error:
            self._record(request, "failed", permission.rule, permission.version)
            raise NotSigned(f"could not sign a token for {request.user} on {request.database}: {error}") from error
        expires = times.text(min(signed_at + TOKEN_LIFE, scoped.expires))
        self._record(request, "allowed", permission.rule, permission.version, token, expires)
        return TokenAnswer(
            token=token,
            host=host,
            port=port,
            user=request.user,
            engine=database.engine,
            database=request.database,
            issued_at=times.text(request.at),
            expires_at=expires,
            ca_url=(
                self._ca_urls.proxies
                if database.kind == "proxy"
                else self._ca_urls.databases or ca_bundle(Arn.parse(database.arn).partition)
            ),
        )

    def _record(
        self, request: "_Request", outcome: Outcome, rule: str, version: str, token: str = "", expires: str = ""
    ) -> None:
        """Write the record. Its errors are raised: without a record there is no token."""
        self._stores.decisions.put(
            DecisionRecord(
                at=times.text(request.at),
                caller=request.caller.name,
                session=request.caller.session or "",
                source_identity=source_identity(request.caller),
                database=request.database,
                user=request.user,
                reason=request.reason,
                outcome=outcome,
                rule=rule,
                access_version=version,
                request_id=request.request_id,
                fingerprint=fingerprint(token) if token else "",
                expires_at=expires,
                endpoint=request.endpoint,
            )
        )

    def _arn(self, identifier: str) -> str:
        """Return the ARN of an instance in ConnectRole's partition and account."""
        role = Arn.parse(self._connect_roles[0])
        return str(replace(role, service="rds", region=self._sts.meta.region_name, resource=f"db:{identifier}"))

    def _lookup(self, arn: str) -> "_Record | None":
        return self._records.get(arn, lambda: self._read_inventory(arn))

    def _read_inventory(self, arn: str) -> "_Record | None":
        """Return the record of an onboarded database.

        None, which isn't cached, if there is none: the database may be onboarded the next second, and anybody can ask
        for any name.
        """
        read_at = time.monotonic()
        record = self._stores.inventory.get(arn)
        if record is None or record.database is None:
            return None
        return _Record(record.database, frozenset(record.revoked), record.shards, read_at)


class NotSigned(RdsiamError):
    """access.yaml allows the login, but no token could be signed."""

    code = "not-signed"


class _Endpoints(NamedTuple):
    """The endpoints of a database, and when they were read."""

    endpoints: DatabaseEndpoints
    read_at: float


class _Record(NamedTuple):
    """An onboarded database as the inventory records it, and when it was read."""

    database: SelectedDatabase
    revoked: frozenset[str]
    shards: Mapping[str, int]
    read_at: float

    def shard_of(self, user: str) -> int:
        """Return the shard of ConnectRole that has the user; the first one has none of a user without a shard."""
        return self.shards.get(user, 1)


class _Permission(NamedTuple):
    """Permission of access.yaml to log in to a database.

    :ivar shard: number of the shard of ConnectRole that may log in as the user.
    :ivar rule: the entry that gives it.
    :ivar version: of access.yaml.
    """

    database: SelectedDatabase
    shard: int
    rule: str
    until: datetime | None
    version: str


class _Request(NamedTuple):
    """A request for a token; the database is an ARN that may not exist."""

    caller: Caller
    database: str
    user: str
    reason: str
    at: datetime
    request_id: str
    endpoint: str


def _identifier(arn: str) -> str | None:
    """Return the identifier that an ARN contains; None for a proxy's ARN and for text that is no ARN."""
    parts = arn.split(":")
    return parts[6] if len(parts) == 7 and parts[5] in ("db", "cluster") else None
