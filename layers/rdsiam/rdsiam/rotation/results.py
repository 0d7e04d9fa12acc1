"""Requests and results of setting schedules."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from rdsiam.access import calendar
from rdsiam.access.rotation import CLONE, RotatingUser
from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.core.changes import Change, Refusal
from rdsiam.state.record import SecretRecord

ScheduleStatus = Literal["written", "planned", "unchanged", "refused"]
#: The status of a database is the first of these that one of its users has.
_ORDER: tuple[ScheduleStatus, ...] = ("refused", "planned", "written", "unchanged")


@dataclass(frozen=True)
class ScheduleOptions:
    """Options of an operator.

    :ivar user: set the schedule of this user only; None for all.
    :ivar plan: change nothing.
    :ivar confirmed: the operator confirms `secret`, or else that a user's password is changed to create a secret.
    :ivar secret: ARN of the existing secret that holds the user's password.
    :ivar withdraw: only end rotations that access.yaml no longer declares; needs no login to the database.
    """

    user: str | None = None
    plan: bool = False
    confirmed: bool = False
    secret: str | None = None
    withdraw: bool = False


@dataclass(frozen=True)
class DesiredSchedule:
    """The rotation that access.yaml declares for a user of a database.

    :ivar administrator: ARN of the secret of the administrator for alternating users; None for a single user.
    """

    database: Database
    user: RotatingUser
    rules: calendar.Rules
    administrator: str | None

    def record(self, arn: str | None) -> SecretRecord:
        """Return the record of a secret that is ready to be rotated."""
        return SecretRecord(self.database.resource_id, arn, self.user.scheme, self.administrator)

    def is_of(self, secret: SecretFacts) -> bool:
        """Tell whether the value of a secret is for this user of this database."""
        names = {self.user.name, self.user.name + CLONE} if self.user.scheme == "alternating" else {self.user.name}
        database = self.database
        return secret.username in names and secret.is_of(
            database.arn, database.identifier, database.host, database.port
        )


@dataclass(frozen=True)
class UserSchedule:
    """Result for the secret of one user.

    :ivar secret: its ARN; None if there is none.
    :ivar changes: changes that were, or would be, made.
    :ivar candidates: ARNs of secrets whose values are for the user, for people to choose from.
    :ivar refusal: why it was refused; None if it was not.
    """

    user: str
    secret: str | None
    status: ScheduleStatus
    changes: tuple[Change, ...] = ()
    candidates: tuple[str, ...] = ()
    refusal: Refusal | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as SecretsFunction answers it."""
        return {
            "user": self.user,
            "secret": self.secret,
            "status": self.status,
            **_refused(self.refusal),
            "candidates": list(self.candidates),
        }


@dataclass(frozen=True)
class DatabaseSchedules:
    """Results for all users of one database; a refused user prevents no other user's schedule.

    :ivar refused: why no user's schedule was looked at; None if nothing prevented it.
    """

    database: str
    users: tuple[UserSchedule, ...] = ()
    refused: Refusal | None = None

    @property
    def status(self) -> ScheduleStatus:
        """The status that needs most attention."""
        statuses = {user.status for user in self.users} | ({"refused"} if self.refused else set())
        return next((status for status in _ORDER if status in statuses), "unchanged")

    @property
    def refusal(self) -> Refusal | None:
        """Why something was refused, with the names of the users and the first code; None if nothing was."""
        refusals = [(user.user, user.refusal) for user in self.users if user.refusal]
        if self.refused or not refusals:
            return self.refused
        problem = "; ".join(f"{user}: {refusal.problem}" for user, refusal in refusals)
        if len(refusals) == 1:
            return replace(refusals[0][1], problem=problem)  # its remedy may be a command to copy
        remedy = "; ".join(f"{user}: {refusal.remedy}" for user, refusal in refusals if refusal.remedy)
        return Refusal(problem, remedy, refusals[0][1].code)

    def to_json(self) -> dict[str, Any]:
        """Return the results as SecretsFunction answers them."""
        return {
            "database": self.database,
            "status": self.status,
            **_refused(self.refusal),
            "changes": [change.to_json() for user in self.users for change in user.changes],
            "secrets": [user.to_json() for user in self.users],
        }


def _refused(refusal: Refusal | None) -> dict[str, str]:
    """Return the fields of an answer that say why something was refused; empty texts if nothing was."""
    code, reason, remedy = (refusal.code, refusal.problem, refusal.remedy) if refusal else ("", "", "")
    return {"code": code, "reason": reason, "remedy": remedy}
