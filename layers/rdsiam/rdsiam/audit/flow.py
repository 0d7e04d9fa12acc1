"""A run of the audit: list the fleet → batches, several at a time → policies → report → tell.

Each line of `audit` is a checkpoint, and all that is large is in S3: what a step returns is a few numbers. A run that
is killed goes on from the last checkpoint and the results that are there. It ends with a report whatever becomes of the
databases; without a list of them, or without a readable access.yaml, there is nothing to report on, and it fails.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import batched
from typing import Any

from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python.config import CompletionConfig, MapConfig, NestingType
from aws_durable_execution_sdk_python.exceptions import InvokeError, StepError

from rdsiam.access.selection import select
from rdsiam.access.store import AccessStore
from rdsiam.audit.account import AccountContext
from rdsiam.audit.assemble import Run, collect
from rdsiam.audit.batch import part_of
from rdsiam.audit.deployment import Deployment
from rdsiam.audit.evaluate_iam import evaluate_iam
from rdsiam.audit.history import History
from rdsiam.audit.iam_rules import Fleet
from rdsiam.audit.notify import Telling
from rdsiam.audit.store import REPORTS, AuditStore, new_id, part_order
from rdsiam.aws.iam import holders
from rdsiam.aws.rds import Database, Databases
from rdsiam.aws.secrets.metadata import Secrets
from rdsiam.core import times
from rdsiam.core.durable import Steps
from rdsiam.engines.facts import Unreadable
from rdsiam.errors import RdsiamError
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.finding import Finding
from rdsiam.report.csv import csv_report
from rdsiam.report.document import json_report
from rdsiam.report.ocsf import ocsf_lines
from rdsiam.report.page import KindText, html_report
from rdsiam.report.security_hub import asff

logger = logging.getLogger(__name__)

#: Databases in a batch: each has a thread of its own in the function that audits the batch.
BATCH = 50
_ATTEMPTS = 4
_KINDS = {kind.id: KindText(kind.id, kind.risk) for kind in KINDS.values()}
_DIED = "the function that audits it died twice before it had a result"


@dataclass(frozen=True)
class Services:
    """What a run works with.

    :ivar at_once: how many batches are audited at a time.
    """

    databases: Databases
    access: AccessStore
    store: AuditStore
    telling: Telling
    iam: Any
    secrets: Secrets
    batch_function: str
    deployment: Deployment
    at_once: int = 10


class FleetVanished(RdsiamError):
    """RDS lists no database, and the run before knew some: an empty answer is no reason to call all resolved."""

    code = "fleet-vanished"


def audit(context: DurableContext, services: Services, databases: Sequence[str] | None) -> dict[str, Any]:
    """Audit the fleet, or the databases of these ARNs.

    :return: the answer of AuditFunction, see docs/audit.md.
    :raises RdsiamError: there is nothing to report on.
    """

    step = Steps(context, _ATTEMPTS).run
    run = _Run(services, databases)
    begun = step("begin", run.begin)
    batches = step("list the fleet", lambda: run.list_fleet(begun))

    def one(child: DurableContext, number: int, *_: Any) -> bool:
        return _audit_batch(child, services.batch_function, begun["id"], number)

    context.map(range(batches), one, name="audit batches", config=_batches(services.at_once))
    unread = None
    try:
        step("judge policies", lambda: run.judge_policies(begun, batches))
    except StepError as error:
        unread = f"{error.error_type}: {error.message}"[:500]
    answer = step("report", lambda: run.report(begun, batches, unread))
    step("tell", lambda: run.tell(begun))
    return answer


def _audit_batch(context: DurableContext, function: str, audit_id: str, number: int) -> bool:
    """Have a batch audited, a second time if that fails; databases that have a result are left alone then."""
    for attempt in ("", " again"):
        try:
            context.invoke(function, {"audit": audit_id, "batch": number}, name=f"audit batch {number}{attempt}")
        except InvokeError as error:
            logger.warning("batch %d of %s died%s: %s", number, audit_id, attempt, error)
        else:
            return True
    return False


def _batches(at_once: int) -> MapConfig[int]:
    # A failed batch is no reason to leave the others; and an operation for each batch is enough to look at.
    return MapConfig(
        max_concurrency=at_once,
        completion_config=CompletionConfig(tolerated_failure_percentage=100),
        nesting_type=NestingType.FLAT,
    )


class _Run:
    """The steps of one run. Each reads what it needs, so that it can be repeated by another process."""

    def __init__(self, services: Services, databases: Sequence[str] | None) -> None:
        self._services = services
        self._named = databases

    def begin(self) -> dict[str, str]:
        """Give the run its id, once access.yaml can be read: nothing can be judged without it."""
        self._services.access.current()
        at = datetime.now(UTC)
        return {"id": new_id(at), "started": _text(at)}

    def list_fleet(self, begun: dict[str, str]) -> int:
        """Write batches of databases, and what they have to know of the account; return how many there are."""
        services, audit_id = self._services, begun["id"]
        found = sorted(self._fleet(), key=part_order)
        if not found and self._before(audit_id).open:
            raise FleetVanished("RDS lists no database, though the audit before had findings: not taken for resolved")
        account = AccountContext(tuple(services.databases.proxies()), tuple(services.secrets.list(datetime.now(UTC))))
        services.store.put_context(audit_id, account.to_json())
        number = -1
        for number, some in enumerate(batched(found, BATCH, strict=False)):
            services.store.put_batch(audit_id, number, some)
        logger.info("audit %s is of %d databases", audit_id, len(found))
        return number + 1

    def judge_policies(self, begun: dict[str, str], batches: int) -> None:
        """Judge what the account's policies allow to whom."""
        services, audit_id = self._services, begun["id"]
        databases: dict[str, Database] = {}
        users: dict[str, list[str]] = {}
        for number in range(batches):
            for database, part in services.store.parts(audit_id, services.store.batch(audit_id, number)):
                databases[database.resource_id] = database
                if part and part["users"] is not None:
                    users[database.resource_id] = part["users"]
        fleet = Fleet(services.databases.identities(), databases, users)
        access = services.access.current().file
        findings = evaluate_iam(holders(services.iam), access, fleet, services.deployment, datetime.now(UTC))
        services.store.put_iam(audit_id, [finding.to_json() for finding in findings if self._concerns(finding)])

    def report(self, begun: dict[str, str], batches: int, policies: str | None) -> dict[str, Any]:
        """Collect the results, compare them with the run before, write the reports, and declare the run over."""
        services, audit_id = self._services, begun["id"]
        entries, findings, version = self._parts(audit_id, batches)
        of_policies = [] if policies else services.store.iam(audit_id)
        run = Run(
            id=audit_id,
            started=begun["started"],
            finished=_text(datetime.now(UTC)),
            account=services.deployment.account,
            region=services.deployment.region,
            whole=self._named is None,
            access_version=version,
            policies=policies,
        )
        collected = collect(
            run, self._before(audit_id), entries, findings, [Finding.from_json(one) for one in of_policies]
        )
        report, deployment = collected.report, services.deployment
        texts = {
            "json": json_report(report),
            "csv": csv_report(report),
            "html": html_report(report, kinds=_KINDS),
            "asff": json.dumps(
                list(
                    asff(
                        report,
                        account=deployment.account,
                        region=deployment.region,
                        partition=deployment.partition,
                    )
                )
            ),
            "ocsf": "".join(ocsf_lines(report)),
        }
        written = {kind: services.store.put_report(audit_id, kind, texts[kind]) for kind in REPORTS}
        services.store.put_history(audit_id, collected.history.to_json() | {"new": sorted(collected.new)})
        kept = {name: report[name] for name in ("id", "scope", "started", "finished", "policies", "summary")}
        services.store.finish(audit_id, "all" if run.whole else "some", kept)
        summary = report["summary"]
        logger.info("audit %s is over: %d of %d read", audit_id, summary["audited"], summary["databases"])
        return {
            "id": audit_id,
            "databases": summary["databases"],
            "audited": summary["audited"],
            "unreachable": summary["unreachable"],
            "findings": summary["findings"],
            "reports": {kind: written[kind] for kind in ("json", "csv", "html")},
        }

    def tell(self, begun: dict[str, str]) -> None:
        """Tell others how it ended. A run that a later one has overtaken has no news."""
        store, audit_id = self._services.store, begun["id"]
        report = json.loads(store.report(audit_id, "json"))
        runs = store.finished_runs()
        report |= store.summary(next(run for run in runs if run.id == audit_id))
        overtaken = any(run.scope == "all" and run.id > audit_id for run in runs)
        new = frozenset(store.history(audit_id)["new"])
        news = self._named is None and not overtaken
        self._services.telling.tell(report, json.loads(store.report(audit_id, "asff")), new, news)

    def _fleet(self) -> list[Database]:
        databases = self._services.databases
        if self._named is None:
            return list(databases.list())
        return [databases.describe(arn) for arn in self._named]

    def _concerns(self, finding: Finding) -> bool:
        return self._named is None or finding.database in self._named

    def _parts(self, audit_id: str, batches: int) -> tuple[list[dict[str, Any]], list[Finding], str]:
        """Return the entries and findings of all databases; those without a result are unknown."""
        store = self._services.store
        access = self._services.access.current()
        account = AccountContext.from_json(store.context(audit_id))
        entries: list[dict[str, Any]] = []
        findings: list[Finding] = []
        for number in range(batches):
            for database, part in store.parts(audit_id, store.batch(audit_id, number)):
                known = part or part_of(select(database, None), Unreadable("time", _DIED), access.file, account)
                entries.append(known["database"])
                findings += [Finding.from_json(one) for one in known["findings"]]
        return entries, findings, access.version

    def _before(self, audit_id: str) -> History:
        """Return what was open after the last whole run before this one."""
        store = self._services.store
        for run in store.finished_runs():
            if run.scope == "all" and run.id < audit_id:
                return History.from_json(store.history(run.id))
        return History()


def _text(at: datetime) -> str:
    return times.text(at)
