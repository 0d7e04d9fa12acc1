"""Schedules: the secrets of one database's rotating users become what access.yaml declares, user by user.

    find the user's secret → fit to be rotated? → (made by us: password set) → logs in → written down → scheduled

An existing secret is taken as it is, and never rotated at once. Where there is none, making one changes a password that
somebody uses: that is done only when confirmed. Then the password is in Secrets Manager before the database gets it,
and until it was seen to log in the secret carries a tag that says so: whoever is killed in between is gone on from.
"""

import json
import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rdsiam import schedule
from rdsiam.access_rotation import CLONE, RotatingUser
from rdsiam.access_store import AccessStore
from rdsiam.audit.facts import SecretFacts
from rdsiam.changes import Change
from rdsiam.databases import Database, Databases, Family
from rdsiam.engines.rotating import PasswordRejected, Rotator
from rdsiam.errors import AccessFileInvalid, ConnectionFailed, DatabaseNotFound, RdsiamError, Refused, Unsupported
from rdsiam.inventory import Inventory
from rdsiam.logins import MANAGER, Logins
from rdsiam.passwords import LONGEST, new_password
from rdsiam.rotating_secrets import MANAGED, PREFIX, UNSET, RotatingSecrets
from rdsiam.secret import PasswordRules, Secret, read_secret
from rdsiam.secret_logins import ENGINES, logs_in
from rdsiam.secret_store import CURRENT, SecretStore
from rdsiam.targets import Targets

logger = logging.getLogger(__name__)

Status = Literal["written", "planned", "unchanged", "refused"]
#: How many passwords a database's policy may reject before it is given up.
_TRIES = 3


@dataclass(frozen=True)
class Services:
    """What schedules are set with.

    :ivar rules: what new passwords are made of.
    """

    databases: Databases
    targets: Targets
    access: AccessStore
    inventory: Inventory
    logins: Logins
    secrets: RotatingSecrets
    store: SecretStore
    rules: PasswordRules
    engines: Mapping[Family, Rotator] = field(default_factory=lambda: ENGINES)


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
        try:
            users = self._services.access.current().file.rotating(database) if database else ()
        except AccessFileInvalid as error:
            return Followed(arn, refused=str(error))
        record = self._services.inventory.get(arn)
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
        held: str | None = None
        changes: list[Change] = []
        try:
            secret = self._find(database, user)
            if secret is None:
                secret = self._make(database, user, changes)
            if secret is None:
                changes.append(_scheduled(f"{PREFIX}{database.identifier}/{user.name}", rules, self._services.secrets))
                if self._confirmed:
                    return Outcome(user.name, None, "planned", "", tuple(changes))
                return Outcome(user.name, None, "refused", _needs_confirm(user.name, self._services.secrets.skipped),
                               tuple(changes) if self._plan else ())  # fmt: skip
            held = secret.arn
            self._refuse_unfit(user, secret)
            if UNSET in secret.tags:
                self._set_password(database, user, secret, changes)
            if not _as_wanted(secret, rules) or not self._services.secrets.is_ours(secret):
                if not (self._plan and changes):  # else its password is only about to be set
                    self._refuse_unusable(database, user, secret)
                changes.append(_scheduled(secret.arn, rules, self._services.secrets))
                self._remember(user.name, secret.arn)
                if not self._plan:
                    self._services.secrets.schedule(secret.arn, rules)
                    logger.info("%s on %s rotates: %s", user.name, self._arn, rules["ScheduleExpression"])
            self._remember(user.name, secret.arn)
        except RdsiamError as error:
            logger.warning("rotation of %s on %s: %s", user.name, self._arn, error)
            return Outcome(user.name, held, "refused", str(error), tuple(changes))
        return Outcome(user.name, held, self._status(changes), "", tuple(changes))

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
        value = self._value(secret)
        found = self._services.targets.find(value)
        if found.arn != database.arn:
            raise Refused(f"{secret.name} says that it is for {found.identifier}, too: correct its host or identifier")
        if not logs_in(self._engine(database), database, value):
            raise Refused(
                f"{value.user} does not log in to {database.identifier} with {secret.name}: put the password that is "
                f"in use into the secret, if there is a user {user.name} at all; rdsiam makes none with a password"
            )

    def _value(self, secret: SecretFacts) -> Secret:
        value = self._services.store.labelled(secret.arn, CURRENT)
        if value is None:
            raise Refused(f"{secret.name} has no AWSCURRENT version")
        return value

    # --- a new secret ---

    def _make(self, database: Database, user: RotatingUser, changes: list[Change]) -> SecretFacts | None:
        """Make the user's secret, its password not set yet; None where that is only planned, or not confirmed.

        :raises Refused: the password could not be set.
        """
        if user.scheme == "alternating" and database.master_secret_arn is None:
            raise Refused(
                f"scheme: alternating needs an administrator's secret, and RDS keeps none for {database.identifier}: "
                "switch --manage-master-user-password on, or say scheme: single"
            )
        session = self._as_manager(database)
        try:
            statement = self._engine(database).inspect_other(session, user.name)
        finally:
            session.close()
        if statement is None:
            raise Refused(
                f"there is no user {user.name} on {database.identifier}, and rdsiam makes none with a password: make "
                "it, or take it out of `rotate`"
            )
        name = f"{PREFIX}{database.identifier}/{user.name}"
        changes += [
            Change("create-secret", name, f"aws secretsmanager create-secret --name {shlex.quote(name)}"),
            Change("set-password", user.name, statement, reversible=False),
        ]
        if self._plan or not self._confirmed:
            return None
        value = _document(database, user, self._password(database))
        made = self._services.secrets.create(name, value.text(), f"{user.name} on {database.identifier}")
        self._remember(user.name, made)
        logger.info("made the secret %s", name)
        del changes[-1]  # it is set where those are that a run made which was killed
        secret = self._services.secrets.one(made)
        if secret is None:
            raise Refused(f"there is a secret {name} that can't be read: correct its policy or its key")
        return secret

    def _set_password(self, database: Database, user: RotatingUser, secret: SecretFacts, changes: list[Change]) -> None:
        """Give the database the password of a secret that rdsiam made; a run that was killed may have done so."""
        engine, value = self._engine(database), self._value(secret)
        if not logs_in(engine, database, value):
            session = self._as_manager(database)
            try:
                statement = engine.inspect_other(session, user.name)
                if statement is None:
                    raise Refused(f"the user {user.name} is gone: make it, or delete the secret {secret.name}")
                changes.append(Change("set-password", user.name, statement, reversible=False))
                if self._plan:
                    return
                value = self._set(engine, session, database, user, secret, value)
            finally:
                session.close()
            if not logs_in(engine, database, value):
                raise Refused(f"{user.name} does not log in with the password that was just set: is it locked?")
            logger.info("set the password of %s on %s", user.name, self._arn)
        if not self._plan:
            self._services.secrets.settle(secret.arn)

    def _set(
        self, engine: Rotator, session: Any, database: Database, user: RotatingUser, secret: SecretFacts, value: Secret
    ) -> Secret:
        for _ in range(_TRIES):
            try:
                engine.set_other_password(session, user.name, user.name, value.password)
            except PasswordRejected:
                value = value.with_login(value.user, self._password(database))
                self._services.secrets.replace(secret.arn, value.text())
            else:
                return value
        raise Refused(
            f"the policy of {database.identifier} rejects passwords as the parameters PasswordLength and "
            "PasswordExclude make them: correct those"
        )

    def _password(self, database: Database) -> str:
        rules = self._services.rules
        return new_password(PasswordRules(min(rules.length, LONGEST[database.family]), rules.excluded), database.family)

    def _as_manager(self, database: Database) -> Any:
        try:
            return self._engine(database).connect(database, self._services.logins.manager(database), None)
        except ConnectionFailed as error:
            if error.stage != "login":
                raise
            raise Refused(
                f"{MANAGER} does not log in to {database.identifier}: declare a user there, so that it is onboarded "
                f"first; or put the user's password into a secret tagged {MANAGED}=true ({error})"
            ) from None

    def _engine(self, database: Database) -> Rotator:
        return self._services.engines[database.family]


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


def _document(database: Database, user: RotatingUser, password: str) -> Secret:
    host, port = database.endpoint
    identifier = "dbClusterIdentifier" if database.kind == "cluster" else "dbInstanceIdentifier"
    document: dict[str, Any] = {
        "engine": database.engine,
        "host": host,
        "port": port,
        "username": user.name,
        "password": password,
        identifier: database.identifier,
    }
    if database.default_database is not None:
        document["dbname"] = database.default_database
    if user.scheme == "alternating":
        document["masterarn"] = database.master_secret_arn
    return read_secret(json.dumps(document))
