"""The steps of a migration, for one user. Each reads what it needs, so that it can be repeated by another process."""

import json
import logging
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from rdsiam.access.store import AccessStore
from rdsiam.access.users import DeclaredUser
from rdsiam.aws.rds import Database, Databases
from rdsiam.core.changes import Change
from rdsiam.core.times import text
from rdsiam.engines.logins import Logins
from rdsiam.engines.migration import LoginState
from rdsiam.errors import AccessFileInvalid, ConnectionFailed, DatabaseNotFound, Refused, Unsupported
from rdsiam.events.migrate import MigrateRequest
from rdsiam.migration import observation
from rdsiam.migration.database_user import MigratingUser
from rdsiam.migration.secret_retirement import RECOVERY_DAYS, TAG, MigratingSecrets, UsersSecrets
from rdsiam.onboarding.database_users import Users
from rdsiam.onboarding.limits import NeedsConfirmation, limit_retirements
from rdsiam.state.inventory import Inventory, selected
from rdsiam.state.leases import Leases
from rdsiam.state.migrations import Migration, Migrations, RetainedSecret, Superseded

Status = Literal["retired", "unchanged", "planned", "refused", "running", "superseded", "undone"]
logger = logging.getLogger(__name__)

_LEASE = 900
_DAY = timedelta(days=1)
#: So many looks in a row may fail; then somebody has to see why.
_MOST_FAILED = 20


@dataclass(frozen=True)
class MigrationServices:
    """What a migration works with.

    :ivar onboard_function: name of OnboardFunction with its alias.
    """

    databases: Databases
    access: AccessStore
    inventory: Inventory
    leases: Leases
    logins: Logins
    migrations: Migrations
    secrets: MigratingSecrets
    onboard_function: str


class Migrating:
    """One execution's work on one user.

    :param execution: its name, under which it holds the lease.
    """

    def __init__(self, services: MigrationServices, request: MigrateRequest, execution: str) -> None:
        self._services = services
        self._execution = execution
        self.request = request
        self.arn = request.database
        self._successor = ""

    def settle(self, begun: dict[str, Any]) -> None:
        """Take over what `begin` found, also when its step is not run again."""
        self.arn = begun["database"]
        self._successor = begun["successor"]

    @property
    def in_place(self) -> bool:
        """Whether the user itself changes how it logs in."""
        return self._successor == self.request.user

    def begin(self) -> dict[str, Any]:
        """Return the database, the successor, and whether somebody is at work on it; or why it can't be done."""
        user = self.request.user
        try:
            database = self._services.databases.describe(self.request.database)
        except (DatabaseNotFound, Unsupported) as error:
            return {"refused": str(error)}
        if not database.has_users:
            return {"refused": f"{database.arn} has no users of its own: migrate those of its source"}
        now = self._current(database)
        running = _at_work(now, self._execution)
        over = now is not None and now.state == "retired" and not now.execution
        begun = {"database": database.arn, "running": running, "over": over}
        if self.request.undo:
            return begun | {"successor": now.successor if now else user}
        try:
            successor = _successor_of(self._declared(database), user)
        except AccessFileInvalid as error:
            return {"refused": str(error)}
        if successor is None:
            return {"refused": _lines(database.identifier, user, self.request.in_place)}
        if (successor == user) != self.request.in_place:
            way = f"changes {user} in place" if successor == user else f"lets {successor} replace {user}"
            flag = "say --in-place (`in_place`)" if successor == user else "leave --in-place out"
            return {"refused": f"access.yaml {way}: {flag} if that is meant"}
        return begun | {"successor": successor}

    def check(self) -> str:
        """Return why the user can't leave its password; empty where it can, or where that can't be seen yet."""
        record = self._services.inventory.get(self.arn)
        if record is None or not record.finished:
            return ""  # onboarding will tell
        try:
            login_state = self._user.login_state()
        except ConnectionFailed as error:
            logger.info("how %s stands on %s can't be seen: %s", self.request.user, self.arn, error)
            return ""
        if not login_state.exists:
            return f"there is no user {self.request.user} on {self.arn}"
        return f"{login_state.keep_reason}: it keeps its password" if login_state.keep_reason else ""

    def plan(self) -> dict[str, Any]:
        """Return what would be done at the end."""
        try:
            changes = [] if self.in_place else self._user.retire(None)
        except Refused as error:
            return {"refused": True, "reason": str(error), "changes": []}
        except ConnectionFailed as error:
            # Onboarding may have to make the manager first.
            return {"refused": False, "reason": f"what would be retired can't be seen yet: {error}", "changes": []}
        found = self._services.secrets.of(self._services.databases.describe(self.arn), self.request.user)
        if found.recorded is not None:
            changes += secret_changes(RetainedSecret(found.recorded.arn, found.recorded.rotation_enabled))
        told = self._told_of(found)
        told += [self._user.for_good()] if self.in_place and self._user.for_good() else []
        return {"refused": False, "reason": "; ".join(told), "changes": as_json(changes)}

    def paired(self, changes: list[dict[str, Any]]) -> str:
        """Take the lease, and write down that the successor is there; return who else is at work, if anybody is."""
        database = self._services.databases.describe(self.arn)
        now = self._kept()
        if running := _at_work(now, self._execution):
            return running
        if now is None or now.resource_id != database.resource_id or now.successor != self._successor:
            revision = now.revision if now else 0
            now = Migration(self.request.user, self._successor, database.resource_id, revision=revision)
        mine = self._leased(now)
        if not mine.reached("paired"):
            of_successor = [one["statement"] for one in changes if one["target"] == self._successor]
            mine = mine.at("paired", stamp(), of_successor or [f"{self._successor} was there"])
        try:
            self._services.migrations.save(self.arn, mine)
        except Superseded as error:
            return str(error)
        return ""

    def prove(self) -> None:
        """Log in as the successor with a token, and see that its password is refused."""
        mine = self._mine()
        Users(self._services, self.arn).prove(self._successor)
        if not mine.reached("proven"):
            told = [f"{self._successor} logged in with a token", f"{self._successor} was refused with a password"]
            self._save(mine.at("proven", stamp(), told))

    def begin_watching(self) -> None:
        """Begin to watch, or go on where another execution stopped a moment ago."""
        mine, at = self._mine(), datetime.now(UTC)
        watch = observation.begin(mine.watch, self.request.watch, at)
        if mine.state != "watching":
            told = f"no login of {self.request.user} for {self.request.watch} s is waited for"
            mine = mine.at("watching", text(at), [told, f"not seen: {self._user.blind()}"])
        self._save(replace(mine, watch=watch))

    def watch(self, failed: int) -> dict[str, Any]:
        """Look once, write down what was seen, and return whether the watching is `over`.

        :param failed: how many looks before this one have failed in a row.
        """
        try:
            mine = self._mine()
            assert mine.watch is not None
            watch = observation.looked(mine.watch, self._user.look(), datetime.now(UTC))
            over = observation.is_over(watch, datetime.now(UTC))
            watch = replace(watch, held=self._held() if over else "")
            self._save(replace(mine, watch=watch))
        except Superseded:
            return {"over": True, "failed": 0}
        except Exception as error:
            # A database may be away for a while. If that is long, the next look begins the days anew.
            if failed >= _MOST_FAILED:
                raise
            logger.warning("no look at %s on %s: %s", self.request.user, self.arn, error)
            return {"over": False, "failed": failed + 1}
        return {"over": over and not watch.held, "failed": 0}

    def retire(self) -> dict[str, Any]:
        """Take the login from the old user, if it is still declared, quiet and replaced by somebody who can log in."""
        try:
            mine = self._mine()
            if mine.reached("retired"):
                return ended("retired")
            database = self._services.databases.describe(self.arn)
            if _successor_of(self._declared(database), self.request.user) != self._successor:
                return ended("refused", f"{self._successor} is not declared for it any more: {self.request.user} stays")
            changes = [] if self.in_place else self._retired(mine)
            if changes is None:
                return ended("running", again=True)
            told = [one.statement for one in changes] or [f"{self.request.user} takes tokens and no password"]
            self._save(self._mine().at("retired", stamp(), told))
            return ended("retired", changes=as_json(changes))
        except (Refused, AccessFileInvalid) as error:
            return ended("refused", str(error))

    def retire_secret(self) -> dict[str, Any]:
        """Schedule the old user's recorded secret for deletion.

        :return: `changes`, and `left`: ARNs of other secrets that say that they hold its password.
        """
        mine = self._mine()
        found = self._services.secrets.of(self._services.databases.describe(self.arn), self.request.user)
        kept, left = mine.secret, list(found.others)
        if kept is None:
            mine = self._save(_told(mine, *self._told_of(found)))
            if found.recorded is None:
                return {"changes": [], "left": left}
            kept = RetainedSecret(found.recorded.arn, found.recorded.rotation_enabled)
            self._save(replace(mine, secret=kept))
        self._services.secrets.retire(kept)
        try:
            self._save(_told(self._mine(), *(one.statement for one in secret_changes(kept))))
        except Superseded:
            self._services.secrets.restore(kept)  # an undo came in between, and found nothing to give back
            raise
        return {"changes": as_json(secret_changes(kept)), "left": left}

    def let_go(self) -> None:
        """Give the lease back."""
        try:
            mine = self._mine()
            self._services.migrations.save(self.arn, replace(mine, execution="", lease=0))
        except Superseded as error:
            logger.info("nothing to let go: %s", error)

    # --- what all steps have in common ---

    def answer(
        self, outcome: Status, reason: str = "", changes: list[Any] | None = None, left: list[str] | None = None
    ) -> dict[str, Any]:
        """Return the answer: what was done, and nothing that may be another one's by now.

        :param left: ARNs of secrets that were left alone, as they are not recorded.
        """
        return {
            "database": self.arn,
            "user": self.request.user,
            "successor": self._successor,
            "status": outcome,
            "reason": reason,
            "changes": changes or [],
            "left": left or [],
        }

    @property
    def _user(self) -> MigratingUser:
        return MigratingUser(
            self._services, self.arn, self.request.user, self._successor, f"the migration {self._execution}"
        )

    def _kept(self) -> Migration | None:
        return self._services.migrations.of(self.arn).get(self.request.user)

    def _current(self, database: Database) -> Migration | None:
        """Return the migration; None for that of another database, which had the same name."""
        now = self._services.migrations.of(database.arn).get(self.request.user)
        return now if now is not None and now.resource_id == database.resource_id else None

    def _mine(self) -> Migration:
        now = self._kept()
        if now is None or now.execution != self._execution:
            raise Superseded(f"another execution has taken over the migration of {self.request.user} on {self.arn}")
        return now

    def _leased(self, migration: Migration) -> Migration:
        lease = int(time.time()) + _LEASE + 3 * observation.pause(self.request.watch)
        return replace(migration, execution=self._execution, lease=lease)

    def _save(self, migration: Migration) -> Migration:
        return self._services.migrations.save(self.arn, self._leased(migration))

    def _retired(self, mine: Migration) -> list[Change] | None:
        """Retire the user, and return what was changed; None where it was seen again, or not long enough ago."""
        assert mine.watch is not None
        watch = observation.looked(mine.watch, self._user.look(), datetime.now(UTC))
        if not observation.is_over(watch, datetime.now(UTC)):
            self._save(replace(mine, watch=watch))
            return None
        Users(self._services, self.arn).prove(self._successor)

        def ready(login_state: LoginState) -> None:
            now = self._mine()
            if now.locked is None:  # a second time finds what the first has locked
                self._save(replace(now, locked=login_state.locked))

        return self._user.retire(ready)

    def _held(self) -> str:
        """Return why the retirement has to wait; nothing where it need not."""
        if self.request.confirm:
            return ""
        since = text(datetime.now(UTC) - _DAY)
        recent = [
            one.user
            for one in self._services.migrations.of(self.arn).values()
            if one.state == "retired" and one.history and one.history[-1]["at"] > since
        ]
        try:
            limit_retirements(recent)
        except NeedsConfirmation as error:
            return str(error)
        return ""

    def is_declared(self) -> bool:
        """Return whether access.yaml declares the successor."""
        database = self._services.databases.describe(self.arn)
        return any(user.name == self._successor for user in self._declared(database))

    def _declared(self, database: Database) -> tuple[DeclaredUser, ...]:
        record = self._services.inventory.get(database.arn)
        return self._services.access.current().file.declared(selected(database, record))

    def _told_of(self, found: UsersSecrets) -> list[str]:
        """Return what is said of secrets that are not deleted."""
        user, told = self.request.user, []
        if found.recorded is None:
            told.append(
                f"no secret with the tag {TAG}=true is recorded for {user}: if one holds its password, delete it "
                "yourself"
            )
        if found.others:
            told.append(
                f"these secrets say that they hold the password of {user}, and are not recorded for it, so they are "
                f"left alone: {', '.join(found.others)}; delete them yourself if they are its secrets"
            )
        return told


def _successor_of(declared: tuple[DeclaredUser, ...], user: str) -> str | None:
    """Return who replaces `user` by access.yaml; itself where it is taken over as it is."""
    for one in declared:
        if one.replaces == user or (one.name == user and one.adopt):
            return one.name
    return None


def _lines(identifier: str, user: str, in_place: bool) -> str:
    """Return what to add to access.yaml, to be pasted."""
    name = json.dumps(user if in_place else f"{user}_iam", ensure_ascii=False)
    return (
        "access.yaml does not say who takes its place; add to `databases`, with the role of the application, publish, "
        f"and run this again:\n  - match: {{identifier: {json.dumps(identifier)}}}\n    users:\n"
        f"      - {{name: {name}, replaces: {json.dumps(user, ensure_ascii=False)}, roles: []}}"
    )


def _at_work(migration: Migration | None, execution: str) -> str:
    """Return who else works on a migration; nothing where nobody does."""
    if migration is None or migration.execution in {"", execution} or migration.lease < time.time():
        return ""
    until = f", until {migration.until} if nobody logs in" if migration.until else ""
    return f"another execution is at work on it: {migration.user} is {migration.state}{until}"


def _told(migration: Migration, *lines: str) -> Migration:
    """Return it with more told of what was done for its state."""
    last = migration.history[-1]
    return replace(migration, history=(*migration.history[:-1], {**last, "done": [*last["done"], *lines]}))


def ended(
    outcome: Status, reason: str = "", changes: list[dict[str, Any]] | None = None, again: bool = False
) -> dict[str, Any]:
    """Return how the end came out; `again`: the old user was seen, and is to be watched again."""
    return {"status": outcome, "reason": reason, "changes": changes or [], "again": again}


def secret_changes(kept: RetainedSecret) -> list[Change]:
    """Return what is done to the secret of a user that lost its password."""
    stop = [Change("secret", kept.arn, f"aws secretsmanager cancel-rotate-secret --secret-id {kept.arn}")]
    delete = f"aws secretsmanager delete-secret --secret-id {kept.arn} --recovery-window-in-days {RECOVERY_DAYS}"
    return [*(stop if kept.rotated else []), Change("secret", kept.arn, delete)]


def as_json(changes: list[Change]) -> list[dict[str, Any]]:
    """Return changes as answers have them."""
    return [change.to_json() for change in changes]


def stamp() -> str:
    """Return the time as it is kept."""
    return text(datetime.now(UTC))
