"""Reconciliation: every database whose fingerprint differs from the recorded one is onboarded, in its own execution.

A reconcile opens no database. It reads the fleet page by page, each page a checkpoint, so that its memory doesn't grow
with the fleet and a killed reconcile continues with the next page.
"""

import json
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aws_durable_execution_sdk_python import DurableContext

from rdsiam.access.change_limit import Loss, loss
from rdsiam.access.effective import effective_users
from rdsiam.access.model import AccessFile
from rdsiam.access.pending import pending
from rdsiam.access.store import Versioned
from rdsiam.aws.rds import Database
from rdsiam.core.durable import Steps
from rdsiam.errors import AccessFileInvalid, NothingListed
from rdsiam.onboarding.dependencies import OnboardingServices
from rdsiam.onboarding.limits import limit_callers
from rdsiam.onboarding.options import Options
from rdsiam.state import fingerprint, recorded
from rdsiam.state.record import Record, selected

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconciled:
    """The answer of a reconcile.

    :ivar started: ARNs of databases whose onboarding was started, or would be, sorted.
    :ivar unchanged: number of databases that are as recorded.
    """

    started: tuple[str, ...]
    unchanged: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that OnboardFunction answers with."""
        return {"started": list(self.started), "unchanged": self.unchanged}


@dataclass(frozen=True)
class Page:
    """The result of one page of the fleet.

    :ivar position: of the next page; None if this is the last one.
    """

    started: tuple[str, ...]
    unchanged: int
    position: str | None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for a checkpoint."""
        return {"started": list(self.started), "unchanged": self.unchanged, "position": self.position}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Page":
        """Return the page from which `to_json` made this JSON."""
        return cls(tuple(data["started"]), data["unchanged"], data["position"])


@dataclass(frozen=True)
class Target:
    """The version of access.yaml that a reconcile applies.

    :ivar loss: what callers lose against the applied version; nothing if that is confirmed or unknown.
    :ivar problems: why the version is invalid; empty if it is valid.
    :ivar confirmed: its publisher or an operator has confirmed its losses.
    """

    version: str
    published: str
    loss: Loss
    problems: tuple[str, ...]
    confirmed: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for a checkpoint."""
        return {
            "version": self.version,
            "published": self.published,
            "lost": self.loss.lost,
            "before": self.loss.before,
            "problems": list(self.problems),
            "confirmed": self.confirmed,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Target":
        """Return the target from which `to_json` made this JSON."""
        change = Loss(data["lost"], data["before"])
        return cls(data["version"], data["published"], change, tuple(data["problems"]), data["confirmed"])


def reconcile(context: DurableContext, services: OnboardingServices, options: Options) -> Reconciled:
    """Start the onboarding of every database that differs from its record, and of those that are gone.

    :param options: with `plan` nothing is started; `confirmed` is passed on to what is started, and confirms that all
        databases are gone if RDS lists none, and that callers lose most of their logins.
    :raises NeedsConfirmation: callers lose most of their logins, and neither the publisher of access.yaml nor
        `options` confirms that.
    :raises NothingListed: RDS lists no database and that is not confirmed: an empty list proves nothing.
    """
    steps = Steps(context, services.results)
    name = steps.run("name the reconcile", lambda: secrets.token_hex(6))
    run = Reconcile(services, name, options)
    target = steps.run_typed("check the change limit", Target, run.target)
    limit_callers(target.version, target.loss)
    run.aim(target)
    if target.confirmed:  # before all that may fail: the next version is not compared with logins that this one takes
        steps.run("record the confirmed version", run.record_applied)
    started = list(steps.run("compare records", run.gone))
    unchanged, number, position = 0, 1, None
    while True:
        page = steps.run_typed(f"compare page {number}", Page, _page(run, position))
        started += page.started
        unchanged += page.unchanged
        if page.position is None:
            break
        number, position = number + 1, page.position
    steps.run("record the applied version", run.record_applied)
    logger.info("reconciled: %d started, %d unchanged", len(started), unchanged)
    return Reconciled(tuple(sorted(started)), unchanged)


def _page(run: "Reconcile", position: str | None) -> Callable[[], Page]:
    return lambda: run.page(position)


class Reconcile:
    """The steps of one reconcile. An onboarding that is started twice, by a repeated step, is one execution.

    :param name: of this reconcile, part of the names of the executions that it starts.
    """

    def __init__(self, services: OnboardingServices, name: str, options: Options) -> None:
        self._services = services
        self._name = name
        self._options = options
        #: The version that the reconcile applies, once that is decided, and its file.
        self._target: Target | None = None
        self._pinned: Versioned | None = None

    def target(self) -> "Target":
        """Return the version of access.yaml to apply, and what callers lose by it unless that is confirmed."""
        services = self._services
        try:
            access = services.newest.current(anew=True)  # the same content may have been confirmed since
        except AccessFileInvalid as error:
            return Target(error.version, "", Loss(0, 0), tuple(error.problems), False)
        version = services.applied.version()
        is_confirmed = access.confirmed or self._options.confirmed or self._options.plan
        before = None if is_confirmed or version in (None, access.version) else services.newest.version(version or "")
        lost = loss(before.file, access.file, datetime.now(UTC)) if before else Loss(0, 0)
        return Target(access.version, access.published, lost, (), is_confirmed)

    def aim(self, target: "Target") -> None:
        """Apply this version in all steps that follow, whatever is published while the reconcile runs."""
        self._target = target

    def record_applied(self) -> bool:
        """Record the version as applied, and return whether it is. A plan applies nothing."""
        target = self._target
        return (
            target is not None
            and not self._options.plan
            and self._services.applied.record(target.version, target.published)
        )

    def gone(self) -> list[str]:
        """Start the onboarding of databases that have a record and are gone: it removes their policies and records."""
        listed = {database.arn for database in self._services.databases.list()}
        started = []
        for arn, record in self._services.inventory.all():
            if arn in listed:
                continue
            if not listed and not self._options.confirmed:
                raise NothingListed(
                    "RDS lists no database in this account and region, yet the inventory records some, and nothing is "
                    "done",
                    "if all of them were deleted: rdsiam reconcile --confirm",
                )
            self._start(arn, record.policy_resource_id or record.resource_id or "", "gone")
            started.append(arn)
        return started

    def page(self, position: str | None) -> Page:
        """Start the onboarding of databases of one page that differ from their records."""
        databases, next_position = self._services.databases.page(position)
        started, unchanged = [], 0
        for database in databases:
            record = self._services.inventory.of(database)
            current = self._fingerprint(database, record)
            undeclared = current is None and (record is None or record.only_seen)
            if undeclared and not self._gains_pending(database, record):
                self._record_first_seen(database, record)
            elif record is not None and self._is_current(database, record, current):
                unchanged += 1
            else:
                self._start(database.arn, database.resource_id, current or "none")
                started.append(database.arn)
        return Page(tuple(started), unchanged, next_position)

    def _gains_pending(self, database: Database, record: Record | None) -> bool:
        """Return whether an entry matches the present attributes of a database and no event was published about it."""
        if record is None or record.pending:
            return False
        try:
            return pending(self._access(), selected(database, record)) is not None
        except AccessFileInvalid:
            return False

    def _record_first_seen(self, database: Database, record: Record | None) -> None:
        if not self._options.plan and (record is None or not record.is_of(database)):
            recorded.make_room(self._services.databases, self._services.inventory, database)
            self._services.inventory.see(database)

    def _fingerprint(self, database: Database, record: Record | None) -> str | None:
        """Return the fingerprint of what is declared now; None if nothing is.

        :raises AccessFileInvalid: the whole file breaks its rules.
        """
        file = self._access()
        try:
            selection = selected(database, record)
            declared, rotating = file.declared(selection), file.rotating(selection)
        except AccessFileInvalid:
            return "invalid"  # for this database only: its onboarding answers with the problems
        if not declared and not rotating:
            return None
        users = effective_users(declared, record.revoked if record else ())
        return fingerprint.of_database(database, fingerprint.of_declared(users, rotating))

    def _access(self) -> AccessFile:
        """Return the version that the reconcile applies; the current one if that is gone meanwhile."""
        target, access = self._target, self._services.newest
        if target is None:
            return access.current().file
        if target.problems:
            raise AccessFileInvalid(list(target.problems), target.version)
        if self._pinned is None:
            current = access.current()
            replaced = current.version != target.version
            self._pinned = (access.version(target.version) if replaced else None) or current
        return self._pinned.file

    def _is_current(self, database: Database, record: Record, current: str | None) -> bool:
        """Return whether a database is as recorded, also if it was ignored.

        :param current: fingerprint of the database and its declaration; None if nothing is declared.
        """
        if record.ignored_fingerprint == current:
            return True
        if not record.finished or record.leaving:
            return False
        if max(record.shards.values(), default=0) > self._services.connect_role_shards:
            return False  # the stack no longer has the role that signs for some of its users
        undeclared = fingerprint.of_database(database, fingerprint.of_declared(()))
        return record.fingerprint == (current or undeclared)

    def _start(self, arn: str, resource_id: str, cause: str) -> None:
        if self._options.plan:
            return
        payload = {"database": arn, "confirm": True} if self._options.confirmed else {"database": arn}
        self._services.functions.invoke(
            FunctionName=self._services.onboard_function,
            InvocationType="Event",
            # 64 characters at most; a cluster's resource id has 34.
            DurableExecutionName=f"{resource_id[:38]}-{cause[:12]}-{self._name}",
            Payload=json.dumps(payload).encode(),
        )
        logger.info("started the onboarding of %s", arn, extra={"database": arn})
