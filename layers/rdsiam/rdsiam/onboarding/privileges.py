"""The privileges in the databases of a PostgreSQL server, batch by batch: each batch is a step of its own.

Users, groups and memberships are those of the whole server, and done before. A batch holds a lease of its own, reads
anew, and ends after some databases or some time: neither memory nor a checkpoint grows with the number of databases.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python.config import Duration

from rdsiam.core.changes import Change, Unreached, changes_from_json
from rdsiam.core.durable import Steps
from rdsiam.core.large_answers import LargeResults
from rdsiam.engines.protocols import DatabaseResult
from rdsiam.errors import AccessFileInvalid, Refused
from rdsiam.onboarding.comparison import Comparer, Comparison
from rdsiam.onboarding.convergence import Convergence, named_once
from rdsiam.onboarding.dependencies import UserServices
from rdsiam.onboarding.options import Options
from rdsiam.state.escalations import Examined
from rdsiam.state.leases import Lease
from rdsiam.state.schemas import NAMED_DATABASES, OpenedSchemas

logger = logging.getLogger(__name__)

#: A batch ends after this many databases, or after this many seconds.
_DATABASES, _SECONDS = 50, 20.0
#: Seconds of batches after which a run pauses: it goes on in a new invocation, with all the time of one.
_SECONDS_OF_INVOCATION = 30.0
#: Seconds before each further attempt on databases that may be reached then.
_PAUSES = (5, 20, 60)
_CHANGED = "access.yaml has changed meanwhile"


@dataclass(frozen=True)
class Batch:
    """The privileges of some databases.

    :ivar changes: made, or planned.
    :ivar missing: the parts that were not done.
    :ivar schemas: the schemas that levels open in each database.
    :ivar position: the last database of the batch; None if there is none after it.
    :ivar retry: databases that another attempt may reach.
    :ivar seconds: the time that it took.
    """

    changes: tuple[Change, ...] = ()
    missing: tuple[Unreached, ...] = ()
    schemas: tuple[OpenedSchemas, ...] = ()
    position: str | None = None
    retry: tuple[str, ...] = ()
    seconds: float = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for a checkpoint."""
        return {
            "changes": [change.to_json() for change in self.changes],
            "missing": [part.to_json() for part in self.missing],
            "schemas": [opened.to_json() for opened in self.schemas],
            "position": self.position,
            "retry": list(self.retry),
            "seconds": round(self.seconds, 1),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Batch":
        """Return the batch from which `to_json` made this JSON."""
        return cls(
            changes_from_json(data["changes"]),
            tuple(Unreached.from_json(part) for part in data["missing"]),
            tuple(map(OpenedSchemas.from_json, data["schemas"])),
            data["position"],
            tuple(data["retry"]),
            data["seconds"],
        )


class Privileges:
    """The privileges in the databases of one server. Each method can be repeated by another process.

    :param holder: the execution that holds the server's lease while it makes changes.
    """

    def __init__(self, services: UserServices, arn: str, options: Options, holder: str) -> None:
        self._services = services
        self._arn = arn
        self._options = options
        self._holder = holder
        self._comparer = Comparer(services, arn, options)

    def converge(
        self, declared: str, apply: bool, after: str | None = None, only: Collection[str] | None = None
    ) -> Batch:
        """Make the privileges of one batch as declared.

        :param declared: fingerprint of the declaration that users and groups were made for: with another one, groups
            may be missing.
        :param apply: make the changes; otherwise return what they would be.
        :param after: the last database of the batch before; None for the first batch.
        :param only: the databases to try again.
        """
        described = self._services.databases.describe(self._arn)
        hold = self._services.leases.hold(described, self._holder) if apply else nullcontext()
        with hold as lease:
            try:
                database = self._comparer.select(described)
                applied, desired = self._comparer.desired(database)
                if applied.declared != declared:
                    return Batch(missing=(Unreached(self._arn, _CHANGED, "rdsiam onboards it again"),))
                with self._comparer.compared(database, applied, desired) as comparison:
                    return self._batch(comparison, lease, after, only)
            except (Refused, AccessFileInvalid) as error:
                part = Unreached(self._arn, error.problem, error.remedy or "correct it, then onboard it again", False)
                return Batch(missing=(part,))

    def _batch(
        self, comparison: Comparison, lease: Lease | None, after: str | None, only: Collection[str] | None
    ) -> Batch:
        started = time.monotonic()
        engine, snapshot, desired = comparison.engine, comparison.snapshot, comparison.desired
        names = [
            name
            for name in engine.databases(snapshot, desired)
            if (after is None or name > after) and (only is None or name in only)
        ]
        results: list[DatabaseResult] = []
        converged = engine.converge_databases(
            comparison.opened.sessions,
            snapshot,
            desired,
            names[:_DATABASES],
            self._before_change(comparison, lease) if lease else None,
        )
        for result in converged:
            results.append(result)
            self._log(result, planned=lease is None)
            if time.monotonic() - started > _SECONDS:
                break
        if lease:
            self._record(comparison, results)
        opened = [each for result in results if result.examined for each in result.examined.schemas.opened]
        return Batch(
            tuple(each for result in results for each in result.statements),
            named_once(part for result in results for part in result.missing),
            tuple(opened),
            results[-1].name if len(results) < len(names) else None,
            tuple(result.name for result in results if any(part.retry for part in result.missing)),
            time.monotonic() - started,
        )

    def _before_change(self, comparison: Comparison, lease: Lease) -> Callable[[], None]:
        """Return a function that records, before the first change, that the onboarding has not ended."""
        recorded = False

        def before_change() -> None:
            nonlocal recorded
            lease.check()
            if not recorded:
                self._services.inventory.record_ownership(comparison.database, comparison.desired.accounts)
                recorded = True

        return before_change

    def _log(self, result: DatabaseResult, planned: bool) -> None:
        for part in result.missing:
            logger.warning("%s: %s; %s", part.what, part.reason, part.remedy)
        for change in () if planned else result.statements:
            logger.info("%s on %s as %s: %s", change.kind, self._arn, change.authority, change.statement)

    def _record(self, comparison: Comparison, results: list[DatabaseResult]) -> None:
        """Record the grants that were revoked, and what was found in the databases, for the audit."""
        database, desired = comparison.database, comparison.desired
        finished = [result.name for result in results if result.finished]
        granted = comparison.engine.granted(comparison.snapshot, desired, finished)
        if granted != dict(desired.granted):
            self._services.inventory.set_granted(database, granted)
        examinations = [result.examined for result in results if result.examined]
        record = self._services.inventory.get(self._arn)
        known = record.examined if record else None
        present = comparison.engine.databases(comparison.snapshot, desired)
        examined = Examined.merged(known, examinations, present)
        if examined != known:
            self._services.inventory.set_examined(database, examined)


class Batches:
    """All batches of a run, as steps of a durable execution.

    :ivar changes: made, or planned.
    :ivar schemas: the schemas that levels open, of the first databases.
    """

    def __init__(
        self, context: DurableContext, results: LargeResults, privileges: Privileges, plan: bool = False
    ) -> None:
        self._context = context
        self._steps = Steps(context, results)
        self._privileges = privileges
        self._plan = plan
        self._seconds = 0.0
        self._number = 0
        self._retry: list[str] = []
        self._parts: list[Unreached] = []
        self.changes: list[Change] = []
        self.schemas: list[OpenedSchemas] = []

    @property
    def missing(self) -> tuple[Unreached, ...]:
        """The parts that were not done."""
        return named_once(self._parts)

    def run(self, users: Convergence) -> None:
        """Run all batches, and try what may be reached then again.

        :param users: the result of making users and groups.
        """
        if users.applied is None or not users.databases:
            return
        declared = users.applied.declared
        self._all(declared, None)
        for pause in () if self._plan else _PAUSES:
            if not self._retry:
                break
            self._context.wait(Duration.from_seconds(pause), name=f"wait for databases {self._number}")
            self._seconds = 0
            again, self._retry = self._retry, []
            self._parts = [part for part in self._parts if not part.retry]
            self._all(declared, again)

    def _all(self, declared: str, only: Collection[str] | None) -> None:
        position = None
        while True:
            batch = self._batch(declared, position, only)
            position = batch.position
            if position is None:
                return
            if self._seconds > _SECONDS_OF_INVOCATION:
                self._context.wait(Duration.from_seconds(1), name=f"pause after batch {self._number}")
                self._seconds = 0

    def _batch(self, declared: str, after: str | None, only: Collection[str] | None) -> Batch:
        self._number += 1
        name = f"compare privileges {self._number}" if self._plan else f"make privileges {self._number}"
        batch = self._steps.run_typed(
            name, Batch, lambda: self._privileges.converge(declared, not self._plan, after, only)
        )
        self._seconds += batch.seconds
        self._retry += batch.retry
        self._parts += batch.missing
        self.changes += batch.changes
        self.schemas = [*self.schemas, *batch.schemas][:NAMED_DATABASES]
        return batch
