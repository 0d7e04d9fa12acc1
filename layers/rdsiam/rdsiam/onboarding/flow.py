"""Onboarding: a database becomes what access.yaml declares, step by step, each step safe to repeat.

    describe → change limit → policies withdrawn, users locked → policies possible? → IAM authentication on
             → inspect → wanted → difference → apply → policies → rotations → proven logins → recorded → told

Users that are declared no longer go first, whatever state the database is in: `rdsiam.onboarding.leaving`.

A replica's users are its source's and a proxy has none: for those policies alone are written.

Each line of `onboard` is a checkpoint: a run that is killed goes on from the last one. No step takes or returns a
secret; whoever needs one fetches it, uses it and lets it go.
"""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, TypeVar

from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python.config import Duration
from aws_durable_execution_sdk_python.waits import WaitForConditionConfig, WaitForConditionDecision

from rdsiam.access.effective import effective_users
from rdsiam.access.pending import pending
from rdsiam.access.rotation import RotatingUser
from rdsiam.access.selection import Attributes, SelectedDatabase
from rdsiam.access.users import DeclaredUser
from rdsiam.aws.rds import Database
from rdsiam.core import times
from rdsiam.core.changes import Change, Unreached
from rdsiam.core.durable import Steps
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.errors import AccessFileInvalid, DatabaseNotFound, RdsiamError, Unsupported
from rdsiam.onboarding.database_users import Users, fit
from rdsiam.onboarding.dependencies import Services
from rdsiam.onboarding.leaving import Leaving
from rdsiam.onboarding.limits import NeedsConfirmation, limit_file, limit_users
from rdsiam.state import fingerprint, recorded
from rdsiam.state.inventory import Applied, Record, selected

T = TypeVar("T")
Status = Literal["onboarded", "unchanged", "planned", "ignored", "refused", "incomplete", "revoked"]
logger = logging.getLogger(__name__)

#: While RDS is at work on an instance it can be connected to, but not modified.
_BUSY = ("backing-up", "modifying", "upgrading", "rebooting", "renaming", "maintenance")
_MINUTES_FOR_IAM = 30


def onboard(
    context: DurableContext,
    services: Services,
    arn: str,
    plan: bool,
    confirmed: bool = False,
    assume_revoked: Collection[str] | None = None,
    beyond_limit: bool = False,
) -> dict[str, Any]:
    """Make the database of that ARN passwordless, or say what would be done.

    :param arn: of an instance, a cluster or a proxy; for a cluster's writer the cluster is onboarded.
    :param plan: change nothing.
    :param confirmed: what exceeds the change limit is intended, and what waits for confirmation is given.
    :param assume_revoked: users to be taken for revoked, of a plan; None for those that are.
    :param beyond_limit: what exceeds the change limit is intended.
    :return: the answer of OnboardFunction, see docs/payloads.md.
    :raises RdsiamError: an operational failure that did not go away; run it again.
    """

    step = Steps(context).run
    run = _Run(services, arn, confirmed, assume_revoked, context.execution_context.durable_execution_arn, beyond_limit)
    seen = step("describe the database", run.describe)
    if "gone" in seen:
        removed: dict[str, Any] = context.invoke(
            services.policy_function, {"database": arn, "plan": plan}, name="remove its policies"
        )
        cancelled: dict[str, Any] = {"changes": []}
        if seen["rotates"]:
            cancelled = context.invoke(
                services.secrets_function, {"database": arn, "plan": plan}, name="cancel its rotations"
            )
        if not plan:
            step("forget it", run.forget)
        return answer(arn, "ignored", seen["reason"], [*removed["changes"], *cancelled["changes"]])
    if "reason" in seen:
        if seen.get("unseen") and not plan:
            step("record its attributes", run.see)
        return answer(arn, "ignored", seen["reason"])
    arn = seen["database"]
    run = _Run(services, arn, confirmed, assume_revoked, context.execution_context.durable_execution_arn, beyond_limit)

    policies = _plan_policies(
        context, services, arn, confirmed, assume_revoked, tolerant=bool(seen["leaving"]) and not plan
    )
    leaving, limit = seen["leaving"], seen["needs_confirmation"]
    if seen["uncertain"] and not limit:
        checked = step("see who can log in", run.who_leaves)
        leaving, limit = checked["leaving"], checked["needs_confirmation"]

    def rotations(plan: bool) -> dict[str, Any]:
        """Have the schedules of rotations follow; what is refused there keeps nobody from logging in."""
        if not seen["rotates"]:
            return {"status": "unchanged", "reason": "", "changes": []}
        asked: dict[str, Any] = {"database": arn, "plan": plan}
        return context.invoke(services.secrets_function, asked, name="plan rotations" if plan else "schedule rotations")

    if plan:
        if seen["unready"]:
            return answer(arn, "ignored", seen["unready"])
        if policies["status"] == "refused":
            return answer(arn, "refused", policies["reason"])
        made = step("compare users", run.compare if seen["reach"] else run.users.declared)
        if "refused" in made and "needs_confirmation" not in made:
            return answer(arn, "refused", made["refused"])
        removal = step("compare logins", lambda: run.plan_removal(leaving)) if leaving else []
        rotated = rotations(True)
        before = [*policies["changes"], *removal] if leaving else []  # as a run withdraws policies first
        after = [] if leaving else policies["changes"]
        changes = [*before, *seen["changes"], *_others(removal, made["changes"]), *after, *rotated["changes"]]
        waiting = [Unreached.from_json(made["pending"])] if made.get("pending") else []
        unresolved = _unresolved(rotated)
        if refusal := limit or made.get("refused") or ("" if waiting else unresolved):
            return answer(arn, "refused", refusal, changes)
        if unresolved:
            waiting.append(Unreached(arn, unresolved, _AS_THE_REASON_SAYS, retry=False))
        planned = answer(arn, "planned" if changes else "unchanged", "", changes)
        return planned if not waiting else unfinished(planned, waiting)

    if limit:
        return answer(arn, "refused", limit)
    confirmation = step("record its attributes", run.prepare) if seen["prepare"] else ""
    way_out = Leaving(context, services, arn, leaving)
    way_out.begin(policies=seen["roles"] and policies["status"] != "unchanged")
    done = _Done(arn, way_out)
    if seen["outdated"]:
        done.end_rotations(context, services.secrets_function)
    if seen["returned"]:
        step("record who stays", lambda: services.inventory.set_returned(arn, seen["returned"]))
    if seen["unready"]:
        return done.answer("ignored", seen["unready"], attempts=0)
    if policies["status"] == "refused":
        return done.answer("refused", policies["reason"])
    if policies["status"] == "failed":
        done.left.append(Unreached(arn, policies["reason"], _RUN_AGAIN))
        return done.answer("onboarded", "")
    if seen["changes"]:
        switched = step("switch IAM authentication on", run.enable_iam)
        if "refused" in switched:
            return done.answer("refused", switched["refused"])
        done.changes += seen["changes"]
        context.wait_for_condition(
            lambda _, __: run.iam_is_enabled(), _UNTIL_IAM_IS_ENABLED, name="wait until IAM authentication is on"
        )
    try:
        if seen["reach"]:
            made = step("make users", lambda: run.make_users(bool(seen["changes"])))
        else:
            made = step("read what is declared", run.users.declared)
    except Exception as error:
        if not leaving:
            raise
        # The answer has to say what was taken away, and what was not reached.
        done.left.append(Unreached(arn, f"users are not as declared: {error}", _RUN_AGAIN))
        return done.answer("onboarded", "", attempts=1)
    if "refused" in made:
        return done.answer("refused", made["refused"])
    done.changes += made["changes"]
    if policies["status"] != "unchanged" or seen["renamed"]:
        written: dict[str, Any] = context.invoke(services.policy_function, {"database": arn}, name="write policies")
        if written["status"] == "refused":
            return done.answer("refused", written["reason"])
        done.changes += written["changes"]
    if made["pending"]:
        done.left.append(Unreached.from_json(made["pending"]))
    if made["pending"] or seen["pending"]:
        step("notify of what is pending", lambda: run.notify_pending(made["pending"]))
    rotated = rotations(False)
    unresolved = _unresolved(rotated)
    finished = seen["finished"] and not (done.changes or way_out.changes)
    done.changes += rotated["changes"]
    proofs: list[Any] = []
    if not finished:
        proofs = step("prove logins", run.prove) if seen["reach"] else []
    if not (finished and seen["recorded"]):
        step("record", lambda: run.record(made["applied"], not unresolved))
    if not finished:
        step("tell others", run.tell)
    if unresolved:
        return done.answer("refused", unresolved, proofs)
    if finished:
        return done.answer("onboarded" if rotated["changes"] else "unchanged", "")
    return done.answer("onboarded", confirmation, proofs)


class _Done:
    """What a run has done besides taking logins away.

    :ivar changes: what was changed, as answers have it.
    :ivar left: what was not done.
    """

    def __init__(self, arn: str, way_out: Leaving) -> None:
        self._arn = arn
        self._way_out = way_out
        self.changes: list[Any] = []
        self.left: list[Unreached] = []

    def end_rotations(self, context: DurableContext, secrets_function: str) -> None:
        """End rotations that are no longer declared; like leaving, it waits for nothing that stops the rest."""
        try:
            ended: dict[str, Any] = context.invoke(
                secrets_function, {"database": self._arn, "withdraw": True}, name="end rotations"
            )
        except Exception as error:
            self.left.append(Unreached(self._arn, f"rotations could not be ended: {error}", _RUN_AGAIN))
        else:
            self.changes += ended["changes"]

    def answer(self, status: Status, reason: str, proofs: list[Any] | None = None, **attempts: int) -> dict[str, Any]:
        """Try once more to lock who leaves, and return the answer: `incomplete` if something is left.

        `refused` means that nothing was changed; otherwise what was refused is what is left.
        """
        self._way_out.end(**attempts)
        changes = [*self._way_out.changes, *self.changes]
        left = [*self._way_out.incomplete, *self.left]
        if status == "refused" and (changes or left):
            left.append(Unreached(self._arn, reason, _AS_THE_REASON_SAYS, retry=False))
        answered = answer(self._arn, status, reason, changes, proofs)
        return unfinished(answered, left) if left else answered


def _plan_policies(
    context: DurableContext,
    services: Services,
    arn: str,
    confirmed: bool,
    assume_revoked: Collection[str] | None,
    tolerant: bool,
) -> dict[str, Any]:
    """Have PolicyFunction say what it would change.

    :param tolerant: answer `failed` if it fails, since users leave, which doesn't wait for it.
    """
    request: dict[str, Any] = {"database": arn, "plan": True} | ({"confirm": True} if confirmed else {})
    request |= {} if assume_revoked is None else {"assume_revoked": list(assume_revoked)}
    try:
        planned: dict[str, Any] = context.invoke(services.policy_function, request, name="plan policies")
    except Exception as error:
        if not tolerant:
            raise
        return {"status": "failed", "reason": f"policies could not be planned: {error}"}
    return planned


def _unresolved(rotated: Mapping[str, Any]) -> str:
    """Return why a rotation is not as declared; nothing where all are."""
    return f"rotation: {rotated['reason']}" if rotated["status"] == "refused" else ""


def answer(
    arn: str, status: Status, reason: str, changes: list[Any] | None = None, proofs: list[Any] | None = None
) -> dict[str, Any]:
    """Return what OnboardFunction answers."""
    return {
        "database": arn,
        "status": status,
        "reason": reason,
        "changes": changes or [],
        "proofs": proofs or [],
        "incomplete": [],
    }


_RUN_AGAIN = "see what the reason says; rdsiam tries again"
_AS_THE_REASON_SAYS = "do what the reason says, then run it again"
#: Stands for the fingerprint of a database whose rotations only its owner can settle.
_UNSETTLED = "unresolved"


def unfinished(answered: dict[str, Any], left: Sequence[Unreached]) -> dict[str, Any]:
    """Return an answer with what was not done; a plan stays one."""
    incomplete = [each.to_json() for each in left]
    if answered["status"] == "planned":
        return answered | {"incomplete": incomplete}
    reason = "; ".join(dict.fromkeys(each.reason for each in left))
    return answered | {"status": "incomplete", "reason": reason, "incomplete": incomplete}


def _others(removal: list[Any], made: list[Any]) -> list[Any]:
    """Return changes without those of users that are removed before: they are not disabled once more."""
    targets = {change["target"] for change in removal}
    ended = ("disable-user", "end-sessions", "disable-event")
    return [one for one in made if one["kind"] not in ended or one["target"] not in targets]


def _wait_for_iam(enabled: bool, attempt: int) -> WaitForConditionDecision:
    if enabled:
        return WaitForConditionDecision.stop_polling()
    if attempt > _MINUTES_FOR_IAM * 4:
        raise TimeoutError(f"IAM authentication was not on {_MINUTES_FOR_IAM} minutes after it was switched on")
    return WaitForConditionDecision.continue_waiting(Duration.from_seconds(1 if attempt < 5 else 15))


_UNTIL_IAM_IS_ENABLED = WaitForConditionConfig(wait_strategy=_wait_for_iam, initial_state=False)


class _Run:
    """The steps for one database. Each reads what it needs, so that it can be repeated by another process."""

    def __init__(
        self,
        services: Services,
        arn: str,
        confirmed: bool,
        assume_revoked: Collection[str] | None,
        holder: str,
        beyond_limit: bool = False,
    ) -> None:
        self._services = services
        self._arn = arn
        self._confirmed = confirmed
        self._assume_revoked = assume_revoked
        self._unlimited = confirmed or beyond_limit
        self.users = Users(services, arn, confirmed, assume_revoked, holder, beyond_limit)

    def describe(self) -> dict[str, Any]:
        """Say whether there is something to do: `reason` why not, else what is to be changed on the database."""
        try:
            database = self._services.databases.describe(self._arn)
        except DatabaseNotFound as error:
            known = self._services.inventory.get(self._arn)
            if known is None:
                return {"reason": str(error)}
            moved = self._renamed(known)
            if moved is None:
                return {"gone": True, "reason": f"{error}; its policies were removed", "rotates": known.rotates}
            database = moved
        except Unsupported as error:
            return {"reason": str(error)}
        record = self._services.inventory.of(database)
        if database.kind == "proxy" and not database.iam_enabled:
            reason = f"{database.arn} is a classic proxy, which logs in to its database with passwords from secrets"
            return (
                {"reason": reason}
                if record is None
                else {"gone": True, "reason": f"{reason}; its policies are gone", "rotates": False}
            )
        if (reason := unready(database)) and record is None:
            return {"reason": reason}
        needs_confirmation, declared, waits = "", None, False
        rotating: tuple[RotatingUser, ...] = ()
        try:
            access = self._services.access.current()
            selection = self._selection(database)
            declared, rotating = access.file.declared(selection), access.file.rotating(selection)
            waits = pending(access.file, selection) is not None
            if not self._unlimited and record is not None and record.is_of(database):
                now_declared = _declaration(declared, rotating, record)
                _limit(record, declared, now_declared, len(access.file.databases))
        except AccessFileInvalid:
            pass  # make_users refuses, and says why
        except NeedsConfirmation as error:
            needs_confirmation = str(error)
        if declared == () and not rotating and (record is None or record.only_seen) and not waits:
            reason = f"no entry of access.yaml declares a user for {database.arn}"
            return {"reason": reason, "database": database.arn, "unseen": record is None}
        # Where nothing is declared any more nothing is switched on either; without it nobody of ours can log in.
        switch = not database.iam_enabled and declared != ()
        ours = record is not None and record.is_of(database)
        renamed = ours and record is not None and record.arn != database.arn
        now = None
        if declared is not None:
            now = fingerprint.of_database(database, _declaration(declared, rotating, record))
        revoked = self._revoked(record)
        effective = None if declared is None else {user.name for user in effective_users(declared, revoked)}
        logger.info("described %s: %s, IAM authentication %s", database.arn, database.status, database.iam_enabled)
        return {
            "database": database.arn,
            "changes": [_switch(database).to_json()] if switch else [],
            "reach": database.has_users and (database.iam_enabled or switch),
            "rotates": bool(rotating or (record and record.rotates)),
            "outdated": declared is not None and record is not None and _outdated(database, record, rotating),
            "needs_confirmation": needs_confirmation,
            "unready": unready(database),
            "roles": record is not None and bool(record.roles),
            "leaving": sorted(_leaving(record, effective, revoked)) if ours else [],
            "returned": sorted(set(record.leaving) & effective) if record and effective else [],
            # Accounts of a run that did not finish may be logins, groups, or users that were disabled long ago.
            "uncertain": ours
            and database.has_users
            and effective is not None
            and record is not None
            and not record.finished
            and bool(set(record.accounts) - effective - _recorded(record) - {MANAGER, AUDITOR}),
            "finished": ours and record is not None and record.finished,
            "recorded": ours and record is not None and record.fingerprint == now,
            "prepare": self._confirmed or not database.has_users or renamed or (record is not None and not ours),
            "renamed": renamed,
            "pending": ours and record is not None and record.pending != "",
        }

    def see(self) -> None:
        """Record the attributes of a database that no entry is about."""
        self._services.inventory.see(self._services.databases.describe(self._arn))

    def prepare(self) -> str:
        """Have its record under its ARN, if either has another, and record attributes that need no session.

        Those of a database that may be a copy are recorded once the run is connected to it.

        :return: what waited, and is confirmed herewith; empty if nothing.
        """
        inventory = self._services.inventory
        database = self._services.databases.describe(self._arn)
        recorded.follow_rename(self._services.databases, inventory, database)
        recorded.make_room(self._services.databases, inventory, database)
        record = inventory.get(database.arn)
        if not self._confirmed and database.has_users:
            return ""
        decided = self._selection(database).recorded or Attributes.of(database)
        if record is None or not record.is_of(database) or record.recorded != decided:
            inventory.select(database, decided)
            logger.info("recorded the attributes of %s: %s", database.arn, json.dumps(decided.to_json()))
        if not self._confirmed:
            return ""
        try:
            waited = pending(self._services.access.current().file, selected(database, record))
        except AccessFileInvalid:
            return ""  # make_users refuses, and says why
        if waited is None:
            return ""
        logger.warning("%s: confirmed: %s", database.arn, waited)
        return f"confirmed: {waited}"

    def notify_pending(self, waiting: Mapping[str, Any] | None) -> None:
        """Publish `rdsiam.database.gains-pending`, once for what waits; note that nothing waits any longer."""
        record = self._services.inventory.get(self._arn)
        now = fingerprint.of_text(waiting["reason"]) if waiting else ""
        if record is not None and record.pending == now:
            return
        if waiting:
            self._publish("rdsiam.database.gains-pending", {"database": self._arn, "reason": waiting["reason"]})
            logger.warning("%s: %s", self._arn, waiting["reason"])
        self._services.inventory.set_pending(self._arn, now)

    def _selection(self, database: Database) -> SelectedDatabase:
        return recorded.selection(self._services.databases, self._services.inventory, database, self._confirmed)

    def _renamed(self, record: Record) -> Database | None:
        """Return the database of a record whose ARN no longer exists; None if it is gone, or has another record."""
        database = recorded.present(self._services.databases, record)
        if database is None:
            return None
        found = self._services.inventory.of(database)
        return database if found is not None and found.arn == record.arn else None

    def who_leaves(self) -> dict[str, Any]:
        """Return who leaves after a run that did not finish: who can log in is read from the database, if it can be."""
        database = self._services.databases.describe(self._arn)
        record = self._services.inventory.of(database)
        revoked = self._revoked(record)
        declared = self._services.access.current().file.declared(self._selection(database))
        effective = {user.name for user in effective_users(declared, revoked)}
        leaving = _leaving(record, effective, revoked)
        enabled = self.users.enabled()
        if enabled is None or record is None:
            return {"leaving": sorted(leaving), "needs_confirmation": ""}
        leaves = enabled - effective
        try:
            if not self._unlimited:
                limit_users(leaves - set(revoked) - set(record.leaving), len(enabled), len(declared))
        except NeedsConfirmation as error:
            return {"leaving": [], "needs_confirmation": str(error)}
        return {"leaving": sorted(leaving | leaves), "needs_confirmation": ""}

    def plan_removal(self, leaving: Sequence[str]) -> list[dict[str, Any]]:
        """Return what locking these users would change."""
        return fit(self.users.remove(leaving, apply=False).changes)

    def _revoked(self, record: Record | None) -> Collection[str]:
        if self._assume_revoked is not None:
            return self._assume_revoked
        return record.revoked if record else ()

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
        return self.users.converge(apply=False)

    def make_users(self, just_switched: bool) -> dict[str, Any]:
        """Make users, groups and privileges as declared; `refused` says what only the owner can settle."""
        return self.users.converge(apply=True, just_switched=just_switched)

    def prove(self) -> list[dict[str, Any]]:
        """Log in with a token as each declared user, and see that a password is refused."""
        return self.users.prove()

    def record(self, applied: Mapping[str, Any], settled: bool) -> None:
        """Write the database into the inventory: from now on tokens are vended for it.

        :param settled: rotations are as declared; else the next sweep looks at it again.
        """
        database = self._selection(self._services.databases.describe(self._arn))
        said = Applied(applied["version"], applied["declared"], applied["entries"], tuple(applied["users"]))
        now = fingerprint.of_database(database, said.declared) if settled else _UNSETTLED
        self._services.inventory.onboarded(database, said, now, _now())

    def forget(self) -> None:
        """Take a database that is gone out of the inventory."""
        record = self._services.inventory.get(self._arn)
        if record is not None and record.resource_id is not None:
            self._services.leases.forget(record.resource_id)
        self._services.inventory.forget(self._arn)

    def tell(self) -> None:
        """Publish `rdsiam.database.onboarded`. It may come twice; its consumers look at the database."""
        self._publish("rdsiam.database.onboarded", {"database": self._arn})
        logger.info("onboarded %s", self._arn)

    def _publish(self, kind: str, detail: Mapping[str, Any]) -> None:
        answer = self._services.events.put_events(
            Entries=[
                {"Source": "rdsiam", "DetailType": kind, "Resources": [self._arn], "Detail": json.dumps(dict(detail))}
            ]
        )
        if answer["FailedEntryCount"]:
            raise NotTold(f"EventBridge did not take the event: {answer['Entries'][0].get('ErrorCode')}")


class NotTold(RdsiamError):
    """EventBridge did not accept an event."""

    code = "not-published"


def unready(database: Database) -> str:
    """Return why there is nothing to connect to yet; nothing where there is."""
    if database.kind == "cluster" and database.host is None and database.status == "available":
        return f"{database.arn} has no instance yet that is its writer; that one's event onboards it"
    busy = database.status in _BUSY or database.status.startswith("configuring-")
    if database.host is None or not (database.status == "available" or busy):
        return f"{database.arn} is {database.status}; run this again when it is available"
    return ""


def _recorded(record: Record) -> set[str]:
    """Return the users that were declared when the last onboarding finished, and those that are leaving since."""
    return {*(record.applied.users if record.applied else ()), *record.leaving}


def _leaving(record: Record | None, effective: Collection[str] | None, revoked: Collection[str]) -> set[str]:
    """Return the users whose logins are to be taken away, by what is recorded.

    :param effective: None if access.yaml is invalid: then only revoked users leave.
    """
    if record is None:
        return set()
    known = _recorded(record) - {MANAGER, AUDITOR}
    return known & set(revoked) if effective is None else known - set(effective)


def _limit(record: Record, declared: Sequence[DeclaredUser], now: str, entries: int) -> None:
    """Check what can be seen without a connection: a file that lost most of its entries, and users that leave.

    :param now: fingerprint of all that is declared.
    :raises NeedsConfirmation: more would be taken away than somebody may have meant.
    """
    if record.applied is None:
        return
    before = record.applied
    if now != before.declared:
        limit_file(before.entries, entries)
    # Those that are leaving already were within the limit, or confirmed.
    gone = set(before.users) - {user.name for user in declared} - set(record.revoked) - set(record.leaving)
    limit_users(gone, len(before.users), len(declared))


def _declaration(declared: Sequence[DeclaredUser], rotating: Sequence[RotatingUser], record: Record | None) -> str:
    """Return the fingerprint of what is declared and stands."""
    return fingerprint.of_declared(effective_users(declared, record.revoked if record else ()), rotating)


def _outdated(database: Database, record: Record, rotating: Sequence[RotatingUser]) -> bool:
    """Tell whether a secret may be rotated as it is recorded, and access.yaml no longer says so."""
    users = {user.name: user for user in rotating}
    return any(
        secret.state == "ready" and not (name in users and secret.permits(database, users[name]))
        for name, secret in record.secrets.items()
    )


def _switch(database: Database) -> Change:
    kind = "cluster" if database.kind == "cluster" else "instance"
    command = f"aws rds modify-db-{kind} --db-{kind}-identifier {database.identifier}"
    return Change(
        "enable-iam-authentication",
        database.arn,
        f"{command} --enable-iam-database-authentication --apply-immediately",
    )


def _now() -> str:
    return times.now_text()
