"""Results of the steps of a migration. A checkpoint holds them as JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from rdsiam.core.changes import Change, MissingPart, Reason, Refusal, changes_from_json, parts_from_json
from rdsiam.errors import RdsiamError

MigrationStatus = Literal["retired", "unchanged", "planned", "refused", "incomplete", "running", "superseded", "undone"]
Changes = tuple[Change, ...]
MissingParts = tuple[MissingPart, ...]

NO_REASON = Reason()


#: Fields of results that aren't plain JSON → how they are read.
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "changes": changes_from_json,
    "incomplete": parts_from_json,
    "reason": Reason.from_json,
    "refusal": lambda refusal: None if refusal is None else Refusal.from_json(refusal),
}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value.to_json() if isinstance(value, Change | MissingPart | Reason) else value


@dataclass(frozen=True)
class _Json:
    """A result whose fields are plain JSON, or in `_READERS`."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], /) -> Self:
        """Return the result from which `to_json` made this JSON."""
        return cls(**{each.name: _READERS.get(each.name, lambda value: value)(data[each.name]) for each in fields(cls)})


@dataclass(frozen=True)
class Beginning(_Json):
    """The state from which a migration or its undo begins.

    :ivar database: ARN, as Describe has it.
    :ivar running: which other execution works on it, and until when; empty if none does.
    :ivar retired: the user is retired already.
    :ivar refusal: why nothing can be done; None if nothing prevents it.
    """

    database: str
    successor: str = ""
    running: str = ""
    retired: bool = False
    refusal: Refusal | None = None


@dataclass(frozen=True)
class StepResult(_Json):
    """Changes of a step, or the reason why it was refused.

    :ivar refusal: why nothing was changed; None if it was not refused.
    :ivar reason: a remark.
    :ivar incomplete: parts that the step did not do.
    """

    changes: Changes = ()
    refusal: Refusal | None = None
    reason: Reason = NO_REASON
    incomplete: MissingParts = ()

    @classmethod
    def refused(cls, error: RdsiamError) -> "StepResult":
        """Return a refusal."""
        return cls(refusal=Refusal.of(error))


@dataclass(frozen=True)
class Removal(_Json):
    """Result of removing the successor.

    :ivar kept: the successor still exists.
    :ivar reason: a remark, such as why it is kept.
    :ivar incomplete: the successor, if it could not be dropped.
    """

    kept: bool
    reason: Reason = NO_REASON
    changes: Changes = ()
    incomplete: MissingParts = ()


@dataclass(frozen=True)
class Retirement(_Json):
    """Result of an attempt to retire the user.

    :ivar watch_again: the user has logged in, and is watched again.
    """

    status: MigrationStatus
    reason: Reason = NO_REASON
    changes: Changes = ()
    watch_again: bool = False


@dataclass(frozen=True)
class Watched(_Json):
    """State of the watching between two observations.

    :ivar over: the user can be retired, or another execution has taken over.
    :ivar failures: number of observations in a row that have failed.
    :ivar operations: number of operations of this execution that count towards its limit.
    """

    over: bool = False
    failures: int = 0
    operations: int = 0


@dataclass(frozen=True)
class MigrationAnswer:
    """The answer of MigrateFunction, as docs/payloads.md describes it.

    :ivar incomplete: the parts that were not done. `retired`, `undone` and `planned` stay with such parts.
    """

    database: str
    user: str
    successor: str
    status: MigrationStatus
    reason: Reason = NO_REASON
    changes: Changes = ()
    incomplete: MissingParts = ()

    def to_json(self) -> dict[str, Any]:
        """Return the answer as MigrateFunction gives it."""
        return {
            "database": self.database,
            "user": self.user,
            "successor": self.successor,
            "status": self.status,
            "code": self.reason.code,
            "reason": self.reason.problem,
            "remedy": self.reason.remedy,
            "changes": [change.to_json() for change in self.changes],
            "incomplete": [part.to_json() for part in self.incomplete],
        }
