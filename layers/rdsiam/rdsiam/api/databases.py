"""The databases that a caller may log in to, as access.yaml decides for every onboarded database."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from botocore.exceptions import BotoCoreError, ClientError

from rdsiam.access.callers import Caller
from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.access.decide import users_of
from rdsiam.aws.rds_models import Database
from rdsiam.errors import EndpointUnreachable
from rdsiam.state.inventory import Inventory
from rdsiam.state.record import Record
from rdsiam.tokens.database_endpoints import NOTHING_DESCRIBED, Endpoint, FleetEndpoints

logger = logging.getLogger(__name__)

#: How long a listing of the inventory is used, as long as vending uses single records.
_SECONDS = 60


@dataclass(frozen=True)
class AllowedDatabase:
    """A database that the caller may log in to, with the sorted users that the caller may be.

    `host` and `port` are those of its endpoint `writer` when it was last onboarded, null if it had none; `POST /tokens`
    has the current ones. `endpoints` are all endpoints, as RDS has described them within the last minute.
    """

    identifier: str
    arn: str
    engine: str
    users: list[str]
    host: str | None
    port: int | None
    endpoints: list[Endpoint]


def _allowed(arn: str, database: Database, users: list[str], fleet: FleetEndpoints) -> AllowedDatabase:
    endpoints = list(fleet.of(database).listed)
    return AllowedDatabase(database.identifier, arn, database.engine, users, database.host, database.port, endpoints)


@dataclass(frozen=True)
class AllowedDatabases:
    """All databases that the caller may log in to, sorted by identifier and ARN."""

    databases: list[AllowedDatabase]


class Allowed:
    """Lists the databases that callers may log in to. Thread-safe."""

    def __init__(
        self,
        access: ConfirmedAccess,
        inventory: Inventory,
        endpoints: Callable[[], FleetEndpoints],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._access = access
        self._inventory = inventory
        self._describe = endpoints
        self._now = now
        self._lock = threading.Lock()
        self._listed: tuple[float, list[tuple[str, Record]]] | None = None
        self._described: tuple[float, FleetEndpoints] | None = None

    def of(self, caller: Caller) -> AllowedDatabases:
        """Return the logins that `POST /tokens` would allow this caller, given a reason if one is required.

        :raises AccessFileUnavailable: access.yaml can't be read, so nobody is allowed anything.
        """
        file, at = self._access.current().file, self._now()
        allowed = []
        for arn, record in self._records():
            if record.database is not None:
                users = [user for user in users_of(file, record.database, caller, at) if user not in record.revoked]
                if users:
                    allowed.append((arn, record.database, users))
        # Instances have one endpoint, which the inventory has.
        several = any(database.kind != "instance" for _, database, _ in allowed)
        fleet = self._endpoints() if several else NOTHING_DESCRIBED
        listed = [_allowed(arn, database, users, fleet) for arn, database, users in allowed]
        return AllowedDatabases(sorted(listed, key=lambda database: (database.identifier, database.arn)))

    def _endpoints(self) -> FleetEndpoints:
        """Return all endpoints; if RDS can't be asked, the last ones, as a listing without them still helps."""
        with self._lock:
            if self._described is None or time.monotonic() - self._described[0] >= _SECONDS:
                started = time.monotonic()
                try:
                    self._described = started, self._describe()
                except (BotoCoreError, ClientError, EndpointUnreachable) as error:
                    logger.warning("endpoints can't be read: %s", type(error).__name__)
                    last = NOTHING_DESCRIBED if self._described is None else self._described[1]
                    self._described = started, last
            return self._described[1]

    def _records(self) -> list[tuple[str, Record]]:
        with self._lock:
            if self._listed is None or time.monotonic() - self._listed[0] >= _SECONDS:
                started = time.monotonic()  # before the answer, which may be as old as this
                self._listed = started, list(self._inventory.all())
            return self._listed[1]
