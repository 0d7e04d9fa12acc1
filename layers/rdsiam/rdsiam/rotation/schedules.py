"""Schedules: the secrets of one database's rotating users become what access.yaml declares, user by user.

    find the user's secret → fit to be rotated? → (made by us: password set) → logs in → written down → scheduled

An existing secret is taken as it is, and never rotated at once. Where there is none, making one changes a password that
somebody uses: that is done only when confirmed. Then the password is in Secrets Manager before the database gets it,
and until it was seen to log in the secret carries a tag that says so: whoever is killed in between is gone on from.
"""

import json
import logging
import shlex
from dataclasses import dataclass
from typing import Any, Literal

from rdsiam.access_rotation import CLONE, RotatingUser
from rdsiam.audit.facts import SecretFacts
from rdsiam.changes import Change
from rdsiam.databases import Database
from rdsiam.errors import AccessFileInvalid, DatabaseNotFound, RdsiamError, Refused, Unsupported
from rdsiam.inventory import selected
from rdsiam.rotation import schedule
from rdsiam.rotation.logins import logs_in
from rdsiam.rotation.new_secrets import NewSecrets, Services, name_of
from rdsiam.rotation.rotating_secrets import MANAGED, UNSET, RotatingSecrets

logger = logging.getLogger(__name__)

Status = Literal["written", "planned", "unchanged", "refused"]


@dataclass(frozen=True)
class Outcome:
    """What became of one user's secret.

    :ivar secret: its ARN; None where there is none.
    :ivar reason: why it was refused; empty otherwise.
    :ivar changes: what was, or would be, changed.
    """

    user: str
    secret: str | None
    status: Status
    reason: str = ""
    changes: tuple[Change, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as SecretsFunction answers it."""
        return {"user": self.user, "secret": self.secret, "status": self.status, "reason": self.reason}


@dataclass(frozen=True)
class Followed:
    """What became of all of a database's; one that is refused keeps no other from being done."""

    database: str
    outcomes: tuple[Outcome, ...] = ()
    refused: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as SecretsFunction answers it."""
        reasons = [f"{one.user}: {one.reason}" for one in self.outcomes if one.reason]
        statuses = {one.status for one in self.outcomes} | ({"refused"} if self.refused else set())
        order: tuple[Status, ...] = ("refused", "planned", "written", "unchanged")
        return {
            "database": self.database,
            "status": next((one for one in order if one in statuses), "unchanged"),
            "reason": self.refused or "; ".join(reasons),
            "changes": [change.to_json() for one in self.outcomes for change in one.changes],
            "secrets": [one.to_json() for one in self.outcomes],
        }


class Schedules:
    """Makes secrets follow access.yaml."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def follow(self, arn: str, user: str | None = None, plan: bool = False, confirmed: bool = False) -> Followed:
        """Set, change and cancel the schedules of a database's users; of one that is gone, cancel all.

        :param user: look at this user only.
        :param plan: change nothing.
        :param confirmed: where a user has no secret, its password may be changed to make one.
        """
        try:
            database: Database | None = self._services.databases.describe(arn)
        except DatabaseNotFound:
            database = None
        except Unsupported as error:
            return Followed(arn, refused=str(error))
        arn = database.arn if database else arn
        record = self._services.inventory.get(arn)
        try:
            file = self._services.access.current().file
            users = file.rotating(selected(database, record)) if database else ()
        except AccessFileInvalid as error:
            return Followed(arn, refused=str(error))
        run = _Run(self._services, arn, dict(record.secrets) if record else {}, plan, confirmed)
        outcomes = []
        if database is not None:
            times = schedule.rules(database.resource_id, [(one.name, one.every, one.window) for one in users])
            outcomes = [run.keep(database, one, times[one.name]) for one in users if user in (None, one.name)]
        leaving = sorted(set(run.known) - {one.name for one in users})
        outcomes += [run.leave(name) for name in leaving if user in (None, name)]
        if user is not None and not outcomes:
            return Followed(arn, refused=f"access.yaml has no `rotate` for {user} on {arn}")
        return Followed(arn, tuple(outcomes))


class _Run:
    """One database, once.

    :ivar known: user → ARN of its secret, as the inventory has it.
    """

    def __init__(self, services: Services, arn: str, known: dict[str, str], plan: bool, confirmed: bool) -> None:
        self._services = services
        self._arn = arn
        self._plan = plan
        self._confirmed = confirmed
        self._listed: list[SecretFacts] | None = None
        self.known = known

    def keep(self, database: Database, user: RotatingUser, rules: schedule.Rules) -> Outcome:
        """Give a user's secret the schedule that it is to have."""
        new = NewSecrets(self._services, database)
        secret: SecretFacts | None = None
        changes: list[Change] = []
        try:
            secret = self._find(database, user)
            if secret is None:
                statement = new.statement(user)
                if self._plan or not self._confirmed:
                    return self._unmade(database, user, statement, rules)
                secret = new.make(user)
                changes.append(_created(secret.name))
            self._refuse_unfit(user, secret)
            if UNSET in secret.tags and (change := new.set_password(user, secret, self._plan)):
                changes.append(change)
            if not _as_wanted(secret, rules) or not self._services.secrets.is_ours(secret):
                if not (self._plan and changes):  # else its password is only about to be set
                    self._refuse_unusable(database, user, secret)
                self._schedule(user, secret, rules, changes)
            self._remember(user.name, secret.arn)
        except RdsiamError as error:
            logger.warning("rotation of %s on %s: %s", user.name, self._arn, error)
            return Outcome(user.name, secret.arn if secret else None, "refused", str(error), tuple(changes))
        return Outcome(user.name, secret.arn, self._status(changes), "", tuple(changes))

    def leave(self, name: str) -> Outcome:
        """Cancel a schedule that rdsiam has set for a user who is declared no longer; the password stays."""
        secret = self._services.secrets.one(self.known[name])
        changes: list[Change] = []
        # Whose owner took the tag away has taken the schedule over.
        if secret is not None and self._services.secrets.is_ours(secret) and secret.tags.get(MANAGED) == "true":
            if secret.pending_version is not None:
                return Outcome(name, secret.arn, "refused", _unfinished(secret))
            command = f"aws secretsmanager cancel-rotate-secret --secret-id {shlex.quote(secret.arn)}"
            changes.append(Change("cancel-rotation", secret.arn, command))
            if not self._plan:
                self._services.secrets.cancel(secret.arn)
                logger.info("%s on %s rotates no longer", name, self._arn)
        self._remember(name, None)
        return Outcome(name, secret.arn if secret else None, self._status(changes), "", tuple(changes))

    def _schedule(self, user: RotatingUser, secret: SecretFacts, rules: schedule.Rules, changes: list[Change]) -> None:
        self._remember(user.name, secret.arn)
        if not self._plan:
            self._services.secrets.schedule(secret.arn, rules)
            logger.info("%s on %s rotates: %s", user.name, self._arn, rules["ScheduleExpression"])
        changes.append(_scheduled(secret.arn, rules, self._services.secrets))

    def _status(self, changes: list[Change]) -> Status:
        if not changes:
            return "unchanged"
        return "planned" if self._plan else "written"

    def _remember(self, name: str, secret: str | None) -> None:
        """Write down whose schedule is ours, or no longer."""
        if self._plan or self.known.get(name) == secret:
            return
        if secret is None:
            del self.known[name]
        else:
            self.known[name] = secret
        self._services.inventory.set_secrets(self._arn, self.known)

    # --- the user's secret ---

    def _find(self, database: Database, user: RotatingUser) -> SecretFacts | None:
        """Return the secret that holds the user's password: the one we know, else of all that there are.

        :raises Refused: there are several, and none or several of them are tagged.
        """
        known = self._services.secrets.one(self.known[user.name]) if user.name in self.known else None
        if known is not None and _is_of(known, database, user):
            return known
        if self._listed is None:
            self._listed = self._services.secrets.all()
        found = [one for one in self._listed if _is_of(one, database, user)]
        tagged = [one for one in found if one.tags.get(MANAGED) == "true"]
        if len(found) > 1 and len(tagged) != 1:
            names = ", ".join(sorted(one.name for one in found))
            raise Refused(f"several secrets hold its password: {names}; tag the right one {MANAGED}=true, and no other")
        candidates = tagged if len(found) > 1 else found
        return candidates[0] if candidates else None

    def _refuse_unfit(self, user: RotatingUser, secret: SecretFacts) -> None:
        """Refuse what must not be rotated, by what can be seen without a login."""
        ours = self._services.secrets
        if secret.rotation_enabled and secret.rotation_lambda != ours.function:
            raise Refused(
                f"{secret.rotation_lambda or 'Secrets Manager itself'} rotates {secret.name}: cancel that (aws "
                f"secretsmanager cancel-rotate-secret --secret-id {shlex.quote(secret.arn)}), or take {user.name} out "
                "of `rotate`"
            )
        if secret.tags.get(MANAGED) != "true":
            raise Refused(
                f"the owner of {secret.name} has not said that rdsiam may rotate it: aws secretsmanager tag-resource "
                f"--secret-id {shlex.quote(secret.arn)} --tags Key={MANAGED},Value=true"
            )
        if secret.alternating != (user.scheme == "alternating"):
            wanted = "has none: put it into its value" if user.scheme == "alternating" else "has one: take it out"
            raise Refused(
                f"access.yaml says scheme: {user.scheme}. The key masterarn of the secret's value decides, and "
                f"{secret.name} {wanted}, or change access.yaml"
            )
        if secret.alternating and (proxies := self._services.targets.classic_proxies(secret.arn)):
            raise Refused(
                f"the proxy {', '.join(proxies)} logs in with {secret.name}, and knows one user only: scheme: single"
            )

    def _refuse_unusable(self, database: Database, user: RotatingUser, secret: SecretFacts) -> None:
        """Refuse a secret with which RotateFunction would fail: it has to name the database, and to log in."""
        if secret.pending_version is not None:
            raise Refused(_unfinished(secret))
        value = self._services.store.current(secret.arn)
        found = self._services.targets.find(value)
        if found.arn != database.arn:
            raise Refused(f"{secret.name} says that it is for {found.identifier}, too: correct its host or identifier")
        if not logs_in(self._services.engines[database.family], database, value):
            raise Refused(
                f"{value.user} does not log in to {database.identifier} with {secret.name}: put the password that is "
                f"in use into the secret, if there is a user {user.name} at all; rdsiam makes none with a password"
            )

    # --- no secret ---

    def _unmade(self, database: Database, user: RotatingUser, statement: str, rules: schedule.Rules) -> Outcome:
        """Return what would be done for a user without a secret, and what it takes."""
        name = name_of(database, user)
        would = (
            _created(name),
            Change("set-password", user.name, statement, reversible=False),
            _scheduled(name, rules, self._services.secrets),
        )
        if self._confirmed:
            return Outcome(user.name, None, "planned", "", would)
        reason = _needs_confirm(user.name, self._services.secrets.skipped)
        return Outcome(user.name, None, "refused", reason, would if self._plan else ())


def _created(name: str) -> Change:
    return Change("create-secret", name, f"aws secretsmanager create-secret --name {shlex.quote(name)}")


def _is_of(secret: SecretFacts, database: Database, user: RotatingUser) -> bool:
    names = {user.name, user.name + CLONE} if user.scheme == "alternating" else {user.name}
    return secret.username in names and secret.is_of(database.arn, database.identifier, database.host, database.port)


def _as_wanted(secret: SecretFacts, rules: schedule.Rules) -> bool:
    """Compare what was set; AWS adds to its answers how many days that comes to."""
    return all(secret.rotation_rules.get(name) == value for name, value in rules.items())


def _scheduled(secret: str, rules: schedule.Rules, secrets: RotatingSecrets) -> Change:
    words = ("aws", "secretsmanager", "rotate-secret", "--secret-id", secret, "--rotation-lambda-arn", secrets.function,
             "--rotation-rules", json.dumps(dict(rules)), "--no-rotate-immediately")  # fmt: skip
    return Change("schedule-rotation", secret, shlex.join(words))


def _unfinished(secret: SecretFacts) -> str:
    return (
        f"a rotation of {secret.name} has begun and not ended: it is looked at again with the next sweep; if it never "
        "ends: rdsiam rotate DATABASE USER --unstick"
    )


def _needs_confirm(user: str, skipped: int) -> str:
    unread = f" ({skipped} secrets could not be read: is it one of those?)" if skipped else ""
    return (
        f"no secret holds its password{unread}, and to make one rdsiam changes it: whoever uses the old one is locked "
        f"out. Put the password that is in use into a secret tagged {MANAGED}=true, or confirm: rdsiam rotate DATABASE "
        f"{user} --set-up --confirm"
    )
