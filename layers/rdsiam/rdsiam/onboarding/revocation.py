"""Revoking: a user is locked and its sessions end, whatever access.yaml declares, until an operator lifts that.

    describe → written down (vending refuses) → policies withdrawn → locked, sessions ended → once more, under the lease

Users are locked and policies are withdrawn even if the other of the two fails. What was not reached, or what a run that
was killed has left undone, the next reconcile does: the users stay written down as leaving.
"""

import logging
from collections.abc import Sequence
from typing import Any, TypeVar

from aws_durable_execution_sdk_python import DurableContext

from rdsiam.core.durable import Steps
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.errors import AccessFileInvalid, AccessFileUnavailable, DatabaseNotFound, Unsupported
from rdsiam.onboarding.database_users import Users, fit
from rdsiam.onboarding.dependencies import Services
from rdsiam.onboarding.flow import answer, onboard, unfinished, unready
from rdsiam.onboarding.leaving import ATTEMPTS, Leaving
from rdsiam.state import recorded
from rdsiam.state.inventory import accounts_of, selected

T = TypeVar("T")
logger = logging.getLogger(__name__)


def revoke(
    context: DurableContext, services: Services, arn: str, users: Sequence[str], reason: str, plan: bool
) -> dict[str, Any]:
    """Lock these users of one database and end their sessions, or say what would be done.

    :param reason: why; it is kept with the revocation and logged.
    :return: the answer of OnboardFunction, its status `revoked`, `incomplete`, `planned`, `refused` or `ignored`. No
        tokens are handed out either way.
    """

    step = Steps(context).run
    run = _Run(services, arn, users)
    seen = step("describe the database", run.describe)
    if "status" in seen:
        return answer(arn, seen["status"], seen["reason"])
    arn = seen["database"]
    run = _Run(services, arn, users)
    if plan:
        request = {"database": arn, "plan": True, "assume_revoked": sorted({*seen["revoked"], *users})}
        locked = step("compare users", run.plan)
        planned: dict[str, Any] = context.invoke(services.policy_function, request, name="plan policies")
        return answer(arn, "planned", planned["reason"], [*planned["changes"], *locked])
    step("write it down", lambda: run.write_down(reason))
    way_out = Leaving(context, services, arn, users)
    way_out.begin(policies=True)
    if not way_out.incomplete:
        way_out.again()
    way_out.end(0 if seen["unready"] else ATTEMPTS)
    answered = answer(arn, "revoked", seen["later"], way_out.changes)
    return unfinished(answered, way_out.incomplete) if way_out.incomplete else answered


def lift(context: DurableContext, services: Services, arn: str, users: Sequence[str], plan: bool) -> dict[str, Any]:
    """Let these users be what access.yaml declares again, or say what that would change.

    :return: what `onboard` returns.
    """
    run = _Run(services, arn, users)
    seen = Steps(context).run("find the revocation", run.describe)
    if seen.get("status") == "ignored":
        return answer(arn, seen["status"], seen["reason"])
    arn = seen.get("database", arn)
    run = _Run(services, arn, users)
    if plan:
        return onboard(context, services, arn, plan, assume_revoked=sorted(set(seen.get("revoked", ())) - set(users)))
    Steps(context).run("lift the revocation", run.write_lifted)
    return onboard(context, services, arn, plan)


class _Run:
    """The steps. Each reads what it needs, so that it can be repeated by another process."""

    def __init__(self, services: Services, arn: str, users: Sequence[str]) -> None:
        self._services = services
        self._arn = arn
        self._users = users

    def describe(self) -> dict[str, Any]:
        """Say whether the database can be reached, or, with a `status`, why nothing is done."""
        try:
            database = self._services.databases.describe(self._arn)
        except (DatabaseNotFound, Unsupported) as error:
            return {"status": "ignored", "reason": str(error)}
        record = self._services.inventory.of(database)
        known = accounts_of(database, record)
        ours = set(known) - {MANAGER, AUDITOR}
        try:
            file = self._services.access.current().file
            declared = {user.name: user for user in file.declared(selected(database, record))}
        except (AccessFileInvalid, AccessFileUnavailable):
            declared = {}  # managed users are revoked all the same
        revoked = set(record.revoked) if record else set()
        if strangers := sorted(set(self._users) - ours - set(declared) - revoked):
            return {
                "status": "refused",
                "reason": f"{', '.join(strangers)} on {database.arn}: neither made by rdsiam nor declared; rdsiam "
                "touches no user of somebody else",
                "database": database.arn,
                "revoked": sorted(revoked),
            }
        later = "" if database.has_users else "its users are those of the database behind it: revoke them there too"
        replaced = {declared[name].predecessor for name in self._users if name in declared} - {None}
        if replaced and database.has_users and database.family == "postgres":
            names = ", ".join(sorted(map(str, replaced)))
            later = (
                f"the password of {names} may be known: who replaces a user may set it; change it, or lock that user"
            )
        return {
            "database": database.arn,
            "revoked": sorted(revoked),
            "unready": unready(database),
            "later": later,
        }

    def write_down(self, reason: str) -> None:
        """Write the revocation into the inventory: within a minute no token is handed out."""
        self._follow_rename()
        self._services.inventory.revoke(self._arn, dict.fromkeys(self._users, reason), ())
        logger.info("revoked %s on %s: %s", ", ".join(self._users), self._arn, reason)

    def write_lifted(self) -> None:
        """Take the revocation out of the inventory."""
        self._follow_rename()
        self._services.inventory.revoke(self._arn, {}, self._users)
        logger.info("lifted the revocation of %s on %s", ", ".join(self._users), self._arn)

    def _follow_rename(self) -> None:
        database = self._services.databases.describe(self._arn)
        recorded.follow_rename(self._services.databases, self._services.inventory, database)

    def plan(self) -> list[dict[str, Any]]:
        """Return what locking the users and ending their sessions would change."""
        return fit(Users(self._services, self._arn).remove(self._users, apply=False).changes)
