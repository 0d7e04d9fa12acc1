"""One execution of a migration: its lease, the record of the migration, and the answer."""

import logging
import time
from dataclasses import replace

from rdsiam.access.selection import SelectedDatabase
from rdsiam.access.users import DeclaredUser
from rdsiam.aws.rds import Database
from rdsiam.core.changes import Reason, summarize
from rdsiam.events.migrate import MigrateRequest
from rdsiam.migration import observation
from rdsiam.migration.database_user import MigratingUser
from rdsiam.migration.results import (
    NO_REASON,
    Beginning,
    Changes,
    MigrationAnswer,
    MigrationStatus,
    MissingParts,
)
from rdsiam.migration.secret_retirement import UsersSecrets
from rdsiam.migration.services import MigrationServices
from rdsiam.state.migrations import Migration, Superseded
from rdsiam.state.record import selected

logger = logging.getLogger(__name__)

#: Seconds for which a lease is valid, besides the pauses between observations.
_LEASE = 900


class Execution:
    """An execution that works on one user of a database.

    :param execution: its name, which holds the lease.
    """

    def __init__(self, services: MigrationServices, request: MigrateRequest, execution: str) -> None:
        self._services = services
        self._execution = execution
        self.request = request
        self.arn = request.database
        self._successor = ""

    def continue_from(self, beginning: Beginning) -> None:
        """Use the result of `begin`, also in a replay, in which that step does not run again."""
        self.arn = beginning.database
        self._successor = beginning.successor

    @property
    def services(self) -> MigrationServices:
        """The services of this migration."""
        return self._services

    @property
    def in_place(self) -> bool:
        """Whether the user itself moves to tokens, without a successor."""
        return self._successor == self.request.user

    def check_ownership(self) -> None:
        """Check that this execution still has the migration.

        :raises Superseded: another execution has taken over.
        """
        self._own()

    def release_lease(self) -> None:
        """Give the lease back."""
        try:
            self._services.migrations.save(self.arn, replace(self._own(), execution="", lease=0))
        except Superseded as error:
            logger.info("no lease to release: %s", error)

    def is_declared(self) -> bool:
        """Return whether access.yaml declares the successor."""
        database = self._services.databases.describe(self.arn)
        return any(user.name == self._successor for user in self._declared(database))

    def answer(
        self,
        status: MigrationStatus,
        reason: Reason = NO_REASON,
        changes: Changes = (),
        incomplete: MissingParts = (),
    ) -> MigrationAnswer:
        """Return the answer of the function: changes of this execution only.

        After changes a refusal is `incomplete`, as `refused` means that nothing was changed.

        :param incomplete: the parts that were not done; their reasons are added to `reason`.
        """
        if status == "refused" and changes and not self.request.plan:
            status, incomplete = "incomplete", (*incomplete, reason.missing(self.request.user))
            reason = Reason(code=reason.code)  # the part has problem and remedy
        reason = replace(
            reason, problem="; ".join(filter(None, [reason.problem, summarize(incomplete, self.request.user)]))
        )
        return MigrationAnswer(self.arn, self.request.user, self._successor, status, reason, changes, incomplete)

    @property
    def _user(self) -> MigratingUser:
        holder = f"the migration {self._execution}"
        return MigratingUser(self._services, self.arn, self.request.user, self._successor, holder)

    def _secrets(self) -> UsersSecrets:
        return self._services.secrets.of(self._services.databases.describe(self.arn), self.request.user)

    def _recorded(self) -> Migration | None:
        return self._services.migrations.of(self.arn).get(self.request.user)

    def _migration_of(self, database: Database) -> Migration | None:
        """Return the migration; None if there is none, or if it is of an earlier database of the same name."""
        migration = self._services.migrations.of(database.arn).get(self.request.user)
        return migration if migration is not None and migration.resource_id == database.resource_id else None

    def _own(self) -> Migration:
        """Return the migration.

        :raises Superseded: another execution holds its lease.
        """
        migration = self._recorded()
        if migration is None or migration.execution != self._execution:
            raise Superseded(f"another execution has taken over the migration of {self.request.user} on {self.arn}")
        return migration

    def _leased(self, migration: Migration) -> Migration:
        lease = int(time.time()) + _LEASE + 3 * observation.pause(self.request.watch)
        return replace(migration, execution=self._execution, lease=lease)

    def _save(self, migration: Migration) -> Migration:
        return self._services.migrations.save(self.arn, self._leased(migration))

    def _declared(self, database: Database) -> tuple[DeclaredUser, ...]:
        return self._services.access.current().file.declared(self._selected(database))

    def _selected(self, database: Database) -> SelectedDatabase:
        return selected(database, self._services.inventory.get(database.arn))
