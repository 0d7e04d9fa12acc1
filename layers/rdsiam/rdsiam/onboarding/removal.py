"""Removal of users' logins from a database and its read replicas, without waiting for another run."""

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from botocore.exceptions import ClientError

from rdsiam.access.selection import select
from rdsiam.aws.rds import Database
from rdsiam.core.arn import Arn, is_arn
from rdsiam.core.changes import Unreached
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.engines.registry import ENGINES
from rdsiam.errors import AccessFileInvalid, AccessFileUnavailable, DatabaseNotFound, DatabaseNotReady, Unsupported
from rdsiam.onboarding.dependencies import UserServices
from rdsiam.onboarding.server_removal import Removal, Server
from rdsiam.state.record import accounts_of

logger = logging.getLogger(__name__)

_READERS_AT_ONCE = 8
_ONBOARD_FIRST = "onboard it: revoked users are locked then; rdsiam tries again"


class DatabaseRemoval:
    """Removes logins of managed users from one database.

    :param holder: the execution that holds the server's lease.
    """

    def __init__(self, services: UserServices, arn: str, holder: str = "") -> None:
        self._services = services
        self._arn = arn
        self._holder = holder or f"a run {secrets.token_hex(8)}"

    def remove(self, names: Sequence[str], apply: bool) -> Removal:
        """Lock these managed users and end their sessions, on read replicas too, without waiting for another run.

        No failure of a server is raised: parts that were not done are in `unreached`. On a replica's own ARN only
        sessions end, there and on its replicas: its users are those of its source.

        :param names: users; users that rdsiam does not manage are left alone.
        :param apply: make the changes; otherwise return them.
        """
        database = self._services.databases.describe(self._arn)
        if database.kind == "proxy":
            return Removal()
        source = self._source(database)
        managed = self._managed(source) if source else set()
        if database.replica_of is not None:
            managed |= self._declared_names(database)
        elif MANAGER not in managed and names:
            # A copy, or a promoted replica, may have the users; onboarding takes them over.
            return Removal(unreached=(Unreached(self._arn, "rdsiam has not onboarded it yet", _ONBOARD_FIRST),))
        users = sorted(set(names) & managed - {MANAGER, AUDITOR})
        if not users:
            return Removal()
        engine, logins = ENGINES[database.family], self._services.logins
        replica = database.replica_of is not None
        result = Server(engine, logins, database, source or database, replica).remove(users, apply)
        locked = not replica and not result.unreached

        def remove_from(reader: Database | Unreached) -> Removal:
            if isinstance(reader, Unreached):
                return Removal(unreached=(reader,))
            return Server(engine, logins, reader, source or database, replica=True).remove(users, apply, locked)

        readers = [reader for reader in self._replicas_now(database) if self._may_have_sessions(database, reader)]
        with ThreadPoolExecutor(max_workers=_READERS_AT_ONCE) as pool:  # a reader that hangs delays no other
            return sum(pool.map(remove_from, readers), result)

    def _may_have_sessions(self, database: Database, replica: Database | Unreached) -> bool:
        """Return whether managed users have logged in there: sessions live on if IAM authentication is switched off."""
        if isinstance(replica, Unreached) or replica.iam_enabled or replica.resource_id == database.resource_id:
            return True
        record = self._services.inventory.of(replica)
        return record is not None and record.is_of(replica) and record.applied is not None

    def _source(self, database: Database) -> Database | None:
        """Return the database that has the users of a replica; None if this account can't see it.

        A database that is no replica is its own source.
        """
        while database.replica_of is not None:
            try:
                database = self._services.databases.describe(_instance_arn(database, database.replica_of))
            except (DatabaseNotFound, DatabaseNotReady, Unsupported) as error:
                logger.info("the source of %s is unknown: %s", self._arn, error)
                return None
        return database

    def _replicas_now(self, database: Database) -> Iterator[Database | Unreached]:
        """Yield the replicas that a database had before its users were locked, and those that it has now.

        In between, a reader may have joined, or taken over from the writer, with sessions that were opened before.
        """
        names = dict.fromkeys(database.replicas)
        try:
            names |= dict.fromkeys(self._services.databases.describe(self._arn).replicas)
        except (ClientError, DatabaseNotFound, DatabaseNotReady, Unsupported) as error:
            logger.info("replicas of %s are those of its first description: %s", self._arn, error)
        return self._replicas(replace(database, replicas=tuple(names)))

    def _replicas(self, database: Database) -> Iterator[Database | Unreached]:
        """Yield the read replicas of a database, their read replicas, and readers of clusters."""
        for name in database.replicas:
            arn = _instance_arn(database, name)
            try:
                replica = self._services.databases.replica(arn)
            except DatabaseNotFound:
                continue  # deleted in the meantime
            except Unsupported as error:
                yield Unreached(
                    arn, str(error), "revoke the user there too, with the rdsiam of that region", retry=False
                )
            except (ClientError, DatabaseNotReady) as error:
                yield Unreached(arn, str(error), "check that it is available; rdsiam tries again")
            else:
                yield replica
                yield from self._replicas(replica)

    def _declared_names(self, database: Database) -> set[str]:
        """Return the users that access.yaml declares for a database as it is now."""
        try:
            return {user.name for user in self._services.access.current().file.declared(select(database, None))}
        except (AccessFileInvalid, AccessFileUnavailable):
            return set()

    def remove_under_lease(self, names: Callable[[], Sequence[str]]) -> Removal:
        """Do what `remove` does while no other run changes the server.

        :param names: returns the users; called under the lease.
        :raises LeaseTaken: another run does.
        """
        database = self._services.databases.describe(self._arn)
        with self._services.leases.hold(database, self._holder):
            users = names()
            return self.remove(users, apply=True) if users else Removal()

    def _managed(self, database: Database) -> set[str]:
        return set(accounts_of(database, self._services.inventory.of(database)))


def _instance_arn(database: Database, name: str) -> str:
    """Return the ARN of an instance that Describe names beside a database: in other regions by ARN."""
    return name if is_arn(name) else Arn.parse(database.arn).beside(f"db:{name}")
