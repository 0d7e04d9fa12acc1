"""Rotations as access.yaml declares them: users, frequency, window and scheme."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema, model_validator

from rdsiam.access import fields
from rdsiam.access.calendar import CYCLES, WHOLE_DAY, hours_of
from rdsiam.access.document import Path
from rdsiam.aws.rds import Database

#: What the second of two users that take turns is called.
CLONE = "_clone"
Scheme = Literal["single", "alternating"]


def _every(value: str) -> str:
    if value not in CYCLES:
        raise ValueError(f"must be one of {', '.join(CYCLES)}: what has a fixed place in the calendar")
    return value


def _window(value: str) -> str:
    if hours_of(value) is None:
        raise ValueError("must be start and length in whole hours, UTC, within one day, such as 02:00/4h")
    return value


Every = Annotated[str, AfterValidator(_every), WithJsonSchema({"enum": list(CYCLES)})]
Window = Annotated[
    str,
    AfterValidator(_window),
    WithJsonSchema({"type": "string", "pattern": "^([01][0-9]|2[0-3]):00/([1-9]|1[0-9]|2[0-4])h$"}),
]


#: The whole ARN of a secret: without the six characters at its end it would name any secret of that name.
SecretArn = Annotated[
    str,
    Field(
        pattern=r"^arn:aws[a-z-]{0,12}:secretsmanager:[a-z0-9-]{1,32}:[0-9]{12}:"
        r"secret:[A-Za-z0-9/_+=.@!-]{1,512}-[A-Za-z0-9]{6}$"
    ),
]


class Rotate(BaseModel):
    """Users who keep a password, and when it is changed.

    `secret` is the existing secret of the only user; `administrator` the secret of who sets passwords of users that
    take turns.
    """

    model_config = fields.STRICT

    users: Annotated[list[fields.ExistingName], Field(min_length=1)]
    every: Every
    window: Window = WHOLE_DAY
    scheme: Scheme = "single"
    secret: SecretArn | None = None
    administrator: SecretArn | None = None

    @model_validator(mode="after")
    def _names_the_secret_of_one_user(self) -> "Rotate":
        if self.secret is not None and len(self.users) > 1:
            raise ValueError("secret holds the password of one user: give each of these users an entry of its own")
        return self

    @model_validator(mode="after")
    def _names_an_administrator_of_users_that_take_turns(self) -> "Rotate":
        if self.administrator is not None and self.scheme != "alternating":
            raise ValueError("administrator goes with scheme: alternating")
        if self.administrator is not None and self.administrator == self.secret:
            raise ValueError("administrator names the user's own secret: an administrator's secret belongs there")
        return self


@dataclass(frozen=True)
class RotatingUser:
    """A user whose password is rotated on one database.

    :ivar every: one of `schedule.CYCLES`.
    :ivar window: start and length, as `schedule.hours_of` reads it.
    :ivar secret: ARN of the existing secret that holds its password; None if access.yaml names none.
    :ivar administrator: ARN of the administrator's secret; None for the master secret that Describe names.
    """

    name: str
    every: str
    window: str
    scheme: Scheme
    secret: str | None = None
    administrator: str | None = None

    @classmethod
    def of(cls, name: str, rotate: Rotate) -> "RotatingUser":
        """Return a user of an entry."""
        return cls(name, rotate.every, rotate.window, rotate.scheme, rotate.secret, rotate.administrator)


def line_to_add(identifier: str, user: str, secret: str, administrator: str | None) -> str:
    """Return the entry of access.yaml that declares the rotation of an existing secret, as one line of YAML."""
    turns = f", scheme: alternating, administrator: {json.dumps(administrator)}" if administrator else ""
    users = json.dumps([user], ensure_ascii=False)
    return (
        f"- {{match: {{identifier: {json.dumps(identifier)}}}, rotate: {{users: {users}, every: 30d, "
        f"secret: {json.dumps(secret)}{turns}}}}}"
    )


def rotating_users(entries: Iterable[tuple[Path, Rotate]]) -> tuple[RotatingUser, ...]:
    """Return the users of all entries that match one database, sorted by name; `problems_on` has found nothing."""
    users = {RotatingUser.of(name, rotate) for _, rotate in entries for name in rotate.users}
    return tuple(sorted(users, key=lambda user: user.name))


def problems_on(
    database: Database, entries: Sequence[tuple[Path, Rotate]], declared: Collection[str]
) -> Iterable[tuple[Path, str]]:
    """Yield what is wrong with the rotations of this very database: where in the file, and what.

    :param entries: all entries that match it.
    :param declared: users who log in there by token.
    """
    users: dict[str, RotatingUser] = {}
    secrets: dict[str, str] = {}
    alternating = {name for _, rotate in entries if rotate.scheme == "alternating" for name in rotate.users}
    for path, rotate in entries:
        if rotate.secret is not None and secrets.setdefault(rotate.secret, rotate.users[0]) != rotate.users[0]:
            yield (
                (*path, "secret"),
                f"is the secret of {secrets[rotate.secret]}, too: each user needs its own",
            )
        for index, name in enumerate(rotate.users):
            where = (*path, "users", index)
            user = RotatingUser.of(name, rotate)
            if users.setdefault(name, user) != user:
                yield where, "is rotated in two ways on one database: say it once"
            if name in declared:
                yield where, "is declared under users, so it logs in by token and has no password to rotate"
            if name.removesuffix(CLONE) in alternating - {name}:
                yield where, f"is the name of the clone of {name.removesuffix(CLONE)}, which is rotated with it"
            if name in alternating and name + CLONE in declared:
                yield where, f"needs the name of its clone, {name}{CLONE}, which is declared under users"
            clone = [name + CLONE] if name in alternating else []
            for problem in {problem for login in (name, *clone) for problem in fields.name_problems(database, login)}:
                yield where, problem
