"""One batch of an audit: databases are read by a few threads, and results are stored a few at a time.

A database that hangs delays no other: at the first attempt it has little time, and is left for a batch of slow
databases, which comes after all others. There it has more time, and gets a result in any case.
"""

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from rdsiam.access.confirmed import ConfirmedAccess
from rdsiam.access.model import AccessFile
from rdsiam.access.selection import SelectedDatabase, select
from rdsiam.audit.account import AccountContext
from rdsiam.audit.collect import FIRST, SECOND, read
from rdsiam.audit.drift import applied_users, drift_of, logins_of
from rdsiam.audit.evaluate_database import RecordedState, evaluate_database, has_users
from rdsiam.audit.parts import AccountCounts, DatabaseEntry, DatabasePart, MigrationProgress, Read
from rdsiam.audit.store import MOST_PARTS, AuditStore
from rdsiam.aws.rds import Database
from rdsiam.core import log_keys
from rdsiam.engines.facts import AccountFacts, ServerFacts, Unreadable
from rdsiam.engines.logins import AUDITOR, MANAGER, Logins
from rdsiam.events.audit_batch import BatchRequest
from rdsiam.state.inventory import Inventory
from rdsiam.state.migrations import Migration, migrations_of
from rdsiam.state.record import Record, selected
from rdsiam.state.schemas import OpenedSchemas

logger = logging.getLogger(__name__)

#: Databases of a batch that are read at once. More threads take more CPU for each, and wait for each other.
THREADS = 6
#: The same in a batch of slow databases, so that fifty of them have their longest time within the function's.
SLOW_THREADS = 25
#: Seconds without a further result after which those that are there are stored.
_LONGEST_HELD = 0.2


@dataclass(frozen=True)
class BatchServices:
    """The services that the audit of a batch uses."""

    store: AuditStore
    access: ConfirmedAccess
    inventory: Inventory
    logins: Logins


@dataclass(frozen=True)
class BatchResult:
    """Numbers of results that one call has stored.

    :ivar slow: databases without a result, left for a second attempt.
    """

    audited: int = 0
    unknown: int = 0
    slow: int = 0

    def with_one(self, read: Read) -> "BatchResult":
        """Return the numbers with one result more."""
        if read == "unknown":
            return replace(self, unknown=self.unknown + 1)
        return replace(self, audited=self.audited + 1)

    def to_json(self) -> dict[str, int]:
        """Return plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Reading:
    """The result of reading one database.

    :ivar seconds: duration.
    :ivar migrations: of its users.
    """

    facts: ServerFacts | Unreadable
    seconds: float = 0.0
    migrations: tuple[Migration, ...] = ()


def audit_batch(services: BatchServices, request: BatchRequest, seconds: float) -> BatchResult:
    """Audit the databases of a batch that have no result yet.

    :param seconds: maximum duration. By then every slow database has a result; for one that hangs, the result is that.
    """
    deadline = time.monotonic() + seconds
    account = services.store.context(request.audit)
    databases = services.store.batch(request.audit, request.number)
    access = services.access.current().file
    done = services.store.done(request.audit, databases)
    waiting = {database.resource_id: database for database in databases if database.resource_id not in done}
    items = services.inventory.items([database.arn for database in waiting.values()])
    batch = _Batch(services.logins, access, account, services.inventory, items, request.slow)
    results = _start(batch, list(waiting.values()), deadline)
    store = _PartStore(services.store, request)
    # Only this thread writes: a thread that returns after its database was given up changes nothing.
    while waiting and time.monotonic() < deadline:
        try:
            database, part = results.get(timeout=min(_LONGEST_HELD, max(0.0, deadline - time.monotonic())))
        except queue.Empty:
            store.flush()
            continue
        del waiting[database.resource_id]
        store.add(database, part)
    if request.slow:
        for database in waiting.values():
            logger.warning("no result of %s within %.0f s", database.arn, seconds, extra={"database": database.arn})
            reading = Reading(Unreadable("time", "the time of its batch was over before it had a result"), seconds)
            store.add(database, part_of(select(database, None), reading, access, account))
        waiting = {}
    store.flush()
    return replace(store.result, slow=store.result.slow + len(waiting))


def part_of(
    database: SelectedDatabase,
    reading: Reading,
    access: AccessFile,
    account: AccountContext,
    recorded: RecordedState | None = None,
) -> DatabasePart:
    """Return a database's part of the report.

    :param recorded: the inventory's records of the database; None if they were not read.
    """
    facts, state = reading.facts, recorded or RecordedState()
    findings = evaluate_database(database, facts, access, account, state, datetime.now(UTC))
    users = tuple(sorted({account.name for account in facts.accounts})) if isinstance(facts, ServerFacts) else None
    return DatabasePart(_entry(database, reading, account), findings, users)


class _PartStore:
    """Stores results, several in one object, and counts them. Slow databases, which aren't neighbours, have their own.

    :ivar result: the numbers of results.
    """

    def __init__(self, store: AuditStore, request: BatchRequest) -> None:
        self._store, self._request = store, request
        self._held: list[tuple[Database, DatabasePart]] = []
        self.result = BatchResult()

    def add(self, database: Database, part: DatabasePart | None) -> None:
        """Take one result; None if the database is slow, and left for a second attempt."""
        if part is None:
            self.result = replace(self.result, slow=self.result.slow + 1)
            return
        self.result = self.result.with_one(part.entry.read)
        self._held.append((database, part))
        if len(self._held) == (1 if self._request.slow else MOST_PARTS):
            self.flush()

    def flush(self) -> None:
        """Store what is held."""
        if self._held:
            self._store.put_parts(self._request.audit, self._held)
            self._held = []


@dataclass(frozen=True)
class _Batch:
    """The information that the databases of a batch are audited with.

    :ivar items: the inventory's items, by ARN.
    :ivar slow: its databases were slow at the first attempt.
    """

    logins: Logins
    access: AccessFile
    account: AccountContext
    inventory: Inventory
    items: Mapping[str, Mapping[str, Any]]
    slow: bool


def _start(
    batch: _Batch, databases: Sequence[Database], deadline: float
) -> "queue.SimpleQueue[tuple[Database, DatabasePart | None]]":
    """Start the threads that audit these databases, and return the queue of their results; None for a slow database."""
    results: queue.SimpleQueue[tuple[Database, DatabasePart | None]] = queue.SimpleQueue()
    left: queue.SimpleQueue[Database] = queue.SimpleQueue()
    for database in databases:
        left.put(database)

    def work() -> None:
        with suppress(queue.Empty):
            while time.monotonic() < deadline:
                database = left.get_nowait()
                results.put((database, _audit(batch, database)))

    for _ in range(min(len(databases), SLOW_THREADS if batch.slow else THREADS)):
        threading.Thread(target=work, daemon=True).start()
    return results


def _audit(batch: _Batch, database: Database) -> DatabasePart | None:
    """Read and evaluate one database. Any failure is the result of this database and affects no other.

    :return: None if it is slow, and this is the first attempt.
    """
    with log_keys.about(database=database.arn):
        return _audit_one(batch, database)


def _audit_one(batch: _Batch, database: Database) -> DatabasePart | None:
    began = time.monotonic()
    try:
        part = _read_and_evaluate(batch, database)
    except Exception as error:
        logger.exception("the audit of %s failed", database.arn)
        cause = f"rdsiam failed with {type(error).__name__}; see the log of AuditBatchFunction"
        reading = Reading(Unreadable("query", cause), time.monotonic() - began)
        return DatabasePart(_entry(database, reading, batch.account), (), None)
    if part is None:
        logger.info("%s is slow and is tried again later", database.arn)
    else:
        logger.info("audited %s: %s, stage %s", database.arn, part.entry.read, part.entry.stage)
    return part


def _read_and_evaluate(batch: _Batch, database: Database) -> DatabasePart | None:
    began, access, account = time.monotonic(), batch.access, batch.account
    item = batch.items.get(database.arn)
    record = batch.inventory.record(database.arn, item) if item else None
    selection = selected(database, record)
    recorded = _recorded_state(database, record)
    if not has_users(database):
        reading = Reading(Unreadable("state", "it has no users of its own"))
        return _with_drift(part_of(selection, reading, access, account, recorded), selection, reading, record, access)
    limits = SECOND if batch.slow else FIRST
    facts = read(database, batch.logins, limits)
    if isinstance(facts, Unreadable) and not batch.slow and time.monotonic() - began >= limits.connect:
        return None
    if isinstance(facts, ServerFacts) and record and record.is_of(database):
        facts = replace(facts, examined=record.examined)
    migrations = tuple(
        migration for migration in migrations_of(item or {}).values() if migration.resource_id == database.resource_id
    )
    reading = Reading(facts, time.monotonic() - began, migrations)
    return _with_drift(part_of(selection, reading, access, account, recorded), selection, reading, record, access)


def _with_drift(
    part: DatabasePart, database: SelectedDatabase, reading: Reading, record: Record | None, access: AccessFile
) -> DatabasePart:
    users = applied_users(database, record, access)
    if users is None or record is None:
        return part
    drift = drift_of(users, reading.facts, record, part.findings, datetime.now(UTC))
    return replace(part, drift=drift, logins=logins_of(users, record))


def _recorded_state(database: Database, record: Record | None) -> RecordedState:
    if record is None:
        return RecordedState()
    secrets = {user: secret for user, secret in record.secrets.items() if secret.resource_id == database.resource_id}
    if not record.is_of(database):
        return RecordedState(secrets=secrets)
    leaving = {user: reason for user, reason in record.leaving.items() if user in record.departing}
    return RecordedState(record.accounts, leaving, record.revoked, secrets, record.notices)


def _entry(database: Database, reading: Reading, account: AccountContext) -> DatabaseEntry:
    result = _read_result(database, reading.facts)
    unreadable = reading.facts if isinstance(reading.facts, Unreadable) and result == "unknown" else None
    return DatabaseEntry(
        arn=database.arn,
        identifier=database.identifier,
        engine=database.engine,
        engine_version=database.engine_version,
        resource_id=database.resource_id,
        kind=database.kind,
        status=database.status,
        tags=dict(database.tags),
        host=database.host,
        public=database.public,
        read=result,
        stage=unreadable.stage if unreadable else None,
        cause=unreadable.cause if unreadable else None,
        accounts=_count(database, reading.facts, account.proxy_users(database)),
        migrations=tuple(_progress(migration) for migration in reading.migrations),
        schemas=_opened(reading.facts),
        seconds=round(reading.seconds, 2),
    )


def _opened(facts: ServerFacts | Unreadable) -> tuple[OpenedSchemas, ...]:
    """Return the schemas that levels open in the databases that onboarding examined."""
    return facts.examined.schemas.opened if isinstance(facts, ServerFacts) and facts.examined else ()


def _progress(migration: Migration) -> MigrationProgress:
    since = migration.history[-1]["at"]
    return MigrationProgress(migration.user, migration.successor, migration.state, since, migration.until)


def _read_result(database: Database, facts: ServerFacts | Unreadable) -> Read:
    if not has_users(database):
        return "proxy" if database.kind == "proxy" else "replica"
    return "audited" if isinstance(facts, ServerFacts) else "unknown"


def _count(database: Database, facts: ServerFacts | Unreadable, proxy_users: frozenset[str]) -> AccountCounts:
    """Count the accounts that can be made passwordless."""
    exempt = {database.master_user, MANAGER, AUDITOR} | proxy_users
    accounts = facts.accounts if isinstance(facts, ServerFacts) else ()
    ways = Counter(_way(account) for account in accounts if account.login and account.name not in exempt)
    return AccountCounts(ways.total(), ways["iam"], ways["password"], ways["unusable"])


def _way(account: AccountFacts) -> Literal["iam", "password", "unusable"]:
    if account.unusable:
        return "unusable"
    # If the catalogs hide whether there is a password, an account without IAM has no other way to log in.
    return "iam" if account.iam and not (account.second_password or account.empty_password) else "password"
