"""Changes, refusals and parts not done, as data: planned, carried out, logged and answered in one form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from rdsiam.errors import RdsiamError

#: The user that carries a statement out: `master` only if the manager may not, or gets no connection.
Authority = Literal["manager", "master"]

#: In one line about missing parts: reasons, and subjects of each.
_MOST_REASONS, _MOST_SUBJECTS = 10, 3

#: All kinds of changes.
Kind = Literal[
    "enable-iam-authentication",
    "create-manager",
    "create-auditor",
    "create-user",
    "adopt-user",
    "disable-user",
    "enable-user",
    "limit-connections",
    "disable-event",
    "end-sessions",
    "create-group",
    "adopt-group",
    "grant",
    "revoke",
    "default-privileges",
    "act-as-owner",
    "setting",
    "drop-user",
    "reassign",
    "secret",
    "create-policy",
    "update-policy",
    "delete-policy",
    "attach-policy",
    "detach-policy",
    "create-secret",
    "set-password",
    "schedule-rotation",
    "cancel-rotation",
]

#: The remedy of a refusal whose problem says what to do.
FOLLOW_REASON = "do what the reason says, then run this again"


@dataclass(frozen=True)
class Change:
    """One change: `statement` is the SQL, or the AWS CLI command, that makes it.

    :ivar target: the changed user, group, database, policy ARN or role ARN.
    :ivar reversible: whether the opposite statement restores the former state exactly.
    :ivar authority: the user that carries SQL out; None for a change outside a database.
    """

    kind: Kind
    target: str
    statement: str
    reversible: bool = True
    authority: Authority | None = None

    def to_json(self) -> dict[str, Any]:
        """Return an element of `changes` in the functions' answers; `authority` only if it is the master."""
        change = {
            "kind": self.kind,
            "target": self.target,
            "statement": self.statement,
            "reversible": self.reversible,
        }
        return change | ({"authority": "master"} if self.authority == "master" else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Change":
        """Return the change from which `to_json` made this JSON."""
        return cls(data["kind"], data["target"], data["statement"], data["reversible"], data.get("authority"))


def changes_from_json(data: Sequence[Mapping[str, Any]]) -> tuple[Change, ...]:
    """Return the changes of an answer or a checkpoint."""
    return tuple(Change.from_json(change) for change in data)


@dataclass(frozen=True)
class MissingPart:
    """A part that a run did not do, an element of `incomplete` in the functions' answers.

    :ivar what: the database, the user or the ARN that is unchanged.
    :ivar reason: the obstacle, or what it waits for.
    :ivar remedy: what to do about it.
    :ivar retry: whether rdsiam tries again by itself, since another attempt may succeed.
    """

    what: str
    reason: str
    remedy: str
    retry: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return an element of `incomplete` in the functions' answers."""
        return {"what": self.what, "reason": self.reason, "remedy": self.remedy, "retry": self.retry}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the part from which `to_json` made this JSON."""
        return cls(data["what"], data["reason"], data["remedy"], data["retry"])


def parts_from_json(data: Sequence[Mapping[str, Any]]) -> tuple[MissingPart, ...]:
    """Return the missing parts of an answer or a checkpoint."""
    return tuple(MissingPart.from_json(part) for part in data)


def summarize(parts: Sequence[MissingPart], subject: str = "") -> str:
    """Return the reasons of missing parts with their subjects, as one line: `archive: its connection limit is 0`.

    `incomplete` names all parts; a line names the first ones of each of the first reasons.

    :param subject: of the whole answer, which is not repeated.
    """
    subjects: dict[str, list[str]] = {}
    for part in parts:
        subjects.setdefault(part.reason, []).append(part.what)
    lines = [_line(reason, list(dict.fromkeys(names)), subject) for reason, names in subjects.items()]
    further = [f"{len(lines) - _MOST_REASONS} further reasons"] if len(lines) > _MOST_REASONS else []
    return "; ".join([*lines[:_MOST_REASONS], *further])


def _line(reason: str, names: Sequence[str], subject: str) -> str:
    if names == [subject]:
        return reason
    further = [f"{len(names) - _MOST_SUBJECTS} more"] if len(names) > _MOST_SUBJECTS else []
    return f"{', '.join([*names[:_MOST_SUBJECTS], *further])}: {reason}"


class Unreached(MissingPart):
    """A part that a run tried, and that the server, its state or its rights prevented."""


class Unconfirmed(MissingPart):
    """A part that a run leaves out until an operator confirms it."""


@dataclass(frozen=True)
class Reason:
    """The reason of a status, as answers have it.

    :ivar problem: `subject: problem (expected, actual)`, or a remark; empty if there is nothing to say.
    :ivar remedy: what to do; empty if the problem says it, or if there is nothing to do.
    :ivar code: a key of `rdsiam.errors.REFUSALS`, or the code of an error class; empty if none applies.
    """

    problem: str = ""
    remedy: str = ""
    code: str = ""

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem

    @classmethod
    def of(cls, error: RdsiamError) -> Self:
        """Return an error as a reason."""
        return cls(error.problem, error.remedy, error.code)

    def missing(self, what: str) -> MissingPart:
        """Return what the reason prevents as a part that was not done, of a run that did other parts."""
        return MissingPart(what, self.problem, self.remedy or FOLLOW_REASON, retry=False)

    def to_json(self) -> dict[str, str]:
        """Return plain JSON for a checkpoint."""
        return {"problem": self.problem, "remedy": self.remedy, "code": self.code}

    @classmethod
    def from_json(cls, data: Mapping[str, str]) -> Self:
        """Return the reason from which `to_json` made this JSON."""
        return cls(data["problem"], data["remedy"], data["code"])


@dataclass(frozen=True)
class Refusal(Reason):
    """The reason why a run did not start, or stopped: only a person can resolve it."""
