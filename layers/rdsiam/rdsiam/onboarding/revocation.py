"""Revocation: users are locked and their sessions end, whatever access.yaml declares, until an operator lifts it.

    describe → recorded (vending denies) → policies withdrawn → locked, sessions ended → once more, under the lease

Users are locked even if their policies can't be withdrawn, and the other way round. The next reconcile continues with
the parts that were not reached, or that a killed run left: the users stay recorded as leaving.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aws_durable_execution_sdk_python import DurableContext

from rdsiam.access.users import DeclaredUser
from rdsiam.aws.rds import Database
from rdsiam.core.changes import MissingPart, Refusal
from rdsiam.core.durable import Steps
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.errors import AccessFileInvalid, AccessFileUnavailable, DatabaseNotFound, Unsupported
from rdsiam.onboarding.answer import Answer
from rdsiam.onboarding.dependencies import OnboardingServices
from rdsiam.onboarding.flow import onboard
from rdsiam.onboarding.inspection import unready
from rdsiam.onboarding.invocations import Policies
from rdsiam.onboarding.leaving import ATTEMPTS, Leavers, Leaving
from rdsiam.onboarding.options import Options
from rdsiam.onboarding.removal import DatabaseRemoval
from rdsiam.onboarding.server_removal import Removal
from rdsiam.state import recorded
from rdsiam.state.record import Record, accounts_of, selected

logger = logging.getLogger(__name__)


def revoke(
    context: DurableContext, services: OnboardingServices, arn: str, users: Sequence[str], reason: str, plan: bool
) -> Answer:
    """Lock these users of one database and end their sessions, or plan that.

    :param reason: recorded with the revocation, and logged.
    :return: `revoked`, `incomplete`, `planned`, `refused` or `ignored`.
    """
    steps = Steps(context, services.results)
    target = steps.run_typed("describe the database", Target, Revocation(services, arn, users).describe)
    if target.ignored:
        return Answer(arn, "ignored", target.ignored.problem, target.ignored.code)
    if target.refusal:
        return Answer.refused(arn, target.refusal)
    arn = target.database
    if plan:
        return _plan(context, services, target, users)
    steps.run("record the revocation", lambda: Revocation(services, arn, users).record(reason))
    leaving = Leaving(context, services, arn, Leavers(users, version=target.version))
    leaving.begin(policies=True)
    if not leaving.incomplete:
        leaving.again()
    leaving.end(0 if target.unready else ATTEMPTS)
    answer = Answer(arn, "revoked", target.remark, changes=tuple(leaving.changes))
    return answer.without(leaving.incomplete)


def lift(context: DurableContext, services: OnboardingServices, arn: str, users: Sequence[str], plan: bool) -> Answer:
    """Lift the revocation of these users and onboard the database, or plan that."""
    steps = Steps(context, services.results)
    target = steps.run_typed("find the revocation", Target, Revocation(services, arn, users).describe)
    if target.ignored:
        return Answer(arn, "ignored", target.ignored.problem, target.ignored.code)
    if target.refusal:
        return Answer.refused(arn, replace(target.refusal, remedy="correct the name of the user or the database"))
    arn = target.database
    if plan:
        still_revoked = frozenset(target.revoked) - set(users)
        return onboard(context, services, arn, Options(plan=True, assume_revoked=still_revoked))
    steps.run("lift the revocation", Revocation(services, arn, users).record_lifted)
    return _lifted(onboard(context, services, arn), users, target)


def _lifted(onboarded: Answer, users: Sequence[str], target: "Target") -> Answer:
    """Return the answer of a lift: the revocation has ended, also if the onboarding after it was refused."""
    names = ", ".join(users)
    if not set(users) & set(target.revoked):
        return onboarded if onboarded.reason else replace(onboarded, reason=f"{names} was not revoked")
    if onboarded.status != "refused":
        return onboarded
    reason = f"the revocation is lifted, but the database was not onboarded: {onboarded.reason}"
    remedy = f"{onboarded.remedy}; then onboard the database" if onboarded.remedy else "then onboard the database"
    return replace(onboarded, remedy="").without([MissingPart(names, reason, remedy, retry=False)])


def _plan(context: DurableContext, services: OnboardingServices, target: "Target", users: Sequence[str]) -> Answer:
    removal = DatabaseRemoval(services, target.database)
    steps = Steps(context, services.results)
    locked = steps.run_typed("compare users", Removal, lambda: removal.remove(users, apply=False))
    revoked = frozenset({*target.revoked, *users})
    policies = Policies(context, services, target.database).plan(Options(plan=True, assume_revoked=revoked))
    answer = Answer(target.database, "planned", policies.reason, changes=(*policies.changes, *locked.changes))
    if policies.refusal is None:
        return answer
    refusal = policies.refusal  # it stops no revocation, which gives nothing
    return replace(answer, reason=refusal.problem, code=refusal.code, remedy=refusal.remedy)


@dataclass(frozen=True)
class Target:
    """A database of which users are revoked.

    :ivar database: ARN; for a cluster's writer that of the cluster.
    :ivar revoked: users that are revoked already.
    :ivar version: of the access.yaml that the last finished onboarding applied; None if none finished.
    :ivar unready: why nothing can connect to it; empty if it is ready.
    :ivar remark: a remark for the operator; empty if there is none.
    :ivar ignored: why the database is left alone; None if it isn't.
    :ivar refusal: why no revocation of these users can be recorded or lifted; None if it can.
    """

    database: str
    revoked: tuple[str, ...] = ()
    version: str | None = None
    unready: str = ""
    remark: str = ""
    ignored: Refusal | None = None
    refusal: Refusal | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for a checkpoint."""
        return {
            **vars(self),
            "revoked": list(self.revoked),
            "ignored": self.ignored.to_json() if self.ignored else None,
            "refusal": self.refusal.to_json() if self.refusal else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Target":
        """Return the target from which `to_json` made this JSON."""
        return cls(
            data["database"],
            tuple(data["revoked"]),
            data["version"],
            data["unready"],
            data["remark"],
            Refusal.from_json(data["ignored"]) if data["ignored"] else None,
            Refusal.from_json(data["refusal"]) if data["refusal"] else None,
        )


class Revocation:
    """The revocation of users of one database. Each method can be repeated by another process."""

    def __init__(self, services: OnboardingServices, arn: str, users: Sequence[str]) -> None:
        self._services = services
        self._arn = arn
        self._users = users

    def describe(self) -> Target:
        """Return the database, and whether these users can be revoked, or their revocation be lifted."""
        try:
            database = self._services.databases.describe(self._arn)
        except (DatabaseNotFound, Unsupported) as error:
            return Target(self._arn, ignored=Refusal.of(error))
        record = self._services.inventory.of(database)
        declared = self._declared(database, record)
        revoked = tuple(sorted(record.revoked)) if record else ()
        managed = set(accounts_of(database, record))
        foreign = sorted(set(self._users) - (managed - {MANAGER, AUDITOR}) - set(declared) - set(revoked))
        if foreign:
            refusal = Refusal(
                f"{', '.join(foreign)} on {database.arn}: neither created by rdsiam nor declared in access.yaml",
                "rdsiam changes only users that it manages: lock this user as an administrator",
                "user-not-managed",
            )
            return Target(database.arn, revoked, refusal=refusal)
        version = record.access_version if record is not None and record.is_of(database) else None
        return Target(database.arn, revoked, version, unready(database), self._remark(database, declared))

    def _declared(self, database: Database, record: Record | None) -> Mapping[str, DeclaredUser]:
        """Return the declared users; none if access.yaml can't be read: managed users are revoked all the same."""
        try:
            file = self._services.access.current().file
            return {user.name: user for user in file.declared(selected(database, record))}
        except (AccessFileInvalid, AccessFileUnavailable):
            return {}

    def _remark(self, database: Database, declared: Mapping[str, DeclaredUser]) -> str:
        if not database.has_users:
            return "its users are those of the database behind it: revoke them there too"
        names = sorted({name for user in self._users if user in declared and (name := declared[user].predecessor)})
        if not names or database.family != "postgres":
            return ""
        return (
            f"the password of {', '.join(names)} may be known: a user that replaces another one may set it; "
            "change it, or lock that user"
        )

    def record(self, reason: str) -> None:
        """Record the revocation: within a minute no more tokens are vended."""
        self._follow_rename()
        self._services.inventory.revoke(self._arn, dict.fromkeys(self._users, reason), ())
        logger.info("revoked %s on %s: %s", ", ".join(self._users), self._arn, reason)

    def record_lifted(self) -> None:
        """Remove the revocation from the inventory."""
        self._follow_rename()
        self._services.inventory.revoke(self._arn, {}, self._users)
        logger.info("lifted the revocation of %s on %s", ", ".join(self._users), self._arn)

    def _follow_rename(self) -> None:
        database = self._services.databases.describe(self._arn)
        recorded.follow_rename(self._services.databases, self._services.inventory, database)
