"""Revoking: a user is locked and its sessions end, whatever access.yaml declares, until an operator lifts that.

    describe → written down (vending refuses) → locked, sessions ended → policies withdrawn

The database is locked and the policies are withdrawn even where the other of the two fails. What a run that was killed
has left undone, the next sweep does: the database's fingerprint is another.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from aws_durable_execution_sdk_python import DurableContext

from rdsiam import recorded
from rdsiam.errors import AccessFileInvalid, DatabaseNotFound, RdsiamError, Unsupported
from rdsiam.inventory import selected
from rdsiam.logins import AUDITOR, MANAGER
from rdsiam.onboarding import RETRIED, answer, onboard, unready
from rdsiam.services import Services
from rdsiam.users import Users

T = TypeVar("T")
logger = logging.getLogger(__name__)


class NotLocked(RdsiamError):
    """Users are revoked, so get no tokens, but can't be locked in the database yet."""


def revoke(
    context: DurableContext, services: Services, arn: str, users: Sequence[str], because: str, plan: bool
) -> dict[str, Any]:
    """Lock these users of one database and end their sessions, or say what would be done.

    :param because: why; it is kept with the revocation and logged.
    :return: the answer of OnboardFunction, its status `revoked`, `planned`, `refused` or `ignored`.
    :raises NotLocked: the database could not be reached. No tokens are handed out all the same.
    """

    def step(name: str, work: Callable[[], T]) -> T:
        return context.step(lambda _: work(), name=name, config=RETRIED)

    run = _Run(services, arn, users)
    seen = step("describe the database", run.describe)
    if "status" in seen:
        return answer(arn, seen["status"], seen["reason"])
    arn = seen["database"]
    run = _Run(services, arn, users)
    request: dict[str, Any] = {"database": arn}
    if plan:
        request |= {"plan": True, "revoked": sorted({*seen["revoked"], *users})}
        locked = step("compare users", lambda: run.lock(False)) if seen["reach"] else []
        planned: dict[str, Any] = context.invoke(services.policy_function, request, name="plan policies")
        return answer(arn, "planned", planned["reason"], [*locked, *planned["changes"]])
    step("write it down", lambda: run.write_down(because))
    changes, failed = [], None
    try:
        changes = step("lock users", lambda: run.lock(True)) if seen["reach"] else []
    except Exception as error:
        failed = error  # raised below: policies are withdrawn before
    written: dict[str, Any] = context.invoke(services.policy_function, request, name="withdraw policies")
    if failed is not None:
        raise NotLocked(
            f"{', '.join(users)} on {arn} get no tokens any more, and policies are {written['status']}, but they are "
            f"not locked: {failed}; run this again, or leave it to the next sweep"
        ) from failed
    reason = "" if seen["reach"] else seen["later"]
    return answer(arn, "revoked", written["reason"] or reason, [*changes, *written["changes"]])


def lift(context: DurableContext, services: Services, arn: str, users: Sequence[str], plan: bool) -> dict[str, Any]:
    """Let these users be what access.yaml declares again, or say what that would change.

    :return: what `onboard` returns.
    """
    run = _Run(services, arn, users)
    seen = context.step(lambda _: run.describe(), name="find the revocation", config=RETRIED)
    if seen.get("status") == "ignored":
        return answer(arn, seen["status"], seen["reason"])
    arn = seen.get("database", arn)
    run = _Run(services, arn, users)
    if plan:
        return onboard(context, services, arn, plan, supposed=sorted(set(seen.get("revoked", ())) - set(users)))
    context.step(lambda _: run.write_lifted(), name="lift the revocation", config=RETRIED)
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
        known = record.accounts if record and record.resource_id == database.resource_id else {}
        ours = set(known) - {MANAGER, AUDITOR}
        try:
            file = self._services.access.current().file
            declared = {user.name for user in file.declared(selected(database, record))}
        except AccessFileInvalid:
            declared = set()  # who is ours is revoked all the same
        revoked = set(record.revoked) if record else set()
        if strangers := sorted(set(self._users) - ours - declared - revoked):
            return {
                "status": "refused",
                "reason": f"{', '.join(strangers)} on {database.arn}: neither made by rdsiam nor declared; rdsiam "
                "touches no user of somebody else",
                "database": database.arn,
                "revoked": sorted(revoked),
            }
        later = "" if database.has_users else "its users are those of the database behind it: revoke them there too"
        return {
            "database": database.arn,
            "revoked": sorted(revoked),
            "reach": database.has_users and database.iam_enabled and not unready(database),
            "later": unready(database) or later,
        }

    def write_down(self, because: str) -> None:
        """Write the revocation into the inventory: within a minute no token is handed out."""
        self._follow_rename()
        self._services.inventory.revoke(self._arn, dict.fromkeys(self._users, because), ())
        logger.info("revoked %s on %s: %s", ", ".join(self._users), self._arn, because)

    def write_lifted(self) -> None:
        """Take the revocation out of the inventory."""
        self._follow_rename()
        self._services.inventory.revoke(self._arn, {}, self._users)
        logger.info("lifted the revocation of %s on %s", ", ".join(self._users), self._arn)

    def _follow_rename(self) -> None:
        database = self._services.databases.describe(self._arn)
        recorded.follow_rename(self._services.databases, self._services.inventory, database)

    def lock(self, apply: bool) -> list[dict[str, Any]]:
        """Lock the users and end their sessions, or say how."""
        return Users(self._services, self._arn).lock(self._users, apply)
