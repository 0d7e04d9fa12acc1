"""Schedules: the secrets of one database's rotating users become what access.yaml declares, user by user.

    the user's recorded secret → fit to be rotated? → (created by rdsiam: password set) → logs in → recorded → scheduled

Which secret is a user's, access.yaml says by its ARN, or an operator who confirms the ARN that a plan has shown; both
are recorded in the inventory, and only what is recorded is acted on. An existing secret is taken as it is, and never
rotated at once. If there is none, creating one changes a password that somebody uses: that is done only if confirmed.
"""

import json
import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from rdsiam.access import calendar
from rdsiam.access.rotation import CLONE, RotatingUser
from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.errors import RotationUnfinished, SecretDenied, SecretsManagerFailed
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.aws.secrets.schedules import INITIAL, MANAGED, RotatingSecrets
from rdsiam.core.changes import Change
from rdsiam.errors import AccessFileInvalid, DatabaseNotFound, RdsiamError, Refused, Unsupported
from rdsiam.rotation.login import logs_in
from rdsiam.rotation.new_secrets import NewSecrets, Services, name_of
from rdsiam.rotation.targets import refuse_misplaced, refuse_other_login
from rdsiam.state.inventory import SecretRecord, selected

logger = logging.getLogger(__name__)

Status = Literal["written", "planned", "unchanged", "refused"]


@dataclass(frozen=True)
class Outcome:
    """What became of one user's secret.

    :ivar secret: its ARN; None where there is none.
    :ivar reason: why it was refused; empty otherwise.
    :ivar changes: what was, or would be, changed.
    :ivar candidates: ARNs of secrets whose values say that they hold the user's password: for people to choose from.
    """

    user: str
    secret: str | None
    status: Status
    reason: str = ""
    changes: tuple[Change, ...] = ()
    candidates: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as SecretsFunction answers it."""
        names = ("user", "secret", "status", "reason")
        return {name: getattr(self, name) for name in names} | {"candidates": list(self.candidates)}


@dataclass(frozen=True)
class Applied:
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

    def follow(
        self,
        arn: str,
        user: str | None = None,
        plan: bool = False,
        confirmed: bool = False,
        secret: str | None = None,
        withdraw: bool = False,
    ) -> Applied:
        """Set, change and cancel the schedules of a database's users; of one that is gone, cancel all.

        :param user: look at this user only.
        :param plan: change nothing.
        :param confirmed: an operator confirms: `secret`, or else that the user's password is changed to create one.
        :param secret: ARN of the existing secret that holds the user's password.
        :param withdraw: only end what access.yaml no longer declares; needs no login to the database.
        """
        try:
            database: Database | None = self._services.databases.describe(arn)
        except DatabaseNotFound:
            database = None
        except Unsupported as error:
            return Applied(arn, refused=str(error))
        arn = database.arn if database else arn
        record = self._services.inventory.get(arn)
        try:
            file = self._services.access.current().file
            users = file.rotating(selected(database, record)) if database else ()
        except AccessFileInvalid as error:
            return Applied(arn, refused=str(error))
        wish = _Wish(plan, confirmed, user is not None, secret)
        run = _Run(self._services, arn, dict(record.secrets) if record else {}, wish)
        outcomes = []
        if database is not None and withdraw:
            for one in users:
                run.withdraw_outdated(database, one)
        elif database is not None:
            times = calendar.rules(database.resource_id, [(one.name, one.every, one.window) for one in users])
            outcomes = [run.keep(database, one, times[one.name]) for one in users if user in (None, one.name)]
        leaving = {name for name, one in run.known.items() if one.state != "ended"} - {one.name for one in users}
        outcomes += [run.leave(database, name) for name in sorted(leaving) if user in (None, name)]
        if user is not None and not outcomes:
            return Applied(
                arn,
                refused=f"access.yaml has no `rotate` for {user} on {arn}: add {user} to `rotate` of an entry for it",
            )
        return Applied(arn, tuple(outcomes))


@dataclass(frozen=True)
class _Wish:
    """What an operator asks for.

    :ivar one_user: it is about one user, so that secrets may be looked through for candidates.
    :ivar secret: ARN of the secret that the operator names.
    """

    plan: bool
    confirmed: bool
    one_user: bool
    secret: str | None


class _Run:
    """One database, once.

    :ivar known: user → the record of its secret, as the inventory has it.
    """

    def __init__(self, services: Services, arn: str, known: dict[str, SecretRecord], wish: _Wish) -> None:
        self._services = services
        self._arn = arn
        self._wish = wish
        self._plan = wish.plan
        self.known = known

    def keep(self, database: Database, user: RotatingUser, rules: calendar.Rules) -> Outcome:
        """Give a user's secret the schedule that access.yaml declares."""
        changes: list[Change] = []
        try:
            self.withdraw_outdated(database, user)
            administrator = _administrator(database, user)
            self._release_outdated(database, user, changes)
            record = self._present(user.name)
            chosen = self._chosen(user) if record is None else None
            if record is None and chosen is None and not self._goes_on_creating(user.name):
                if self._plan or not self._wish.confirmed:
                    return self._unmade(database, user, rules, changes)
                self._refuse_candidates(database, user)
            return self._set_up(database, user, rules, administrator, chosen, changes)
        except RdsiamError as error:
            reason = _reason(error)
            logger.warning("rotation of %s on %s: %s", user.name, self._arn, reason)
            record = self.known.get(user.name)
            return Outcome(user.name, record.arn if record else None, "refused", reason, tuple(changes))

    def _set_up(
        self,
        database: Database,
        user: RotatingUser,
        rules: calendar.Rules,
        administrator: str | None,
        chosen: str | None,
        changes: list[Change],
    ) -> Outcome:
        new = NewSecrets(self._services, database, partial(self._remember, user.name))
        record = self.known.get(user.name)
        if chosen is not None:
            # Recorded only once it was seen to log in; nothing acts on it before.
            record = SecretRecord(database.resource_id, chosen, user.scheme, administrator)
        elif self._goes_on_creating(user.name) or record is None:
            if record is not None and record.arn is None and self._plan:
                return Outcome(user.name, None, "planned", "", self._would_create(database, user, rules))
            if record is None or record.arn is None:
                if record is None:
                    new.statement(user)
                record = new.make(user, administrator, record)
                changes.append(_created(name_of(database, user)))
        arn = str(record.arn)
        secret = self._services.secrets.get(arn)
        if secret is None:
            raise Refused(
                f"the secret {arn} is gone, scheduled for deletion, or can't be read: correct "
                f"that, or name another by `secret: ARN`; rdsiam rotate set-up DATABASE {user.name} --confirm "
                "creates one"
            )
        self._refuse_unfit(database, user, secret, administrator)
        if record.state == "initial":
            record, change = new.set_password(user, record, self._plan)
            changes += [change] if change else []
        made_here = INITIAL in secret.tags and secret.name == name_of(database, user)
        if made_here and record.state == "ready" and not self._plan:
            self._services.secrets.end_initial(arn)
        wanted = SecretRecord(database.resource_id, arn, user.scheme, administrator)
        scheduled = _as_wanted(secret, rules) and self._services.secrets.rotates(secret)
        if not scheduled or self.known.get(user.name) != wanted:
            if not (self._plan and changes):  # else its password is only about to be set
                self._refuse_unusable(database, user, secret, wanted)
            self._remember(user.name, wanted)
        if not scheduled:
            self._schedule(user, secret, rules, changes)
        return Outcome(user.name, arn, self._status(changes), "", tuple(changes))

    def withdraw_outdated(self, database: Database, user: RotatingUser) -> None:
        """Record that a user's rotation sets no password, unless it is still declared as it is recorded."""
        known = self.known.get(user.name)
        if known is not None and not known.permits(database, user):
            self._withdraw(user.name)

    def leave(self, database: Database | None, name: str) -> Outcome:
        """Cancel a schedule that rdsiam has set for a user who is declared no longer; the password stays.

        :param database: None if it is gone.
        """
        record = self.known[name]
        changes: list[Change] = []
        same = database is not None and database.resource_id == record.resource_id
        ended = replace(record, state="ended") if same and record.state in {"ready", "ending"} else None
        try:
            self._release(name, changes, ended)
        except (Refused, SecretDenied, RotationUnfinished) as error:
            return Outcome(name, record.arn, "refused", _reason(error))
        return Outcome(name, record.arn, self._status(changes), "", tuple(changes))

    def _release(self, name: str, changes: list[Change], then: SecretRecord | None = None) -> None:
        """Cancel the rotation of a user's recorded secret, and replace the record; None removes it.

        :raises Refused: a rotation has begun and not ended; no rotation sets a password from now on all the same.
        """
        self._withdraw(name)
        arn = self.known[name].arn
        secret = self._services.secrets.get(arn) if arn is not None else None
        # Whose owner took the tag away has taken the schedule over.
        if secret is not None and self._services.secrets.rotates(secret) and secret.tags.get(MANAGED) == "true":
            if secret.pending_version is not None:
                raise Refused(_unfinished(secret))
            command = f"aws secretsmanager cancel-rotate-secret --secret-id {shlex.quote(secret.arn)}"
            changes.append(Change("cancel-rotation", secret.arn, command))
            if not self._plan:
                self._services.secrets.cancel(secret.arn)
                logger.info("%s on %s rotates no longer", name, self._arn)
        self._remember(name, then)

    def _withdraw(self, name: str) -> None:
        """Record that a user's rotation sets no password from now on, whatever its owner does to the secret."""
        record = self.known[name]
        if record.state == "ready":
            self._remember(name, replace(record, state="ending"))

    def _schedule(self, user: RotatingUser, secret: SecretFacts, rules: calendar.Rules, changes: list[Change]) -> None:
        if not self._plan:
            self._services.secrets.schedule(secret.arn, rules)
            logger.info("%s on %s rotates: %s", user.name, self._arn, rules["ScheduleExpression"])
        changes.append(_scheduled(secret.arn, rules, self._services.secrets))

    def _status(self, changes: list[Change]) -> Status:
        if not changes:
            return "unchanged"
        return "planned" if self._plan else "written"

    def _remember(self, name: str, record: SecretRecord | None) -> None:
        """Replace the record of a user's secret, if no other run has done so meanwhile; a plan records nothing."""
        expected = self.known.get(name)
        if expected == record:
            return
        if not self._plan:
            self._services.inventory.set_secret(self._arn, name, record, expected)
        if record is None:
            del self.known[name]
        else:
            self.known[name] = record

    # --- the user's secret ---

    def _release_outdated(self, database: Database, user: RotatingUser, changes: list[Change]) -> None:
        """Release a record of another database of the same name, or of another secret than the one that is named."""
        known = self.known.get(user.name)
        if known is None:
            return
        named = user.secret or (self._wish.secret if self._wish.confirmed else None)
        if known.resource_id != database.resource_id or (named is not None and named != known.arn):
            self._release(user.name, changes)

    def _present(self, name: str) -> SecretRecord | None:
        """Return the record if its secret may be there: one that is gone may be replaced once that is confirmed."""
        known = self.known.get(name)
        if known is None or known.arn is None:
            return None
        if known.state != "initial" and self._wish.confirmed and self._services.secrets.get(known.arn) is None:
            self._remember(name, None)
            return None
        return known

    def _goes_on_creating(self, name: str) -> bool:
        """Tell whether an earlier run has begun to create the user's secret, which was confirmed then."""
        known = self.known.get(name)
        return known is not None and known.state == "initial"

    def _chosen(self, user: RotatingUser) -> str | None:
        """Return the ARN of the existing secret that access.yaml names, or an operator.

        :raises Refused: they name two different ones, or the operator does not confirm.
        """
        asked = self._wish.secret
        if user.secret is not None and asked not in (None, user.secret):
            raise Refused(f"access.yaml names another secret for {user.name}: {user.secret}")
        if user.secret is None and asked is not None and not (self._wish.confirmed or self._plan):
            raise Refused(
                f"{asked} is taken once that is confirmed: rdsiam rotate set-up DATABASE {user.name} --secret "
                f"{asked} --confirm"
            )
        return user.secret or asked

    def _candidates(self, database: Database, user: RotatingUser) -> tuple[SecretFacts, ...]:
        """Return the secrets that say that they hold the user's password; anybody may write such a secret."""
        if not (self._wish.one_user or self._wish.confirmed):
            return ()  # not for every database of every run: it takes a look into all secrets
        return tuple(one for one in self._services.secrets.all() if _is_of(one, database, user))

    def _refuse_candidates(self, database: Database, user: RotatingUser) -> None:
        """Refuse to create a secret while others say that they hold the password."""
        candidates = self._candidates(database, user)
        if candidates:
            raise Refused(_choose(user.name, candidates))

    def _refuse_unfit(
        self, database: Database, user: RotatingUser, secret: SecretFacts, administrator: str | None
    ) -> None:
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
        if secret.administrator != administrator:
            wanted = f"must be {administrator}" if administrator else "must not be there (scheme: single)"
            raise Refused(
                f"masterarn in the value of {secret.name} is {secret.administrator or 'missing'}, and {wanted}: "
                "correct the value, or scheme and administrator in access.yaml"
            )
        if not _is_of(secret, database, user):
            raise Refused(
                f"the value of {secret.name} is for {secret.username or 'no user'} at "
                f"{secret.instance or secret.host or 'no host'}, not for {user.name} on {database.identifier}: correct "
                "its value, or name another secret by `secret: ARN` in access.yaml"
            )
        if secret.alternating and (proxies := self._services.targets.classic_proxies(secret.arn)):
            raise Refused(
                f"the proxy {', '.join(proxies)} logs in with {secret.name}, and knows one user only: scheme: single"
            )

    def _refuse_unusable(
        self, database: Database, user: RotatingUser, secret: SecretFacts, record: SecretRecord
    ) -> None:
        """Refuse a secret with which RotateFunction would fail: it has to name the database, and to log in."""
        if secret.pending_version is not None:
            raise Refused(_unfinished(secret))
        value = self._services.store.current(secret.arn)
        try:
            refuse_misplaced(value, database)
            refuse_other_login(value, user.name, record)
        except Refused as error:
            raise Refused(f"{secret.name}: {error}") from None
        if not logs_in(self._services.engines[database.family], database, value):
            raise Refused(
                f"{value.user} does not log in to {database.identifier} with {secret.name}: put the password that is "
                f"in use into the secret, if there is a user {user.name} at all; rdsiam makes none with a password"
            )

    # --- no secret ---

    def _unmade(self, database: Database, user: RotatingUser, rules: calendar.Rules, changes: list[Change]) -> Outcome:
        """Return what would be done for a user without a recorded secret, and what it takes."""
        candidates = self._candidates(database, user)
        arns = tuple(one.arn for one in candidates)
        if candidates:
            reason = _choose(user.name, candidates)
            return Outcome(user.name, None, "refused", reason, tuple(changes), candidates=arns)
        would = (*changes, *self._would_create(database, user, rules))
        if self._wish.confirmed:
            return Outcome(user.name, None, "planned", "", would)
        reason = _needs_confirm(user.name, self._wish.one_user, self._services.secrets.skipped)
        return Outcome(user.name, None, "refused", reason, would if self._plan else tuple(changes))

    def _would_create(self, database: Database, user: RotatingUser, rules: calendar.Rules) -> tuple[Change, ...]:
        name = name_of(database, user)
        statement = NewSecrets(self._services, database, partial(self._remember, user.name)).statement(user)
        return (
            _created(name),
            Change("set-password", user.name, statement, reversible=False),
            _scheduled(name, rules, self._services.secrets),
        )


def _reason(error: RdsiamError) -> str:
    """Return why a user's secret was left as it is; other failures of Secrets Manager are raised.

    Owners of secrets can deny rdsiam any action on them by a policy, which concerns their user alone.
    """
    if isinstance(error, SecretsManagerFailed) and not isinstance(error, SecretDenied | RotationUnfinished):
        raise error
    return str(error)


def _administrator(database: Database, user: RotatingUser) -> str | None:
    """Return the ARN of the administrator's secret of users that take turns.

    :raises Refused: there is none.
    """
    if user.scheme == "single":
        return None
    administrator = user.administrator or database.master_secret_arn
    if administrator is None:
        raise Refused(
            f"scheme: alternating needs an administrator's secret, and RDS keeps none for {database.identifier}: "
            "switch --manage-master-user-password on, name one by `administrator: ARN`, or say scheme: single"
        )
    return administrator


def _created(name: str) -> Change:
    return Change("create-secret", name, f"aws secretsmanager create-secret --name {shlex.quote(name)}")


def _is_of(secret: SecretFacts, database: Database, user: RotatingUser) -> bool:
    names = {user.name, user.name + CLONE} if user.scheme == "alternating" else {user.name}
    return secret.username in names and secret.is_of(database.arn, database.identifier, database.host, database.port)


def _as_wanted(secret: SecretFacts, rules: calendar.Rules) -> bool:
    """Compare what was set; AWS adds to its answers how many days that comes to."""
    return all(secret.rotation_rules.get(name) == value for name, value in rules.items())


def _scheduled(secret: str, rules: calendar.Rules, secrets: RotatingSecrets) -> Change:
    words = ("aws", "secretsmanager", "rotate-secret", "--secret-id", secret, "--rotation-lambda-arn", secrets.function,
             "--rotation-rules", json.dumps(dict(rules)), "--no-rotate-immediately")  # fmt: skip
    return Change("schedule-rotation", secret, shlex.join(words))


def _unfinished(secret: SecretFacts) -> str:
    return (
        f"a rotation of {secret.name} has begun and not ended: the next reconcile looks at it again; if it never "
        "ends: rdsiam rotate unstick DATABASE USER"
    )


def _choose(user: str, candidates: Sequence[SecretFacts]) -> str:
    found = ", ".join(sorted(one.arn for one in candidates))
    return (
        f"access.yaml names no secret of {user}, and these say that they hold its password, which anybody can write: "
        f"{found}. Ask their owner; then `secret: ARN` in access.yaml, or rdsiam rotate set-up DATABASE {user} "
        "--secret ARN --confirm"
    )


def _needs_confirm(user: str, searched: bool, skipped: int) -> str:
    unreadable = f" ({skipped} secrets could not be read: is it one of those?)" if skipped else ""
    none = (
        f"no secret says that it holds its password{unreadable}"
        if searched
        else "access.yaml names no secret of it, and none is recorded"
    )
    return (
        f"{none}. If one holds the password that is in use, name it: `secret: ARN`. To create one, rdsiam changes the "
        f"password, and whoever uses the old one is locked out: rdsiam rotate set-up DATABASE {user} --confirm; "
        "--plan shows what would be done"
    )
