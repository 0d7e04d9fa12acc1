"""The result of making the users of a database as declared, as a checkpoint holds it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rdsiam.core.changes import Change, Refusal, Unconfirmed, Unreached, changes_from_json
from rdsiam.errors import NeedsConfirmation
from rdsiam.state.record import Applied


@dataclass(frozen=True)
class Convergence:
    """The result of making users and groups as declared, or of planning that.

    :ivar changes: made, or planned.
    :ivar applied: the declaration that the changes apply; None if they were refused.
    :ivar pending: the access that waits for confirmation; None if none does.
    :ivar denied: parts that the server denied, or is likely to deny; the rest was done, or is planned.
    :ivar refusal: why the rest, or all of it, was not done; None if nothing was refused.
    :ivar databases: number of PostgreSQL databases whose privileges are still to be compared, one by one.
    :ivar unfinished: statements are left for another step.
    """

    changes: tuple[Change, ...] = ()
    applied: Applied | None = None
    pending: Unconfirmed | None = None
    denied: tuple[Unreached, ...] = ()
    refusal: Refusal | None = None
    databases: int = 0
    unfinished: bool = False

    @property
    def retry(self) -> bool:
        """Whether a part was not done that another attempt may do."""
        return self.refusal is None and any(part.retry for part in self.denied)

    @property
    def beyond_limit(self) -> bool:
        """Whether the change limit refused it."""
        return self.refusal is not None and self.refusal.code == NeedsConfirmation.code

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for a checkpoint."""
        return {
            "changes": [change.to_json() for change in self.changes],
            "applied": {**vars(self.applied), "users": list(self.applied.users)} if self.applied else None,
            "pending": self.pending.to_json() if self.pending else None,
            "denied": [part.to_json() for part in self.denied],
            "refusal": self.refusal.to_json() if self.refusal else None,
            "databases": self.databases,
            "unfinished": self.unfinished,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Convergence":
        """Return the convergence from which `to_json` made this JSON."""
        applied = data["applied"]
        return cls(
            changes_from_json(data["changes"]),
            Applied(**{**applied, "users": tuple(applied["users"])}) if applied else None,
            Unconfirmed.from_json(data["pending"]) if data["pending"] else None,
            tuple(Unreached.from_json(part) for part in data["denied"]),
            Refusal.from_json(data["refusal"]) if data["refusal"] else None,
            data["databases"],
            data["unfinished"],
        )


def named_once(parts: Iterable[Unreached]) -> tuple[Unreached, ...]:
    """Return parts sorted, one of several with the same remedy: of those, the first."""
    named: dict[tuple[str, str], Unreached] = {}
    for part in parts:
        named.setdefault((part.what, part.remedy), part)
    return tuple(part for _, part in sorted(named.items()))
