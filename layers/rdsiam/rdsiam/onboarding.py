"""Onboarding: a database becomes what access.yaml declares, step by step, each step safe to repeat.

    describe → policies possible? → IAM authentication on → inspect → wanted → difference → apply
             → policies → proven logins → recorded → told

Each line of `onboard` is a checkpoint: a run that is killed goes on from the last one. No step takes or returns a
secret; whoever needs one fetches it, uses it and lets it go.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python.config import Duration, StepConfig
from aws_durable_execution_sdk_python.retries import RetryDecision
from aws_durable_execution_sdk_python.waits import WaitForConditionConfig, WaitForConditionDecision

from rdsiam.access_store import AccessStore
from rdsiam.changes import Change
from rdsiam.databases import Database, Databases
from rdsiam.engines import Authority, Engine, Sessions, Statement, StatementFailed, Wanted
from rdsiam.engines.mysql import Mysql
from rdsiam.engines.postgres import Postgres
from rdsiam.errors import AccessFileInvalid, ConnectionFailed, DatabaseNotFound, RdsiamError, Refused, Unsupported
from rdsiam.inventory import Inventory, Origin
from rdsiam.logins import MANAGER, Logins

T = TypeVar("T")
Status = Literal["onboarded", "unchanged", "planned", "ignored", "refused"]
logger = logging.getLogger(__name__)

_ENGINES: Mapping[str, Engine] = {"postgres": Postgres(), "mysql": Mysql()}
#: While RDS is at work on an instance it can be connected to, but not modified.
_BUSY = ("backing-up", "modifying", "upgrading", "rebooting", "renaming", "maintenance")
_ATTEMPTS = 6
_MINUTES_FOR_IAM = 30
#: A checkpoint holds 256 KiB; beyond this many characters changes are listed without their statements.
_MAX_CHANGES = 100_000


@dataclass(frozen=True)
class Services:
    """What onboarding works with."""

    databases: Databases
    access: AccessStore
    inventory: Inventory
    logins: Logins
    events: Any
    policy_function: str


def onboard(context: DurableContext, services: Services, arn: str, plan: bool) -> dict[str, Any]:
    """Make the database of that ARN passwordless, or say what would be done.

    :param plan: change nothing.
    :return: the answer of OnboardFunction, see docs/api.md.
    :raises RdsiamError: an operational failure that did not go away; run it again.
    """

    def step(name: str, work: Callable[[], T]) -> T:
        return context.step(lambda _: work(), name=name, config=_RETRIED)

    run = _Run(services, arn)
    seen = step("describe the database", run.describe)
    if "gone" in seen:
        context.invoke(services.policy_function, {"database": arn}, name="remove its policies")
        step("forget it", run.forget)
    if "reason" in seen:
        return _answer(arn, "ignored", seen["reason"])

    policies: dict[str, Any] = context.invoke(
        services.policy_function, {"database": arn, "plan": True}, name="plan policies"
    )
    if policies["status"] == "refused":
        return _answer(arn, "refused", policies["reason"])
    if plan:
        made = step("compare users", run.compare)
        changes = [*seen["changes"], *made["changes"], *policies["changes"]]
        if "refused" in made:
            return _answer(arn, "refused", made["refused"])
        return _answer(arn, "planned" if changes else "unchanged", "", changes)

    changes = seen["changes"]
    if changes:
        switched = step("switch IAM authentication on", run.enable_iam)
        if "refused" in switched:
            return _answer(arn, "refused", switched["refused"])
        context.wait_for_condition(
            lambda _, __: run.iam_is_enabled(), _UNTIL_IAM_IS_ENABLED, name="wait until IAM authentication is on"
        )
    made = step("make users", run.make_users)
    if "refused" in made:
        return _answer(arn, "refused", made["refused"], changes)
    changes = [*changes, *made["changes"]]
    if policies["status"] != "unchanged":
        written: dict[str, Any] = context.invoke(services.policy_function, {"database": arn}, name="write policies")
        if written["status"] == "refused":
            return _answer(arn, "refused", written["reason"], changes)
        changes = [*changes, *written["changes"]]
    if not changes and seen["finished"]:
        if not seen["recorded"]:
            step("record", lambda: run.record(made["version"]))
        return _answer(arn, "unchanged", "")
    proofs = step("prove logins", run.prove)
    step("record", lambda: run.record(made["version"]))
    step("tell others", run.tell)
    return _answer(arn, "onboarded", "", changes, proofs)


def ignored(arn: str, reason: str) -> dict[str, Any]:
    """Return the answer to an event that asks for nothing."""
    return _answer(arn, "ignored", reason)


def _answer(
    arn: str, status: Status, reason: str, changes: list[Any] | None = None, proofs: list[Any] | None = None
) -> dict[str, Any]:
    return {"database": arn, "status": status, "reason": reason, "changes": changes or [], "proofs": proofs or []}


def _retry(error: Exception, attempt: int) -> RetryDecision:
    """Try again what may go away by itself: a database that starts, a policy that is not yet everywhere."""
    if attempt >= _ATTEMPTS:
        return RetryDecision.no_retry()
    logger.warning("step failed and is repeated: %s", error)
    return RetryDecision.retry(Duration.from_seconds(min(2**attempt, 30)))


_RETRIED = StepConfig(retry_strategy=_retry)


def _wait_for_iam(enabled: bool, attempt: int) -> WaitForConditionDecision:
    if enabled:
        return WaitForConditionDecision.stop_polling()
    if attempt > _MINUTES_FOR_IAM * 4:
        raise TimeoutError(f"IAM authentication was not on {_MINUTES_FOR_IAM} minutes after it was switched on")
    return WaitForConditionDecision.continue_waiting(Duration.from_seconds(2 if attempt < 5 else 15))


_UNTIL_IAM_IS_ENABLED = WaitForConditionConfig(wait_strategy=_wait_for_iam, initial_state=False)


class _Run:
    """The steps for one database. Each reads what it needs, so that it can be repeated by another process."""

    def __init__(self, services: Services, arn: str) -> None:
        self._services = services
        self._arn = arn

    def describe(self) -> dict[str, Any]:
        """Say whether there is something to do: `reason` why not, else what is to be changed on the instance."""
        record = self._services.inventory.get(self._arn)
        try:
            database = self._services.databases.describe(self._arn)
        except DatabaseNotFound as error:
            if record is None:
                return {"reason": str(error)}
            return {"gone": True, "reason": f"{error}; its policies were removed"}
        except Unsupported as error:
            return {"reason": str(error)}
        if database.host is None or database.status not in {"available", *_BUSY} | _configuring(database.status):
            return {"reason": f"{self._arn} is {database.status}; run this again when it is available"}
        try:
            declared = self._services.access.current().file.declared(database)
        except AccessFileInvalid:
            declared = ()  # make_users refuses, and says why
        else:
            if not declared and record is None:
                return {"reason": f"no entry of access.yaml declares a user for {self._arn}"}
        ours = record is not None and record.resource_id == database.resource_id
        change = Change(
            "enable-iam-authentication",
            self._arn,
            f"aws rds modify-db-instance --db-instance-identifier {database.identifier} "
            "--enable-iam-database-authentication --apply-immediately",
        )
        logger.info("described %s: %s, IAM authentication %s", self._arn, database.status, database.iam_enabled)
        return {
            "changes": [] if database.iam_enabled else [change.to_json()],
            "finished": ours and record is not None and record.finished,
            "recorded": ours and record is not None and record.describes(database),
        }

    def enable_iam(self) -> dict[str, Any]:
        """Switch IAM authentication on, unless other changes wait that would be applied with it."""
        database = self._services.databases.describe(self._arn)
        if database.iam_enabled:
            return {}
        if waiting := set(database.pending) - {"IAMDatabaseAuthenticationEnabled"}:
            return {
                "refused": f"{database.identifier} has pending changes that would be applied at once and may reboot "
                f"it: {', '.join(sorted(waiting))}; apply them, or switch IAM authentication on yourself"
            }
        self._services.databases.enable_iam(database)
        logger.info("switched IAM authentication on for %s", self._arn)
        return {}

    def iam_is_enabled(self) -> bool:
        """Return whether RDS reports IAM authentication as on."""
        return self._services.databases.describe(self._arn).iam_enabled

    def compare(self) -> dict[str, Any]:
        """Return the changes that `make_users` would make."""
        return self._converge(apply=False)

    def make_users(self) -> dict[str, Any]:
        """Make users, groups and privileges as declared; `refused` says what only the owner can settle."""
        return self._converge(apply=True)

    def prove(self) -> list[dict[str, Any]]:
        """Log in with a token as each declared user, and see that a password is refused."""
        database, _, wanted = self._wanted()
        engine = _ENGINES[database.family]
        proofs = []
        for user in wanted.users:
            entry = engine.entry(database, [user])
            engine.connect(database, self._services.logins.proof(database, user.name), entry).close()
            if not engine.refuses_passwords(database, user.name, entry):
                raise NotProven(f"{self._arn}: {user.name} is an IAM user, yet a password was not refused")
            proofs.append({"user": user.name, "token_login": True, "password_refused": True})
            logger.info("proved the login of %s on %s", user.name, self._arn)
        return proofs

    def record(self, version: str) -> None:
        """Write the database into the inventory: from now on tokens are vended for it."""
        database = self._services.databases.describe(self._arn)
        self._services.inventory.onboarded(database, version, _now())

    def forget(self) -> None:
        """Take a database that is gone out of the inventory."""
        self._services.inventory.forget(self._arn)

    def tell(self) -> None:
        """Publish `rdsiam.database.onboarded`. It may come twice; its consumers look at the database."""
        answer = self._services.events.put_events(
            Entries=[
                {
                    "Source": "rdsiam",
                    "DetailType": "rdsiam.database.onboarded",
                    "Resources": [self._arn],
                    "Detail": json.dumps({"database": self._arn}),
                }
            ]
        )
        if answer["FailedEntryCount"]:
            raise NotTold(f"EventBridge did not take the event: {answer['Entries'][0].get('ErrorCode')}")
        logger.info("onboarded %s", self._arn)

    def _wanted(self) -> tuple[Database, str, Wanted]:
        database = self._services.databases.describe(self._arn)
        access = self._services.access.current()
        return database, access.version, Wanted(access.file.declared(database), self._accounts(database))

    def _accounts(self, database: Database) -> Mapping[str, Origin]:
        record = self._services.inventory.get(self._arn)
        return record.accounts if record and record.resource_id == database.resource_id else {}

    def _converge(self, apply: bool) -> dict[str, Any]:
        try:
            database, version, wanted = self._wanted()
            if not wanted.users:
                return {"changes": [], "version": version}
            engine = _ENGINES[database.family]
            sessions = self._sessions(engine, database, wanted)
            try:
                found = engine.inspect(sessions, database, wanted)
                # Again, now that the database is locked: another run may just have made what was found.
                wanted = replace(wanted, accounts=self._accounts(database))
                statements = engine.difference(found, wanted)
                if apply and statements:
                    self._apply(engine, sessions, database, found, statements, wanted)
            finally:
                sessions.close()
        except (Refused, AccessFileInvalid) as error:
            return {"refused": str(error), "changes": []}
        return {"changes": _fit(statements), "version": version}

    def _apply(
        self,
        engine: Engine,
        sessions: Sessions,
        database: Database,
        found: Any,
        statements: list[Statement],
        wanted: Wanted,
    ) -> None:
        claims = engine.claims(found, statements, wanted)
        self._services.inventory.claim(database, claims)
        try:
            engine.apply(sessions, found, statements, wanted)
        except RdsiamError as error:
            # What was not made after all is not ours: somebody else may make it before we come again.
            there = engine.existing(sessions.read(engine.entry(database, wanted.users)))
            failed = error.statement.target if isinstance(error, StatementFailed) else None
            kept = {name: origin for name, origin in claims.items() if name in there and name != failed}
            self._services.inventory.claim(database, {**kept, **wanted.accounts})
            raise
        for statement in statements:
            logger.info("%s on %s as %s: %s", statement.kind, self._arn, statement.authority, statement.statement)

    def _sessions(self, engine: Engine, database: Database, wanted: Wanted) -> Sessions:
        logins = self._services.logins

        def connect(authority: Authority, name: str | None) -> Any:
            login = logins.manager(database) if authority == "manager" else logins.master(database)
            return engine.connect(database, login, name)

        if MANAGER not in wanted.accounts:
            return Sessions(connect, reader="master")
        sessions = Sessions(connect, reader="manager")
        try:
            sessions.read(engine.entry(database, wanted.users))
        except ConnectionFailed as error:
            if error.stage != "login":
                raise
            # A run was killed before it made the manager, or somebody took it away: it is made again.
            logger.warning("%s can't log in to %s, so the master does: %s", MANAGER, self._arn, error)
            return Sessions(connect, reader="master")
        return sessions


class NotProven(RdsiamError):
    """A user that was just made does not log in as it should."""


class NotTold(RdsiamError):
    """EventBridge did not take an event."""


def _fit(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Return changes as JSON that a checkpoint can hold; the statements of very many are left to the log."""
    whole, size = [], 0
    for change in changes:
        data = change.to_json()
        size += len(json.dumps(data))
        if size > _MAX_CHANGES:
            data["statement"] = "see the log: there are too many changes for one answer"
        whole.append(data)
    return whole


def _configuring(status: str) -> set[str]:
    return {status} if status.startswith("configuring-") else set()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
