"""Steps of an audit, each a checkpoint. Each reads from S3 what it needs, so that another process can repeat it."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, cast

from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.access.selection import select
from rdsiam.audit.account import AccountContext
from rdsiam.audit.assemble import AuditRun, assemble
from rdsiam.audit.batch import Reading, part_of
from rdsiam.audit.deployment import Deployment
from rdsiam.audit.drift import Login
from rdsiam.audit.evaluate_iam import evaluate_iam
from rdsiam.audit.history import History
from rdsiam.audit.iam_logins import Fleet
from rdsiam.audit.notify import Notifier
from rdsiam.audit.onboardings import Onboardings
from rdsiam.audit.parts import DatabasePart
from rdsiam.audit.store import REPORTS, AuditStore, new_id, part_order
from rdsiam.aws.iam import holders
from rdsiam.aws.rds import Database, Databases
from rdsiam.aws.secrets.metadata import Secrets
from rdsiam.core import times
from rdsiam.core.batches import batched
from rdsiam.core.large_answers import LargeResults
from rdsiam.engines.facts import Unreadable
from rdsiam.errors import RdsiamError
from rdsiam.findings.catalogue import KINDS
from rdsiam.report.csv import csv_report
from rdsiam.report.document import OnboardingLine, Report, Severities, json_report
from rdsiam.report.ocsf import ocsf_lines
from rdsiam.report.page import KindText, html_report
from rdsiam.report.security_hub import asff

logger = logging.getLogger(__name__)

#: Databases in a batch.
BATCH = 50
_KIND_TEXTS = {kind.id: KindText(kind.id, kind.risk) for kind in KINDS.values()}
_NO_RESULT = "AuditBatchFunction failed twice before it had a result for this database"


@dataclass(frozen=True)
class AuditServices:
    """The services that an audit uses.

    :ivar results: results that neither a checkpoint nor an answer can hold.
    :ivar at_once: number of batches that are audited at a time.
    """

    databases: Databases
    access: ConfirmedAccess
    store: AuditStore
    notifier: Notifier
    iam: Any
    secrets: Secrets
    batch_function: str
    deployment: Deployment
    results: LargeResults
    functions: Any
    onboard_function: str
    at_once: int = 10


@dataclass(frozen=True)
class Begun:
    """A run that has begun.

    :ivar daily: the schedule started it.
    """

    id: str
    started: str
    daily: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Begun":
        """Return the run from which `to_json` made this JSON."""
        return cls(**data)


@dataclass(frozen=True)
class AuditAnswer:
    """The answer of AuditFunction to a request for an audit; see docs/audit.md.

    :ivar reports: kind of report → its URI.
    :ivar onboardings: that it has started.
    """

    id: str
    databases: int
    audited: int
    unreachable: int
    findings: Severities
    reports: Mapping[str, str]
    onboardings: Sequence[OnboardingLine] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "AuditAnswer":
        """Return the answer from which `to_json` made this JSON."""
        return cls(**data)


class FleetVanished(RdsiamError):
    """RDS lists no database, but the run before had findings. They are not resolved by an empty answer."""

    code = "fleet-vanished"


class AuditSteps:
    """The steps of one run. Each reads all that it needs, so that another process can repeat it."""

    def __init__(self, services: AuditServices, databases: Sequence[str] | None, daily: bool) -> None:
        self._services = services
        self._named = databases
        self._daily = daily

    def begin(self) -> Begun:
        """Give the run its id, if access.yaml can be read: nothing can be evaluated without it."""
        self._services.access.current()
        at = datetime.now(UTC)
        return Begun(new_id(at), times.text(at), self._daily)

    def list_fleet(self, begun: Begun) -> int:
        """Store the databases in batches, and their account's proxies and secrets; return the number of batches."""
        services = self._services
        databases = sorted(self._fleet(), key=part_order)
        if not databases and self._before(begun.id).open:
            raise FleetVanished(
                "RDS lists no database, although the last audit had findings",
                "check that the stack's region is right and that AuditFunction may call rds:Describe*, then audit "
                "again",
            )
        account = AccountContext(
            tuple(services.databases.proxies()),
            tuple(services.secrets.list(datetime.now(UTC))),
            self._without_iam(databases),
        )
        services.store.put_context(begun.id, account)
        batches = list(batched(databases, BATCH))
        for number, batch in enumerate(batches):
            services.store.put_batch(begun.id, number, batch)
        logger.info("audit %s is of %d databases", begun.id, len(databases))
        return len(batches)

    def list_slow(self, begun: Begun, slow: Sequence[int]) -> int:
        """Store the databases that batches have left in batches of their own; return the number of these.

        :param slow: the number of databases that each batch has left.
        """
        store = self._services.store
        databases: list[Database] = []
        for number in (number for number, left in enumerate(slow) if left):
            batch = store.batch(begun.id, number)
            done = store.done(begun.id, batch)
            databases += [database for database in batch if database.resource_id not in done]
        batches = list(batched(databases, BATCH))
        for number, batch in enumerate(batches, len(slow)):
            store.put_batch(begun.id, number, batch)
        logger.info("audit %s has %d slow databases", begun.id, len(databases))
        return len(batches)

    def evaluate_policies(self, begun: Begun, batches: int) -> None:
        """Store the findings in the account's IAM policies."""
        services = self._services
        databases: dict[str, Database] = {}
        users: dict[str, Sequence[str]] = {}
        logins: dict[str, Sequence[Login]] = {}
        for database, part in self._parts(begun, range(batches)):
            databases[database.resource_id] = database
            if part and part.users is not None:
                users[database.resource_id] = part.users
            if part and part.logins:
                logins[database.resource_id] = part.logins
        fleet = Fleet(services.databases.identities(), databases, users, logins)
        access = services.access.current().file
        findings = evaluate_iam(holders(services.iam), access, fleet, services.deployment, datetime.now(UTC))
        wanted = [finding for finding in findings if self._named is None or finding.database in self._named]
        services.store.put_iam(begun.id, wanted)

    def report(
        self, begun: Begun, batches: int, policies_unreadable: str | None, onboardings: Sequence[OnboardingLine]
    ) -> AuditAnswer:
        """Assemble the results, compare them with the run before, write the reports, and finish the run."""
        services = self._services
        access = services.access.current()
        account = services.store.context(begun.id)
        no_result = Reading(Unreadable("time", _NO_RESULT))
        parts = [
            part or part_of(select(database, None), no_result, access.file, account)
            for database, part in self._parts(begun, range(batches))
        ]
        run = AuditRun(
            id=begun.id,
            started=begun.started,
            finished=times.now_text(),
            account=services.deployment.account,
            region=services.deployment.region,
            whole=self._named is None,
            access_version=access.version,
            onboardings=onboardings,
            policies_unreadable=policies_unreadable,
        )
        assembled = assemble(
            run,
            self._before(begun.id),
            [part.entry for part in parts],
            [finding for part in parts for finding in part.findings],
            [] if policies_unreadable else services.store.iam(begun.id),
        )
        report = assembled.report
        texts = _texts(report, services.deployment)
        uris = {kind: services.store.put_report(begun.id, kind, texts[kind]) for kind in REPORTS}
        services.store.put_history(begun.id, assembled.history)
        services.store.finish(
            begun.id,
            report["scope"],
            {
                "id": report["id"],
                "scope": report["scope"],
                "started": report["started"],
                "finished": report["finished"],
                "policies": report["policies"],
                "summary": report["summary"],
            },
        )
        summary = report["summary"]
        logger.info("audit %s has finished: %d of %d read", begun.id, summary["audited"], summary["databases"])
        return AuditAnswer(
            id=begun.id,
            databases=summary["databases"],
            audited=summary["audited"],
            unreachable=summary["unreachable"],
            findings=summary["findings"],
            reports={kind: uris[kind] for kind in ("json", "csv", "html")},
        )

    def start_onboardings(self, begun: Begun, batches: range, policies_readable: bool) -> list[OnboardingLine]:
        """Start the onboarding of databases of these batches that have a new drift, and return them."""
        services = self._services
        onboardings = Onboardings(services.functions, services.onboard_function, begun.id, begun.daily)
        policies = services.store.iam(begun.id) if policies_readable else []
        return list(onboardings.start(self._parts(begun, batches), policies))

    def notify(self, begun: Begun) -> None:
        """Notify others of the result. A run that a later one has overtaken has no news."""
        store = self._services.store
        runs = store.finished_runs()
        # The report step may have run twice: its last summary counts.
        summary = store.summary(next(run for run in runs if run.id == begun.id))
        report = cast("Report", json.loads(store.report(begun.id, "json")) | summary)
        overtaken = any(run.scope == "all" and run.id > begun.id for run in runs)
        findings = json.loads(store.report(begun.id, "asff"))
        news = self._named is None and not overtaken
        self._services.notifier.notify(report, findings, store.history(begun.id).new, news)

    def _fleet(self) -> list[Database]:
        databases = self._services.databases
        if self._named is None:
            return list(databases.list())
        return [databases.describe(arn) for arn in self._named]

    def _without_iam(self, databases: Sequence[Database]) -> Mapping[str, str | None]:
        """Return databases that can't have IAM authentication; looked up for those only in which it is off."""
        off = [database for database in databases if database.has_users and not database.iam_enabled]
        supports = [(database.arn, self._services.databases.iam_support(database)) for database in off]
        return {arn: support.upgrade for arn, support in supports if not support.available}

    def _parts(self, begun: Begun, batches: Iterable[int]) -> Iterator[tuple[Database, DatabasePart | None]]:
        """Yield all databases of these batches, each with its part; None if it has no result."""
        store = self._services.store
        for number in batches:
            yield from store.parts(begun.id, store.batch(begun.id, number))

    def _before(self, audit_id: str) -> History:
        """Return the history after the last run of the whole fleet before this one."""
        store = self._services.store
        for run in store.finished_runs():
            if run.scope == "all" and run.id < audit_id:
                return store.history(run.id)
        return History()


def _texts(report: Report, deployment: Deployment) -> Mapping[str, str]:
    """Return the texts of all REPORTS."""
    findings = asff(report, account=deployment.account, region=deployment.region, partition=deployment.partition)
    return {
        "json": json_report(report),
        "csv": csv_report(report),
        "html": html_report(report, kinds=_KIND_TEXTS),
        "asff": json.dumps(list(findings)),
        "ocsf": "".join(ocsf_lines(report)),
    }
