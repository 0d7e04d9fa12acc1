"""The records of one database that onboarding writes into the inventory."""

import json
import logging

from rdsiam.access.pending import pending
from rdsiam.access.selection import Attributes
from rdsiam.core import times
from rdsiam.errors import AccessFileInvalid
from rdsiam.onboarding.dependencies import OnboardingServices
from rdsiam.onboarding.options import Options
from rdsiam.state import fingerprint, recorded
from rdsiam.state.record import Applied, selected
from rdsiam.state.role_leases import policies_of

logger = logging.getLogger(__name__)

#: The fingerprint of a database with a rotation that only its owner can resolve: the next reconcile looks again.
_UNRESOLVED = "unresolved"


class Recording:
    """The record of one database. Each method can be repeated by another process."""

    def __init__(self, services: OnboardingServices, arn: str, options: Options) -> None:
        self._services = services
        self._arn = arn
        self._options = options

    def first_seen(self, fingerprint: str = "") -> None:
        """Record the attributes of a database that the run leaves alone.

        :param fingerprint: of the database and its declaration, for which the next reconcile starts no run; empty if
            it does.
        """
        database = self._services.databases.describe(self._arn)
        self._services.inventory.see(database)
        if fingerprint:
            self._services.inventory.set_ignored_fingerprint(database.arn, fingerprint)

    def attributes(self) -> str:
        """Move the record of a renamed database to its ARN, and record attributes that need no session.

        A database that may be a copy has its attributes recorded once the run is connected to it.

        :return: a remark on what this confirms; empty if nothing waited.
        """
        services = self._services
        database = services.databases.describe(self._arn)
        recorded.follow_rename(services.databases, services.inventory, database)
        recorded.make_room(services.databases, services.inventory, database)
        record = services.inventory.get(database.arn)
        confirmed = self._options.confirmed
        if not confirmed and database.has_users:
            return ""
        selection = recorded.selection(services.databases, services.inventory, database, confirmed)
        attributes = selection.recorded or Attributes.of(database)
        if record is None or not record.is_of(database) or record.recorded != attributes:
            services.inventory.select(database, attributes)
            logger.info("recorded the attributes of %s: %s", database.arn, json.dumps(attributes.to_json()))
        if not confirmed:
            return ""
        try:
            waiting = pending(services.access.current().file, selected(database, record))
        except AccessFileInvalid:
            return ""  # the run refuses the file later, with its problems
        if waiting is None:
            return ""
        logger.warning("%s: confirmed: %s", database.arn, waiting)
        return f"confirmed: {waiting}"

    def onboarded(self, applied: Applied, resolved: bool) -> None:
        """Record the finished onboarding: from now on tokens are vended for the database.

        :param resolved: all rotations are as declared; otherwise the next reconcile looks at the database again.
        """
        services = self._services
        database = recorded.selection(
            services.databases,
            services.inventory,
            services.databases.describe(self._arn),
            self._options.confirmed,
        )
        current = fingerprint.of_database(database, applied.declared) if resolved else _UNRESOLVED
        services.inventory.onboarded(database, applied, current, times.now_text())

    def handled(self, drift: str) -> None:
        """Record the drift that this run could not end; none if it ended it."""
        record = self._services.inventory.get(self._arn)
        if record is not None and (drift or record.handled):
            self._services.inventory.set_handled(self._arn, drift, times.now_text())

    def forget(self) -> None:
        """Remove the record of a database that is gone."""
        record = self._services.inventory.get(self._arn)
        if record is not None and record.resource_id is not None:
            self._services.leases.forget(record.resource_id)
            self._services.leases.forget(policies_of(record.resource_id))
        self._services.inventory.forget(self._arn)
