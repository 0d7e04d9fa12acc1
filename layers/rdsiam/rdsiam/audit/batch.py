"""One batch of an audit: each database in a thread of its own, each result kept as soon as it is there.

A database that hangs costs its own thread and nobody else's time. What is not done when time runs out is unknown, with
that as the cause, and says so like any other result.
"""

import logging
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from rdsiam.access.model import AccessFile
from rdsiam.access.selection import SelectedDatabase, select
from rdsiam.access.store import AccessStore
from rdsiam.audit.account import AccountContext
from rdsiam.audit.collect import read
from rdsiam.audit.evaluate_database import RecordedState, evaluate_database, has_users
from rdsiam.audit.store import AuditStore
from rdsiam.aws.rds import Database
from rdsiam.engines.facts import AccountFacts, ServerFacts, Unreadable
from rdsiam.engines.logins import AUDITOR, MANAGER, Logins
from rdsiam.findings.finding import Finding
from rdsiam.state.inventory import Inventory, Record, selected
from rdsiam.state.migrations import Migration, Migrations

logger = logging.getLogger(__name__)

Read = Literal["audited", "unknown", "replica", "proxy"]


@dataclass(frozen=True)
class Services:
    """What auditing a batch works with."""

    store: AuditStore
    access: AccessStore
    inventory: Inventory
    migrations: Migrations
    logins: Logins


def audit_batch(services: Services, audit: str, number: int, seconds: float) -> dict[str, int]:
    """Audit those databases of batch `number` that have no result yet.

    :param seconds: how long it may take; all results are written by then, of what hangs that it does.
    :return: `{"audited": n, "unknown": n}`: what this call wrote.
    """
    deadline = time.monotonic() + seconds
    account = AccountContext.from_json(services.store.context(audit))
    databases = services.store.batch(audit, number)
    access = services.access.current().file
    done = services.store.done(audit, databases)
    waiting = {one.resource_id: one for one in databases if one.resource_id not in done}
    # Only this thread writes: one that comes back after it was given up can change nothing any more.
    results: queue.SimpleQueue[tuple[Database, dict[str, Any]]] = queue.SimpleQueue()

    def work(database: Database) -> None:
        results.put((database, _audit(services, database, access, account)))

    for database in waiting.values():
        threading.Thread(target=work, args=(database,), daemon=True, name=database.resource_id).start()
    written: dict[str, int] = {"audited": 0, "unknown": 0}
    while waiting:
        try:
            database, part = results.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        del waiting[database.resource_id]
        services.store.put_part(audit, database, part)
        written["unknown" if part["database"]["read"] == "unknown" else "audited"] += 1
    for database in waiting.values():
        logger.warning("no result of %s within %.0f s", database.arn, seconds)
        unread = Unreadable("time", "it did not come to an end in the time that its batch had")
        services.store.put_part(
            audit, database, part_of(select(database, None), unread, access, account, seconds=seconds)
        )
        written["unknown"] += 1
    return written


def part_of(
    database: SelectedDatabase,
    facts: ServerFacts | Unreadable,
    access: AccessFile,
    account: AccountContext,
    recorded: RecordedState | None = None,
    seconds: float = 0.0,
    migrations: Iterable[Migration] = (),
) -> dict[str, Any]:
    """Return a database's part of the report.

    :param recorded: the inventory's records of the database.
    :param migrations: of its users.
    """
    findings = evaluate_database(database, facts, access, account, recorded or RecordedState(), datetime.now(UTC))
    return _part(database, facts, findings, account, seconds, migrations)


def _part(
    database: Database,
    facts: ServerFacts | Unreadable,
    findings: Sequence[Finding],
    account: AccountContext,
    seconds: float,
    migrations: Iterable[Migration] = (),
) -> dict[str, Any]:
    read: Read = "audited" if isinstance(facts, ServerFacts) else "unknown"
    if not has_users(database):
        read = "proxy" if database.kind == "proxy" else "replica"
    unread = facts if isinstance(facts, Unreadable) and read == "unknown" else None
    entry = {
        "arn": database.arn,
        "identifier": database.identifier,
        "engine": database.engine,
        "engine_version": database.engine_version,
        "resource_id": database.resource_id,
        "kind": database.kind,
        "status": database.status,
        "tags": dict(database.tags),
        "host": database.host,
        "public": database.public,
        "read": read,
        "stage": unread.stage if unread else None,
        "cause": unread.cause if unread else None,
        "accounts": _count(database, facts, account.proxy_users(database)),
        "migrations": [
            {
                "user": one.user,
                "successor": one.successor,
                "state": one.state,
                "since": one.history[-1]["at"],
                "until": one.until,
            }
            for one in migrations
        ],
        "seconds": round(seconds, 2),
    }
    users = sorted({one.name for one in facts.accounts}) if isinstance(facts, ServerFacts) else None
    return {"database": entry, "findings": [finding.to_json() for finding in findings], "users": users}


def _audit(services: Services, database: Database, access: AccessFile, account: AccountContext) -> dict[str, Any]:
    """Read and judge one database; whatever goes wrong is its result, and nobody else's."""
    began = time.monotonic()
    try:
        record = services.inventory.get(database.arn)
        selection = selected(database, record)
        recorded = _recorded_state(database, record)
        if not has_users(database):
            unread = Unreadable("state", "it has no users of its own")
            return part_of(selection, unread, access, account, recorded)
        facts = read(database, services.logins)
        if isinstance(facts, ServerFacts) and record and record.is_of(database):
            facts = replace(facts, examined=record.examined)
        migrations = [
            migration
            for migration in services.migrations.of(database.arn).values()
            if migration.resource_id == database.resource_id
        ]
        part = part_of(selection, facts, access, account, recorded, time.monotonic() - began, migrations)
    except Exception as error:
        logger.exception("the audit of %s failed", database.arn)
        unread = Unreadable("query", f"rdsiam failed with {type(error).__name__}; see the log of AuditBatchFunction")
        return _part(database, unread, (), account, time.monotonic() - began)
    logger.info("audited %s: %s, stage %s", database.arn, part["database"]["read"], part["database"]["stage"])
    return part


def _recorded_state(database: Database, record: Record | None) -> RecordedState:
    if record is None:
        return RecordedState()
    secrets = {user: one for user, one in record.secrets.items() if one.resource_id == database.resource_id}
    if not record.is_of(database):
        return RecordedState(secrets=secrets)
    return RecordedState(record.accounts, record.leaving, record.revoked, secrets)


def _count(database: Database, facts: ServerFacts | Unreadable, through_proxies: frozenset[str]) -> dict[str, int]:
    """Count the accounts that somebody can make passwordless, by how they log in."""
    counted = {"total": 0, "iam": 0, "password": 0, "unusable": 0}
    if isinstance(facts, ServerFacts):
        left_out = {database.master_user, MANAGER, AUDITOR} | through_proxies
        for account in facts.accounts:
            if account.login and account.name not in left_out:
                counted["total"] += 1
                counted[_way_in(account)] += 1
    return counted


def _way_in(account: AccountFacts) -> Literal["iam", "password", "unusable"]:
    if account.unusable:
        return "unusable"
    # Where the catalogs don't tell whether there is a password, an account without IAM has no other way in.
    return "iam" if account.iam and not (account.second_password or account.empty_password) else "password"
