"""A reconcile: every database whose fingerprint differs from the inventory's is onboarded, in its own execution.

The reconcile itself opens no database. It looks at a page of the fleet at a time, each a checkpoint, so that its memory
doesn't grow with the fleet and a killed one goes on where it stopped.
"""

import json
import logging
import secrets
from typing import Any, TypeVar

from aws_durable_execution_sdk_python import DurableContext

from rdsiam.access.effective import effective_users
from rdsiam.access.pending import pending
from rdsiam.aws.rds import Database
from rdsiam.core.durable import Steps
from rdsiam.errors import AccessFileInvalid, RdsiamError
from rdsiam.onboarding.dependencies import Services
from rdsiam.state import fingerprint, recorded
from rdsiam.state.inventory import Record, selected

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: A checkpoint holds 256 KiB; beyond this many the answer doesn't name what was started, the log does.
_MAX_NAMED = 1500


class NothingListed(RdsiamError):
    """RDS lists no database at all, yet the inventory has some."""

    code = "nothing-listed"


def reconcile(context: DurableContext, services: Services, plan: bool, confirmed: bool) -> dict[str, Any]:
    """Start the onboarding of every database that differs from what is recorded, and of those that are gone.

    :param plan: start nothing, say what would be started.
    :param confirmed: handed on to what is started; and that RDS lists nothing at all is meant.
    :return: `started`, ARNs, sorted; `unchanged`, how many are as recorded.
    :raises NothingListed: an empty list means that nothing can be said, never that all are gone.
    """

    step = Steps(context).run
    identity = step("name the reconcile", lambda: secrets.token_hex(6))
    run = _Reconcile(services, identity, plan, confirmed)
    started = step("look for what is gone", run.gone)
    unchanged, position, number = 0, None, 0
    while number == 0 or position is not None:
        number += 1
        here = position
        page = step(f"look at page {number}", lambda: run.page(here))  # noqa: B023  # it runs at once
        started += page["started"]
        unchanged += page["unchanged"]
        position = page["next"]
    logger.info("swept: %d started, %d unchanged", len(started), unchanged)
    return {"started": sorted(started)[:_MAX_NAMED], "unchanged": unchanged}


class _Reconcile:
    """The steps. What is started twice, because a step is repeated, is one execution: its name is the same."""

    def __init__(self, services: Services, identity: str, plan: bool, confirmed: bool) -> None:
        self._services = services
        self._identity = identity
        self._flags = {"plan": plan, "confirm": confirmed}

    def gone(self) -> list[str]:
        """Start the onboarding of what the inventory has and RDS has not: it finds out, and forgets it."""
        there = {database.arn for database in self._services.databases.list()}
        started = []
        for arn, record in self._services.inventory.all():
            if arn in there:
                continue
            if not there and not self._flags["confirm"]:
                raise NothingListed(
                    "RDS lists no database in this account and region, yet the inventory has some, and nothing is done "
                    'on that; if all of them were deleted, reconcile again with "confirm": true'
                )
            self._start(arn, record.policy_resource_id or record.resource_id or "", "gone")
            started.append(arn)
        return started

    def page(self, position: str | None) -> dict[str, Any]:
        """Start what differs on one page of the fleet."""
        databases, following = self._services.databases.page(position)
        started, unchanged = [], 0
        for database in databases:
            record = self._services.inventory.of(database)
            now = self._fingerprint(database, record)
            undeclared = now is None and (record is None or record.only_seen)
            if undeclared and not self._waits(database, record):
                self._see(database, record)
                continue
            if (
                record is not None
                and record.finished
                and not record.leaving
                and record.fingerprint == (now or _undeclared(database))
            ):
                unchanged += 1
                continue
            self._start(database.arn, database.resource_id, now or "none")
            started.append(database.arn)
        return {"started": started, "unchanged": unchanged, "next": following}

    def _waits(self, database: Database, record: Record | None) -> bool:
        """Tell whether an entry is about a database that none was about when it was first seen, and nobody was told."""
        if record is None or record.pending:
            return False
        try:
            return pending(self._services.access.current().file, selected(database, record)) is not None
        except AccessFileInvalid:
            return False

    def _see(self, database: Database, record: Record | None) -> None:
        if not self._flags["plan"] and (record is None or not record.is_of(database)):
            recorded.make_room(self._services.databases, self._services.inventory, database)
            self._services.inventory.see(database)

    def _fingerprint(self, database: Database, record: Record | None) -> str | None:
        """Return the fingerprint of what is declared now; None where nothing is.

        :raises AccessFileInvalid: the whole file breaks its rules.
        """
        file = self._services.access.current().file
        try:
            selection = selected(database, record)
            declared, rotating = file.declared(selection), file.rotating(selection)
        except AccessFileInvalid:
            return "invalid"  # for this database only: its onboarding says what is wrong
        if not declared and not rotating:
            return None
        stands = effective_users(declared, record.revoked if record else ())
        return fingerprint.of_database(database, fingerprint.of_declared(stands, rotating))

    def _start(self, arn: str, resource_id: str, why: str) -> None:
        if self._flags["plan"]:
            return
        payload = {"database": arn, "confirm": True} if self._flags["confirm"] else {"database": arn}
        self._services.functions.invoke(
            FunctionName=self._services.onboard_function,
            InvocationType="Event",
            # 64 characters at most; a cluster's resource id has 34.
            DurableExecutionName=f"{resource_id[:38]}-{why[:12]}-{self._identity}",
            Payload=json.dumps(payload).encode(),
        )
        logger.info("started the onboarding of %s", arn)


def _undeclared(database: Database) -> str:
    """Return the fingerprint of a database of ours that nothing is declared for any more."""
    return fingerprint.of_database(database, fingerprint.of_declared(()))
