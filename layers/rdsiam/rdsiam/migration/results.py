"""Results of the steps of a migration. A checkpoint holds them as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from rdsiam.core.changes import Change
from rdsiam.errors import RdsiamError

MigrationStatus = Literal["retired", "unchanged", "planned", "refused", "incomplete", "running", "superseded", "undone"]
#: Changes as answers have them.
Changes = tuple[Mapping[str, Any], ...]


def as_json(changes: Sequence[Change]) -> Changes:
    """Return changes as answers have them."""
    return tuple(change.to_json() for change in changes)


@dataclass(frozen=True)
class _Json:
    """A result whose fields are JSON; lists become tuples."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], /) -> Self:
        """Return the result from which `to_json` made this JSON."""
        values = {each.name: data[each.name] for each in fields(cls)}
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


@dataclass(frozen=True)
class Refusal(_Json):
    """Why a step was refused, or does nothing.

    :ivar reason: message with its remedy; empty if it was not refused.
    """

    reason: str = ""
    code: str = ""

    @classmethod
    def of(cls, error: RdsiamError) -> "Refusal":
        """Return an error as a refusal."""
        return cls(str(error), error.code)


@dataclass(frozen=True)
class Beginning(_Json):
    """The state from which a migration or its undo begins.

    :ivar database: ARN, as Describe has it.
    :ivar running: which other execution works on it, and until when; empty if none does.
    :ivar retired: the user is retired already.
    :ivar refused: why nothing can be done; empty otherwise.
    """

    database: str
    successor: str = ""
    running: str = ""
    retired: bool = False
    refused: str = ""
    code: str = ""


@dataclass(frozen=True)
class StepResult(_Json):
    """Changes of a step, or the reason why it was refused.

    :ivar refused: nothing was changed.
    :ivar reason: why it was refused, or what is left to do; empty if nothing is.
    """

    changes: Changes = ()
    reason: str = ""
    code: str = ""
    refused: bool = False

    @classmethod
    def refusal(cls, error: RdsiamError) -> "StepResult":
        """Return a refusal."""
        return cls((), str(error), error.code, refused=True)


@dataclass(frozen=True)
class SecretResult(_Json):
    """Changes of the user's secret.

    :ivar left: ARNs of other secrets whose values are for the user; they are left alone.
    """

    changes: Changes = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Removal(_Json):
    """Result of removing the successor.

    :ivar kept: the successor still exists.
    :ivar reason: why it is kept, or what is left to do.
    """

    kept: bool
    reason: str = ""
    changes: Changes = ()


@dataclass(frozen=True)
class Retirement(_Json):
    """Result of an attempt to retire the user.

    :ivar watch_again: the user has logged in, and is watched again.
    """

    status: MigrationStatus
    reason: str = ""
    code: str = ""
    changes: Changes = ()
    watch_again: bool = False


@dataclass(frozen=True)
class Watched(_Json):
    """State of the watching between two observations.

    :ivar over: the user can be retired, or another execution has taken over.
    :ivar failures: number of observations in a row that have failed.
    """

    over: bool = False
    failures: int = 0


@dataclass(frozen=True)
class MigrationAnswer:
    """The answer of MigrateFunction.

    :ivar left: ARNs of secrets that are left alone, as they are not recorded for the user.
    :ivar incomplete: what is missing if something was changed and not everything: `what`, `reason`, `remedy`, `retry`.
    """

    database: str
    user: str
    successor: str
    status: MigrationStatus
    reason: str = ""
    code: str = ""
    changes: Changes = ()
    left: tuple[str, ...] = ()
    incomplete: Changes = ()

    def to_json(self) -> dict[str, Any]:
        """Return the answer as MigrateFunction gives it; `incomplete` only if something is missing."""
        answer = asdict(self) | {"changes": list(self.changes), "left": list(self.left)}
        missing = list(answer.pop("incomplete"))
        return answer | ({"incomplete": missing} if missing else {})
