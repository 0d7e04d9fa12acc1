"""What access.yaml says of passwords that stay: whose are rotated, how often, when and how."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema

from rdsiam import access_fields as fields
from rdsiam.access_file import Path
from rdsiam.databases import Database
from rdsiam.rotation.schedule import CYCLES, WHOLE_DAY, hours_of

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


class Rotate(BaseModel):
    """Users who keep a password, and when it is changed."""

    model_config = fields.STRICT

    users: Annotated[list[fields.UserName], Field(min_length=1)]
    every: Every
    window: Window = WHOLE_DAY
    scheme: Scheme = "single"


@dataclass(frozen=True)
class RotatingUser:
    """A user whose password is rotated on one database.

    :ivar every: one of `schedule.CYCLES`.
    :ivar window: start and length, as `schedule.hours_of` reads it.
    """

    name: str
    every: str
    window: str
    scheme: Scheme


def rotating_users(found: Iterable[tuple[Path, Rotate]]) -> tuple[RotatingUser, ...]:
    """Return the users of all entries that match one database, sorted by name; `problems_on` has found nothing."""
    users = {
        RotatingUser(name, rotate.every, rotate.window, rotate.scheme) for _, rotate in found for name in rotate.users
    }
    return tuple(sorted(users, key=lambda user: user.name))


def problems_on(
    database: Database, found: Sequence[tuple[Path, Rotate]], declared: Collection[str]
) -> Iterable[tuple[Path, str]]:
    """Yield what is wrong with the rotations of this very database: where in the file, and what.

    :param found: of all entries that match it.
    :param declared: users who log in there by token.
    """
    seen: dict[str, RotatingUser] = {}
    alternating = {name for _, rotate in found if rotate.scheme == "alternating" for name in rotate.users}
    for path, rotate in found:
        for index, name in enumerate(rotate.users):
            where = (*path, "users", index)
            user = RotatingUser(name, rotate.every, rotate.window, rotate.scheme)
            if seen.setdefault(name, user) != user:
                yield where, "is rotated in two ways on one database: say it once"
            if name in declared:
                yield where, "is declared under users, so it logs in by token and has no password to rotate"
            if name.removesuffix(CLONE) in alternating - {name}:
                yield where, f"is the name of the clone of {name.removesuffix(CLONE)}, which is rotated with it"
            if name in alternating and name + CLONE in declared:
                yield where, f"needs the name of its clone, {name}{CLONE}, which is declared under users"
            clone = [name + CLONE] if name in alternating else []
            for problem in {problem for one in (name, *clone) for problem in fields.name_problems(database, one)}:
                yield where, problem
